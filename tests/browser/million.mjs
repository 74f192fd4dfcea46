// A list of 1,048,576 entries: all of it is visible, no exception is lost, on a large screen and on a phone.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { Explorer } from './browser.mjs';

export async function million(browser, { page: address, uri, size, revoked }) {
  const wanted = new Set(revoked.map(String));
  assert.equal(wanted.size, revoked.length);
  for (const options of [{}, { dark: true }, { width: 360, height: 740 }]) {
    const explorer = await Explorer.open(browser, address, options);
    const answer = await explorer.ask(uri, revoked[0]);
    assert.equal(answer.verdict, 'invalid');
    assert.deepEqual(answer.counts, { 0: size - wanted.size, 1: wanted.size });
    assert.equal(answer.sizes.array, size / 8);
    assert(answer.sizes.lst > answer.sizes.bound && answer.sizes.lst < 1.5 * answer.sizes.bound, JSON.stringify(answer.sizes));
    // Several entries share a pixel here. Few exceptions fall into the same one, or below the ring around the chosen one.
    const seen = await explorer.pixels(1);
    assert(seen > 0.9 * wanted.size, `${seen} pixels for ${wanted.size} exceptions`);
    const name = options.dark ? 'million-dark' : options.width ? 'million-phone' : 'million-light';
    await explorer.accessible(name);
    await explorer.screenshot(name);
    await explorer.close();
  }

  const explorer = await Explorer.open(browser, address);
  await explorer.ask(uri);
  await explorer.page.locator('#canvas').focus();
  for (let n = 0; n < 20; n += 1) {
    await explorer.page.keyboard.press('n');
    const { idx, verdict } = await explorer.answer();
    assert(wanted.has(idx) && verdict === 'invalid', idx);
  }
  for (let n = 0; n < 6; n += 1) await explorer.page.keyboard.press('+');
  await explorer.page.locator('#picture').screenshot({ path: join(process.env.SCREENSHOTS, 'million-zoomed.png') });
  await explorer.page.keyboard.press('End');
  assert.equal(await explorer.page.locator('#readout').textContent(), 'Index 1,048,575: VALID');
  await explorer.close();
}
