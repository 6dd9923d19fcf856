// Working memory of one call: a single block, cut into cache-line aligned parts of float32.
#pragma once
#include <cstdlib>
#if defined(_OPENMP)
#include <omp.h>
#endif

#include "cpu_simd.h"

namespace aieng::attention::AIENG_ISA {

// A calling thread keeps its block for its next call, up to kKept: malloc would hand a block of this size back to the system, and
// each call would then fault its pages in anew, which for short sequences takes longer than attention itself.
class Scratch {
 public:
  explicit Scratch(int64_t floats) : large_(floats > kKept) {
    static thread_local Memory kept;
    Memory& memory = large_ ? own_ : kept;
    if (memory.floats < floats) memory.take(floats);
    data_ = memory.data;
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  float* data() const { return data_; }
  static int64_t padded(int64_t floats) { return round_up(greatest<int64_t>(floats, 1), 16); }

 private:
#if defined(AIENG_KEEP_NO_SCRATCH)
  static constexpr int64_t kKept = 0;  // for sanitizers, which see only what is allocated
#else
  static constexpr int64_t kKept = int64_t{4} << 20;  // floats: 16 MiB
#endif

  struct Memory {
    float* data = nullptr;
    int64_t floats = 0;
    ~Memory() { std::free(data); }
    void take(int64_t wanted) {
      std::free(data);
      data = static_cast<float*>(std::aligned_alloc(64, padded(wanted) * sizeof(float)));
      floats = data ? padded(wanted) : 0;
    }
  };

  bool large_;
  Memory own_;
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
