// The little CBOR that tests need to write credentials: integers, text, byte strings, arrays, maps and tags.

export class Tag {
  constructor(tag, value) {
    Object.assign(this, { tag, value });
  }
}

// Maps with keys that are no text are a Map.
export function cbor(value) {
  if (value === null) return Buffer.from([0xf6]);
  if (typeof value === 'boolean') return Buffer.from([value ? 0xf5 : 0xf4]);
  if (typeof value === 'number') return value < 0 ? head(1, -1 - value) : head(0, value);
  if (typeof value === 'string') return Buffer.concat([head(3, Buffer.byteLength(value)), Buffer.from(value)]);
  if (value instanceof Uint8Array) return Buffer.concat([head(2, value.length), value]);
  if (value instanceof Tag) return Buffer.concat([head(6, value.tag), cbor(value.value)]);
  if (Array.isArray(value)) return Buffer.concat([head(4, value.length), ...value.map(cbor)]);
  const entries = value instanceof Map ? [...value] : Object.entries(value);
  return Buffer.concat([head(5, entries.length), ...entries.flat().map(cbor)]);
}

function head(major, number) {
  const first = major << 5;
  if (number < 24) return Buffer.from([first | number]);
  if (number < 0x100) return Buffer.from([first | 24, number]);
  const wide = Buffer.alloc(number < 0x10000 ? 3 : number < 0x100000000 ? 5 : 9, first | (number < 0x10000 ? 25 : number < 0x100000000 ? 26 : 27));
  if (wide.length === 9) wide.writeBigUInt64BE(BigInt(number), 1);
  else wide.writeUIntBE(number, 1, wide.length - 1);
  return wide;
}

// An mdoc with this `status`, not really signed: its IssuerAuth, its IssuerSigned, and a wallet's DeviceResponse with it.
export function mdoc(status, docType = 'org.iso.18013.5.1.mDL') {
  const object = {
    version: '1.0', digestAlgorithm: 'SHA-256', valueDigests: { 'org.iso.18013.5.1': new Map([[0, Buffer.alloc(32, 7)]]) },
    deviceKeyInfo: { deviceKey: new Map([[1, 2], [-1, 1], [-2, Buffer.alloc(32, 1)], [-3, Buffer.alloc(32, 2)]]) }, docType,
    validityInfo: { signed: new Tag(0, '2026-01-01T00:00:00Z'), validFrom: new Tag(0, '2026-01-01T00:00:00Z'), validUntil: new Tag(0, '2036-01-01T00:00:00Z') },
    ...(status && { status }),
  };
  const objectBytes = new Tag(24, cbor(object));
  const issuerAuth = [cbor(new Map([[1, -7]])), new Map([[33, Buffer.alloc(300, 3)]]), cbor(objectBytes), Buffer.alloc(64, 9)];
  const item = new Tag(24, cbor({ digestID: 0, random: Buffer.alloc(16, 5), elementIdentifier: 'given_name', elementValue: 'Erika-of-the-test' }));
  const issuerSigned = { nameSpaces: { 'org.iso.18013.5.1': [item] }, issuerAuth };
  const document = { docType, issuerSigned, deviceSigned: { nameSpaces: new Tag(24, cbor({})), deviceAuth: {} } };
  return { object, objectBytes, issuerAuth, issuerSigned, document };
}

export const response = (...documents) => ({ version: '1.0', documents, status: 0 });

// A CWT with these claims, not really signed.
export const cwt = (claims) => new Tag(18, [cbor(new Map([[1, -7]])), new Map(), cbor(claims), Buffer.alloc(64, 9)]);
