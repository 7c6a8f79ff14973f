// Noise where packets were not sent, like what was heard last (section 9.1, "Missing packets"): a pause is not a hole.

const WINDOW = 320; // samples at 16 kHz
const HALF = WINDOW / 2;
const MEMORY = 5 * WINDOW; // 100 ms: before a gap the sender lets noise alone through for longer than that
const TAPS = 64;
const FADE = 160;
const SMOOTH = 4; // bins on either side

const hann = (size) => Float64Array.from({ length: size }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / size));
const SHAPE = hann(WINDOW);
const COSINES = Float64Array.from({ length: WINDOW }, (_, i) => Math.cos((2 * Math.PI * i) / WINDOW));

/** Power [161] of a piece [320]. */
function powerOf(piece) {
  const out = new Float64Array(HALF + 1);
  for (let bin = 0; bin <= HALF; bin++) {
    let re = 0;
    let im = 0;
    for (let i = 0; i < WINDOW; i++) {
      re += piece[i] * COSINES[(bin * i) % WINDOW];
      im += piece[i] * COSINES[(bin * i + 3 * (WINDOW / 4)) % WINDOW]; // a sine, but for its sign
    }
    out[bin] = re * re + im * im;
  }
  return out;
}

/** The filter [64] that gives white noise the level and the coarse spectrum of a sound's end; null if that is too short. */
export function filterOf(sound) {
  const heard = sound.subarray(Math.max(0, sound.length - MEMORY));
  const count = Math.floor(heard.length / HALF) - 1;
  if (count < 1) return null;
  const energy = SHAPE.reduce((sum, x) => sum + x * x, 0);
  const powers = Array.from({ length: count }, (_, k) => powerOf(SHAPE.map((x, i) => x * heard[k * HALF + i])));
  // The quieter half: a click at the end of a word is no background.
  const sum = (power) => power.reduce((a, b) => a + b, 0);
  powers.sort((a, b) => sum(a) - sum(b));
  const quiet = powers.slice(0, (count + 1) >> 1);
  const mean = quiet[0].map((_, bin) => quiet.reduce((a, power) => a + power[bin], 0) / quiet.length / energy);
  const level = mean.map((_, bin) => {
    let total = 0;
    for (let k = bin - SMOOTH; k <= bin + SMOOTH; k++) total += mean[Math.min(Math.max(k, 0), HALF)];
    return Math.sqrt(total / (2 * SMOOTH + 1));
  });
  const edge = hann(TAPS);
  return Float32Array.from(edge, (weight, i) => {
    const at = i - TAPS / 2 + WINDOW;
    let value = level[0] + level[HALF] * (at % 2 ? -1 : 1);
    for (let bin = 1; bin < HALF; bin++) value += 2 * level[bin] * COSINES[(bin * at) % WINDOW];
    return (weight * value) / WINDOW;
  });
}

/** Noise of that kind; the same at every run. */
class ComfortNoise {
  constructor() {
    this.filter = new Float32Array(TAPS);
    this.white = new Float64Array(TAPS); // the last numbers, in a ring
    this.at = 0;
    this.seed = 1;
  }

  learn(sound) {
    this.filter = filterOf(sound) ?? this.filter;
  }

  /** A number of 32 bits in 0..1 (mulberry32). */
  random() {
    this.seed = (this.seed + 0x6d2b79f5) | 0;
    let x = Math.imul(this.seed ^ (this.seed >>> 15), this.seed | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) / 4294967296;
  }

  make(count) {
    return Float32Array.from({ length: count }, () => {
      const radius = Math.sqrt(-2 * Math.log(1 - this.random()));
      this.white[this.at] = radius * Math.cos(2 * Math.PI * this.random());
      let out = 0;
      for (let k = 0; k < TAPS; k++) out += this.filter[k] * this.white[(this.at - k) & (TAPS - 1)];
      this.at = (this.at + 1) & (TAPS - 1);
      return out;
    });
  }
}

function fade(old, fresh) {
  const length = Math.min(FADE, old.length, fresh.length);
  for (let i = 0; i < length; i++) fresh[i] += (1 - i / (length - 1 || 1)) * (old[i] - fresh[i]);
}

/**
 * Tells packets that were not sent from those that are there, in their order; lost ones count as the latter, unless they
 * come right after one that was not sent. `next` works on a packet's decoded samples in place.
 */
export class GapFiller {
  constructor() {
    this.noise = new ComfortNoise();
    this.heard = new Float32Array(0);
    this.pausing = false;
  }

  /** `kind` is "sent", "lost" or "pause". At the beginning of a pause `piece` is the decoder's own end of what it said. */
  next(piece, kind) {
    const pausing = kind === "pause" || (kind === "lost" && this.pausing);
    if (!pausing) {
      if (kind === "sent") this.learn(piece);
      if (this.pausing) fade(this.noise.make(FADE), piece);
    } else {
      if (!this.pausing) this.noise.learn(this.heard);
      const fresh = this.noise.make(piece.length);
      if (!this.pausing) fade(piece, fresh);
      piece.set(fresh);
    }
    this.pausing = pausing;
  }

  learn(piece) {
    const both = new Float32Array(this.heard.length + piece.length);
    both.set(this.heard);
    both.set(piece, this.heard.length);
    this.heard = both.subarray(Math.max(0, both.length - MEMORY));
  }
}

/** Put noise into decoded speech, in place, where `sent[k]` says that packet k of `size` samples was not sent. */
export function fillGaps(speech, sent, size) {
  const filler = new GapFiller();
  sent.forEach((here, k) => filler.next(speech.subarray(k * size, (k + 1) * size), here ? "sent" : "pause"));
}
