// What only compute capability 9.0 (sm_90a) can say: tiles copied by the tensor memory accelerator, barriers that count bytes,
// products of whole warpgroups, registers moved between them. Plain PTX under nvcc; the tests' shim has the same meanings.
// Source: NVIDIA, Parallel Thread Execution ISA 8.8, chapters 9.7.13 (mbarrier), 9.7.9 (cp.async.bulk.tensor), 9.7.15 (wgmma).
#pragma once
#include "ptx.cuh"

#if !defined(__CUDACC__)
#include "ptx_sm90_shim.h"
#else
#include <cuda.h>
#include <cudaTypedefs.h>

namespace aieng {

using TensorMap = CUtensorMap;
using Matrix = uint64_t;

// The next multiple of 1024 bytes of shared memory.
__device__ __forceinline__ unsigned char* align_1024(unsigned char* p) { return p + (-shared_address(p) & 1023u); }

struct alignas(8) Barrier {
  uint64_t state;
};

// A phase of the barrier ends when `arrivals` threads have arrived and every byte that was announced is there.
__device__ __forceinline__ void barrier_init(Barrier* barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}
// After the initialisations and before __syncthreads: the copy engine sees them too.
__device__ __forceinline__ void barrier_init_fence() {
  asm volatile("fence.mbarrier_init.release.cluster;\n\tfence.proxy.async.shared::cta;" ::: "memory");
}
__device__ __forceinline__ void barrier_arrive(Barrier* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}
// Arrives, and announces bytes that copies will bring.
__device__ __forceinline__ void barrier_expect(Barrier* barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes) : "memory");
}
// Until the phase of this parity has ended; the first phase has parity 0.
__device__ __forceinline__ void barrier_wait(Barrier* barrier, int parity) {
  asm volatile(
      "{\n\t.reg .pred done;\n\t"
      "again:\n\t"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n\t"
      "@done bra end;\n\t"
      "bra again;\n\t"
      "end:\n\t}" ::"r"(shared_address(barrier)),
      "r"(parity)
      : "memory");
}

// A box of a 4-dimensional tensor to shared memory (at a multiple of 1024 bytes), zeros for what lies outside the tensor.
__device__ __forceinline__ void copy_box(void* shared, const TensorMap* map, int c0, int c1, int c2, int c3, Barrier* barrier) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(
          shared_address(shared)),
      "l"(map), "r"(shared_address(barrier)), "r"(c0), "r"(c1), "r"(c2), "r"(c3)
      : "memory");
}

// How many registers each thread of the calling warpgroup has from here on.
template <int Count>
__device__ __forceinline__ void registers_grow() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Count));
}
template <int Count>
__device__ __forceinline__ void registers_shrink() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Count));
}

// Whether `x` holds for any lane of the warp.
__device__ __forceinline__ bool any_lane(bool x) { return __any_sync(0xffffffffu, x); }

// A matrix of 16-bit elements in shared memory as the tensor cores take it, in panels of 64 columns whose rows are 128 bytes,
// swizzled by 128 bytes, starting at a multiple of 1024 bytes. `panel_bytes` is from one panel to the next, where they are read
// across rows (a right operand that is not transposed).
__device__ __forceinline__ Matrix matrix_descriptor(const void* shared, int panel_bytes) {
  constexpr uint64_t kSwizzle128 = 1ull << 62, kEightRows = 1024 >> 4;
  return kSwizzle128 | kEightRows << 32 | static_cast<uint64_t>(panel_bytes >> 4) << 16 |
         static_cast<uint64_t>((shared_address(shared) & 0x3FFFF) >> 4);
}
__device__ __forceinline__ Matrix advance(Matrix descriptor, int bytes) { return descriptor + (bytes >> 4); }

// Products are issued between a fence (registers written before are seen) and a commit; wait<n>: all but the n youngest commits
// have finished. Until then nothing may touch their registers; `pin` after the wait keeps the compiler from doing so earlier.
__device__ __forceinline__ void products_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void products_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int Pending>
__device__ __forceinline__ void products_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Pending) : "memory");
}
template <int N>
__device__ __forceinline__ void pin(float (&d)[N][4]) {
#pragma unroll
  for (int n = 0; n < N; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) asm volatile("" : "+f"(d[n][i])::"memory");
  }
}

// The accumulators of a warpgroup's 64 x 8·N product, and their places in the instruction's text, eight at a time.
#define AIENG_E(i)                                                                                                          \
  "+f"(d[2 * i][0]), "+f"(d[2 * i][1]), "+f"(d[2 * i][2]), "+f"(d[2 * i][3]), "+f"(d[2 * i + 1][0]), "+f"(d[2 * i + 1][1]), \
      "+f"(d[2 * i + 1][2]), "+f"(d[2 * i + 1][3])
#define AIENG_E4 AIENG_E(0), AIENG_E(1), AIENG_E(2), AIENG_E(3)
#define AIENG_E8 AIENG_E4, AIENG_E(4), AIENG_E(5), AIENG_E(6), AIENG_E(7)
#define AIENG_E11 AIENG_E8, AIENG_E(8), AIENG_E(9), AIENG_E(10)
#define AIENG_E16 AIENG_E11, AIENG_E(11), AIENG_E(12), AIENG_E(13), AIENG_E(14), AIENG_E(15)
#define AIENG_T4                                                           \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define AIENG_T8                                                                                                               \
  AIENG_T4                                                                                                                     \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, " \
  "%56, %57, %58, %59, %60, %61, %62, %63"
#define AIENG_T11 \
  AIENG_T8        \
  ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, %80, %81, %82, %83, %84, %85, %86, %87"
#define AIENG_T16                                                                                                  \
  AIENG_T11                                                                                                        \
  ", %88, %89, %90, %91, %92, %93, %94, %95, %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, " \
  "%108, %109, %110, %111, %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"

// AIENG_PRODUCT(columns, eights, type, places): left operand from shared memory, or from registers.
#define AIENG_SHARED_PRODUCT(columns, eights, type, a, b, flag)                                                                  \
  asm volatile("{\n\t.reg .pred p;\n\tsetp.ne.b32 p, " flag ", 0;\n\twgmma.mma_async.sync.aligned.m64n" #columns "k16.f32." type \
               "." type " {" AIENG_T##eights "}, " a ", " b ", p, 1, 1, 0, 0;\n\t}"                                              \
               : AIENG_E##eights                                                                                                 \
               : "l"(left), "l"(right), "r"(static_cast<int>(accumulate)))
#define AIENG_REGISTER_PRODUCT(columns, eights, type, a0, a1, a2, a3, b, flag)                                                   \
  asm volatile("{\n\t.reg .pred p;\n\tsetp.ne.b32 p, " flag ", 0;\n\twgmma.mma_async.sync.aligned.m64n" #columns "k16.f32." type \
               "." type " {" AIENG_T##eights "}, {" a0 ", " a1 ", " a2 ", " a3 "}, " b ", p, 1, 1, 1;\n\t}"                      \
               : AIENG_E##eights                                                                                                 \
               : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "l"(right), "r"(static_cast<int>(accumulate)))

template <class T>
constexpr bool kIsBf16 = false;
template <>
constexpr bool kIsBf16<Bf16> = true;

// d (64 x 8·N) = a (64 x 16) · bᵀ (8·N x 16), plus d itself if `accumulate`; rows of both lie in panels.
template <class T, int N>
__device__ __forceinline__ void product_of_rows(float (&d)[N][4], Matrix left, Matrix right, bool accumulate) {
  static_assert(N == 8 || N == 16 || N == 22);
  if constexpr (kIsBf16<T>) {
    if constexpr (N == 8) AIENG_SHARED_PRODUCT(64, 4, "bf16", "%32", "%33", "%34");
    if constexpr (N == 16) AIENG_SHARED_PRODUCT(128, 8, "bf16", "%64", "%65", "%66");
    if constexpr (N == 22) AIENG_SHARED_PRODUCT(176, 11, "bf16", "%88", "%89", "%90");
  } else {
    if constexpr (N == 8) AIENG_SHARED_PRODUCT(64, 4, "f16", "%32", "%33", "%34");
    if constexpr (N == 16) AIENG_SHARED_PRODUCT(128, 8, "f16", "%64", "%65", "%66");
    if constexpr (N == 22) AIENG_SHARED_PRODUCT(176, 11, "f16", "%88", "%89", "%90");
  }
}

// d (64 x 8·N) = a (64 x 16, in registers) · b (16 x 8·N), plus d itself if `accumulate`; b's rows lie in panels.
template <class T, int N>
__device__ __forceinline__ void product_with_columns(float (&d)[N][4], const uint32_t (&left)[4], Matrix right, bool accumulate) {
  static_assert(N == 8 || N == 16 || N == 32);
  if constexpr (kIsBf16<T>) {
    if constexpr (N == 8) AIENG_REGISTER_PRODUCT(64, 4, "bf16", "%32", "%33", "%34", "%35", "%36", "%37");
    if constexpr (N == 16) AIENG_REGISTER_PRODUCT(128, 8, "bf16", "%64", "%65", "%66", "%67", "%68", "%69");
    if constexpr (N == 32) AIENG_REGISTER_PRODUCT(256, 16, "bf16", "%128", "%129", "%130", "%131", "%132", "%133");
  } else {
    if constexpr (N == 8) AIENG_REGISTER_PRODUCT(64, 4, "f16", "%32", "%33", "%34", "%35", "%36", "%37");
    if constexpr (N == 16) AIENG_REGISTER_PRODUCT(128, 8, "f16", "%64", "%65", "%66", "%67", "%68", "%69");
    if constexpr (N == 32) AIENG_REGISTER_PRODUCT(256, 16, "f16", "%128", "%129", "%130", "%131", "%132", "%133");
  }
}

}  // namespace aieng
#endif
