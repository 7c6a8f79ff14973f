// Tiny frames of a moved keyframe: section 24 of the specification, in integers.

import { tinyOfSums } from "./planes.js";

const SIDE = 64; // places of a row, each the sum of 4 x 4 pixels
const REACHES = [14, 18, 22, 27, 33, 40, 50, 64];
const SHARES = [16, 12, 8, 4];
const BELOW = 3 * SIDE;
const BACK = 4194304; // 2^22
const NO_FACE = [0, 0, 0, 0];

const clip = (x, low, high) => (x < low ? low : x > high ? high : x);
/** First of the three channels' sums, over 32 x 32 pixels, that a place belongs to. */
const cellOf = (place) => ((place >> 9) * 8 + ((place >> 3) & 7)) * 3;

/** The channels' sums at each place [64 * 64 * 3]. */
function sumsOf(picture) {
  const sums = new Int32Array(SIDE * SIDE * 3);
  for (let pixel = 0, at = 0; pixel < 256 * 256; pixel++) {
    const place = ((pixel >> 10) * SIDE + ((pixel & 255) >> 2)) * 3;
    for (let c = 0; c < 3; c++) sums[place + c] += picture[at++];
  }
  return sums;
}

/** A keyframe that can be moved. */
export class MovedKeyframe {
  /** `picture` is RGB [256 * 256 * 3], `still` its own tiny frame [96]. */
  constructor(picture, still) {
    Object.assign(this, { picture, still, sums: null });
  }

  /**
   * The tiny frames [96] of a TINY_MOVED chunk, from what its `data` give. `head` is { shape, x, y, distance }, `motion`
   * [17] of each frame.
   */
  restore(coded, head, motion) {
    this.sums ??= sumsOf(this.picture);
    const area = this.areaOf(head);
    return coded.map((samples, f) => {
      const moved = this.moved(head, area, motion[f]);
      return samples.map((sample, i) => clip(sample + moved[i] - this.still[i], 0, 4080));
    });
  }

  /** What is the same for all frames: the places that move and their weights; `rest`, what the others add up to. */
  areaOf({ shape, x, y, distance }) {
    const wide = Math.max((REACHES[shape >> 4] * distance) >> 4, 1);
    const high = Math.max((wide * 21) >> 4, 1);
    const above = y - ((distance * 5) >> 4);
    const places = [];
    const weights = [];
    const rest = new Int32Array(8 * 8 * 3);
    for (let place = 0; place < SIDE * SIDE; place++) {
      const right = 4 * (place & 63) + 2 - x;
      const under = 4 * (place >> 6) + 2 - above;
      const across = Math.floor((64 * right * right) / (wide * wide));
      const weight = clip(96 - across - Math.floor((64 * under * under) / (high * high)), 0, 64);
      if (weight) {
        places.push(place);
        weights.push(weight);
      } else for (let c = 0; c < 3; c++) rest[cellOf(place) + c] += this.sums[3 * place + c] << 12;
    }
    return { places: Uint16Array.from(places), weights: Uint8Array.from(weights), rest };
  }

  /** The keyframe's tiny frame, moved. */
  moved({ shape, x, y, distance }, { places, weights, rest }, motion) {
    const { sums } = this;
    const far = SHARES[(shape >> 2) & 3];
    const turned = SHARES[shape & 3];
    const m = motion[16] === 1 ? motion : NO_FACE;
    const a = clip((m[0] * turned) >> 4, -512, 1024) + 1024;
    const n = clip((m[1] * turned) >> 4, -1024, 1024);
    const gx = clip((m[2] * far * distance) >> 10, -4096, 4096);
    const gy = clip((m[3] * far * distance) >> 10, -4096, 4096);
    if (a === 1024 && !n && !gx && !gy) return this.still;
    const size = a * a + n * n;
    const A = Math.floor((a * BACK) / size); // beyond 32 bits
    const N = Math.floor((n * BACK) / size);
    const cells = rest.slice();
    for (let k = 0; k < places.length; k++) {
      const place = places[k];
      const p = 16 * (4 * (place & 63) + 2);
      const q = 16 * (4 * (place >> 6) + 2);
      const u = p - 16 * x - gx;
      const v = q - 16 * y - gy;
      const s = clip(p + (((16 * x + ((A * u + N * v) >> 12) - p) * weights[k]) >> 6), 32, 4064) - 32;
      const t = clip(q + (((16 * y + ((A * v - N * u) >> 12) - q) * weights[k]) >> 6), 32, 4064) - 32;
      const i = Math.min(s >> 6, 62);
      const j = Math.min(t >> 6, 62);
      const f = s - 64 * i;
      const g = t - 64 * j;
      const e = 64 - f;
      const h = 64 - g;
      const cell = cellOf(place);
      let at = 3 * (SIDE * j + i);
      for (let c = 0; c < 3; c++, at++) {
        const top = e * sums[at] + f * sums[at + 3];
        const bottom = e * sums[at + BELOW] + f * sums[at + BELOW + 3];
        cells[cell + c] += h * top + g * bottom;
      }
    }
    return tinyOfSums(cells.map((sum) => (sum + 2048) >> 12));
  }
}
