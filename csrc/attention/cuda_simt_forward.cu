// Forward attention for float32 in plain arithmetic: the simplest kernel that never writes the S x T matrix to memory
// (Dao 2023, FlashAttention-2, algorithm 1); in base e not yet run on a chip.
#include "cuda_options.cuh"
#include "simt_tile.cuh"

namespace aieng::attention::cuda {
namespace {

// Maximum or sum over the 16 threads that share a row.
template <class Combine>
__device__ __forceinline__ float across_row(float x, Combine combine) {
#pragma unroll
  for (int lanes = 1; lanes < 16; lanes *= 2) x = combine(x, shuffle_xor(x, lanes));
  return x;
}

template <int D, bool kAsked>
__global__ void __launch_bounds__(kSimtThreads, 2) forward_kernel(const Forward a) {
  using Tile = SimtTile<D>;
  const Problem& of = a.problem;
  const Work at = work_on_rows<kAsked, Tile::kRows>(of);
  const Extent& extent = at.extent;
  if (kAsked && at.first_row >= extent.rows) return;
  const int64_t kv_head = at.head / (of.q_heads / of.kv_heads);
  const int keys = extent.keys, rows_left = smaller(extent.rows - at.first_row, Tile::kRows);
  const int first_key = extent.first_key(at.first_row) / Tile::kRows * Tile::kRows;
  const int last_key = extent.end_key(at.first_row + rows_left - 1);
  float* const q_tile = reinterpret_cast<float*>(shared_memory());
  float* const kv_tile = q_tile + Tile::kElements;
  float* const p_tile = kv_tile + Tile::kElements;
  load_simt<D>(q_tile, at.queries<const float>(a.q, at.head, at.first_row), a.q.row, rows_left, of.d);

  typename Tile::Rows acc = {};
  float largest[Tile::kSide], sum[Tile::kSide] = {};
#pragma unroll
  for (int i = 0; i < Tile::kSide; ++i) largest[i] = -kInfinity;
  for (int key = first_key; key < last_key; key += Tile::kRows) {
    load_simt<D>(kv_tile, at.keys<const float>(a.k, kv_head, key), a.k.row, keys - key, of.d);
    __syncthreads();
    typename Tile::Scores s;
    dot_rows<D>(s, q_tile, kv_tile);
    __syncthreads();  // all are done with K
    load_simt<D>(kv_tile, at.keys<const float>(a.v, kv_head, key), a.v.row, keys - key, of.d);
    const auto pair = [&](int i, int j) { return Pair{at.first_row + thread_y() + 16 * i, key + thread_x() + 16 * j}; };
    if constexpr (kAsked) Scores<float>(of, extent, at.head).shape(s, pair, [](int, int, float) {});
#pragma unroll
    for (int i = 0; i < Tile::kSide; ++i) {
      const int64_t seen = keys_seen(of.causal, at.first_row + thread_y() + 16 * i, of.k_rows);
      float most = largest[i];
#pragma unroll
      for (int j = 0; j < Tile::kSide; ++j) {
        if constexpr (!kAsked) s[i][j] = key + thread_x() + 16 * j < seen ? s[i][j] * of.scale : -kInfinity;
        most = fmaxf(most, s[i][j]);
      }
      most = across_row(most, [](float x, float y) { return fmaxf(x, y); });
      const float shift = most == -kInfinity ? 0.0f : most, shrink = natural_exp(largest[i] - shift);
      largest[i] = most;
      sum[i] *= shrink;
#pragma unroll
      for (int c = 0; c < Tile::kColumns; ++c) acc[i][c] *= shrink;
#pragma unroll
      for (int j = 0; j < Tile::kSide; ++j) {
        s[i][j] = natural_exp(s[i][j] - shift);
        sum[i] += s[i][j];
      }
    }
    if constexpr (kAsked) {
      const Dropped dropped(of, extent, at.head);
      if (dropped.any()) each<Tile::kSide, Tile::kSide>([&](int i, int j) { s[i][j] *= dropped.keeps(pair(i, j)) ? 1.0f : 0.0f; });
    }
    store_square<D>(p_tile, s);
    __syncthreads();  // V and p are here
    accumulate<D>(acc, p_tile, kv_tile);
    __syncthreads();  // all are done with V and p
  }

  float* const lse = a.lse + (at.batch * of.q_heads + at.head) * of.q_rows + extent.q_first + at.first_row;
#pragma unroll
  for (int i = 0; i < Tile::kSide; ++i) {
    const float total = across_row(sum[i], [](float x, float y) { return x + y; });
    const int row = thread_y() + 16 * i;
    if (thread_x() == 0 && row < rows_left) lse[row] = total > 0.0f ? largest[i] + logf(total) : total == 0.0f ? -kInfinity : total;
#pragma unroll
    for (int c = 0; c < Tile::kColumns; ++c) acc[i][c] = total == 0.0f ? 0.0f : acc[i][c] / total;
  }
  const float factor = kAsked ? of.options.dropout.rescale : 1.0f;
  store_simt<D>(at.queries<float>(a.out, at.head, at.first_row), a.out.row, rows_left, of.d, acc, factor);
}

template <int D, bool kAsked>
void launch_forward(const Forward& a, void* stream) {
  using Tile = SimtTile<D>;
  constexpr size_t kShared = (2 * Tile::kElements + Tile::kSquare) * sizeof(float);
  static_assert(kShared <= kLeastSharedBytes);
  const Problem& of = a.problem;
  const int64_t grid = blocks(longest_q<kAsked>(of), Tile::kRows, of.q_heads, sequences_of(of.options, of.batch));
  launch("attention forward", forward_kernel<D, kAsked>, grid, kSimtThreads, kShared, stream, a);
}

template <bool kAsked>
void forward(const Forward& a, void* stream) {
  if (a.problem.d <= 64) return launch_forward<64, kAsked>(a, stream);
  if (a.problem.d <= 128) return launch_forward<128, kAsked>(a, stream);
  if (a.problem.d <= 256) return launch_forward<256, kAsked>(a, stream);
  throw std::invalid_argument("head dimension over 256");
}

}  // namespace

void forward_simt(const Forward& a, int device, void* stream) {
  const DeviceGuard guard(device);
  is_plain(a.problem.options) ? forward<false>(a, stream) : forward<true>(a, stream);
}

}  // namespace aieng::attention::cuda
