// Describes a tensor in global memory to the copy engine of compute capability 9.0.
#pragma once
#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "launch.cuh"
#include "ptx_sm90.cuh"

namespace aieng {

#if defined(__CUDACC__)
// The driver's function, found through the runtime, so that the module loads where there is no driver.
inline PFN_cuTensorMapEncodeTiled_v12000 tensor_map_encoder() {
  static const auto found = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult result;
    check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &result),
          "cuTensorMapEncodeTiled");
    if (result != cudaDriverEntryPointSuccess)
      throw std::runtime_error("cuTensorMapEncodeTiled: the driver is older than CUDA 12.0");
    return reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(function);
  }();
  return found;
}

// Boxes of `box_rows` rows and 64 columns, swizzled by 128 bytes, of 16-bit elements in a tensor of `sizes` (columns, rows, ...),
// whose columns are contiguous and whose other strides, in elements, are given.
template <class T>
TensorMap tensor_map(const char* what, const void* data, std::array<int64_t, 4> sizes, std::array<int64_t, 3> strides,
                     int box_rows) {
  static_assert(sizeof(T) == 2);
  cuuint64_t lengths[4], bytes[3];
  for (int i = 0; i < 4; ++i)
    lengths[i] = static_cast<cuuint64_t>(sizes[i] > 0 ? sizes[i] : 1);  // none is not allowed, and never read
  // The stride of a dimension of one element is never used, but must be a multiple of 16.
  for (int i = 0; i < 3; ++i) bytes[i] = sizes[i + 1] <= 1 ? 16 : static_cast<cuuint64_t>(strides[i]) * sizeof(T);
  const cuuint32_t box[4] = {64, static_cast<cuuint32_t>(box_rows), 1, 1}, steps[4] = {1, 1, 1, 1};
  TensorMap map;
  const CUresult status =
      tensor_map_encoder()(&map, kIsBf16<T> ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16, 4,
                           const_cast<void*>(data), lengths, bytes, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                           CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (status != CUDA_SUCCESS) {
    throw std::runtime_error(std::string(what) + ": cuTensorMapEncodeTiled failed with status " + std::to_string(status));
  }
  return map;
}
#else
template <class T>
TensorMap tensor_map(const char*, const void* data, std::array<int64_t, 4> sizes, std::array<int64_t, 3> strides, int box_rows) {
  static_assert(sizeof(T) == 2);
  return {static_cast<const uint16_t*>(data), sizes, strides, box_rows};
}
#endif

}  // namespace aieng
