// The attention math that the CPU and CUDA kernels share: causal bounds, the softmax in powers of two, the row's log-sum-exp.
#pragma once
#include <cmath>
#include <cstdint>

#include "hd.h"

namespace aieng::attention {
// Unnamed, because these functions are compiled for several instruction sets and the linker must not mix their copies.
namespace {

constexpr float kLog2E = 1.44269504088896340736f;
constexpr float kLn2 = 0.69314718055994530942f;

// Keys that query `query` sees: all T, or under causal (aligned top-left) those at or before it.
AIENG_HD int64_t keys_seen(bool causal, int64_t query, int64_t T) { return causal && query + 1 < T ? query + 1 : T; }

// First query that sees key `key`.
AIENG_HD int64_t first_query(bool causal, int64_t key) { return causal ? key : 0; }

// Natural log-sum-exp of a row from its maximum in powers of two and its sum of 2^(score - maximum); -inf for a row without keys.
AIENG_HD float natural_lse(float max_log2, float sum) {
  return sum > 0.f ? kLn2 * max_log2 + logf(sum) : sum == 0.f ? -INFINITY : sum;
}

}  // namespace
}  // namespace aieng::attention
