#include "cpu_flash.h"

namespace aieng::attention {
bool forward_avx2(const Forward& f) { return avx2::forward(f); }
bool backward_avx2(const Backward& f) { return avx2::backward(f); }
}  // namespace aieng::attention
