// Python bindings of the CPU attention kernels: addresses and numbers in, one function a pass, the instruction set by name.
#include <pybind11/stl.h>

#include <array>
#include <new>
#include <stdexcept>
#include <string>

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

// A thread gets at least kGrain multiply-adds of either product: waking one that sleeps costs more than it would save.
Problem problem(const Four& q, const Four& k, bool causal, float scale, int type, int threads) {
  constexpr double kGrain = 32768;
  const double worth = static_cast<double>(q[0]) * q[1] * q[2] * q[3] * k[2] / kGrain;
  const int used = worth >= threads ? threads : worth < 1 ? 1 : static_cast<int>(worth);
  return {q[0], q[1], k[1], q[2], k[2], q[3], causal, scale, static_cast<Type>(type), used};
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
  m.def(
      "attention_forward",
      [](const std::string& isa, int type, const Four& q_shape, const Four& k_shape, bool causal, float scale, int threads,
         const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& out, Address lse) {
        const Forward f{problem(q_shape, k_shape, causal, scale, type, threads),
                        view(q),
                        view(k),
                        view(v),
                        view<void>(out),
                        aieng::pointer<float>(lse)};
        run(isa, f, AIENG_EACH(forward));
      },
      "Shapes are (B, H, N, D); a tensor is its address and its four strides in elements.");
  m.def("attention_backward", [](const std::string& isa, int type, const Four& q_shape, const Four& k_shape, bool causal,
                                 float scale, int threads, const Tensor& dout, const Tensor& q, const Tensor& k, const Tensor& v,
                                 const Tensor& out, Address lse, Address dq, Address dk, Address dv) {
    const Backward f{problem(q_shape, k_shape, causal, scale, type, threads),
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
