// Colour in integers: sections 8.3 and 10.1 of the specification.

const SIDE = 256;
const byte = (x) => (x < 0 ? 0 : x > 255 ? 255 : x);

/** Decoded planes Y [256 * 256], U and V [128 * 128] to RGB [256 * 256 * 3]. */
export function planesToRgb(luma, u, v) {
  const out = new Uint8Array(SIDE * SIDE * 3);
  const half = SIDE / 2;
  let at = 0;
  for (let y = 0; y < SIDE; y++) {
    const j = y >> 1;
    const far = y & 1 ? Math.min(j + 1, half - 1) : Math.max(j - 1, 0);
    for (let x = 0; x < SIDE; x++) {
      const i = x >> 1;
      const beside = x & 1 ? Math.min(i + 1, half - 1) : Math.max(i - 1, 0);
      const a = j * half + i;
      const b = j * half + beside;
      const c = far * half + i;
      const d = far * half + beside;
      const cb = 9 * u[a] + 3 * u[b] + 3 * u[c] + u[d] - 2048;
      const cr = 9 * v[a] + 3 * v[b] + 3 * v[c] + v[d] - 2048;
      const base = (luma[y * SIDE + x] << 18) + 131072;
      out[at++] = byte((base + 25802 * cr) >> 18);
      out[at++] = byte((base - 3069 * cb - 7670 * cr) >> 18);
      out[at++] = byte((base + 30402 * cb) >> 18);
    }
  }
  return out;
}

/** The tiny frame [96] of a picture [256 * 256 * 3] RGB. */
export function tinyOfPicture(rgb) {
  const sums = new Int32Array(8 * 8 * 3);
  for (let y = 0; y < SIDE; y++) {
    for (let x = 0; x < SIDE; x++) {
      const field = ((y >> 5) * 8 + (x >> 5)) * 3;
      const pixel = (y * SIDE + x) * 3;
      for (let c = 0; c < 3; c++) sums[field + c] += rgb[pixel + c];
    }
  }
  return tinyOfSums(sums);
}

/** The same of the channels' sums over 32 x 32 pixels [8 * 8 * 3]. */
export function tinyOfSums(sums) {
  const limit = (x) => Math.min(Math.max(x, 0), 4080);
  const out = new Int16Array(96);
  for (let i = 0; i < 64; i++) {
    const [r, g, b] = sums.subarray(3 * i, 3 * i + 3);
    out[i] = limit(Math.floor((13933 * r + 46871 * g + 4732 * b + 0x200000) / 0x400000)); // beyond 32 bits
  }
  for (let i = 0; i < 16; i++) {
    const top = ((i >> 2) * 2 * 8 + (i & 3) * 2) * 3;
    const [r, g, b] = [0, 1, 2].map((c) => sums[top + c] + sums[top + 3 + c] + sums[top + 24 + c] + sums[top + 27 + c]);
    out[64 + i] = limit(Math.floor((-7509 * r - 25259 * g + 32768 * b + 0x800000) / 0x1000000) + 2048);
    out[80 + i] = limit(Math.floor((32768 * r - 29763 * g - 3005 * b + 0x800000) / 0x1000000) + 2048);
  }
  return out;
}

/** A tiny frame's samples [96] as RGB [8 * 8 * 3]. */
export function tinyToRgb(samples) {
  const out = new Uint8Array(8 * 8 * 3);
  for (let y = 0; y < 8; y++) {
    for (let x = 0; x < 8; x++) {
      const chroma = 64 + (y >> 1) * 4 + (x >> 1);
      const luma = 65536 * samples[y * 8 + x] + 0x80000;
      const b = samples[chroma] - 2048;
      const r = samples[chroma + 16] - 2048;
      const at = (y * 8 + x) * 3;
      out[at] = byte((luma + 103206 * r) >> 20);
      out[at + 1] = byte((luma - 12276 * b - 30679 * r) >> 20);
      out[at + 2] = byte((luma + 121609 * b) >> 20);
    }
  }
  return out;
}
