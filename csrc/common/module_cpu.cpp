// The module aieng_kernels._cpu: every family's CPU bindings, and what this processor can do.
#include "bind.h"
#include <pybind11/stl.h>

#include "cpu_features.h"

PYBIND11_MODULE(_cpu, m) {
  m.doc() = "Native CPU kernels over raw pointers; call them through aieng_kernels, which checks arguments.";
  m.def("cpu_features", &aieng::cpu_features, "Instruction sets that this processor and operating system can run, of those we use.");
  for (aieng::Binder bind : aieng::binders()) bind(m);
}
