// Philox and Box-Muller over vectors: 4 * kWidth normals at a time, in the order in which the elements lie.
//
// V offers the lanes of philox_rounds, two such vectors for each vector of floats, and add64; merge (lower halves of two vectors,
// alternating); uniform; transpose4 (4 x 4 within every 128-bit lane); kEven, kOdd: the order of counters for which transpose4 is
// all it takes.
#pragma once
#include "philox.h"

namespace aieng::diffusion {
namespace {

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
