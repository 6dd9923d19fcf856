// The module aieng_kernels._cpu: every family's CPU bindings, and what this processor can do.
#include <pybind11/stl.h>

#include "bind.h"
#include "cpu_features.h"
#include "dlpack.h"
#include "huge_pages.h"

PYBIND11_MODULE(_cpu, m) {
  m.doc() = "Native CPU kernels over raw pointers; call them through aieng_kernels, which checks arguments.";
  m.def("cpu_features", &aieng::cpu_features,
        "Instruction sets that this processor and operating system can run, of those we use.");
  m.def("prefer_huge_pages", &aieng::prefer_huge_pages, "Ask for 2 MiB pages under a large result (address, bytes); a hint.");
  m.def(
      "tensor_exchange",
      [](const pybind11::capsule& api) {
        namespace dlpack = aieng::dlpack;
        const auto* given = static_cast<const dlpack::ExchangeApi*>(PyCapsule_GetPointer(api.ptr(), dlpack::kCapsule));
        if (!given) throw pybind11::error_already_set();
        if (given->header.version.major == 1 && given->view) dlpack::exchange = given;
      },
      "Take the DLPack exchange API of torch's tensors, without which no call goes by a short way.");
  for (aieng::Binder bind : aieng::binders()) bind(m);
}
