// The module aieng_kernels._cpu: every family's CPU bindings, and what this processor can do.
#include <pybind11/stl.h>

#include <memory>
#include <vector>

#include "bind.h"
#include "cpu_features.h"
#include "dlpack.h"
#include "huge_pages.h"
#include "kept_memory.h"

namespace {

namespace dlpack = aieng::dlpack;

struct Result {
  dlpack::Managed managed{};
  std::vector<std::int64_t> sizes;
  std::size_t bytes = 0;

  static void release(dlpack::Managed* managed) {
    aieng::KeptMemory::instance().give_back(managed->tensor.data, static_cast<Result*>(managed->context)->bytes);
    delete static_cast<Result*>(managed->context);
  }
};

// A capsule of DLPack with an uninitialised contiguous tensor of like's shape and type in kept memory. None where it is not on the
// CPU, where tensors cannot be read, and where there is no such memory.
pybind11::object kept_like(pybind11::handle like) {
  dlpack::Tensor seen;
  if (!dlpack::exchange) return pybind11::none();
  if (dlpack::exchange->view(like.ptr(), &seen)) throw pybind11::error_already_set();
  if (seen.device.type != dlpack::kCpu) return pybind11::none();
  auto result = std::make_unique<Result>();
  result->sizes.assign(seen.shape, seen.shape + seen.ndim);
  result->bytes = seen.dtype.bits * seen.dtype.lanes / 8;
  for (const std::int64_t n : result->sizes) result->bytes *= static_cast<std::size_t>(n);
  void* const memory = aieng::KeptMemory::instance().take(result->bytes);
  if (!memory) return pybind11::none();
  result->managed = {
      {memory, seen.device, seen.ndim, seen.dtype, result->sizes.data(), nullptr, 0}, result.get(), &Result::release};
  const auto forget = [](PyObject* capsule) {  // one that was taken in has another name
    if (PyCapsule_IsValid(capsule, dlpack::kManaged))
      Result::release(static_cast<dlpack::Managed*>(PyCapsule_GetPointer(capsule, dlpack::kManaged)));
  };
  dlpack::Managed* const managed = &result->managed;
  auto capsule = pybind11::reinterpret_steal<pybind11::object>(PyCapsule_New(managed, dlpack::kManaged, forget));
  if (!capsule) {
    aieng::KeptMemory::instance().give_back(memory, result->bytes);
    throw pybind11::error_already_set();
  }
  result.release();
  return capsule;
}

}  // namespace

PYBIND11_MODULE(_cpu, m) {
  m.doc() = "Native CPU kernels over raw pointers; call them through aieng_kernels, which checks arguments.";
  m.def("cpu_features", &aieng::cpu_features,
        "Instruction sets that this processor and operating system can run, of those we use.");
  m.def("prefer_huge_pages", &aieng::prefer_huge_pages, "Ask for 2 MiB pages under a large result (address, bytes); a hint.");
  m.def("kept_like", &kept_like,
        "A capsule of DLPack: an uninitialised tensor like this one in memory kept for large results, or None.");
  m.def(
      "tensor_exchange",
      [](const pybind11::capsule& api) {
        const auto* given = static_cast<const dlpack::ExchangeApi*>(PyCapsule_GetPointer(api.ptr(), dlpack::kCapsule));
        if (!given) throw pybind11::error_already_set();
        if (given->header.version.major == 1 && given->view) dlpack::exchange = given;
      },
      "Take the DLPack exchange API of torch's tensors, without which no call goes by a short way.");
  for (aieng::Binder bind : aieng::binders()) bind(m);
}
