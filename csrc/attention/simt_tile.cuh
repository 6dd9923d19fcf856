// float32 tiles and products in plain arithmetic: 256 threads as 16 x 16, thread (y, x) owns rows y + 16a and columns x + 16b.
#pragma once
#include "cuda_block.cuh"
#include "ptx.cuh"

namespace aieng::attention::cuda {

constexpr int kSimtThreads = 256;

// Square tiles whose accumulators are 16 registers at every width; the odd pitch keeps threads in different banks.
template <int D>
struct SimtTile {
  static constexpr int kRows = 4096 / D, kSide = kRows / 16, kColumns = D / 16;
  static constexpr int kPitch = D + 1, kElements = kRows * kPitch;                // of a tile of rows
  static constexpr int kSquarePitch = kRows + 1, kSquare = kRows * kSquarePitch;  // of a tile of scores
  using Scores = float[kSide][kSide];
  using Rows = float[kSide][kColumns];
};

__device__ __forceinline__ int thread_x() { return threadIdx.x % 16; }
__device__ __forceinline__ int thread_y() { return threadIdx.x / 16; }

// e^x. Scores stay in base e until here: at several hundred, the rounding of scale · log2 e and of a score in units of log2 would
// be the largest error of all.
__device__ __forceinline__ float natural_exp(float x) { return fast_exp2(x * kLog2E); }

// Rows from `rows_left` on and columns from `d` on become 0.
template <int D>
__device__ __forceinline__ void load_simt(float* tile, const float* rows, int64_t row_stride, int rows_left, int d) {
  for (int i = threadIdx.x; i < SimtTile<D>::kRows * D; i += kSimtThreads) {
    const int row = i / D, column = i % D;
    tile[row * SimtTile<D>::kPitch + column] = row < rows_left && column < d ? rows[row * row_stride + column] : 0.0f;
  }
}

// s = a · bᵀ
template <int D>
__device__ __forceinline__ void dot_rows(typename SimtTile<D>::Scores& s, const float* a, const float* b) {
  using Tile = SimtTile<D>;
#pragma unroll
  for (int i = 0; i < Tile::kSide; ++i) {
#pragma unroll
    for (int j = 0; j < Tile::kSide; ++j) s[i][j] = 0.0f;
  }
  for (int c = 0; c < D; ++c) {
    float left[Tile::kSide], right[Tile::kSide];
#pragma unroll
    for (int i = 0; i < Tile::kSide; ++i) left[i] = a[(thread_y() + 16 * i) * Tile::kPitch + c];
#pragma unroll
    for (int j = 0; j < Tile::kSide; ++j) right[j] = b[(thread_x() + 16 * j) * Tile::kPitch + c];
#pragma unroll
    for (int i = 0; i < Tile::kSide; ++i) {
#pragma unroll
      for (int j = 0; j < Tile::kSide; ++j) s[i][j] += left[i] * right[j];
    }
  }
}

template <int D>
__device__ __forceinline__ void store_square(float* square, const typename SimtTile<D>::Scores& s) {
  using Tile = SimtTile<D>;
#pragma unroll
  for (int i = 0; i < Tile::kSide; ++i) {
#pragma unroll
    for (int j = 0; j < Tile::kSide; ++j) square[(thread_y() + 16 * i) * Tile::kSquarePitch + thread_x() + 16 * j] = s[i][j];
  }
}

// acc += square · b
template <int D>
__device__ __forceinline__ void accumulate(typename SimtTile<D>::Rows& acc, const float* square, const float* b) {
  using Tile = SimtTile<D>;
  for (int j = 0; j < Tile::kRows; ++j) {
    float left[Tile::kSide];
#pragma unroll
    for (int i = 0; i < Tile::kSide; ++i) left[i] = square[(thread_y() + 16 * i) * Tile::kSquarePitch + j];
#pragma unroll
    for (int c = 0; c < Tile::kColumns; ++c) {
      const float right = b[j * Tile::kPitch + thread_x() + 16 * c];
#pragma unroll
      for (int i = 0; i < Tile::kSide; ++i) acc[i][c] += left[i] * right;
    }
  }
}

template <int D>
__device__ __forceinline__ void store_simt(float* rows, int64_t row_stride, int rows_left, int d,
                                           const typename SimtTile<D>::Rows& acc, float factor) {
  using Tile = SimtTile<D>;
#pragma unroll
  for (int i = 0; i < Tile::kSide; ++i) {
    const int row = thread_y() + 16 * i;
#pragma unroll
    for (int c = 0; c < Tile::kColumns; ++c) {
      const int column = thread_x() + 16 * c;
      if (row < rows_left && column < d) rows[row * row_stride + column] = factor * acc[i][c];
    }
  }
}

}  // namespace aieng::attention::cuda
