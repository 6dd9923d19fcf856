// Backward attention on Hopper's tensor cores for bf16 inputs.
#include "sm90_backward.cuh"

namespace aieng::attention::cuda {

void backward_sm90_bf16(const Backward& a, int device, void* stream) { backward_sm90_any<Bf16>(a, device, stream); }

}  // namespace aieng::attention::cuda
