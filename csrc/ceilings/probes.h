// What one instruction set offers to the micro-benchmarks: functions that each do a known amount of work and nothing else.
#pragma once
#include <cstdint>

namespace aieng::ceilings {

// Runs `steps` steps on registers; the result depends on all of them, so that no compiler may leave one out.
using Compute = float (*)(std::int64_t steps);

// Goes `passes` times over arrays of `count` floats: reads a (and b), writes c; which of them, its kind says.
using Stream = float (*)(const float* a, const float* b, float* c, std::int64_t count, std::int64_t passes);

struct ComputeProbe {
  const char* kind;  // "fma", "dot", "exp"
  Compute run;
  double operations;  // per step
};

struct StreamProbe {
  const char* kind;  // "read", "write", "copy", "add"
  Stream run;
};

// Streams take counts that are a multiple of this many floats (eight of the widest vectors).
constexpr std::int64_t kBlock = 128;

// Plain arrays: a standard container used in a file compiled for AVX-512 would leave AVX-512 code under a name that the linker
// may choose for every file.
struct Probes {
  const ComputeProbe* compute;
  int computes;
  const StreamProbe* stream;
  int streams;
};

Probes portable_probes();
Probes library_probes();
#if defined(__x86_64__)
Probes avx2_probes();
Probes avx512_probes();
Probes avx512_bf16_probes();
#endif

}  // namespace aieng::ceilings
