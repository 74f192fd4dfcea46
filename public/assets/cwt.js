// A Status List Token in CWT format: a tagged COSE_Sign1. Reads the part of CBOR that such a token needs, within bounds,
// and refuses the rest: lengths that are not given, nesting without end, keys that come twice.

const DEPTH_MAX = 16;
const ITEMS_MAX = 4096;
const ALGORITHMS = new Map([[-7, 'ES256'], [-35, 'ES384'], [-8, 'EdDSA']]);
const LABEL = { alg: 1, crit: 2, kid: 4, typ: 16 };
const CLAIM = { iss: 1, sub: 2, exp: 4, nbf: 5, iat: 6, statusList: 65533, ttl: 65534 };
const COAP_CONTENT_FORMAT = 279;
const MEDIA_TYPE = 'application/statuslist+cwt';

class Tagged {
  constructor(tag, value) {
    Object.assign(this, { tag, value });
  }
}

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
  const list = payload.get(CLAIM.statusList) instanceof Map ? payload.get(CLAIM.statusList) : undefined;
  const kid = header.get(LABEL.kid) ?? unprotected.get(LABEL.kid);
  const typ = header.get(LABEL.typ);
  const alg = header.get(LABEL.alg);
  const lst = list?.get('lst');
  return {
    format: 'CWT',
    wantedTyp: MEDIA_TYPE,
    typ: typ === COAP_CONTENT_FORMAT ? MEDIA_TYPE : typ,
    alg: ALGORITHMS.get(alg) ?? (alg === undefined ? undefined : `COSE ${alg}`),
    kid: kid instanceof Uint8Array ? new TextDecoder().decode(kid) : undefined,
    crit: header.get(LABEL.crit),
    claims: {
      iss: payload.get(CLAIM.iss),
      sub: payload.get(CLAIM.sub),
      iat: payload.get(CLAIM.iat),
      nbf: payload.get(CLAIM.nbf),
      exp: payload.get(CLAIM.exp),
      ttl: payload.get(CLAIM.ttl),
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

// RFC 9052, "Signing and Verification Process": what the signature of a COSE_Sign1 is over.
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

function readCbor(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  let items = 0;
  const cutOff = () => new Error('the CBOR is cut off');

  function argument(info) {
    if (info < 24) return info;
    if (info > 27) throw new Error('the CBOR has a length that is not given beforehand, which is not supported');
    const size = 1 << (info - 24);
    if (at + size > bytes.length) throw cutOff();
    const read = [
      () => view.getUint8(at), () => view.getUint16(at), () => view.getUint32(at), () => Number(view.getBigUint64(at)),
    ];
    const number = read[info - 24]();
    if (!Number.isSafeInteger(number)) throw new Error('the CBOR has a number that is too large');
    at += size;
    return number;
  }

  function take(length) {
    if (length > bytes.length - at) throw cutOff();
    at += length;
    return bytes.subarray(at - length, at);
  }

  function float(info) {
    const size = 1 << (info - 24);
    if (at + size > bytes.length) throw cutOff();
    at += size;
    if (info === 27) return view.getFloat64(at - 8);
    if (info === 26) return view.getFloat32(at - 4);
    throw new Error('the CBOR has a half-precision number, which is not supported');
  }

  function item(depth) {
    items += 1;
    if (depth > DEPTH_MAX || items > ITEMS_MAX) throw new Error('the CBOR is nested or divided more than any list needs');
    if (at >= bytes.length) throw cutOff();
    const initial = bytes[at];
    at += 1;
    const [major, info] = [initial >> 5, initial & 31];
    if (major === 7) {
      const simple = new Map([[20, false], [21, true], [22, null]]);
      if (simple.has(info)) return simple.get(info);
      if (info >= 25 && info <= 27) return float(info);
      throw new Error('the CBOR has a simple value that is not supported');
    }
    const number = argument(info);
    switch (major) {
      case 0: return number;
      case 1: return -1 - number;
      case 2: return take(number);
      case 3: return new TextDecoder('utf-8', { fatal: true }).decode(take(number));
      case 4: {
        const array = [];
        for (let n = 0; n < number; n += 1) array.push(item(depth + 1));
        return array;
      }
      case 5: {
        const map = new Map();
        for (let n = 0; n < number; n += 1) {
          const key = item(depth + 1);
          if (map.has(key)) throw new Error(`the CBOR has the key ${key} twice`);
          map.set(key, item(depth + 1));
        }
        return map;
      }
      default: return new Tagged(number, item(depth + 1));
    }
  }

  const value = item(0);
  if (at !== bytes.length) throw new Error(`${bytes.length - at} bytes follow the CBOR`);
  return value;
}

// As JSON can show it.
function plain(value) {
  if (value instanceof Map) return Object.fromEntries([...value].map(([key, member]) => [String(key), plain(member)]));
  if (value instanceof Uint8Array) return `h'${[...value.subarray(0, 4096)].map((byte) => byte.toString(16).padStart(2, '0')).join('')}'`;
  if (value instanceof Tagged) return { [`tag ${value.tag}`]: plain(value.value) };
  return Array.isArray(value) ? value.map(plain) : value;
}
