// Tiles of 16-bit rows in shared memory, and the two matrix products that attention is made of, as one warp computes them.
//
// A warp owns 16·M rows of the result. Its accumulators hold, in lane 4g+t of tile n, elements (g, 8n+2t), (g, 8n+2t+1),
// (g+8, 8n+2t), (g+8, 8n+2t+1): just what the tensor cores take as their left operand, so that probabilities go from one
// product to the next without leaving the registers (Dao 2023, FlashAttention-2, section 3.3).
#pragma once
#include "cuda_block.cuh"
#include "ptx.cuh"

namespace aieng::attention::cuda {

// 16 bytes after each row put the eight rows of an ldmatrix into different banks for every d that is a multiple of 32.
template <int D>
constexpr int kPitch = D + 8;

// Rows x D elements from global memory in the background; rows from `rows_left` on and columns from `d` on become 0.
template <int Rows, int D, int Threads, class T>
__device__ __forceinline__ void load_tile(T* tile, const T* rows, int64_t row_stride, int rows_left, int d) {
  constexpr int kChunks = D / 8;
  static_assert(Rows * kChunks % Threads == 0);
#pragma unroll 1  // unrolled, the row addresses alone would fill the registers
  for (int step = 0; step < Rows * kChunks / Threads; ++step) {
    const int i = step * Threads + static_cast<int>(threadIdx.x);
    const int row = i / kChunks, column = i % kChunks * 8;
    const bool valid = row < rows_left && column < d;
    copy_async_16(tile + row * kPitch<D> + column, valid ? rows + row * row_stride + column : rows, valid);
  }
}

// s (16·M x 8·N) = a (16·M rows of D) · bᵀ (8·N rows of D).
template <int D, int M, int N, class T>
__device__ __forceinline__ void multiply_rows(float (&s)[M][N][4], const T* a, const T* b) {
  const int lane = threadIdx.x % 32;
  const T* a_row = a + lane % 16 * kPitch<D> + lane / 16 * 8;
  const T* b_row = b + (lane % 8 + lane / 16 * 8) * kPitch<D> + lane / 8 % 2 * 8;
#pragma unroll
  for (int m = 0; m < M; ++m) {
#pragma unroll
    for (int n = 0; n < N; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) s[m][n][i] = 0.0f;
    }
  }
#pragma unroll(D* M >= 192 ? 4 : D / 16)  // else loads in flight would fill the registers
  for (int k = 0; k < D; k += 16) {
    uint32_t left[M][4];
#pragma unroll
    for (int m = 0; m < M; ++m) load_matrix_x4(left[m], a_row + m * 16 * kPitch<D> + k);
#pragma unroll
    for (int n = 0; n < N; n += 2) {
      uint32_t right[4];
      load_matrix_x4(right, b_row + n * 8 * kPitch<D> + k);
#pragma unroll
      for (int m = 0; m < M; ++m) {
        multiply_16x8x16<T>(s[m][n], left[m], right[0], right[1]);
        multiply_16x8x16<T>(s[m][n + 1], left[m], right[2], right[3]);
      }
    }
  }
}

// acc (16·M x 8·W) += p (16·M x 8·N, accumulators of an earlier product, rounded to T) · b (8·N rows, of which 8·W columns).
template <int D, int M, int N, int W, class T>
__device__ __forceinline__ void multiply_accumulators(float (&acc)[M][W][4], const float (&p)[M][N][4], const T* b) {
  const int lane = threadIdx.x % 32;
  const T* b_row = b + lane % 16 * kPitch<D> + lane / 16 * 8;
#pragma unroll
  for (int k = 0; k < N; k += 2) {
    uint32_t left[M][4];
#pragma unroll
    for (int m = 0; m < M; ++m) {
      left[m][0] = pack<T>(p[m][k][0], p[m][k][1]);
      left[m][1] = pack<T>(p[m][k][2], p[m][k][3]);
      left[m][2] = pack<T>(p[m][k + 1][0], p[m][k + 1][1]);
      left[m][3] = pack<T>(p[m][k + 1][2], p[m][k + 1][3]);
    }
#pragma unroll
    for (int w = 0; w < W; w += 2) {
      uint32_t right[4];
      load_matrix_x4_transposed(right, b_row + k * 8 * kPitch<D> + w * 8);
#pragma unroll
      for (int m = 0; m < M; ++m) {
        multiply_16x8x16<T>(acc[m][w], left[m], right[0], right[1]);
        multiply_16x8x16<T>(acc[m][w + 1], left[m], right[2], right[3]);
      }
    }
  }
}

// Of element i of tile n of a warp's accumulators from a row and a key on; with keys for rows, from a key and a row.
__device__ __forceinline__ Pair element(int first_row, int first_key, int n, int i) {
  const int lane = threadIdx.x % 32;
  return {first_row + i / 2 * 8 + lane / 4, first_key + n * 8 + lane % 4 * 2 + i % 2};
}
__device__ __forceinline__ Pair transposed(int first_key, int first_row, int n, int i) {
  const Pair other = element(first_key, first_row, n, i);
  return {other.key, other.row};
}

// Scores (16 x 8·N) of keys that a row may not see become -inf.
template <int N>
__device__ __forceinline__ void mask(float (&s)[N][4], int first_row, int first_key, int keys, bool causal) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int n = 0; n < N; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int row = first_row + i / 2 * 8 + lane / 4, key = first_key + n * 8 + lane % 4 * 2 + i % 2;
      if (key >= keys || (causal && key > row)) s[n][i] = -kInfinity;
    }
  }
}

// Writes factor[m][half] · acc as T: `rows` points at the warp's first row, columns from `d` on are left alone.
template <int M, int W, class T>
__device__ __forceinline__ void store_rows(T* rows, int64_t row_stride, int rows_left, int d, const float (&acc)[M][W][4],
                                           const float (&factor)[M][2]) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int m = 0; m < M; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = m * 16 + half * 8 + lane / 4;
      if (row >= rows_left) continue;
#pragma unroll
      for (int w = 0; w < W; ++w) {
        const int column = w * 8 + lane % 4 * 2;
        if (column >= d) continue;
        *reinterpret_cast<uint32_t*>(rows + row * row_stride + column) =
            pack<T>(acc[m][w][2 * half] * factor[m][half], acc[m][w][2 * half + 1] * factor[m][half]);
      }
    }
  }
}

}  // namespace aieng::attention::cuda
