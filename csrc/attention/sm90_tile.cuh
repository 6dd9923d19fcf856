// Tiles of 16-bit rows as the copy engine of compute capability 9.0 brings them, and the two products that attention is made of, as
// one warpgroup issues them: its rows are 64, its accumulators lie as mma_tile.cuh has them, warp w owning rows 16·w on.
//
// A tile is panels of 64 columns, each row of a panel 128 bytes, swizzled; every panel starts at a multiple of 1024 bytes.
#pragma once
#include "cuda_block.cuh"
#include "mma_tile.cuh"
#include "ptx_sm90.cuh"
#include "tensor_map.cuh"

namespace aieng::attention::cuda {

// Copies Rows rows of D columns from `row` on; rows and columns outside the tensor become 0. The barrier expects them already.
template <int D, int Rows>
__device__ __forceinline__ void copy_panels(unsigned char* to, const TensorMap* map, int row, int64_t head, int64_t batch,
                                            Barrier* barrier) {
#pragma unroll
  for (int panel = 0; panel < D / 64; ++panel) {
    copy_box(to + panel * Rows * 128, map, panel * 64, row, static_cast<int>(head), static_cast<int>(batch), barrier);
  }
}

// s (64 x 8·N) = a (64 rows of D) · bᵀ (8·N rows of D); tiles of ARows and BRows rows. Issued and committed.
template <int D, int ARows, int BRows, class T, int N>
__device__ __forceinline__ void issue_rows(float (&s)[N][4], Matrix a, Matrix b) {
#pragma unroll
  for (int d = 0; d < D; d += 16) {
    const int within = d % 64 * 2, panel = d / 64;
    product_of_rows<T>(s, advance(a, panel * ARows * 128 + within), advance(b, panel * BRows * 128 + within), d > 0);
  }
  products_commit();
}

// acc (64 x 8·W) += p (64 x 16·K, in registers) · b (16·K rows), or = if not `accumulate`. Issued and committed.
template <class T, int K, int W>
__device__ __forceinline__ void issue_columns(float (&acc)[W][4], const uint32_t (&p)[K][4], Matrix b, bool accumulate) {
#pragma unroll
  for (int k = 0; k < K; ++k) product_with_columns<T>(acc, p[k], advance(b, k * 16 * 128), accumulate || k > 0);
  products_commit();
}

// Accumulators rounded to T, as the left operand of a product.
template <class T, int N>
__device__ __forceinline__ void round_operand(uint32_t (&p)[N / 2][4], const float (&s)[N][4]) {
#pragma unroll
  for (int n = 0; n < N / 2; ++n) {
    p[n][0] = pack<T>(s[2 * n][0], s[2 * n][1]);
    p[n][1] = pack<T>(s[2 * n][2], s[2 * n][3]);
    p[n][2] = pack<T>(s[2 * n + 1][0], s[2 * n + 1][1]);
    p[n][3] = pack<T>(s[2 * n + 1][2], s[2 * n + 1][3]);
  }
}

// A description of a view for boxes of `box_rows` rows.
template <class T>
TensorMap describe(const char* what, const View& x, const Problem& of, int64_t heads, int64_t rows, int box_rows) {
  return tensor_map<T>(what, x.data, {of.d, rows, heads, of.batch}, {x.row, x.head, x.batch}, box_rows);
}

}  // namespace aieng::attention::cuda
