// Sixteen float32 lanes on AVX-512 (F, BW, DQ, VL), with bfloat16 dot products where the file is compiled for them.
#pragma once
// GCC 12 warns of its own header: _mm512_undefined_ps() and its like are undefined on purpose (GCC bug 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>

#include <cmath>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

namespace aieng::attention::AIENG_ISA {

using Vec = __m512;
constexpr int kLanes = 16;
constexpr int kTileRows = 6;  // 6 x 4 accumulators, 4 vectors of b and a broadcast: 29 of 32 registers
constexpr int kTileVecs = 4;

inline __mmask16 first_lanes(int64_t n) { return static_cast<__mmask16>((1u << n) - 1u); }
inline Vec zero() { return _mm512_setzero_ps(); }
inline Vec set1(float x) { return _mm512_set1_ps(x); }
inline Vec load(const float* p) { return _mm512_loadu_ps(p); }
inline void store(float* p, Vec x) { _mm512_storeu_ps(p, x); }
inline Vec add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
inline Vec sub(Vec a, Vec b) { return _mm512_sub_ps(a, b); }
inline Vec mul(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
inline Vec div(Vec a, Vec b) { return _mm512_div_ps(a, b); }
inline Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
inline Vec max(Vec a, Vec b) { return _mm512_max_ps(a, b); }  // b if either is NaN
inline Vec round_nearest(Vec x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
// Zero by a mask where the power of two would not be a normal number: a result that underflows takes a hundred cycles.
inline Vec not_below_floor(Vec x) { return x; }
inline Vec times_power_of_two(Vec p, Vec whole, Vec x) {
  return _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(x, set1(-125.5f), _CMP_NLT_UQ), p, whole);
}
inline float sum_lanes(Vec x) { return _mm512_reduce_add_ps(x); }
inline float max_lanes(Vec x) { return _mm512_reduce_max_ps(x); }
inline Vec keep_first(Vec x, int64_t n, Vec otherwise) { return _mm512_mask_mov_ps(otherwise, first_lanes(n), x); }

inline Vec if_less(Vec a, Vec b, Vec x, Vec y) {  // a < b ? x : y, so y if either is NaN
  return _mm512_mask_mov_ps(y, _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), x);
}
typedef uint64_t Wide __attribute__((vector_size(64)));                                           // half as many lanes
inline Wide mul_words(Wide a, Wide b) { return (Wide)_mm512_mul_epu32((__m512i)a, (__m512i)b); }  // of the lower halves

inline Vec widen_bf16(__m256i x) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16)); }

inline __m256i narrow_bf16(Vec x) {
#if defined(__AVX512BF16__)
  return (__m256i)_mm512_cvtneps_pbh(x);
#else
  const __m512i bits = _mm512_castps_si512(x);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
  const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
  return _mm512_cvtepi32_epi16(_mm512_mask_mov_epi32(rounded, nan, _mm512_set1_epi32(0x7fc0)));
#endif
}

template <Type kType>
inline Vec load_as(const char* p, int64_t n) {  // n < kLanes: the others are zero and not read
  if constexpr (kType == Type::kFloat32) return n < kLanes ? _mm512_maskz_loadu_ps(first_lanes(n), p) : _mm512_loadu_ps(p);
  const __m256i x = n < kLanes ? _mm256_maskz_loadu_epi16(first_lanes(n), p) : _mm256_loadu_si256((const __m256i*)p);
  return kType == Type::kFloat16 ? _mm512_cvtph_ps(x) : widen_bf16(x);
}

template <Type kType>
inline void store_as(char* p, Vec x, int64_t n) {
  const __mmask16 lanes = n < kLanes ? first_lanes(n) : static_cast<__mmask16>(0xffff);
  if constexpr (kType == Type::kFloat32) {
    _mm512_mask_storeu_ps(p, lanes, x);
  } else {
    const __m256i narrow =
        kType == Type::kFloat16 ? _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC) : narrow_bf16(x);
    _mm256_mask_storeu_epi16(p, lanes, narrow);
  }
}

// Zero where a byte is not zero, else -inf; n < kLanes: bytes that are not read are zero.
inline Vec load_seen(const char* p, int64_t n) {
  const __m128i x = n < kLanes ? _mm_maskz_loadu_epi8(first_lanes(n), p) : _mm_loadu_si128((const __m128i*)p);
  return _mm512_maskz_mov_ps(_mm_testn_epi8_mask(x, x), _mm512_set1_ps(-INFINITY));
}

// rows[i][j] <-> rows[j][i] of 4 x 4 words within every 128-bit block.
inline void transpose4(Vec* r) {
  Vec t[4];
  for (int i = 0; i < 4; i += 2) {
    t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
  }
  for (int j = 0; j < 2; ++j) {
    const __m512d a = _mm512_castps_pd(t[j]), b = _mm512_castps_pd(t[j + 2]);
    r[2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
    r[2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
  }
}

// rows[i][j] <-> rows[j][i] of 16 x 16 words: within 128-bit blocks, then the blocks.
inline void transpose(Vec* r) {
  Vec t[16];
  for (int i = 0; i < 16; i += 4) transpose4(r + i);
  for (int j = 0; j < 4; ++j) {
    const Vec a = _mm512_shuffle_f32x4(r[j], r[4 + j], 0x44), b = _mm512_shuffle_f32x4(r[j], r[4 + j], 0xee);
    const Vec c = _mm512_shuffle_f32x4(r[8 + j], r[12 + j], 0x44), d = _mm512_shuffle_f32x4(r[8 + j], r[12 + j], 0xee);
    t[j] = _mm512_shuffle_f32x4(a, c, 0x88);
    t[4 + j] = _mm512_shuffle_f32x4(a, c, 0xdd);
    t[8 + j] = _mm512_shuffle_f32x4(b, d, 0x88);
    t[12 + j] = _mm512_shuffle_f32x4(b, d, 0xdd);
  }
  for (int i = 0; i < 16; ++i) r[i] = t[i];
}

// Lane i: the lanes of rows[i] combined. Half the shuffles that a transposition takes, as each halves what is left.
template <class Combine>
inline Vec combine_each(Vec* r, Combine combine) {
  Vec four[4];  // in each block of 128 bits, the block's lanes of four rows combined
  for (int i = 0; i < 4; ++i) {
    const auto two = [&](int j) { return combine(_mm512_unpacklo_ps(r[j], r[j + 1]), _mm512_unpackhi_ps(r[j], r[j + 1])); };
    const __m512d a = _mm512_castps_pd(two(4 * i)), b = _mm512_castps_pd(two(4 * i + 2));
    four[i] = combine(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)), _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
  }
  const auto eight = [&](Vec a, Vec b) { return combine(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee)); };
  const Vec a = eight(four[0], four[1]), b = eight(four[2], four[3]);
  return combine(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
}

}  // namespace aieng::attention::AIENG_ISA
