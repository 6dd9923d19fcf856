// Backward attention for 16-bit inputs on the tensor cores of compute capability 8.0 (Dao 2023, FlashAttention-2, algorithm 2).
//
// Two kernels, one that owns key rows and sums dk and dv over queries, one that owns query rows and sums dq over keys: seven
// products instead of five, but no atomics, so the gradients are the same on every run. The first works on the transposed
// scores k qᵀ, so that pᵀ and dsᵀ pass from product to product in registers, as p does in the forward kernel.
#pragma once
#include "cuda_options.cuh"
#include "mma_tile.cuh"

namespace aieng::attention::cuda {

template <int D, bool kAsked>
struct BackwardTile {
  static constexpr int kRowWarps = 4;            // each owns 16 of the block's rows
  static constexpr int kOwned = 16 * kRowWarps;  // rows whose gradient the block computes
  // Rows of the other side in one step; what the options need leaves registers for fewer.
  static constexpr int kOther = (D <= 64 ? 64 : 32) / (kAsked ? 2 : 1);
  static constexpr int kStages = D <= 128 ? 2 : 1;  // of the other side, in flight
  static constexpr int kSplit = D <= 128 ? 1 : 2;   // warps that share the columns of dk and dv, for lack of registers
  static constexpr int kStageElements = 2 * kOther * kPitch<D>;
  static constexpr size_t kShared = (2 * kOwned * kPitch<D> + kStages * kStageElements) * 2;
  static_assert(kShared <= kLeastSharedBytes);
};

// Walks over `steps` tiles of the other side: `load(step, stage)` starts a copy, `compute(step, stage)` uses what has landed.
template <int Stages, class Load, class Compute>
__device__ __forceinline__ void pipeline(int steps, Load load, Compute compute) {
  if (steps > 0) load(0, 0);
  copy_async_commit();
  for (int step = 0; step < steps; ++step) {
    if (Stages == 2 && step + 1 < steps) load(step + 1, (step + 1) % 2);
    copy_async_commit();
    copy_async_wait<Stages == 2 ? 1 : 0>();
    __syncthreads();
    compute(step, Stages == 2 ? step % 2 : 0);
    __syncthreads();
    if (Stages == 1 && step + 1 < steps) load(step + 1, 0);
    if (Stages == 1) copy_async_commit();
  }
}

// delta = the sum over columns of dout · out, one row a warp, eight columns a lane.
template <class T>
__global__ void __launch_bounds__(128) delta_sm80(const Backward a) {
  const Problem& of = a.problem;
  const int64_t i = static_cast<int64_t>(blockIdx.x) * 4 + threadIdx.x / 32;
  const int column = threadIdx.x % 32 * 8;
  const bool inside = i < of.batch * of.q_heads * of.q_rows;
  float sum = 0.0f;
  if (inside && column < of.d) {
    const int64_t row = i % of.q_rows, head = i / of.q_rows % of.q_heads, batch = i / of.q_rows / of.q_heads;
    struct alignas(16) Eight {
      T x[8];
    };
    const auto eight = [&](const View& v) {
      return *reinterpret_cast<const Eight*>(static_cast<const T*>(v.data) + batch * v.batch + head * v.head + row * v.row +
                                             column);
    };
    const Eight out = eight(a.out), dout = eight(a.dout);
#pragma unroll
    for (int j = 0; j < 8; ++j) sum += to_float(out.x[j]) * to_float(dout.x[j]);
  }
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) sum += shuffle_xor(sum, lanes);
  if (inside && column == 0) a.delta[i] = sum;
}

// dq of 64 query rows.
template <int D, class T, bool kAsked>
__global__ void __launch_bounds__(128) backward_q_sm80(const Backward a) {
  using Tile = BackwardTile<D, kAsked>;
  constexpr int kOwned = Tile::kOwned, kOther = Tile::kOther, kN = kOther / 8;
  const Problem& of = a.problem;
  const Work at = work_on_rows<kAsked, kOwned>(of);
  const Extent& extent = at.extent;
  if (kAsked && at.first_row >= extent.rows) return;
  const int64_t kv_head = at.head / (of.q_heads / of.kv_heads);
  const int64_t row_index = (at.batch * of.q_heads + at.head) * of.q_rows + extent.q_first;
  const int keys = extent.keys, rows = extent.rows, rows_left = rows - at.first_row;
  const int begin = extent.first_key(at.first_row) / kOther * kOther;
  const int last_key = extent.end_key(at.first_row + smaller(rows_left, kOwned) - 1);
  const int lane = threadIdx.x % 32, warp_row = static_cast<int>(threadIdx.x) / 32 * 16, first_row = at.first_row + warp_row;
  const float scale = of.scale * kLog2E;
  const float rescale = of.options.dropout.rescale;

  T* const q_tile = reinterpret_cast<T*>(shared_memory());
  T* const dout_tile = q_tile + kOwned * kPitch<D>;
  T* const stages = dout_tile + kOwned * kPitch<D>;
  const auto query_rows = [&](const View& view) { return at.queries<const T>(view, at.head, at.first_row); };
  load_tile<kOwned, D, 128>(q_tile, query_rows(a.q), a.q.row, rows_left, of.d);
  load_tile<kOwned, D, 128>(dout_tile, query_rows(a.dout), a.dout.row, rows_left, of.d);
  const auto load = [&](int step, int stage) {
    const int key = begin + step * kOther;
    const auto key_rows = [&](const View& view) { return at.keys<const T>(view, kv_head, key); };
    T* const stage_tile = stages + stage * Tile::kStageElements;
    load_tile<kOther, D, 128>(stage_tile, key_rows(a.k), a.k.row, keys - key, of.d);
    load_tile<kOther, D, 128>(stage_tile + kOther * kPitch<D>, key_rows(a.v), a.v.row, keys - key, of.d);
  };

  float dq[1][D / 8][4] = {}, lse[2], delta[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = first_row + half * 8 + lane / 4;
    lse[half] = log2_sum(a.lse + row_index, row, rows);
    delta[half] = row < rows ? a.delta[row_index + row] : 0.0f;
  }
  const int steps = last_key > begin ? (last_key - begin + kOther - 1) / kOther : 0;
  pipeline<Tile::kStages>(steps, load, [&](int step, int stage) {
    const int first_key = begin + step * kOther;
    const T* const k_tile = stages + stage * Tile::kStageElements;
    float s[1][kN][4], dp[1][kN][4];
    multiply_rows<D>(s, q_tile + warp_row * kPitch<D>, k_tile);
    multiply_rows<D>(dp, dout_tile + warp_row * kPitch<D>, k_tile + kOther * kPitch<D>);
    if constexpr (kAsked) {
      const Dropped dropped(of, extent, at.head);
      const uint32_t kept = dropped.any() ? dropped.kept_by_rows<kN>(first_row, first_key) : ~0u;
      const auto pair = [&](int n, int i) { return element(first_row, first_key, n, i); };
      each<kN, 4>([&](int n, int i) { dp[0][n][i] = (kept >> (4 * n + i) & 1 ? dp[0][n][i] * rescale : 0.0f) - delta[i / 2]; });
      Scores<T>(of, extent, at.head).shape(s[0], pair, [&](int n, int i, float slope) { dp[0][n][i] *= slope; });
      each<kN, 4>([&](int n, int i) { s[0][n][i] = fast_exp2(s[0][n][i] * kLog2E - lse[i / 2]) * dp[0][n][i]; });  // ds
    } else {
      each<kN, 4>([&](int n, int i) {
        const auto [row, key] = element(first_row, first_key, n, i);
        const bool seen = key < keys && !(of.causal && key > row);
        s[0][n][i] = seen ? fast_exp2(s[0][n][i] * scale - lse[i / 2]) * (dp[0][n][i] - delta[i / 2]) : 0.0f;  // ds
      });
    }
    multiply_accumulators<D>(dq, s, k_tile);
  });
  const float factor[1][2] = {{of.scale, of.scale}};
  store_rows(at.queries<T>(a.dq, at.head, first_row), a.dq.row, rows_left - warp_row, of.d, dq, factor);
}

// dk and dv of 64 key rows, summed over the queries of every query head that reads them.
template <int D, class T, bool kAsked>
__global__ void __launch_bounds__(128 * BackwardTile<D, kAsked>::kSplit) backward_kv_sm80(const Backward a) {
  using Tile = BackwardTile<D, kAsked>;
  constexpr int kOwned = Tile::kOwned, kOther = Tile::kOther, kN = kOther / 8, kThreads = 128 * Tile::kSplit;
  constexpr int kColumns = D / Tile::kSplit;
  const Problem& of = a.problem;
  const Work at = work_on_keys<kAsked, kOwned>(of);
  const Extent& extent = at.extent;
  if (kAsked && at.first_row >= extent.keys) return;
  const int rows = extent.rows, keys_left = extent.keys - at.first_row;
  const int group = static_cast<int>(of.q_heads / of.kv_heads);
  const int begin = extent.first_row(at.first_row) / kOther * kOther;
  const int end = extent.end_row(at.first_row + smaller(keys_left, kOwned) - 1);
  const int steps = end > begin ? (end - begin + kOther - 1) / kOther : 0;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int warp_row = warp % Tile::kRowWarps * 16, first_key = at.first_row + warp_row;
  const int column = warp / Tile::kRowWarps * kColumns;  // this warp's share of the columns of dk and dv
  const float scale = of.scale * kLog2E;
  const float rescale = of.options.dropout.rescale;

  T* const k_tile = reinterpret_cast<T*>(shared_memory());
  T* const v_tile = k_tile + kOwned * kPitch<D>;
  T* const stages = v_tile + kOwned * kPitch<D>;
  const auto key_rows = [&](const View& view) { return at.keys<const T>(view, at.head, at.first_row); };
  load_tile<kOwned, D, kThreads>(k_tile, key_rows(a.k), a.k.row, keys_left, of.d);
  load_tile<kOwned, D, kThreads>(v_tile, key_rows(a.v), a.v.row, keys_left, of.d);
  const auto load = [&](int step, int stage) {
    const int64_t head = at.head * group + step / steps;
    const int row = begin + step % steps * kOther;
    const auto query_rows = [&](const View& view) { return at.queries<const T>(view, head, row); };
    T* const stage_tile = stages + stage * Tile::kStageElements;
    load_tile<kOther, D, kThreads>(stage_tile, query_rows(a.q), a.q.row, rows - row, of.d);
    load_tile<kOther, D, kThreads>(stage_tile + kOther * kPitch<D>, query_rows(a.dout), a.dout.row, rows - row, of.d);
  };

  float dk[1][kColumns / 8][4] = {}, dv[1][kColumns / 8][4] = {};
  pipeline<Tile::kStages>(group * steps, load, [&](int step, int stage) {
    const int64_t head = at.head * group + step / steps, row_index = (at.batch * of.q_heads + head) * of.q_rows + extent.q_first;
    const int first_row = begin + step % steps * kOther;
    const T* const q_tile = stages + stage * Tile::kStageElements;
    const T* const dout_tile = q_tile + kOther * kPitch<D>;
    float p[1][kN][4], ds[1][kN][4];  // transposed: rows are keys, columns queries
    multiply_rows<D>(p, k_tile + warp_row * kPitch<D>, q_tile);
    multiply_rows<D>(ds, v_tile + warp_row * kPitch<D>, dout_tile);
    const auto lse = [&](int row) { return log2_sum(a.lse + row_index, row, rows); };
    const auto delta = [&](int row) { return row < rows ? a.delta[row_index + row] : 0.0f; };
    const auto pair = [&](int n, int i) { return transposed(first_key, first_row, n, i); };
    if constexpr (kAsked) {
      const Dropped dropped(of, extent, head);
      const uint32_t kept = dropped.any() ? dropped.kept_by_columns<kN>(first_key, first_row) : ~0u;
      const auto factor = [&](int n, int i) { return kept >> (4 * n + i) & 1 ? rescale : 0.0f; };
      each<kN, 4>([&](int n, int i) { ds[0][n][i] = ds[0][n][i] * factor(n, i) - delta(pair(n, i).row); });
      Scores<T>(of, extent, head).shape(p[0], pair, [&](int n, int i, float slope) { ds[0][n][i] *= slope; });
      each<kN, 4>([&](int n, int i) {
        const float weight = fast_exp2(p[0][n][i] * kLog2E - lse(pair(n, i).row));
        ds[0][n][i] *= weight;
        p[0][n][i] = weight * factor(n, i);
      });
    } else {
      each<kN, 2>([&](int n, int j) {
        const int row = pair(n, j).row;  // of both keys
        const float shift = lse(row), sum = delta(row);
#pragma unroll
        for (int i = j; i < 4; i += 2) {
          const bool seen = !(of.causal && pair(n, i).key > row);
          p[0][n][i] = seen ? fast_exp2(p[0][n][i] * scale - shift) : 0.0f;
          ds[0][n][i] = p[0][n][i] * (ds[0][n][i] - sum);
        }
      });
    }
    multiply_accumulators<D>(dv, p, dout_tile + column);
    multiply_accumulators<D>(dk, ds, q_tile + column);
  });
  const float scales[1][2] = {{of.scale, of.scale}}, ones[1][2] = {{1.0f, 1.0f}};
  const auto results = [&](const View& view) { return at.keys<T>(view, at.head, first_key) + column; };
  store_rows(results(a.dk), a.dk.row, keys_left - warp_row, of.d - column, dk, scales);
  store_rows(results(a.dv), a.dv.row, keys_left - warp_row, of.d - column, dv, ones);
}

template <int D, class T, bool kAsked>
void launch_backward_sm80(const Backward& a, void* stream) {
  using Tile = BackwardTile<D, kAsked>;
  const Problem& of = a.problem;
  const int64_t sequences = sequences_of(of.options, of.batch);
  const int64_t q_grid = blocks(longest_q<kAsked>(of), Tile::kOwned, of.q_heads, sequences);
  const int64_t kv_grid = blocks(longest_k<kAsked>(of), Tile::kOwned, of.kv_heads, sequences);
  launch("attention backward: delta", delta_sm80<T>, (of.batch * of.q_heads * of.q_rows + 3) / 4, 128, 0, stream, a);
  launch("attention backward: dq", backward_q_sm80<D, T, kAsked>, q_grid, 128, Tile::kShared, stream, a);
  launch("attention backward: dk, dv", backward_kv_sm80<D, T, kAsked>, kv_grid, 128 * Tile::kSplit, Tile::kShared, stream, a);
}

// Head dimensions in between are padded with zeros to the next of these, of which there are fewer where more is asked for.
template <class T>
void backward_sm80_any(const Backward& a, int device, void* stream) {
  const DeviceGuard guard(device);
  const int d = a.problem.d;
  if (d > 256) throw std::invalid_argument("head dimension over 256");
  if (!is_plain(a.problem.options)) {
    if (d <= 64) return launch_backward_sm80<64, T, true>(a, stream);
    if (d <= 128) return launch_backward_sm80<128, T, true>(a, stream);
    return launch_backward_sm80<256, T, true>(a, stream);
  }
  if (d <= 64) return launch_backward_sm80<64, T, false>(a, stream);
  if (d <= 96) return launch_backward_sm80<96, T, false>(a, stream);
  if (d <= 128) return launch_backward_sm80<128, T, false>(a, stream);
  if (d <= 192) return launch_backward_sm80<192, T, false>(a, stream);
  return launch_backward_sm80<256, T, false>(a, stream);
}

}  // namespace aieng::attention::cuda
