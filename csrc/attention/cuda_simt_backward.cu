// Backward attention for float32 in plain arithmetic, one kernel for dq and one for dk and dv (Dao 2023, FlashAttention-2,
// algorithm 2), without atomics; in base e not yet run on a chip.
#include "simt_tile.cuh"

namespace aieng::attention::cuda {
namespace {

// delta = the sum over columns of dout · out, one row a warp.
__global__ void __launch_bounds__(128) delta_kernel(const Backward a) {
  const Problem& of = a.problem;
  const int64_t i = static_cast<int64_t>(blockIdx.x) * 4 + threadIdx.x / 32;
  const bool inside = i < of.batch * of.q_heads * of.q_rows;
  const int64_t row = i % of.q_rows, head = i / of.q_rows % of.q_heads;
  const Place at{0, head, i / of.q_rows / of.q_heads};
  float sum = 0.0f;
  for (int c = threadIdx.x % 32; inside && c < of.d; c += 32) {
    sum += at.rows_of<const float>(a.out, head, row)[c] * at.rows_of<const float>(a.dout, head, row)[c];
  }
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) sum += shuffle_xor(sum, lanes);
  if (inside && threadIdx.x % 32 == 0) a.delta[i] = sum;
}

template <int D>
__global__ void __launch_bounds__(kSimtThreads, 2) backward_q_kernel(const Backward a) {
  using Tile = SimtTile<D>;
  const Problem& of = a.problem;
  const Place at = place(of.q_rows, Tile::kRows, of.q_heads, of.causal);
  const int64_t kv_head = at.head / (of.q_heads / of.kv_heads), row_index = (at.batch * of.q_heads + at.head) * of.q_rows;
  const int keys = static_cast<int>(of.k_rows), rows = static_cast<int>(of.q_rows), rows_left = rows - at.first_row;
  const int last_key = static_cast<int>(keys_seen(of.causal, at.first_row + Tile::kRows - 1, of.k_rows));
  float* const q_tile = reinterpret_cast<float*>(shared_memory());
  float* const dout_tile = q_tile + Tile::kElements;
  float* const k_tile = dout_tile + Tile::kElements;
  float* const v_tile = k_tile + Tile::kElements;
  float* const ds_tile = v_tile + Tile::kElements;
  load_simt<D>(q_tile, at.rows_of<const float>(a.q, at.head, at.first_row), a.q.row, rows_left, of.d);
  load_simt<D>(dout_tile, at.rows_of<const float>(a.dout, at.head, at.first_row), a.dout.row, rows_left, of.d);

  typename Tile::Rows dq = {};
  for (int key = 0; key < last_key; key += Tile::kRows) {
    load_simt<D>(k_tile, at.rows_of<const float>(a.k, kv_head, key), a.k.row, keys - key, of.d);
    load_simt<D>(v_tile, at.rows_of<const float>(a.v, kv_head, key), a.v.row, keys - key, of.d);
    __syncthreads();
    typename Tile::Scores s, ds;
    dot_rows<D>(s, q_tile, k_tile);
    dot_rows<D>(ds, dout_tile, v_tile);
#pragma unroll
    for (int i = 0; i < Tile::kSide; ++i) {
      const int row = at.first_row + thread_y() + 16 * i;
      const int64_t seen = keys_seen(of.causal, row, of.k_rows);
      const float lse = natural_sum(a.lse + row_index, row, rows), delta = row < rows ? a.delta[row_index + row] : 0.0f;
#pragma unroll
      for (int j = 0; j < Tile::kSide; ++j) {
        const float p = key + thread_x() + 16 * j < seen ? natural_exp(s[i][j] * of.scale - lse) : 0.0f;
        ds[i][j] = p * (ds[i][j] - delta);
      }
    }
    store_square<D>(ds_tile, ds);
    __syncthreads();  // ds is here
    accumulate<D>(dq, ds_tile, k_tile);
    __syncthreads();  // all are done with K, V and ds
  }
  store_simt<D>(at.rows_of<float>(a.dq, at.head, at.first_row), a.dq.row, rows_left, of.d, dq, of.scale);
}

template <int D>
__global__ void __launch_bounds__(kSimtThreads, 2) backward_kv_kernel(const Backward a) {
  using Tile = SimtTile<D>;
  const Problem& of = a.problem;
  const Place at = place(of.k_rows, Tile::kRows, of.kv_heads, false);
  const int rows = static_cast<int>(of.q_rows), keys_left = static_cast<int>(of.k_rows) - at.first_row;
  const int64_t group = of.q_heads / of.kv_heads;
  float* const k_tile = reinterpret_cast<float*>(shared_memory());
  float* const v_tile = k_tile + Tile::kElements;
  float* const q_tile = v_tile + Tile::kElements;
  float* const dout_tile = q_tile + Tile::kElements;
  float* const square = dout_tile + Tile::kElements;
  load_simt<D>(k_tile, at.rows_of<const float>(a.k, at.head, at.first_row), a.k.row, keys_left, of.d);
  load_simt<D>(v_tile, at.rows_of<const float>(a.v, at.head, at.first_row), a.v.row, keys_left, of.d);

  typename Tile::Rows dk = {}, dv = {};
  for (int64_t head = at.head * group; head < (at.head + 1) * group; ++head) {
    const int64_t row_index = (at.batch * of.q_heads + head) * of.q_rows;
    for (int first = static_cast<int>(first_query(of.causal, at.first_row)); first < rows; first += Tile::kRows) {
      load_simt<D>(q_tile, at.rows_of<const float>(a.q, head, first), a.q.row, rows - first, of.d);
      load_simt<D>(dout_tile, at.rows_of<const float>(a.dout, head, first), a.dout.row, rows - first, of.d);
      __syncthreads();
      typename Tile::Scores p, ds;  // transposed: rows are keys, columns queries
      dot_rows<D>(p, k_tile, q_tile);
      dot_rows<D>(ds, v_tile, dout_tile);
#pragma unroll
      for (int j = 0; j < Tile::kSide; ++j) {
        const int row = first + thread_x() + 16 * j;
        const int64_t seen = keys_seen(of.causal, row, of.k_rows);
        const float lse = natural_sum(a.lse + row_index, row, rows), delta = row < rows ? a.delta[row_index + row] : 0.0f;
#pragma unroll
        for (int i = 0; i < Tile::kSide; ++i) {
          p[i][j] = at.first_row + thread_y() + 16 * i < seen ? natural_exp(p[i][j] * of.scale - lse) : 0.0f;
          ds[i][j] = p[i][j] * (ds[i][j] - delta);
        }
      }
      store_square<D>(square, p);
      __syncthreads();  // p is here
      accumulate<D>(dv, square, dout_tile);
      __syncthreads();  // all are done with p
      store_square<D>(square, ds);
      __syncthreads();  // ds is here
      accumulate<D>(dk, square, q_tile);
      __syncthreads();  // all are done with Q, dO and ds
    }
  }
  store_simt<D>(at.rows_of<float>(a.dk, at.head, at.first_row), a.dk.row, keys_left, of.d, dk, of.scale);
  store_simt<D>(at.rows_of<float>(a.dv, at.head, at.first_row), a.dv.row, keys_left, of.d, dv, 1.0f);
}

template <int D>
void launch_backward(const Backward& a, void* stream) {
  using Tile = SimtTile<D>;
  constexpr size_t kShared = (4 * Tile::kElements + Tile::kSquare) * sizeof(float);
  static_assert(kShared <= kLeastSharedBytes);
  const Problem& of = a.problem;
  const int64_t q_grid = blocks(of.q_rows, Tile::kRows, of.q_heads, of.batch);
  const int64_t kv_grid = blocks(of.k_rows, Tile::kRows, of.kv_heads, of.batch);
  launch("attention backward: delta", delta_kernel, (of.batch * of.q_heads * of.q_rows + 3) / 4, 128, 0, stream, a);
  launch("attention backward: dq", backward_q_kernel<D>, q_grid, kSimtThreads, kShared, stream, a);
  launch("attention backward: dk, dv", backward_kv_kernel<D>, kv_grid, kSimtThreads, kShared, stream, a);
}

}  // namespace

void backward_simt(const Backward& a, int device, void* stream) {
  const DeviceGuard guard(device);
  if (a.problem.d <= 64) return launch_backward<64>(a, stream);
  if (a.problem.d <= 128) return launch_backward<128>(a, stream);
  if (a.problem.d <= 256) return launch_backward<256>(a, stream);
  throw std::invalid_argument("head dimension over 256");
}

}  // namespace aieng::attention::cuda
