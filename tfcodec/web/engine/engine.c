// Runs the programs that tfcodec/web/program.py makes of the network's graphs: 32-bit floats, one picture at a time.
//
// A program is a row of operations, each of them [code, words, parallel, arguments ...] in 32-bit integers; addresses are
// in bytes, strides and sizes in elements. All memory is laid out by the compiler of the programs: nothing is allocated.
// Several instances on one shared memory are threads: thread 0 calls run(), the others serve(). An operation that is
// worth it is done by all of them, each a part; what is not, by thread 0.
//
// build.py compiles this twice: with and without the instructions of relaxed SIMD, which have a fused multiply-add.

#include <stdint.h>
#include <wasm_simd128.h>

#define EXPORT(name) __attribute__((export_name(#name)))
#define LANES 4
#define INLINE static inline __attribute__((always_inline))

typedef int32_t i32;
typedef v128_t vec;

enum { END, CONV, PAD, COPY, BINARY, UNARY, GRID, RESIZE, MATMUL, REDUCE, POOL, SOFTMAX, NORM, PAD4, CONV4 };
enum { ADD, SUB, MUL, DIV, LESS, GREATER, MAXIMUM };
enum { SIGMOID, SILU, EXP, NEG, CLIP, SQRT, ROUND };
enum { SUM, MEAN, L2 };

INLINE vec load(const float *at) { return wasm_v128_load(at); }
INLINE void store(float *at, vec x) { wasm_v128_store(at, x); }
INLINE vec all(float x) { return wasm_f32x4_splat(x); }
INLINE vec add(vec a, vec b) { return wasm_f32x4_add(a, b); }
INLINE vec sub(vec a, vec b) { return wasm_f32x4_sub(a, b); }
INLINE vec mul(vec a, vec b) { return wasm_f32x4_mul(a, b); }
INLINE i32 least(i32 a, i32 b) { return a < b ? a : b; }
INLINE i32 most(i32 a, i32 b) { return a > b ? a : b; }
INLINE float number(i32 bits) { union { i32 i; float f; } x = { bits }; return x.f; }
#define AT(type, address) ((type *)(uintptr_t)(uint32_t)(address))

/** a * b + c. */
INLINE vec fma(vec a, vec b, vec c) {
#ifdef __wasm_relaxed_simd__
  return wasm_f32x4_relaxed_madd(a, b, c);
#else
  return add(mul(a, b), c);
#endif
}

/**
 * 2^x, to 3e-7 of it near 0: 2^n times a polynomial. n is added to a number whose last digit is worth 1, which rounds it,
 * and leaves n, with the exponent's offset, in the last bits.
 */
INLINE vec power_of_two(vec x) {
  const vec round = all(12582912.0f + 127.0f);
  x = wasm_f32x4_pmax(wasm_f32x4_pmin(x, all(126.0f)), all(-126.0f));
  const vec n = add(x, round), f = sub(x, sub(n, round));
  vec y = all(1.326472423e-03f);
  y = fma(y, f, all(9.671513245e-03f));
  y = fma(y, f, all(5.550733757e-02f));
  y = fma(y, f, all(2.402224207e-01f));
  y = fma(y, f, all(6.931469776e-01f));
  y = fma(y, f, all(1.0f));
  return mul(y, wasm_i32x4_shl(n, 23));
}

#define LOG2_E 1.44269504f

INLINE vec exponential(vec x) { return power_of_two(mul(x, all(LOG2_E))); }

/** 1 + e^-x. */
INLINE vec logistic(vec x) { return add(all(1.0f), power_of_two(mul(x, all(-LOG2_E)))); }

INLINE vec sigmoid(vec x) { return wasm_f32x4_div(all(1.0f), logistic(x)); }

INLINE vec silu(vec x) { return wasm_f32x4_div(x, logistic(x)); }

/** The part of `count` things that a thread does. */
typedef struct { i32 begin, end; } Part;
INLINE Part part(i32 count, i32 thread, i32 threads) {
  return (Part){ (i32)((int64_t)count * thread / threads), (i32)((int64_t)count * (thread + 1) / threads) };
}

// ---- convolutions

typedef struct {
  i32 in, weights, bias, residual, out, inputs, outputs, height, width, plane, row, taps, offsets;
} Conv;

/**
 * 4 output channels of 8 pixels. `x` is the first input channel at the first tap of the first pixel. Weights are
 * [inputs][taps][4].
 */
INLINE void tile(const float *x, const float *w, const Conv *c, const i32 taps, vec acc[8]) {
  const i32 *offsets = AT(i32, c->offsets);
  const i32 plane = c->plane, row = c->row;
  vec a0 = acc[0], a1 = acc[1], a2 = acc[2], a3 = acc[3], b0 = acc[4], b1 = acc[5], b2 = acc[6], b3 = acc[7];
#define TAP(at)                                                                                    \
  {                                                                                                \
    const vec p = load(at), q = load((at) + 4);                                                    \
    const vec w0 = wasm_v128_load32_splat(w), w1 = wasm_v128_load32_splat(w + 1);                  \
    const vec w2 = wasm_v128_load32_splat(w + 2), w3 = wasm_v128_load32_splat(w + 3);              \
    a0 = fma(p, w0, a0); b0 = fma(q, w0, b0); a1 = fma(p, w1, a1); b1 = fma(q, w1, b1);            \
    a2 = fma(p, w2, a2); b2 = fma(q, w2, b2); a3 = fma(p, w3, a3); b3 = fma(q, w3, b3);            \
    w += 4;                                                                                        \
  }
  for (i32 i = 0; i < c->inputs; i++, x += plane) {
    if (taps == 9) { // a 3x3 square in rows
      const float *y = x;
      TAP(y) TAP(y + 1) TAP(y + 2)
      y += row;
      TAP(y) TAP(y + 1) TAP(y + 2)
      y += row;
      TAP(y) TAP(y + 1) TAP(y + 2)
    } else if (taps == 3) { // three pixels of a row
      TAP(x) TAP(x + 1) TAP(x + 2)
    } else if (taps == 1) {
      TAP(x)
    } else {
      for (i32 t = 0; t < c->taps; t++) TAP(x + offsets[t])
    }
  }
#undef TAP
  acc[0] = a0; acc[1] = a1; acc[2] = a2; acc[3] = a3; acc[4] = b0; acc[5] = b1; acc[6] = b2; acc[7] = b3;
}

/** A row of 4 output channels. */
INLINE void conv_row(const Conv *c, i32 group, i32 y, const i32 taps) {
  const i32 size = c->height * c->width;
  const float *w = AT(float, c->weights) + group * 4 * c->inputs * c->taps;
  const float *bias = AT(float, c->bias) + 4 * group;
  const i32 valid = least(4, c->outputs - 4 * group);
  const i32 place = 4 * group * size + y * c->width;
  const float *in = AT(float, c->in) + y * c->row;
  float *out = AT(float, c->out) + place;
  const float *residual = c->residual ? AT(float, c->residual) + place : 0;
  for (i32 x = 0; x < c->width; x += 8) {
    vec acc[8];
    for (i32 j = 0; j < 4; j++) acc[j] = acc[4 + j] = all(bias[j]);
    tile(in + x, w, c, taps, acc);
    if (x + 8 <= c->width) {
      for (i32 j = 0; j < valid; j++) {
        vec a = acc[j], b = acc[4 + j];
        if (residual) {
          a = add(a, load(residual + j * size + x));
          b = add(b, load(residual + j * size + x + 4));
        }
        store(out + j * size + x, a);
        store(out + j * size + x + 4, b);
      }
    } else {
      for (i32 j = 0; j < valid; j++) {
        float values[8];
        store(values, acc[j]);
        store(values + 4, acc[4 + j]);
        for (i32 k = 0; x + k < c->width; k++) {
          out[j * size + x + k] = values[k] + (residual ? residual[j * size + x + k] : 0.0f);
        }
      }
    }
  }
}

static void convolve(const i32 *a, i32 thread, i32 threads) {
  const Conv c = *(const Conv *)a;
  const i32 square = a[13];
  const i32 groups = (c.outputs + 3) / 4;
  // What is read again and again should stay in the cache: rows of large maps, weights of small ones.
  const i32 by_rows = c.height > 16;
  const Part p = part(groups * c.height, thread, threads);
  for (i32 k = p.begin; k < p.end; k++) {
    const i32 y = by_rows ? k / groups : k % c.height;
    const i32 group = by_rows ? k % groups : k / c.height;
    if (square) conv_row(&c, group, y, 9);
    else if (c.taps == 1) conv_row(&c, group, y, 1);
    else conv_row(&c, group, y, 0);
  }
}

/** As convolve() of one tap, of which long rows are shared out, in place of the single one that there is. */
static void convolve_points(const i32 *a, i32 thread, i32 threads) {
  Conv c = *(const Conv *)a;
  const i32 groups = (c.outputs + 3) / 4, total = c.height * c.width;
  const i32 strip = 256;
  const Part p = part((total + strip - 1) / strip, thread, threads);
  // Strips of pixels, and in them the groups: the pixels are read again for each.
  for (i32 s = p.begin; s < p.end; s++) {
    const i32 first = s * strip, count = least(strip, total - first);
    for (i32 g = 0; g < groups; g++) {
      const float *w = AT(float, c.weights) + g * 4 * c.inputs;
      const float *bias = AT(float, c.bias) + 4 * g;
      const i32 valid = least(4, c.outputs - 4 * g);
      for (i32 x = first; x < first + count; x += 8) {
        vec acc[8];
        for (i32 j = 0; j < 4; j++) acc[j] = acc[4 + j] = all(bias[j]);
        tile(AT(float, c.in) + x, w, &c, 1, acc);
        for (i32 j = 0; j < valid; j++) {
          const i32 at = (4 * g + j) * total + x;
          float values[8];
          store(values, acc[j]);
          store(values + 4, acc[4 + j]);
          float *out = AT(float, c.out) + at;
          const float *residual = c.residual ? AT(float, c.residual) + at : 0;
          const i32 n = least(8, total - x);
          for (i32 k = 0; k < n; k++) out[k] = values[k] + (residual ? residual[k] : 0.0f);
        }
      }
    }
  }
}

/**
 * Maps with zeros around them; with `phases` 2 apart into four by odd and even rows and columns, which makes
 * convolutions of stride 2 such of stride 1.
 */
static void pad(const i32 *a, i32 thread, i32 threads) {
  const i32 channels = a[2], height = a[3], width = a[4], in_plane = a[5], in_row = a[6];
  const i32 plane = a[7], row = a[8], phases = a[9], active = a[10], rows = (height + 2 + phases - 1) / phases * phases;
  const Part p = part(channels * rows, thread, threads);
  for (i32 k = p.begin; k < p.end; k++) {
    const i32 channel = k / rows, y = k % rows;
    const float *in = AT(float, a[0]) + channel * in_plane + (y - 1) * in_row;
    float *out = AT(float, a[1]) + channel * plane;
    const i32 outside = y < 1 || y > height;
    if (phases == 1) {
      out += y * row;
      if (outside) {
        for (i32 x = 0; x < row; x++) out[x] = 0;
        continue;
      }
      out[0] = 0;
      for (i32 x = width + 1; x < row; x++) out[x] = 0;
      out++;
      i32 x = 0;
      if (active) {
        for (; x + 4 <= width; x += 4) store(out + x, silu(load(in + x)));
        for (; x < width; x++) out[x] = wasm_f32x4_extract_lane(silu(all(in[x])), 0);
      } else {
        for (; x + 4 <= width; x += 4) store(out + x, load(in + x));
        for (; x < width; x++) out[x] = in[x];
      }
    } else {
      const i32 part_size = plane / 4;
      float *even = out + (y & 1) * 2 * part_size + (y >> 1) * row;
      float *odd = even + part_size;
      for (i32 x = 0; x < row; x++) even[x] = odd[x] = 0;
      if (outside) continue;
      for (i32 x = 0; x < width; x += 4) {
        float values[4];
        const i32 n = least(4, width - x);
        for (i32 j = 0; j < n; j++) values[j] = in[x + j];
        if (active) store(values, silu(load(values)));
        for (i32 j = 0; j < n; j++) ((x + j + 1) & 1 ? odd : even)[(x + j + 1) >> 1] = values[j];
      }
    }
  }
}

// ---- convolutions of 3x3 with half of the multiplications
//
// Winograd's algorithm F(4, 3) along columns (Lavin and Gray, arXiv 1509.09308): six rows make four, and between the two
// transformations lie six convolutions of three pixels of a row.

/** Maps as pad() makes them, six transformed rows for every four: [channels][height / 4][6][row]. */
static void pad4(const i32 *a, i32 thread, i32 threads) {
  const i32 channels = a[2], height = a[3], width = a[4], in_plane = a[5], in_row = a[6];
  const i32 plane = a[7], row = a[8], active = a[10], blocks = height / 4;
  const Part p = part(channels * blocks, thread, threads);
  float lines[6][520];
  for (i32 k = p.begin; k < p.end; k++) {
    const i32 channel = k / blocks, block = k % blocks;
    const float *in = AT(float, a[0]) + channel * in_plane;
    float *out = AT(float, a[1]) + channel * plane + block * 6 * row;
    for (i32 i = 0; i < 6; i++) {
      const i32 y = 4 * block + i - 1;
      float *line = lines[i];
      if (i < 2 && k > p.begin && block) { // it was the last block's
        __builtin_memcpy(line, lines[i + 4], 4 * row);
        continue;
      }
      for (i32 x = width + 1; x < row + 4; x++) line[x] = 0;
      line[0] = 0;
      if (y < 0 || y >= height) {
        for (i32 x = 1; x <= width; x++) line[x] = 0;
        continue;
      }
      const float *from = in + y * in_row;
      for (i32 x = 0; x < width; x += 4) { // behind the end there is room
        vec v = load(from + x);
        if (active) v = silu(v);
        if (x + 4 <= width) store(line + 1 + x, v);
        else for (i32 j = 0; x + j < width; j++) line[1 + x + j] = active ? wasm_f32x4_extract_lane(silu(all(from[x + j])), 0) : from[x + j];
      }
    }
    for (i32 x = 0; x < row; x += 4) {
      const vec d0 = load(lines[0] + x), d1 = load(lines[1] + x), d2 = load(lines[2] + x);
      const vec d3 = load(lines[3] + x), d4 = load(lines[4] + x), d5 = load(lines[5] + x);
      const vec four = all(4), five = all(5), two = all(2);
      const vec e = sub(d4, mul(four, d2)), f = sub(d3, mul(four, d1));
      const vec g = sub(d4, d2), h = mul(two, sub(d3, d1));
      const vec results[6] = {
        add(sub(mul(four, d0), mul(five, d2)), d4), add(e, f), sub(e, f), add(g, h), sub(g, h),
        add(sub(mul(four, d1), mul(five, d3)), d5),
      };
      for (i32 i = 0; i < 6; i++) store(out + i * row + x, results[i]);
    }
  }
}

/** As convolve(), of what pad4() and transform() made. */
static void convolve4(const i32 *a, i32 thread, i32 threads) {
  const Conv c = *(const Conv *)a;
  const i32 groups = (c.outputs + 3) / 4, blocks = c.height / 4, size = c.height * c.width;
  const i32 by_rows = c.height > 16;
  const Part p = part(groups * blocks, thread, threads);
  for (i32 k = p.begin; k < p.end; k++) {
    const i32 block = by_rows ? k / groups : k % blocks;
    const i32 group = by_rows ? k % groups : k / blocks;
    const i32 valid = least(4, c.outputs - 4 * group);
    const float *bias = AT(float, c.bias) + 4 * group;
    const i32 corner = 4 * group * size + 4 * block * c.width;
    for (i32 x = 0; x < c.width; x += 8) {
      vec m[6][8];
      for (i32 i = 0; i < 6; i++) {
        for (i32 j = 0; j < 8; j++) m[i][j] = all(0);
        const float *w = AT(float, c.weights) + (group * 6 + i) * c.inputs * 12;
        tile(AT(float, c.in) + (6 * block + i) * c.row + x, w, &c, 3, m[i]);
      }
      for (i32 half = 0; half < 2; half++) {
        const i32 first = x + 4 * half, count = least(4, c.width - first);
        if (count <= 0) break;
        for (i32 j = 0; j < valid; j++) {
          const i32 at = 4 * half + j;
          const vec sum = add(m[1][at], m[2][at]), difference = sub(m[1][at], m[2][at]);
          const vec far = add(m[3][at], m[4][at]), across = sub(m[3][at], m[4][at]), offset = all(bias[j]);
          const vec rows[4] = {
            add(add(add(m[0][at], sum), far), offset), add(fma(across, all(2), difference), offset),
            add(fma(far, all(4), sum), offset), add(add(fma(across, all(8), difference), m[5][at]), offset),
          };
          for (i32 i = 0; i < 4; i++) {
            const i32 place_at = corner + j * size + i * c.width + first;
            float *out = AT(float, c.out) + place_at;
            const float *residual = c.residual ? AT(float, c.residual) + place_at : 0;
            if (count == 4) store(out, residual ? add(rows[i], load(residual)) : rows[i]);
            else {
              float values[4];
              store(values, rows[i]);
              for (i32 n = 0; n < count; n++) out[n] = values[n] + (residual ? residual[n] : 0.0f);
            }
          }
        }
      }
    }
  }
}

/** Weights [groups][inputs][3][3][4] to [groups][6][inputs][3][4]. */
EXPORT(transform) void transform(const float *in, float *out, i32 groups, i32 inputs) {
  for (i32 k = 0; k < groups * inputs; k++) {
    const i32 group = k / inputs, input = k % inputs;
    for (i32 t = 0; t < 12; t++) {
      const float *g = in + k * 36 + t;
      const float a = g[0], b = g[12], c = g[24];
      const float results[6] = {
        a / 4, -(a + b + c) / 6, -(a - b + c) / 6, (a / 4 + b / 2 + c) / 6, (a / 4 - b / 2 + c) / 6, c,
      };
      for (i32 i = 0; i < 6; i++) out[((group * 6 + i) * inputs + input) * 12 + t] = results[i];
    }
  }
}

// ---- what is done element by element; shapes have five dimensions

INLINE void place(i32 k, const i32 *n, const i32 *strides, i32 *at) {
  // Where row k begins: of the four outer dimensions.
  i32 out = 0;
  for (i32 d = 3; d >= 0; d--) {
    out += k % n[d] * strides[d];
    k /= n[d];
  }
  *at = out;
}

static void copy(const i32 *a, i32 thread, i32 threads) {
  const i32 *n = a + 2, *from = a + 7, *to = a + 12;
  const Part p = part(n[0] * n[1] * n[2] * n[3], thread, threads);
  const i32 step_in = from[4], step_out = to[4], count = n[4];
  for (i32 k = p.begin; k < p.end; k++) {
    i32 i, o;
    place(k, n, from, &i);
    place(k, n, to, &o);
    const float *in = AT(float, a[0]) + i;
    float *out = AT(float, a[1]) + o;
    if (step_in == 1 && step_out == 1) {
      i32 x = 0;
      for (; x + 4 <= count; x += 4) store(out + x, load(in + x));
      for (; x < count; x++) out[x] = in[x];
    } else {
      for (i32 x = 0; x < count; x++) out[x * step_out] = in[x * step_in];
    }
  }
}

INLINE vec binary_of(i32 kind, vec x, vec y) {
  switch (kind) {
    case ADD: return add(x, y);
    case SUB: return sub(x, y);
    case MUL: return mul(x, y);
    case DIV: return wasm_f32x4_div(x, y);
    case LESS: return wasm_v128_and(wasm_f32x4_lt(x, y), all(1.0f));
    case GREATER: return wasm_v128_and(wasm_f32x4_gt(x, y), all(1.0f));
    default: return wasm_f32x4_max(x, y);
  }
}

INLINE void binary_rows(const i32 *a, const i32 kind, i32 thread, i32 threads) {
  const i32 *n = a + 4, *left = a + 9, *right = a + 14;
  const Part p = part(n[0] * n[1] * n[2] * n[3], thread, threads);
  const i32 count = n[4], step_x = left[4], step_y = right[4];
  for (i32 k = p.begin; k < p.end; k++) {
    i32 i, j;
    place(k, n, left, &i);
    place(k, n, right, &j);
    const float *x = AT(float, a[1]) + i, *y = AT(float, a[2]) + j;
    float *out = AT(float, a[3]) + k * count;
    i32 at = 0;
    if (step_x == 1 && step_y == 1) {
      for (; at + 4 <= count; at += 4) store(out + at, binary_of(kind, load(x + at), load(y + at)));
    } else if (step_x == 1 && step_y == 0) {
      for (; at + 4 <= count; at += 4) store(out + at, binary_of(kind, load(x + at), all(*y)));
    } else if (step_x == 0 && step_y == 1) {
      for (; at + 4 <= count; at += 4) store(out + at, binary_of(kind, all(*x), load(y + at)));
    }
    for (; at < count; at++) {
      out[at] = wasm_f32x4_extract_lane(binary_of(kind, all(x[at * step_x]), all(y[at * step_y])), 0);
    }
  }
}

static void binary(const i32 *a, i32 thread, i32 threads) {
  switch (a[0]) {
    case ADD: binary_rows(a, ADD, thread, threads); break;
    case SUB: binary_rows(a, SUB, thread, threads); break;
    case MUL: binary_rows(a, MUL, thread, threads); break;
    case DIV: binary_rows(a, DIV, thread, threads); break;
    case LESS: binary_rows(a, LESS, thread, threads); break;
    case GREATER: binary_rows(a, GREATER, thread, threads); break;
    default: binary_rows(a, MAXIMUM, thread, threads);
  }
}

INLINE vec unary_of(i32 kind, vec x, vec low, vec high) {
  switch (kind) {
    case SIGMOID: return sigmoid(x);
    case SILU: return silu(x);
    case EXP: return exponential(x);
    case NEG: return wasm_f32x4_neg(x);
    case CLIP: return wasm_f32x4_min(wasm_f32x4_max(x, low), high);
    case SQRT: return wasm_f32x4_sqrt(x);
    default: return wasm_f32x4_nearest(x);
  }
}

static void unary(const i32 *a, i32 thread, i32 threads) {
  const i32 kind = a[0], count = a[3];
  const vec low = all(number(a[4])), high = all(number(a[5]));
  const float *in = AT(float, a[1]);
  float *out = AT(float, a[2]);
  const Part p = part((count + 3) / 4, thread, threads); // buffers have room for whole vectors
  for (i32 k = p.begin; k < p.end; k++) store(out + 4 * k, unary_of(kind, load(in + 4 * k), low, high));
}

// ---- places

#define STRIP 64

/** Bilinear samples at places in -1..1 (align_corners = False); beyond the edges 0, or with `border` the edge. */
static void grid_sample(const i32 *a, i32 thread, i32 threads) {
  const i32 channels = a[3], height = a[4], width = a[5], count = a[6], border = a[7];
  const i32 step = a[8], down_from_across = a[9]; // between places, and between a place's two numbers
  const float *grid = AT(float, a[1]);
  const Part p = part((count + STRIP - 1) / STRIP, thread, threads);
  for (i32 s = p.begin; s < p.end; s++) {
    const i32 first = s * STRIP, n = least(STRIP, count - first);
    i32 at[4][STRIP];
    float weight[4][STRIP];
    i32 any = 0;
    for (i32 k = 0; k < n; k++) {
      float x = ((grid[step * (first + k)] + 1) * width - 1) * 0.5f;
      float y = ((grid[step * (first + k) + down_from_across] + 1) * height - 1) * 0.5f;
      if (border) {
        x = x > 0 ? (x < width - 1 ? x : width - 1) : 0; // not a number goes to 0, too
        y = y > 0 ? (y < height - 1 ? y : height - 1) : 0;
      } else {
        x = x > -2 ? (x < width + 1 ? x : width + 1) : -2;
        y = y > -2 ? (y < height + 1 ? y : height + 1) : -2;
      }
      const float fx = __builtin_floorf(x), fy = __builtin_floorf(y);
      const i32 x0 = (i32)fx, y0 = (i32)fy;
      const float right = x - fx, down = y - fy;
      const float left_in = x0 >= 0 && x0 < width, right_in = x0 >= -1 && x0 < width - 1;
      const float up_in = y0 >= 0 && y0 < height, down_in = y0 >= -1 && y0 < height - 1;
      const i32 xa = most(0, least(x0, width - 1)), xb = most(0, least(x0 + 1, width - 1));
      const i32 ya = most(0, least(y0, height - 1)), yb = most(0, least(y0 + 1, height - 1));
      at[0][k] = ya * width + xa; at[1][k] = ya * width + xb; at[2][k] = yb * width + xa; at[3][k] = yb * width + xb;
      weight[0][k] = (1 - right) * (1 - down) * left_in * up_in;
      weight[1][k] = right * (1 - down) * right_in * up_in;
      weight[2][k] = (1 - right) * down * left_in * down_in;
      weight[3][k] = right * down * right_in * down_in;
      any |= weight[0][k] + weight[1][k] + weight[2][k] + weight[3][k] > 0;
    }
    for (i32 c = 0; c < channels; c++) {
      const float *in = AT(float, a[0]) + c * height * width;
      float *out = AT(float, a[2]) + c * count + first;
      if (!any) { // most of a picture that a square is pasted into
        for (i32 k = 0; k < n; k++) out[k] = 0;
        continue;
      }
      for (i32 k = 0; k < n; k++) {
        out[k] = in[at[0][k]] * weight[0][k] + in[at[1][k]] * weight[1][k] + in[at[2][k]] * weight[2][k] +
                 in[at[3][k]] * weight[3][k];
      }
    }
  }
}

/** Linear interpolation; the tables say for every row and column which are the two around it, and how far it is. */
static void resize(const i32 *a, i32 thread, i32 threads) {
  const i32 channels = a[2], height = a[3], width = a[4], out_height = a[5], out_width = a[6];
  const i32 *rows = AT(i32, a[7]), *columns = AT(i32, a[9]);
  const float *down = AT(float, a[8]), *right = AT(float, a[10]);
  const Part p = part(channels * out_height, thread, threads);
  for (i32 k = p.begin; k < p.end; k++) {
    const i32 c = k / out_height, y = k % out_height;
    const float *in = AT(float, a[0]) + c * height * width;
    const float *upper = in + rows[2 * y] * width, *lower = in + rows[2 * y + 1] * width;
    float *out = AT(float, a[1]) + k * out_width;
    float line[512];
    const vec share = all(down[y]);
    for (i32 x = 0; x < width; x += 4) {
      const vec above = load(upper + x);
      store(line + x, add(above, mul(sub(load(lower + x), above), share)));
    }
    for (i32 x = 0; x < out_width; x++) {
      const float one = line[columns[2 * x]];
      out[x] = one + (line[columns[2 * x + 1]] - one) * right[x];
    }
  }
}

static void pool(const i32 *a, i32 thread, i32 threads) {
  const i32 channels = a[2], height = a[3], width = a[4], side = a[5];
  const i32 rows = height / side, columns = width / side;
  const float share = 1.0f / (side * side);
  const Part p = part(channels * rows, thread, threads);
  for (i32 k = p.begin; k < p.end; k++) {
    const float *in = AT(float, a[0]) + k * side * width;
    float *out = AT(float, a[1]) + k * columns;
    for (i32 x = 0; x < columns; x++) {
      float sum = 0;
      for (i32 i = 0; i < side; i++) for (i32 j = 0; j < side; j++) sum += in[i * width + x * side + j];
      out[x] = sum * share;
    }
  }
}

// ---- matrices and rows

static void product(const i32 *a, i32 thread, i32 threads) {
  const i32 m = a[4], inner = a[5], n = a[6];
  const Part p = part(a[3] * m, thread, threads);
  for (i32 k = p.begin; k < p.end; k++) {
    const i32 batch = k / m;
    const float *x = AT(float, a[0]) + batch * a[7] + k % m * inner;
    const float *y = AT(float, a[1]) + batch * a[8];
    float *out = AT(float, a[2]) + k * n;
    i32 j = 0;
    for (; j + 16 <= n; j += 16) {
      vec s = all(0), t = s, u = s, v = s;
      for (i32 i = 0; i < inner; i++) {
        const vec f = all(x[i]);
        const float *line = y + i * n + j;
        s = fma(f, load(line), s);
        t = fma(f, load(line + 4), t);
        u = fma(f, load(line + 8), u);
        v = fma(f, load(line + 12), v);
      }
      store(out + j, s); store(out + j + 4, t); store(out + j + 8, u); store(out + j + 12, v);
    }
    for (; j < n; j++) {
      float sum = 0;
      for (i32 i = 0; i < inner; i++) sum += x[i] * y[i * n + j];
      out[j] = sum;
    }
  }
}

static void reduce(const i32 *a, i32 thread, i32 threads) {
  const i32 kind = a[0], outer = a[3], count = a[4], inner = a[5];
  const Part p = part(outer * inner, thread, threads);
  for (i32 k = p.begin; k < p.end; k++) {
    const float *in = AT(float, a[1]) + k / inner * count * inner + k % inner;
    float sum = 0;
    for (i32 i = 0; i < count; i++) sum += kind == L2 ? in[i * inner] * in[i * inner] : in[i * inner];
    AT(float, a[2])[k] = kind == MEAN ? sum / count : kind == L2 ? __builtin_sqrtf(sum) : sum;
  }
}

static void softmax(const i32 *a, i32 thread, i32 threads) {
  const i32 count = a[3];
  const Part p = part(a[2], thread, threads);
  for (i32 k = p.begin; k < p.end; k++) {
    const float *in = AT(float, a[0]) + k * count;
    float *out = AT(float, a[1]) + k * count;
    float top = in[0], sum = 0;
    for (i32 i = 1; i < count; i++) top = in[i] > top ? in[i] : top;
    for (i32 i = 0; i < count; i++) sum += out[i] = wasm_f32x4_extract_lane(exponential(all(in[i] - top)), 0);
    for (i32 i = 0; i < count; i++) out[i] /= sum;
  }
}

static void norm(const i32 *a, i32 thread, i32 threads) {
  const i32 count = a[5];
  const float *scale = AT(float, a[1]), *bias = AT(float, a[2]);
  const Part p = part(a[4], thread, threads);
  for (i32 k = p.begin; k < p.end; k++) {
    const float *in = AT(float, a[0]) + k * count;
    float *out = AT(float, a[3]) + k * count;
    float mean = 0, square = 0;
    for (i32 i = 0; i < count; i++) mean += in[i];
    mean /= count;
    for (i32 i = 0; i < count; i++) square += (in[i] - mean) * (in[i] - mean);
    const float factor = 1 / __builtin_sqrtf(square / count + number(a[6]));
    for (i32 i = 0; i < count; i++) out[i] = (in[i] - mean) * factor * scale[i] + bias[i];
  }
}

// ---- programs and threads

#define SPINS 3000 // looks at a number before a thread goes to sleep

/** What threads share, at the address that they are told. */
typedef struct {
  i32 order, program, threads, arrived, round, asleep;
} Shared;

static void sleep_while(i32 *number_at, i32 value, Shared *shared) {
  for (i32 i = 0; i < SPINS; i++) if (__atomic_load_n(number_at, __ATOMIC_ACQUIRE) != value) return;
  __atomic_fetch_add(&shared->asleep, 1, __ATOMIC_SEQ_CST);
  while (__atomic_load_n(number_at, __ATOMIC_SEQ_CST) == value) {
    __builtin_wasm_memory_atomic_wait32(number_at, value, -1);
  }
  __atomic_fetch_sub(&shared->asleep, 1, __ATOMIC_SEQ_CST);
}

static void wake(i32 *number_at, Shared *shared) {
  if (__atomic_load_n(&shared->asleep, __ATOMIC_SEQ_CST)) __builtin_wasm_memory_atomic_notify(number_at, -1);
}

/** Wait until all threads are here. */
static void meet(Shared *shared, i32 threads) {
  if (threads == 1) return;
  const i32 round = __atomic_load_n(&shared->round, __ATOMIC_SEQ_CST);
  if (__atomic_add_fetch(&shared->arrived, 1, __ATOMIC_SEQ_CST) == threads) {
    __atomic_store_n(&shared->arrived, 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&shared->round, round + 1, __ATOMIC_SEQ_CST);
    wake(&shared->round, shared);
  } else sleep_while(&shared->round, round, shared);
}

static void operate(i32 code, const i32 *a, i32 thread, i32 threads) {
  switch (code) {
    case CONV: (a[11] == 1 && !a[13] ? convolve_points : convolve)(a, thread, threads); break;
    case PAD: pad(a, thread, threads); break;
    case COPY: copy(a, thread, threads); break;
    case BINARY: binary(a, thread, threads); break;
    case UNARY: unary(a, thread, threads); break;
    case GRID: grid_sample(a, thread, threads); break;
    case RESIZE: resize(a, thread, threads); break;
    case MATMUL: product(a, thread, threads); break;
    case REDUCE: reduce(a, thread, threads); break;
    case POOL: pool(a, thread, threads); break;
    case SOFTMAX: softmax(a, thread, threads); break;
    case NORM: norm(a, thread, threads); break;
    case PAD4: pad4(a, thread, threads); break;
    case CONV4: convolve4(a, thread, threads); break;
  }
}

static void execute(const i32 *at, i32 thread, i32 threads, Shared *shared) {
  i32 alone = 0; // whether thread 0 has done something by itself that others have to wait for
  for (; *at != END; at += at[1]) {
    if (!at[2]) {
      if (thread == 0) operate(at[0], at + 3, 0, 1);
      alone = 1;
      continue;
    }
    if (alone) meet(shared, threads);
    alone = 0;
    operate(at[0], at + 3, thread, threads);
    meet(shared, threads);
  }
  if (alone) meet(shared, threads);
}

/** Run a program with the threads that serve. */
EXPORT(run) void run(i32 program, i32 threads, Shared *shared) {
  if (threads > 1) {
    shared->program = program;
    __atomic_add_fetch(&shared->order, 1, __ATOMIC_SEQ_CST);
    wake(&shared->order, shared);
  }
  execute(AT(i32, program), 0, threads, shared);
}

/** Be a thread, for ever. `order` is how many programs were run before. */
EXPORT(serve) void serve(i32 thread, i32 threads, Shared *shared, i32 order) {
  for (;; order++) {
    sleep_while(&shared->order, order, shared);
    execute(AT(i32, shared->program), thread, threads, shared);
  }
}

/** Floats out of `count` numbers in 16 bits (IEEE 754 binary16). */
EXPORT(widen) void widen(const uint16_t *in, float *out, i32 count) {
  for (i32 i = 0; i < count; i++) {
    const uint32_t half = in[i], sign = (half & 0x8000) << 16, magnitude = half & 0x7fff;
    union { uint32_t i; float f; } x = { magnitude << 13 };
    x.f *= 0x1p112f; // the exponent's offset is 127 in place of 15; this is right for denormal numbers, too
    x.i |= sign;
    out[i] = x.f;
  }
}
