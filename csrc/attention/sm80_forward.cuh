// Forward attention for 16-bit inputs on the tensor cores of compute capability 8.0: FlashAttention-2 (Dao 2023, algorithm 1).
//
// A block owns 64·M query rows, 16·M for each of its four warps, and walks over tiles of keys. The copy of V runs behind
// q kᵀ, that of the next K behind softmax and p v. Scores live in units of log2, so that exp is one instruction.
#pragma once
#include "cuda_options.cuh"
#include "mma_tile.cuh"

namespace aieng::attention::cuda {

template <int D, bool kAsked>
struct ForwardTile {
  static constexpr int kWarps = 4, kThreads = 32 * kWarps;
  // Scores of 64 keys would not fit in registers beside two row tiles of 128, or what the options need.
  static constexpr int kKeys = D == 128 || kAsked ? 32 : 64;
  static constexpr int kM = D <= 128 ? 2 : 1;  // wider heads leave no registers for two row tiles a warp
  static constexpr int kRows = 16 * kM * kWarps;
  static constexpr size_t kShared = (kRows + 2 * kKeys) * kPitch<D> * 2;
  static_assert(kShared <= kLeastSharedBytes);
};

// One step of the online softmax: s becomes exp2(s - max), and what was gathered under an older maximum shrinks to fit.
template <int M, int N, int W>
__device__ __forceinline__ void softmax_step(float (&s)[M][N][4], float (&acc)[M][W][4], float (&largest)[M][2],
                                             float (&sum)[M][2]) {
#pragma unroll
  for (int m = 0; m < M; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float most = largest[m][half];
#pragma unroll
      for (int n = 0; n < N; ++n) most = fmaxf(most, fmaxf(s[m][n][2 * half], s[m][n][2 * half + 1]));
      most = fmaxf(most, shuffle_xor(most, 1));
      most = fmaxf(most, shuffle_xor(most, 2));
      const float shift = most == -kInfinity ? 0.0f : most;  // a row that has seen no key yet
      const float shrink = fast_exp2(largest[m][half] - shift);
      largest[m][half] = most;
      float total = 0.0f;
#pragma unroll
      for (int n = 0; n < N; ++n) {
#pragma unroll
        for (int i = 2 * half; i < 2 * half + 2; ++i) {
          s[m][n][i] = fast_exp2(s[m][n][i] - shift);
          total += s[m][n][i];
        }
      }
      sum[m][half] = sum[m][half] * shrink + total;  // of this lane's columns; lanes are added up once, at the end
#pragma unroll
      for (int w = 0; w < W; ++w) {
        acc[m][w][2 * half] *= shrink;
        acc[m][w][2 * half + 1] *= shrink;
      }
    }
  }
}

template <int M, int N>
__device__ __forceinline__ void scale_by(float (&s)[M][N][4], float factor) {
#pragma unroll
  for (int m = 0; m < M; ++m) {
#pragma unroll
    for (int n = 0; n < N; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) s[m][n][i] *= factor;
    }
  }
}

template <int D, class T, bool kAsked>
__global__ void __launch_bounds__(ForwardTile<D, kAsked>::kThreads) forward_sm80(const Forward a) {
  using Tile = ForwardTile<D, kAsked>;
  constexpr int kM = Tile::kM, kKeys = Tile::kKeys, kThreads = Tile::kThreads;
  const Problem& of = a.problem;
  const Work at = work_on_rows<kAsked, Tile::kRows>(of);
  const Extent& extent = at.extent;
  if (kAsked && at.first_row >= extent.rows) return;
  const int64_t kv_head = at.head / (of.q_heads / of.kv_heads);
  const int keys = extent.keys, rows_left = smaller(extent.rows - at.first_row, Tile::kRows);
  const int first_key = extent.first_key(at.first_row) / kKeys * kKeys, last_key = extent.end_key(at.first_row + rows_left - 1);
  const int warp_row = static_cast<int>(threadIdx.x) / 32 * 16 * kM, lane = threadIdx.x % 32;

  T* const q_tile = reinterpret_cast<T*>(shared_memory());
  T* const k_tile = q_tile + Tile::kRows * kPitch<D>;
  T* const v_tile = k_tile + kKeys * kPitch<D>;
  const auto load_keys = [&](T* tile, const View& view, int key) {
    load_tile<kKeys, D, kThreads>(tile, at.keys<const T>(view, kv_head, key), view.row, keys - key, of.d);
    copy_async_commit();
  };
  const T* const q_rows = at.queries<const T>(a.q, at.head, at.first_row);
  load_tile<Tile::kRows, D, kThreads>(q_tile, q_rows, a.q.row, rows_left, of.d);
  if (first_key < last_key) load_keys(k_tile, a.k, first_key);

  float acc[kM][D / 8][4] = {}, largest[kM][2], sum[kM][2] = {};
#pragma unroll
  for (int m = 0; m < kM; ++m) largest[m][0] = largest[m][1] = -kInfinity;

  for (int key = first_key; key < last_key; key += kKeys) {
    copy_async_wait<0>();
    __syncthreads();  // this tile of K is here, and all are done with the last tile of V
    load_keys(v_tile, a.v, key);
    float s[kM][kKeys / 8][4];
    multiply_rows<D>(s, q_tile + warp_row * kPitch<D>, k_tile);
    copy_async_wait<0>();
    __syncthreads();  // V is here, and all are done with K
    if (key + kKeys < last_key) load_keys(k_tile, a.k, key + kKeys);
    const int first_row = at.first_row + warp_row;
    if constexpr (kAsked) {
      const Scores<T> scores(of, extent, at.head);
#pragma unroll
      for (int m = 0; m < kM; ++m) {
        const auto pair = [&](int n, int i) { return element(first_row + m * 16, key, n, i); };
        scores.shape(s[m], pair, [](int, int, float) {});
      }
      scale_by(s, kLog2E);
    } else {
      scale_by(s, of.scale * kLog2E);
      if (key + kKeys > keys || (of.causal && key + kKeys - 1 > first_row)) {
#pragma unroll
        for (int m = 0; m < kM; ++m) mask(s[m], first_row + m * 16, key, keys, of.causal);
      };
    }
    softmax_step(s, acc, largest, sum);
    if constexpr (kAsked) {
      const Dropped dropped(of, extent, at.head);
#pragma unroll
      for (int m = 0; dropped.any() && m < kM; ++m) {
        const uint32_t kept = dropped.kept_by_rows<kKeys / 8>(first_row + m * 16, key);
        each<kKeys / 8, 4>([&](int n, int i) { s[m][n][i] = kept >> (4 * n + i) & 1 ? s[m][n][i] : 0.0f; });
      }
    }
    multiply_accumulators<D>(acc, s, v_tile);
  }

  const float rescale = kAsked ? of.options.dropout.rescale : 1.0f;
  float* const lse = a.lse + (at.batch * of.q_heads + at.head) * of.q_rows + extent.q_first + at.first_row + warp_row;
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float total = sum[m][half] + shuffle_xor(sum[m][half], 1);
      total += shuffle_xor(total, 2);
      const int row = m * 16 + half * 8 + lane / 4;
      if (lane % 4 == 0 && warp_row + row < rows_left) lse[row] = natural_lse(largest[m][half], total);
      sum[m][half] = total == 0.0f ? 0.0f : rescale / total;
    }
  }
  T* const out = at.queries<T>(a.out, at.head, at.first_row + warp_row);
  store_rows(out, a.out.row, rows_left - warp_row, of.d, acc, sum);
}

template <int D, class T, bool kAsked>
void launch_forward_sm80(const Forward& a, void* stream) {
  using Tile = ForwardTile<D, kAsked>;
  const Problem& of = a.problem;
  const int64_t grid = blocks(longest_q<kAsked>(of), Tile::kRows, of.q_heads, sequences_of(of.options, of.batch));
  launch("attention forward", forward_sm80<D, T, kAsked>, grid, Tile::kThreads, Tile::kShared, stream, a);
}

// Head dimensions in between are padded with zeros to the next of these, of which there are fewer where more is asked for.
template <class T>
void forward_sm80_any(const Forward& a, int device, void* stream) {
  const DeviceGuard guard(device);
  const int d = a.problem.d;
  if (d > 256) throw std::invalid_argument("head dimension over 256");
  if (!is_plain(a.problem.options)) {
    if (d <= 64) return launch_forward_sm80<64, T, true>(a, stream);
    if (d <= 128) return launch_forward_sm80<128, T, true>(a, stream);
    return launch_forward_sm80<256, T, true>(a, stream);
  }
  if (d <= 64) return launch_forward_sm80<64, T, false>(a, stream);
  if (d <= 96) return launch_forward_sm80<96, T, false>(a, stream);
  if (d <= 128) return launch_forward_sm80<128, T, false>(a, stream);
  if (d <= 192) return launch_forward_sm80<192, T, false>(a, stream);
  return launch_forward_sm80<256, T, false>(a, stream);
}

}  // namespace aieng::attention::cuda
