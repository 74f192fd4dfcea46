// A pasted credential → its reference. Reads it only locally: nothing of a credential goes to any server.
import { decodeJson } from './base64url.js';

// Returns `{ uri, idx }`; throws with what to do.
export function referenceOf(text) {
  const pasted = text.trim();
  if (pasted === '') throw new Error('Paste a credential first.');
  const claims = pasted.startsWith('{') ? json(pasted) : payloadOf(pasted);
  const list = claims?.status?.status_list ?? claims?.status_list ?? bare(claims);
  if (typeof list?.lst === 'string') {
    throw new Error('This is a status list, not a credential. Paste its `sub` as `uri` in the tab Reference.');
  }
  if (typeof list !== 'object' || list === null) {
    throw new Error('It has no `status.status_list` claim, so no status list applies to this credential.');
  }
  const { uri, idx } = list;
  if (typeof uri !== 'string' || uri === '') throw new Error('Its `status.status_list.uri` must be a string.');
  if (!Number.isSafeInteger(idx) || idx < 0) {
    throw new Error(`Its \`status.status_list.idx\` must be a whole number, 0 or greater, not ${JSON.stringify(idx)}.`);
  }
  return { uri, idx };
}

function payloadOf(text) {
  // An SD-JWT is the issuer's JWT, then disclosures and perhaps a key binding, separated by tildes. The status is never
  // among the disclosures (SD-JWT VC, "Registered JWT Claims").
  const jwt = text.split('~')[0].replaceAll(/\s/g, '').split('.');
  if (jwt.length !== 3) throw new Error('This is not a JWT, SD-JWT or JSON object. An mdoc or CWT cannot be pasted: enter its `uri` and `idx`.');
  try {
    return decodeJson(jwt[1]);
  } catch {
    throw new Error('It looks like a JWT, but its payload is not base64url of JSON. Was all of it copied?');
  }
}

function json(text) {
  try {
    return JSON.parse(text);
  } catch {
    throw new Error('It begins like JSON, but is not valid. Was all of it copied?');
  }
}

// A reference as the write API returns it.
function bare(claims) {
  return typeof claims?.uri === 'string' ? { uri: claims.uri, idx: claims.idx ?? claims.index } : undefined;
}
