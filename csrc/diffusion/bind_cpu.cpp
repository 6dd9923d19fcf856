// Python's door to the CPU steps; aieng_kernels.diffusion checks the arguments.
#include <pybind11/stl.h>

#include <cmath>
#include <optional>

#include "bind.h"
#include "diffusion.h"
#include "dlpack.h"

namespace {

using aieng::pointer;
using aieng::diffusion::Step;
using aieng::diffusion::Type;
using Address = std::uintptr_t;

// The coefficients are p, q, r, s, t, sigma, clip (infinite for none), guidance and h; diffusion.h has the rest.
template <void (*kStep)(const Step&, Type, int)>
void step(Address sample, Address cond, Address uncond, Address noise, Address out, Address x0, std::int64_t count, int type,
          float p, float q, float r, float s, float t, float sigma, float clip, float guidance, std::uint64_t seed,
          std::uint64_t offset, int threads, Address history, float h, std::int64_t samples, double rescale, double ratio,
          double most) {
  const Step arguments{pointer<void>(sample),
                       pointer<void>(cond),
                       pointer<void>(uncond),
                       pointer<void>(noise),
                       pointer<void>(out),
                       pointer<void>(x0),
                       count,
                       {p, q, r, s, t, sigma, clip, guidance, h},
                       seed,
                       offset,
                       pointer<void>(history),
                       samples,
                       rescale,
                       ratio,
                       most};
  pybind11::gil_scoped_release release;
  kStep(arguments, static_cast<Type>(type), threads);
}

// A tensor like `first`, which is itself if it is null: its address, null for None; false where it is not a contiguous one of its
// type and shape.
bool look(pybind11::handle object, const aieng::dlpack::Tensor* first, aieng::dlpack::Tensor& seen, void*& data) {
  data = nullptr;
  if (object.is_none()) return true;
  if (aieng::dlpack::exchange->view(object.ptr(), &seen)) throw pybind11::error_already_set();
  if (!first) first = &seen;
  if (aieng::dlpack::cpu_type(seen) < 0 || aieng::dlpack::cpu_type(seen) != aieng::dlpack::cpu_type(*first)) return false;
  if (seen.ndim != first->ndim) return false;
  std::int64_t step = 1;
  for (int i = seen.ndim - 1; i >= 0; --i) {
    if (seen.shape[i] != first->shape[i] || (seen.shape[i] > 1 && seen.strides[i] != step)) return false;
    step *= seen.shape[i];
  }
  data = aieng::dlpack::address(seen);
  return step > 0;
}

// The step of tensors as they are, into new ones. False, and nothing is done, where they are not all contiguous and alike, or noise
// is to be made: whoever asked then goes the way of the checks.
template <void (*kStep)(const Step&, Type, int)>
bool step_plainly(pybind11::handle sample, pybind11::handle cond, pybind11::handle uncond, pybind11::handle noise,
                  pybind11::handle history, pybind11::handle out, pybind11::handle x0, float p, float q, float r, float s, float t,
                  float sigma, std::optional<float> clip, float h, float guidance, int threads) {
  if (!aieng::dlpack::exchange || sample.is_none() || cond.is_none() || (sigma != 0 && noise.is_none())) return false;
  aieng::dlpack::Tensor first, other;
  Step step{};
  void *given[7], **next = given;
  if (!look(sample, nullptr, first, *next++)) return false;
  for (const auto& object : {cond, uncond, noise, history, out, x0}) {
    if (!look(object, &first, other, *next++)) return false;
  }
  step.sample = given[0], step.cond = given[1], step.uncond = given[2], step.noise = given[3], step.history = given[4];
  step.out = given[5], step.x0 = given[6];
  step.count = 1;
  for (int i = 0; i < first.ndim; ++i) step.count *= first.shape[i];
  step.k = {p, q, r, s, t, sigma, clip.value_or(INFINITY), guidance, h};
  pybind11::gil_scoped_release release;
  kStep(step, static_cast<Type>(aieng::dlpack::cpu_type(first)), threads);
  return true;
}

}  // namespace

AIENG_BIND(diffusion) {
  m.def("diffusion_step_portable", &step<aieng::diffusion::step_portable>);
  m.def("diffusion_plainly_portable", &step_plainly<aieng::diffusion::step_portable>);
#if defined(__x86_64__)
  m.def("diffusion_step_avx2", &step<aieng::diffusion::step_avx2>);
  m.def("diffusion_step_avx512", &step<aieng::diffusion::step_avx512>);
  m.def("diffusion_step_avx512_bf16", &step<aieng::diffusion::step_avx512_bf16>);
  m.def("diffusion_plainly_avx2", &step_plainly<aieng::diffusion::step_avx2>);
  m.def("diffusion_plainly_avx512", &step_plainly<aieng::diffusion::step_avx512>);
  m.def("diffusion_plainly_avx512_bf16", &step_plainly<aieng::diffusion::step_avx512_bf16>);
#endif
}
