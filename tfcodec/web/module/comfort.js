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

/** The filter [64] that gives white noise the level and the coarse spectrum of the end of a sound; null if it is too short. */
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
 * Put noise into decoded speech, in place, where `sent[k]` says that packet k was not sent. Packets have `size` samples at
 * 16 kHz. What stands at the beginning of a gap, the decoder's own end of what it said, is faded out.
 */
export function fillGaps(speech, sent, size) {
  const noise = new ComfortNoise();
  let heard = new Float32Array(0);
  let pausing = false;
  for (let k = 0; k < sent.length; k++) {
    const piece = speech.subarray(k * size, (k + 1) * size);
    if (sent[k]) {
      const both = new Float32Array(heard.length + size);
      both.set(heard);
      both.set(piece, heard.length);
      heard = both.subarray(Math.max(0, both.length - MEMORY));
      if (pausing) fade(noise.make(FADE), piece);
    } else {
      if (!pausing) noise.learn(heard);
      const fresh = noise.make(size);
      if (!pausing) fade(piece, fresh);
      piece.set(fresh);
    }
    pausing = !sent[k];
  }
}
