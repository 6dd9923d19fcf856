// Marks the math that lives once and is compiled for the CPU, for CUDA, and for the CUDA-on-CPU shim.
#pragma once

#if defined(__CUDACC__)
#define AIENG_HD __host__ __device__ __forceinline__
#else
#define AIENG_HD inline
#endif
