// Backward attention for float32 in plain arithmetic, one kernel for dq and one for dk and dv (Dao 2023, FlashAttention-2,
// algorithm 2), without atomics; in base e not yet run on a chip.
#include "cuda_options.cuh"
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

template <int D, bool kAsked>
__global__ void __launch_bounds__(kSimtThreads, kAsked ? 1 : 2) backward_q_kernel(const Backward a) {
  using Tile = SimtTile<D>;
  const Problem& of = a.problem;
  const Work at = work_on_rows<kAsked, Tile::kRows>(of);
  const Extent& extent = at.extent;
  if (kAsked && at.first_row >= extent.rows) return;
  const int64_t kv_head = at.head / (of.q_heads / of.kv_heads);
  const int64_t row_index = (at.batch * of.q_heads + at.head) * of.q_rows + extent.q_first;
  const int keys = extent.keys, rows = extent.rows, rows_left = rows - at.first_row;
  const int first_key = extent.first_key(at.first_row) / Tile::kRows * Tile::kRows;
  const int last_key = extent.end_key(at.first_row + smaller(rows_left, Tile::kRows) - 1);
  float* const q_tile = reinterpret_cast<float*>(shared_memory());
  float* const dout_tile = q_tile + Tile::kElements;
  float* const k_tile = dout_tile + Tile::kElements;
  float* const v_tile = k_tile + Tile::kElements;
  float* const ds_tile = v_tile + Tile::kElements;
  load_simt<D>(q_tile, at.queries<const float>(a.q, at.head, at.first_row), a.q.row, rows_left, of.d);
  load_simt<D>(dout_tile, at.queries<const float>(a.dout, at.head, at.first_row), a.dout.row, rows_left, of.d);

  typename Tile::Rows dq = {};
  for (int key = first_key; key < last_key; key += Tile::kRows) {
    load_simt<D>(k_tile, at.keys<const float>(a.k, kv_head, key), a.k.row, keys - key, of.d);
    load_simt<D>(v_tile, at.keys<const float>(a.v, kv_head, key), a.v.row, keys - key, of.d);
    __syncthreads();
    typename Tile::Scores s, ds;
    dot_rows<D>(s, q_tile, k_tile);
    dot_rows<D>(ds, dout_tile, v_tile);
    float slope[Tile::kSide][Tile::kSide];
    if constexpr (kAsked) {
      const auto pair = [&](int i, int j) { return Pair{at.first_row + thread_y() + 16 * i, key + thread_x() + 16 * j}; };
      const Dropped dropped(of, extent, at.head);
      each<Tile::kSide, Tile::kSide>([&](int i, int j) { slope[i][j] = 1.0f; });
      Scores<float>(of, extent, at.head).shape(s, pair, [&](int i, int j, float x) { slope[i][j] = x; });
      if (dropped.any()) {
        each<Tile::kSide, Tile::kSide>([&](int i, int j) { ds[i][j] *= dropped.keeps(pair(i, j)) ? dropped.rescale() : 0.0f; });
      }
    }
#pragma unroll
    for (int i = 0; i < Tile::kSide; ++i) {
      const int row = at.first_row + thread_y() + 16 * i;
      const int64_t seen = keys_seen(of.causal, row, of.k_rows);
      const float lse = natural_sum(a.lse + row_index, row, rows), delta = row < rows ? a.delta[row_index + row] : 0.0f;
#pragma unroll
      for (int j = 0; j < Tile::kSide; ++j) {
        if constexpr (kAsked) {
          ds[i][j] = natural_exp(s[i][j] - lse) * (ds[i][j] - delta) * slope[i][j];
        } else {
          const float p = key + thread_x() + 16 * j < seen ? natural_exp(s[i][j] * of.scale - lse) : 0.0f;
          ds[i][j] = p * (ds[i][j] - delta);
        }
      }
    }
    store_square<D>(ds_tile, ds);
    __syncthreads();  // ds is here
    accumulate<D>(dq, ds_tile, k_tile);
    __syncthreads();  // all are done with K, V and ds
  }
  store_simt<D>(at.queries<float>(a.dq, at.head, at.first_row), a.dq.row, rows_left, of.d, dq, of.scale);
}

template <int D, bool kAsked>
__global__ void __launch_bounds__(kSimtThreads, kAsked ? 1 : 2) backward_kv_kernel(const Backward a) {
  using Tile = SimtTile<D>;
  const Problem& of = a.problem;
  const Work at = work_on_keys<kAsked, Tile::kRows>(of);
  const Extent& extent = at.extent;
  if (kAsked && at.first_row >= extent.keys) return;
  const int keys_left = extent.keys - at.first_row, rows = extent.rows;
  const int first_row = extent.first_row(at.first_row) / Tile::kRows * Tile::kRows;
  const int end_row = extent.end_row(at.first_row + smaller(keys_left, Tile::kRows) - 1);
  const int64_t group = of.q_heads / of.kv_heads;
  float* const k_tile = reinterpret_cast<float*>(shared_memory());
  float* const v_tile = k_tile + Tile::kElements;
  float* const q_tile = v_tile + Tile::kElements;
  float* const dout_tile = q_tile + Tile::kElements;
  float* const square = dout_tile + Tile::kElements;
  load_simt<D>(k_tile, at.keys<const float>(a.k, at.head, at.first_row), a.k.row, keys_left, of.d);
  load_simt<D>(v_tile, at.keys<const float>(a.v, at.head, at.first_row), a.v.row, keys_left, of.d);

  typename Tile::Rows dk = {}, dv = {};
  for (int64_t head = at.head * group; head < (at.head + 1) * group; ++head) {
    const int64_t row_index = (at.batch * of.q_heads + head) * of.q_rows + extent.q_first;
    for (int first = first_row; first < end_row; first += Tile::kRows) {
      load_simt<D>(q_tile, at.queries<const float>(a.q, head, first), a.q.row, rows - first, of.d);
      load_simt<D>(dout_tile, at.queries<const float>(a.dout, head, first), a.dout.row, rows - first, of.d);
      __syncthreads();
      typename Tile::Scores p, ds;  // transposed: rows are keys, columns queries
      dot_rows<D>(p, k_tile, q_tile);
      dot_rows<D>(ds, v_tile, dout_tile);
      float slope[Tile::kSide][Tile::kSide], kept[Tile::kSide][Tile::kSide];
      if constexpr (kAsked) {
        const auto pair = [&](int i, int j) { return Pair{first + thread_x() + 16 * j, at.first_row + thread_y() + 16 * i}; };
        const Dropped dropped(of, extent, head);
        each<Tile::kSide, Tile::kSide>([&](int i, int j) { slope[i][j] = kept[i][j] = 1.0f; });
        Scores<float>(of, extent, head).shape(p, pair, [&](int i, int j, float x) { slope[i][j] = x; });
        if (dropped.any()) {
          each<Tile::kSide, Tile::kSide>([&](int i, int j) { kept[i][j] = dropped.keeps(pair(i, j)) ? dropped.rescale() : 0.0f; });
        }
      }
#pragma unroll
      for (int j = 0; j < Tile::kSide; ++j) {
        const int row = first + thread_x() + 16 * j;
        const int64_t seen = keys_seen(of.causal, row, of.k_rows);
        const float lse = natural_sum(a.lse + row_index, row, rows), delta = row < rows ? a.delta[row_index + row] : 0.0f;
#pragma unroll
        for (int i = 0; i < Tile::kSide; ++i) {
          if constexpr (kAsked) {
            const float weight = natural_exp(p[i][j] - lse);
            p[i][j] = weight * kept[i][j];
            ds[i][j] = weight * (ds[i][j] * kept[i][j] - delta) * slope[i][j];
          } else {
            p[i][j] = at.first_row + thread_y() + 16 * i < seen ? natural_exp(p[i][j] * of.scale - lse) : 0.0f;
            ds[i][j] = p[i][j] * (ds[i][j] - delta);
          }
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
  store_simt<D>(at.keys<float>(a.dk, at.head, at.first_row), a.dk.row, keys_left, of.d, dk, of.scale);
  store_simt<D>(at.keys<float>(a.dv, at.head, at.first_row), a.dv.row, keys_left, of.d, dv, 1.0f);
}

template <int D, bool kAsked>
void launch_backward(const Backward& a, void* stream) {
  using Tile = SimtTile<D>;
  constexpr size_t kShared = (4 * Tile::kElements + Tile::kSquare) * sizeof(float);
  static_assert(kShared <= kLeastSharedBytes);
  const Problem& of = a.problem;
  const int64_t sequences = sequences_of(of.options, of.batch);
  const int64_t q_grid = blocks(longest_q<kAsked>(of), Tile::kRows, of.q_heads, sequences);
  const int64_t kv_grid = blocks(longest_k<kAsked>(of), Tile::kRows, of.kv_heads, sequences);
  launch("attention backward: delta", delta_kernel, (of.batch * of.q_heads * of.q_rows + 3) / 4, 128, 0, stream, a);
  launch("attention backward: dq", backward_q_kernel<D, kAsked>, q_grid, kSimtThreads, kShared, stream, a);
  launch("attention backward: dk, dv", backward_kv_kernel<D, kAsked>, kv_grid, kSimtThreads, kShared, stream, a);
}

template <bool kAsked>
void backward(const Backward& a, void* stream) {
  if (a.problem.d <= 64) return launch_backward<64, kAsked>(a, stream);
  if (a.problem.d <= 128) return launch_backward<128, kAsked>(a, stream);
  if (a.problem.d <= 256) return launch_backward<256, kAsked>(a, stream);
  throw std::invalid_argument("head dimension over 256");
}

}  // namespace

void backward_simt(const Backward& a, int device, void* stream) {
  const DeviceGuard guard(device);
  is_plain(a.problem.options) ? backward<false>(a, stream) : backward<true>(a, stream);
}

}  // namespace aieng::attention::cuda
