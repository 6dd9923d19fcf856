// Backward attention on Hopper's tensor cores for fp16 inputs.
#include "sm90_backward.cuh"

namespace aieng::attention::cuda {

void backward_sm90_fp16(const Backward& a, int device, void* stream) { backward_sm90_any<Fp16>(a, device, stream); }

}  // namespace aieng::attention::cuda
