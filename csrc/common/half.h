// Storage types of two bytes and their scalar conversions, for processors without the instructions; round to nearest even.
#pragma once
#include <cstdint>
#include <cstring>

#include "hd.h"

namespace aieng {

struct Half {
  std::uint16_t bits;
};
struct BFloat16 {
  std::uint16_t bits;
};

AIENG_HD float float_from_bits(std::uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

AIENG_HD std::uint32_t bits_from_float(float x) {
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

AIENG_HD float widen(float x) { return x; }
AIENG_HD float widen(BFloat16 x) { return float_from_bits(static_cast<std::uint32_t>(x.bits) << 16); }

AIENG_HD float widen(Half x) {
  const std::uint32_t sign = static_cast<std::uint32_t>(x.bits & 0x8000u) << 16, rest = x.bits & 0x7FFFu;
  if (rest >= 0x7C00u) return float_from_bits(sign | 0x7F800000u | (rest & 0x3FFu) << 13);
  // The exponent moves from bias 15 to 127 by a product, which also normalises subnormals.
  return float_from_bits(sign | bits_from_float(float_from_bits(rest << 13) * 0x1p112f));
}

AIENG_HD void narrow(float x, float& out) { out = x; }

AIENG_HD void narrow(float x, BFloat16& out) {
  const std::uint32_t bits = bits_from_float(x);
  const bool nan = (bits & 0x7FFFFFFFu) > 0x7F800000u;
  out.bits = static_cast<std::uint16_t>(nan ? (bits >> 16 | 0x40u) : (bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
}

AIENG_HD void narrow(float x, Half& out) {
  const std::uint32_t bits = bits_from_float(x), sign = bits >> 16 & 0x8000u, rest = bits & 0x7FFFFFFFu;
  std::uint32_t half;
  if (rest > 0x7F800000u) {
    half = 0x7E00u;
  } else if (rest >= 0x477FF000u) {  // rounds past 65504
    half = 0x7C00u;
  } else if (rest < 0x38800000u) {  // subnormal: adding 1/2 leaves the rounded multiple of 2^-24 in the low bits
    half = bits_from_float(float_from_bits(rest) + 0.5f) - 0x3F000000u;
  } else {
    half = (rest - 0x38000000u + 0xFFFu + (rest >> 13 & 1u)) >> 13;
  }
  out.bits = static_cast<std::uint16_t>(sign | half);
}

}  // namespace aieng
