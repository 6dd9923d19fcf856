// Python's door to the CPU steps; aieng_kernels.diffusion checks the arguments.
#include "bind.h"
#include "diffusion.h"

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

}  // namespace

AIENG_BIND(diffusion) {
  m.def("diffusion_step_portable", &step<aieng::diffusion::step_portable>);
#if defined(__x86_64__)
  m.def("diffusion_step_avx2", &step<aieng::diffusion::step_avx2>);
  m.def("diffusion_step_avx512", &step<aieng::diffusion::step_avx512>);
#endif
}
