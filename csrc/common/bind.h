// How a family's bindings reach the Python module without a central list: each bind_*.cpp registers one function.
#pragma once
#include <pybind11/pybind11.h>

#include <cstdint>
#include <vector>

namespace aieng {

using Binder = void (*)(pybind11::module_&);

inline std::vector<Binder>& binders() {
  static std::vector<Binder> all;
  return all;
}

struct Register {
  explicit Register(Binder binder) { binders().push_back(binder); }
};

// Tensors cross as addresses: the Python side checks, allocates, and keeps the tensor alive until the call returns.
template <class T>
T* pointer(std::uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

}  // namespace aieng

// AIENG_BIND(attention) { m.def(...); } at namespace scope of a bind_*.cpp.
#define AIENG_BIND(family)                                                   \
  static void aieng_bind_##family(pybind11::module_& m);                     \
  static const aieng::Register aieng_register_##family(aieng_bind_##family); \
  static void aieng_bind_##family(pybind11::module_& m)
