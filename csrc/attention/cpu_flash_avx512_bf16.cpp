#include "cpu_flash.h"

namespace aieng::attention {
bool forward_avx512_bf16(const Forward& f) { return avx512_bf16::forward(f); }
bool backward_avx512_bf16(const Backward& f) { return avx512_bf16::backward(f); }
}  // namespace aieng::attention
