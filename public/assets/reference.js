// The `status` claim of a credential, from JSON or CBOR → its reference ("Referenced Token").

const get = (from, name) => {
  if (from instanceof Map) return from.get(name);
  return typeof from === 'object' && from !== null && Object.hasOwn(from, name) ? from[name] : undefined;
};
const names = (from) => (from instanceof Map ? [...from.keys()] : Object.keys(from ?? {}));

// Returns `{ uri, idx, what }`; throws with what is wrong. `what` is the kind of credential, for people.
export function referenceIn(status, what) {
  const list = get(status, 'status_list');
  if (typeof get(list, 'lst') === 'string' || get(list, 'lst') instanceof Uint8Array) throw new Error(IS_A_LIST);
  if (typeof list !== 'object' || list === null) throw new Error(without(status, what));
  const [uri, idx] = [get(list, 'uri'), get(list, 'idx')];
  if (typeof uri !== 'string' || uri === '') throw new Error('Its `status.status_list.uri` must be a string.');
  if (!Number.isSafeInteger(idx) || idx < 0) {
    const given = typeof idx === 'bigint' ? String(idx) : JSON.stringify(idx);
    throw new Error(`Its \`status.status_list.idx\` must be a whole number, 0 or greater, not ${given}.`);
  }
  return { uri, idx, what };
}

export const IS_A_LIST = 'This is a status list, not a credential. Paste its `sub` as `uri` in the tab Reference.';

function without(status, what) {
  const others = names(status).filter((name) => typeof name === 'string');
  if (others.includes('identifier_list')) {
    return `The status of this ${what} is in an identifier list (ISO/IEC 18013-5). This page reads status lists only.`;
  }
  const instead = others.length > 0 ? `, only \`${others.slice(0, 3).join('`, `').slice(0, 120)}\`` : '';
  return `This ${what} has no \`status.status_list\`${instead}, so no status list applies to it.`;
}

// The references of several parts, each once. Parts without one do not matter, unless none has one: then the first reason is thrown.
export function referencesOf(parts, read) {
  const found = new Map();
  const reasons = [];
  for (const part of parts) {
    try {
      for (const reference of read(part)) found.set(JSON.stringify([reference.uri, reference.idx]), reference);
    } catch (error) {
      reasons.push(error);
    }
  }
  if (found.size === 0) throw reasons[0];
  return [...found.values()];
}
