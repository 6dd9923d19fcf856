// The options of attention as a block of a CUDA kernel meets them: its sequence, the scores of a tile, which weights dropout keeps.
// Kernels are compiled with and without (kAsked), so that what nobody asks for costs nothing. Not yet run on a chip.
#pragma once
#include <cfloat>

#include "cuda_block.cuh"
#include "half.h"
#include "philox.h"
#include "ptx.cuh"

namespace aieng::attention::cuda {

// The rows and keys of a block's sequence, as Sequence in attention.h: row i sees the keys from i + low up to, not including,
// i + high.
struct Extent {
  int64_t batch, q_first, k_first, number;
  int rows, keys, low, high;

  __device__ __forceinline__ int within(int x, int end) const { return x < 0 ? 0 : x < end ? x : end; }
  __device__ __forceinline__ int first_key(int row) const { return within(row + low, keys); }
  __device__ __forceinline__ int end_key(int row) const { return within(row + high, keys); }
  __device__ __forceinline__ int first_row(int key) const { return within(key - high + 1, rows); }
  __device__ __forceinline__ int end_row(int key) const { return within(key - low + 1, rows); }
  __device__ __forceinline__ bool sees(int row, int key) const { return key >= row + low && key < row + high && key < keys; }
};

// Of batch element or sequence `number`.
template <bool kAsked>
__device__ __forceinline__ Extent extent(const Problem& of, int64_t number) {
  // Beyond any key; and no sum of either and a row, of which there may be as many, overflows.
  constexpr int kHigh = 1 << 30, kLow = 1 - kHigh;
  if constexpr (!kAsked) {
    return {number, 0, 0, number, static_cast<int>(of.q_rows), static_cast<int>(of.k_rows), kLow, of.causal ? 1 : kHigh};
  } else {
    const Sequence s = sequence_of(of.options, of.q_rows, of.k_rows, number);
    const auto side = [](int64_t x) { return static_cast<int>(x < kLow ? kLow : x < kHigh ? x : kHigh); };
    return {s.batch,          s.q_first,        s.k_first, number, static_cast<int>(s.band.queries), static_cast<int>(s.band.keys),
            side(s.band.low), side(s.band.high)};
  }
}

// Of the longest sequence; `of` may be the host's.
template <bool kAsked>
__host__ __device__ __forceinline__ int64_t longest_q(const Problem& of) {
  return kAsked && of.options.lengths.q_starts ? of.options.lengths.longest_q : of.q_rows;
}
template <bool kAsked>
__host__ __device__ __forceinline__ int64_t longest_k(const Problem& of) {
  return kAsked && of.options.lengths.q_starts ? of.options.lengths.longest_k : of.k_rows;
}

// A block's tile, of kRows rows of q or of k, within the sequence that it is of, which may end before it.
struct Work : Place {
  Extent extent;

  template <class T>
  __device__ __forceinline__ T* queries(const View& view, int64_t of_head, int64_t row) const {
    return rows_of<T>(view, of_head, extent.q_first + row);
  }
  template <class T>
  __device__ __forceinline__ T* keys(const View& view, int64_t of_head, int64_t key) const {
    return rows_of<T>(view, of_head, extent.k_first + key);
  }
};
template <bool kAsked, int kRows>
__device__ __forceinline__ Work work_on_rows(const Problem& of) {
  const Place tile = place(longest_q<kAsked>(of), kRows, of.q_heads, of.causal);
  const Extent of_it = extent<kAsked>(of, tile.batch);
  return {{tile.first_row, tile.head, of_it.batch}, of_it};
}
template <bool kAsked, int kRows>
__device__ __forceinline__ Work work_on_keys(const Problem& of) {
  const Place tile = place(longest_k<kAsked>(of), kRows, of.kv_heads, false);
  const Extent of_it = extent<kAsked>(of, tile.batch);
  return {{tile.first_row, tile.head, of_it.batch}, of_it};
}

// What makes scores of the products of one head's queries and keys. T: the type of the inputs.
template <class T>
class Scores {
 public:
  __device__ __forceinline__ Scores(const Problem& of, const Extent& extent, int64_t head)
      : extent_(extent), cap_(of.options.softcap), scale_(cap_ > 0.0f ? of.scale / cap_ : of.scale), mask_(of.options.mask) {
    const bool slopes = mask_.kind == Mask::kSlopes;
    first_ = (slopes ? extent.number : extent.batch) * mask_.batch + head * mask_.head;
  }

  // s, the products, become scores: softcap(scale · s) + mask, -inf where a key is hidden. `at(n, i)` is the Pair of an element,
  // `slope(n, i, x)` is told the derivative of its cap.
  template <int N, int W, class At, class Slope>
  __device__ __forceinline__ void shape(float (&s)[N][W], At at, Slope slope) const {
    each<N, W>([&](int n, int i) { s[n][i] *= scale_; });
    if (cap_ > 0.0f) {
      each<N, W>([&](int n, int i) {
        const float t = tanhf(s[n][i]);
        slope(n, i, 1.0f - t * t);
        s[n][i] = cap_ * t;
      });
    }
    if (mask_.kind == Mask::kBool) {
      each<N, W>([&](int n, int i) { s[n][i] = given<uint8_t>(at(n, i)) ? s[n][i] : -kInfinity; });
    } else if (mask_.kind == Mask::kFloat32) {
      each<N, W>([&](int n, int i) { s[n][i] = plus(s[n][i], given<float>(at(n, i))); });
    } else if (mask_.kind == Mask::kOfInputs) {
      each<N, W>([&](int n, int i) { s[n][i] = plus(s[n][i], to_float(given<T>(at(n, i)))); });
    } else if (mask_.kind == Mask::kSlopes) {
      const float slope_of_head = static_cast<const float*>(mask_.data)[first_];
      each<N, W>([&](int n, int i) {
        const int steps = at(n, i).row + extent_.keys - extent_.rows - at(n, i).key;
        s[n][i] -= slope_of_head * static_cast<float>(steps < 0 ? -steps : steps);
      });
    }
    each<N, W>([&](int n, int i) {
      if (!extent_.sees(at(n, i).row, at(n, i).key)) s[n][i] = -kInfinity;
    });
  }

 private:
  // The mask's element, or zero, which is as good, where no query or no key is.
  template <class M>
  __device__ __forceinline__ M given(Pair at) const {
    if (at.row >= extent_.rows || at.key >= extent_.keys) return M{};
    return static_cast<const M*>(mask_.data)[first_ + at.row * mask_.row + at.key * mask_.key];
  }

  // Where -inf is added it is -inf, whatever the score, and nothing finite becomes that, nor does log2(e) times it.
  __device__ __forceinline__ static float plus(float score, float added) {
    const float sum = score + added;
    return added < -FLT_MAX ? -kInfinity : sum < -2e38f ? -2e38f : sum;
  }

  const Extent extent_;
  const float cap_, scale_;
  const Mask mask_;
  int64_t first_;  // element of the mask at query and key 0; the slope
};

// Which weights of a head dropout keeps, by Philox's words as options.py numbers them: one block for four keys of a query.
class Dropped {
 public:
  __device__ __forceinline__ Dropped(const Problem& of, const Extent& extent, int64_t head)
      : first_((extent.number * of.q_heads + head) * longest_q<true>(of)),
        blocks_((longest_k<true>(of) + 3) / 4),
        drops_(drops(of.options)),
        last_(static_cast<uint32_t>(of.options.dropout.dropped - 1)),
        seed_(drops_ ? static_cast<uint64_t>(*of.options.dropout.seed) : 0),
        rescale_(of.options.dropout.rescale) {}

  __device__ __forceinline__ bool any() const { return drops_; }
  __device__ __forceinline__ float rescale() const { return rescale_; }

  // One weight.
  __device__ __forceinline__ bool keeps(Pair at) const {
    uint32_t words[4];
    block(at.row, at.key / 4, words);
    return word_of(words, at.key % 4) > last_;
  }

  // Of a warp's tile as its accumulators hold it (mma_tile.cuh), rows being queries: bit 4 n + i of each lane. Two lanes share the
  // blocks of two rows, and each makes one. first_key is a multiple of 4.
  template <int N>
  __device__ __forceinline__ uint32_t kept_by_rows(int first_row, int first_key) const {
    const int lane = threadIdx.x % 32;
    const bool odd = lane % 2;
    uint32_t kept = 0;
#pragma unroll
    for (int n = 0; n < N; ++n) {
      uint32_t w[4];
      block(first_row + lane / 4 + (odd ? 8 : 0), first_key / 4 + n * 2 + lane % 4 / 2, w);
      const uint32_t low = other(odd ? w[0] : w[2], 1), high = other(odd ? w[1] : w[3], 1);
      const uint32_t words[4] = {odd ? low : w[0], odd ? high : w[1], odd ? w[2] : low, odd ? w[3] : high};
#pragma unroll
      for (int i = 0; i < 4; ++i) kept |= static_cast<uint32_t>(words[i] > last_) << (4 * n + i);
    }
    return kept;
  }

  // The same with keys for rows and queries for columns: four lanes share four blocks.
  template <int N>
  __device__ __forceinline__ uint32_t kept_by_columns(int first_key, int first_row) const {
    const int lane = threadIdx.x % 32, mine = lane / 4 % 4;
    uint32_t kept = 0;
#pragma unroll
    for (int n = 0; n < N; ++n) {
      uint32_t w[4];
      block(first_row + n * 8 + lane % 4 * 2 + mine % 2, first_key / 4 + mine / 2 * 2 + lane / 16, w);
#pragma unroll
      for (int step = 0; step < 4; ++step) {
        const int theirs = mine ^ step;
        const uint32_t word = step == 0 ? word_of(w, mine) : other(word_of(w, theirs), 4 * step);
        kept |= static_cast<uint32_t>(word > last_) << (4 * n + theirs);
      }
    }
    return kept;
  }

 private:
  __device__ __forceinline__ void block(int row, int four_keys, uint32_t (&words)[4]) const {
    const uint64_t counter = static_cast<uint64_t>((first_ + row) * blocks_ + four_keys);
    words[0] = static_cast<uint32_t>(counter);
    words[1] = static_cast<uint32_t>(counter >> 32);
    words[2] = words[3] = 0;
    philox4x32_10(words, static_cast<uint32_t>(seed_), static_cast<uint32_t>(seed_ >> 32));
  }
  __device__ __forceinline__ static uint32_t word_of(const uint32_t (&w)[4], int i) {
    return i < 2 ? (i == 0 ? w[0] : w[1]) : (i == 2 ? w[2] : w[3]);
  }
  __device__ __forceinline__ static uint32_t other(uint32_t word, int lanes) {
    return bits_from_float(shuffle_xor(float_from_bits(word), lanes));
  }

  const int64_t first_, blocks_;
  const bool drops_;
  const uint32_t last_;
  const uint64_t seed_;
  const float rescale_;
};

}  // namespace aieng::attention::cuda
