// One vector of float32 as the kernels see it. The instruction set comes from the file's compiler flags, and so does the namespace,
// so that templates compiled for different instruction sets never meet in the linker. (Nothing of the standard library is
// instantiated in these files for the same reason.)
#pragma once
#include <cstdint>
#include <cstring>

#include "cpu_api.h"

#if defined(__AVX512BF16__)
#define AIENG_ISA avx512_bf16
#elif defined(__AVX512F__)
#define AIENG_ISA avx512
#elif defined(__AVX2__)
#define AIENG_ISA avx2
#else
#define AIENG_ISA portable
#endif

namespace aieng::attention::AIENG_ISA {

template <class T>
inline T least(T a, T b) {
  return b < a ? b : a;
}
template <class T>
inline T greatest(T a, T b) {
  return a < b ? b : a;
}
inline int64_t ceil_div(int64_t n, int64_t d) { return (n + d - 1) / d; }
inline int64_t round_up(int64_t n, int64_t multiple) { return ceil_div(n, multiple) * multiple; }

}  // namespace aieng::attention::AIENG_ISA

#if defined(__AVX512F__)
#include "cpu_simd_avx512.h"
#elif defined(__AVX2__)
#include "cpu_simd_avx2.h"
#else
#include "cpu_simd_portable.h"
#endif

namespace aieng::attention::AIENG_ISA {

// 2^x for x <= 1: 2^round(x) times a polynomial on [-1/2, 1/2], fitted for the least relative error (2.6e-6 for degree 4, 7.5e-8
// for 5). A NaN stays one; far below the smallest normal number the result is exactly zero.
template <int kDegree>
inline Vec exp2(Vec x) {
  x = not_below_floor(x);
  const Vec whole = round_nearest(x);
  const Vec f = sub(x, whole);
  Vec p;
  if constexpr (kDegree == 5) {
    p = fma(set1(1.327647203e-03f), f, set1(9.675541480e-03f));
    p = fma(p, f, set1(5.550713275e-02f));
    p = fma(p, f, set1(2.402211972e-01f));
    p = fma(p, f, set1(6.931469671e-01f));
    p = fma(p, f, set1(1.000000072e+00f));
  } else {
    p = fma(set1(9.570101947e-03f), f, set1(5.591786159e-02f));
    p = fma(p, f, set1(2.402474484e-01f));
    p = fma(p, f, set1(6.931218146e-01f));
    p = fma(p, f, set1(9.999992614e-01f));
  }
  return times_power_of_two(p, whole, x);
}

constexpr int64_t size_of(Type type) { return type == Type::kFloat32 ? 4 : 2; }

}  // namespace aieng::attention::AIENG_ISA
