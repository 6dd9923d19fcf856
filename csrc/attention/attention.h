// The attention math that the CPU and CUDA kernels share: causal bounds, the softmax in powers of two, the row's log-sum-exp.
#pragma once
#include <cmath>
#include <cstdint>

#include "hd.h"
#include "options.h"

namespace aieng::attention {

// The keys that a query of one sequence sees: of `keys`, those from query + low up to, not including, query + high.
struct Band {
  int64_t queries, keys, low, high;
};

// One sequence of the call: a batch, all of it or its first keys, or a run of rows of a batch of one.
struct Sequence {
  int64_t batch, q_first, k_first;  // of the tensors
  Band band;                        // S queries and T keys, numbered within the sequence
  int64_t number;                   // as Dropout counts batches
};

// Unnamed, because these functions are compiled for several instruction sets and the linker must not mix their copies.
namespace {

constexpr float kLog2E = 1.44269504088896340736f;
constexpr float kLn2 = 0.69314718055994530942f;

AIENG_HD int64_t clamped(int64_t x, int64_t end) { return x < 0 ? 0 : x < end ? x : end; }

// The band of a window of `left` keys before and `right` keys after the query's own; negative: as many as there are.
AIENG_HD Band band_of(int64_t queries, int64_t keys, int64_t left, int64_t right, bool bottom_right) {
  constexpr int64_t kFar = int64_t{1} << 60;
  const int64_t own = bottom_right ? keys - queries : 0;
  return {queries, keys, left < 0 || left > kFar ? -kFar : own - left, right < 0 || right > kFar ? kFar : own + right + 1};
}

// Query `query` sees keys [first_key, end_key), key `key` is seen by queries [first_query, end_query); none if first >= end.
AIENG_HD int64_t first_key(const Band& band, int64_t query) { return clamped(query + band.low, band.keys); }
AIENG_HD int64_t end_key(const Band& band, int64_t query) { return clamped(query + band.high, band.keys); }
AIENG_HD int64_t first_query(const Band& band, int64_t key) { return clamped(key - band.high + 1, band.queries); }
AIENG_HD int64_t end_query(const Band& band, int64_t key) { return clamped(key - band.low + 1, band.queries); }

// Of B batches of S queries and T keys. No row outside the tensors is ever in a sequence, whatever the starts and lengths say.
AIENG_HD Sequence sequence_of(const Options& o, int64_t S, int64_t T, int64_t n) {
  const Lengths& all = o.lengths;
  if (!all.q_starts) {
    const int64_t keys = all.k_lengths ? clamped(all.k_lengths[n], T) : T;
    return {n, 0, 0, band_of(S, keys, o.left, o.right, o.bottom_right), n};
  }
  const int64_t q = clamped(all.q_starts[n], S), queries = clamped(all.q_starts[n + 1] - q, S - q);
  const int64_t k = clamped(all.k_starts[n], T), keys = clamped(all.k_starts[n + 1] - k, T - k);
  return {0, q, k, band_of(queries, keys, o.left, o.right, o.bottom_right), n};
}
AIENG_HD int64_t sequences_of(const Options& o, int64_t B) { return o.lengths.q_starts ? o.lengths.sequences : B; }

// What is done beside scale, window and lengths.
AIENG_HD bool shapes_scores(const Options& o) { return o.softcap > 0.f || o.mask.kind != Mask::kNone; }
AIENG_HD bool drops(const Options& o) { return o.dropout.dropped > 0; }

// Whether nothing is asked beside scale and causal, top-left.
AIENG_HD bool is_plain(const Options& o) {
  const bool windowed = o.left >= 0 || o.right > 0 || (o.right == 0 && o.bottom_right);
  return !windowed && !shapes_scores(o) && !drops(o) && !o.lengths.q_starts && !o.lengths.k_lengths;
}

// The same of the plain causal band, aligned top-left. Keys that query `query` sees: all T, or those at or before it.
AIENG_HD int64_t keys_seen(bool causal, int64_t query, int64_t T) { return causal && query + 1 < T ? query + 1 : T; }

// Natural log-sum-exp of a row from its maximum in powers of two and its sum of 2^(score - maximum); -inf for a row without keys.
AIENG_HD float natural_lse(float max_log2, float sum) {
  return sum > 0.f ? kLn2 * max_log2 + logf(sum) : sum == 0.f ? -INFINITY : sum;
}

}  // namespace
}  // namespace aieng::attention
