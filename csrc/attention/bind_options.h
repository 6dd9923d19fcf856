// The options of attention as Python hands them to either native module: converted once, for taking tuples apart takes longer than
// attention on few tokens.
#pragma once
#include <pybind11/stl.h>

#include <array>
#include <tuple>
#include <utility>

#include "bind.h"
#include "options.h"

namespace aieng::attention {

using Address = std::uintptr_t;
using Four = std::array<int64_t, 4>;
using Tensor = std::pair<Address, Four>;  // address, strides

// In the order in which native_options.py gives it; addresses are 0 where there is no tensor.
using Window = std::tuple<int64_t, int64_t, bool>;                                   // left, right, bottom-right
using MaskOf = std::tuple<int, Tensor>;                                              // kind
using DropoutOf = std::tuple<Address, uint64_t, float>;                              // seed, dropped, rescale
using LengthsOf = std::tuple<int64_t, Address, Address, Address, int64_t, int64_t>;  // as Lengths

struct Asked {
  float scale;
  Options options;
};

inline Asked asked_of(float scale, const Window& window, float softcap, const MaskOf& mask, const DropoutOf& dropout,
                      const LengthsOf& lengths) {
  const auto& [kind, tensor] = mask;
  const auto& [seed, dropped, rescale] = dropout;
  const auto& [sequences, q_starts, k_starts, k_lengths, longest_q, longest_k] = lengths;
  Asked asked{scale, {}};
  Options& o = asked.options;
  std::tie(o.left, o.right, o.bottom_right) = window;
  o.softcap = softcap;
  const Four& strides = tensor.second;
  o.mask = {static_cast<Mask::Kind>(kind), pointer<const void>(tensor.first), strides[0], strides[1], strides[2], strides[3]};
  o.dropout = {pointer<const int64_t>(seed), dropped, rescale};
  const auto numbers = [](Address address) { return pointer<const int32_t>(address); };
  o.lengths = {sequences, numbers(q_starts), numbers(k_starts), numbers(k_lengths), longest_q, longest_k};
  return asked;
}

inline void bind_options(pybind11::module_& m) {
  // Local, as both modules have it.
  pybind11::class_<Asked>(m, "AttentionOptions", pybind11::module_local()).def(pybind11::init(&asked_of));
}

}  // namespace aieng::attention
