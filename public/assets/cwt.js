// A Status List Token in CWT format: a tagged COSE_Sign1. Accepts and refuses the same as `statuslist check`: header parameters of
// the wrong type, for example, are refused.
import { Float, Tagged, plain, readCbor, utf8 } from './cbor.js';
import { flaws, isText, lifetime, time } from './claims.js';

const ALGORITHMS = new Map([
  [-7, 'ES256'], [-9, 'ESP256'], [-35, 'ES384'], [-51, 'ESP384'], [-36, 'ES512'], [-52, 'ESP512'], [-8, 'EdDSA'], [-19, 'Ed25519'],
  [-257, 'RS256'], [-37, 'PS256'],
]);
const LABEL = { alg: 1, crit: 2, kid: 4, typ: 16, x5chain: 33 };
const CLAIM = { iss: 1, sub: 2, exp: 4, nbf: 5, iat: 6, statusList: 65533, ttl: 65534 };
const COAP_CONTENT_FORMAT = 279;
const MEDIA_TYPE = 'application/statuslist+cwt';

export function readCwt(bytes) {
  const sign1 = readCbor(bytes);
  if (!(sign1 instanceof Tagged) || sign1.tag !== 18) throw new Error('a CWT list is a COSE_Sign1 with tag 18');
  const [protectedBytes, unprotectedHeader, payloadBytes, signature] = Array.isArray(sign1.value) ? sign1.value : [];
  if (sign1.value?.length !== 4 || ![protectedBytes, payloadBytes, signature].every((item) => item instanceof Uint8Array)) {
    throw new Error('a COSE_Sign1 is a protected header, a header, a payload and a signature');
  }
  const header = protectedBytes.length === 0 ? new Map() : asMap('protected header', readCbor(protectedBytes));
  const unprotected = asMap('header', unprotectedHeader);
  const payload = asMap('payload', readCbor(payloadBytes));
  for (const label of header.keys()) {
    if (unprotected.has(label)) throw new Error(`the parameter ${label} is in both headers`);
  }
  const parameter = (label) => (header.has(label) ? header.get(label) : unprotected.get(label));
  const list = payload.get(CLAIM.statusList) instanceof Map ? payload.get(CLAIM.statusList) : undefined;
  const typ = header.get(LABEL.typ);
  const alg = header.get(LABEL.alg);
  const lst = list?.get('lst');
  const date = (value) => time(typeof value === 'bigint' ? Number(value) : value instanceof Float ? value.value : value);
  const ttl = payload.get(CLAIM.ttl);
  return {
    format: 'CWT',
    wantedTyp: MEDIA_TYPE,
    typ: typ === COAP_CONTENT_FORMAT ? MEDIA_TYPE : typ,
    alg: ALGORITHMS.get(alg) ?? (alg === undefined ? undefined : `COSE ${alg}`),
    kid: kidOf(parameter(LABEL.kid)),
    crit: parameter(LABEL.crit),
    flaws: flaws({
      kid: [parameter(LABEL.kid), (kid) => kid instanceof Uint8Array && kid.length > 0],
      x5chain: [parameter(LABEL.x5chain), (chain) => [chain].flat().every((der) => der instanceof Uint8Array)],
      iss: [payload.get(CLAIM.iss), isText],
      status_list: [payload.has(CLAIM.statusList) ? payload.get(CLAIM.statusList) : null, (value) => value instanceof Map],
      aggregation_uri: [list?.get('aggregation_uri'), isText],
    }),
    claims: {
      iss: payload.get(CLAIM.iss),
      sub: payload.get(CLAIM.sub),
      iat: date(payload.get(CLAIM.iat)),
      nbf: date(payload.get(CLAIM.nbf)),
      exp: date(payload.get(CLAIM.exp)),
      ttl: lifetime(typeof ttl === 'bigint' ? Number(ttl) : ttl),
      bits: list?.get('bits'),
      aggregationUri: list?.get('aggregation_uri'),
    },
    lst: () => {
      if (!(lst instanceof Uint8Array)) throw new Error('is missing');
      return lst;
    },
    lstLength: lst instanceof Uint8Array ? lst.length : undefined,
    signingInput: sigStructure(protectedBytes, payloadBytes),
    signature,
    shown: { protected: plain(header), unprotected: plain(unprotected), payload: plain(payload) },
  };
}

// As the JWKS has it, in text; bytes that are not text are the id of none of its keys.
function kidOf(kid) {
  try {
    return kid instanceof Uint8Array ? utf8(kid) : kid;
  } catch {
    return kid;
  }
}

// RFC 9052, "Signing and Verification Process": the bytes that a COSE_Sign1 signs.
function sigStructure(protectedBytes, payload) {
  const context = new TextEncoder().encode('Signature1');
  const pieces = [
    [0x84], head(3, context.length), context, head(2, protectedBytes.length), protectedBytes, head(2, 0), head(2, payload.length), payload,
  ];
  const whole = new Uint8Array(pieces.reduce((length, piece) => length + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}

function head(major, length) {
  const first = major << 5;
  if (length < 24) return [first | length];
  if (length < 0x100) return [first | 24, length];
  if (length < 0x10000) return [first | 25, length >> 8, length & 0xff];
  return [first | 26, length >>> 24, (length >> 16) & 0xff, (length >> 8) & 0xff, length & 0xff];
}

function asMap(what, value) {
  if (!(value instanceof Map)) throw new Error(`the ${what} of the CWT is not a map`);
  return value;
}
