// The noise of philox.h in as few instructions as a step can hide behind its memory: the same words, and normals to 4e-6.
#pragma once
#include "half.h"
#include "philox.h"
#include "ptx.cuh"

namespace aieng::diffusion {

constexpr int kSharedRounds = 2;  // done on the host as far as all blocks have them in common

// What every block of a launch shares: the round keys, and of the first two rounds the products of the counter's words that are the
// same in each, so that a block multiplies 18 times instead of 20 and adds up no key.
struct PhiloxStream {
  uint32_t low;       // of the first block
  uint32_t start[3];  // offset high ^ key; low half of M1 * offset low ^ key; high half of M0 * c0 after a round ^ key
  uint32_t keys[10 - kSharedRounds][2];  // the first of them with the low half of M0 * c0 after a round in it
};

// For blocks first .. first + 2^32 - 1 - first % 2^32: the upper word of the counter is the same in all.
inline PhiloxStream philox_stream(uint64_t seed, uint64_t offset, uint64_t first) {
  uint32_t keys[10][2] = {{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)}};
  for (int round = 1; round < 10; ++round) {
    keys[round][0] = keys[round - 1][0] + kPhiloxW0;
    keys[round][1] = keys[round - 1][1] + kPhiloxW1;
  }
  const uint64_t b = static_cast<uint64_t>(kPhiloxM1) * static_cast<uint32_t>(offset);
  const uint32_t c0 = static_cast<uint32_t>(b >> 32) ^ static_cast<uint32_t>(first >> 32) ^ keys[0][0];
  const uint64_t a = static_cast<uint64_t>(kPhiloxM0) * c0;
  PhiloxStream s;
  s.low = static_cast<uint32_t>(first);
  s.start[0] = static_cast<uint32_t>(offset >> 32) ^ keys[0][1];
  s.start[1] = static_cast<uint32_t>(b) ^ keys[1][0];
  s.start[2] = static_cast<uint32_t>(a >> 32) ^ keys[1][1];
  for (int round = kSharedRounds; round < 10; ++round) {
    s.keys[round - kSharedRounds][0] = keys[round][0];
    s.keys[round - kSharedRounds][1] = keys[round][1];
  }
  s.keys[0][1] ^= static_cast<uint32_t>(a);
  return s;
}

__device__ __forceinline__ void philox_words(const PhiloxStream& s, uint32_t block, uint32_t (&c)[4]) {
  uint64_t a = static_cast<uint64_t>(kPhiloxM0) * (s.low + block);
  uint64_t b = static_cast<uint64_t>(kPhiloxM1) * (static_cast<uint32_t>(a >> 32) ^ s.start[0]);
  c[0] = static_cast<uint32_t>(b >> 32) ^ s.start[1];
  c[1] = static_cast<uint32_t>(b);
  c[2] = static_cast<uint32_t>(a) ^ s.start[2];
  c[3] = 0;
#pragma unroll
  for (int round = 0; round < 10 - kSharedRounds; ++round) {
    a = static_cast<uint64_t>(kPhiloxM0) * c[0];
    b = static_cast<uint64_t>(kPhiloxM1) * c[2];
    c[0] = static_cast<uint32_t>(b >> 32) ^ c[1] ^ s.keys[round][0];
    c[1] = static_cast<uint32_t>(b);
    c[2] = static_cast<uint32_t>(a >> 32) ^ c[3] ^ s.keys[round][1];
    c[3] = static_cast<uint32_t>(a);
  }
}

// sqrt(-2 ln u) for u in [2^-33, 1]; error under 3.3e-7 + 3e-7 r for a result r, under 2.4e-6 at most (r = 6.77).
//
// lg2.approx is within 2^-22, of the logarithm up to u = 1/2 and in absolute terms from there on; the root divides that by r, which
// is why near 1, where r goes to 0, a polynomial in the exact 1 - u takes its place (relative error 5e-7). sqrt.approx is within
// 2^-23.
__device__ __forceinline__ float normal_radius(float u) {
  const float w = 1.0f - u;
  float near = 0.61675209f;
  near = fmaf(near, w, 0.65708548f);
  near = fmaf(near, w, 1.00024529f);
  near = fmaf(near, w, 1.99999903f);
  const float far = fast_log2(u) * -1.38629436f;  // -2 ln 2
  return fast_sqrt(u > 0.875f ? near * w : far);
}

// Two standard normals; error under 4e-6 by the bounds that the PTX manual gives its functions, 5.5e-7 times the radius.
__device__ __forceinline__ void normal_pair(uint32_t word0, uint32_t word1, float& z0, float& z1) {
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it leaves an integer in the low bits
  const float u = uniform(word1);
  // u = k/2 + r exactly with |r| <= 1/4: a half turn changes the sign of both, and so that of the radius.
  const float half_turns = fmaf(u, 2.0f, kRound);
  const float r = fmaf(half_turns - kRound, -0.5f, u), y = r * r;
  const float radius = float_from_bits(bits_from_float(normal_radius(uniform(word0))) + (bits_from_float(half_turns) << 31));
  float s = 39.53670599f;
  s = fmaf(s, y, -76.54978228f);
  s = fmaf(s, y, 81.60100407f);
  s = fmaf(s, y, -41.34165503f);
  s = fmaf(s, y, 6.28318516f);
  float c = 56.34064621f;
  c = fmaf(c, y, -85.25400723f);
  c = fmaf(c, y, 64.93522146f);
  c = fmaf(c, y, -19.73918207f);
  c = fmaf(c, y, 1.0f);
  z0 = radius * c;
  z1 = radius * r * s;
}

}  // namespace aieng::diffusion
