// Philox and Box-Muller over vectors: 4 * kWidth normals at a time, in the order in which the elements lie.
//
// V offers 32-bit counters in 64-bit lanes (one multiply gives both halves of a product; the upper halves may hold anything), two
// such vectors for each vector of floats: set64, add64, mul32, high, xor3; merge (lower halves of two vectors, alternating);
// uniform; transpose4 (4 x 4 within every 128-bit lane); kEven, kOdd: the order of counters for which transpose4 is all it takes.
#pragma once
#include "philox.h"

namespace aieng::diffusion {
namespace {

template <class V>
AIENG_HD void philox_rounds(typename V::Int c[4], std::uint64_t seed) {
  const typename V::Int m0 = V::set64(kPhiloxM0), m1 = V::set64(kPhiloxM1);
  std::uint32_t k0 = static_cast<std::uint32_t>(seed), k1 = static_cast<std::uint32_t>(seed >> 32);
#pragma GCC unroll 10
  for (int round = 0; round < 10; ++round) {
    const typename V::Int a = V::mul32(m0, c[0]), b = V::mul32(m1, c[2]);
    c[0] = V::xor3(V::high(b), c[1], V::set64(k0));
    c[1] = b;
    c[2] = V::xor3(V::high(a), c[3], V::set64(k1));
    c[3] = a;
    k0 += kPhiloxW0;
    k1 += kPhiloxW1;
  }
}

template <class V>
AIENG_HD void philox_normals(std::uint64_t seed, std::uint64_t offset, std::uint64_t block, typename V::Float z[4]) {
  using I = typename V::Int;
  I words[2][4];
  for (int half = 0; half < 2; ++half) {
    const I counter = V::add64(V::set64(block), half ? V::odd_counters() : V::even_counters());
    I* const c = words[half];
    c[0] = counter;
    c[1] = V::high(counter);
    c[2] = V::set64(offset);
    c[3] = V::set64(offset >> 32);
    philox_rounds<V>(c, seed);
  }
  typename V::Float u[4];
  for (int w = 0; w < 4; ++w) u[w] = V::uniform(V::merge(words[0][w], words[1][w]));
  box_muller<V>(u[0], u[1], z[0], z[1]);
  box_muller<V>(u[2], u[3], z[2], z[3]);
  V::transpose4(z);
}

}  // namespace
}  // namespace aieng::diffusion
