// The step for any processor: a lane set of one float.
#include "cpu_step.h"

namespace aieng::diffusion {
namespace {

struct Portable : Scalar {
  static constexpr int kWidth = 1;
  static constexpr std::uintptr_t kAlign = 1;

  static AIENG_HD float clamp(float x, float low, float high) { return x < low ? low : x > high ? high : x; }
  template <class T>
  static AIENG_HD float load(const T* at) {
    return widen(*at);
  }
  template <class T>
  static AIENG_HD void store(T* at, float x) {
    narrow(x, *at);
  }
  template <class T>
  static AIENG_HD void stream(T* at, float x) {
    narrow(x, *at);
  }
  static AIENG_HD void fence() {}
  static AIENG_HD void normals(std::uint64_t seed, std::uint64_t offset, std::uint64_t block, float z[4]) {
    normal4(seed, offset, block, z);
  }
};

}  // namespace

void step_portable(const Step& step, Type type, int threads) { run<Portable>(step, type, threads); }

}  // namespace aieng::diffusion
