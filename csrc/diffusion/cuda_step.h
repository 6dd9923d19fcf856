// The CUDA launcher of a diffusion step; no CUDA header.
#pragma once
#include "diffusion.h"

namespace aieng::diffusion {

// What samples of `size` elements one after the other said before their step, a float32 a sample, or null where it was not asked.
struct Scales {
  float* factor = nullptr;  // of e
  float* bound = nullptr;   // of x0, which is clipped to it and divided by it
  std::int64_t size = 1;
};

// Any alignment; 16-byte accesses where every tensor allows them.
void step_cuda(const Step& step, const Scales& scales, Type type, int device, void* stream);

// Writes `scales` of the step's samples, as its rescale, ratio and most say; for samples of fewer than 2^31 elements.
void scales_cuda(const Step& step, const Scales& scales, Type type, int device, void* stream);

}  // namespace aieng::diffusion
