// Working memory of one call: a single allocation, cut into cache-line aligned parts of float32.
#pragma once
#include <cstdlib>
#if defined(_OPENMP)
#include <omp.h>
#endif

#include "cpu_simd.h"

namespace aieng::attention::AIENG_ISA {

class Scratch {
 public:
  explicit Scratch(int64_t floats) : data_(static_cast<float*>(std::aligned_alloc(64, padded(floats) * sizeof(float)))) {}
  ~Scratch() { std::free(data_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  float* data() const { return data_; }
  static int64_t padded(int64_t floats) { return round_up(greatest<int64_t>(floats, 1), 16); }

 private:
  float* data_;
};

inline int64_t thread_number() {
#if defined(_OPENMP)
  return omp_get_thread_num();
#else
  return 0;
#endif
}

// Hands out the parts in order; a layout function runs once on a null base to learn the size.
struct Cutter {
  float* base;
  int64_t used = 0;
  float* take(int64_t floats) {
    float* part = base ? base + used : nullptr;
    used += Scratch::padded(floats);
    return part;
  }
};

}  // namespace aieng::attention::AIENG_ISA
