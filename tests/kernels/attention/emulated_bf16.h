// The two instructions of AVX512_BF16 that the kernels use, in plain AVX-512, so that their BF16 code runs where the processor has
// none of it. Included first (-include), in place of -mavx512bf16.
//
// Emulated are vdpbf16ps, as two fused multiply-adds of which the odd pair comes first, and vcvtneps2bf16, rounded to nearest even.
// Not emulated: both instructions take denormal inputs for zero, and the first flushes denormal results too.
#pragma once
#include <immintrin.h>  // before the macro, or the header would define the real ones for a processor without them

#define __AVX512BF16__ 1
#define _mm512_dpbf16_ps emulated_dpbf16_ps
#define _mm512_cvtneps_pbh emulated_cvtneps_pbh

static inline __m512 emulated_dpbf16_ps(__m512 sum, __m512bh a_pairs, __m512bh b_pairs) {
  const __m512i a = (__m512i)a_pairs, b = (__m512i)b_pairs, odd = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
  const auto high = [&](__m512i x) { return _mm512_castsi512_ps(_mm512_and_si512(x, odd)); };
  const auto low = [&](__m512i x) { return _mm512_castsi512_ps(_mm512_slli_epi32(x, 16)); };
  return _mm512_fmadd_ps(low(a), low(b), _mm512_fmadd_ps(high(a), high(b), sum));
}

static inline __m256bh emulated_cvtneps_pbh(__m512 x) {
  const __m512i bits = _mm512_castps_si512(x), even = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(even, _mm512_set1_epi32(0x7fff)));
  const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
  const __m512i result = _mm512_mask_mov_epi32(rounded, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), quiet);
  return (__m256bh)_mm512_cvtepi32_epi16(_mm512_srli_epi32(result, 16));
}
