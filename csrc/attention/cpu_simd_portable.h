// Four float32 lanes in the vector extension of GCC and Clang: SSE2, NEON, or whatever the target has.
#pragma once
#include <cmath>

namespace aieng::attention::AIENG_ISA {

typedef float Vec __attribute__((vector_size(16)));
typedef int32_t IntVec __attribute__((vector_size(16)));
typedef uint32_t BitVec __attribute__((vector_size(16)));
constexpr int kLanes = 4;
constexpr int kTileRows = 4;  // 4 x 2 accumulators fit 16 registers with room for the product that has no FMA
constexpr int kTileVecs = 2;

inline Vec set1(float x) { return Vec{x, x, x, x}; }
inline Vec zero() { return set1(0.f); }
inline Vec load(const float* p) {
  Vec x;
  std::memcpy(&x, p, sizeof x);
  return x;
}
inline void store(float* p, Vec x) { std::memcpy(p, &x, sizeof x); }
inline Vec add(Vec a, Vec b) { return a + b; }
inline Vec sub(Vec a, Vec b) { return a - b; }
inline Vec mul(Vec a, Vec b) { return a * b; }
inline Vec div(Vec a, Vec b) { return a / b; }
inline Vec fma(Vec a, Vec b, Vec c) { return a * b + c; }
inline Vec max(Vec a, Vec b) { return a > b ? a : b; }  // b if either is NaN
inline Vec round_nearest(Vec x) {
  const Vec magic = set1(12582912.f);  // 1.5 * 2^23: adding it leaves no bits below one
  return (x + magic) - magic;
}
inline Vec not_below_floor(Vec x) { return max(set1(-127.f), x); }  // where the exponent field becomes zero
inline Vec times_power_of_two(Vec p, Vec whole, Vec) {
  const Vec integer_bits = whole + set1(12582912.f + 127.f);  // the low bits of the sum are whole + 127
  BitVec bits;
  std::memcpy(&bits, &integer_bits, sizeof bits);
  bits <<= 23;
  Vec power;
  std::memcpy(&power, &bits, sizeof power);
  return p * power;
}
inline float sum_lanes(Vec x) { return (x[0] + x[2]) + (x[1] + x[3]); }
inline float max_lanes(Vec x) {
  const float a = x[0] > x[2] ? x[0] : x[2], b = x[1] > x[3] ? x[1] : x[3];
  return a > b ? a : b;
}
inline Vec keep_first(Vec x, int64_t n, Vec otherwise) {
  const int32_t k = static_cast<int32_t>(n);
  return IntVec{0, 1, 2, 3} < IntVec{k, k, k, k} ? x : otherwise;
}

inline Vec if_less(Vec a, Vec b, Vec x, Vec y) { return a < b ? x : y; }                 // so y if either is NaN
typedef uint64_t Wide __attribute__((vector_size(16)));                                  // half as many lanes
inline Wide mul_words(Wide a, Wide b) { return (a & 0xffffffffu) * (b & 0xffffffffu); }  // of the lower halves

inline uint32_t bits_of(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}
inline float from_bits(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

inline float widen(uint16_t x, bool half) {
  if (!half) return from_bits(static_cast<uint32_t>(x) << 16);
  const uint32_t sign = (x & 0x8000u) << 16, rest = x & 0x7fffu;
  if (rest >= 0x7c00u) return from_bits(sign | 0x7f800000u | (rest & 0x3ffu) << 13);
  // An exponent moved by multiplication, which also normalises subnormal halves.
  return from_bits(sign | bits_of(from_bits(rest << 13) * 0x1p112f));
}

inline uint16_t narrow(float x, bool half) {
  const uint32_t bits = bits_of(x), sign = bits >> 16 & 0x8000u;
  if (x != x) return static_cast<uint16_t>(sign | (half ? 0x7e00u : 0x7fc0u));
  if (!half) return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
  const float size = std::fabs(x);
  if (size >= 65520.f) return static_cast<uint16_t>(sign | 0x7c00u);
  // Below 2^-14 the half is subnormal: adding 1/2 rounds at its last bit, 2^-24, to nearest even.
  if (size < 0x1p-14f) return static_cast<uint16_t>(sign | (bits_of(size + 0.5f) - bits_of(0.5f)));
  const uint32_t positive = bits & 0x7fffffffu;
  return static_cast<uint16_t>(sign | (positive - (112u << 23) + 0xfffu + (positive >> 13 & 1u)) >> 13);
}

template <Type kType>
inline Vec load_as(const char* p, int64_t n) {  // n < kLanes: the others are zero and not read
  Vec x = zero();
  for (int i = 0; i < kLanes && i < n; ++i) {
    if constexpr (kType == Type::kFloat32) {
      std::memcpy(reinterpret_cast<char*>(&x) + 4 * i, p + 4 * i, 4);
    } else {
      uint16_t bits;
      std::memcpy(&bits, p + 2 * i, 2);
      x[i] = widen(bits, kType == Type::kFloat16);
    }
  }
  return x;
}

template <Type kType>
inline void store_as(char* p, Vec x, int64_t n) {
  for (int i = 0; i < kLanes && i < n; ++i) {
    if constexpr (kType == Type::kFloat32) {
      std::memcpy(p + 4 * i, reinterpret_cast<const char*>(&x) + 4 * i, 4);
    } else {
      const uint16_t bits = narrow(x[i], kType == Type::kFloat16);
      std::memcpy(p + 2 * i, &bits, 2);
    }
  }
}

// Zero where a byte is not zero, else -inf; n < kLanes: bytes that are not read are zero.
inline Vec load_seen(const char* p, int64_t n) {
  Vec x;
  for (int i = 0; i < kLanes; ++i) x[i] = i < n && p[i] ? 0.f : -INFINITY;
  return x;
}

inline void transpose(Vec* r) {
  for (int i = 0; i < kLanes; ++i) {
    for (int j = 0; j < i; ++j) {
      const float x = r[i][j];
      r[i][j] = r[j][i];
      r[j][i] = x;
    }
  }
}

inline void transpose4(Vec* r) { transpose(r); }

// Lane i: the lanes of rows[i] combined.
template <class Combine>
inline Vec combine_each(Vec* r, Combine combine) {
  transpose(r);
  return combine(combine(r[0], r[2]), combine(r[1], r[3]));
}

}  // namespace aieng::attention::AIENG_ISA
