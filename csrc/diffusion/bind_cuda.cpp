// The CUDA diffusion step as Python sees it: tensors are addresses, 0 for one that is not there, checked by the caller.
#include <pybind11/stl.h>

#include <array>

#include "bind.h"
#include "cuda_step.h"

namespace {

namespace py = pybind11;
namespace df = aieng::diffusion;

// tensors: sample, cond, uncond, noise, out, x0, history; coefficients: p, q, r, s, t, sigma, clip (inf for none), guidance, h.
void step(const std::array<std::uintptr_t, 7>& tensors, std::int64_t count, int type, const std::array<float, 9>& coefficients,
          std::uint64_t seed, std::uint64_t offset, int device, std::uintptr_t stream) {
  const auto& [sample, cond, uncond, noise, out, x0, history] = tensors;
  const auto& [p, q, r, s, t, sigma, clip, guidance, h] = coefficients;
  using aieng::pointer;
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
  df::step_cuda(a, static_cast<df::Type>(type), device, pointer<void>(stream));
}

}  // namespace

AIENG_BIND(diffusion) { m.def("diffusion_step", &step, "One diffusion step, on the given device and stream."); }
