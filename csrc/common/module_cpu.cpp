// The module aieng_kernels._cpu: every family's CPU bindings, and what this processor can do.
#include <pybind11/stl.h>

#include "bind.h"
#include "cpu_features.h"
#include "huge_pages.h"

PYBIND11_MODULE(_cpu, m) {
  m.doc() = "Native CPU kernels over raw pointers; call them through aieng_kernels, which checks arguments.";
  m.def("cpu_features", &aieng::cpu_features,
        "Instruction sets that this processor and operating system can run, of those we use.");
  m.def("prefer_huge_pages", &aieng::prefer_huge_pages, "Ask for 2 MiB pages under a large result (address, bytes); a hint.");
  for (aieng::Binder bind : aieng::binders()) bind(m);
}
