// Eight float32 lanes on AVX2 with FMA and F16C.
#pragma once
#include <immintrin.h>

#include <cmath>

namespace aieng::attention::AIENG_ISA {

using Vec = __m256;
constexpr int kLanes = 8;
constexpr int kTileRows = 6;  // 6 x 2 accumulators, 2 vectors of b and a broadcast: 15 of 16 registers
constexpr int kTileVecs = 2;

inline __m256i first_lanes(int64_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
inline Vec zero() { return _mm256_setzero_ps(); }
inline Vec set1(float x) { return _mm256_set1_ps(x); }
inline Vec load(const float* p) { return _mm256_loadu_ps(p); }
inline void store(float* p, Vec x) { _mm256_storeu_ps(p, x); }
inline Vec add(Vec a, Vec b) { return _mm256_add_ps(a, b); }
inline Vec sub(Vec a, Vec b) { return _mm256_sub_ps(a, b); }
inline Vec mul(Vec a, Vec b) { return _mm256_mul_ps(a, b); }
inline Vec div(Vec a, Vec b) { return _mm256_div_ps(a, b); }
inline Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
inline Vec max(Vec a, Vec b) { return _mm256_max_ps(a, b); }  // b if either is NaN
inline Vec round_nearest(Vec x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline Vec not_below_floor(Vec x) { return max(set1(-127.f), x); }  // where the exponent field becomes zero
inline Vec times_power_of_two(Vec p, Vec whole, Vec) {
  const __m256i exponent = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(whole), _mm256_set1_epi32(127)), 23);
  return _mm256_mul_ps(p, _mm256_castsi256_ps(exponent));
}
inline float sum_lanes(Vec x) {
  __m128 y = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  y = _mm_add_ps(y, _mm_movehl_ps(y, y));
  return _mm_cvtss_f32(_mm_add_ss(y, _mm_shuffle_ps(y, y, 1)));
}
inline float max_lanes(Vec x) {
  __m128 y = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  y = _mm_max_ps(y, _mm_movehl_ps(y, y));
  return _mm_cvtss_f32(_mm_max_ss(y, _mm_shuffle_ps(y, y, 1)));
}
inline Vec keep_first(Vec x, int64_t n, Vec otherwise) {
  return _mm256_blendv_ps(otherwise, x, _mm256_castsi256_ps(first_lanes(n)));
}

inline Vec if_less(Vec a, Vec b, Vec x, Vec y) {  // a < b ? x : y, so y if either is NaN
  return _mm256_blendv_ps(y, x, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
}
typedef uint64_t Wide __attribute__((vector_size(32)));                                           // half as many lanes
inline Wide mul_words(Wide a, Wide b) { return (Wide)_mm256_mul_epu32((__m256i)a, (__m256i)b); }  // of the lower halves

inline __m128i narrow_bf16(Vec x) {
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  const __m256i words = _mm256_blendv_epi8(rounded, _mm256_set1_epi32(0x7fc0), nan);
  return _mm_packus_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}

template <Type kType>
inline Vec load_as(const char* p, int64_t n) {  // n < kLanes: the others are zero and not read
  if constexpr (kType == Type::kFloat32) {
    return n < kLanes ? _mm256_maskload_ps(reinterpret_cast<const float*>(p), first_lanes(n)) : _mm256_loadu_ps((const float*)p);
  }
  __m128i x = _mm_setzero_si128();
  if (n < kLanes) {
    std::memcpy(&x, p, n * 2);
  } else {
    x = _mm_loadu_si128((const __m128i*)p);
  }
  if constexpr (kType == Type::kFloat16) return _mm256_cvtph_ps(x);
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16));
}

template <Type kType>
inline void store_as(char* p, Vec x, int64_t n) {
  if constexpr (kType == Type::kFloat32) {
    std::memcpy(p, &x, least<int64_t>(n, kLanes) * 4);
  } else {
    const __m128i y = kType == Type::kFloat16 ? _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC) : narrow_bf16(x);
    std::memcpy(p, &y, least<int64_t>(n, kLanes) * 2);
  }
}

// Zero where a byte is not zero, else -inf; n < kLanes: bytes that are not read are zero.
inline Vec load_seen(const char* p, int64_t n) {
  __m128i x = _mm_setzero_si128();
  std::memcpy(&x, p, least<int64_t>(n, kLanes));
  const __m256i hidden = _mm256_cmpeq_epi32(_mm256_cvtepu8_epi32(x), _mm256_setzero_si256());
  return _mm256_and_ps(_mm256_castsi256_ps(hidden), set1(-INFINITY));
}

// rows[i][j] <-> rows[j][i] of 4 x 4 words within every 128-bit block.
inline void transpose4(Vec* r) {
  Vec t[4];
  for (int i = 0; i < 4; i += 2) {
    t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
  }
  for (int j = 0; j < 2; ++j) {
    const __m256d a = _mm256_castps_pd(t[j]), b = _mm256_castps_pd(t[j + 2]);
    r[2 * j] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, b));
    r[2 * j + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a, b));
  }
}

// rows[i][j] <-> rows[j][i] of 8 x 8 words: within 128-bit blocks, then the blocks.
inline void transpose(Vec* r) {
  for (int i = 0; i < 8; i += 4) transpose4(r + i);
  for (int j = 0; j < 4; ++j) {
    const Vec a = _mm256_permute2f128_ps(r[j], r[4 + j], 0x20), b = _mm256_permute2f128_ps(r[j], r[4 + j], 0x31);
    r[j] = a;
    r[4 + j] = b;
  }
}

// Lane i: the lanes of rows[i] combined. Half the shuffles that a transposition takes, as each halves what is left.
template <class Combine>
inline Vec combine_each(Vec* r, Combine combine) {
  Vec four[2];  // in each block of 128 bits, the block's lanes of four rows combined
  for (int i = 0; i < 2; ++i) {
    const auto two = [&](int j) { return combine(_mm256_unpacklo_ps(r[j], r[j + 1]), _mm256_unpackhi_ps(r[j], r[j + 1])); };
    const __m256d a = _mm256_castps_pd(two(4 * i)), b = _mm256_castps_pd(two(4 * i + 2));
    four[i] = combine(_mm256_castpd_ps(_mm256_unpacklo_pd(a, b)), _mm256_castpd_ps(_mm256_unpackhi_pd(a, b)));
  }
  return combine(_mm256_permute2f128_ps(four[0], four[1], 0x20), _mm256_permute2f128_ps(four[0], four[1], 0x31));
}

}  // namespace aieng::attention::AIENG_ISA
