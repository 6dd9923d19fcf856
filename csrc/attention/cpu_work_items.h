// The sequences of a call as work items of the threads.
#pragma once
#include "attention.h"
#include "cpu_simd.h"

namespace aieng::attention::AIENG_ISA {

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
