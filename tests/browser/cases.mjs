// The table of tokens in tests/vectors/verifier/, which client/src/check/cases.rs also runs: the page's modules judge each the same.
// Needs Node and nothing else: node tests/browser/cases.mjs
import assert from 'node:assert/strict';
import { constants, createPrivateKey, sign as signWith } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { deflateSync } from 'node:zlib';

globalThis.location = new URL('https://status.example/explorer/');
const { examine, judge } = await import('../../public/assets/judge.js');
const { readToken } = await import('../../public/assets/token.js');
const { usableKeys } = await import('../../public/assets/verify.js');

const table = JSON.parse(readFileSync(new URL('../vectors/verifier/cases.json', import.meta.url)));
const hex = (text) => Buffer.from(text, 'hex');

function jwks(test) {
  if (test.jwks_text !== undefined) return JSON.parse(test.jwks_text);
  return { keys: (test.jwks ?? table.jwks).map((entry) => {
    if (entry?.$key === undefined) return entry;
    const { $key, ...members } = entry;
    return { ...table.keys[$key].jwk, ...members };
  }) };
}

function members(test, part) {
  const all = Object.entries({ ...table[test.format][part], ...test[part] }).filter(([, value]) => value !== '');
  return [...all, ...(test[`${part}_extra`] ?? [])];
}

function json(test, part) {
  if (test[`${part}_hex`] !== undefined) return hex(test[`${part}_hex`]);
  return Buffer.from(test[`${part}_text`] ?? `{${members(test, part).map(([name, value]) => `"${name}":${value}`).join(',')}}`);
}

function cbor(test, part) {
  if (test[`${part}_text`] !== undefined) return hex(test[`${part}_text`]);
  const map = members(test, part);
  return Buffer.concat([Buffer.from([0xa0 | map.length]), ...map.flat().map(hex)]);
}

function bstr(bytes) {
  const head = bytes.length < 24 ? [0x40 | bytes.length] : bytes.length < 256 ? [0x58, bytes.length] : [0x59, bytes.length >> 8, bytes.length & 255];
  return Buffer.concat([Buffer.from(head), bytes]);
}

function token(test) {
  if (test.format === 'jwt') {
    const input = `${json(test, 'header').toString('base64url')}.${json(test, 'payload').toString('base64url')}`;
    return Buffer.from(`${input}.${signature(test, Buffer.from(input)).toString('base64url')}`);
  }
  const [protectedHeader, payload] = [bstr(cbor(test, 'header')), bstr(cbor(test, 'payload'))];
  const context = Buffer.concat([hex('846a5369676e617475726531'), protectedHeader, hex('40'), payload]);
  return Buffer.concat([
    hex(test.tag ?? 'd2'), hex('84'), protectedHeader, cbor(test, 'unprotected'), payload, bstr(signature(test, context)),
  ]);
}

function signature(test, message) {
  const name = test.key ?? 'p256';
  const key = createPrivateKey({ key: Buffer.from(table.keys[name].pkcs8, 'base64'), format: 'der', type: 'pkcs8' });
  const hash = { p256: 'sha256', p384: 'sha384', p521: 'sha512', rsa: 'sha256' }[name];
  const padding = test.sign === 'PS256' ? { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 } : {};
  return signWith(hash, message, { key, dsaEncoding: 'ieee-p1363', ...padding });
}

async function answer(test) {
  const keys = usableKeys(jwks(test), 'https://status.example/lists/jwks.json');
  const mediaType = `application/statuslist+${test.format}`;
  let read;
  try {
    read = readToken(new Uint8Array(token(test)), mediaType);
  } catch {
    return 'refused: token';
  }
  const examined = await examine(read, mediaType, table.uri, keys, table.now);
  const { checks, verdict } = judge(examined, test.idx ?? 0, table.now);
  const failure = checks.find(({ state }) => state === 'fail' || state === 'unable');
  if (verdict.kind === 'outside') return 'outside';
  if (failure !== undefined) return `refused: ${failure.code ?? failure.id}`;
  return { VALID: 0, INVALID: 1, SUSPENDED: 2 }[verdict.title] ?? examined.list.at(test.idx ?? 0);
}

// Browsers refuse this, Node before version 22 accepts it: bytes after a zlib stream.
async function passesTrailingBytes() {
  const stream = new Blob([deflateSync('x'), 'x']).stream().pipeThrough(new DecompressionStream('deflate'));
  return new Response(stream).arrayBuffer().then(() => true, () => false);
}

const skipped = (await passesTrailingBytes()) ? ['bytes after the zlib stream'] : [];
for (const name of skipped) console.log(`skipped, because this Node cannot tell: ${name}`);
const wrong = [];
for (const test of table.cases.filter(({ name }) => !skipped.includes(name))) {
  const got = await answer(test);
  if (got !== test.expect) wrong.push(`${test.name}: expected ${test.expect}, got ${got}`);
}
assert.deepEqual(wrong, [], `${wrong.length} of ${table.cases.length} cases`);
console.log(`${table.cases.length} cases`);
