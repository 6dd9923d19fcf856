// Forward attention on Hopper's tensor cores for fp16 inputs.
#include "sm90_forward.cuh"

namespace aieng::attention::cuda {

void forward_sm90_fp16(const Forward& a, int device, void* stream) { forward_sm90_any<Fp16>(a, device, stream); }

}  // namespace aieng::attention::cuda
