#define AIENG_VECTOR_BYTES 64
#include "vector_probes.h"

namespace aieng::ceilings {

// The same 0.5 · 2^x with AVX-512's own instructions for the fraction and the scaling: two fewer operations.
static float exp2_scalef(std::int64_t steps) {
  Vector chain[kExpChains];
  start(chain, kExpChains);
  const __m512 c0 = _mm512_set1_ps(opaque(0.49996f)), c1 = _mm512_set1_ps(opaque(0.34658f)), c2 = _mm512_set1_ps(opaque(0.12113f)),
               c3 = _mm512_set1_ps(opaque(0.02788f));
  for (std::int64_t step = 0; step < steps; ++step)
#pragma GCC unroll 24
    for (int i = 0; i < kExpChains; ++i) {
      const __m512 x = (__m512)chain[i];
      const __m512 rest = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF);
      const __m512 power = _mm512_fmadd_ps(rest, _mm512_fmadd_ps(rest, _mm512_fmadd_ps(rest, c3, c2), c1), c0);
      chain[i] = (Vector)_mm512_maskz_scalef_ps(static_cast<__mmask16>(-1), power, x);  // unmasked, GCC 12's header warns
    }
  return sum(chain, kExpChains);
}

static constexpr ComputeProbe kCompute512[] = {
    {"fma", fma, kFmaOperations}, {"exp", exp2, kExpOperations}, {"exp", exp2_scalef, kExpOperations}};

Probes avx512_probes() { return probes(kCompute512, kStreams); }

}  // namespace aieng::ceilings
