// The CUDA diffusion step as Python sees it: tensors are addresses, 0 for one that is not there, checked by the caller.
#include <pybind11/stl.h>

#include <array>

#include "bind.h"
#include "cuda_step.h"

namespace {

namespace py = pybind11;
namespace df = aieng::diffusion;

using aieng::pointer;

df::Scales scales(const std::array<std::uintptr_t, 2>& tensors, std::int64_t size) {
  return {pointer<float>(tensors[0]), pointer<float>(tensors[1]), size};
}

// tensors: sample, cond, uncond, noise, out, x0, history; scaled: factor, bound, of samples of `size` elements;
// coefficients: p, q, r, s, t, sigma, clip (inf for none), guidance, h.
void step(const std::array<std::uintptr_t, 7>& tensors, std::int64_t count, const std::array<std::uintptr_t, 2>& scaled,
          std::int64_t size, int type, const std::array<float, 9>& coefficients, std::uint64_t seed, std::uint64_t offset,
          int device, std::uintptr_t stream) {
  const auto& [sample, cond, uncond, noise, out, x0, history] = tensors;
  const auto& [p, q, r, s, t, sigma, clip, guidance, h] = coefficients;
  const df::Step a{pointer<void>(sample),
                   pointer<void>(cond),
                   pointer<void>(uncond),
                   pointer<void>(noise),
                   pointer<void>(out),
                   pointer<void>(x0),
                   count,
                   {p, q, r, s, t, sigma, clip, guidance, h},
                   seed,
                   offset,
                   pointer<void>(history)};
  const py::gil_scoped_release release;
  df::step_cuda(a, scales(scaled, size), static_cast<df::Type>(type), device, pointer<void>(stream));
}

// tensors: sample, cond, uncond; coefficients: p, q, guidance.
void scales_of(const std::array<std::uintptr_t, 3>& tensors, std::int64_t samples, const std::array<std::uintptr_t, 2>& scaled,
               std::int64_t size, int type, const std::array<float, 3>& coefficients, double rescale, double ratio, double most,
               int device, std::uintptr_t stream) {
  df::Step a{};
  a.sample = pointer<void>(tensors[0]), a.cond = pointer<void>(tensors[1]), a.uncond = pointer<void>(tensors[2]);
  a.k.p = coefficients[0], a.k.q = coefficients[1], a.k.guidance = coefficients[2];
  a.samples = samples, a.rescale = rescale, a.ratio = ratio, a.most = most;
  const py::gil_scoped_release release;
  df::scales_cuda(a, scales(scaled, size), static_cast<df::Type>(type), device, pointer<void>(stream));
}

}  // namespace

AIENG_BIND(diffusion) {
  m.def("diffusion_step", &step, "One diffusion step, on the given device and stream.");
  m.def("diffusion_scales", &scales_of, "What each sample says before its step: the factor on e and the bound of x0.");
}
