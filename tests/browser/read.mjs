// What the page reads from credentials and indices, and what it says of everything else. Its modules alone, without a browser.
// Needs Node and nothing else: node tests/browser/read.mjs
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { Tag, cbor, cwt, mdoc, response } from './cbor.mjs';
import { referencesIn } from '../../public/assets/credential.js';
import { readIndex } from '../../public/assets/indices.js';

const uri = 'https://status.example/lists/1';
const status = (idx) => ({ status_list: { idx, uri } });
const base64url = (value) => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');
const jwt = (claims) => `${base64url({ alg: 'ES256' })}.${base64url(claims)}.c2ln`;

let checks = 0;
function reads(content, wanted, what) {
  checks += 1;
  const found = referencesIn(content).map((reference) => [reference.uri, reference.idx, reference.what]);
  assert.deepEqual(found, wanted.map(([idx, kind, of = uri]) => [of, idx, kind]), what);
}

function refuses(content, message, what) {
  checks += 1;
  assert.throws(() => referencesIn(content), ({ message: said }) => message.test(said), what ?? String(message));
}

// The examples of the specification, whoever made them: as text, in both encodings, and as bytes.
const { tokens } = JSON.parse(readFileSync(new URL('../vectors/referenced_tokens.json', import.meta.url)));
for (const { name, text, hex, ...expected } of tokens) {
  const bytes = hex ? Buffer.from(hex, 'hex') : Buffer.from(text);
  const forms = hex ? [hex, hex.toUpperCase(), hex.match(/.{1,66}/g).join('\n'), `h'${hex}'`, bytes.toString('base64url'), bytes.toString('base64')] : [text];
  for (const form of [new Uint8Array(bytes), ...forms]) {
    checks += 1;
    const [{ uri: readUri, idx }, ...more] = referencesIn(form);
    assert.deepEqual([readUri, idx, more], [expected.uri, expected.idx, []], `${name}: ${form.slice(0, 30)}`);
  }
}

// mdocs, in each structure that people have of them.
const { object, objectBytes, issuerAuth, issuerSigned, document } = mdoc(status(42));
const kind = 'mdoc (`org.iso.18013.5.1.mDL`)';
for (const [value, what] of [
  [issuerSigned, 'IssuerSigned'], [response(document), 'DeviceResponse'], [document, 'Document'], [issuerAuth, 'IssuerAuth'],
  [new Tag(18, issuerAuth), 'IssuerAuth with a tag'], [objectBytes, 'MobileSecurityObjectBytes'], [object, 'MobileSecurityObject'],
  [{ issuerAuth }, 'IssuerSigned without data'], [{ issuerAuth: new Tag(18, issuerAuth) }, 'with a tag that it must not have'],
  [[...issuerAuth.slice(0, 2), cbor(object), issuerAuth[3]], 'without the tag 24 that it must have'], [new Tag(24, cbor(issuerSigned)), 'in a byte string'],
]) {
  const bytes = cbor(value);
  for (const form of [new Uint8Array(bytes), bytes.toString('hex'), bytes.toString('base64url'), bytes.toString('base64'), `"${bytes.toString('base64url')}"\n`]) {
    reads(form, [[42, kind]], what);
  }
}
const other = mdoc(status(7), 'eu.europa.ec.eudi.pid.1').document;
const bothTypes = response(document, mdoc(undefined).document, other, document);
reads(new Uint8Array(cbor(bothTypes)), [[42, kind], [7, 'mdoc (`eu.europa.ec.eudi.pid.1`)']], 'several documents, one without status, one twice');
reads(new Uint8Array(cbor(mdoc({ status_list: { idx: 3, uri, certificate: Buffer.alloc(9) }, identifier_list: { id: Buffer.alloc(2), uri } }).object)), [[3, kind]]);

for (const [value, message] of [
  [mdoc(undefined).issuerSigned, /mdoc \(`org\.iso\.18013\.5\.1\.mDL`\) has no `status\.status_list`, so no/],
  [mdoc({ identifier_list: { id: Buffer.alloc(2), uri } }).issuerSigned, /identifier list/],
  [mdoc({ another: {} }).issuerSigned, /only `another`/],
  [mdoc(status(-1)).issuerSigned, /whole number, 0 or greater, not -1/],
  [mdoc(status('1')).issuerSigned, /whole number, 0 or greater, not "1"/],
  [mdoc({ status_list: { idx: 1 } }).issuerSigned, /uri/],
  [response(), /neither an mdoc|no document/],
  [{ version: '1.0', status: 10 }, /no document/],
  [{ nameSpaces: {} }, /without its `issuerAuth`/],
  [new Map([[0, '1.0'], [1, [1, new Tag(24, cbor(new Map()))]]]), /device engagement/],
  [{ data: Buffer.alloc(20) }, /encrypted/],
  [{ docRequests: [], version: '1.0' }, /request to a wallet/],
  [new Tag(16, [Buffer.alloc(1), new Map(), Buffer.alloc(9)]), /encrypted/],
  [[Buffer.alloc(1), new Map(), Buffer.alloc(9)], /encrypted/],
  [[Buffer.alloc(0), new Map(), null, Buffer.alloc(64)], /detached/],
  [[Buffer.alloc(0), new Map(), Buffer.from([0xff]), Buffer.alloc(64)], /not CBOR/],
  [[1, 2, 3, 4], /neither an mdoc nor a CWT/], [{ a: 1 }, /neither an mdoc nor a CWT/], [7, /neither an mdoc nor a CWT/], [new Tag(1004, '2026-01-01'), /neither/],
]) {
  refuses(new Uint8Array(cbor(value)), message);
  refuses(cbor(value).toString('hex'), message);
}
// Structures within structures end, long before the stack does.
let deep = cbor(object);
for (let n = 0; n < 2000; n += 1) deep = cbor([Buffer.alloc(0), new Map(), deep, Buffer.alloc(0)]);
refuses(new Uint8Array(deep), /neither an mdoc nor a CWT/);

// CWTs.
const claims = new Map([[1, 'https://issuer.example'], [65535, status(12)]]);
for (const value of [cwt(claims), new Tag(61, cwt(claims)), new Tag(17, cwt(claims).value), cwt(claims).value, claims]) {
  reads(new Uint8Array(cbor(value)), [[12, 'CWT']]);
  reads(cbor(value).toString('base64url'), [[12, 'CWT']]);
}
for (const claim of [{ status: status(5) }, status(5)]) reads(cbor(claim).toString('hex'), [[5, '`status` claim']]);
refuses(cbor(cwt(new Map([[1, 'x']]))).toString('hex'), /CWT has no `status\.status_list`/);
refuses(cbor(cwt(new Map([[65533, { bits: 1, lst: Buffer.alloc(3) }]]))).toString('hex'), /status list, not a credential/);
refuses(new Uint8Array(cbor(cwt(new Map([[65535, { status_list: { idx: 2 ** 60, uri } }]])))), /not 1152921504606846976/, 'an idx beyond what is exact');

// JWTs and JSON.
for (const [text, wanted] of [
  [jwt({ status: status(1) }), [[1, 'JWT']]],
  [`${jwt({ status: status(1), vct: 'urn:id' })}~WyJ4Il0~`, [[1, 'SD-JWT VC (`urn:id`)']]],
  [`${jwt({ status: status(1) })}~`, [[1, 'SD-JWT']]],
  [`  "${jwt({ status: status(1) }).replace('.', '.\n ')}"\n`, [[1, 'JWT']]],
  [JSON.stringify({ status: status(2) }), [[2, 'JSON']]], [JSON.stringify(status(2)), [[2, 'JSON']]],
  [JSON.stringify({ uri, idx: 3 }), [[3, 'JSON']]], [JSON.stringify({ uri, index: 3 }), [[3, 'JSON']]],
  [JSON.stringify({ payload: base64url({ status: status(4) }), protected: 'e30', signature: 'c2ln' }), [[4, 'JWT']]],
  [JSON.stringify({ credential: jwt({ status: status(5) }) }), [[5, 'JWT']]],
  [JSON.stringify({ credentials: [{ credential: jwt({ status: status(5) }) }, { credential: cbor(issuerSigned).toString('base64url') }] }), [[5, 'JWT'], [42, kind]]],
  [JSON.stringify({ vp_token: { pid: [`${jwt({ status: status(6) })}~`], mdl: [cbor(response(document)).toString('base64url')] } }), [[6, 'SD-JWT'], [42, kind]]],
  [JSON.stringify({ vp_token: jwt({ status: status(6) }) }), [[6, 'JWT']]],
  [`https://any.example/explorer/#${new URLSearchParams({ uri, idx: '8' })}`, [[8, 'link of this page']]],
  [`http://127.0.0.1/#${new URLSearchParams({ uri })}`, [[undefined, 'link of this page']]],
]) {
  reads(text, wanted, text);
  reads(new Uint8Array(Buffer.from(text)), wanted, `${text} in a file`);
}
reads(new Uint8Array(Buffer.from(`\ufeff${jwt({ status: status(1) })}`, 'utf16le')), [[1, 'JWT']], 'as Windows PowerShell writes files');
reads(new Uint8Array(Buffer.from(`\ufeff${jwt({ status: status(1) })}`)), [[1, 'JWT']], 'with a byte order mark');

for (const [text, message] of [
  ['', /Paste a credential/], [' \n', /Paste a credential/], ['hello', /not a JWT/], ['-----BEGIN CERTIFICATE-----', /not a JWT/], ['{"a":', /like JSON/],
  [jwt({}), /JWT has no `status\.status_list`, so/], [jwt({ status: { other: 1 } }), /only `other`/], [jwt({ status: null }), /no `status/], ['e30.!.c2ln', /not base64url/],
  [jwt(null), /no `status/], [jwt({ status: status(1.5) }), /not 1\.5/], [jwt({ status: { status_list: [] } }), /uri/], [jwt({ status_list: { bits: 1, lst: 'eNo' } }), /not a credential/],
  ['a.b.c.d.e', /JWE/], ['mdoc:owBjMS4wAYIB2BhYS6Q', /device engagement/], ['openid4vp://?client_id=x', /asks a wallet/], ['openid-credential-offer://?x', /asks a wallet/],
  ['HC1:6BFOXN', /no credential that begins with `hc1:`/], ['https://status.example/lists/1', /address, not a credential/], [`https://a.example/#uri=${uri}&idx=1.000`, /two numbers/],
  ['{"credential":{"credential":{"credential":"x"}}}', /no `status/], ['{"credentials":[null,7]}', /no `status/], ['{"vp_token":{"a":[]}}', /no `status/],
  [cbor(issuerSigned).subarray(0, -9).toString('hex'), /truncated.*|Was all of it copied/], ['x'.repeat((1 << 20) + 1), /more than 1\.0 MiB/],
]) refuses(text, message, text.slice(0, 80));
refuses(new Uint8Array((1 << 20) + 1), /more than 1\.0 MiB/);
refuses(new Uint8Array([0x25, 0x50, 0x44, 0x46, 0, 1, 2]), /not a JWT.*As CBOR/s, 'another kind of file');
for (let n = 0; n < 5000; n += 1) {
  const bytes = new Uint8Array(cbor(response(document)));
  for (let flips = 0; flips < 3; flips += 1) bytes[Math.floor(Math.random() * bytes.length)] = Math.floor(Math.random() * 256);
  try {
    referencesIn(bytes);
  } catch (error) {
    assert.equal(error.constructor, Error, `${Buffer.from(bytes).toString('hex')}: ${error.stack}`);
  }
}

// Indices.
for (const [text, idx] of [
  ['', undefined], ['  ', undefined], ['0', 0], ['007', 7], ['4711', 4711], [' 4711\n', 4711], ['1,000', 1000], ['1 000', 1000], ['1\u00a0000', 1000], ['1\u202f000', 1000],
  ['1\u2009000\u2009000', 1_000_000], ['1_000_000', 1_000_000], ['1’000', 1000], ["12'345'678", 12_345_678], ['999,999', 999_999], ['9,007,199,254,740,991', Number.MAX_SAFE_INTEGER],
]) {
  checks += 1;
  assert.equal(readIndex(text), idx, JSON.stringify(text));
}
for (const [text, message] of [
  ['1.000', /two numbers.*without the dot: `1000`/], ['1.000.000', /`1000000`/], ['-1', /whole number/], ['1.5', /whole number/], ['x', /whole number/], ['1e3', /whole number/], ['0x10', /whole number/],
  ['+1', /whole number/], ['1,00', /groups of three/], ['1,0000', /groups of three/], ['1,000 000', /groups of three/], ['0,001', /groups of three/], ['1,', /groups of three/], ['1,,000', /groups of three/],
  ['9007199254740993', /whole number/], ['١', /whole number/], ['1 000 x', /whole number/],
]) {
  checks += 1;
  assert.throws(() => readIndex(text), ({ message: said }) => message.test(said), text);
}
console.log(`${checks} checks`);
