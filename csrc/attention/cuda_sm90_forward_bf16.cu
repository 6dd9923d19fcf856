// Forward attention on Hopper's tensor cores for bf16 inputs.
#include "sm90_forward.cuh"

namespace aieng::attention::cuda {

void forward_sm90_bf16(const Forward& a, int device, void* stream) { forward_sm90_any<Bf16>(a, device, stream); }

}  // namespace aieng::attention::cuda
