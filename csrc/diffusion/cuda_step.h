// The CUDA launcher of a diffusion step; no CUDA header.
#pragma once
#include "diffusion.h"

namespace aieng::diffusion {

// Any alignment; 16-byte accesses where every tensor allows them.
void step_cuda(const Step& step, Type type, int device, void* stream);

}  // namespace aieng::diffusion
