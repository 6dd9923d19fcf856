// Backward attention for 16-bit inputs on compute capability 9.0: the two kernels of sm80_backward.cuh, seven products instead of
// five but no atomics, on warpgroup products and the copy engine (Shah et al. 2024, FlashAttention-3, section 3.2 has the roles).
//
// One warp brings the tiles of the other side, some ahead; every other warpgroup owns 64 rows. In a warpgroup the products that
// take p and ds run on behind the next tile's scores; what they read is given back one step later.
#pragma once
#include "sm80_backward.cuh"
#include "sm90_tile.cuh"

namespace aieng::attention::cuda {

// Owned and other rows; `Statistics`: the other side's rows have a log-sum-exp and a delta, which the copying warp brings too.
template <int D_, int Other, int Stages, bool Statistics>
struct Sm90BackwardTile {
  static constexpr int kD = D_, kOther = Other, kGroups = 2, kStages = Stages;
  static constexpr int kOwned = 64 * kGroups, kThreads = 128 * (kGroups + 1);
  static constexpr int kOwnedBytes = kOwned * kD * 2, kOtherBytes = kOther * kD * 2;
  static constexpr int kStatistics = Statistics ? 2 * kOther : 0;  // floats a stage
  static constexpr int kProducerRegisters = 24, kConsumerRegisters = 240;
  static constexpr size_t kShared = 1024 + 2 * kOwnedBytes + kStages * (2 * kOtherBytes + kStatistics * 4) + 128;
  static_assert(kShared <= 227 * 1024 && kOtherBytes % 1024 == 0);
};

template <int Stages>
struct Sm90BackwardBarriers {
  Barrier owned, full[Stages], empty[Stages];
};

struct Sm90BackwardMaps {
  TensorMap q, dout, k, v;
};

// A block's shared memory: the two owned tiles, the stages of the other side's two, their statistics, the barriers.
template <class Tile>
struct Sm90BackwardMemory {
  unsigned char *owned[2], *other[2];
  float* statistics;
  Sm90BackwardBarriers<Tile::kStages>* barriers;

  __device__ __forceinline__ Sm90BackwardMemory() {
    unsigned char* at = align_1024(shared_memory());
    for (int i = 0; i < 2; ++i, at += Tile::kOwnedBytes) owned[i] = at;
    for (int i = 0; i < 2; ++i, at += Tile::kStages * Tile::kOtherBytes) other[i] = at;
    statistics = reinterpret_cast<float*>(at);
    barriers = reinterpret_cast<Sm90BackwardBarriers<Tile::kStages>*>(at + Tile::kStages * Tile::kStatistics * 4);
  }

  __device__ __forceinline__ void begin() const {
    if (threadIdx.x == 0) {
      barrier_init(&barriers->owned, 1);
      for (int stage = 0; stage < Tile::kStages; ++stage) {
        barrier_init(&barriers->full[stage], Tile::kStatistics ? 33 : 1);
        barrier_init(&barriers->empty[stage], 4 * Tile::kGroups);
      }
      barrier_init_fence();
    }
    __syncthreads();
  }

  // What the copying warp does: both owned tiles, then `copy(step, stage)` for every step once its stage is empty.
  template <class Copy>
  __device__ __forceinline__ void produce(const TensorMap* first, const TensorMap* second, int row, int64_t head, int64_t batch,
                                          int steps, Copy copy) const {
    if (threadIdx.x == 0 && steps > 0) {  // a copy may not outlive its block
      barrier_expect(&barriers->owned, 2 * Tile::kOwnedBytes);
      copy_panels<Tile::kD, Tile::kOwned>(owned[0], first, row, head, batch, &barriers->owned);
      copy_panels<Tile::kD, Tile::kOwned>(owned[1], second, row, head, batch, &barriers->owned);
    }
#pragma unroll 1
    for (int step = 0; step < steps; ++step) {
      const int stage = step % Tile::kStages;
      barrier_wait(&barriers->empty[stage], (step / Tile::kStages + 1) % 2);
      if (threadIdx.x == 0) barrier_expect(&barriers->full[stage], 2 * Tile::kOtherBytes);
      copy(step, stage);
    }
  }

  __device__ __forceinline__ unsigned char* other_tile(int side, int stage) const {
    return other[side] + stage * Tile::kOtherBytes;
  }
  __device__ __forceinline__ float* lse_of(int stage) const { return statistics + stage * Tile::kStatistics; }
  __device__ __forceinline__ float* delta_of(int stage) const { return lse_of(stage) + Tile::kOther; }
};

// dq of 64 query rows a warpgroup.
template <class Tile, class T>
__global__ void __launch_bounds__(Tile::kThreads, 1)
    backward_q_sm90(const __grid_constant__ Sm90BackwardMaps maps, const Backward a) {
  constexpr int kOther = Tile::kOther, kN = kOther / 8, kD = Tile::kD, kOwned = Tile::kOwned;
  const Problem& of = a.problem;
  const Place at = place(of.q_rows, kOwned, of.q_heads, of.causal);
  const int keys = static_cast<int>(of.k_rows), rows = static_cast<int>(of.q_rows);
  const int last_key = of.causal ? smaller(of.k_rows, at.first_row + kOwned) : keys;
  const int steps = (last_key + kOther - 1) / kOther;
  const Sm90BackwardMemory<Tile> memory;
  memory.begin();

  if (threadIdx.x < 128) {
    registers_shrink<Tile::kProducerRegisters>();
    if (threadIdx.x >= 32) return;
    const int64_t kv_head = at.head / (of.q_heads / of.kv_heads);
    memory.produce(&maps.q, &maps.dout, at.first_row, at.head, at.batch, steps, [&](int step, int stage) {
      if (threadIdx.x != 0) return;
      Barrier* const full = &memory.barriers->full[stage];
      copy_panels<kD, kOther>(memory.other_tile(0, stage), &maps.k, step * kOther, kv_head, at.batch, full);
      copy_panels<kD, kOther>(memory.other_tile(1, stage), &maps.v, step * kOther, kv_head, at.batch, full);
    });
    return;
  }

  registers_grow<Tile::kConsumerRegisters>();
  const int group = static_cast<int>(threadIdx.x) / 128 - 1, lane = threadIdx.x % 32;
  const int warp_row = group * 64 + static_cast<int>(threadIdx.x) / 32 % 4 * 16, first_row = at.first_row + warp_row;
  const int64_t row_index = (at.batch * of.q_heads + at.head) * of.q_rows;
  const float scale = of.scale * kLog2E;
  const Matrix q = matrix_descriptor(memory.owned[0] + group * 64 * 128, 0);
  const Matrix dout = matrix_descriptor(memory.owned[1] + group * 64 * 128, 0);
  float lse[2], delta[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = first_row + half * 8 + lane / 4;
    lse[half] = log2_sum(a.lse + row_index, row, rows);
    delta[half] = row < rows ? a.delta[row_index + row] : 0.0f;
  }

  float s[kN][4], dp[kN][4], dq[1][kD / 8][4];
  uint32_t ds[kN / 2][4];
  barrier_wait(&memory.barriers->owned, 0);
#pragma unroll 1
  for (int step = 0; step < steps; ++step) {
    const int stage = step % Tile::kStages, key = step * kOther;
    barrier_wait(&memory.barriers->full[stage], step / Tile::kStages % 2);
    products_fence();
    issue_rows<kD, kOwned, kOther, T>(s, q, matrix_descriptor(memory.other_tile(0, stage), 0));
    issue_rows<kD, kOwned, kOther, T>(dp, dout, matrix_descriptor(memory.other_tile(1, stage), 0));
    products_wait<1>();
    pin(s);
    if (step > 0 && lane == 0)
      barrier_arrive(&memory.barriers->empty[(step - 1) % Tile::kStages]);  // dq of the last step is done with it
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) s[n][i] = fast_exp2(s[n][i] * scale - lse[i / 2]);
    }
    if (key + kOther > keys || (of.causal && key + kOther - 1 > first_row)) {
#pragma unroll
      for (int n = 0; n < kN; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int row = first_row + i / 2 * 8 + lane / 4, column = key + n * 8 + lane % 4 * 2 + i % 2;
          if (column >= keys || (of.causal && column > row)) s[n][i] = 0.0f;
        }
      }
    }
    pin(s);  // else the compiler moves the exponentials behind the wait
    products_wait<0>();
    pin(dp);
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) s[n][i] *= dp[n][i] - delta[i / 2];
    }
    round_operand<T>(ds, s);
    products_fence();
    issue_columns<T>(dq[0], ds, matrix_descriptor(memory.other_tile(0, stage), kOther * 128), step > 0);
  }
  products_wait<0>();
  pin(dq[0]);
  const float factor[1][2] = {{of.scale, of.scale}};
  store_rows(at.rows_of<T>(a.dq, at.head, first_row), a.dq.row, rows - first_row, of.d, dq, factor);
}

// dk and dv of 64 key rows a warpgroup, summed over the queries of every query head that reads them; scores are transposed.
template <class Tile, class T>
__global__ void __launch_bounds__(Tile::kThreads, 1)
    backward_kv_sm90(const __grid_constant__ Sm90BackwardMaps maps, const Backward a) {
  constexpr int kOther = Tile::kOther, kN = kOther / 8, kD = Tile::kD, kOwned = Tile::kOwned;
  const Problem& of = a.problem;
  const Place at = place(of.k_rows, kOwned, of.kv_heads, false);
  const int rows = static_cast<int>(of.q_rows), keys_left = static_cast<int>(of.k_rows) - at.first_row;
  const int group_heads = static_cast<int>(of.q_heads / of.kv_heads);
  const int first_step = of.causal ? at.first_row / kOther : 0;
  const int steps_a_head = (rows + kOther - 1) / kOther - first_step > 0 ? (rows + kOther - 1) / kOther - first_step : 0;
  const int steps = group_heads * steps_a_head;
  const Sm90BackwardMemory<Tile> memory;
  memory.begin();

  if (threadIdx.x < 128) {
    registers_shrink<Tile::kProducerRegisters>();
    if (threadIdx.x >= 32) return;
    memory.produce(&maps.k, &maps.v, at.first_row, at.head, at.batch, steps, [&](int step, int stage) {
      const int64_t head = at.head * group_heads + step / steps_a_head, row_index = (at.batch * of.q_heads + head) * of.q_rows;
      const int row = (first_step + step % steps_a_head) * kOther;
      Barrier* const full = &memory.barriers->full[stage];
      if (threadIdx.x == 0) {
        copy_panels<kD, kOther>(memory.other_tile(0, stage), &maps.q, row, head, at.batch, full);
        copy_panels<kD, kOther>(memory.other_tile(1, stage), &maps.dout, row, head, at.batch, full);
      }
      for (int i = threadIdx.x; i < kOther; i += 32) {
        memory.lse_of(stage)[i] = log2_sum(a.lse + row_index, row + i, rows);
        memory.delta_of(stage)[i] = row + i < rows ? a.delta[row_index + row + i] : 0.0f;
      }
      barrier_arrive(full);
    });
    return;
  }

  registers_grow<Tile::kConsumerRegisters>();
  const int group = static_cast<int>(threadIdx.x) / 128 - 1, lane = threadIdx.x % 32;
  const int warp_row = group * 64 + static_cast<int>(threadIdx.x) / 32 % 4 * 16, first_key = at.first_row + warp_row;
  const float scale = of.scale * kLog2E;
  const Matrix k = matrix_descriptor(memory.owned[0] + group * 64 * 128, 0);
  const Matrix v = matrix_descriptor(memory.owned[1] + group * 64 * 128, 0);

  float s[kN][4], dp[kN][4], dk[1][kD / 8][4], dv[1][kD / 8][4];
  uint32_t p[kN / 2][4], ds[kN / 2][4];
  if (steps == 0) {  // keys that no query sees
    const auto clear = [&](const View& view) {
      for (int i = 0; i < 16; ++i) {
        T* const row = at.rows_of<T>(view, at.head, first_key + i);
        for (int column = lane; warp_row + i < keys_left && column < of.d; column += 32) row[column] = round_to<T>(0.0f);
      }
    };
    clear(a.dk);
    clear(a.dv);
    return;
  }
  barrier_wait(&memory.barriers->owned, 0);
#pragma unroll 1
  for (int step = 0; step < steps; ++step) {
    const int stage = step % Tile::kStages, first_row = (first_step + step % steps_a_head) * kOther;
    barrier_wait(&memory.barriers->full[stage], step / Tile::kStages % 2);
    products_fence();
    issue_rows<kD, kOwned, kOther, T>(s, k, matrix_descriptor(memory.other_tile(0, stage), 0));
    issue_rows<kD, kOwned, kOther, T>(dp, v, matrix_descriptor(memory.other_tile(1, stage), 0));
    products_wait<1>();
    pin(s);
    if (step > 0 && lane == 0)
      barrier_arrive(&memory.barriers->empty[(step - 1) % Tile::kStages]);  // dk, dv of the last step are done with it
    const float* const lse = memory.lse_of(stage) + lane % 4 * 2;
    const float* const delta = memory.delta_of(stage) + lane % 4 * 2;
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) s[n][i] = fast_exp2(s[n][i] * scale - lse[n * 8 + i % 2]);
    }
    if (of.causal && first_row < first_key + 15) {
#pragma unroll
      for (int n = 0; n < kN; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          if (first_key + i / 2 * 8 + lane / 4 > first_row + n * 8 + lane % 4 * 2 + i % 2) s[n][i] = 0.0f;
        }
      }
    }
    round_operand<T>(p, s);
    products_fence();
    issue_columns<T>(dv[0], p, matrix_descriptor(memory.other_tile(1, stage), kOther * 128), step > 0);
    products_wait<1>();
    pin(dp);
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) s[n][i] *= dp[n][i] - delta[n * 8 + i % 2];
    }
    round_operand<T>(ds, s);
    products_fence();
    issue_columns<T>(dk[0], ds, matrix_descriptor(memory.other_tile(0, stage), kOther * 128), step > 0);
    products_wait<1>();  // dv is done with p, whose registers the next scores need
  }
  products_wait<0>();
  pin(dk[0]);
  pin(dv[0]);
  const float scales[1][2] = {{of.scale, of.scale}}, ones[1][2] = {{1.0f, 1.0f}};
  store_rows(at.rows_of<T>(a.dk, at.head, first_key), a.dk.row, keys_left - warp_row, of.d, dk, scales);
  store_rows(at.rows_of<T>(a.dv, at.head, first_key), a.dv.row, keys_left - warp_row, of.d, dv, ones);
}

template <class QTile, class KvTile, class T>
void launch_backward_sm90(const Backward& a, void* stream) {
  const Problem& of = a.problem;
  const auto maps = [&](int q_rows, int k_rows) {
    return Sm90BackwardMaps{describe<T>("attention backward", a.q, of, of.q_heads, of.q_rows, q_rows),
                            describe<T>("attention backward", a.dout, of, of.q_heads, of.q_rows, q_rows),
                            describe<T>("attention backward", a.k, of, of.kv_heads, of.k_rows, k_rows),
                            describe<T>("attention backward", a.v, of, of.kv_heads, of.k_rows, k_rows)};
  };
  const int64_t q_grid = blocks(of.q_rows, QTile::kOwned, of.q_heads, of.batch);
  const int64_t kv_grid = blocks(of.k_rows, KvTile::kOwned, of.kv_heads, of.batch);
  if (kv_grid == 0) return;
  launch("attention backward: delta", delta_sm80<T>, (of.batch * of.q_heads * of.q_rows + 3) / 4, 128, 0, stream, a);
  launch("attention backward: dq", backward_q_sm90<QTile, T>, q_grid, QTile::kThreads, QTile::kShared, stream,
         maps(QTile::kOwned, QTile::kOther), a);
  launch("attention backward: dk, dv", backward_kv_sm90<KvTile, T>, kv_grid, KvTile::kThreads, KvTile::kShared, stream,
         maps(KvTile::kOther, KvTile::kOwned), a);
}

// Head dimensions in between are padded with zeros to the next of these.
template <class T>
void backward_sm90_any(const Backward& a, int device, void* stream) {
  const DeviceGuard guard(device);
  if (a.problem.d <= 64) {
    return launch_backward_sm90<Sm90BackwardTile<64, 128, 3, false>, Sm90BackwardTile<64, 64, 4, true>, T>(a, stream);
  }
  if (a.problem.d <= 128) {
    return launch_backward_sm90<Sm90BackwardTile<128, 64, 3, false>, Sm90BackwardTile<128, 64, 3, true>, T>(a, stream);
  }
  throw std::invalid_argument("head dimension over 128");
}

}  // namespace aieng::attention::cuda
