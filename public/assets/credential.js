// A credential as text or bytes → the references in it. Reads it only locally: nothing of a credential goes to any server.
import { decode, decodeJson } from './base64url.js';
import { readCbor } from './cbor.js';
import { readIndex } from './indices.js';
import { referencesInCbor } from './mdoc.js';
import { referenceIn, referencesOf } from './reference.js';
import { bytes } from './words.js';

export const CREDENTIAL_BYTES_MAX = 1 << 20;
const UNKNOWN = 'This is not a JWT, SD-JWT, mdoc, CWT or JSON object. Was all of it copied?';

// `content`: text, or the bytes of a file or of a QR code. Returns `[{ uri, idx, what }]`, with at least one; throws with what to do.
export function referencesIn(content) {
  if (content.length > CREDENTIAL_BYTES_MAX) throw new Error(`This is too large for a credential: more than ${bytes(CREDENTIAL_BYTES_MAX)}.`);
  const text = typeof content === 'string' ? content : textIn(content);
  return text === undefined ? fromBytes(content) : fromText(text);
}

// Undefined if they are not text. Windows also writes text as UTF-16.
function textIn(content) {
  const encoding = content[0] === 0xff && content[1] === 0xfe ? 'utf-16le' : 'utf-8';
  try {
    const text = new TextDecoder(encoding, { fatal: true }).decode(content);
    return /[\0-\x08\x0e-\x1f]/.test(text) ? undefined : text;
  } catch {
    return undefined;
  }
}

function fromText(given, isInner = false) {
  // With the quotation marks that it had within JSON.
  const text = given.trim().replace(/^"(.*)"$/s, '$1').trim();
  if (text === '') throw new Error('Paste a credential first.');
  if (text.startsWith('{')) return fromJson(json(text), 'JSON', isInner);
  const scheme = /^([a-z][a-z0-9+.-]*):/i.exec(text);
  if (scheme) return fromLink(text, scheme[1].toLowerCase());
  // An SD-JWT is the issuer's JWT, then disclosures and perhaps a key binding, separated by tildes. The status is never
  // among the disclosures (SD-JWT VC, "Registered JWT Claims").
  const [issued, ...disclosures] = text.replaceAll(/\s/g, '').split('~');
  const parts = issued.split('.');
  if (parts.length === 3) return fromJwt(parts[1], disclosures.length > 0);
  if (parts.length === 5) throw new Error('This is encrypted (a JWE). Only its recipient can read it.');
  return fromBytes(bytesIn(issued));
}

function fromJwt(payload, isSdJwt) {
  let claims;
  try {
    claims = decodeJson(payload);
  } catch {
    throw new Error('It looks like a JWT, but its payload is not base64url of JSON. Was all of it copied?');
  }
  const type = typeof claims?.vct === 'string' ? ` VC (\`${claims.vct.slice(0, 80)}\`)` : '';
  return fromJson(claims, `${isSdJwt || type ? 'SD-JWT' : 'JWT'}${type}`, true);
}

function fromJson(claims, what, isInner) {
  const held = isInner ? [] : heldIn(claims);
  if (held.length > 0) return referencesOf(held, (one) => (typeof one === 'string' ? fromText(one, true) : fromJson(one, 'JSON', true)));
  // A JWT in JSON serialization.
  if (typeof claims?.payload === 'string' && (claims.signature ?? claims.signatures) !== undefined) return fromJwt(claims.payload, false);
  const isClaim = claims?.status_list !== undefined;
  return [referenceIn(isClaim ? claims : claims?.status ?? bare(claims), what)];
}

// The credentials within an answer of an issuer (OpenID4VCI) or of a wallet (OpenID4VP).
function heldIn({ credential, credentials, vp_token: presented }) {
  const several = Array.isArray(credentials) ? credentials.map((one) => one?.credential ?? one) : [];
  const shown = typeof presented === 'string' ? [presented] : Object.values(presented ?? {}).flat();
  return [credential, ...several, ...shown].filter((one) => typeof one === 'string' || (typeof one === 'object' && one !== null));
}

// A reference as the write API returns it.
function bare(claims) {
  return typeof claims?.uri === 'string' ? { status_list: { uri: claims.uri, idx: claims.idx ?? claims.index } } : undefined;
}

function json(text) {
  try {
    return JSON.parse(text);
  } catch {
    throw new Error('It begins like JSON, but is not valid. Was all of it copied?');
  }
}

// A link of this page is a reference. Links of wallets are in QR codes that look like credentials, but hold none.
function fromLink(text, scheme) {
  if (scheme === 'mdoc') throw new Error('A `mdoc:` link only starts the contact with a wallet (device engagement). It holds no credential.');
  if (/openid|haip|wallet|mdoc|siop/.test(scheme)) throw new Error(`A \`${scheme}:\` link asks a wallet for something, or offers it something. It holds no credential.`);
  if (!['http', 'https'].includes(scheme)) throw new Error(`This page knows no credential that begins with \`${scheme.slice(0, 40)}:\`.`);
  const parameters = new URLSearchParams(URL.canParse(text) ? new URL(text).hash.slice(1) : '');
  const uri = parameters.get('uri');
  if (!uri) throw new Error('This is an address, not a credential. If it is that of a status list, enter it as `uri` in the tab Reference.');
  return [{ uri, idx: readIndex(parameters.get('idx') ?? ''), what: 'link of this page' }];
}

// The bytes that text stands for: hexadecimal digits, base64url or base64.
function bytesIn(text) {
  const digits = /^(?:0x|h')?((?:[0-9a-f]{2})+)'?$/i.exec(text)?.[1];
  if (digits) return Uint8Array.from({ length: digits.length / 2 }, (_, at) => parseInt(digits.slice(2 * at, 2 * at + 2), 16));
  try {
    return decode(text.replaceAll('+', '-').replaceAll('/', '_').replace(/={1,2}$/, ''));
  } catch {
    throw new Error(UNKNOWN);
  }
}

function fromBytes(content) {
  let item;
  try {
    item = readCbor(content);
  } catch (error) {
    throw new Error(`${UNKNOWN} As CBOR it cannot be read: ${error.message}.`);
  }
  return referencesInCbor(item);
}
