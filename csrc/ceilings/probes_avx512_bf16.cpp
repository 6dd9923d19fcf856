// The bf16 dot product of AVX-512: two products a lane, added to a float.
#define AIENG_VECTOR_BYTES 64
#include "vector_probes.h"

namespace aieng::ceilings {

static float dot(std::int64_t steps) {
  Vector chain[kChains];
  start(chain, kChains);
  const __m512bh left = (__m512bh)_mm512_set1_epi32(opaque(0x3c233c23));  // pairs of about 0.01
  const __m512bh right = (__m512bh)_mm512_set1_epi32(opaque(0x3ca33ca3));
  for (std::int64_t step = 0; step < steps; ++step)
#pragma GCC unroll 24
    for (int i = 0; i < kChains; ++i) chain[i] = (Vector)_mm512_dpbf16_ps((__m512)chain[i], left, right);
  return sum(chain, kChains);
}

static constexpr ComputeProbe kDot[] = {{"dot", dot, 4.0 * kChains * kLanes}};

Probes avx512_bf16_probes() { return {kDot, 1, nullptr, 0}; }

}  // namespace aieng::ceilings
