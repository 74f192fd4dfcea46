// A list with one revoked and one suspended entry, on the built-in server: every way to enter a reference, and everything shown.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Explorer } from './browser.mjs';

const require = createRequire(join(process.env.TEST_TOOLS, 'package.json'));
const ALL_PASSED = { typ: 'pass', alg: 'pass', signature: 'pass', sub: 'pass', iat: 'pass', exp: 'pass', ttl: 'pass', bits: 'pass', lst: 'pass', idx: 'pass' };

export async function statuses(browser, scene) {
  await waysToAsk(browser, scene);
  await whatIsShown(browser, scene);
  await whatCannotBeAnswered(browser, scene);
  await credentials(browser, scene);
  await picture(browser, scene);
  await timePasses(browser, scene);
  await phone(browser, scene);
  await aRevocationArrives(browser, scene);
}

async function waysToAsk(browser, { page: address, pool, uri, valid, revoked, suspended }) {
  for (const dark of [false, true]) {
    const explorer = await Explorer.open(browser, address, { dark });
    await explorer.accessible(`the page before an answer, dark: ${dark}`);
    await explorer.screenshot(`empty-${dark ? 'dark' : 'light'}`);
    await explorer.close();
  }

  const explorer = await Explorer.open(browser, address);
  await explorer.page.getByLabel('Pool', { exact: true }).and(explorer.page.locator('input')).fill(pool);
  await explorer.page.getByRole('button', { name: 'Show lists' }).click();
  const options = explorer.page.locator('#list option');
  await options.first().waitFor();
  const aggregation = await (await fetch(new URL(`lists/aggregation/${pool}`, address))).json();
  assert.deepEqual(await options.evaluateAll((all) => all.map((option) => option.value)), aggregation.status_lists);
  await explorer.page.locator('#list').selectOption(uri);
  await explorer.accessible('the lists of a pool');
  await explorer.screenshot('pool');
  await explorer.page.locator('#pool-idx').fill(String(revoked));
  assert.equal((await explorer.answered(() => explorer.page.locator('#pool-idx').press('Enter'))).verdict, 'invalid');
  assert.equal((await explorer.ask(uri, valid)).verdict, 'valid');
  assert.equal((await explorer.ask(uri, suspended)).verdict, 'suspended');
  const whole = await explorer.ask(uri);
  assert.equal(whole.verdict, 'list');
  assert.equal(whole.checks.idx, undefined);
  await explorer.close();

  const linked = await Explorer.open(browser, `${address}#${new URLSearchParams({ uri, idx: revoked })}`);
  await linked.page.locator('[data-verdict="invalid"]').waitFor();
  for (const request of linked.requests) {
    assert(!request.url().includes(`=${revoked}`), `the index was told to a server: ${request.url()}`);
  }
  await linked.close();
}

async function whatIsShown(browser, { page: address, uri, valid, revoked, suspended, size, bits }) {
  const token = await (await fetch(uri)).text();
  const lst = JSON.parse(Buffer.from(token.split('.')[1], 'base64url')).status_list.lst;
  const shares = [size - 2, 1, 1].map((entries) => entries / size);
  const entropy = shares.reduce((sum, share) => sum - share * Math.log2(share), 0);
  for (const [dark, theme] of [[false, 'light'], [true, 'dark']]) {
    const explorer = await Explorer.open(browser, address, { dark });
    for (const [idx, verdict, title] of [[valid, 'valid', 'VALID'], [revoked, 'invalid', 'INVALID'], [suspended, 'suspended', 'SUSPENDED']]) {
      const answer = await explorer.ask(uri, idx);
      assert.deepEqual([answer.verdict, answer.title], [verdict, title]);
      assert.deepEqual(answer.checks, ALL_PASSED);
      assert.deepEqual(answer.counts, { 0: size - 2, 1: 1, 2: 1 });
      assert.deepEqual([answer.picture, answer.banner, answer.stale], [true, false, false]);
      assert.deepEqual(
        [answer.sizes.array, answer.sizes.bound, answer.sizes.lst, answer.sizes.token],
        [(size * bits) / 8, Math.round((size * entropy) / 8), Buffer.from(lst, 'base64url').length, token.length],
      );
      assert(answer.sizes.wire < answer.sizes.token, 'the built-in server compresses');
      assert(answer.said.startsWith(title), 'it is announced');
      await explorer.accessible(`${title}, ${theme}`);
      await explorer.screenshot(`${verdict}-${theme}`);
    }
    await explorer.close();
  }

  // The toggle, and that the browser remembers the choice.
  const explorer = await Explorer.open(browser, address);
  const paper = () => explorer.page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await paper();
  await explorer.page.getByRole('button', { name: 'Dark', pressed: false }).click();
  const dark = await paper();
  assert.notEqual(dark, light);
  await explorer.page.reload();
  assert.equal(await paper(), dark);
  await explorer.page.getByRole('button', { name: 'Dark', pressed: true }).click();
  assert.equal(await paper(), light);
  await explorer.close();
}

async function whatCannotBeAnswered(browser, { page: address, uri, size }) {
  const explorer = await Explorer.open(browser, address);
  const outside = await explorer.ask(uri, size);
  assert.deepEqual([outside.verdict, outside.checks.idx], ['outside', 'fail']);
  await explorer.accessible('an index outside the list');
  await explorer.screenshot('outside');
  assert.equal((await explorer.ask(uri, size - 1)).verdict, 'valid', 'the last entry is inside');

  const unknown = await explorer.ask(uri.replace(/[^/]+$/, '00000000-0000-4000-8000-000000000000'), 0);
  assert.deepEqual([unknown.verdict, unknown.picture, unknown.checks], ['missing', false, {}]);
  assert.match(unknown.why, /404: No list with id 00000000/);
  await explorer.accessible('an unknown list');
  await explorer.screenshot('unknown');
  assert.match((await explorer.ask(uri.replace(/[^/]+$/, 'jwks.json'), 0)).title, /No Status List Token/);

  const { page } = explorer;
  const refused = async (field, value, message) => {
    await page.locator(field).fill(value);
    await page.locator(field).press('Enter');
    await page.locator(`${field}-error`).filter({ hasText: message }).waitFor();
    assert.equal(await page.locator(field).getAttribute('aria-invalid'), 'true');
    assert.equal(await page.evaluate(() => `#${document.activeElement.id}`), field, 'the focus is where something must be changed');
  };
  await page.locator('#uri').fill(uri);
  for (const value of ['-1', '1.5', 'x', '9007199254740993']) await refused('#idx', value, 'whole number');
  await page.locator('#idx').fill('');
  for (const value of ['', 'lists/1', 'ftp://127.0.0.1/', 'https://me:secret@127.0.0.1/']) await refused('#uri', value, /./);
  await explorer.accessible('a field with an error');
  await explorer.tab('Pool');
  await refused('#pool', 'nosuchpool', 'no pool nosuchpool');
  await explorer.close();
}

async function credentials(browser, { page: address, uri, revoked, suspended }) {
  const { digest, generateSalt, ES256 } = require('@sd-jwt/crypto-nodejs');
  const { SDJwtVcInstance } = require('@sd-jwt/sd-jwt-vc');
  const { privateKey } = await ES256.generateKeyPair();
  const issuer = new SDJwtVcInstance({ signer: await ES256.getSigner(privateKey), signAlg: 'ES256', hasher: digest, hashAlg: 'sha-256', saltGenerator: generateSalt });
  const claims = (idx) => ({ iss: 'https://issuer.example', iat: 1700000000, vct: 'https://issuer.example/id', given_name: 'Erika-of-the-test', status: { status_list: { uri, idx } } });
  const sdJwt = await issuer.issue(claims(revoked), { _sd: ['given_name'] });
  assert(sdJwt.includes('~'));

  const explorer = await Explorer.open(browser, address);
  assert.equal((await explorer.paste(`${sdJwt}\n`)).verdict, 'invalid');
  await explorer.accessible('after a credential');
  await explorer.screenshot('credential');
  assert.equal((await explorer.paste(sdJwt.split('~')[0])).verdict, 'invalid');
  assert.equal((await explorer.paste(JSON.stringify(claims(suspended), null, 2))).verdict, 'suspended');
  assert.equal((await explorer.paste(JSON.stringify(claims(revoked).status))).verdict, 'invalid');

  const token = await (await fetch(uri)).text();
  const jwt = (payload) => `e30.${Buffer.from(JSON.stringify(payload)).toString('base64url')}.c2ln`;
  for (const [pasted, message] of [
    ['', 'Paste a credential'], ['hello', 'not a JWT'], ['{"status":', 'like JSON'], [jwt({}), 'no status.status_list'], ['e30.!.c2ln', 'not base64url'],
    [jwt(claims(-1)), 'whole number'], [jwt(claims('3')), 'whole number'], [jwt({ status: { status_list: { idx: 1 } } }), 'uri'],
    [token, 'not a credential'], [jwt({ status: { status_list: { uri: 'javascript:alert(1)', idx: 0 } } }), 'Only https and http'],
  ]) {
    await explorer.page.locator('#credential').fill(pasted);
    await explorer.page.getByRole('button', { name: 'Read and check' }).click();
    await explorer.page.locator('#credential-error').filter({ hasText: message }).waitFor();
  }
  // Each request is for the page, or for public files.
  const [secret] = sdJwt.split('~').slice(1);
  for (const request of explorer.requests) {
    assert.equal(request.postData(), null);
    const told = `${request.url()} ${JSON.stringify(request.headers())}`;
    for (const part of [secret, sdJwt.split('.')[1].slice(0, 40), 'Erika', `idx`]) assert(!told.includes(part), `${part} was told: ${told}`);
  }
  await explorer.close();
}

async function picture(browser, { page: address, uri, valid, revoked, suspended, size }) {
  const explorer = await Explorer.open(browser, address);
  await explorer.ask(uri);
  const { page } = explorer;
  assert(await explorer.pixels(1) > 0 && await explorer.pixels(2) > 0, 'exceptions have their colours');
  assert.equal(await explorer.pixels(3), 0);

  // By the keyboard alone.
  const exceptions = [revoked, suspended].sort((a, b) => a - b);
  await page.locator('#canvas').focus();
  for (const idx of [...exceptions, exceptions[0]]) {
    await page.keyboard.press('n');
    assert.equal((await explorer.answer()).idx, String(idx));
  }
  await page.keyboard.press('p');
  assert.equal((await explorer.answer()).idx, String(exceptions[1]));
  await page.keyboard.press('Home');
  await page.keyboard.press('ArrowRight');
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('Enter');
  assert.equal((await explorer.answer()).idx, '65', 'a row of 4096 entries has 64');
  for (let n = 0; n < 4; n += 1) await page.keyboard.press('+');
  assert.match(await page.locator('#readout').textContent(), /Index 65: /);
  await page.screenshot({ path: join(process.env.SCREENSHOTS, 'zoomed.png') });
  await page.keyboard.press('0');

  // The mouse: the page names the cell under it, and a click chooses that cell.
  const columns = Math.sqrt(size);
  await page.locator('#canvas').scrollIntoViewIfNeeded();
  const box = await page.locator('#canvas').boundingBox();
  const cell = Math.min(box.width, box.height) / columns;
  const [left, top] = [box.x + (box.width - columns * cell) / 2, box.y + (box.height - columns * cell) / 2];
  const at = (idx) => [left + (idx % columns + 0.5) * cell, top + (Math.floor(idx / columns) + 0.5) * cell];
  for (const [idx, name] of [[revoked, 'INVALID'], [suspended, 'SUSPENDED'], [valid, 'VALID'], [size - 1, 'VALID']]) {
    await page.mouse.move(...at(idx));
    await page.locator('#readout').filter({ hasText: `Index ${idx.toLocaleString('en')}: ${name}` }).waitFor();
    await page.mouse.click(...at(idx));
    const answer = await explorer.answer();
    assert.deepEqual([answer.idx, answer.title], [String(idx), name]);
  }
  // With focus the wheel zooms and does not scroll.
  const scroll = await page.evaluate(() => scrollY);
  await page.mouse.move(...at(revoked));
  await page.mouse.wheel(0, -900);
  await page.waitForFunction(() => document.getElementById('canvas').classList.contains('is-zoomed'));
  assert.equal(await page.evaluate(() => scrollY), scroll);
  await page.locator('#readout').filter({ hasText: `Index ${revoked.toLocaleString('en')}` }).waitFor();
  await page.getByRole('button', { name: 'Fit' }).click();
  await page.waitForFunction(() => !document.getElementById('canvas').classList.contains('is-zoomed'));

  await page.locator('#go-idx').fill(String(size));
  assert.equal((await explorer.answered(() => page.locator('#go-idx').press('Enter'))).verdict, 'outside');
  await explorer.close();
}

// An answer that was good when it arrived does not stay good.
async function timePasses(browser, { page: address, uri, valid }) {
  const explorer = await Explorer.open(browser, address, { clock: true });
  assert.deepEqual(await explorer.ask(uri, valid).then(({ verdict, stale }) => [verdict, stale]), ['valid', false]);
  await explorer.page.clock.fastForward('00:11:00');
  assert.deepEqual(await explorer.answer().then(({ title, stale }) => [title, stale]), ['Was VALID', true], 'ttl has passed');
  await explorer.accessible('a stale copy');
  await explorer.screenshot('stale');
  await explorer.page.clock.fastForward('01:00:00');
  const expired = await explorer.answer();
  assert.deepEqual([expired.verdict, expired.checks.exp, expired.picture], ['refused', 'fail', false]);
  assert(!expired.title.includes('VALID'));
  await explorer.close();
}

async function phone(browser, { page: address, uri, revoked }) {
  for (const dark of [false, true]) {
    const explorer = await Explorer.open(browser, address, { width: 360, height: 740, dark });
    await explorer.accessible('a phone before an answer');
    assert.equal((await explorer.ask(uri, revoked)).verdict, 'invalid');
    await explorer.accessible('a phone with an answer');
    await explorer.screenshot(`phone-${dark ? 'dark' : 'light'}`);
    await explorer.close();
  }
}

async function aRevocationArrives(browser, { page: address, uri, later, apiKey }) {
  const explorer = await Explorer.open(browser, address);
  assert.equal((await explorer.ask(uri, later)).verdict, 'valid');
  const response = await fetch(new URL('status-lists/update', address), {
    method: 'PATCH', headers: { 'X-Api-Key': apiKey, 'Content-Type': 'application/json' }, body: JSON.stringify({ uri, index: later, value: 'invalid' }),
  });
  assert.equal(response.status, 204);
  const again = () => explorer.answered(() => explorer.page.getByRole('button', { name: 'Fetch again' }).click());
  const deadline = Date.now() + 30_000;
  while ((await again()).verdict !== 'invalid') {
    assert(Date.now() < deadline, 'the revocation is not seen');
    await sleep(200);
  }
  await explorer.close();
}
