// Untrusted CBOR → values: maps as Map, byte strings as Uint8Array, integers as number, or BigInt where a number is not exact.
// Accepts and refuses the same as `statuslist check`, within bounds: refused are deep nesting and duplicate keys.

const DEPTH_MAX = 255;
const ITEMS_MAX = 1 << 20;

export class Tagged {
  constructor(tag, value) {
    Object.assign(this, { tag, value });
  }
}

// A floating-point number, which is not an integer even if it is whole.
export class Float {
  constructor(value) {
    this.value = value;
  }

  toJSON() {
    return String(this.value);
  }
}

export function readCbor(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  let items = 0;
  const cutOff = () => new Error('the CBOR is truncated');

  function argument(info) {
    if (info < 24) return info;
    if (info > 27) throw new Error('the CBOR has an invalid head');
    const size = 1 << (info - 24);
    if (at + size > bytes.length) throw cutOff();
    at += size;
    if (info < 27) return [view.getUint8, view.getUint16, view.getUint32][info - 24].call(view, at - size);
    return integer(view.getBigUint64(at - size));
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
    if (info === 27) return new Float(view.getFloat64(at - 8));
    if (info === 26) return new Float(view.getFloat32(at - 4));
    return new Float(half(view.getUint16(at - 2)));
  }

  // The items until the break of an indefinite-length item.
  function* untilBreak(next) {
    for (;;) {
      if (at >= bytes.length) throw cutOff();
      if (bytes[at] === 0xff) {
        at += 1;
        return;
      }
      yield next();
    }
  }

  function* times(number, next) {
    for (let n = 0; n < number; n += 1) yield next();
  }

  function pieces(major) {
    const whole = [...untilBreak(() => {
      const initial = bytes[at];
      if (initial >> 5 !== major || (initial & 31) === 31) throw new Error('the CBOR has a string with pieces of another type');
      at += 1;
      return take(argument(initial & 31));
    })];
    const joined = new Uint8Array(whole.reduce((length, piece) => length + piece.length, 0));
    let to = 0;
    for (const piece of whole) {
      // Each piece of a text is a text itself (RFC 8949, section 3.2.3).
      if (major === 3) utf8(piece);
      joined.set(piece, to);
      to += piece.length;
    }
    return joined;
  }

  function map(entries) {
    const read = new Map();
    const seen = new Set();
    for (const [key, value] of entries) {
      const name = typeof key === 'object' && key !== null ? `${key.constructor.name} ${JSON.stringify(plain(key))}` : key;
      if (seen.has(name)) throw new Error(`the CBOR has the key ${name} twice`);
      seen.add(name);
      read.set(key, value);
    }
    return read;
  }

  function item(depth) {
    items += 1;
    if (depth > DEPTH_MAX || items > ITEMS_MAX) throw new Error('the CBOR is nested too deeply or has too many items');
    if (at >= bytes.length) throw cutOff();
    const initial = bytes[at];
    at += 1;
    const [major, info] = [initial >> 5, initial & 31];
    if (major === 7) {
      // A claim that is undefined is still present.
      const simple = new Map([[20, false], [21, true], [22, null], [23, null]]);
      if (simple.has(info)) return simple.get(info);
      if (info >= 25 && info <= 27) return float(info);
      throw new Error('the CBOR has a simple value that is not supported');
    }
    const isOpen = info === 31 && major >= 2 && major <= 5;
    const number = isOpen ? undefined : argument(info);
    const child = () => item(depth + 1);
    const each = (next) => (isOpen ? untilBreak(next) : times(number, next));
    switch (major) {
      case 0: return number;
      case 1: return integer(-1n - BigInt(number));
      case 2: return isOpen ? pieces(2) : take(number);
      case 3: return utf8(isOpen ? pieces(3) : take(number));
      case 4: return [...each(child)];
      case 5: return map(each(() => [child(), child()]));
      default: return tagged(number, child());
    }
  }

  const value = item(0);
  if (at !== bytes.length) throw new Error(`${bytes.length - at} bytes follow the CBOR`);
  return value;
}

// A bignum that would fit is the integer that it represents (RFC 8949, section 3.4.3).
function tagged(tag, value) {
  if (![2, 3].includes(tag) || !(value instanceof Uint8Array) || value.length === 0 || value.length > 8) return new Tagged(tag, value);
  const exact = value.reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
  return integer(tag === 2 ? exact : -1n - exact);
}

// A number if it holds the integer exactly, else a BigInt.
function integer(exact) {
  return Number.isSafeInteger(Number(exact)) ? Number(exact) : exact;
}

function half(bits) {
  const [sign, exponent, fraction] = [bits >> 15 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
  if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1024 + fraction) * 2 ** (exponent - 25);
}

export function utf8(bytes) {
  return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
}

// In a form that JSON can show.
export function plain(value) {
  if (value instanceof Map) return Object.fromEntries([...value].map(([key, member]) => [typeof key === 'object' ? JSON.stringify(plain(key)) : String(key), plain(member)]));
  if (value instanceof Uint8Array) return `h'${[...value.subarray(0, 4096)].map((byte) => byte.toString(16).padStart(2, '0')).join('')}'`;
  if (value instanceof Tagged) return { [`tag ${value.tag}`]: plain(value.value) };
  if (value instanceof Float) return Number.isFinite(value.value) ? value.value : String(value.value);
  if (typeof value === 'bigint') return String(value);
  return Array.isArray(value) ? value.map(plain) : value;
}
