// The documentation page: shows everything in the description, in light and dark and on a phone, and sends requests only to the
// service.
import assert from 'node:assert/strict';
import { Explorer } from './browser.mjs';

export async function docs(browser, { page: address, operations, schemas }) {
  for (const options of [{}, { dark: true }, { width: 360, height: 740 }]) {
    const reader = await Explorer.open(browser, address, options);
    await reader.page.waitForSelector('main[aria-busy="false"]');
    const shown = await reader.page.locator('[data-operation]').evaluateAll((all) => all.map((one) => one.dataset.operation));
    assert.deepEqual(shown.toSorted(), operations.toSorted());
    for (const schema of schemas) assert.equal(await reader.page.locator(`#schema-${schema}`).count(), 1, schema);
    const broken = await reader.page.locator('a[href^="#"]').evaluateAll((all) => all.map((one) => one.hash).filter((hash) => !document.querySelector(hash)));
    assert.deepEqual(broken, [], 'links that lead nowhere');
    const name = options.dark ? 'docs-dark' : options.width ? 'docs-phone' : 'docs-light';
    await reader.accessible(name);
    await reader.screenshot(name);
    await reader.close();
  }

  const reader = await Explorer.open(browser, `${address}#patch-status-lists-update`);
  await reader.page.waitForSelector('main[aria-busy="false"]');
  const update = reader.page.locator('[data-operation="PATCH /status-lists/update"]');
  const command = await update.locator('pre').textContent();
  assert(command.startsWith(`curl -X PATCH '${new URL(address).origin}/status-lists/update'`), command);
  assert(command.includes('"index":4711') && command.includes('$STATUSLIST_API_KEY'), command);
  await reader.context.grantPermissions(['clipboard-read', 'clipboard-write']);
  await update.getByRole('button').click();
  await update.getByText('Copied').waitFor();
  assert.equal(await reader.page.evaluate(() => navigator.clipboard.readText()), command);
  await reader.close();
}
