// The list itself: inflated within bounds, read entry by entry (least significant bits first), and counted.

// The specification leaves the "limit on inflated size" open: the same as in `statuslist check`.
export const LIST_BYTES_MAX = 64 << 20;

export async function inflate(zlib, bytesMax = LIST_BYTES_MAX) {
  const reader = new Blob([zlib]).stream().pipeThrough(new DecompressionStream('deflate')).getReader();
  const chunks = [];
  let length = 0;
  for (;;) {
    let part;
    try {
      part = await reader.read();
    } catch {
      throw new Error('is not one complete zlib stream');
    }
    if (part.done) break;
    length += part.value.length;
    if (length > bytesMax) {
      await reader.cancel();
      throw new Error(`inflates to more than ${bytesMax >> 20} MiB, so unpacking was stopped`);
    }
    chunks.push(part.value);
  }
  const whole = new Uint8Array(length);
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.length;
  }
  return whole;
}

export class StatusList {
  constructor(bytes, bits) {
    this.bytes = bytes;
    this.bits = bits;
    this.entries = (bytes.length * 8) / bits;
    this.shift = 3 - Math.log2(bits);
    this.counts = this.#count();
    // The status of most entries: everything else is an exception.
    this.common = this.counts.indexOf(Math.max(...this.counts));
  }

  at(idx) {
    const inByte = idx & ((1 << this.shift) - 1);
    return (this.bytes[idx >>> this.shift] >> (inByte * this.bits)) & ((1 << this.bits) - 1);
  }

  // Returns the nearest entry after (or, backwards, before) `from` that does not have the most common status; wraps around once.
  exception(from, step = 1) {
    if (this.counts[this.common] === this.entries) return undefined;
    const { entries, common } = this;
    let idx = from;
    do {
      idx = (idx + step + entries) % entries;
    } while (this.at(idx) === common);
    return idx;
  }

  // Shannon: no code for independent entries with this distribution is shorter than this, on average.
  boundBytes() {
    const entropy = this.counts
      .filter((amount) => amount > 0)
      .reduce((sum, amount) => sum - (amount / this.entries) * Math.log2(amount / this.entries), 0);
    return (this.entries * Math.max(0, entropy)) / 8;
  }

  #count() {
    const ofByte = new Float64Array(256);
    for (let at = 0; at < this.bytes.length; at += 1) ofByte[this.bytes[at]] += 1;
    const counts = new Array(1 << this.bits).fill(0);
    ofByte.forEach((amount, byte) => {
      for (let bit = 0; amount > 0 && bit < 8; bit += this.bits) counts[(byte >> bit) & ((1 << this.bits) - 1)] += amount;
    });
    return counts;
  }
}
