// Chromium, and a page that is watched: every request is recorded, and an error in the console or a violation of the policy fails
// the test. axe-core examines the content of the page.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const require = createRequire(join(process.env.TEST_TOOLS, 'package.json'));
const { chromium } = require('playwright-core');
const axe = await readFile(require.resolve('axe-core/axe.min.js'), 'utf8');

// The tests' own names resolve to this machine; all other names are blocked.
const ARGUMENTS = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update', '--disable-sync',
  '--no-first-run', '--host-resolver-rules=MAP status.example 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1',
];

export const launch = () => chromium.launch({ executablePath: '/usr/bin/chromium', args: ARGUMENTS });

// A page of the explorer, and the actions of a test on it.
export class Explorer {
  // `origins`: where requests may go.
  static async open(browser, address, { origins = [], width = 1280, height = 900, dark = false, clock = false, locale, timezoneId } = {}) {
    const context = await browser.newContext({
      viewport: { width, height }, colorScheme: dark ? 'dark' : 'light', reducedMotion: 'reduce', locale, timezoneId, deviceScaleFactor: width < 500 ? 2 : 1,
    });
    const page = await context.newPage();
    const explorer = Object.assign(new Explorer(), { page, context, requests: [], errors: [] });
    page.on('request', (request) => explorer.requests.push(request));
    page.on('pageerror', (error) => explorer.errors.push(String(error)));
    // Chromium itself logs each 4xx and 5xx answer; those are expected here, and judged by what the page shows.
    page.on('console', (message) => {
      if (message.type() === 'error' && !message.text().startsWith('Failed to load resource')) explorer.errors.push(message.text());
    });
    explorer.origins = [new URL(address).origin, ...origins];
    if (clock) await page.clock.install();
    await page.goto(address);
    return explorer;
  }

  // Asserts that nobody else got a request, nothing was stored anywhere, and nothing failed on the page.
  async close({ errorsExpected = [], methods = ['GET'] } = {}) {
    for (const request of this.requests) {
      const url = new URL(request.url());
      assert(this.origins.includes(url.origin), `a request to a stranger: ${url}`);
      assert(methods.includes(request.method()), `${request.method()} ${url}`);
      assert(!request.headers().referer, `${url} tells where the reader came from`);
    }
    const unexpected = this.errors.filter((error) => !errorsExpected.some((expected) => expected.test(error)));
    assert.deepEqual(unexpected, []);
    assert.deepEqual(await this.context.cookies(), []);
    await this.context.close();
  }

  async tab(name) {
    await this.page.getByRole('tab', { name }).click();
  }

  // Submits by the keyboard, as a form is sent.
  async ask(uri, idx = '') {
    await this.tab('Reference');
    await this.page.getByLabel('uri of the list').fill(uri);
    await this.page.getByLabel('idx', { exact: false }).and(this.page.locator('#idx')).fill(String(idx));
    return this.answered(() => this.page.locator('#idx').press('Enter'));
  }

  async paste(credential) {
    await this.tab('Credential');
    await this.page.getByLabel('Credential', { exact: true }).and(this.page.locator('textarea')).fill(credential);
    return this.answered(() => this.page.getByRole('button', { name: 'Read and check' }).click());
  }

  // Chooses a file, as the dialog of the browser does. `file`: `{ name, mimeType, buffer }`.
  async choose(...files) {
    await this.tab('Credential');
    const dialog = this.page.waitForEvent('filechooser');
    await this.page.getByRole('button', { name: 'Open a file' }).press('Enter');
    await (await dialog).setFiles(files);
  }

  // Drops files, or text, somewhere on the page. A file has a `buffer`, then `size` zeros.
  async drop({ files = [], text }, onto = 'footer') {
    const transfer = await this.#transfer(files, text);
    await this.page.dispatchEvent(onto, 'dragover', { dataTransfer: transfer });
    await this.page.locator('#curtain').waitFor({ state: 'visible' });
    await this.page.dispatchEvent(onto, 'drop', { dataTransfer: transfer });
    await this.page.locator('#curtain').waitFor({ state: 'hidden' });
  }

  // Pastes files somewhere on the page. A page's script cannot fill the clipboard with files.
  async pasteFiles(...files) {
    const transfer = await this.#transfer(files);
    await this.page.evaluate((clipboardData) => {
      document.body.dispatchEvent(new ClipboardEvent('paste', { clipboardData, bubbles: true, cancelable: true }));
    }, transfer);
  }

  #transfer(files, text) {
    const given = files.map(({ name, mimeType, buffer = Buffer.alloc(0), size = 0 }) => ({ name, mimeType, base64: buffer.toString('base64'), size }));
    return this.page.evaluateHandle(([all, words]) => {
      const transfer = new DataTransfer();
      for (const { name, mimeType, base64, size } of all) {
        transfer.items.add(new File([Uint8Array.from(atob(base64), (character) => character.charCodeAt(0)), new Uint8Array(size)], name, { type: mimeType }));
      }
      if (words !== undefined) transfer.setData('text/plain', words);
      return transfer;
    }, [given, text]);
  }

  // Acts, and waits for the complaint about a field. Nothing may be shown beside it.
  async complains(field, message, act) {
    await act();
    await this.page.locator(`#${field}-error`).filter({ hasText: message }).waitFor();
    assert.equal(await this.page.locator('#answer').isVisible(), false, `an answer beside the complaint ${message}`);
    assert.equal(await this.page.locator(`#${field}`).getAttribute('aria-invalid'), 'true');
    assert.equal(await this.page.locator('#result').getAttribute('aria-busy'), 'false');
  }

  // Acts, and waits for the answer: the verdict's kind, its title, and the state of each check.
  async answered(act) {
    await this.page.evaluate(() => { document.getElementById('verdict').dataset.verdict = 'none yet'; });
    await act();
    await this.page.waitForFunction(() => document.getElementById('verdict').dataset.verdict !== 'none yet'
      && document.getElementById('result').getAttribute('aria-busy') === 'false');
    return this.answer();
  }

  answer() {
    return this.page.evaluate(() => {
      const text = (id) => document.getElementById(id).textContent;
      const isSeen = (id) => document.getElementById(id).checkVisibility();
      return {
        verdict: document.getElementById('verdict').dataset.verdict,
        title: text('verdict-title'),
        why: text('verdict-why'),
        said: text('progress'),
        checks: isSeen('checks') ? Object.fromEntries([...document.querySelectorAll('[data-check]')].map((line) => [line.dataset.check, line.dataset.state])) : {},
        counts: isSeen('counts') ? Object.fromEntries([...document.querySelectorAll('#counts [data-status]')].map((row) => [row.dataset.status, Number(row.dataset.entries)])) : {},
        sizes: isSeen('sizes') ? Object.fromEntries([...document.querySelectorAll('[data-size]')].map((row) => [row.dataset.size, Number(row.dataset.bytes)])) : {},
        picture: isSeen('picture'),
        banner: isSeen('picture-banner'),
        stale: isSeen('stale'),
        idx: new URLSearchParams(location.hash.slice(1)).get('idx'),
      };
    });
  }

  // How many pixels of the picture have the colour of this status.
  async pixels(status) {
    return this.page.evaluate(async (property) => {
      await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
      const canvas = document.getElementById('canvas');
      const probe = document.createElement('span');
      probe.style.color = `var(${property})`;
      canvas.parentElement.append(probe);
      const wanted = getComputedStyle(probe).color.match(/\d+/g).slice(0, 3).map(Number);
      probe.remove();
      const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
      let found = 0;
      for (let at = 0; at < data.length; at += 4) {
        if (data[at + 3] === 255 && wanted.every((part, n) => data[at + n] === part)) found += 1;
      }
      return found;
    }, `--status-${status}`);
  }

  // `impacts`: which findings count, if not all. `known`: rules that may be broken.
  async accessible(what, { impacts, known = [] } = {}) {
    await this.page.evaluate(axe);
    const { violations } = await this.page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
    const counted = violations.filter(({ id, impact }) => (impacts?.includes(impact) ?? true) && !known.includes(id));
    const lines = counted.flatMap(({ id, help, nodes }) => nodes.map((node) => `${id}: ${help}: ${node.html} ${node.failureSummary}`));
    assert.deepEqual(lines, [], `axe-core finds something: ${what}`);
    const wide = await this.page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert(wide <= 0, `${what}: the page is ${wide} px wider than the screen`);
  }

  screenshot(name) {
    return this.page.screenshot({ path: join(process.env.SCREENSHOTS, `${name}.png`), fullPage: true });
  }
}
