// base64url without padding, the only encoding that a JWT allows for its bytes.

import { parse } from './json.js';

// Decodes `text`. Refuses what a lenient decoder accepts, so that two different tokens never mean the same bytes.
export function decode(text) {
  if (!/^[A-Za-z0-9_-]*$/.test(text)) throw new Error('is not base64url without padding');
  const rest = text.length % 4;
  if (rest === 1) throw new Error('is truncated base64url');
  const binary = atob(text.replaceAll('-', '+').replaceAll('_', '/'));
  const bytes = new Uint8Array(binary.length);
  for (let at = 0; at < binary.length; at += 1) bytes[at] = binary.charCodeAt(at);
  // The last character of an incomplete group has unused bits; they must be zero.
  if (rest > 0 && encode(bytes.subarray(bytes.length - (rest - 1))) !== text.slice(-rest)) {
    throw new Error('is base64url with non-zero bits after its end');
  }
  return bytes;
}

function encode(bytes) {
  return btoa(String.fromCharCode(...bytes)).replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '');
}

export function decodeJson(text) {
  return parse(decode(text));
}
