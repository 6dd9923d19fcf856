#include "cpu_flash.h"

namespace aieng::attention {
bool forward_portable(const Forward& f) { return portable::forward(f); }
bool backward_portable(const Backward& f) { return portable::backward(f); }
}  // namespace aieng::attention
