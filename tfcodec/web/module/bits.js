// Fields of AV1 headers, the most significant bit first.

/** Reads unsigned integers; `ended` throws where there are no more bits. */
export class BitReader {
  constructor(data, ended) {
    this.data = data;
    this.ended = ended;
    this.at = 0;
  }

  /** The next `count` bits, 53 at most. */
  read(count) {
    const end = this.at + count;
    if (end > 8 * this.data.length) this.ended();
    let value = 0;
    for (; this.at < end; this.at++) value = 2 * value + ((this.data[this.at >> 3] >> (7 - (this.at & 7))) & 1);
    return value;
  }
}

/** Writes fields into `length` bytes; zeros fill up what is left. */
export class BitWriter {
  constructor(length) {
    this.data = new Uint8Array(length);
    this.at = 0;
  }

  put(value, count) {
    for (let left = count - 1; left >= 0; left--, this.at++) {
      if (Math.floor(value / 2 ** left) % 2) this.data[this.at >> 3] |= 128 >> (this.at & 7);
    }
    return this;
  }
}
