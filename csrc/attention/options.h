// What is asked of attention beside q, k and v, as options.py defines it: plain data that the CPU and the CUDA kernels share.
#pragma once
#include <cstdint>

namespace aieng::attention {

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
  const int64_t* seed;
  uint64_t dropped;
  float rescale;
};

// q_starts and k_starts are null or hold sequences + 1 rows of a batch of one; k_lengths is null or holds B numbers of keys.
struct Lengths {
  int64_t sequences;
  const int32_t *q_starts, *k_starts, *k_lengths;
  int64_t longest_q, longest_k;
};

struct Options {
  int64_t left = -1, right = -1;  // negative: unlimited
  bool bottom_right = false;
  float softcap = 0;
  Mask mask{};
  Dropout dropout{nullptr, 0, 1};
  Lengths lengths{};
};

}  // namespace aieng::attention
