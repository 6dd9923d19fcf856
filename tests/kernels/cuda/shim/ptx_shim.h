// What csrc/common/ptx.cuh gives kernels, with the meaning that the PTX manual gives each instruction, for one warp of fibers.
#pragma once
#include <cmath>

#include "cuda_shim.h"
#include "half.h"

namespace aieng {

using Bf16 = BFloat16;
using Fp16 = Half;

template <class T>
float to_float(T x) {
  return widen(x);
}

template <class T>
T round_to(float x) {
  T result;
  narrow(x, result);
  return result;
}

template <class T>
uint32_t pack(float low, float high) {
  return round_to<T>(low).bits | static_cast<uint32_t>(round_to<T>(high).bits) << 16;
}
template <class T>
T half_of(uint32_t packed, int high) {
  return {static_cast<uint16_t>(high ? packed >> 16 : packed)};
}

template <class T>
void unpack(uint32_t packed, float& low, float& high) {
  low = to_float(half_of<T>(packed, 0));
  high = to_float(half_of<T>(packed, 1));
}

inline unsigned char* shared_memory() { return shim::Block::current()->shared(); }

inline void copy_async_16(void* shared, const void* global, bool valid) {
  if (reinterpret_cast<uintptr_t>(shared) % 16 || (valid && reinterpret_cast<uintptr_t>(global) % 16)) {
    shim::Block::current()->fail("cp.async of 16 bytes from or to an address that is not a multiple of 16");
  }
  const shim::AsyncCopy copy{shared, valid ? global : nullptr, 16};
  if (shim::seed() % 2) {
    copy.land();
  } else {
    shim::Block::current()->fiber().groups.back().push_back(copy);
  }
}
inline void copy_async_commit() { shim::Block::current()->fiber().groups.emplace_back(); }
template <int Pending>
void copy_async_wait() {
  auto& groups = shim::Block::current()->fiber().groups;
  while (groups.size() > Pending + 1) {
    for (const shim::AsyncCopy& copy : groups.front()) copy.land();
    groups.erase(groups.begin());
  }
}

template <bool Transposed>
void load_matrices(uint32_t (&r)[4], const void* row) {
  struct Four {
    uint32_t registers[4];
  };
  const Four got = shim::collective<Four>(Transposed ? "ldmatrix.trans" : "ldmatrix", row, [](const shim::Warp& warp) {
    for (int lane = 0; lane < shim::kLanes; ++lane) {
      for (int matrix = 0; matrix < 4; ++matrix) {
        uint16_t pair[2];
        for (int i = 0; i < 2; ++i) {
          const int outer = lane / 4, inner = lane % 4 * 2 + i;
          const auto* from = static_cast<const uint16_t*>(warp.in<const void*>(matrix * 8 + (Transposed ? inner : outer)));
          pair[i] = from[Transposed ? outer : inner];
        }
        warp.out<Four>(lane).registers[matrix] = pair[0] | static_cast<uint32_t>(pair[1]) << 16;
      }
    }
  });
  std::copy_n(got.registers, 4, r);
}
inline void load_matrix_x4(uint32_t (&r)[4], const void* row) { load_matrices<false>(r, row); }
inline void load_matrix_x4_transposed(uint32_t (&r)[4], const void* row) { load_matrices<true>(r, row); }

template <class T>
void multiply_16x8x16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  struct In {
    uint32_t a[4], b[2];
    float c[4];
  };
  struct Out {
    float c[4];
  };
  const In in{{a[0], a[1], a[2], a[3]}, {b0, b1}, {c[0], c[1], c[2], c[3]}};
  const Out out = shim::collective<Out>("mma.sync", in, [](const shim::Warp& warp) {
    float left[16][16], right[16][8];
    for (int lane = 0; lane < shim::kLanes; ++lane) {
      const In& mine = warp.in<In>(lane);
      const int group = lane / 4, pair = lane % 4 * 2;
      for (int i = 0; i < 2; ++i) {
        for (int r = 0; r < 4; ++r) left[group + r % 2 * 8][pair + r / 2 * 8 + i] = to_float(half_of<T>(mine.a[r], i));
        for (int r = 0; r < 2; ++r) right[pair + r * 8 + i][group] = to_float(half_of<T>(mine.b[r], i));
      }
    }
    for (int lane = 0; lane < shim::kLanes; ++lane) {
      for (int i = 0; i < 4; ++i) {
        const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
        float sum = warp.in<In>(lane).c[i];
        for (int k = 0; k < 16; ++k) sum += left[row][k] * right[k][column];
        warp.out<Out>(lane).c[i] = sum;
      }
    }
  });
  std::copy_n(out.c, 4, c);
}

inline float fast_exp2(float x) { return std::exp2(x); }

// As far from the truth as the manual lets them be: too large in magnitude under an odd seed, too small under an even one.
inline float fast_log2(float x) {
  const double exact = std::log2(static_cast<double>(x)), side = shim::seed() % 2 ? 0x1p-22 : -0x1p-22;
  return static_cast<float>(exact + side * (x > 0.5f && x < 2.0f ? -1.0 : exact));
}
inline float fast_sqrt(float x) {
  return static_cast<float>(std::sqrt(static_cast<double>(x)) * (shim::seed() % 2 ? 1 + 0x1p-23 : 1 - 0x1p-23));
}

inline float max_or_nan(float x, float low) { return x < low ? low : x; }
inline float clamp_or_nan(float x, float low, float high) { return x < low ? low : x > high ? high : x; }

inline float shuffle_xor(float x, int lanes) {
  struct In {
    float x;
    int lanes;
  };
  return shim::collective<float>("shfl.xor", In{x, lanes}, [](const shim::Warp& warp) {
    for (int lane = 0; lane < shim::kLanes; ++lane) warp.out<float>(lane) = warp.in<In>(lane ^ warp.in<In>(lane).lanes).x;
  });
}

}  // namespace aieng
