// A parallel loop over ranges with an explicit number of threads, from the pool that torch uses too (both bind to one OpenMP).
#pragma once
#include <cstdint>

#include "hd.h"

namespace aieng {

// body(begin, end) over [0, count) in `threads` ranges that start at multiples of `align`; in the calling thread if that is one.
template <class Body>
AIENG_HD void parallel_ranges(std::int64_t count, std::int64_t align, int threads, const Body& body) {
  if (threads <= 1) {
    body(std::int64_t{0}, count);
    return;
  }
  const std::int64_t share = ((count + threads - 1) / threads + align - 1) / align * align;
#ifdef _OPENMP
#pragma omp parallel for num_threads(threads) schedule(static, 1)
#endif
  for (int i = 0; i < threads; ++i) {
    const std::int64_t begin = i * share, end = begin + share;
    if (begin < count) body(begin, end < count ? end : count);
  }
}

}  // namespace aieng
