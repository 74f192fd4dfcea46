// One question after another: a verdict goes as soon as something else is asked, and a slow answer never replaces a later one.
// Indices are taken as people write them.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Explorer } from './browser.mjs';
import { cbor, mdoc } from './cbor.mjs';

export async function questions(browser, scene) {
  await indices(browser, scene);
  await aVerdictGoesAtOnce(browser, scene);
  await theLastQuestionCounts(browser, scene);
  await withoutProtection(browser, scene);
}

async function indices(browser, { page: address, uri, revoked, suspended }) {
  const grouped = (idx, mark) => String(idx).replace(/\B(?=(\d{3})+$)/g, mark);
  const explorer = await Explorer.open(browser, address);
  const { page } = explorer;
  for (const mark of [',', ' ', '\u00a0', '\u202f', '\u2009', '_', '’', "'"]) {
    assert.equal((await explorer.ask(uri, grouped(revoked, mark))).verdict, 'invalid', JSON.stringify(mark));
    assert.equal((await explorer.answer()).idx, String(revoked), 'the address has the bare number');
    assert.equal(await page.locator('#idx').inputValue(), String(revoked));
    await page.locator('#go-idx').fill(grouped(suspended, mark));
    assert.equal((await explorer.answered(() => page.locator('#go-idx').press('Enter'))).verdict, 'suspended', JSON.stringify(mark));
  }
  // Above a thousand, whatever the references of this run are.
  for (const [typed, idx] of [['1,000', '1000'], ['4 095', '4095'], [' 4_095 ', '4095']]) {
    await explorer.ask(uri, typed);
    assert.equal((await explorer.answer()).idx, idx, typed);
  }
  for (const [typed, message] of [['1.000', 'Write it without the dot: 1000.'], ['1,00', 'groups of three'], ['-1', 'whole number'], ['1e3', 'whole number']]) {
    await page.locator('#idx').fill(typed);
    await explorer.complains('idx', message, () => page.locator('#idx').press('Enter'));
  }
  await explorer.close();
}

async function aVerdictGoesAtOnce(browser, { page: address, pool, uri, valid }) {
  const explorer = await Explorer.open(browser, address);
  const { page } = explorer;
  // Done by a script on the page, so that nothing happens in between.
  const after = (action) => page.evaluate(({ id, value, submit, drop }) => {
    const field = document.getElementById(id);
    if (value !== undefined) {
      field.value = value;
      if (submit === undefined) field.dispatchEvent(new Event('input', { bubbles: true }));
    }
    if (submit !== undefined) document.getElementById(submit).requestSubmit();
    if (drop !== undefined) {
      const dataTransfer = new DataTransfer();
      dataTransfer.items.add(new File([drop], 'dropped'));
      document.body.dispatchEvent(new DragEvent('drop', { dataTransfer, bubbles: true, cancelable: true }));
    }
    const seen = document.getElementById('result').innerText;
    return { title: document.getElementById('verdict-title').checkVisibility() ? document.getElementById('verdict-title').textContent : '', seen, hash: location.hash };
  }, action);
  await page.locator('#pool').fill(pool);
  await page.getByRole('button', { name: 'Show lists' }).click();
  await page.locator('#list option').first().waitFor({ state: 'attached' });
  for (const [what, action, wanted] of [
    ['a field is typed into', { id: 'uri', value: 'https' }],
    ['an index is typed', { id: 'idx', value: '1' }],
    ['an index of a pool’s list is typed', { id: 'pool-idx', value: '1' }],
    ['a pool is typed', { id: 'pool', value: 'x' }],
    ['another list is chosen', { id: 'list', value: uri }],
    ['a credential is typed', { id: 'credential', value: 'x' }],
    ['a wrong uri is sent', { id: 'uri', value: 'nowhere', submit: 'reference-form' }],
    ['a wrong index is sent', { id: 'idx', value: 'x', submit: 'reference-form' }],
    ['a wrong index of a pool’s list is sent', { id: 'pool-idx', value: 'x', submit: 'list-form' }],
    ['no credential is sent', { id: 'credential', value: '', submit: 'credential-form' }],
    ['what is no credential is sent', { id: 'credential', value: 'hello', submit: 'credential-form' }],
    ['no pool is sent', { id: 'pool', value: '', submit: 'pool-form' }],
    ['another pool is sent', { id: 'pool', value: 'nosuchpool', submit: 'pool-form' }],
    ['a file is dropped', { id: 'uri', drop: 'hello' }],
    ['the same question is sent again', { id: 'idx', value: String(valid), submit: 'reference-form' }, 'Looking…'],
  ]) {
    assert.equal((await explorer.ask(uri, valid)).title, 'VALID', what);
    const { title, seen, hash } = await after(action);
    assert.equal(title, wanted ?? '', what);
    assert(!/VALID/.test(seen), `${what}: a status is still seen: ${seen}`);
    assert.equal(hash !== '', wanted !== undefined, `${what}: ${hash}`);
    // Let it finish, so that it cannot disturb the next one.
    await page.locator('#result[aria-busy="false"]').waitFor();
    await page.waitForTimeout(50);
  }
  // The list stays where only an index in it was wrong, its status does not.
  for (const typed of ['x', '', '1.000']) {
    assert.equal((await explorer.ask(uri, valid)).title, 'VALID');
    const { title, seen } = await after({ id: 'go-idx', value: typed, submit: 'go' });
    assert.deepEqual([title, /^VALID$/m.test(seen.split('Entries by status')[0])], ['Verified list', false], typed);
    assert.notEqual(await page.locator('#go-idx-error').textContent(), '');
    assert.equal(await page.locator('#go-idx').inputValue(), typed, 'what must be corrected is still there');
  }
  // An error goes as well, with the next question.
  await page.locator('#idx').fill('x');
  await explorer.complains('idx', 'whole number', () => page.locator('#idx').press('Enter'));
  const document = { name: 'licence.mdoc', mimeType: '', buffer: cbor(mdoc({ status_list: { idx: valid, uri } }).issuerSigned) };
  assert.equal((await explorer.answered(() => explorer.drop({ files: [document] }))).title, 'VALID');
  assert.equal(await page.locator('#idx-error').textContent(), '');
  await explorer.close();
}

// Holds back what `matches` until `release` is called.
async function heldBack(page, matches) {
  let release;
  const gate = new Promise((resolve) => { release = resolve; });
  let number = 0;
  const arrived = new Promise((resolve) => {
    page.route(matches, async (route) => {
      number += 1;
      if (number > 1) return route.continue();
      resolve();
      await gate;
      return route.continue();
    });
  });
  return { arrived, release };
}

// After this, what came late has had its chance.
async function settled(page) {
  await page.waitForLoadState('networkidle');
  await page.evaluate(() => new Promise((resolve) => { setTimeout(resolve, 200); }));
}

async function slowList(explorer, { uri, valid, revoked }) {
  const { page } = explorer;
  const { arrived, release } = await heldBack(page, uri);
  await explorer.tab('Reference');
  await page.locator('#uri').fill(uri);
  await page.locator('#idx').fill(String(valid));
  await page.locator('#idx').press('Enter');
  await arrived;
  assert.equal(await page.locator('#verdict-title').textContent(), 'Looking…');
  assert.equal((await explorer.ask(uri, revoked)).title, 'INVALID');
  const late = page.waitForResponse(uri);
  release();
  await late;
  await settled(page);
  await page.unroute(uri);
}

async function theLastQuestionCounts(browser, scene) {
  const { page: address, pool, uri, valid, revoked } = scene;
  const explorer = await Explorer.open(browser, address);
  const { page } = explorer;
  await slowList(explorer, scene);
  assert.deepEqual(await explorer.answer().then(({ title, idx }) => [title, idx]), ['INVALID', String(revoked)], 'a slow list');

  // A slow file: reading it waits until it is released.
  await page.evaluate(() => {
    const arrayBuffer = Blob.prototype.arrayBuffer;
    const gate = new Promise((resolve) => { globalThis.release = resolve; });
    Blob.prototype.arrayBuffer = async function slow() {
      await gate;
      return arrayBuffer.call(this);
    };
  });
  const licence = { name: 'licence.mdoc', mimeType: '', buffer: cbor(mdoc({ status_list: { idx: valid, uri } }).issuerSigned) };
  const broken = { name: 'broken', mimeType: '', buffer: Buffer.from('hello') };
  await explorer.drop({ files: [licence] });
  await explorer.drop({ files: [broken] });
  assert.equal(await page.locator('#result').getAttribute('aria-busy'), 'true');
  assert.equal((await explorer.ask(uri, revoked)).title, 'INVALID');
  await page.evaluate(() => globalThis.release());
  await settled(page);
  assert.deepEqual(await explorer.answer().then(({ title, idx }) => [title, idx]), ['INVALID', String(revoked)], 'a slow file');
  assert.equal(await page.locator('#credential-error').textContent(), '');
  assert.equal(await page.locator('#credential-read').textContent(), '');

  // A slow pool.
  for (const [slow, label] of [[pool, 'with lists'], ['nosuchpool', 'that is not there']]) {
    const aggregation = new RegExp(`/aggregation/${slow}(\\.json)?$`);
    const { arrived, release } = await heldBack(page, aggregation);
    await explorer.tab('Pool');
    await page.locator('#pool').fill(slow);
    await page.locator('#pool').press('Enter');
    await arrived;
    assert.equal((await explorer.ask(uri, revoked)).title, 'INVALID');
    const late = page.waitForResponse(aggregation);
    release();
    await late;
    await settled(page);
    assert.equal((await explorer.answer()).title, 'INVALID', `a slow pool ${label}`);
    assert.equal(await page.locator('#pool-error').textContent(), '');
    assert.equal(await page.locator('#list-form').evaluate((form) => form.hidden), true);
    await page.unroute(aggregation);
  }

  // Typing is asking something else: nothing comes for what was asked before.
  const { arrived, release } = await heldBack(page, uri);
  await explorer.tab('Reference');
  await page.locator('#idx').fill(String(valid));
  await page.locator('#idx').press('Enter');
  await arrived;
  await page.locator('#idx').press('7');
  release();
  await settled(page);
  assert.equal(await page.locator('#answer').isVisible(), false);
  await explorer.close();
}

// The control: without each protection, the same steps show the wrong verdict.
async function withoutProtection(browser, scene) {
  const { page: address, uri, valid, revoked } = scene;
  const source = await readFile(join(process.env.PUBLIC, 'assets/main.js'), 'utf8');
  const opened = async (protection) => {
    const body = source.replaceAll(protection, '');
    assert.notEqual(body, source, `${protection} is not in main.js`);
    const explorer = await Explorer.open(browser, 'about:blank', { origins: [new URL(address).origin] });
    await explorer.page.route('**/assets/main.js', (route) => route.fulfill({ contentType: 'text/javascript', body }));
    await explorer.page.goto(address);
    return explorer;
  };

  const unordered = await opened('if (mine !== asked) return;');
  await slowList(unordered, scene);
  assert.equal((await unordered.answer()).title, 'VALID', 'the slow answer came last');
  assert.notEqual(valid, revoked);
  await unordered.close();

  const lasting = await opened("byId('answer').hidden = true;");
  assert.equal((await lasting.ask(uri, valid)).title, 'VALID');
  await lasting.page.locator('#idx').fill('x');
  await lasting.page.locator('#idx').press('Enter');
  await lasting.page.locator('#idx-error').filter({ hasText: 'whole number' }).waitFor();
  assert.equal(await lasting.page.locator('#verdict-title').isVisible(), true, 'beside the error');
  await lasting.close();
}
