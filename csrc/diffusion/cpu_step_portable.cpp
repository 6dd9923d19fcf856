// The step for any processor: four floats in the compiler's own vector type, which it maps to what there is (SSE2, NEON).
#include "cpu_step.h"

namespace aieng::diffusion {
namespace {

struct Portable {
  typedef float Float __attribute__((vector_size(16)));
  typedef std::int32_t Int __attribute__((vector_size(16)));
  static constexpr int kWidth = 4;
  static constexpr std::uintptr_t kAlign = 1;

  static AIENG_HD Float set(float x) { return Float{x, x, x, x}; }
  static AIENG_HD Float fma(Float a, Float b, Float c) { return a * b + c; }
  static AIENG_HD Float mul(Float a, Float b) { return a * b; }
  static AIENG_HD Float sqrt(Float a) {
    for (int i = 0; i < kWidth; ++i) a[i] = __builtin_sqrtf(a[i]);
    return a;
  }
  static AIENG_HD Int bits(Float a) { return reinterpret_cast<Int>(a); }
  static AIENG_HD Float from_bits(Int a) { return reinterpret_cast<Float>(a); }
  static AIENG_HD Int add(Int a, std::int32_t b) { return a + b; }
  static AIENG_HD Int mask(Int a, std::int32_t b) { return a & b; }
  static AIENG_HD Int left(Int a, int n) { return a << n; }
  static AIENG_HD Int right(Int a, int n) { return a >> n; }
  static AIENG_HD Float to_float(Int a) { return __builtin_convertvector(a, Float); }
  static AIENG_HD Int truncate(Float a) { return __builtin_convertvector(a, Int); }
  static AIENG_HD Float flip(Float a, Int sign) { return from_bits(bits(a) ^ sign); }
  static AIENG_HD Float select(Int lanes, Float a, Float b) { return from_bits((lanes & bits(a)) | (~lanes & bits(b))); }
  static AIENG_HD Float if_odd(Int k, Float odd, Float even) { return select(-(k & 1), odd, even); }
  // Comparisons with NaN are false, so it is kept.
  static AIENG_HD Float clamp(Float x, Float low, Float high) {
    const Float floored = select(x < low, low, x);
    return select(floored > high, high, floored);
  }

  static AIENG_HD Float load(const float* at) {
    Float x;
    std::memcpy(&x, at, sizeof x);
    return x;
  }
  template <class T>
  static AIENG_HD Float load(const T* at) {
    return Float{widen(at[0]), widen(at[1]), widen(at[2]), widen(at[3])};
  }
  static AIENG_HD void store(float* at, Float x) { std::memcpy(at, &x, sizeof x); }
  template <class T>
  static AIENG_HD void store(T* at, Float x) {
    for (int i = 0; i < kWidth; ++i) narrow(x[i], at[i]);
  }
  template <class T>
  static AIENG_HD void stream(T* at, Float x) {
    store(at, x);
  }
  static AIENG_HD void fence() {}

  static AIENG_HD int keep(float* at, Float x, float bar) { return keep_each<Portable>(at, x, bar); }
  static void normals(std::uint64_t seed, std::uint64_t offset, std::uint64_t block, int groups, float* z) {
    for (int g = 0; g < groups; ++g) {
      Float u[4];
      for (int b = 0; b < kWidth; ++b) {
        std::uint32_t words[4];
        philox_block(seed, offset, block++, words);
        for (int w = 0; w < 4; ++w) u[w][b] = uniform(words[w]);
      }
      Float n[4];
      box_muller<Portable>(u[0], u[1], n[0], n[1]);
      box_muller<Portable>(u[2], u[3], n[2], n[3]);
      for (int b = 0; b < kWidth; ++b, z += 4) store(z, Float{n[0][b], n[1][b], n[2][b], n[3][b]});
    }
  }
};

}  // namespace

void step_portable(const Step& step, Type type, int threads) { run<Portable>(step, type, threads); }

}  // namespace aieng::diffusion
