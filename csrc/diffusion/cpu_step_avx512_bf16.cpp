// The step in bfloat16 with AVX-512's conversion to it.
#include "cpu_lanes_avx512.h"
#include "cpu_step.h"

namespace aieng::diffusion {

void step_avx512_bf16(const Step& step, Type, int threads) { run<Avx512, BFloat16>(step, threads); }

}  // namespace aieng::diffusion
