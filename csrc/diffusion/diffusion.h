// One sampling step, and its formula for one element, shared by the CPU and CUDA.
#pragma once
#include <cstdint>

#include "hd.h"

namespace aieng::diffusion {

// e = u + g (c - u); x0 = clip(p x + q e); prev = r x0 + s x + t e + h y + sigma z. clip is +inf where nothing is clipped.
struct Coefficients {
  float p, q, r, s, t, sigma, clip, guidance, h = 0;
};

struct Element {
  float previous, original;
};

// Without y. With uncond = cond there is no guidance. NaN passes through the clip.
AIENG_HD Element step_element(const Coefficients& k, float x, float cond, float uncond, float z) {
  const float e = uncond + k.guidance * (cond - uncond);
  float original = k.p * x + k.q * e;
  original = original < -k.clip ? -k.clip : original > k.clip ? k.clip : original;
  return {k.r * original + (k.s * x + k.t * e) + k.sigma * z, original};
}

// A whole step over `count` elements. uncond, noise and x0 may be null; without noise, z is made from (seed, offset) if sigma != 0.
struct Step {
  const void *sample, *cond, *uncond, *noise;
  void *out, *x0;
  std::int64_t count;
  Coefficients k;
  std::uint64_t seed, offset;
  const void* history = nullptr;  // y, or null: h is then not read
  // What needs a pass over a whole sample before its step, of which the tensors hold `samples` one after the other:
  // rescale > 0: e becomes e (rescale std(c) / std(e) + 1 - rescale), arXiv:2305.08891, equations 15 and 16;
  // ratio > 0: x0 is clipped to +-s and divided by s, the quantile `ratio` of |x0| between 1 and `most`, arXiv:2205.11487, 2.3.
  std::int64_t samples = 1;
  double rescale = 0, ratio = 0, most = 1;
};

enum class Type : int { kFloat32 = 0, kFloat16 = 1, kBFloat16 = 2 };

// One per instruction set, each in the file of its name.
void step_portable(const Step& step, Type type, int threads);
void step_avx2(const Step& step, Type type, int threads);
void step_avx512(const Step& step, Type type, int threads);
void step_avx512_bf16(const Step& step, Type type, int threads);  // of bfloat16 alone

}  // namespace aieng::diffusion
