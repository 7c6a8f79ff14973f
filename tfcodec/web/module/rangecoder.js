// The range decoder of section 10.3, in pairs of 32-bit halves: numbers of 64 bits would be BigInt, which is slow.

import { BitstreamError } from "./errors.js";

const TWO20 = 0x100000;
const TWO32 = 0x100000000;
export const TOTAL = 0x1000000;
const HALF = TOTAL / 2;

function refuse(layer, rule, message) {
  throw new BitstreamError(`${layer}: ${message} [R${rule}]`);
}

export class RangeDecoder {
  /** `layer` is what error messages call the payload. */
  constructor(payload, layer) {
    this.payload = payload;
    this.layer = layer;
    if (payload.length && payload[payload.length - 1] === 0) refuse(layer, 51, "the last byte of the payload is zero");
    this.words = 0;
    // What decides is point - lower, modulo 2^64, and nothing else.
    this.high = this.word();
    this.low = this.word();
    this.rangeHigh = 0xffffffff;
    this.rangeLow = 0xffffffff;
    // Kept for tests alone: the specification names the state at a payload's end.
    this.lowerHigh = 0;
    this.lowerLow = 0;
  }

  word() {
    const at = 4 * this.words++;
    const p = this.payload;
    return (((p[at] ?? 0) << 24) | ((p[at + 1] ?? 0) << 16) | ((p[at + 2] ?? 0) << 8) | (p[at + 3] ?? 0)) >>> 0;
  }

  /** An answer whose weight of 1 is `one` out of 2^24. */
  bit(one) {
    const left = TOTAL - one;
    // scale = range >> 24 has 40 bits: a * 2^20 + b, so that products with 24 bits stay below 2^53.
    const a = (this.rangeHigh >>> 12) >>> 0;
    const b = ((this.rangeHigh & 0xfff) * 256 + (this.rangeLow >>> 24)) >>> 0;
    const wholeLow = (this.rangeLow & 0xff000000) >>> 0;
    if (this.high > this.rangeHigh || (this.high === this.rangeHigh && this.low >= wholeLow)) {
      refuse(this.layer, 50, "the payload holds no symbol here");
    }
    const upper = a * left;
    const under = b * left;
    let cutLow = (upper % 4096) * TWO20 + (under % TWO32);
    let cutHigh = Math.floor(upper / 4096) + Math.floor(under / TWO32);
    if (cutLow >= TWO32) {
      cutLow -= TWO32;
      cutHigh += 1;
    }
    const answer = this.high > cutHigh || (this.high === cutHigh && this.low >= cutLow) ? 1 : 0;
    if (answer) {
      this.low -= cutLow;
      this.high -= cutHigh;
      if (this.low < 0) {
        this.low += TWO32;
        this.high -= 1;
      }
      this.lowerLow += cutLow;
      this.lowerHigh += cutHigh;
      if (this.lowerLow >= TWO32) {
        this.lowerLow -= TWO32;
        this.lowerHigh += 1;
      }
      if (this.lowerHigh >= TWO32) this.lowerHigh -= TWO32;
      // scale * one is what is left of scale * 2^24.
      this.rangeLow = wholeLow - cutLow;
      this.rangeHigh -= cutHigh;
      if (this.rangeLow < 0) {
        this.rangeLow += TWO32;
        this.rangeHigh -= 1;
      }
    } else {
      this.rangeHigh = cutHigh;
      this.rangeLow = cutLow;
    }
    if (this.rangeHigh === 0) {
      this.rangeHigh = this.rangeLow;
      this.rangeLow = 0;
      this.high = this.low;
      this.low = this.word();
      this.lowerHigh = this.lowerLow;
      this.lowerLow = 0;
    }
    return answer;
  }

  bits(count) {
    let value = 0;
    for (let i = 0; i < count; i++) value = 2 * value + this.bit(HALF);
    return value;
  }

  /** Check that the payload is no longer than its decoding took. */
  finish() {
    if (this.payload.length > 4 * this.words) refuse(this.layer, 52, "bytes are left over in the payload");
  }
}
