// An mdoc (ISO/IEC 18013-5) or a CWT (RFC 8392), as any of the structures that people have of it → the references in it. Reads
// only `status`; verifies nothing, and never looks at the holder's data.
import { Tagged, readCbor } from './cbor.js';
import { IS_A_LIST, referenceIn, referencesOf } from './reference.js';

const TAG = { encrypt0: 16, mac0: 17, sign1: 18, encodedCbor: 24, cwt: 61, encrypt: 96, selfDescribed: 55799 };
const CLAIM = { status: 65535, statusList: 65533 };
const NOTHING_KNOWN = 'This CBOR is neither an mdoc nor a CWT.';
const IS_ENCRYPTED = 'It is encrypted. Only its holder’s wallet or its recipient can read it.';

// From the response of a wallet to the mobile security object there are four.
const LAYERS_MAX = 8;

// Returns `[{ uri, idx, what }]`, with at least one; throws with what is wrong.
export function referencesInCbor(item, layer = 0) {
  const value = withoutTags(item);
  if (layer === LAYERS_MAX) throw new Error(NOTHING_KNOWN);
  if (Array.isArray(value)) return fromCose(value, layer + 1);
  if (value instanceof Map) return fromMap(value, layer + 1);
  throw new Error(NOTHING_KNOWN);
}

function withoutTags(item) {
  let value = item;
  while (value instanceof Tagged) {
    const { tag, value: content } = value;
    if ([TAG.encrypt0, TAG.encrypt].includes(tag)) throw new Error(IS_ENCRYPTED);
    if (tag === TAG.encodedCbor && content instanceof Uint8Array) value = within(content);
    else if ([TAG.sign1, TAG.mac0, TAG.cwt, TAG.selfDescribed].includes(tag)) value = content;
    else throw new Error(NOTHING_KNOWN);
  }
  return value;
}

// The CBOR within a byte string.
function within(content) {
  try {
    return readCbor(content);
  } catch (error) {
    throw new Error(`A part of it is not CBOR: ${error.message}.`);
  }
}

// A COSE_Sign1 or COSE_Mac0: a CWT, or the `issuerAuth` of an mdoc. Its tag is optional.
function fromCose([protectedHeader, header, payload, signature, ...more], layer) {
  if (!(protectedHeader instanceof Uint8Array) || !(header instanceof Map) || more.length > 0) throw new Error(NOTHING_KNOWN);
  if (signature === undefined && payload instanceof Uint8Array) throw new Error(IS_ENCRYPTED);
  if (payload === null) throw new Error('Its payload is missing (a detached signature), and the status is in the payload.');
  if (!(payload instanceof Uint8Array)) throw new Error(NOTHING_KNOWN);
  return referencesInCbor(within(payload), layer);
}

function fromMap(map, layer) {
  // A DeviceResponse has documents, each of them an IssuerSigned, whose `issuerAuth` signs the mobile security object.
  const documents = map.get('documents');
  if (Array.isArray(documents) && documents.length > 0) return referencesOf(documents, (one) => referencesInCbor(one, layer));
  for (const name of ['issuerSigned', 'issuerAuth']) {
    if (map.has(name)) return referencesInCbor(map.get(name), layer);
  }
  if (map.has('valueDigests') || map.has('deviceKeyInfo')) {
    const type = map.get('docType');
    return [referenceIn(map.get('status'), typeof type === 'string' ? `mdoc (\`${type.slice(0, 80)}\`)` : 'mdoc')];
  }
  if (map.has(CLAIM.statusList)) throw new Error(IS_A_LIST);
  if (map.has(CLAIM.status)) return [referenceIn(map.get(CLAIM.status), 'CWT')];
  // The claim by itself, as the write API returns it.
  if (map.get('status') instanceof Map) return [referenceIn(map.get('status'), '`status` claim')];
  if (map.has('status_list')) return [referenceIn(map, '`status` claim')];
  throw new Error(reasonOf(map));
}

// Why a map holds no credential, for those that people take for one.
function reasonOf(map) {
  if (map.has('documentErrors') || (map.has('version') && map.has('status'))) return 'This is the response of a wallet, but it holds no document.';
  if (map.has('eReaderKey') || map.has('data')) return 'This is a message between a wallet and a reader, and it is encrypted.';
  if (map.has('nameSpaces')) return 'These are data of an mdoc without its `issuerAuth`, which holds the status.';
  if (map.has('docRequests')) return 'This is a request to a wallet. It holds no credential.';
  if (typeof map.get(0) === 'string' && map.has(1)) return 'This only starts the contact with a wallet (device engagement). It holds no credential.';
  const isCwt = [...map.keys()].some((key) => Number.isInteger(key) && key >= 1 && key <= 8);
  return isCwt ? 'This CWT has no `status.status_list`, so no status list applies to it.' : NOTHING_KNOWN;
}
