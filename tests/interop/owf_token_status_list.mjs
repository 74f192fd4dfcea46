// Proves that @owf/token-status-list reads our lists in both formats, from the same URI, and that it takes the same from them.
// The CWT's Sig_structure is built by @owf/cose, the signature checked by Node's own crypto; the JWT is verified by jose.
// Control: the CWT's signature fails once one byte of its payload has changed.
//
// The library takes exp, ttl and aggregation_uri of a CWT for required, which the specification does not: the list's pool needs
// an aggregation. Environment: LIST_URI, JWKS_URL, IDX, EXPECTED (the status at IDX, a number).
// Optional: FORMATS (default "cwt,jwt"); AGGREGATION_URI (what the list must name; "none" for nothing, and then FORMATS=jwt).
import { createPublicKey, verify } from 'node:crypto';
import { Sign1 } from '@owf/cose';
import { StatusListCwt, getListFromStatusListJWT } from '@owf/token-status-list';
import { createLocalJWKSet, jwtVerify } from 'jose';

const HASH_OF_COSE_ALGORITHM = { [-7]: 'sha256', [-35]: 'sha384', [-8]: null };
const ATTEMPTS = 20;

function expect(holds, reason) {
  if (!holds) throw new Error(reason);
}

function setting(name) {
  expect(process.env[name], `set the environment variable ${name}`);
  return process.env[name];
}

async function get(uri, mediaType) {
  const response = await fetch(uri, { headers: { Accept: mediaType } });
  expect(response.status === 200, `GET ${uri} as ${mediaType} answered ${response.status}`);
  const contentType = response.headers.get('content-type');
  expect(contentType === mediaType, `GET ${uri} as ${mediaType} answered with Content-Type ${contentType}`);
  return new Uint8Array(await response.arrayBuffer());
}

async function isGenuine(sign1, jwks) {
  const kid = Buffer.from(sign1.unprotectedHeaders.headers.get(4) ?? '').toString();
  const jwk = jwks.keys.find((key) => key.kid === kid);
  expect(jwk, `the CWT's kid "${kid}" is not in the key set`);
  const algorithm = sign1.protectedHeaders.headers.get(1);
  expect(algorithm in HASH_OF_COSE_ALGORITHM, `the CWT's alg ${algorithm} is none of ours`);
  expect(sign1.signatureAlgorithmName === jwk.alg, `the CWT's alg is ${sign1.signatureAlgorithmName}, its key's ${jwk.alg}`);
  // ieee-p1363: a COSE signature is r and s side by side, never DER.
  const key = { key: createPublicKey({ key: jwk, format: 'jwk' }), dsaEncoding: 'ieee-p1363' };
  const hash = HASH_OF_COSE_ALGORITHM[algorithm];
  return sign1.verifySignature({ key }, { verify: async ({ sign1 }) => verify(hash, sign1.toBeSigned, key, sign1.signature) });
}

async function readCwt(uri, jwks) {
  const bytes = await get(uri, 'application/statuslist+cwt');
  const sign1 = Sign1.decode(bytes);
  expect(await isGenuine(sign1, jwks), "the CWT's signature is not by our key");
  // Read here and not from StatusListCwt, which adds the type where a token lacks it.
  const typ = sign1.protectedHeaders.headers.get(16);
  expect(typ === 'application/statuslist+cwt', `the CWT's protected header 16 is ${typ}`);

  const forged = Sign1.decode(bytes.slice());
  forged.payload[forged.payload.length - 1] ^= 1;
  expect(!(await isGenuine(forged, jwks)), 'control: a changed payload passes the signature check');

  const { payload } = StatusListCwt.fromToken(bytes);
  const seconds = (date) => date && date.getTime() / 1000;
  return { sub: payload.subject, iat: seconds(payload.issuedAt), exp: seconds(payload.expirationTime), ttl: payload.timeToLive,
    aggregationUri: payload.statusList.aggregationUri, list: payload.statusList };
}

async function readJwt(uri, jwks) {
  const token = Buffer.from(await get(uri, 'application/statuslist+jwt')).toString();
  const { payload, protectedHeader } = await jwtVerify(token, createLocalJWKSet(jwks), { typ: 'statuslist+jwt' });
  expect(protectedHeader.typ === 'statuslist+jwt', `the JWT's typ is ${protectedHeader.typ}`);
  const { sub, iat, exp, ttl, status_list } = payload;
  return { sub, iat, exp, ttl, aggregationUri: status_list.aggregation_uri, list: getListFromStatusListJWT(token) };
}

async function readAll(uri, jwks, formats) {
  const readers = { cwt: readCwt, jwt: readJwt };
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const tokens = await Promise.all(formats.map((format) => readers[format](uri, jwks)));
    // A publication between the two requests is no fault: read again.
    if (tokens.every((token) => token.iat === tokens[0].iat)) return tokens;
  }
  throw new Error(`JWT and CWT had different iat in ${ATTEMPTS} attempts, so they are not of one publication`);
}

async function checkAggregation(aggregationUri, listUri) {
  const expected = process.env.AGGREGATION_URI;
  expect(!expected || (aggregationUri ?? 'none') === expected, `aggregation_uri is ${aggregationUri ?? 'none'}, not ${expected}`);
  if (aggregationUri === undefined) return;
  const { status_lists } = JSON.parse(Buffer.from(await get(aggregationUri, 'application/json')).toString());
  expect(status_lists?.includes(listUri), `the aggregation at ${aggregationUri} does not name ${listUri}`);
}

function same({ list: a, ...claims }, { list: b, ...others }) {
  const bytes = (list) => Buffer.from(list.encodeStatusListIntoByteArray());
  const sameClaims = JSON.stringify(claims) === JSON.stringify(others);
  return sameClaims && a.getBitsPerStatus() === b.getBitsPerStatus() && bytes(a).equals(bytes(b));
}

async function check() {
  const [uri, idx, expected] = [setting('LIST_URI'), Number(setting('IDX')), Number(setting('EXPECTED'))];
  const formats = (process.env.FORMATS ?? 'cwt,jwt').split(',');
  const jwks = await (await fetch(setting('JWKS_URL'))).json();
  const tokens = await readAll(uri, jwks, formats);
  tokens.forEach(({ sub, iat, exp, ttl, list }, i) => {
    const now = Date.now() / 1000;
    expect(sub === uri, `${formats[i]}: sub is ${sub}, not ${uri}`);
    expect(iat <= now && exp > now, `${formats[i]}: iat ${iat} and exp ${exp} do not enclose the present, ${now}`);
    expect(Number.isInteger(ttl) && ttl > 0, `${formats[i]}: ttl ${ttl} is not a positive integer`);
    expect(list.getStatus(idx) === expected, `${formats[i]}: status at ${idx} is ${list.getStatus(idx)}, not ${expected}`);
  });
  for (const token of tokens) expect(same(token, tokens[0]), 'JWT and CWT of one publication say different things');
  await checkAggregation(tokens[0].aggregationUri, uri);
  const { list, aggregationUri } = tokens[0];
  const shape = `${list.statusList.length} entries of ${list.getBitsPerStatus()} bits`;
  return `${formats.join(' and ')}: status ${expected} at ${idx}, ${shape}, aggregation ${aggregationUri ?? 'none'}`;
}

try {
  console.log(`owf_token_status_list: ok: ${await check()}`);
} catch (error) {
  const cause = error.cause?.message ? ` (${error.cause.message})` : '';
  console.error(`owf_token_status_list: FAILED: ${error.message}${cause}`.replace(/\s+/g, ' '));
  process.exit(1);
}
