// Forward attention on Hopper's tensor cores with a part of the exponentials on the multiply-add units, d up to 64.
#include "sm90_forward.cuh"

namespace aieng::attention::cuda {

void forward_sm90_polynomial_bf16(const Forward& a, int device, void* stream) { forward_sm90_polynomial<Bf16>(a, device, stream); }
void forward_sm90_polynomial_fp16(const Forward& a, int device, void* stream) { forward_sm90_polynomial<Fp16>(a, device, stream); }

}  // namespace aieng::attention::cuda
