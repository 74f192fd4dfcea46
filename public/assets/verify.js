// Verifies a token's signature: WebCrypto with the keys of a JWKS. The key determines the algorithm, and the token's must equal
// it, never the other way round (RFC 8725, section 3.1). A key inside the token is never used.
import { decode } from './base64url.js';

const ecdsa = (crv, hash, size) => ({ kty: 'EC', crv, sizes: { x: size, y: size }, key: { name: 'ECDSA', namedCurve: crv }, check: { name: 'ECDSA', hash } });
const rsa = (name, check = {}) => ({ kty: 'RSA', sizes: { n: undefined, e: undefined }, key: { name, hash: 'SHA-256' }, check: { name, ...check } });
const ALGORITHMS = {
  ES256: ecdsa('P-256', 'SHA-256', 32),
  ES384: ecdsa('P-384', 'SHA-384', 48),
  ES512: ecdsa('P-521', 'SHA-512', 66),
  EdDSA: { kty: 'OKP', crv: 'Ed25519', sizes: { x: 32 }, key: { name: 'Ed25519' }, check: { name: 'Ed25519' } },
  RS256: rsa('RSASSA-PKCS1-v1_5'),
  PS256: rsa('RSA-PSS', { saltLength: 32 }),
};
// RFC 9864 gives a second name to algorithms whose first one leaves the curve open.
const SECOND_NAMES = { ESP256: 'ES256', ESP384: 'ES384', ESP512: 'ES512', Ed25519: 'EdDSA' };
const RSA_BYTES = { least: 256, most: 1024 };

export const ALLOWED = [...Object.keys(ALGORITHMS), ...Object.keys(SECOND_NAMES)];

export const isAllowed = (alg) => ALLOWED.includes(alg);

const firstName = (alg) => (Object.hasOwn(SECOND_NAMES, alg) ? SECOND_NAMES[alg] : alg);

// Returns the keys of a JWK Set that can verify signatures: `{ url, keys }`, or `{ url, problem }`. A key that is damaged or of
// an unused kind does not affect the others (RFC 7517, section 5).
export function usableKeys(set, url) {
  if (!Array.isArray(set?.keys)) return { url, problem: `${url} has no array \`keys\`` };
  return { url, keys: set.keys.map(usable).filter((key) => key !== undefined) };
}

function usable(jwk) {
  if (typeof jwk !== 'object' || jwk === null || Array.isArray(jwk)) return undefined;
  const { kid, exp } = jwk;
  const isFor = (jwk.use ?? 'sig') === 'sig' && jwk.use !== null
    && (jwk.key_ops === undefined || (Array.isArray(jwk.key_ops) && jwk.key_ops.includes('verify')));
  if (!isFor || !['string', 'undefined'].includes(typeof kid) || !['number', 'undefined'].includes(typeof exp)) return undefined;
  // An RSA key could be for several algorithms, so it must name its own.
  const fits = ([name, { kty, crv }]) => kty === jwk.kty && crv === (kty === 'RSA' ? undefined : jwk.crv)
    && (jwk.alg === undefined ? kty !== 'RSA' : firstName(jwk.alg) === name);
  const found = Object.entries(ALGORITHMS).find(fits);
  if (found === undefined) return undefined;
  const [alg, { kty, crv, sizes }] = found;
  const isGood = Object.entries(sizes).every(([name, size]) => {
    const length = lengthOf(jwk[name]);
    return length !== undefined && (size === undefined || length === size);
  });
  if (!isGood || (kty === 'RSA' && (lengthOf(jwk.n) < RSA_BYTES.least || lengthOf(jwk.n) > RSA_BYTES.most))) return undefined;
  const material = Object.fromEntries(Object.keys(sizes).map((name) => [name, jwk[name]]));
  return { kid, alg, jwk: { kty, ...(crv && { crv }), ...material } };
}

function lengthOf(text) {
  try {
    return typeof text === 'string' ? decode(text).length : undefined;
  } catch {
    return undefined;
  }
}

// Returns the key for WebCrypto; null if this browser does not know its kind, undefined if it is not a key.
async function imported({ kid, alg, jwk }) {
  try {
    return { kid, alg, key: await crypto.subtle.importKey('jwk', jwk, ALGORITHMS[alg].key, false, ['verify']) };
  } catch (error) {
    return error.name === 'NotSupportedError' ? { kid, alg, key: null } : undefined;
  }
}

// Returns `{ state, detail }`: `pass`; `fail` if no published key made the signature; `unable` if this page cannot decide.
export async function verify(token, keys) {
  if (!isAllowed(token.alg)) return { state: 'fail', detail: 'not checked, because the algorithm is not allowed' };
  if (!globalThis.crypto?.subtle) {
    return {
      state: 'unable',
      detail: 'this page was not loaded over https or from localhost, and browsers verify signatures only there (“secure context”)',
    };
  }
  if (keys.problem) return { state: 'unable', code: 'trust', detail: `no keys to verify with: ${keys.problem}` };

  const candidates = (await Promise.all(keys.keys.map(imported))).filter((key) => key !== undefined);
  if (candidates.length === 0) return { state: 'fail', code: 'trust', detail: `${keys.url} has no key that this page can verify with` };
  const named = token.kid === undefined ? candidates : candidates.filter((key) => key.kid === token.kid);
  if (named.length === 0) {
    const known = candidates.map((key) => key.kid ?? 'one without kid').join(', ');
    return { state: 'fail', detail: `the token names the key ${token.kid}, but ${keys.url} has ${known}` };
  }
  const fitting = named.filter((key) => key.alg === firstName(token.alg));
  if (fitting.length === 0) return { state: 'fail', detail: `the token says ${token.alg}, but the key it names is of another kind` };

  for (const { kid, alg, key } of fitting.filter((candidate) => candidate.key !== null)) {
    const { check } = ALGORITHMS[alg];
    if (await crypto.subtle.verify(check, key, token.signature, token.signingInput)) {
      const stranger = new URL(keys.url).origin === location.origin ? '' : '; this page cannot know whether it is the issuer’s';
      return { state: 'pass', detail: `made with the key ${kid ?? '(no kid)'} of ${keys.url}${stranger}` };
    }
  }
  if (fitting.some(({ key }) => key === null)) {
    return { state: 'unable', detail: `this browser cannot verify ${ALGORITHMS[firstName(token.alg)].crv ?? token.alg}; one of 2025 or newer can` };
  }
  return { state: 'fail', detail: `it was not made with a key in ${keys.url}: the token was changed, or another key signed it` };
}
