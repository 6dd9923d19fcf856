// What crosses between the bindings and the kernels of each instruction set: plain data, compiled alike everywhere.
#pragma once
#include <cstdint>

#include "options.h"

namespace aieng::attention {

enum class Type : int { kFloat32 = 0, kFloat16 = 1, kBfloat16 = 2 };

// A (B, H, N, D) tensor whose last dimension is contiguous; strides in elements.
template <class Pointer>
struct ViewOf {
  Pointer data;
  int64_t batch, head, row;
};
using View = ViewOf<const void*>;
using WritableView = ViewOf<void*>;

struct Problem : Options {
  int64_t B, Hq, Hkv, S, T, D;
  float scale;
  Type type;
  int threads;
};

// lse (B, Hq, S) is contiguous.
struct Forward : Problem {
  View q, k, v;
  WritableView out;
  float* lse;
};

// dq (B, Hq, S, D), dk and dv (B, Hkv, T, D) and lse are contiguous.
struct Backward : Problem {
  View dout, q, k, v, out;
  const float* lse;
  void *dq, *dk, *dv;
};

// False if memory for the scratch buffers could not be had.
bool forward_portable(const Forward&);
bool forward_avx2(const Forward&);
bool forward_avx512(const Forward&);
bool forward_avx512_bf16(const Forward&);
bool backward_portable(const Backward&);
bool backward_avx2(const Backward&);
bool backward_avx512(const Backward&);
bool backward_avx512_bf16(const Backward&);

}  // namespace aieng::attention
