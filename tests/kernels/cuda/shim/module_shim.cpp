// The module _cuda_shim: the same bindings as aieng_kernels._cuda over the same kernels, run on the CPU by the shim.
#include "bind.h"
#include "cuda_shim.h"

PYBIND11_MODULE(_cuda_shim, m) {
  m.def("set_seed", [](unsigned seed) { aieng::shim::seed() = seed; }, "Order of warps; even: asynchronous copies land late.");
  for (aieng::Binder bind : aieng::binders()) bind(m);
}
