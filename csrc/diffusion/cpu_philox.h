// Philox and Box-Muller over vectors, in the order in which the elements lie.
//
// V offers the lanes of philox_rounds, two such vectors for each vector of floats, and add64; merge (lower halves of two vectors,
// alternating); uniform; transpose4 (4 x 4 within every 128-bit lane); even_counters, odd_counters: the order for which transpose4
// is all it takes.
#pragma once
#include "philox.h"

namespace aieng::diffusion {
namespace {

// 4 * kWidth normals for each of `groups`, from Philox block `block` on. Words of all groups come first: either loop alone has its
// constants in registers, both in one would not.
template <class V>
void philox_normals(std::uint64_t seed, std::uint64_t offset, std::uint64_t block, int groups, float* z) {
  using I = typename V::Int;
  constexpr int kGroup = 4 * V::kWidth;
  const PhiloxKeys<V> keys(seed);
  const I low = V::set64(offset), high = V::set64(offset >> 32);
  for (int g = 0; g < groups; ++g) {
    const I first = V::set64(block + static_cast<std::uint64_t>(g) * V::kWidth);
    const I even = V::add64(first, V::even_counters()), odd = V::add64(first, V::odd_counters());
    I c[2][4] = {{even, V::high(even), low, high}, {odd, V::high(odd), low, high}};
    philox_rounds<V>(c, keys);
    for (int w = 0; w < 4; ++w) V::store(z + g * kGroup + w * V::kWidth, V::from_bits(V::merge(c[0][w], c[1][w])));
  }
  for (float* at = z; at < z + groups * kGroup; at += kGroup) {
    typename V::Float n[4];
    for (int w = 0; w < 4; w += 2) {
      const typename V::Float u0 = V::uniform(V::bits(V::load(at + w * V::kWidth)));
      const typename V::Float u1 = V::uniform(V::bits(V::load(at + (w + 1) * V::kWidth)));
      box_muller<V>(u0, u1, n[w], n[w + 1]);
    }
    V::transpose4(n);
    for (int w = 0; w < 4; ++w) V::store(at + w * V::kWidth, n[w]);
  }
}

}  // namespace
}  // namespace aieng::diffusion
