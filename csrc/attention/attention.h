// The attention math that the CPU and CUDA kernels share: causal bounds, the softmax in powers of two, the row's log-sum-exp.
#pragma once
#include <cmath>
#include <cstdint>

#include "hd.h"

namespace aieng::attention {

// The keys that a query of one sequence sees: of `keys`, those from query + low up to, not including, query + high.
struct Band {
  int64_t queries, keys, low, high;
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

// The same of the plain causal band, aligned top-left. Keys that query `query` sees: all T, or those at or before it.
AIENG_HD int64_t keys_seen(bool causal, int64_t query, int64_t T) { return causal && query + 1 < T ? query + 1 : T; }

// First query that sees key `key`.
AIENG_HD int64_t first_query(bool causal, int64_t key) { return causal ? key : 0; }

// Natural log-sum-exp of a row from its maximum in powers of two and its sum of 2^(score - maximum); -inf for a row without keys.
AIENG_HD float natural_lse(float max_log2, float sum) {
  return sum > 0.f ? kLn2 * max_log2 + logf(sum) : sum == 0.f ? -INFINITY : sum;
}

}  // namespace
}  // namespace aieng::attention
