// The module aieng_kernels._cuda: every family's CUDA bindings. It links the runtime statically, so it imports without a driver.
#include <cuda_runtime_api.h>

#include "bind.h"

namespace {

// 0 where there is no driver, or no device that it can use.
int device_count() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

}  // namespace

PYBIND11_MODULE(_cuda, m) {
  m.doc() = "Native CUDA kernels over raw pointers; call them through aieng_kernels, which checks arguments.";
  m.def("device_count", &device_count, "How many CUDA devices this process can use.");
  for (aieng::Binder bind : aieng::binders()) bind(m);
}
