// Log-mel spectrogram of speech at 16 kHz: section 9.4 of the specification. In floating point; no bit depends on it.

import { SAMPLE_RATE } from "./speech.js";

const WINDOW = 400;
const FFT = 512;
const BANDS = 80;
const PER_FRAME = 4;
const KEPT = 1024; // columns
/** Frames of the past that lips from speech listen to, and of the future. */
const PAST = 33;
const FUTURE = 3;
const COLUMNS = PER_FRAME * (PAST + 1 + FUTURE);

const HANN = Float64Array.from({ length: WINDOW }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / WINDOW));
const SCALE = 2 / HANN.reduce((sum, x) => sum + x, 0);
const COSINES = Float64Array.from({ length: FFT }, (_, i) => Math.cos((2 * Math.PI * i) / FFT));

/** Triangles of height 1, equally spaced on Slaney's scale: [first bin, weights] of each band. */
const BANK = (() => {
  const step = Math.log(6.4) / 27;
  const top = 15 + Math.log(8) / step;
  const edges = Array.from({ length: BANDS + 2 }, (_, i) => {
    const mel = (top * i) / (BANDS + 1);
    return mel < 15 ? (mel * 200) / 3 : 1000 * Math.exp((mel - 15) * step);
  });
  return Array.from({ length: BANDS }, (_, band) => {
    const [lower, centre, upper] = edges.slice(band, band + 3);
    const first = Math.ceil((lower * FFT) / SAMPLE_RATE);
    const weights = [];
    for (let bin = first; (bin * SAMPLE_RATE) / FFT < upper; bin++) {
      const hertz = (bin * SAMPLE_RATE) / FFT;
      weights.push(Math.max(0, Math.min((hertz - lower) / (centre - lower), (upper - hertz) / (upper - centre))));
    }
    return [first, weights];
  });
})();

/** Squared magnitudes [257] of 512 real numbers, which are overwritten. */
function powerOf(re) {
  const im = new Float64Array(FFT);
  for (let i = 1, j = 0; i < FFT; i++) {
    let bit = FFT >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) [re[i], re[j]] = [re[j], re[i]];
  }
  for (let size = 2; size <= FFT; size *= 2) {
    const half = size / 2;
    const stride = FFT / size;
    for (let start = 0; start < FFT; start += size) {
      for (let k = 0; k < half; k++) {
        const c = COSINES[k * stride];
        const s = -COSINES[(k * stride + 3 * (FFT / 4)) % FFT]; // minus the sine
        const [a, b] = [start + k, start + k + half];
        const x = c * re[b] - s * im[b];
        const y = c * im[b] + s * re[b];
        re[b] = re[a] - x;
        im[b] = im[a] - y;
        re[a] += x;
        im[a] += y;
      }
    }
  }
  return Float64Array.from({ length: FFT / 2 + 1 }, (_, i) => re[i] * re[i] + im[i] * im[i]);
}

/** Columns of the speech around frames; those that were asked for lately are kept. */
export class LogMel {
  /** `sample(i)` gives a sample of the speech, 0 outside it; behind `frames` frames there is silence. */
  constructor(sample, fps, frames = Infinity) {
    Object.assign(this, { sample, fps, frames });
    this.columns = new Map();
  }

  /** Column c [80]. */
  column(c) {
    const known = this.columns.get(c);
    if (known) return known;
    const begin = Math.floor((c + 0.5) * (SAMPLE_RATE / (PER_FRAME * this.fps))) - WINDOW / 2;
    const piece = new Float64Array(FFT);
    let any = false;
    for (let i = 0; i < WINDOW; i++) {
      const value = this.sample(begin + i);
      piece[i] = value * HANN[i] * SCALE;
      any ||= value !== 0;
    }
    const out = new Float32Array(BANDS).fill(-1);
    if (any) {
      const power = powerOf(piece);
      BANK.forEach(([first, weights], band) => {
        const sum = weights.reduce((total, weight, i) => total + weight * power[first + i], 0);
        out[band] = Math.min(Math.max((10 * Math.log10(Math.max(sum, 1e-12)) + 90) / 45 - 1, -1), 1);
      });
    }
    this.columns.set(c, out);
    if (this.columns.size > KEPT) this.columns.delete(this.columns.keys().next().value);
    return out;
  }

  /** What lips listen to at a frame, [148 * 80]; silence before the frame 0 and from the frame `end` on. */
  window(frame, end = this.frames) {
    const out = new Float32Array(COLUMNS * BANDS).fill(-1);
    for (let i = 0; i < COLUMNS; i++) {
      const c = PER_FRAME * (frame - PAST) + i;
      if (c >= 0 && c < PER_FRAME * end) out.set(this.column(c), i * BANDS);
    }
    return out;
  }
}
