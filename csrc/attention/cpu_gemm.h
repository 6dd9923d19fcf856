// Small matrix products C = A B on buffers in cache. Operands are made of 32-bit words along the summed dimension: one float32, or
// two bfloat16 that one dot-product instruction consumes. B is packed in panels of kPanel lanes, each panel (words, kPanel).
#pragma once
#include "cpu_simd.h"

namespace aieng::attention::AIENG_ISA {

constexpr int kPanel = kTileVecs * kLanes;

struct Float32Words {
  static constexpr int kPerWord = 1;
  static constexpr int kExp2Degree = 5;
  static Vec dot(Vec acc, Vec a, Vec b) { return fma(a, b, acc); }
  static Vec dot(Vec acc, const float* a, Vec b) { return dot(acc, set1(*a), b); }
  // Elements [i, i + kLanes) of a row of words.
  static void store_row(float* row, int64_t i, Vec x) { store(row + i, x); }
  // Lanes of `even` and `odd`, neighbours along the summed dimension, as operand A with the sum along its rows.
  static void store_pair(float* words, int64_t ld, Vec even, Vec odd) {
    store(words, even);
    store(words + ld, odd);
  }
};

#if defined(__AVX512BF16__)
struct Bfloat16Words {
  static constexpr int kPerWord = 2;
  static constexpr int kExp2Degree = 4;
  static Vec dot(Vec acc, Vec a, Vec b) { return _mm512_dpbf16_ps(acc, (__m512bh)a, (__m512bh)b); }
  static Vec dot(Vec acc, const float* a, Vec b) { return dot(acc, set1(*a), b); }
  static void store_row(float* row, int64_t i, Vec x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(reinterpret_cast<char*>(row) + 2 * i), narrow_bf16(x));
  }
  static void store_pair(float* words, int64_t, Vec even, Vec odd) {
    const __m512i low = _mm512_cvtepu16_epi32(narrow_bf16(even)), high = _mm512_cvtepu16_epi32(narrow_bf16(odd));
    _mm512_storeu_si512(words, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
  }
  // Two rows as they lie become words of their neighbouring elements, as operand B with the sum over the rows: of each eight
  // columns the first four go to one vector and the last four to the other.
  static void pair_up(Vec& row, Vec& next) {
    const __m512i a = (__m512i)row, b = (__m512i)next;
    row = (Vec)_mm512_unpacklo_epi16(a, b);
    next = (Vec)_mm512_unpackhi_epi16(a, b);
  }
  // Sums of such words back in the order of the columns.
  static void in_order(Vec& first, Vec& last) {
    const Vec a = _mm512_shuffle_f32x4(first, last, 0x44), b = _mm512_shuffle_f32x4(first, last, 0xee);
    first = _mm512_shuffle_f32x4(a, a, 0xd8);
    last = _mm512_shuffle_f32x4(b, b, 0xd8);
  }
};
#endif

enum class Into { kSet, kAdd, kScaledAdd };  // C = AB, C += AB, C = diag(scale) C + AB

struct Left {  // operand A: (rows, words) by these strides
  const float* data;
  int64_t row, word;
};

struct Right {  // operand B: from one panel to the next, and from one word's kPanel lanes to the next
  const float* data;
  int64_t panel, word = kPanel;
};

struct Product {
  int64_t words;  // length of the sum
  Left a;
  Right b;
  float* c;  // (rows, vectors * kLanes)
  int64_t c_row;
  const float* scale = nullptr;  // one per row, for kScaledAdd
};

template <class Words, Into kInto, int kRows, int kVecs>
inline void tile(const Product& p, const float* a, const float* b, float* c, const float* scale) {
  Vec acc[kRows][kVecs];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int j = 0; j < kVecs; ++j) acc[r][j] = zero();
  }
  for (int64_t w = 0; w < p.words; ++w) {
    Vec bs[kVecs];
#pragma GCC unroll 8
    for (int j = 0; j < kVecs; ++j) bs[j] = load(b + j * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
      for (int j = 0; j < kVecs; ++j) acc[r][j] = Words::dot(acc[r][j], a + r * p.a.row, bs[j]);
    }
    a += p.a.word;
    b += p.b.word;
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int j = 0; j < kVecs; ++j) {
      // C comes last: a long sum in parts has the roundings of its parts and of theirs, not of every step at its whole size.
      float* const to = c + r * p.c_row + j * kLanes;
      if constexpr (kInto == Into::kAdd) acc[r][j] = add(load(to), acc[r][j]);
      if constexpr (kInto == Into::kScaledAdd) acc[r][j] = fma(set1(scale[r]), load(to), acc[r][j]);
      store(to, acc[r][j]);
    }
  }
}

template <class Words, Into kInto, int kVecs>
inline void rows_of_tiles(const Product& p, int64_t rows, const float* b, float* c) {
  int64_t r = 0;
  const auto at = [&](int64_t row) { return kInto == Into::kScaledAdd ? p.scale + row : nullptr; };
  const auto a = [&](int64_t row) { return p.a.data + row * p.a.row; };
  for (; r + kTileRows <= rows; r += kTileRows) {
    tile<Words, kInto, kTileRows, kVecs>(p, a(r), b, c + r * p.c_row, at(r));
  }
  if (rows - r >= 4 && kTileRows > 4) {
    tile<Words, kInto, 4, kVecs>(p, a(r), b, c + r * p.c_row, at(r));
    r += 4;
  }
  if (rows - r >= 2) {
    tile<Words, kInto, 2, kVecs>(p, a(r), b, c + r * p.c_row, at(r));
    r += 2;
  }
  if (rows - r == 1) tile<Words, kInto, 1, kVecs>(p, a(r), b, c + r * p.c_row, at(r));
}

// Rows are taken in the inner loop, so that a panel of B stays in the first-level cache.
template <class Words, Into kInto>
inline void multiply(const Product& p, int64_t rows, int64_t vectors) {
  static_assert(kTileVecs == 2 || kTileVecs == 4);
  for (int64_t first = 0, panel = 0; first < vectors; first += kTileVecs, ++panel) {
    const float* b = p.b.data + panel * p.b.panel;
    float* c = p.c + panel * kPanel;
    const int64_t width = least<int64_t>(vectors - first, kTileVecs);
    if (width == 1) rows_of_tiles<Words, kInto, 1>(p, rows, b, c);
    if (width == 2) rows_of_tiles<Words, kInto, 2>(p, rows, b, c);
    if constexpr (kTileVecs == 4) {
      if (width == 3) rows_of_tiles<Words, kInto, 3>(p, rows, b, c);
      if (width == 4) rows_of_tiles<Words, kInto, 4>(p, rows, b, c);
    }
  }
}

}  // namespace aieng::attention::AIENG_ISA
