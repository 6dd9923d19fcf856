// Marks the math that lives once and is compiled for the CPU, for CUDA, and for the CUDA-on-CPU shim.
#pragma once

// On the CPU always inlined, not merely `inline`: the same header is compiled under several instruction sets, and of several
// out-of-line copies the linker keeps any one, which would let AVX-512 code reach a processor without it.
#if defined(__CUDACC__)
#define AIENG_HD __host__ __device__ __forceinline__
#else
#define AIENG_HD inline __attribute__((always_inline))
#endif
