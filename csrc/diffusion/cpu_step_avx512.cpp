// The step with AVX-512 (F, BW, DQ, VL).
#include "cpu_lanes_avx512.h"
#include "cpu_step.h"

namespace aieng::diffusion {

void step_avx512(const Step& step, Type type, int threads) { run<Avx512>(step, type, threads); }

}  // namespace aieng::diffusion
