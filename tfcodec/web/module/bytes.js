// Varints, checksums and the fields of payloads: sections 2 and 4 of the specification.

import { BitstreamError, fail } from "./errors.js";

const MAX_VARINT = 0xffffffff;
const MAX_VARINT_BYTES = 5;

function table(entries, step) {
  return Uint32Array.from({ length: entries }, (_, byte) => {
    let value = step.start(byte);
    for (let bit = 0; bit < 8; bit++) value = step.next(value);
    return value;
  });
}

const CRC16 = table(256, { start: (b) => b << 8, next: (v) => ((v & 0x8000 ? (v << 1) ^ 0x1021 : v << 1) & 0xffff) });
const CRC32 = table(256, { start: (b) => b, next: (v) => (v & 1 ? (v >>> 1) ^ 0xedb88320 : v >>> 1) });

/** CRC-16/IBM-3740 of data[start, end). */
export function crc16(data, start = 0, end = data.length) {
  let value = 0xffff;
  for (let i = start; i < end; i++) value = ((value << 8) & 0xffff) ^ CRC16[(value >>> 8) ^ data[i]];
  return value;
}

/** CRC-32/ISO-HDLC of data[start, end). */
export function crc32(data, start = 0, end = data.length) {
  let value = 0xffffffff;
  for (let i = start; i < end; i++) value = (value >>> 8) ^ CRC32[(value ^ data[i]) & 0xff];
  return (value ^ 0xffffffff) >>> 0;
}

/** Reads the fields of one payload, data[position, end), which has passed its checksum. */
export class FieldReader {
  constructor(data, position, end) {
    this.data = data;
    this.position = position;
    this.end = end;
  }

  get remaining() {
    return this.end - this.position;
  }

  byte(name) {
    if (this.position >= this.end) {
      fail(BitstreamError, 10, this.position, `payload ends before its field '${name}'`);
    }
    return this.data[this.position++];
  }

  varint(name) {
    const start = this.position;
    let digit = this.byte(name);
    if (digit === 0x80) fail(BitstreamError, 3, start, `field '${name}' is a varint with a leading zero digit`);
    let value = digit & 0x7f;
    while (digit >= 0x80) {
      if (this.position - start === MAX_VARINT_BYTES) {
        fail(BitstreamError, 4, start, `field '${name}' is a varint of more than 5 bytes`);
      }
      digit = this.byte(name);
      value = value * 128 + (digit & 0x7f); // up to 2^35: no bitwise operators
    }
    if (value > MAX_VARINT) fail(BitstreamError, 4, start, `field '${name}' exceeds 2^32-1`);
    return value;
  }

  signed(name) {
    const value = this.varint(name);
    return value % 2 ? -(value + 1) / 2 : value / 2;
  }

  take(length, name) {
    if (length > this.remaining) {
      fail(
        BitstreamError, 10, this.position,
        `field '${name}' of ${length} bytes runs past the payload (${this.remaining} bytes left)`,
      );
    }
    this.position += length;
    return this.data.subarray(this.position - length, this.position);
  }

  rest() {
    return this.take(this.remaining, "rest");
  }

  finish(what) {
    if (this.position !== this.end) {
      fail(BitstreamError, 11, this.position, `${this.remaining} bytes follow the last field of ${what}`);
    }
  }
}

/** The length of a chunk at `offset`: [value, offset behind it], or null if the data end within it. */
export function readLength(data, offset) {
  let value = 0;
  for (let count = 0; count < MAX_VARINT_BYTES; count++) {
    if (offset + count >= data.length) return null;
    const digit = data[offset + count];
    if (count === 0 && digit === 0x80) {
      fail(BitstreamError, 3, offset, "chunk length is a varint with a leading zero digit");
    }
    value = value * 128 + (digit & 0x7f);
    if (digit < 0x80) {
      if (value > MAX_VARINT) fail(BitstreamError, 4, offset, "chunk length exceeds 2^32-1");
      return [value, offset + count + 1];
    }
  }
  return fail(BitstreamError, 4, offset, "chunk length is a varint of more than 5 bytes");
}

/** Bytes of a varint. */
export function varintBytes(value) {
  let count = 1;
  for (; value >= 128; value = Math.floor(value / 128)) count++;
  return count;
}

export function hex(data) {
  return Array.from(data, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function sameBytes(a, b) {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

/** SHA-256 in hexadecimal. */
export async function sha256(data) {
  return hex(new Uint8Array(await crypto.subtle.digest("SHA-256", data)));
}
