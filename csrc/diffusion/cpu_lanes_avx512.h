// Sixteen float32 lanes on AVX-512 (F, BW, DQ, VL), narrowed to bfloat16 in one instruction where the file is compiled for it.
#pragma once
#if defined(__GNUC__) && !defined(__clang__)
// GCC 12 takes the undefined operand inside its own intrinsics for ours (its bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>

#include "cpu_philox.h"
#include "half.h"
#include "hd.h"

namespace aieng::diffusion {
namespace {

struct Avx512 {
  using Float = __m512;
  using Int = __m512i;
  static constexpr int kWidth = 16;
  static constexpr std::uintptr_t kAlign = 64;

  static AIENG_HD Float set(float x) { return _mm512_set1_ps(x); }
  static AIENG_HD Float fma(Float a, Float b, Float c) { return _mm512_fmadd_ps(a, b, c); }
  static AIENG_HD Float mul(Float a, Float b) { return _mm512_mul_ps(a, b); }
  static AIENG_HD Float sqrt(Float a) { return _mm512_sqrt_ps(a); }
  static AIENG_HD Int bits(Float a) { return _mm512_castps_si512(a); }
  static AIENG_HD Float from_bits(Int a) { return _mm512_castsi512_ps(a); }
  static AIENG_HD Int add(Int a, int b) { return _mm512_add_epi32(a, _mm512_set1_epi32(b)); }
  static AIENG_HD Int mask(Int a, int b) { return _mm512_and_si512(a, _mm512_set1_epi32(b)); }
  static AIENG_HD Int left(Int a, int n) { return _mm512_slli_epi32(a, n); }
  static AIENG_HD Int right(Int a, int n) { return _mm512_srai_epi32(a, n); }
  static AIENG_HD Float to_float(Int a) { return _mm512_cvtepi32_ps(a); }
  static AIENG_HD Int truncate(Float a) { return _mm512_cvttps_epi32(a); }
  static AIENG_HD Float flip(Float a, Int sign) { return _mm512_xor_ps(a, _mm512_castsi512_ps(sign)); }
  static AIENG_HD Float if_odd(Int k, Float odd, Float even) {
    return _mm512_mask_blend_ps(_mm512_test_epi32_mask(k, _mm512_set1_epi32(1)), even, odd);
  }

  // min and max give their second operand if either is NaN.
  static AIENG_HD Float clamp(Float x, Float low, Float high) { return _mm512_min_ps(high, _mm512_max_ps(low, x)); }

  static AIENG_HD Float load(const float* at) { return _mm512_loadu_ps(at); }
  static AIENG_HD Float load(const Half* at) { return _mm512_cvtph_ps(load16(at)); }
  static AIENG_HD Float load(const BFloat16* at) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(load16(at)), 16));
  }
  static AIENG_HD void store(float* at, Float x) { _mm512_storeu_ps(at, x); }
  template <class T>
  static AIENG_HD void store(T* at, Float x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(at), narrow16(x, at));
  }
  static AIENG_HD void stream(float* at, Float x) { _mm512_stream_ps(at, x); }
  template <class T>
  static AIENG_HD void stream(T* at, Float x) {
    _mm256_stream_si256(reinterpret_cast<__m256i*>(at), narrow16(x, at));
  }
  static AIENG_HD void fence() { _mm_sfence(); }

  static AIENG_HD int keep(float* at, Float x, float bar) {
    const __mmask16 kept = _mm512_cmp_ps_mask(_mm512_abs_ps(x), set(bar), _CMP_NLT_UQ);
    _mm512_storeu_ps(at, _mm512_maskz_compress_ps(kept, x));
    return __builtin_popcount(kept);
  }
  static void normals(std::uint64_t seed, std::uint64_t offset, std::uint64_t block, int groups, float* z) {
    philox_normals<Avx512>(seed, offset, block, groups, z);
  }
  static AIENG_HD Int set64(std::uint64_t x) { return _mm512_set1_epi64(static_cast<long long>(x)); }
  static AIENG_HD Int add64(Int a, Int b) { return _mm512_add_epi64(a, b); }
  static AIENG_HD Int mul32(Int a, Int b) { return _mm512_mul_epu32(a, b); }
  static AIENG_HD Int high(Int a) { return _mm512_srli_epi64(a, 32); }
  static AIENG_HD Int xor3(Int a, Int b, Int c) { return _mm512_ternarylogic_epi64(a, b, c, 0x96); }
  static AIENG_HD Int even_counters() { return _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11); }
  static AIENG_HD Int odd_counters() { return _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15); }
  static AIENG_HD Int merge(Int even, Int odd) { return _mm512_mask_blend_epi32(0xAAAA, even, _mm512_slli_epi64(odd, 32)); }
  static AIENG_HD Float uniform(Int words) { return fma(_mm512_cvtepu32_ps(words), set(0x1p-32f), set(0x1p-33f)); }
  static AIENG_HD void transpose4(Float z[4]) {
    const __m512d a = _mm512_castps_pd(_mm512_unpacklo_ps(z[0], z[1])), b = _mm512_castps_pd(_mm512_unpackhi_ps(z[0], z[1]));
    const __m512d c = _mm512_castps_pd(_mm512_unpacklo_ps(z[2], z[3])), d = _mm512_castps_pd(_mm512_unpackhi_ps(z[2], z[3]));
    z[0] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
    z[1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
    z[2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
    z[3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
  }

 private:
  static AIENG_HD __m256i load16(const void* at) { return _mm256_loadu_si256(static_cast<const __m256i*>(at)); }
  static AIENG_HD __m256i narrow16(Float x, const Half*) { return _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT); }
  static AIENG_HD __m256i narrow16(Float x, const BFloat16*) {
#if defined(__AVX512BF16__)
    return (__m256i)_mm512_cvtneps_pbh(x);  // subnormal numbers become zero; to look for them takes a quarter longer
#else
    const Int b = bits(x), odd = mask(_mm512_srli_epi32(b, 16), 1);
    const Int rounded = _mm512_srli_epi32(_mm512_add_epi32(add(b, 0x7FFF), odd), 16);
    const Int quiet = _mm512_or_si512(_mm512_srli_epi32(b, 16), _mm512_set1_epi32(0x40));
    return _mm512_cvtepi32_epi16(_mm512_mask_blend_epi32(_mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), rounded, quiet));
#endif
  }
};

}  // namespace
}  // namespace aieng::diffusion
