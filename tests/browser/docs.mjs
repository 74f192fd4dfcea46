// The documentation page: shows everything in the description, in light and dark and on a phone; finds and opens operations; executes
// requests against the running service, and sends none to anybody else.
import assert from 'node:assert/strict';
import { Explorer } from './browser.mjs';

// What axe-core finds in the markup of Swagger UI, which is not ours. Only what it takes for serious is looked at: the page is for
// programmers, and nobody needs it to issue, revoke or verify.
const KNOWN = {
  'color-contrast': 'grey and green on white, in its style sheet',
  'nested-interactive': 'the link that deep links make of a path is inside of the button that opens the operation',
};

const operation = (reader, id) => reader.page.locator(`[id$="-${id}"].opblock`);

// The operations that are visible, as the description names them.
const shown = async (reader) => {
  const all = await reader.page.locator('.opblock').evaluateAll((blocks) => blocks.filter((block) => block.checkVisibility()).map((block) =>
    `${block.querySelector('.opblock-summary-method').textContent} ${block.querySelector('[data-path]').dataset.path}`));
  return all.toSorted();
};

// Executes an open operation with these parameters. Returns the status and the text of the answer, as shown.
async function execute({ page }, block, parameters = {}) {
  for (const [name, value] of Object.entries(parameters)) await block.locator(`[data-param-name="${name}"] input`).fill(value);
  const answered = page.waitForResponse((response) => response.request().resourceType() === 'fetch');
  await block.getByRole('button', { name: 'Execute' }).click();
  const status = String((await answered).status());
  const row = block.locator('.live-responses-table tbody tr', { has: page.locator('.response-col_status', { hasText: status }) });
  return [status, await row.locator('.response-col_description').innerText()];
}

export async function docs(browser, { page: address, operations, schemas, apiKey }) {
  const open = async (hash = '', options = {}) => {
    const reader = await Explorer.open(browser, address + hash, options);
    await reader.page.locator('.opblock').first().waitFor();
    return reader;
  };

  for (const options of [{}, { dark: true }, { width: 360, height: 740 }]) {
    const name = options.dark ? 'docs-dark' : options.width ? 'docs-phone' : 'docs-light';
    const reader = await open('#/statuses/setStatuses', options);
    assert.deepEqual(await shown(reader), operations.toSorted());
    const titles = await reader.page.locator('section.models .json-schema-2020-12__title').allInnerTexts();
    for (const schema of schemas) assert(titles.includes(schema), `no schema ${schema} in ${titles}`);
    await operation(reader, 'setStatuses').and(reader.page.locator('.is-open')).waitFor();
    await reader.screenshot(name);
    await reader.accessible(name, { impacts: ['serious', 'critical'], known: Object.keys(KNOWN) });
    await reader.close();
  }

  // By the keyboard: search, open, execute. No key is needed for this one.
  const reader = await open();
  const search = reader.page.getByRole('searchbox', { name: 'Find an operation' });
  await search.focus();
  await reader.page.keyboard.type('LIVE');
  assert.deepEqual(await shown(reader), ['GET /health/live']);
  const live = operation(reader, 'getLiveness');
  await live.locator('.opblock-summary-control').focus();
  await reader.page.keyboard.press('Enter');
  await live.and(reader.page.locator('.is-open')).waitFor();
  assert.equal(new URL(reader.page.url()).hash, '#/operation/getLiveness');
  const [status, answer] = await execute(reader, live);
  assert.equal(status, '200');
  assert.match(answer, /"status":\s*"UP"/);
  await search.fill('');

  // Without the key the service refuses; with it, it answers.
  await search.fill('getPool');
  const pool = operation(reader, 'getPool');
  await pool.locator('.opblock-summary-control').click();
  const refused = await execute(reader, pool, { pool: 'p' });
  assert.equal(refused[0], '401');
  assert.match(refused[1], /"code":\s*"UNAUTHORIZED"/);
  await reader.page.locator('.btn.authorize').first().click();
  await reader.page.locator('#api_key_value').fill(apiKey);
  await reader.page.keyboard.press('Enter');
  await reader.page.locator('.btn-done').first().click();
  const read = await execute(reader, pool, { pool: 'p' });
  assert.equal(read[0], '200');
  assert.match(read[1], /"pool":\s*"p"/);

  await search.fill('allocateReferences');
  const allocate = reader.page.locator('#operations-references-allocateReferences');
  await allocate.locator('.opblock-summary-control').click();
  const allocated = await execute(reader, allocate, { pool: 'p' });
  assert.equal(allocated[0], '200');
  assert.match(allocated[1], /"index":\s*\d+/);
  // The key is gone with the page.
  assert.deepEqual(await reader.page.evaluate(() => [{ ...localStorage }, { ...sessionStorage }]), [{}, {}]);
  await reader.close({ methods: ['GET', 'POST'] });
}
