#include "cpu_flash.h"

namespace aieng::attention {
bool forward_avx512(const Forward& f) { return avx512::forward(f); }
bool backward_avx512(const Backward& f) { return avx512::backward(f); }
}  // namespace aieng::attention
