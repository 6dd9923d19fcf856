// What every CUDA attention kernel does before its work: find its block's place in the problem.
#pragma once
#include <cmath>

#include "attention.h"
#include "cuda.h"
#include "launch.cuh"

namespace aieng::attention::cuda {

constexpr float kInfinity = INFINITY;

// Which tile of rows, of which head of which batch element, a block of a flat grid works on.
struct Place {
  int first_row;
  int64_t head, batch;

  template <class T>
  __device__ __forceinline__ T* rows_of(const View& view, int64_t of_head, int64_t row) const {
    return static_cast<T*>(view.data) + batch * view.batch + of_head * view.head + row * view.row;
  }
};

__device__ __forceinline__ Place place(int64_t rows, int tile_rows, int64_t heads, bool last_first) {
  const unsigned tiles = static_cast<unsigned>((rows + tile_rows - 1) / tile_rows), head_count = static_cast<unsigned>(heads);
  const unsigned tile = blockIdx.x % tiles, rest = blockIdx.x / tiles;
  return {static_cast<int>((last_first ? tiles - 1 - tile : tile) * tile_rows), rest % head_count, rest / head_count};
}

inline int64_t blocks(int64_t rows, int tile_rows, int64_t heads, int64_t batch) {
  return (rows + tile_rows - 1) / tile_rows * heads * batch;
}

// The log-sum-exp of a query; +inf, under which every probability is 0, for rows that saw no key or do not exist.
__device__ __forceinline__ float natural_sum(const float* lse, int row, int rows) {
  const float value = row < rows ? lse[row] : kInfinity;
  return value == -kInfinity ? kInfinity : value;
}
// The same in units of log2.
__device__ __forceinline__ float log2_sum(const float* lse, int row, int rows) { return natural_sum(lse, row, rows) * kLog2E; }

template <int N, int W, class Do>
__device__ __forceinline__ void each(Do act) {
#pragma unroll
  for (int n = 0; n < N; ++n) {
#pragma unroll
    for (int i = 0; i < W; ++i) act(n, i);
  }
}

// An element of a tile: a query and a key, numbered within the sequence.
struct Pair {
  int row, key;
};

__device__ __forceinline__ int smaller(int64_t a, int64_t b) { return static_cast<int>(a < b ? a : b); }

}  // namespace aieng::attention::cuda
