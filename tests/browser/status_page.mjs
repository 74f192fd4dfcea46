// The status page over a running service: cards of the pools that the settings name, a revocation that appears by itself, the chart,
// two languages, a server that is down, small screens, the dark, the keyboard. axe-core finds nothing.
import assert from 'node:assert/strict';
import { Explorer } from './browser.mjs';

export async function statusPage(browser, scene) {
  await cards(browser, scene);
  await german(browser, scene);
  await trouble(browser, scene);
  await phone(browser, scene);
  await keyboard(browser, scene);
  await fromTheExplorer(browser, scene);
}

const factsOf = (card) => card.evaluate((element) => ({
  state: element.dataset.state,
  badge: element.querySelector('.badge').textContent,
  share: element.querySelector('.pool-share strong').textContent,
  facts: Object.fromEntries([...element.querySelectorAll('[data-fact]')].map((fact) => [fact.dataset.fact, fact.textContent.trim()])),
}));

async function open(browser, { page: address }, options) {
  const explorer = await Explorer.open(browser, new URL('status.html', address).href, { locale: 'en-GB', timezoneId: 'UTC', ...options });
  await explorer.page.locator('.pool[data-state="fresh"] [data-fact="published"]').nth(1).waitFor();
  return explorer;
}

async function cards(browser, scene) {
  const { page: address, lists, size, uri, later, apiKey } = scene;
  const explorer = await open(browser, scene);
  const { page } = explorer;
  assert.deepEqual(await page.locator('.pool h2').allTextContents(), ['Driving licences', 'plain'], 'those of the settings, and no other');
  assert.equal(await page.getByRole('heading', { level: 1 }).textContent(), 'Status of the pools');
  assert.deepEqual(await page.locator('#links a').evaluateAll((links) => links.map((link) => [link.textContent, link.getAttribute('href')])), [
    ['Explorer', './'], ['Specification', 'https://datatracker.ietf.org/doc/draft-ietf-oauth-status-list/'],
    ['Operated by Agency', 'https://agency.example/'], ['About these lists', 'https://agency.example/lists'],
  ]);

  const card = page.locator('[data-pool="p"]');
  const entries = lists * size;
  const before = await factsOf(card);
  assert.deepEqual([before.badge, before.share], ['Up to date', `${Number(((100 * 1) / entries).toFixed(2))}%`]);
  assert.equal(before.facts.lists, String(lists));
  assert.equal(before.facts.entries, entries.toLocaleString('en'));
  assert.match(before.facts.revoked, /^1 /);
  assert.match(before.facts.suspended, /^1 /);
  assert.match(before.facts.published, /\d\d:\d\d:\d\d .* ago$/);
  assert.match(before.facts.beat, /^about \d\d:\d\d:\d\d.*every 1 second/);
  assert.match(before.facts.until, /\d\d:\d\d:\d\d$/);
  assert.equal((await factsOf(page.locator('[data-pool="plain"]'))).facts.suspended, undefined, 'lists of one bit suspend nothing');
  assert.equal(await page.locator('[data-pool="plain"] figure').count(), 0, 'no statistics without the setting');

  const chart = card.locator('svg.chart');
  await chart.waitFor();
  const points = async () => Number(await chart.getAttribute('data-points'));
  const pointsBefore = await points();
  assert.match(await chart.getAttribute('aria-label'), /^Revoked over time: \d+ on .*, 1 on /);

  // Another entry is revoked: nothing is reloaded.
  await page.evaluate(() => { globalThis.isSamePage = true; });
  await revoke(address, uri, later, apiKey);
  await card.locator('[data-fact="revoked"]').filter({ hasText: /^2 / }).waitFor();
  await page.locator('#progress').filter({ hasText: 'Driving licences: 2 revoked' }).waitFor({ state: 'attached' });
  await page.waitForFunction((less) => Number(document.querySelector('[data-pool="p"] svg.chart').dataset.points) > less, pointsBefore);
  assert.match(await chart.getAttribute('aria-label'), /, 2 on /);
  assert(await page.evaluate(() => globalThis.isSamePage));

  // The table says the same as the picture.
  await card.locator('summary').click();
  const newest = await card.locator('tbody tr').first().locator('td').allTextContents();
  assert.deepEqual(newest, ['2', '1']);
  assert.equal(await card.locator('tbody tr').count(), await points());
  // It stays open when the numbers are fetched again.
  const fetched = () => explorer.requests.filter((request) => request.url() === uri);
  const amount = fetched().length;
  while (fetched().length < amount + 2) await page.waitForTimeout(50);
  assert.equal(await card.locator('details').evaluate((details) => details.open), true);
  // Copies are revalidated, not fetched again.
  const conditions = await Promise.all(fetched().slice(0, -1).map((request) => request.allHeaders()));
  assert(conditions.some((headers) => headers['if-none-match'] !== undefined), JSON.stringify(conditions.at(-1)));
  await explorer.accessible('with an open table');
  await explorer.screenshot('status-open');
  await explorer.close();
}

async function revoke(address, uri, index, apiKey) {
  const response = await fetch(new URL('status-lists/update', address), {
    method: 'PATCH', headers: { 'X-Api-Key': apiKey, 'Content-Type': 'application/json' }, body: JSON.stringify({ uri, index, value: 1 }),
  });
  assert.equal(response.status, 204);
}

// On the narrowest screen: German words are longer.
async function german(browser, scene) {
  const explorer = await open(browser, scene, { locale: 'de-DE', width: 320, height: 568 });
  const { page } = explorer;
  assert.equal(await page.locator('html').getAttribute('lang'), 'de');
  assert.equal(await page.title(), 'Stand der Pools');
  assert.deepEqual(await page.locator('.pool h2').allTextContents(), ['Führerscheine', 'plain']);
  const { badge, share, facts } = await factsOf(page.locator('[data-pool="p"]'));
  assert.equal(badge, 'Aktuell');
  assert.match(share, /^0,0\d\s%$/);
  assert.equal(facts.entries, (scene.lists * scene.size).toLocaleString('de'));
  assert.match(facts.published, /^\d\d\.\d\d\.\d{4}, \d\d:\d\d:\d\d vor /);
  assert.match(await page.locator('svg.chart').getAttribute('aria-label'), /^Widerrufe im Lauf der Zeit: /);
  await page.locator('[data-pool="p"] summary').click();
  await explorer.accessible('in German');
  await explorer.screenshot('status-narrow-light');
  await explorer.close();
}

async function trouble(browser, scene) {
  const explorer = await open(browser, scene);
  const { page } = explorer;
  const card = page.locator('[data-pool="p"]');
  const notes = card.locator('.pool-notes');
  const { facts } = await factsOf(card);
  await page.route('**/lists/**', (route) => route.abort('connectionrefused'));
  await notes.filter({ hasText: /The server does not answer\..*Shown as of / }).waitFor();
  const down = await factsOf(card);
  assert.deepEqual([down.state, down.badge, down.facts.revoked], ['unreached', 'Not reached', facts.revoked], 'the last numbers stay');
  await explorer.accessible('a server that is down');
  await explorer.screenshot('status-down');
  await explorer.context.setOffline(true);
  await notes.filter({ hasText: 'This browser is offline.' }).waitFor();
  await page.unroute('**/lists/**');
  await explorer.context.setOffline(false);
  await card.and(page.locator('[data-state="fresh"]')).waitFor();
  assert.equal(await notes.textContent(), '');

  // One list of several cannot be fetched; then it sends something else.
  await page.route(scene.uri, (route) => route.fulfill({ status: 500, contentType: 'text/plain', body: '' }));
  await notes.filter({ hasText: `Fetched: ${scene.lists - 1} of ${scene.lists} lists.` }).waitFor();
  assert.equal((await factsOf(card)).badge, 'Incomplete');
  await page.unroute(scene.uri);
  await card.and(page.locator('[data-state="fresh"]')).waitFor();
  await page.route('**/aggregation/p', (route) => route.fulfill({ contentType: 'application/json', body: '[]' }));
  await notes.filter({ hasText: 'something else than expected' }).waitFor();
  await explorer.close();

  // Time passes and nothing new comes: verifiers refuse the lists.
  const late = await Explorer.open(browser, new URL('status.html', scene.page).href, { locale: 'fr-FR' });
  assert.equal(await late.page.locator('html').getAttribute('lang'), 'en', 'a language that the page does not have');
  await late.page.locator('[data-pool="p"] [data-fact="until"]').waitFor();
  await late.page.evaluate(() => {
    const { now } = Date;
    Date.now = () => now() + 2 * 3600_000;
  });
  await late.page.locator('[data-pool="p"][data-state="expired"]').waitFor();
  assert.match(await late.page.locator('[data-pool="p"] .pool-notes').textContent(), /verifiers refuse it/);
  await late.accessible('expired lists');
  await late.close();

  // Without anything to show, and more lists than a page fetches.
  const many = await browser.newContext({ locale: 'en-GB' });
  const crowded = await many.newPage();
  const asked = [];
  await crowded.route('**/aggregation/p', (route) => route.fulfill({
    json: { status_lists: Array.from({ length: 70 }, (_, n) => `${scene.uri}?${n}`) },
  }));
  await crowded.route(`${scene.uri}?*`, async (route) => {
    asked.push(route.request().url());
    await route.fulfill({ response: await route.fetch({ url: scene.uri }) });
  });
  await crowded.goto(new URL('status.html', scene.page).href);
  await crowded.locator('[data-pool="p"] .pool-notes').filter({ hasText: 'Counted: 50 of 70 lists' }).waitFor();
  assert.equal(new Set(asked).size, 50);
  await crowded.route('**/status/pools.json', (route) => route.fulfill({ status: 404, contentType: 'text/plain', body: '' }));
  await crowded.reload();
  await crowded.getByText('The operator shows no pools here.').waitFor();
  await many.close();
}

// A phone in the dark; the others are a desktop and a narrow screen in the light.
async function phone(browser, scene) {
  const explorer = await open(browser, scene, { width: 390, height: 844, dark: true });
  await explorer.page.locator('[data-pool="p"] summary').click();
  await explorer.accessible('a phone');
  await explorer.screenshot('status-phone-dark');
  await explorer.close();
}

// The tab key comes to everything that can be used, in the order in which it is read, and shows where it is.
async function keyboard(browser, scene) {
  const explorer = await open(browser, scene);
  const { page } = explorer;
  await page.locator('[data-pool="p"] summary').waitFor();
  const reached = [];
  for (let n = 0; n < 12; n += 1) {
    await page.keyboard.press('Tab');
    const stop = await page.evaluate(() => {
      const { activeElement: element } = document;
      const { outlineStyle, outlineWidth } = getComputedStyle(element);
      return element === document.body ? undefined : { name: element.textContent, isMarked: outlineStyle !== 'none' && parseFloat(outlineWidth) >= 2 };
    });
    if (stop === undefined) break;
    assert(stop.isMarked, `${stop.name} has the focus and does not show it`);
    reached.push(stop.name);
    if (stop.name === 'Dark') {
      await page.keyboard.press('Space');
      assert.equal(await page.locator('#theme').getAttribute('aria-pressed'), 'true');
    }
    if (stop.name.startsWith('The newest')) {
      await page.keyboard.press('Enter');
      assert.equal(await page.locator('[data-pool="p"] details').evaluate((details) => details.open), true);
    }
  }
  assert.deepEqual(reached.map((name) => name.replace(/\d+/g, 'N')), [
    'Skip to the pools', 'Dark', 'The newest N of N recorded numbers', 'Explorer', 'Specification', 'Operated by Agency', 'About these lists',
  ]);
  await page.evaluate(() => localStorage.clear());
  await explorer.close();
}

async function fromTheExplorer(browser, { page: address }) {
  const explorer = await Explorer.open(browser, address);
  await explorer.page.getByRole('link', { name: 'Status of the pools' }).click();
  await explorer.page.locator('[data-pool="p"]').waitFor();
  await explorer.close();
}
