// The work of a Relying Party with a Status List Token in JWT format: verify it, and read the status at an index.
import encoding from 'k6/encoding';
import http from 'k6/http';
import { unzlibSync } from './vendor/fflate.js';
import { SITE } from './settings.js';

const ALGORITHMS = {
  ES256: [{ name: 'ECDSA', namedCurve: 'P-256' }, { name: 'ECDSA', hash: 'SHA-256' }],
  ES384: [{ name: 'ECDSA', namedCurve: 'P-384' }, { name: 'ECDSA', hash: 'SHA-384' }],
};
const keys = {};
const arrays = new Map();
const ARRAYS_MAX = 4;

// Returns the claims of a token, or throws an error that names the fault.
export async function verified(token, uri) {
  const [header, claims, signature] = token.split('.');
  const { alg, kid, typ } = parsed(header);
  if (typ !== 'statuslist+jwt') throw new Error(`typ is ${typ}`);
  if (!ALGORITHMS[alg]) throw new Error(`these scripts verify ES256 and ES384, not ${alg}`);
  // Encodes the text at once; a loop over its characters would take longer than everything else.
  const input = encoding.b64decode(encoding.b64encode(`${header}.${claims}`));
  const key = await keyOf(kid, alg);
  if (!(await crypto.subtle.verify(ALGORITHMS[alg][1], key, bytes(signature), input))) throw new Error('the signature is wrong');
  const said = claimsOf(token);
  const now = Date.now() / 1000;
  if (said.sub !== uri) throw new Error(`sub is ${said.sub}`);
  if (said.iat > now + 60) throw new Error(`iat is ${said.iat - now} s ahead`);
  if (said.exp <= now) throw new Error('it has expired');
  return said;
}

// The claims of a token, unverified.
export const claimsOf = (token) => parsed(token.split('.')[1]);

// The status at an index of claims.
export function statusAt({ status_list: { bits, lst } }, index) {
  const array = unpacked(lst);
  const place = index * bits;
  return (array[place >> 3] >> (place & 7)) & ((1 << bits) - 1);
}

// Caches the unpacked list: unpacking costs k6 several milliseconds, and the list does not change until the next
// publication.
function unpacked(lst) {
  if (!arrays.has(lst)) {
    if (arrays.size === ARRAYS_MAX) arrays.clear();
    arrays.set(lst, unzlibSync(new Uint8Array(bytes(lst))));
  }
  return arrays.get(lst);
}

async function keyOf(kid, alg) {
  if (!keys[kid]) {
    const set = http.get(`${SITE}/jwks.json`, { tags: { name: 'jwks' } }).json('keys');
    const jwk = set.find((key) => key.kid === kid);
    if (!jwk) throw new Error(`no key ${kid} is published`);
    const { kty, crv, x, y } = jwk;
    keys[kid] = await crypto.subtle.importKey('jwk', { kty, crv, x, y }, ALGORITHMS[alg][0], false, ['verify']);
  }
  return keys[kid];
}

const bytes = (text) => encoding.b64decode(text, 'rawurl');
const parsed = (part) => JSON.parse(encoding.b64decode(part, 'rawurl', 's'));
