// Tiny frames, motion and displacement: sections 10, 22 and 23 of the specification, in integers.

import { BitstreamError } from "./errors.js";
import { RangeDecoder, TOTAL } from "./rangecoder.js";

const SIZES = [1, 2, 4, 8, 16, 32];
const TEMPORAL = [0, 1, 5, 21, 85, 341]; // where each length's matrix begins
const SPEED = [2, 4, 6, 10, 14, 16];
const RECENT = [1, 2, 3, 5, 7, 10, 15];
const DENSITY = [4, 16, 32, 56, 88, 136, 220];
const ANEW = TOTAL / 32;
const NEW_STEP = TOTAL / 64;
const APPEARS = TOTAL / 16;
const LEAVES = TOTAL / 256;
const STATE_LIMIT = 0x20000;
const NUMBER_LIMIT = 32767;
const SAMPLE_LIMIT = 4080;

const reached = (value, edges) => edges.reduce((count, edge) => count + (value >= edge ? 1 : 0), 0);
const cap = (level) => (level === 0 ? 0 : Math.sign(level) * Math.min(Math.abs(level) + 1, 4));
const clip = (x, low, high) => Math.min(Math.max(x, low), high);

/** 0 for 0, else twice the number of bits, and the bit after the leading one. */
const LOG = Uint8Array.from({ length: 257 }, (_, e) => {
  if (e === 0) return 0;
  const bits = 32 - Math.clz32(e);
  return 2 * bits + (bits > 1 ? (e >> (bits - 2)) & 1 : 0);
});

/** floor((sum of weights[at + i * step] * values[i] + 2^13) / 2^14); sums stay below 2^53. */
function product(weights, at, values) {
  let sum = 8192;
  for (let i = 0; i < values.length; i++) sum += weights[at + i] * values[i];
  return Math.floor(sum / 16384);
}

/** Decodes payloads of rows of `samples` numbers; the state between them is `state`, which is never changed in place. */
class RowDecoder {
  constructor(tables) {
    this.t = tables;
    this.samples = tables.samples;
  }

  odds(score) {
    return this.t.weightOfOne[clip(score + 320, 0, 639)];
  }

  /** Section 10.5, up to the groups: the state that they begin with; null if the payload cannot be decoded. */
  begin(coder, state) {
    if (!state.began || coder.bit(ANEW)) {
      const zeros = () => new Int32Array(this.samples);
      return {
        ...state, first: zeros(), trend: zeros(), trace: zeros().fill(4), density: 48, last: 6, began: true,
        known: true, step: coder.bits(6),
      };
    }
    if (!state.known) return null;
    return { ...state, step: coder.bit(NEW_STEP) ? coder.bits(6) : state.step };
  }

  /** The groups of `frames` frames: coefficients of each, and the state after them. */
  groups(coder, state, frames) {
    const found = [];
    while (found.length < frames) {
      let size = 0;
      for (let g = 5; g > 0 && !size; g--) {
        const fits = SIZES[g] <= frames - found.length;
        if (fits && coder.bit(this.odds(this.t.groupSplit[state.last * 6 + g]))) size = g;
      }
      const group = this.group(coder, state, size);
      found.push(...group.frames);
      state = group.state;
    }
    return { found, state };
  }

  group(coder, state, size) {
    const { samples, t } = this;
    const count = SIZES[size];
    const rows = [];
    let previous = state.first;
    let trend = state.trend;
    let trace = state.trace;
    for (let n = 0; n < count; n++) {
      const kind = n === 0 ? (size === 0 ? 0 : 1) : n === 1 ? 2 : 3;
      const row = this.row(coder, state, kind, count - 1 + n, previous, trend, trace);
      rows.push(row);
      previous = row.map(cap);
      trend = previous.map((p) => 8 * p);
      trace = trace.map((e, k) => e + ((64 * Math.abs(previous[k]) - e) >> 1));
    }
    const frames = [];
    for (let f = 0; f < count; f++) {
      const coefficients = new Int32Array(samples);
      for (let k = 0; k < samples; k++) {
        let sum = 0;
        for (let n = 0; n < count; n++) {
          if (rows[n][k]) sum += t.temporal[TEMPORAL[size] + n * count + f] * rows[n][k] * t.steps[state.step];
        }
        const change = Math.floor((sum + 8192) / 16384);
        coefficients[k] = clip(state.coefficients[k] + change, -STATE_LIMIT, STATE_LIMIT);
      }
      frames.push(coefficients);
    }
    const first = rows[0].map(cap);
    let filled = 0;
    const nextTrace = state.trace.map((e, k) => {
      let sum = 0;
      for (const row of rows) {
        sum += Math.abs(cap(row[k]));
        filled += row[k] !== 0;
      }
      return e + (((Math.floor((64 * sum) / count) - e) * SPEED[size]) >> 4);
    });
    const now = Math.floor((16 * filled) / count);
    return {
      frames,
      state: {
        ...state, coefficients: frames[count - 1], first,
        trend: state.trend.map((d, k) => (d >> 1) + 8 * first[k]), trace: nextTrace,
        density: state.density + Math.floor(((now - state.density) * Math.min(count, 4)) / 4), last: size,
      },
    };
  }

  row(coder, { density, step }, kind, index, previous, trend, trace) {
    const { samples, t } = this;
    const row = new Int32Array(samples);
    const recent = kind * 8 + reached(previous.reduce((n, p) => n + (p !== 0), 0), RECENT);
    const dense = kind * 8 + reached(density, DENSITY);
    const stepped = kind * 16 + (step >> 2);
    const filled = t.filledRow[index] + t.filledRecent[recent] + t.filledDensity[dense] + t.filledStep[stepped];
    if (!coder.bit(this.odds(filled))) return row;
    const score = new Int32Array(samples);
    const sign = new Int32Array(samples);
    for (let k = 0; k < samples; k++) {
      score[k] = t.zeroRow[index * samples + k] + t.zeroRecent[recent * samples + k] +
        t.zeroDensity[dense * samples + k] + t.zeroStep[stepped * samples + k];
    }
    for (let j = 0; j < samples; j++) {
      const at = (kind * samples + j) * samples;
      const log = LOG[Math.min(trace[j], 256)];
      const size = Math.abs(previous[j]);
      for (let k = 0; k < samples; k++) score[k] += log * t.zeroTrace[at + k] + size * t.zeroPrevious[at + k];
      if (trend[j]) for (let k = 0; k < samples; k++) sign[k] += trend[j] * t.signPrevious[at + k];
    }
    for (let k = 0; k < samples; k++) sign[k] >>= 3;
    let any = false;
    for (let k = 0; k < samples; k++) {
      if (!coder.bit(this.odds(score[k]))) continue;
      any = true;
      const negative = coder.bit(this.odds(-sign[k]));
      const size = this.magnitude(coder, kind, k, score[k]);
      row[k] = negative ? -size : size;
      const capped = cap(row[k]);
      const at = (kind * samples + k) * samples;
      for (let j = k + 1; j < samples; j++) {
        score[j] += Math.abs(capped) * t.zeroCurrent[at + j];
        sign[j] += capped * t.signCurrent[at + j];
      }
    }
    if (!any) throw new BitstreamError(`${coder.layer}: a row announced as filled holds only zeros [R53]`);
    return row;
  }

  magnitude(coder, kind, k, score) {
    const { samples, t } = this;
    const bin = clip(score + 320, 0, 639) >> 5;
    for (let i = 0; i < 2; i++) {
      const at = i * 4 + kind;
      if (!coder.bit(this.odds(t.large[at * samples + k] + t.largeScore[at * 20 + bin]))) return i + 1;
    }
    for (let i = 0; i < 12; i++) if (!coder.bit(this.odds(t.larger[i]))) return i + 3;
    let zeros = 0;
    while (!coder.bit(TOTAL / 2)) {
      if (++zeros === 15) throw new BitstreamError(`${coder.layer}: a magnitude with 15 leading zeros [R54]`);
    }
    return Math.min(2 ** zeros + coder.bits(zeros) + 14, 32768);
  }

  /** What `frames` frames hold. Throws BitstreamError and leaves the state if the payload is malformed. */
  decode(payload, frames) {
    const coder = new RangeDecoder(payload, this.layer);
    this.coder = coder;
    const said = this.read(coder, this.state, frames);
    if (!said) return this.lose(frames);
    coder.finish();
    this.state = said.state;
    this.shown = said.values[frames - 1];
    return said.values;
  }

  /** The same from a state, out of a range coder that layers share: { values, state }; null where nothing is known. */
  read(coder, before, frames) {
    const begun = this.begin(coder, before);
    if (!begun) return null;
    const { found, state } = this.groups(coder, begun, frames);
    return { values: found.map((coefficients) => this.synthesise(coefficients)), state };
  }

  /** Stand-ins for frames that are lost: the last one, held. */
  lose(frames) {
    this.state = { ...this.state, began: true, known: false };
    return new Array(frames).fill(this.shown);
  }

  /** What the coefficients stand for, limited. */
  synthesise(coefficients) {
    const [low, high] = this.range;
    return Int16Array.from({ length: this.samples }, (_, i) =>
      clip(product(this.t.inverse, i * this.samples, coefficients), low, high));
  }
}

/** Payloads of TINY to samples: 64 luma, 16 Cb, 16 Cr, in 1/16 grey level. */
export class TinyDecoder extends RowDecoder {
  layer = "tiny";
  range = [0, SAMPLE_LIMIT];

  /** Start a keyframe's frames; `samples` [96] are the keyframe's own tiny frame. */
  reset(samples) {
    const coefficients = new Int32Array(96);
    for (let k = 0; k < 96; k++) coefficients[k] = product(this.t.forward, k * 96, samples);
    this.state = { coefficients, began: false, known: false, step: 0 };
    this.shown = Int16Array.from(samples);
  }
}

/** Payloads of numbers that are all 0 at a keyframe, Int16Array [samples] of each frame. */
class NumberDecoder extends RowDecoder {
  range = [-NUMBER_LIMIT, NUMBER_LIMIT];

  constructor(tables) {
    super(tables);
    this.reset();
  }

  /** Start a keyframe's frames. */
  reset() {
    this.state = { coefficients: new Int32Array(this.samples), began: false, known: false, step: 0 };
    this.shown = new Int16Array(this.samples);
  }
}

/** Payloads of DISPLACEMENT: Int16Array [12] of each frame, in 1/32 pixel. */
export class DisplacementDecoder extends NumberDecoder {
  layer = "displacement";
}

/** Payloads of MOTION to numbers and whether there is a face: Int16Array [17] of each frame. */
export class MotionDecoder extends NumberDecoder {
  layer = "motion";

  reset() {
    super.reset();
    this.state.present = true;
    this.shown = this.frame(this.shown, true);
  }

  /** As RowDecoder's; each frame's presence comes before the groups, which are of the frames with a face. */
  read(coder, before, frames) {
    const begun = this.begin(coder, before);
    if (!begun) return null;
    // A payload that starts anew begins with a face.
    let present = begun.first !== before.first ? true : before.present;
    const there = [];
    for (let f = 0; f < frames; f++) {
      if (coder.bit(present ? LEAVES : APPEARS)) present = !present;
      there.push(present);
    }
    const { found, state } = this.groups(coder, begun, there.filter(Boolean).length);
    let { coefficients } = before;
    let next = 0;
    const values = there.map((face) => {
      if (face) coefficients = found[next++];
      return this.frame(this.synthesise(coefficients), face);
    });
    return { values, state: { ...state, present } };
  }

  frame(numbers, face) {
    return Int16Array.of(...numbers, face ? 1 : 0);
  }
}

/** Motion of frames of which nothing was sent, and their displacement. */
export const NO_MOTION = new Int16Array(17);
export const NO_DISPLACEMENT = new Int16Array(12);
