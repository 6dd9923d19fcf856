// Forward attention for 16-bit inputs on compute capability 9.0, after FlashAttention-3 (Shah et al. 2024, algorithms 1 and 2).
//
// One warp asks the copy engine for tiles of K and V, two of each ahead; every other warpgroup owns 64 query rows. A warpgroup
// issues q kᵀ of the next tile and p v of this one together and computes the next softmax while they run. (That warpgroups take
// turns to issue, the paper's ping-pong, cost 3 to 6 % on an H200.) Tiles go from the last, which masks touch, to the first. Scores
// stay unscaled: the scale is folded into the exponent's multiply-add. The accumulators shrink to a new maximum only when some row
// of a warp outgrew the old one by 2^kSlack, as FlashAttention-4 does it on later chips.
#pragma once
#include "half.h"
#include "sm90_tile.cuh"

namespace aieng::attention::cuda {

constexpr float kSlack = 8.0f;  // powers of two; a probability is then at most 256, which fp16 holds with room

// Of every PolynomialEvery pairs of columns one has its exponentials from a polynomial; 0: none has.
template <int D_, int Keys, int Groups, int PolynomialEvery = 0>
struct Sm90Tile {
  static constexpr int kD = D_, kKeys = Keys, kGroups = Groups, kStages = 2, kPolynomialEvery = PolynomialEvery;
  static constexpr int kRows = 64 * Groups, kThreads = 128 * (Groups + 1);
  static constexpr int kRowsBytes = kRows * kD * 2, kKeysBytes = kKeys * kD * 2;
  static constexpr int kProducerRegisters = Groups == 2 ? 24 : 32, kConsumerRegisters = Groups == 2 ? 240 : 160;
  // 1024 bytes to start at a multiple of it, and the barriers behind the tiles.
  static constexpr size_t kShared = 1024 + kRowsBytes + 2 * kStages * kKeysBytes + 128;
  static_assert(kShared <= 227 * 1024 && kKeysBytes % 1024 == 0 && kRowsBytes % 1024 == 0);
};

struct Sm90Barriers {
  Barrier q_full, k_full[2], v_full[2], k_empty[2], v_empty[2];
};

struct Sm90Maps {
  TensorMap q, k, v;
};

// What a lane knows of its two rows: the scale of its sums and accumulators is 2^-(scale · largest).
struct Sm90Rows {
  float largest[2] = {-kInfinity, -kInfinity}, sum[2] = {};
};

// 2^x for x <= 127, and 2^-126 at least, on the multiply-add units, of which there are eight for each that exponentiates: the
// nearest integer by an addition, the rest by a polynomial of degree 3 (minimax; relative error 7.5e-5, a quarter of fp16's
// rounding).
__device__ __forceinline__ float polynomial_exp2(float x) {
  constexpr float kMagic = 12582912.0f;  // 1.5 · 2^23: the low bits of a sum with it are the integer
  const float from = max_or_nan(x, -126.0f), sum = from + kMagic, rest = from - (sum - kMagic);
  const float power = fmaf(rest, fmaf(rest, fmaf(rest, 0.05517167f, 0.24261113f), 0.69326097f), 0.99992806f);
  return power * float_from_bits((bits_from_float(sum) << 23) + 0x3F800000u);
}

// s becomes its probabilities, and is added to the sums. True, the same for a whole warp, if the accumulators must shrink.
template <int kPolynomialEvery, int N>
__device__ __forceinline__ bool softmax_sm90(float (&s)[N][4], Sm90Rows& rows, float (&shrink)[2], float scale) {
  float most[2], shift[2];
  bool outgrown = false;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float x = fmaxf(s[0][2 * half], s[0][2 * half + 1]);
#pragma unroll
    for (int n = 1; n < N; ++n) x = fmaxf(x, fmaxf(s[n][2 * half], s[n][2 * half + 1]));
    x = fmaxf(x, shuffle_xor(x, 1));
    most[half] = fmaxf(rows.largest[half], fmaxf(x, shuffle_xor(x, 2)));
    // -inf against -inf is not larger; a first finite score is.
    outgrown |= most[half] > rows.largest[half] && !((most[half] - rows.largest[half]) * scale <= kSlack);
  }
  const bool shrinks = any_lane(outgrown);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    if (shrinks) {
      const float to = most[half] == -kInfinity ? 0.0f : most[half];  // a row that has seen no key yet
      shrink[half] = fast_exp2((rows.largest[half] - to) * scale);
      rows.sum[half] *= shrink[half];
      rows.largest[half] = most[half];
    }
    shift[half] = rows.largest[half] == -kInfinity ? 0.0f : rows.largest[half] * scale;
  }
#pragma unroll
  for (int n = 0; n < N; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float x = s[n][i] * scale - shift[i / 2];
      const bool polynomial = kPolynomialEvery && n % (kPolynomialEvery ? kPolynomialEvery : 1) == kPolynomialEvery - 1;
      s[n][i] = polynomial ? polynomial_exp2(x) : fast_exp2(x);
      rows.sum[i / 2] += s[n][i];
    }
  }
  return shrinks;
}

template <class Tile, class T>
__global__ void __launch_bounds__(Tile::kThreads, 1) forward_sm90(const __grid_constant__ Sm90Maps maps, const Forward a) {
  constexpr int kKeys = Tile::kKeys, kStages = Tile::kStages;
  const Problem& of = a.problem;
  const Place at = place(of.q_rows, Tile::kRows, of.q_heads, of.causal);
  const int keys = static_cast<int>(of.k_rows), rows_left = smaller(of.q_rows - at.first_row, Tile::kRows);
  const int last_key = of.causal ? smaller(of.k_rows, at.first_row + rows_left) : keys;
  const int tiles = (last_key + kKeys - 1) / kKeys;

  unsigned char* const start = align_1024(shared_memory());
  unsigned char* const q_tile = start;
  unsigned char* const k_tiles = q_tile + Tile::kRowsBytes;
  unsigned char* const v_tiles = k_tiles + kStages * Tile::kKeysBytes;
  Sm90Barriers& barriers = *reinterpret_cast<Sm90Barriers*>(v_tiles + kStages * Tile::kKeysBytes);
  if (threadIdx.x == 0) {
    barrier_init(&barriers.q_full, 1);
    for (int stage = 0; stage < kStages; ++stage) {
      barrier_init(&barriers.k_full[stage], 1);
      barrier_init(&barriers.v_full[stage], 1);
      barrier_init(&barriers.k_empty[stage], 4 * Tile::kGroups);
      barrier_init(&barriers.v_empty[stage], 4 * Tile::kGroups);
    }
    barrier_init_fence();
  }
  __syncthreads();

  if (threadIdx.x < 128) {
    registers_shrink<Tile::kProducerRegisters>();
    if (threadIdx.x == 0) {
      const int64_t kv_head = at.head / (of.q_heads / of.kv_heads);
      barrier_expect(&barriers.q_full, Tile::kRowsBytes);
      copy_panels<Tile::kD, Tile::kRows>(q_tile, &maps.q, at.first_row, at.head, at.batch, &barriers.q_full);
#pragma unroll 1  // unrolled, it would not fit in the producer's few registers
      for (int i = 0; i < tiles; ++i) {
        const int stage = i % kStages, was_empty = (i / kStages + 1) % 2, key = (tiles - 1 - i) * kKeys;
        barrier_wait(&barriers.k_empty[stage], was_empty);
        barrier_expect(&barriers.k_full[stage], Tile::kKeysBytes);
        copy_panels<Tile::kD, kKeys>(k_tiles + stage * Tile::kKeysBytes, &maps.k, key, kv_head, at.batch, &barriers.k_full[stage]);
        barrier_wait(&barriers.v_empty[stage], was_empty);
        barrier_expect(&barriers.v_full[stage], Tile::kKeysBytes);
        copy_panels<Tile::kD, kKeys>(v_tiles + stage * Tile::kKeysBytes, &maps.v, key, kv_head, at.batch, &barriers.v_full[stage]);
      }
    }
    return;
  }

  registers_grow<Tile::kConsumerRegisters>();
  const int group = static_cast<int>(threadIdx.x) / 128 - 1, lane = threadIdx.x % 32;
  const int warp_row = group * 64 + static_cast<int>(threadIdx.x) / 32 % 4 * 16, first_row = at.first_row + warp_row;
  // In a negative scale the largest score is the smallest product, so products change their sign. Under a scale of 0 a masked
  // score would be 0 · inf; under the least number that is one it is still -inf, and all others are 0.
  const bool negative = of.scale < 0.0f;
  const float scale = fmaxf(fabsf(of.scale) * kLog2E, 1e-37f);
  const Matrix q_rows = matrix_descriptor(q_tile + group * 64 * 128, 0);
  const auto release = [&](Barrier* empty) {
    if (lane == 0) barrier_arrive(empty);
  };

  float s[kKeys / 8][4], acc[1][Tile::kD / 8][4];
  uint32_t p[kKeys / 16][4];
  Sm90Rows rows;
  float shrink[2] = {};
  const auto finish_scores = [&](int tile) {
    const int key = tile * kKeys;
    if (negative) {
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) s[n][i] = -s[n][i];
      }
    }
    if (key + kKeys > keys || (of.causal && key + kKeys - 1 > first_row)) mask(s, first_row, key, keys, of.causal);
  };

  barrier_wait(&barriers.q_full, 0);
  barrier_wait(&barriers.k_full[0], 0);
  products_fence();
  issue_rows<Tile::kD, Tile::kRows, kKeys, T>(s, q_rows, matrix_descriptor(k_tiles, 0));
  products_wait<0>();
  pin(s);
  release(&barriers.k_empty[0]);
  finish_scores(tiles - 1);
  softmax_sm90<Tile::kPolynomialEvery>(s, rows, shrink, scale);
  round_operand<T>(p, s);
#pragma unroll 1
  for (int i = 1; i < tiles; ++i) {
    const int stage = i % kStages, before = (i - 1) % kStages;
    barrier_wait(&barriers.k_full[stage], i / kStages % 2);
    products_fence();
    issue_rows<Tile::kD, Tile::kRows, kKeys, T>(s, q_rows, matrix_descriptor(k_tiles + stage * Tile::kKeysBytes, 0));
    barrier_wait(&barriers.v_full[before], (i - 1) / kStages % 2);
    products_fence();
    issue_columns<T>(acc[0], p, matrix_descriptor(v_tiles + before * Tile::kKeysBytes, kKeys * 128), i > 1);
    products_wait<1>();
    pin(s);
    release(&barriers.k_empty[stage]);
    finish_scores(tiles - 1 - i);
    const bool shrinks = softmax_sm90<Tile::kPolynomialEvery>(s, rows, shrink, scale);
    // The exponentials run beside p v only if they come before the wait for it, behind which the compilers would move them: so
    // the sums, which are never negative, have a part in a wait for a barrier that was passed long ago.
    const int none = any_lane(rows.sum[0] + rows.sum[1] < 0.0f);
    barrier_wait(&barriers.v_full[before], (i - 1) / kStages % 2 ^ none);
    products_wait<0>();
    pin(acc[0]);
    release(&barriers.v_empty[before]);
    if (shrinks) {
#pragma unroll
      for (int n = 0; n < Tile::kD / 8; ++n) {
#pragma unroll
        for (int j = 0; j < 4; ++j) acc[0][n][j] *= shrink[j / 2];
      }
    }
    round_operand<T>(p, s);
  }
  const int stage = (tiles - 1) % kStages;
  barrier_wait(&barriers.v_full[stage], (tiles - 1) / kStages % 2);
  products_fence();
  issue_columns<T>(acc[0], p, matrix_descriptor(v_tiles + stage * Tile::kKeysBytes, kKeys * 128), tiles > 1);
  products_wait<0>();
  pin(acc[0]);

  float* const lse = a.lse + (at.batch * of.q_heads + at.head) * of.q_rows + first_row;
  float factor[1][2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float total = rows.sum[half] + shuffle_xor(rows.sum[half], 1);
    total += shuffle_xor(total, 2);
    const int row = half * 8 + lane / 4;
    if (lane % 4 == 0 && warp_row + row < rows_left) lse[row] = natural_lse(rows.largest[half] * scale, total);
    factor[0][half] = total == 0.0f ? 0.0f : 1.0f / total;
  }
  store_rows(at.rows_of<T>(a.out, at.head, first_row), a.out.row, rows_left - warp_row, of.d, acc, factor);
}

template <class Tile, class T>
void launch_forward_sm90(const Forward& a, void* stream) {
  const Problem& of = a.problem;
  const int64_t grid = blocks(of.q_rows, Tile::kRows, of.q_heads, of.batch);
  if (grid == 0) return;
  const Sm90Maps maps{describe<T>("attention forward", a.q, of, of.q_heads, of.q_rows, Tile::kRows),
                      describe<T>("attention forward", a.k, of, of.kv_heads, of.k_rows, Tile::kKeys),
                      describe<T>("attention forward", a.v, of, of.kv_heads, of.k_rows, Tile::kKeys)};
  launch("attention forward", forward_sm90<Tile, T>, grid, Tile::kThreads, Tile::kShared, stream, maps, a);
}

// Tiles after Shah et al. (2024); head dimensions in between are padded with zeros to the next of these.
template <class T>
void forward_sm90_any(const Forward& a, int device, void* stream) {
  const DeviceGuard guard(device);
  if (a.problem.d <= 64) return launch_forward_sm90<Sm90Tile<64, 128, 3>, T>(a, stream);
  if (a.problem.d <= 128 && a.problem.causal) return launch_forward_sm90<Sm90Tile<128, 128, 2>, T>(a, stream);
  if (a.problem.d <= 128) return launch_forward_sm90<Sm90Tile<128, 176, 2>, T>(a, stream);
  if (a.problem.d <= 256) return launch_forward_sm90<Sm90Tile<256, 64, 2>, T>(a, stream);
  throw std::invalid_argument("head dimension over 256");
}

// The tile that exponentials bind, with a quarter of them from the polynomial: by a count of instructions both kinds of units are
// then busy as long. Not yet run on a chip.
template <class T>
void forward_sm90_polynomial(const Forward& a, int device, void* stream) {
  const DeviceGuard guard(device);
  if (a.problem.d > 64) throw std::invalid_argument("head dimension over 64");
  launch_forward_sm90<Sm90Tile<64, 128, 3, 4>, T>(a, stream);
}

}  // namespace aieng::attention::cuda
