// Run-time instruction-set dispatch: one binary, the best code that this processor runs.
#pragma once
#include <string>
#include <vector>

namespace aieng {

inline bool has_avx2() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
  return false;
#endif
}

// F, BW, DQ and VL together: what every AVX-512 server core since Skylake has.
inline bool has_avx512() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl") && has_avx2();
#else
  return false;
#endif
}

inline bool has_avx512_bf16() {
#if defined(__x86_64__)
  return has_avx512() && __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

inline std::vector<std::string> cpu_features() {
  std::vector<std::string> found;
  if (has_avx2()) found.emplace_back("avx2");
  if (has_avx512()) found.emplace_back("avx512");
  if (has_avx512_bf16()) found.emplace_back("avx512_bf16");
  return found;
}

}  // namespace aieng
