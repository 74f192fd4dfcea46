// Bytes → a decoded Status List Token, in either format. Verifies nothing: that is for verify.js and judge.js.
import { decode, decodeJson } from './base64url.js';
import { flaws, isText, lifetime, time } from './claims.js';
import { readCwt } from './cwt.js';

const COSE_SIGN1 = 0xd2;

// Returns `{ format, typ, alg, kid, crit, flaws, claims, lst, lstTextLength, signingInput, signature, shown }`; throws if it cannot be
// read. `lst` is a function: the list's bytes are read only after the signature was checked.
export function readToken(bytes, mediaType) {
  const isCwt = bytes[0] === COSE_SIGN1 || mediaType === 'application/statuslist+cwt';
  return isCwt ? readCwt(bytes) : readJwt(bytes);
}

function readJwt(bytes) {
  const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  const parts = text.split('.');
  if (parts.length !== 3) throw new Error(`a JWT has three parts, this has ${parts.length}: ${excerpt(text)}`);
  const [header, payload] = [part('header', parts[0], decodeJson), part('payload', parts[1], decodeJson)];
  if (!isObject(header) || !isObject(payload)) throw new Error('header and payload of a JWT are JSON objects');
  const list = isObject(payload.status_list) ? payload.status_list : undefined;
  return {
    format: 'JWT',
    wantedTyp: 'statuslist+jwt',
    typ: header.typ,
    alg: header.alg,
    kid: header.kid,
    crit: header.crit,
    flaws: flaws({
      kid: [header.kid, isText],
      x5c: [header.x5c, (chain) => Array.isArray(chain) && chain.every((der) => isText(der) && isBase64(der))],
      jwk: [header.jwk, isObject],
      iss: [payload.iss, isText],
      status_list: [payload.status_list ?? null, isObject],
      aggregation_uri: [list?.aggregation_uri, isText],
    }),
    claims: {
      iss: payload.iss,
      sub: payload.sub,
      iat: time(payload.iat),
      nbf: time(payload.nbf),
      exp: time(payload.exp),
      ttl: lifetime(payload.ttl),
      bits: list?.bits,
      aggregationUri: list?.aggregation_uri,
    },
    lst: () => {
      if (typeof list?.lst !== 'string') throw new Error('is missing');
      return decode(list.lst);
    },
    lstLength: typeof list?.lst === 'string' ? Math.floor((list.lst.length * 3) / 4) : undefined,
    signingInput: new TextEncoder().encode(`${parts[0]}.${parts[1]}`),
    signature: part('signature', parts[2], decode),
    shown: { header, payload },
  };
}

function part(name, text, read) {
  try {
    return read(text);
  } catch (error) {
    throw new Error(`the ${name} ${error instanceof SyntaxError ? 'is not JSON' : error.message}`);
  }
}

function isObject(value) {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

// With padding, and without stray bits at the end.
function isBase64(text) {
  try {
    return text.length % 4 === 0 && btoa(atob(text)) === text;
  } catch {
    return false;
  }
}

function excerpt(text) {
  return JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}…` : text);
}
