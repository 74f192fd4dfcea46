// Whose signature a token has: WebCrypto against the keys of a JWKS. The algorithm is the key's, and the token's must equal
// it, never the other way round (RFC 8725, section 3.1). A key inside the token is never looked at.

const ALGORITHMS = {
  ES256: { kty: 'EC', crv: 'P-256', key: { name: 'ECDSA', namedCurve: 'P-256' }, check: { name: 'ECDSA', hash: 'SHA-256' } },
  ES384: { kty: 'EC', crv: 'P-384', key: { name: 'ECDSA', namedCurve: 'P-384' }, check: { name: 'ECDSA', hash: 'SHA-384' } },
  EdDSA: { kty: 'OKP', crv: 'Ed25519', key: { name: 'Ed25519' }, check: { name: 'Ed25519' } },
};

export const ALLOWED = Object.keys(ALGORITHMS);

export const isAllowed = (alg) => Object.hasOwn(ALGORITHMS, alg);

// `{ state, detail }`: `pass`; `fail` when the signature is not that of a published key; `unable` when nobody can tell here.
export async function verify(token, keys) {
  if (!isAllowed(token.alg)) return { state: 'fail', detail: 'not checked, because the algorithm is not allowed' };
  if (!globalThis.crypto?.subtle) {
    return {
      state: 'unable',
      detail: 'this page was not loaded over https or from localhost, and browsers verify signatures only there (“secure context”)',
    };
  }
  if (keys.problem) return { state: 'unable', detail: `no keys to verify with: ${keys.problem}` };

  const candidates = keys.keys.filter((key) => typeof key === 'object' && key !== null && (key.use ?? 'sig') === 'sig');
  const named = token.kid === undefined ? candidates : candidates.filter((key) => key.kid === token.kid);
  if (named.length === 0) {
    const known = candidates.map((key) => key.kid ?? 'one without kid').join(', ') || 'no key';
    return { state: 'fail', detail: `the token names the key ${token.kid}, but ${keys.url} has ${known}` };
  }
  const { kty, crv, key: keyAlgorithm, check } = ALGORITHMS[token.alg];
  const fitting = named.filter((key) => key.kty === kty && key.crv === crv && (key.alg ?? token.alg) === token.alg);
  if (fitting.length === 0) return { state: 'fail', detail: `the token says ${token.alg}, but the key it names is of another kind` };

  for (const { x, y, kid } of fitting) {
    let key;
    try {
      key = await crypto.subtle.importKey('jwk', { kty, crv, x, y }, keyAlgorithm, false, ['verify']);
    } catch (error) {
      if (error.name === 'NotSupportedError') {
        return { state: 'unable', detail: `this browser cannot verify ${crv}; one of 2025 or newer can` };
      }
      return { state: 'fail', detail: `the published key ${kid ?? ''} cannot be read` };
    }
    if (await crypto.subtle.verify(check, key, token.signature, token.signingInput)) {
      const stranger = new URL(keys.url).origin === location.origin ? '' : '; whether that is the issuer’s is not for this page to know';
      return { state: 'pass', detail: `made with the key ${kid ?? '(no kid)'} of ${keys.url}${stranger}` };
    }
  }
  return { state: 'fail', detail: `it is not that of a key in ${keys.url}: the token was changed, or another key has signed it` };
}
