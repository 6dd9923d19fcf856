// Gaussian noise that every backend reproduces: Philox-4x32-10 and Box-Muller, written once over an abstract set of lanes.
//
// Element i of a stream (seed, offset) takes lane i % 4 of the block at counter (i/4 low, i/4 high, offset low, offset high) under
// the key (seed low, seed high). A word x becomes u = float(x) * 2^-32 + 2^-33, rounded to nearest: u is in [2^-33, 1], so its
// logarithm is finite. Words (0, 1) and (2, 3) of a block give z = sqrt(-2 ln u0) * (cos 2 pi u1, sin 2 pi u1).
//
// Philox: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011. Box, Muller: Ann. Math. Statist. 29 (1958).
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#include "hd.h"

namespace aieng {

constexpr std::uint32_t kPhiloxM0 = 0xD2511F53u, kPhiloxM1 = 0xCD9E8D57u;
constexpr std::uint32_t kPhiloxW0 = 0x9E3779B9u, kPhiloxW1 = 0xBB67AE85u;

// One block of four words, in place of its counter.
AIENG_HD void philox4x32_10(std::uint32_t c[4], std::uint32_t k0, std::uint32_t k1) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = static_cast<std::uint64_t>(kPhiloxM0) * c[0];
    const std::uint64_t b = static_cast<std::uint64_t>(kPhiloxM1) * c[2];
    c[0] = static_cast<std::uint32_t>(b >> 32) ^ c[1] ^ k0;
    c[1] = static_cast<std::uint32_t>(b);
    c[2] = static_cast<std::uint32_t>(a >> 32) ^ c[3] ^ k1;
    c[3] = static_cast<std::uint32_t>(a);
    k0 += kPhiloxW0;
    k1 += kPhiloxW1;
  }
}

// The keys of the ten rounds in every lane, for philox_rounds.
template <class V>
struct PhiloxKeys {
  explicit PhiloxKeys(std::uint64_t seed) {
    std::uint32_t k0 = static_cast<std::uint32_t>(seed), k1 = static_cast<std::uint32_t>(seed >> 32);
    for (int round = 0; round < 10; ++round, k0 += kPhiloxW0, k1 += kPhiloxW1) {
      even[round] = V::set64(k0);
      odd[round] = V::set64(k1);
    }
  }
  typename V::Int even[10], odd[10];
};

template <class V>
AIENG_HD void philox_round(typename V::Int c[4], typename V::Int k0, typename V::Int k1) {
  const typename V::Int a = V::mul32(V::set64(kPhiloxM0), c[0]), b = V::mul32(V::set64(kPhiloxM1), c[2]);
  c[0] = V::xor3(V::high(b), c[1], k0);
  c[1] = b;
  c[2] = V::xor3(V::high(a), c[3], k1);
  c[3] = a;
}

// philox4x32_10 of a block a lane, of two such vectors in step, so that one's multiplications fill the other's waits. V offers
// 32-bit words in 64-bit lanes, whose upper halves may hold anything: set64, mul32 (of the lower halves, both halves of the
// product), high (the upper half moved down), xor3.
template <class V>
AIENG_HD void philox_rounds(typename V::Int c[2][4], const PhiloxKeys<V>& keys) {
#if !defined(__CUDACC__)
#pragma GCC unroll 10
#endif
  for (int round = 0; round < 10; ++round) {
    philox_round<V>(c[0], keys.even[round], keys.odd[round]);
    philox_round<V>(c[1], keys.even[round], keys.odd[round]);
  }
}

AIENG_HD float uniform(std::uint32_t word) { return static_cast<float>(word) * 0x1p-32f + 0x1p-33f; }

// The lane set of one: what the vector files offer for 8 or 16 floats.
struct Scalar {
  using Float = float;
  using Int = std::int32_t;
  static AIENG_HD Float set(float x) { return x; }
  static AIENG_HD Float fma(Float a, Float b, Float c) { return a * b + c; }
  static AIENG_HD Float mul(Float a, Float b) { return a * b; }
  static AIENG_HD Float sqrt(Float a) { return ::sqrtf(a); }
  static AIENG_HD Int bits(Float a) {
    Int i;
    std::memcpy(&i, &a, sizeof i);
    return i;
  }
  static AIENG_HD Float from_bits(Int i) {
    Float a;
    std::memcpy(&a, &i, sizeof a);
    return a;
  }
  static AIENG_HD Int add(Int a, std::int32_t b) { return a + b; }
  static AIENG_HD Int mask(Int a, std::int32_t b) { return a & b; }
  static AIENG_HD Int left(Int a, int n) { return static_cast<Int>(static_cast<std::uint32_t>(a) << n); }
  static AIENG_HD Int right(Int a, int n) { return a >> n; }  // arithmetic
  static AIENG_HD Float to_float(Int a) { return static_cast<Float>(a); }
  static AIENG_HD Int truncate(Float a) { return static_cast<Int>(a); }
  static AIENG_HD Float flip(Float a, Int sign_bit) { return from_bits(bits(a) ^ sign_bit); }
  static AIENG_HD Float if_odd(Int k, Float odd, Float even) { return k & 1 ? odd : even; }
};

// Natural logarithm of u in [2^-33, 1]; 1.5 ulp. u = 2^e m with m in [sqrt 1/2, sqrt 2), ln m = f - f^2/2 + f^3 P(f), f = m - 1.
template <class S>
AIENG_HD typename S::Float log_unit(typename S::Float u) {
  constexpr std::int32_t kSqrtHalf = 0x3F3504F3;
  const typename S::Int shifted = S::add(S::bits(u), -kSqrtHalf);
  const typename S::Float e = S::to_float(S::right(shifted, 23));
  const typename S::Float f = S::fma(S::from_bits(S::add(S::mask(shifted, 0x7FFFFF), kSqrtHalf)), S::set(1.0f), S::set(-1.0f));
  typename S::Float p = S::set(-7.634429837e-2f);
  p = S::fma(p, f, S::set(1.276155034e-1f));
  p = S::fma(p, f, S::set(-1.316019507e-1f));
  p = S::fma(p, f, S::set(1.420176247e-1f));
  p = S::fma(p, f, S::set(-1.662335648e-1f));
  p = S::fma(p, f, S::set(2.000122667e-1f));
  p = S::fma(p, f, S::set(-2.500082106e-1f));
  p = S::fma(p, f, S::set(3.333333171e-1f));
  const typename S::Float f2 = S::mul(f, f);
  const typename S::Float tail = S::mul(f2, S::fma(f, p, S::set(-0.5f)));
  // The large term last: e ln 2 carries the result's magnitude unless e = 0, where f does.
  return S::fma(e, S::set(0.693147180560f), S::fma(f, S::set(1.0f), tail));
}

// Cosine and sine of 2 pi u, u in [0, 1]; absolute error under 1e-7. u = k/4 + r exactly, |r| <= 1/8, polynomials in r^2.
template <class S>
AIENG_HD void cos_sin_turns(typename S::Float u, typename S::Float& cosine, typename S::Float& sine) {
  const typename S::Int k = S::truncate(S::fma(u, S::set(4.0f), S::set(0.5f)));
  const typename S::Float r = S::fma(S::to_float(k), S::set(-0.25f), u);
  const typename S::Float y = S::mul(r, r);
  typename S::Float s = S::set(41.472947771f);
  s = S::fma(s, y, S::set(-76.697869934f));
  s = S::fma(s, y, S::set(81.605204746f));
  s = S::fma(s, y, S::set(-41.341702154f));
  s = S::mul(S::fma(s, y, S::set(6.283185307f)), r);
  typename S::Float c = S::set(59.220407183f);
  c = S::fma(c, y, S::set(-85.442852118f));
  c = S::fma(c, y, S::set(64.939316208f));
  c = S::fma(c, y, S::set(-19.739208650f));
  c = S::fma(c, y, S::set(1.0f));
  cosine = S::flip(S::if_odd(k, s, c), S::left(S::mask(S::add(k, 1), 2), 30));
  sine = S::flip(S::if_odd(k, c, s), S::left(S::mask(k, 2), 30));
}

// Two independent standard normals from two uniforms in [2^-33, 1].
template <class S>
AIENG_HD void box_muller(typename S::Float u0, typename S::Float u1, typename S::Float& z0, typename S::Float& z1) {
  const typename S::Float radius = S::sqrt(S::mul(log_unit<S>(u0), S::set(-2.0f)));
  typename S::Float cosine, sine;
  cos_sin_turns<S>(u1, cosine, sine);
  z0 = S::mul(radius, cosine);
  z1 = S::mul(radius, sine);
}

// The words of elements 4 * block .. 4 * block + 3.
AIENG_HD void philox_block(std::uint64_t seed, std::uint64_t offset, std::uint64_t block, std::uint32_t words[4]) {
  words[0] = static_cast<std::uint32_t>(block);
  words[1] = static_cast<std::uint32_t>(block >> 32);
  words[2] = static_cast<std::uint32_t>(offset);
  words[3] = static_cast<std::uint32_t>(offset >> 32);
  philox4x32_10(words, static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32));
}

// The four normals of elements 4 * block .. 4 * block + 3.
AIENG_HD void normal4(std::uint64_t seed, std::uint64_t offset, std::uint64_t block, float z[4]) {
  std::uint32_t c[4];
  philox_block(seed, offset, block, c);
  box_muller<Scalar>(uniform(c[0]), uniform(c[1]), z[0], z[1]);
  box_muller<Scalar>(uniform(c[2]), uniform(c[3]), z[2], z[3]);
}

}  // namespace aieng
