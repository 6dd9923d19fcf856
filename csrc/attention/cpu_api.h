// What crosses between the bindings and the kernels of each instruction set: plain data, compiled alike everywhere.
#pragma once
#include <cstdint>

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

// (B, Hq, S, T), strides in elements, that of keys 0 or 1: bytes, not zero where a key is seen; or numbers added to the scores. Or
// float32 slopes of (batches or sequences, Hq): -slope |query + T - S - key| is added.
struct Mask {
  enum Kind : int { kNone = 0, kBool = 1, kFloat32 = 2, kOfInputs = 3, kSlopes = 4 };
  Kind kind;
  const void* data;
  int64_t batch, head, row, key;
};

// A weight is dropped if its word of Philox, as in options.py, is one of the first `dropped` of 2^32; the others times `rescale`.
struct Dropout {
  uint64_t seed, dropped;
  float rescale;
};

// q_starts and k_starts are null or hold sequences + 1 rows of a batch of one; k_lengths is null or holds B numbers of keys.
struct Lengths {
  int64_t sequences;
  const int32_t *q_starts, *k_starts, *k_lengths;
  int64_t longest_q, longest_k;
};

// The options are those of options.py.
struct Problem {
  int64_t B, Hq, Hkv, S, T, D;
  float scale;
  Type type;
  int threads;
  int64_t left = -1, right = -1;  // negative: unlimited
  bool bottom_right = false;
  float softcap = 0;
  Mask mask{};
  Dropout dropout{0, 0, 1};
  Lengths lengths{};
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
