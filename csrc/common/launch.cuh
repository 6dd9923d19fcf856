// How a kernel is launched: on the device and stream the caller names by number, every call checked.
// The same source runs on a CPU where the tests' shim takes CUDA's place; so kernels use one-dimensional grids and dynamic
// shared memory only, and reach everything that is not plain C++ through ptx.cuh.
#pragma once
#include <cstdint>
#include <stdexcept>
#include <string>

#if defined(__CUDACC__)
#include <cuda_runtime.h>
#else
#include "cuda_shim.h"
#endif

namespace aieng {

// Every chip from compute capability 8.0 on lends one block this much (8.6 and 8.9 no more); 9.0 lends 227 KB.
constexpr size_t kLeastSharedBytes = 99 * 1024;
constexpr size_t kUnaskedSharedBytes = 48 * 1024;

inline void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess) throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(status));
}

// Makes a device current until the end of the scope.
class DeviceGuard {
 public:
  explicit DeviceGuard(int device) {
    check(cudaGetDevice(&before_), "cudaGetDevice");
    if (device != before_) check(cudaSetDevice(device), "cudaSetDevice");
    changed_ = device != before_;
  }
  ~DeviceGuard() {
    if (changed_) cudaSetDevice(before_);
  }
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  int before_ = 0;
  bool changed_ = false;
};

// Starts `kernel` on `blocks` blocks with `shared` bytes of dynamic shared memory each; nothing at all for zero blocks.
template <class... Parameters, class... Arguments>
void launch(const char* what, void (*kernel)(Parameters...), int64_t blocks, int threads, size_t shared, void* stream,
            Arguments... arguments) {
  if (blocks == 0) return;
  if (blocks > INT32_MAX) throw std::invalid_argument(std::string(what) + ": more blocks than a grid holds; split the batch");
#if defined(__CUDACC__)
  if (shared > kUnaskedSharedBytes) {
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)), what);
  }
  kernel<<<static_cast<unsigned>(blocks), threads, shared, static_cast<cudaStream_t>(stream)>>>(arguments...);
  check(cudaGetLastError(), what);
#else
  (void)stream;
  shim::run_grid(what, blocks, threads, shared, [&] { kernel(arguments...); });
#endif
}

}  // namespace aieng
