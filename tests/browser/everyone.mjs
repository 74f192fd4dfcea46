// The page for everyone: on a desktop, on a phone and on very narrow screens, in light and dark, with nothing but a keyboard. axe-core
// finds nothing. Also makes the picture for the README.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { Explorer } from './browser.mjs';
import { cbor, mdoc } from './cbor.mjs';

const SIZES = { desktop: { width: 1280, height: 900 }, phone: { width: 390, height: 844 }, narrow: { width: 320, height: 568 } };

export async function everyone(browser, scene) {
  // Colours depend on the theme alone, and the layout on the size.
  for (const [size, dark] of [['desktop', false], ['phone', true], ['narrow', false]]) {
    await examined(browser, scene, { ...SIZES[size], dark }, `${size}-${dark ? 'dark' : 'light'}`);
  }
  for (const screen of [SIZES.desktop, SIZES.phone]) await reachable(browser, scene, screen);
  await byKeyboard(browser, scene);
  await picture(browser, scene);
}

const licence = (uri, idx) => cbor(mdoc({ status_list: { idx, uri } }).issuerSigned);

async function examined(browser, { page: address, pool, uri, valid, revoked, suspended, size }, options, name) {
  const explorer = await Explorer.open(browser, address, options);
  const { page } = explorer;
  const seen = async (what) => {
    await explorer.accessible(`${what}, ${name}`);
    await explorer.screenshot(`everyone-${name}-${what}`);
  };
  for (const tab of ['Pool', 'Reference', 'Credential']) {
    await explorer.tab(tab);
    await seen(`empty-${tab.toLowerCase()}`);
  }
  for (const [idx, what] of [[valid, 'valid'], [revoked, 'invalid'], [suspended, 'suspended'], [size, 'outside'], ['', 'list']]) {
    await explorer.ask(uri, idx);
    await seen(what);
  }
  await page.locator('#raw summary').click();
  await seen('claims');
  await explorer.paste(licence(uri, valid).toString('base64url'));
  await seen('credential');
  await explorer.complains('credential', 'not a JWT', () => explorer.drop({ text: 'hello' }));
  await seen('error-credential');
  await explorer.tab('Reference');
  await page.locator('#idx').fill('1.000');
  await explorer.complains('idx', 'two numbers', () => page.locator('#idx').press('Enter'));
  await seen('error-index');
  assert.equal((await explorer.ask(`${uri.slice(0, -4)}0000`, 0)).verdict, 'missing');
  await seen('missing');
  await explorer.tab('Pool');
  await page.locator('#pool').fill(pool);
  await page.locator('#pool').press('Enter');
  await page.locator('#list option').first().waitFor({ state: 'attached' });
  await seen('pool');
  await explorer.close();
}

// The tab key comes to everything that can be used, shows where it is, and goes on.
async function reachable(browser, { page: address, uri, valid }, screen) {
  const explorer = await Explorer.open(browser, address, screen);
  const { page } = explorer;
  for (const prepare of [
    () => explorer.tab('Pool'), () => explorer.tab('Reference'), () => explorer.tab('Credential'), () => explorer.paste(licence(uri, valid).toString('hex')),
    () => explorer.ask(`${uri.slice(0, -4)}0000`, 0),
  ]) {
    await prepare();
    const wanted = await page.evaluate(() => {
      const all = [...document.querySelectorAll('a[href], button, input, select, textarea, summary, [tabindex]')];
      const usable = all.filter((element) => element.checkVisibility() && element.tabIndex >= 0 && !element.disabled);
      for (const [number, element] of usable.entries()) element.dataset.stop = number;
      // The next press of the tab key goes on from here.
      const start = document.body.insertBefore(document.createElement('button'), document.body.firstChild);
      start.focus();
      start.remove();
      return usable.map((element) => element.id || element.className || element.tagName);
    });
    const reached = [];
    for (let n = 0; n < wanted.length + 2; n += 1) {
      await page.keyboard.press('Tab');
      const stop = await page.evaluate(() => {
        const { activeElement: element } = document;
        if (element === document.body) return undefined;
        const { outlineStyle, outlineWidth } = getComputedStyle(element);
        const { top, bottom, left, right } = element.getBoundingClientRect();
        return {
          name: element.id || element.className || element.tagName,
          isMarked: outlineStyle !== 'none' && parseFloat(outlineWidth) >= 2,
          isSeen: bottom > 0 && top < innerHeight && right > 0 && left < innerWidth,
        };
      });
      if (stop === undefined) break;
      assert(stop.isMarked && stop.isSeen, `${stop.name} has the focus and does not show it: ${JSON.stringify(stop)}`);
      reached.push(stop.name);
    }
    assert.deepEqual(reached, wanted, 'each once, in the order in which they are read');
  }
  await explorer.close();
}

// From the first key to a verdict, without a pointer.
async function byKeyboard(browser, { page: address, pool, uri, valid, revoked }) {
  const explorer = await Explorer.open(browser, address);
  const { page } = explorer;
  const { keyboard } = page;
  const focus = () => page.evaluate(() => document.activeElement.id || document.activeElement.className);
  const tabTo = async (id) => {
    for (let n = 0; n < 60 && await focus() !== id; n += 1) await keyboard.press('Tab');
    assert.equal(await focus(), id);
  };
  const press = (key) => () => keyboard.press(key);

  await keyboard.press('Tab');
  assert.equal(await focus(), 'skip');
  await tabTo('theme');
  const isDark = () => page.locator('#theme').getAttribute('aria-pressed');
  assert.equal(await isDark(), 'false');
  await keyboard.press('Space');
  assert.equal(await isDark(), 'true');
  await keyboard.press('Space');

  // A credential.
  await tabTo('tab-pool');
  await keyboard.press('ArrowLeft');
  assert.equal(await focus(), 'tab-credential');
  await tabTo('credential');
  await keyboard.insertText(licence(uri, revoked).toString('base64url'));
  await keyboard.press('Tab');
  assert.equal((await explorer.answered(press('Enter'))).title, 'INVALID');
  assert.equal(await focus(), 'verdict-title', 'the answer is read next');
  const dialog = page.waitForEvent('filechooser');
  await page.locator('#credential').focus();
  await tabTo('open-file');
  await keyboard.press('Space');
  await (await dialog).setFiles({ name: 'licence.mdoc', mimeType: '', buffer: licence(uri, valid) });
  await page.locator('[data-verdict="valid"]').waitFor();

  // A reference.
  await page.locator('#tab-credential').focus();
  await keyboard.press('ArrowLeft');
  assert.equal(await focus(), 'tab-reference');
  await tabTo('idx');
  await keyboard.press('Control+A');
  await keyboard.insertText('x');
  await explorer.complains('idx', 'whole number', press('Enter'));
  assert.equal(await focus(), 'idx', 'the focus is where something must be changed');
  await keyboard.press('Control+A');
  await keyboard.insertText(String(revoked));
  assert.equal((await explorer.answered(press('Enter'))).title, 'INVALID');

  // The picture, the copy, the claims.
  await tabTo('canvas');
  await keyboard.press('Home');
  assert.match((await explorer.answered(press('Enter'))).title, /VALID|INVALID|SUSPENDED/);
  await tabTo('go-idx');
  await keyboard.press('Control+A');
  await keyboard.insertText(String(valid));
  assert.equal((await explorer.answered(press('Enter'))).title, 'VALID');
  await page.locator('#verdict-title').focus();
  await tabTo('again');
  assert.equal((await explorer.answered(press('Enter'))).title, 'VALID');
  assert.equal(await focus(), 'verdict-title');
  await page.locator('#raw summary').focus();
  await keyboard.press('Enter');
  assert.equal(await page.locator('#claims').isVisible(), true);

  // A pool.
  await page.locator('#tab-reference').focus();
  await keyboard.press('ArrowLeft');
  await tabTo('pool');
  await keyboard.press('Control+A');
  await keyboard.insertText(pool);
  await keyboard.press('Enter');
  await page.waitForFunction(() => document.activeElement.id === 'list');
  await keyboard.press('ArrowDown');
  assert.equal((await explorer.answered(press('Enter'))).title, 'VALID', 'with the index that still stands below');
  await explorer.close();
}

// Two answers side by side, for the README.
async function picture(browser, { page: address, uri, valid, revoked }) {
  const shots = [];
  for (const [options, show] of [
    [{ width: 1180, height: 860 }, (explorer) => explorer.answered(() => explorer.choose({ name: 'licence.mdoc', mimeType: '', buffer: licence(uri, revoked) }))],
    [{ width: 390, height: 860 }, (explorer) => explorer.ask(uri, valid)],
  ]) {
    const explorer = await Explorer.open(browser, address, options);
    await show(explorer);
    await explorer.page.evaluate(() => {
      document.activeElement.blur();
      if (innerWidth > 1000) scrollTo(0, 0);
    });
    shots.push(await explorer.page.screenshot({ scale: 'css' }));
    await explorer.close();
  }
  const page = await browser.newPage({ viewport: { width: 1700, height: 940 }, colorScheme: 'light' });
  const images = shots.map((shot) => `<img style="border:1px solid #c9c6bc;border-radius:14px" src="data:image/png;base64,${shot.toString('base64')}">`);
  await page.setContent(`<body style="margin:0;height:940px;display:flex;gap:40px;align-items:center;justify-content:center;background:#e4e1d8">${images.join('')}`);
  await page.waitForFunction(() => [...document.images].every((image) => image.complete && image.naturalWidth > 0));
  await page.screenshot({ path: join(process.env.SCREENSHOTS, 'page.png') });
  await page.close();
}
