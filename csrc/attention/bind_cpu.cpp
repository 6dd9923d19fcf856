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
using Strides = std::array<int64_t, 3>;  // batch, head, row
using Tensor = std::pair<Address, Strides>;

View view(const Tensor& t) { return {aieng::pointer<const void>(t.first), t.second[0], t.second[1], t.second[2]}; }

Problem problem(const std::array<int64_t, 6>& n, bool causal, float scale, int type, int threads) {
  return {n[0], n[1], n[2], n[3], n[4], n[5], causal, scale, static_cast<Type>(type), threads};
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
      [](const std::string& isa, int type, const std::array<int64_t, 6>& sizes, bool causal, float scale, int threads,
         const Tensor& q, const Tensor& k, const Tensor& v, Address out, Address lse) {
        const Forward f{problem(sizes, causal, scale, type, threads),
                        view(q),
                        view(k),
                        view(v),
                        aieng::pointer<void>(out),
                        aieng::pointer<float>(lse)};
        run(isa, f, AIENG_EACH(forward));
      },
      "sizes are B, Hq, Hkv, S, T, D; a tensor is its address and its strides in elements (batch, head, row).");
  m.def("attention_backward", [](const std::string& isa, int type, const std::array<int64_t, 6>& sizes, bool causal, float scale,
                                 int threads, const Tensor& dout, const Tensor& q, const Tensor& k, const Tensor& v,
                                 const Tensor& out, Address lse, Address dq, Address dk, Address dv) {
    const Backward f{problem(sizes, causal, scale, type, threads),
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
