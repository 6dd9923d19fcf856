// One sequence of the call: a batch, all of it or its first keys, or a run of rows of a batch of one.
#pragma once
#include "attention.h"
#include "cpu_simd.h"

namespace aieng::attention::AIENG_ISA {

struct Sequence {
  int64_t batch, q_first, k_first;  // of the tensors
  Band band;                        // S queries and T keys, numbered within the sequence
  int64_t number;                   // as Dropout counts batches
};

inline int64_t sequences_of(const Problem& f) { return f.lengths.q_starts ? f.lengths.sequences : f.B; }

// No row outside the tensors is ever in a sequence, whatever the starts and lengths say.
inline Sequence sequence_of(const Problem& f, int64_t n) {
  const Lengths& all = f.lengths;
  if (!all.q_starts) {
    const int64_t keys = all.k_lengths ? clamped(all.k_lengths[n], f.T) : f.T;
    return {n, 0, 0, band_of(f.S, keys, f.left, f.right, f.bottom_right), n};
  }
  const int64_t q = clamped(all.q_starts[n], f.S), queries = clamped(all.q_starts[n + 1] - q, f.S - q);
  const int64_t k = clamped(all.k_starts[n], f.T), keys = clamped(all.k_starts[n + 1] - k, f.T - k);
  return {0, q, k, band_of(queries, keys, f.left, f.right, f.bottom_right), n};
}

// What a kernel does beside scale, window and lengths.
inline bool shapes_scores(const Problem& f) { return f.softcap > 0.f || f.mask.kind != Mask::kNone; }
inline bool drops(const Problem& f) { return f.dropout.dropped > 0; }

// Work items of the sequences in order, `before[n]` of them before sequence n: the sequence that item i belongs to.
inline int64_t owner(const int64_t* before, int64_t sequences, int64_t i) {
  int64_t low = 0, high = sequences;
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    (before[middle] <= i ? low : high) = middle;
  }
  return low;
}

}  // namespace aieng::attention::AIENG_ISA
