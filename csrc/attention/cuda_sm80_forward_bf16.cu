// Forward attention on tensor cores for bf16 inputs.
#include "sm80_forward.cuh"

namespace aieng::attention::cuda {

void forward_sm80_bf16(const Forward& a, int device, void* stream) { forward_sm80_any<Bf16>(a, device, stream); }

}  // namespace aieng::attention::cuda
