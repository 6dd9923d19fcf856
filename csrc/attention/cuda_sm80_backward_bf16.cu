// Backward attention on tensor cores for bf16 inputs.
#include "sm80_backward.cuh"

namespace aieng::attention::cuda {

void backward_sm80_bf16(const Backward& a, int device, void* stream) { backward_sm80_any<Bf16>(a, device, stream); }

}  // namespace aieng::attention::cuda
