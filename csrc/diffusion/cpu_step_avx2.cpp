// The step with AVX2, FMA and F16C.
#include <immintrin.h>

#include "cpu_philox.h"
#include "cpu_step.h"

namespace aieng::diffusion {
namespace {

struct Avx2 {
  using Float = __m256;
  using Int = __m256i;
  static constexpr int kWidth = 8;
  static constexpr std::uintptr_t kAlign = 32;

  static AIENG_HD Float set(float x) { return _mm256_set1_ps(x); }
  static AIENG_HD Float fma(Float a, Float b, Float c) { return _mm256_fmadd_ps(a, b, c); }
  static AIENG_HD Float mul(Float a, Float b) { return _mm256_mul_ps(a, b); }
  static AIENG_HD Float sqrt(Float a) { return _mm256_sqrt_ps(a); }
  static AIENG_HD Int bits(Float a) { return _mm256_castps_si256(a); }
  static AIENG_HD Float from_bits(Int a) { return _mm256_castsi256_ps(a); }
  static AIENG_HD Int add(Int a, int b) { return _mm256_add_epi32(a, _mm256_set1_epi32(b)); }
  static AIENG_HD Int mask(Int a, int b) { return _mm256_and_si256(a, _mm256_set1_epi32(b)); }
  static AIENG_HD Int left(Int a, int n) { return _mm256_slli_epi32(a, n); }
  static AIENG_HD Int right(Int a, int n) { return _mm256_srai_epi32(a, n); }
  static AIENG_HD Float to_float(Int a) { return _mm256_cvtepi32_ps(a); }
  static AIENG_HD Int truncate(Float a) { return _mm256_cvttps_epi32(a); }
  static AIENG_HD Float flip(Float a, Int sign) { return _mm256_xor_ps(a, _mm256_castsi256_ps(sign)); }
  static AIENG_HD Float if_odd(Int k, Float odd, Float even) { return _mm256_blendv_ps(even, odd, from_bits(left(k, 31))); }

  // min and max give their second operand if either is NaN.
  static AIENG_HD Float clamp(Float x, Float low, Float high) { return _mm256_min_ps(high, _mm256_max_ps(low, x)); }

  static AIENG_HD Float load(const float* at) { return _mm256_loadu_ps(at); }
  static AIENG_HD Float load(const Half* at) { return _mm256_cvtph_ps(load8(at)); }
  static AIENG_HD Float load(const BFloat16* at) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load8(at)), 16));
  }
  static AIENG_HD void store(float* at, Float x) { _mm256_storeu_ps(at, x); }
  template <class T>
  static AIENG_HD void store(T* at, Float x) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(at), narrow8(x, at));
  }
  static AIENG_HD void stream(float* at, Float x) { _mm256_stream_ps(at, x); }
  template <class T>
  static AIENG_HD void stream(T* at, Float x) {
    _mm_stream_si128(reinterpret_cast<__m128i*>(at), narrow8(x, at));
  }
  static AIENG_HD void fence() { _mm_sfence(); }

  static AIENG_HD int keep(float* at, Float x, float bar) { return keep_each<Avx2>(at, x, bar); }
  static void normals(std::uint64_t seed, std::uint64_t offset, std::uint64_t block, int groups, float* z) {
    philox_normals<Avx2>(seed, offset, block, groups, z);
  }
  static AIENG_HD Int set64(std::uint64_t x) { return _mm256_set1_epi64x(static_cast<long long>(x)); }
  static AIENG_HD Int add64(Int a, Int b) { return _mm256_add_epi64(a, b); }
  static AIENG_HD Int mul32(Int a, Int b) { return _mm256_mul_epu32(a, b); }
  static AIENG_HD Int high(Int a) { return _mm256_srli_epi64(a, 32); }
  static AIENG_HD Int xor3(Int a, Int b, Int c) { return _mm256_xor_si256(_mm256_xor_si256(a, b), c); }
  static AIENG_HD Int even_counters() { return _mm256_setr_epi64x(0, 4, 1, 5); }
  static AIENG_HD Int odd_counters() { return _mm256_setr_epi64x(2, 6, 3, 7); }
  static AIENG_HD Int merge(Int even, Int odd) { return _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xAA); }
  // Without an unsigned conversion: both 16-bit halves are exact, so the sum is rounded once, as the definition asks.
  static AIENG_HD Float uniform(Int words) {
    const Float word = fma(to_float(_mm256_srli_epi32(words, 16)), set(65536.0f), to_float(mask(words, 0xFFFF)));
    return fma(word, set(0x1p-32f), set(0x1p-33f));
  }
  static AIENG_HD void transpose4(Float z[4]) {
    const __m256d a = _mm256_castps_pd(_mm256_unpacklo_ps(z[0], z[1])), b = _mm256_castps_pd(_mm256_unpackhi_ps(z[0], z[1]));
    const __m256d c = _mm256_castps_pd(_mm256_unpacklo_ps(z[2], z[3])), d = _mm256_castps_pd(_mm256_unpackhi_ps(z[2], z[3]));
    z[0] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, c));
    z[1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a, c));
    z[2] = _mm256_castpd_ps(_mm256_unpacklo_pd(b, d));
    z[3] = _mm256_castpd_ps(_mm256_unpackhi_pd(b, d));
  }

 private:
  static AIENG_HD __m128i load8(const void* at) { return _mm_loadu_si128(static_cast<const __m128i*>(at)); }
  static AIENG_HD __m128i narrow8(Float x, const Half*) { return _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT); }
  static AIENG_HD __m128i narrow8(Float x, const BFloat16*) {
    const Int b = bits(x), odd = mask(_mm256_srli_epi32(b, 16), 1);
    const Int rounded = _mm256_srli_epi32(_mm256_add_epi32(add(b, 0x7FFF), odd), 16);
    const Int quiet = _mm256_or_si256(_mm256_srli_epi32(b, 16), _mm256_set1_epi32(0x40));
    const Int nan = bits(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    const Int words = _mm256_blendv_epi8(rounded, quiet, nan);
    return _mm_packus_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  }
};

}  // namespace

void step_avx2(const Step& step, Type type, int threads) { run<Avx2>(step, type, threads); }

}  // namespace aieng::diffusion
