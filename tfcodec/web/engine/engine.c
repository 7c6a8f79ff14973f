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
/** Of operations: browsers compile what runs often once more, function by function. */
#define APART static __attribute__((noinline))

typedef int32_t i32;
typedef v128_t vec;

enum { END, CONV, PAD, COPY, BINARY, UNARY, GRID, RESIZE, MATMUL, REDUCE, POOL, SOFTMAX, NORM, CONV4 };
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
 * Numbers that loops multiply by. Browsers make a constant vector anew, in three instructions, wherever it is used; out
 * of memory it takes one. The pointer hides from the compiler that they are constants.
 */
static const float NUMBERS[] = {
  12582912.0f + 127.0f, 126.0f, -126.0f, 1.326472423e-03f, 9.671513245e-03f, 5.550733757e-02f, 2.402224207e-01f,
  6.931469776e-01f, 1.0f, 1.44269504f, -1.44269504f, 4.0f, -4.0f, -5.0f, 2.0f, -2.0f, 8.0f,
};
enum {
  ROUNDING, MOST, LEAST, P5, P4, P3, P2, P1, ONE, LOG2_E, MINUS_LOG2_E, FOUR, MINUS_FOUR, MINUS_FIVE, TWO, MINUS_TWO, EIGHT,
};

INLINE vec constant(i32 which) {
  const float *at = NUMBERS;
  __asm__("" : "+r"(at));
  return wasm_v128_load32_splat(at + which);
}

/**
 * 2^x, to 3e-7 of it near 0: 2^n times a polynomial. n is added to a number whose last digit is worth 1, which rounds it,
 * and leaves n, with the exponent's offset, in the last bits.
 */
INLINE vec power_of_two(vec x) {
  const vec round = constant(ROUNDING);
  x = wasm_f32x4_pmax(wasm_f32x4_pmin(x, constant(MOST)), constant(LEAST));
  const vec n = add(x, round), f = sub(x, sub(n, round));
  vec y = constant(P5);
  y = fma(y, f, constant(P4));
  y = fma(y, f, constant(P3));
  y = fma(y, f, constant(P2));
  y = fma(y, f, constant(P1));
  y = fma(y, f, constant(ONE));
  return mul(y, wasm_i32x4_shl(n, 23));
}

INLINE vec exponential(vec x) { return power_of_two(mul(x, constant(LOG2_E))); }

/** 1 + e^-x. */
INLINE vec logistic(vec x) { return add(constant(ONE), power_of_two(mul(x, constant(MINUS_LOG2_E)))); }

INLINE vec sigmoid(vec x) { return wasm_f32x4_div(constant(ONE), logistic(x)); }

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
  const i32 plane = c->plane;
  vec a0 = acc[0], a1 = acc[1], a2 = acc[2], a3 = acc[3], b0 = acc[4], b1 = acc[5], b2 = acc[6], b3 = acc[7];
#define TAP(at)                                                                                    \
  {                                                                                                \
    const vec p = load(at), q = load((at) + 4);                                                    \
    const vec w0 = wasm_v128_load32_splat(w), w1 = wasm_v128_load32_splat(w + 1);                  \
    a0 = fma(p, w0, a0); b0 = fma(q, w0, b0); a1 = fma(p, w1, a1); b1 = fma(q, w1, b1);            \
    const vec w2 = wasm_v128_load32_splat(w + 2), w3 = wasm_v128_load32_splat(w + 3);              \
    a2 = fma(p, w2, a2); b2 = fma(q, w2, b2); a3 = fma(p, w3, a3); b3 = fma(q, w3, b3);            \
    w += 4;                                                                                        \
  }
  for (i32 i = 0; i < c->inputs; i++, x += plane) {
    if (taps == 1) TAP(x)
    else for (i32 t = 0; t < c->taps; t++) TAP(x + offsets[t])
  }
#undef TAP
  acc[0] = a0; acc[1] = a1; acc[2] = a2; acc[3] = a3; acc[4] = b0; acc[5] = b1; acc[6] = b2; acc[7] = b3;
}

/** A row of 4 output channels. */
INLINE void conv_row(const Conv *c, i32 group, i32 y) {
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
    tile(in + x, w, c, 0, acc);
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

APART void convolve(const i32 *a, i32 thread, i32 threads) {
  const Conv c = *(const Conv *)a;
  const i32 groups = (c.outputs + 3) / 4;
  // What is read again and again should stay in the cache: rows of large maps, weights of small ones.
  const i32 by_rows = c.height > 16;
  const Part p = part(groups * c.height, thread, threads);
  for (i32 k = p.begin; k < p.end; k++) {
    const i32 y = by_rows ? k / groups : k % c.height;
    const i32 group = by_rows ? k % groups : k / c.height;
    conv_row(&c, group, y);
  }
}

/** As convolve() of one tap, of which long rows are shared out, in place of the single one that there is. */
APART void convolve_points(const i32 *a, i32 thread, i32 threads) {
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
APART void pad(const i32 *a, i32 thread, i32 threads) {
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

// ---- convolutions of 3x3 with a third of the multiplications
//
// Winograd's algorithm (Lavin and Gray, arXiv 1509.09308), F(4, 3) along columns and F(2, 3) along rows: tiles of 6 rows
// and 4 columns, of which neighbours share 2, become 4 rows and 2 columns. Between the two transformations lie 24
// products of matrices [outputs, inputs] and [inputs, tiles].

#define FACTORS 24
#define WIDEST 512

typedef struct {
  i32 weights, bias, residual, out, inputs, outputs, height, width;
  i32 scratch, size; // floats for each thread
  i32 strips; // rows of tiles that are done together
  i32 by_groups; // whether threads share the output channels, or the rows of tiles
  i32 active, parts; // behind it come maps that lie side by side: Maps[parts]
} Square;

typedef struct { i32 in, channels, plane, row; } Maps;

/** What one thread works in. Matrices lie `step` floats apart, which is not a multiple of a page: caches want that. */
typedef struct {
  float *given, *made, *edges;
  i32 columns, given_step, made_step, edge;
} Scratch;

INLINE void copy_row(float *to, const float *from, i32 count) {
  for (i32 x = 0; x < count; x += 4) store(to + x, load(from + x));
}

/** One row of a map between zeros, [reach]. It is read again at once: so it is written in the same pieces. */
INLINE void margin_row(const float *from, float *line, i32 width, i32 reach, const i32 active) {
  vec before = all(0);
  i32 x = 0;
  for (; x < width; x += 4) { // behind the end there is room
    vec v = load(from + x);
    if (active) v = silu(v);
    if (x + 4 > width) v = wasm_i32x4_shuffle(v, all(0), 0, 1, 4, 4); // widths are even
    store(line + x, wasm_i32x4_shuffle(before, v, 3, 4, 5, 6));
    before = v;
  }
  for (; x < reach; x += 4) {
    store(line + x, wasm_i32x4_shuffle(before, all(0), 3, 4, 4, 4));
    before = all(0);
  }
}

/** Tiles of one channel in `strips` rows of tiles from `first` on; the edges have the rows before, if `more`. */
INLINE void tiles_of(
  const Square *c, const Scratch *s, const float *in, i32 in_row, i32 channel, i32 first, i32 strips, i32 more
) {
  float lines[6][WIDEST + 24], mixed[6][WIDEST + 24];
  const i32 across = c->width / 2, reach = (c->width + 7) / 8 * 8 + 4, step = s->given_step;
  float *edge = s->edges + channel * 2 * s->edge;
  for (i32 strip = 0; strip < strips; strip++) {
    for (i32 i = 0; i < 6; i++) {
      const i32 y = 4 * (first + strip) + i - 1;
      if (i < 2 && (strip || more)) copy_row(lines[i], strip ? lines[i + 4] : edge + i * s->edge, reach);
      else if (y < 0 || y >= c->height) for (i32 x = 0; x < reach; x += 4) store(lines[i] + x, all(0));
      else if (c->active) margin_row(in + y * in_row, lines[i], c->width, reach, 1);
      else margin_row(in + y * in_row, lines[i], c->width, reach, 0);
    }
    for (i32 x = 0; x < reach; x += 4) {
      const vec d0 = load(lines[0] + x), d1 = load(lines[1] + x), d2 = load(lines[2] + x);
      const vec d3 = load(lines[3] + x), d4 = load(lines[4] + x), d5 = load(lines[5] + x);
      const vec e = fma(constant(MINUS_FOUR), d2, d4), f = fma(constant(MINUS_FOUR), d1, d3);
      const vec g = sub(d4, d2), h = sub(d3, d1);
      store(mixed[0] + x, fma(constant(FOUR), d0, fma(constant(MINUS_FIVE), d2, d4)));
      store(mixed[1] + x, add(e, f));
      store(mixed[2] + x, sub(e, f));
      store(mixed[3] + x, fma(constant(TWO), h, g));
      store(mixed[4] + x, fma(constant(MINUS_TWO), h, g));
      store(mixed[5] + x, fma(constant(FOUR), d1, fma(constant(MINUS_FIVE), d3, d5)));
    }
    float *out = s->given + channel * s->columns + strip * across;
    for (i32 i = 0; i < 6; i++, out += 4 * step) {
      const float *line = mixed[i];
      vec a = load(line), b = load(line + 4);
      vec d0 = wasm_i32x4_shuffle(a, b, 0, 2, 4, 6), d1 = wasm_i32x4_shuffle(a, b, 1, 3, 5, 7);
      for (i32 x = 0; x < across; x += 4) { // what is beyond the last tile is overwritten by the next strip or channel
        a = load(line + 2 * x + 8), b = load(line + 2 * x + 12);
        const vec e0 = wasm_i32x4_shuffle(a, b, 0, 2, 4, 6), e1 = wasm_i32x4_shuffle(a, b, 1, 3, 5, 7);
        const vec d2 = wasm_i32x4_shuffle(d0, e0, 1, 2, 3, 4), d3 = wasm_i32x4_shuffle(d1, e1, 1, 2, 3, 4);
        float *to = out + x;
        store(to, sub(d0, d2));
        to += step;
        store(to, add(d1, d2));
        to += step;
        store(to, sub(d2, d1));
        to += step;
        store(to, sub(d1, d3));
        d0 = e0, d1 = e1;
      }
    }
  }
  copy_row(edge, lines[4], reach);
  copy_row(edge + s->edge, lines[5], reach);
}

/** 4 rows of a product of matrices, 8 columns of it. The left one's values are `row` apart down a column and `next`
    along a row. */
INLINE void product_tile(const float *x, i32 step, const float *w, i32 row, i32 next, i32 inputs, float *out,
                         i32 out_step) {
  vec a0 = all(0), a1 = a0, a2 = a0, a3 = a0, b0 = a0, b1 = a0, b2 = a0, b3 = a0;
  for (i32 i = 0; i < inputs; i++, x += step, w += next) {
    const vec p = load(x), q = load(x + 4);
    const vec w0 = wasm_v128_load32_splat(w);
    a0 = fma(p, w0, a0); b0 = fma(q, w0, b0);
    const vec w1 = wasm_v128_load32_splat(w + row);
    a1 = fma(p, w1, a1); b1 = fma(q, w1, b1);
    const vec w2 = wasm_v128_load32_splat(w + 2 * row);
    a2 = fma(p, w2, a2); b2 = fma(q, w2, b2);
    const vec w3 = wasm_v128_load32_splat(w + 3 * row);
    a3 = fma(p, w3, a3); b3 = fma(q, w3, b3);
  }
  store(out, a0); store(out + 4, b0);
  out += out_step;
  store(out, a1); store(out + 4, b1);
  out += out_step;
  store(out, a2); store(out + 4, b2);
  out += out_step;
  store(out, a3); store(out + 4, b3);
}

/** A column of four out of six. */
#define COLUMN(y, m)                                                                                            \
  const vec y##s = add(m##1, m##2), y##d = sub(m##1, m##2), y##f = add(m##3, m##4), y##a = sub(m##3, m##4);    \
  const vec y##0 = add(add(m##0, y##s), y##f), y##1 = fma(y##a, constant(TWO), y##d);                                  \
  const vec y##2 = fma(y##f, constant(FOUR), y##s), y##3 = add(fma(y##a, constant(EIGHT), y##d), m##5);

/** One output channel of a row of tiles. */
INLINE void picture_of(const Square *c, const float *from, i32 step, i32 channel, i32 strip, const vec bias) {
  const i32 width = c->width, rows = c->height - 4 * strip;
  const i32 corner = (channel * c->height + 4 * strip) * width;
  float *out = AT(float, c->out) + corner;
  const float *residual = c->residual ? AT(float, c->residual) + corner : 0;
  for (i32 x = 0; x < width; x += 8, from += 4) {
    const float *m = from;
#define LINE(n)                                                                                                 \
    vec l##n = load(m), r##n;                                                                                   \
    {                                                                                                           \
      m += step;                                                                                                \
      const vec p = load(m);                                                                                    \
      m += step;                                                                                                \
      const vec q = load(m);                                                                                    \
      m += step;                                                                                                \
      l##n = add(add(l##n, p), q);                                                                              \
      r##n = sub(sub(p, q), load(m));                                                                           \
      m += step;                                                                                                \
    }
    LINE(0) LINE(1) LINE(2) LINE(3) LINE(4) LINE(5)
#undef LINE
    COLUMN(y, l) COLUMN(z, r)
#define ROW(i)                                                                                                  \
    if (i < rows) {                                                                                             \
      vec a = add(wasm_i32x4_shuffle(y##i, z##i, 0, 4, 1, 5), bias);                                            \
      vec b = add(wasm_i32x4_shuffle(y##i, z##i, 2, 6, 3, 7), bias);                                            \
      float *to = out + i * width + x;                                                                          \
      if (residual) {                                                                                           \
        a = add(a, load(residual + i * width + x));                                                             \
        b = add(b, load(residual + i * width + x + 4));                                                         \
      }                                                                                                         \
      if (x + 8 <= width) {                                                                                     \
        store(to, a);                                                                                           \
        store(to + 4, b);                                                                                       \
      } else {                                                                                                  \
        float values[8];                                                                                        \
        store(values, a);                                                                                       \
        store(values + 4, b);                                                                                   \
        for (i32 k = 0; x + k < width; k++) to[k] = values[k];                                                  \
      }                                                                                                         \
    }
    ROW(0) ROW(1) ROW(2) ROW(3)
#undef ROW
  }
}

/** A convolution of 3x3 pixels with zeros around, of SiLU of what it is given if it is `active`. */
APART void convolve4(const i32 *a, i32 thread, i32 threads) {
  const Square c = *(const Square *)a;
  const Maps *maps = (const Maps *)(a + sizeof(Square) / 4);
  const i32 groups = (c.outputs + 3) / 4, across = c.width / 2, all_strips = (c.height + 3) / 4;
  const Part strips = c.by_groups ? (Part){ 0, all_strips } : part(all_strips, thread, threads);
  const Part own = c.by_groups ? part(groups, thread, threads) : (Part){ 0, groups };
  if (own.begin == own.end) return;
  Scratch s;
  s.columns = (c.strips * across + 7) / 8 * 8;
  s.given_step = c.inputs * s.columns + 16;
  s.made_step = 4 * groups * s.columns + 16;
  s.edge = (c.width + 7) / 8 * 8 + 8;
  s.given = AT(float, c.scratch) + thread * c.size;
  s.made = s.given + FACTORS * s.given_step;
  s.edges = s.made + FACTORS * s.made_step;
  for (i32 first = strips.begin; first < strips.end; first += c.strips) {
    const i32 n = least(c.strips, strips.end - first);
    i32 channel = 0;
    for (i32 k = 0; k < c.parts; k++) {
      for (i32 i = 0; i < maps[k].channels; i++, channel++) {
        const float *in = AT(float, maps[k].in) + i * maps[k].plane;
        tiles_of(&c, &s, in, maps[k].row, channel, first, n, first > strips.begin);
      }
    }
    for (i32 f = 0; f < FACTORS; f++) {
      for (i32 group = own.begin; group < own.end; group++) {
        const float *w = AT(float, c.weights) + (f * groups + group) * c.inputs * 4;
        const float *x = s.given + f * s.given_step;
        float *out = s.made + f * s.made_step + 4 * group * s.columns;
        for (i32 t = 0; t < n * across; t += 8) product_tile(x + t, s.columns, w, 1, 4, c.inputs, out + t, s.columns);
      }
    }
    for (i32 k = 4 * own.begin; k < least(4 * own.end, c.outputs); k++) {
      for (i32 strip = 0; strip < n; strip++) {
        const float *from = s.made + k * s.columns + strip * across;
        picture_of(&c, from, s.made_step, k, first + strip, all(AT(float, c.bias)[k]));
      }
    }
  }
}

/** Weights [groups][inputs][3][3][4] to [24][groups][inputs][4]. */
EXPORT(transform) void transform(const float *in, float *out, i32 groups, i32 inputs) {
  const i32 step = 4 * groups * inputs;
  for (i32 k = 0; k < groups * inputs; k++, in += 36) {
    for (i32 i = 0; i < 6; i++) {
      vec row[3];
      for (i32 x = 0; x < 3; x++) {
        const vec a = load(in + 4 * x), b = load(in + 12 + 4 * x), c = load(in + 24 + 4 * x);
        switch (i) {
          case 0: row[x] = mul(a, all(0.25f)); break;
          case 1: row[x] = mul(add(add(a, b), c), all(-1.0f / 6)); break;
          case 2: row[x] = mul(add(sub(a, b), c), all(-1.0f / 6)); break;
          case 3: row[x] = mul(add(add(mul(a, all(0.25f)), mul(b, all(0.5f))), c), all(1.0f / 6)); break;
          case 4: row[x] = mul(add(sub(mul(a, all(0.25f)), mul(b, all(0.5f))), c), all(1.0f / 6)); break;
          default: row[x] = c;
        }
      }
      float *to = out + 4 * i * step + 4 * k;
      const vec sum = add(row[0], row[2]);
      store(to, row[0]);
      store(to + step, mul(add(sum, row[1]), all(0.5f)));
      store(to + 2 * step, mul(sub(sum, row[1]), all(0.5f)));
      store(to + 3 * step, row[2]);
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

APART void copy(const i32 *a, i32 thread, i32 threads) {
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

APART void binary(const i32 *a, i32 thread, i32 threads) {
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

APART void unary(const i32 *a, i32 thread, i32 threads) {
  const i32 kind = a[0], count = a[3];
  const vec low = all(number(a[4])), high = all(number(a[5]));
  const float *in = AT(float, a[1]);
  float *out = AT(float, a[2]);
  const Part p = part((count + 3) / 4, thread, threads); // buffers have room for whole vectors
  for (i32 k = p.begin; k < p.end; k++) store(out + 4 * k, unary_of(kind, load(in + 4 * k), low, high));
}

// ---- places

#define STRIP 64

/** Numbers from `first` on, -1..1, as pixels of a side; beyond the edges no farther than it matters. */
INLINE void places(const float *grid, i32 step, i32 n, i32 side, i32 border, i32 *at, float *one, float *other) {
  float given[STRIP + LANES];
  for (i32 k = 0; k < n; k++) given[k] = grid[step * k];
  const vec last = all(side - 1), scale = all(0.5f * side);
  const vec low = border ? all(0) : all(-2), high = border ? last : all(side + 1);
  for (i32 k = 0; k < n; k += LANES) {
    // Not a number goes to the least.
    const vec x = wasm_f32x4_pmin(high, wasm_f32x4_pmax(low, fma(load(given + k), scale, sub(scale, all(0.5f)))));
    const vec left = wasm_f32x4_pmin(all(side - 2), wasm_f32x4_pmax(all(0), wasm_f32x4_floor(x)));
    const vec right = add(left, all(1));
    wasm_v128_store(at + k, wasm_i32x4_trunc_sat_f32x4(left));
    store(one + k, wasm_f32x4_pmax(all(0), sub(all(1), wasm_f32x4_abs(sub(x, left)))));
    store(other + k, wasm_f32x4_pmax(all(0), sub(all(1), wasm_f32x4_abs(sub(x, right)))));
  }
}

/** Two pixels side by side, of two places. */
INLINE vec pairs(const float *one, const float *other) {
  return wasm_v128_load64_lane(other, wasm_v128_load64_zero(one), 1);
}

/** Bilinear samples at places in -1..1 (align_corners = False); beyond the edges 0, or with `border` the edge. */
APART void grid_sample(const i32 *a, i32 thread, i32 threads) {
  const i32 channels = a[3], height = a[4], width = a[5], count = a[6], border = a[7];
  const i32 step = a[8], down_from_across = a[9]; // between places, and between a place's two numbers
  const Part p = part((count + STRIP - 1) / STRIP, thread, threads);
  for (i32 s = p.begin; s < p.end; s++) {
    const i32 first = s * STRIP, n = least(STRIP, count - first);
    const float *grid = AT(float, a[1]) + step * first;
    i32 at[STRIP + LANES], down[STRIP + LANES];
    float x0[STRIP], x1[STRIP], y0[STRIP], y1[STRIP]; // shares of the pixels around a place
    float upper[2 * STRIP], lower[2 * STRIP];
    places(grid, step, n, width, border, at, x0, x1);
    places(grid + down_from_across, step, n, height, border, down, y0, y1);
    vec any = all(0);
    for (i32 k = 0; k < n; k += LANES) {
      const vec rows = wasm_i32x4_mul(wasm_v128_load(down + k), wasm_i32x4_splat(width));
      wasm_v128_store(at + k, wasm_i32x4_add(wasm_v128_load(at + k), rows));
      const vec u = load(y0 + k), v = load(y1 + k);
      const vec l = wasm_i32x4_shuffle(load(x0 + k), load(x1 + k), 0, 4, 1, 5);
      const vec r = wasm_i32x4_shuffle(load(x0 + k), load(x1 + k), 2, 6, 3, 7);
      store(upper + 2 * k, mul(l, wasm_i32x4_shuffle(u, u, 0, 0, 1, 1)));
      store(upper + 2 * k + 4, mul(r, wasm_i32x4_shuffle(u, u, 2, 2, 3, 3)));
      store(lower + 2 * k, mul(l, wasm_i32x4_shuffle(v, v, 0, 0, 1, 1)));
      store(lower + 2 * k + 4, mul(r, wasm_i32x4_shuffle(v, v, 2, 2, 3, 3)));
      any = wasm_v128_or(any, mul(add(u, v), add(load(x0 + k), load(x1 + k))));
    }
    for (i32 k = n; k < (n + 3) / LANES * LANES; k++) at[k] = 0;
    for (i32 c = 0; c < channels; c++) {
      const float *in = AT(float, a[0]) + c * height * width;
      float *out = AT(float, a[2]) + c * count + first;
      if (!wasm_v128_any_true(any)) { // most of a picture that a square is pasted into
        for (i32 k = 0; k < n; k++) out[k] = 0;
        continue;
      }
      for (i32 k = 0; k < n; k += LANES) {
        const float *f = in + at[k], *g = in + at[k + 1], *h = in + at[k + 2], *i = in + at[k + 3];
        const vec left = fma(pairs(f + width, g + width), load(lower + 2 * k), mul(pairs(f, g), load(upper + 2 * k)));
        const vec above = mul(pairs(h, i), load(upper + 2 * k + 4));
        const vec right = fma(pairs(h + width, i + width), load(lower + 2 * k + 4), above);
        const vec sum = add(wasm_i32x4_shuffle(left, right, 0, 2, 4, 6), wasm_i32x4_shuffle(left, right, 1, 3, 5, 7));
        if (k + LANES <= n) store(out + k, sum);
        else {
          float values[LANES];
          store(values, sum);
          for (i32 j = 0; k + j < n; j++) out[k + j] = values[j];
        }
      }
    }
  }
}

/** Linear interpolation; the tables say for every row and column which are the two around it, and how far it is. */
APART void resize(const i32 *a, i32 thread, i32 threads) {
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

APART void pool(const i32 *a, i32 thread, i32 threads) {
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

/** Four rows of a product of matrices, 8 columns at a time; what is left of them one by one. */
INLINE void four_rows(const float *x, const float *y, float *out, i32 inner, i32 n) {
  i32 j = 0;
  for (; j + 8 <= n; j += 8) product_tile(y + j, n, x, inner, 1, inner, out + j, n);
  for (; j < n; j++) {
    for (i32 k = 0; k < 4; k++) {
      float sum = 0;
      for (i32 i = 0; i < inner; i++) sum += x[k * inner + i] * y[i * n + j];
      out[k * n + j] = sum;
    }
  }
}

INLINE void one_row(const float *x, const float *y, float *out, i32 inner, i32 n) {
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

APART void product(const i32 *a, i32 thread, i32 threads) {
  const i32 m = a[4], inner = a[5], n = a[6];
  const Part p = part(a[3] * m, thread, threads);
  for (i32 k = p.begin; k < p.end;) {
    const i32 batch = k / m, row = k % m;
    const float *x = AT(float, a[0]) + batch * a[7] + row * inner;
    const float *y = AT(float, a[1]) + batch * a[8];
    float *out = AT(float, a[2]) + k * n;
    if (row + 4 <= m && k + 4 <= p.end) {
      four_rows(x, y, out, inner, n);
      k += 4;
    } else {
      one_row(x, y, out, inner, n);
      k++;
    }
  }
}

APART void reduce(const i32 *a, i32 thread, i32 threads) {
  const i32 kind = a[0], outer = a[3], count = a[4], inner = a[5];
  const Part p = part(outer * inner, thread, threads);
  for (i32 k = p.begin; k < p.end; k++) {
    const float *in = AT(float, a[1]) + k / inner * count * inner + k % inner;
    float sum = 0;
    for (i32 i = 0; i < count; i++) sum += kind == L2 ? in[i * inner] * in[i * inner] : in[i * inner];
    AT(float, a[2])[k] = kind == MEAN ? sum / count : kind == L2 ? __builtin_sqrtf(sum) : sum;
  }
}

APART void softmax(const i32 *a, i32 thread, i32 threads) {
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

APART void norm(const i32 *a, i32 thread, i32 threads) {
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
  i32 order, program, failed, arrived, round, asleep; // thread.js writes the third and the fifth
} Shared;

static void sleep_while(i32 *number_at, i32 value, Shared *shared) {
  for (i32 i = 0; i < SPINS; i++) if (__atomic_load_n(number_at, __ATOMIC_ACQUIRE) != value) return;
  __atomic_fetch_add(&shared->asleep, 1, __ATOMIC_SEQ_CST);
  while (__atomic_load_n(number_at, __ATOMIC_SEQ_CST) == value) {
    __builtin_wasm_memory_atomic_wait32(number_at, value, -1);
  }
  __atomic_fetch_sub(&shared->asleep, 1, __ATOMIC_SEQ_CST);
}

/** End where another thread has come to an end: it would be waited for for ever. */
static void check(Shared *shared) {
  if (__atomic_load_n(&shared->failed, __ATOMIC_SEQ_CST)) __builtin_trap();
}

static void wake(i32 *number_at, Shared *shared) {
  if (__atomic_load_n(&shared->asleep, __ATOMIC_SEQ_CST)) __builtin_wasm_memory_atomic_notify(number_at, -1);
}

/** Wait until all threads are here. */
static void meet(Shared *shared, i32 threads) {
  if (threads == 1) return;
  const i32 round = __atomic_load_n(&shared->round, __ATOMIC_SEQ_CST);
  check(shared); // after that: who fails later changes the round, and who sleeps wakes
  if (__atomic_add_fetch(&shared->arrived, 1, __ATOMIC_SEQ_CST) == threads) {
    __atomic_store_n(&shared->arrived, 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&shared->round, round + 1, __ATOMIC_SEQ_CST);
    wake(&shared->round, shared);
  } else sleep_while(&shared->round, round, shared);
  check(shared);
}

static void operate(i32 code, const i32 *a, i32 thread, i32 threads) {
  switch (code) {
    case CONV: (a[11] == 1 ? convolve_points : convolve)(a, thread, threads); break;
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
