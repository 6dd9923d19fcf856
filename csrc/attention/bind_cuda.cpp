// CUDA attention as Python sees it: tensors are (address, batch stride, head stride, row stride), checked by the caller.
#include <array>
#include <stdexcept>
#include <string>

#include "bind_options.h"
#include "cuda.h"

namespace {

namespace py = pybind11;
namespace cuda = aieng::attention::cuda;
using aieng::attention::Asked;
using TensorNumbers = std::array<std::int64_t, 4>;
using Shape = std::array<std::int64_t, 6>;  // B, Hq, Hkv, S, T, D

cuda::View view(const TensorNumbers& t) { return {aieng::pointer<void>(static_cast<std::uintptr_t>(t[0])), t[1], t[2], t[3]}; }

cuda::Problem problem(const Shape& n, const Asked& asked) {
  const auto& o = asked.options;
  return {n[0], n[1], n[2], n[3], n[4], static_cast<int>(n[5]), o.right == 0, asked.scale, o};
}

void forward(const std::string& kernel, const Shape& shape, const Asked& asked, const TensorNumbers& q, const TensorNumbers& k,
             const TensorNumbers& v, const TensorNumbers& out, std::uintptr_t lse, int device, std::uintptr_t stream) {
  const cuda::Forward a{problem(shape, asked), view(q), view(k), view(v), view(out), aieng::pointer<float>(lse)};
  void* const on = aieng::pointer<void>(stream);
  const py::gil_scoped_release release;
  if (kernel == "sm80_bfloat16") return cuda::forward_sm80_bf16(a, device, on);
  if (kernel == "sm80_float16") return cuda::forward_sm80_fp16(a, device, on);
  if (kernel == "sm90_bfloat16") return cuda::forward_sm90_bf16(a, device, on);
  if (kernel == "sm90_float16") return cuda::forward_sm90_fp16(a, device, on);
  if (kernel == "sm90_polynomial_bfloat16") return cuda::forward_sm90_polynomial_bf16(a, device, on);
  if (kernel == "sm90_polynomial_float16") return cuda::forward_sm90_polynomial_fp16(a, device, on);
  if (kernel == "simt_float32") return cuda::forward_simt(a, device, on);
  throw std::invalid_argument("no attention kernel " + kernel);
}

void backward(const std::string& kernel, const Shape& shape, const Asked& asked, const std::array<TensorNumbers, 5>& saved,
              std::uintptr_t lse, std::uintptr_t delta, const std::array<TensorNumbers, 3>& gradients, int device,
              std::uintptr_t stream) {
  const auto& [dout, q, k, v, out] = saved;
  const auto& [dq, dk, dv] = gradients;
  const cuda::Backward a{problem(shape, asked),
                         view(q),
                         view(k),
                         view(v),
                         view(out),
                         view(dout),
                         view(dq),
                         view(dk),
                         view(dv),
                         aieng::pointer<float>(lse),
                         aieng::pointer<float>(delta)};
  void* const on = aieng::pointer<void>(stream);
  const py::gil_scoped_release release;
  if (kernel == "sm80_bfloat16") return cuda::backward_sm80_bf16(a, device, on);
  if (kernel == "sm80_float16") return cuda::backward_sm80_fp16(a, device, on);
  if (kernel == "sm90_bfloat16") return cuda::backward_sm90_bf16(a, device, on);
  if (kernel == "sm90_float16") return cuda::backward_sm90_fp16(a, device, on);
  if (kernel == "simt_float32") return cuda::backward_simt(a, device, on);
  throw std::invalid_argument("no attention kernel " + kernel);
}

}  // namespace

AIENG_BIND(attention) {
  aieng::attention::bind_options(m);
  m.def("attention_forward", &forward, "out and lse of softmax(scale q k^T) v, on the given device and stream.");
  m.def("attention_backward", &backward, "dq, dk, dv from (dout, q, k, v, out), lse and scratch delta (B, Hq, S) float32.");
}
