// Python bindings of the CPU attention kernels: addresses and numbers in, one function a pass, the instruction set by name.
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <new>
#include <stdexcept>
#include <string>
#include <tuple>

#include "bind.h"
#include "cpu_api.h"

namespace {
namespace py = pybind11;
using namespace aieng::attention;
using Address = std::uintptr_t;
using Four = std::array<int64_t, 4>;
using Tensor = std::pair<Address, Four>;  // address, strides

template <class Pointed = const void>
ViewOf<Pointed*> view(const Tensor& t) {
  return {aieng::pointer<Pointed>(t.first), t.second[0], t.second[1], t.second[2]};
}

// What is asked beside q, k and v, in the order in which cpu.py gives it; addresses are 0 where there is no tensor.
using Window = std::tuple<int64_t, int64_t, bool>;                                   // left, right, bottom-right
using MaskOf = std::tuple<int, Tensor>;                                              // kind
using DropoutOf = std::tuple<Address, uint64_t, float>;                              // seed, dropped, rescale
using LengthsOf = std::tuple<int64_t, Address, Address, Address, int64_t, int64_t>;  // as Lengths
struct Asked {
  float scale;
  Window window;
  float softcap;
  MaskOf mask;
  DropoutOf dropout;
  LengthsOf lengths;
};

Problem problem(const Four& q, const Four& k, int type, const Asked& asked, int threads) {
  const auto& [scale, window, softcap, mask, dropout, lengths] = asked;
  const auto& [kind, tensor] = mask;
  const auto& [seed, dropped, rescale] = dropout;
  const auto& [sequences, q_starts, k_starts, k_lengths, longest_q, longest_k] = lengths;
  Problem p{q[0], q[1], k[1], q[2], k[2], q[3], scale, static_cast<Type>(type), 1};
  std::tie(p.left, p.right, p.bottom_right) = window;
  p.softcap = softcap;
  const Four& strides = tensor.second;
  p.mask = {
      static_cast<Mask::Kind>(kind), aieng::pointer<const void>(tensor.first), strides[0], strides[1], strides[2], strides[3]};
  p.dropout = {seed ? static_cast<uint64_t>(*aieng::pointer<const int64_t>(seed)) : 0, dropped, rescale};
  const auto starts = [](Address address) { return aieng::pointer<const int32_t>(address); };
  p.lengths = {sequences, starts(q_starts), starts(k_starts), starts(k_lengths), longest_q, longest_k};
  // A thread gets at least kGrain multiply-adds of either product: waking one that sleeps costs more than it would save.
  constexpr double kGrain = 32768;
  double keys = static_cast<double>(q_starts ? longest_k : p.T);
  if (p.left >= 0 && p.right >= 0) keys = std::min(keys, static_cast<double>(p.left) + static_cast<double>(p.right) + 1);
  const double worth = static_cast<double>(p.B) * p.Hq * p.S * p.D * keys / kGrain;
  p.threads = worth >= threads ? threads : worth < 1 ? 1 : static_cast<int>(worth);
  return p;
}

template <class Args>
void run(const std::string& isa, const Args& args, bool (*portable)(const Args&), bool (*avx2)(const Args&),
         bool (*avx512)(const Args&), bool (*avx512_bf16)(const Args&)) {
  auto kernel = isa == "avx512_bf16" ? avx512_bf16
                : isa == "avx512"    ? avx512
                : isa == "avx2"      ? avx2
                : isa == "portable"  ? portable
                                     : nullptr;
  if (!kernel) throw std::invalid_argument("isa " + isa + " is not built");
  const py::gil_scoped_release release;
  if (!kernel(args)) throw std::bad_alloc();
}
}  // namespace

AIENG_BIND(attention) {
#if defined(__x86_64__)
#define AIENG_EACH(pass) pass##_portable, pass##_avx2, pass##_avx512, pass##_avx512_bf16
#else
#define AIENG_EACH(pass) pass##_portable, nullptr, nullptr, nullptr
#endif
  py::class_<Asked>(m, "AttentionOptions", "Converted once: for a small call, taking its tuples apart takes longer than attention.")
      .def(py::init([](float scale, Window window, float softcap, MaskOf mask, DropoutOf dropout, LengthsOf lengths) {
        return Asked{scale, window, softcap, mask, dropout, lengths};
      }));
  m.def(
      "attention_forward",
      [](const std::string& isa, int type, const Four& q_shape, const Four& k_shape, const Asked& asked, int threads,
         const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& out, Address lse) {
        const Forward f{problem(q_shape, k_shape, type, asked, threads),
                        view(q),
                        view(k),
                        view(v),
                        view<void>(out),
                        aieng::pointer<float>(lse)};
        run(isa, f, AIENG_EACH(forward));
      },
      "Shapes are (B, H, N, D); a tensor is its address and its four strides in elements.");
  m.def("attention_backward", [](const std::string& isa, int type, const Four& q_shape, const Four& k_shape, const Asked& asked,
                                 int threads, const Tensor& dout, const Tensor& q, const Tensor& k, const Tensor& v,
                                 const Tensor& out, Address lse, Address dq, Address dk, Address dv) {
    const Backward f{problem(q_shape, k_shape, type, asked, threads),
                     view(dout),
                     view(q),
                     view(k),
                     view(v),
                     view(out),
                     aieng::pointer<const float>(lse),
                     aieng::pointer<void>(dq),
                     aieng::pointer<void>(dk),
                     aieng::pointer<void>(dv)};
    run(isa, f, AIENG_EACH(backward));
  });
}
