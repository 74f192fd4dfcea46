// Tokens that must not be trusted, on a plain static host: each differs in one thing from one that is trusted. Those that
// only an issuer could make wrong are signed here, with a key of our own in the host's jwks.json.
import assert from 'node:assert/strict';
import { generateKeyPairSync, sign } from 'node:crypto';
import { deflateSync } from 'node:zlib';
import { Explorer } from './browser.mjs';
import { StaticHost } from './static_host.mjs';

export async function untrustworthy(browser, { host: { port, lists }, references, past }) {
  const [host, pastHost] = await Promise.all([StaticHost.start(port, lists), StaticHost.start(past.port, past.lists)]);
  try {
    await intact(browser, host, references);
    await tampered(browser, host, references);
    await expired(browser, pastHost, past);
    await unprotected(browser, host, pastHost, references, past);
    await badlyIssued(browser, host, references.p);
    await otherStatuses(browser, host, references.p);
    await keysOfOthers(browser, host, pastHost, references.p);
    await withoutEd25519(browser, host, references.eddsa);
    await insecure(browser, host, references.p);
  } finally {
    host.stop();
    pastHost.stop();
  }
}

const failed = ({ checks }) => Object.keys(checks).filter((check) => checks[check] === 'fail');

// The control for everything below: the same host, the same files, nothing changed.
async function intact(browser, host, references) {
  const explorer = await Explorer.open(browser, `${host.origin}/`);
  for (const [pool, { uri, idx }] of Object.entries(references)) {
    const answer = await explorer.ask(uri, idx);
    assert.deepEqual([answer.verdict, failed(answer), answer.counts[0]], ['valid', [], 800], `${pool}: ${answer.why}`);
  }
  await explorer.tab('Pool');
  await explorer.page.locator('#pool').fill('p');
  await explorer.page.getByRole('button', { name: 'Show lists' }).click();
  await explorer.page.locator(`#list option[value="${references.p.uri}"]`).waitFor({ state: 'attached' });
  await explorer.close();
}

async function refused(explorer, { uri, idx }, checks, what) {
  const answer = await explorer.ask(uri, idx);
  assert.deepEqual([answer.verdict, failed(answer)], ['refused', checks], `${what}: ${answer.title}, ${answer.why}`);
  assert.deepEqual([answer.picture, answer.counts], [false, {}], what);
  for (const text of [answer.title, answer.why, answer.said]) assert(!/VALID|SUSPENDED/.test(text), `${what} names a status: ${text}`);
  return answer;
}

async function tampered(browser, host, references) {
  const explorer = await Explorer.open(browser, `${host.origin}/`);
  for (const pool of ['p', 'es384', 'cwt', 'eddsa']) {
    const reference = references[pool];
    const isCwt = ['cwt', 'eddsa'].includes(pool);
    const path = host.pathOf(reference.uri, isCwt ? '.cwt' : '.jwt');
    const file = await host.read(path);
    // One byte of what is signed, within `lst`, so that the token can be read as before; and one of the signature.
    for (const at of [withinLst(file, isCwt), file.length - 20]) {
      const changed = flipped(file, at);
      assert.equal([...file].filter((byte, n) => byte !== changed[n]).length, 1);
      host.instead.set(path, changed);
      await refused(explorer, reference, ['signature'], `${pool} with byte ${at} changed`);
    }
    if (pool === 'p') {
      await explorer.accessible('a tampered token');
      await explorer.screenshot('tampered');
    }
    host.instead.delete(path);
    const restored = await explorer.ask(reference.uri, reference.idx);
    assert.equal(restored.verdict, 'valid', `${pool}, as it was before: ${restored.why}`);
  }

  const path = host.pathOf(references.p.uri);
  const [header, payload, signature] = (await host.read(path)).toString().split('.');
  const claims = JSON.parse(Buffer.from(payload, 'base64url'));
  const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const none = encode({ alg: 'none', typ: 'statuslist+jwt' });
  for (const [token, checks, what] of [
    [`${header}.${encode({ ...claims, exp: claims.exp + 1 })}.${signature}`, ['signature'], 'a later exp'],
    [`${none}.${payload}.`, ['alg', 'signature'], 'alg none'],
    [`${encode({ alg: 'HS256', typ: 'statuslist+jwt' })}.${payload}.${signature}`, ['alg', 'signature'], 'a MAC'],
    [`${encode({ ...JSON.parse(Buffer.from(header, 'base64url')), alg: 'ES384' })}.${payload}.${signature}`, ['signature'], 'another algorithm than the key’s'],
    [(await host.read(host.pathOf(references.es384.uri))).toString(), ['sub'], 'the list of another uri'],
  ]) {
    host.instead.set(path, token);
    await refused(explorer, references.p, checks, what);
  }
  for (const [token, what] of [['', 'nothing'], ['<html>', 'a page'], [`${header}.${payload}`, 'two parts'], [`${header}.${payload}.${signature}\n`, 'a line end']]) {
    host.instead.set(path, token);
    const answer = await explorer.ask(references.p.uri, references.p.idx);
    assert.deepEqual([answer.verdict, answer.title], ['missing', 'No Status List Token'], what);
  }
  host.instead.clear();
  await explorer.close();
}

// One byte changed, to another one of base64url.
function flipped(file, at) {
  const changed = Buffer.from(file);
  changed[at] = file[at] === 'B'.charCodeAt(0) ? 'C'.charCodeAt(0) : 'B'.charCodeAt(0);
  return changed;
}

// Where a byte can be changed so that only `lst` differs.
function withinLst(file, isCwt) {
  const text = file.toString('latin1');
  if (isCwt) return text.indexOf('clst') + 10;
  const read = (token) => JSON.parse(Buffer.from(token.toString('latin1').split('.')[1], 'base64url'));
  const { lst: before } = read(file).status_list;
  for (let at = text.indexOf('.') + 1; at < text.lastIndexOf('.'); at += 1) {
    try {
      const { lst: after } = read(flipped(file, at)).status_list;
      if (after !== before && /^[A-Za-z0-9_-]+$/.test(after)) return at;
    } catch {
      // This one breaks the JSON.
    }
  }
  throw new Error('no byte of the payload stands in lst alone');
}

async function expired(browser, host, past) {
  const explorer = await Explorer.open(browser, `${host.origin}/`);
  const answer = await refused(explorer, past, ['exp'], 'an expired token');
  assert.equal(answer.checks.signature, 'pass', 'nothing else is wrong with it');
  assert.match(answer.why, /expired 1 d 2\d h ago|expired 1 d 23 h ago/);
  await explorer.accessible('an expired token');
  await explorer.screenshot('expired');
  await explorer.close();
}

// The control: with one check removed from the page, the token that this check refused is accepted.
async function unprotected(browser, host, pastHost, references, past) {
  const { p, es384 } = references;
  const path = host.pathOf(p.uri);
  const [intactFile, otherFile] = [await host.read(path), await host.read(host.pathOf(es384.uri))];
  const always = (label) => [new RegExp(`(add\\('[a-z]+', '${label}', )[^,]+,`, 'g'), '$1true,'];
  for (const [where, file, [protection, nothing], { uri, idx }, token] of [
    [host, '/assets/verify.js', [/if \(await crypto\.subtle\.verify\([^)]*\)\)/, 'if (true)'], p, flipped(intactFile, intactFile.length - 20)],
    [host, '/assets/judge.js', always('Subject'), p, otherFile],
    [pastHost, '/assets/judge.js', always('Expires'), past, undefined],
  ]) {
    const source = (await where.read(file)).toString();
    const without = source.replace(protection, nothing);
    assert.notEqual(without, source, `${protection} is not in ${file}`);
    where.instead.set(file, without);
    if (token) where.instead.set(path, token);
    const explorer = await Explorer.open(browser, `${where.origin}/`);
    const answer = await explorer.ask(uri, idx);
    assert.equal(answer.verdict, 'valid', `${protection}: ${answer.why}`);
    await explorer.close();
    where.instead.clear();
  }
}

// An issuer of our own: claims and array → token, and its keys.
function issuer() {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const issue = (claims, header = {}) => {
    const input = `${encode({ alg: 'ES256', kid: 'ours', typ: 'statuslist+jwt', ...header })}.${encode(claims)}`;
    return `${input}.${sign('sha256', Buffer.from(input), { key: privateKey, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`;
  };
  return { issue, jwks: JSON.stringify({ keys: [{ ...publicKey.export({ format: 'jwk' }), kid: 'ours' }] }) };
}

const lst = (bytes) => deflateSync(Buffer.from(bytes), { level: 9 }).toString('base64url');

async function badlyIssued(browser, host, { uri }) {
  const { issue, jwks } = issuer();
  const now = Math.floor(Date.now() / 1000);
  const good = { sub: uri, iat: now - 5, exp: now + 3600, ttl: 60, status_list: { bits: 1, lst: lst([0b10]) } };
  const list = (changes) => ({ ...good, status_list: { ...good.status_list, ...changes } });
  const path = host.pathOf(uri);
  host.instead.set('/lists/jwks.json', jwks);
  const explorer = await Explorer.open(browser, `${host.origin}/`);
  const serve = (token) => host.instead.set(path, token);

  serve(issue(good));
  assert.equal((await explorer.ask(uri, 0)).verdict, 'valid', 'the control');
  assert.equal((await explorer.ask(uri, 1)).verdict, 'invalid', 'the control: the least significant bit comes first');
  const { exp: _, ttl: __, ...lasting } = good;
  serve(issue(lasting));
  const unlimited = await explorer.ask(uri, 0);
  assert.deepEqual([unlimited.verdict, unlimited.checks.exp, unlimited.checks.ttl], ['valid', 'note', 'note']);

  for (const [token, checks, what] of [
    [issue(good, { typ: 'JWT' }), ['typ'], 'another typ'],
    [issue(good, { typ: undefined }), ['typ'], 'no typ'],
    [issue(good, { crit: ['b64'] }), ['crit'], 'unknown extensions'],
    [issue(good, { kid: 'another' }), ['signature'], 'an unknown key'],
    [issue({ ...good, sub: `${uri}/` }), ['sub'], 'a slash more'],
    [issue({ ...good, sub: undefined }), ['sub'], 'no sub'],
    [issue({ ...good, iat: now + 300 }), ['iat'], 'issued in the future'],
    [issue({ ...good, iat: undefined }), ['iat'], 'no iat'],
    [issue({ ...good, nbf: now + 300 }), ['nbf'], 'not yet'],
    [issue({ ...good, iat: now - 100, exp: now - 1 }), ['exp'], 'expired a second ago'],
    [issue({ ...good, exp: String(now + 300) }), ['exp'], 'exp as text'],
    [issue({ ...good, ttl: 0 }), ['ttl'], 'no time to live'],
    [issue({ ...good, ttl: -1 }), ['ttl'], 'a negative time to live'],
    [issue(list({ bits: 3 })), ['bits'], 'three bits'],
    [issue(list({ lst: 'AAAA' })), ['lst'], 'no zlib'],
    [issue(list({ lst: Buffer.concat([deflateSync(Buffer.from([1])), Buffer.from([0])]).toString('base64url') })), ['lst'], 'a byte after the end'],
    [issue(list({ lst: deflateSync(Buffer.alloc(1000)).subarray(0, -4).toString('base64url') })), ['lst'], 'a stream that was cut off'],
    [issue(list({ lst: undefined })), ['lst'], 'no list'],
  ]) {
    serve(token);
    await refused(explorer, { uri, idx: 0 }, checks, what);
  }
  // An empty list has no entries, as for `statuslist check`: an answer about the credential, with nothing to show.
  serve(issue(list({ lst: lst([]) })));
  const empty = await explorer.ask(uri, 0);
  assert.deepEqual([empty.verdict, failed(empty), empty.picture], ['outside', ['lst', 'idx'], false], empty.why);
  serve(issue({ ...good, exp: null }));
  await refused(explorer, { uri, idx: 0 }, ['exp'], 'exp is null');
  serve(issue({ ...good, status_list: [1, lst([0])] }));
  await refused(explorer, { uri, idx: 0 }, ['status_list'], 'an array for the list');
  // A bomb: 64 MiB and one byte from some 64 KiB. The control is one byte less.
  serve(issue(list({ lst: lst(Buffer.alloc((64 << 20) + 1)) })));
  assert.match((await refused(explorer, { uri, idx: 0 }, ['lst'], 'a bomb')).why, /more than 64 MiB/);
  serve(issue(list({ bits: 8, lst: lst(Buffer.alloc(64 << 20)) })));
  assert.equal((await explorer.ask(uri, (64 << 20) - 1)).verdict, 'valid', 'the largest list there is');
  host.instead.clear();
  await explorer.close();
}

// Statuses beyond the registered ones, in a small list: cells are large, and each has its glyph.
async function otherStatuses(browser, host, { uri }) {
  const { issue, jwks } = issuer();
  const now = Math.floor(Date.now() / 1000);
  const bytes = Uint8Array.from({ length: 128 }, (_, n) => (n % 8 === 3 ? (n >> 3) * 17 : 0));
  host.instead.set('/lists/jwks.json', jwks);
  host.instead.set(host.pathOf(uri), issue({ sub: uri, iat: now, exp: now + 3600, ttl: 60, status_list: { bits: 4, lst: lst(bytes) } }));
  for (const dark of [false, true]) {
    const explorer = await Explorer.open(browser, `${host.origin}/`, { dark });
    for (const value of [3, 12, 11]) {
      const idx = 2 * (value * 8 + 3);
      const answer = await explorer.ask(uri, idx);
      const title = `${value === 11 ? 'UNREGISTERED' : 'APPLICATION'} 0x0${value.toString(16)}`;
      assert.deepEqual([answer.verdict, answer.title], ['other', title]);
    }
    await explorer.accessible('statuses of an application');
    await explorer.screenshot(`application-${dark ? 'dark' : 'light'}`);
    await explorer.close();
  }
  host.instead.clear();
}

// Lists of another origin are read there, with its keys; without keys, nothing is called verified.
async function keysOfOthers(browser, host, elsewhere, { uri, idx }) {
  // On other origins no file names are tried: a URI is fetched unchanged. Here the media type is wrong, which is noted.
  const { pathname } = new URL(uri);
  host.instead.set(pathname, await host.read(host.pathOf(uri)));
  const explorer = await Explorer.open(browser, `${elsewhere.origin}/`, { origins: [host.origin] });
  const answer = await explorer.ask(uri, idx);
  assert.deepEqual([answer.verdict, answer.checks.served], ['valid', 'note'], answer.why);
  const line = await explorer.page.locator('[data-check="signature"]').textContent();
  assert(line.includes(`${host.origin}/lists/jwks.json`), line);
  assert.equal(explorer.requests.filter((request) => request.url().startsWith(`${elsewhere.origin}/lists`)).length, 0);

  host.cors = false;
  const blocked = await explorer.ask(uri, idx);
  assert.equal(blocked.verdict, 'missing');
  assert.match(blocked.why, /CORS/);
  host.cors = true;
  await explorer.close({ errorsExpected: [/blocked by CORS policy/] });

  const here = await Explorer.open(browser, `${host.origin}/`);
  host.instead.set('/lists/jwks.json', await elsewhere.read('/lists/jwks.json'));
  await refused(here, { uri, idx }, ['signature'], 'the keys of another issuer');
  host.instead.set('/lists/jwks.json', null);
  const keyless = await here.ask(uri, idx);
  assert.deepEqual([keyless.verdict, keyless.checks.signature, keyless.banner], ['unverified', 'unable', true]);
  assert.equal(keyless.title, 'Not verified');
  host.instead.clear();
  await here.close();
}

// A browser without Ed25519 says so, and does not call the signature wrong.
async function withoutEd25519(browser, host, { uri, idx }) {
  const explorer = await Explorer.open(browser, `${host.origin}/`);
  await explorer.page.evaluate(() => {
    const importKey = crypto.subtle.importKey.bind(crypto.subtle);
    crypto.subtle.importKey = async (format, key, algorithm, ...rest) => {
      if (algorithm.name === 'Ed25519') throw new DOMException('as an older browser answers', 'NotSupportedError');
      return importKey(format, key, algorithm, ...rest);
    };
  });
  const answer = await explorer.ask(uri, idx);
  assert.deepEqual([answer.verdict, answer.checks.signature], ['unverified', 'unable']);
  assert.match(answer.why, /cannot verify Ed25519/);
  await explorer.close();
}

// Over plain http from another name than localhost there is no WebCrypto.
async function insecure(browser, host, { uri, idx }) {
  const address = `http://status.example:${new URL(host.origin).port}/`;
  const explorer = await Explorer.open(browser, address, { origins: [host.origin] });
  host.instead.set(new URL(uri).pathname, await host.read(host.pathOf(uri)));
  const answer = await explorer.ask(uri, idx);
  assert.deepEqual([answer.verdict, answer.title, answer.checks.signature], ['unverified', 'Not verified', 'unable']);
  assert.match(answer.why, /https or from localhost/);
  assert.deepEqual([answer.picture, answer.banner], [true, true]);
  await explorer.accessible('without WebCrypto');
  await explorer.screenshot('insecure');
  await explorer.close();
}
