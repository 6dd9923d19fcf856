// A whole diffusion step in one pass over memory, 16 bytes of every tensor a thread; not yet measured on a chip.
#include "cuda_step.h"
#include "launch.cuh"
#include "philox.h"
#include "ptx.cuh"

namespace aieng::diffusion {
namespace {

constexpr int kThreads = 256;

enum class Noise { kNone, kGiven, kPhilox };

template <class T>
struct alignas(16) Group {
  static constexpr int kCount = 16 / sizeof(T);
  T x[kCount];
};

template <class T>
__device__ __forceinline__ Group<T> load(const void* tensor, int64_t first, int count, bool whole) {
  const T* const from = static_cast<const T*>(tensor) + first;
  if (whole) return *reinterpret_cast<const Group<T>*>(from);
  Group<T> group = {};
  for (int i = 0; i < Group<T>::kCount; ++i) {
    if (i < count) group.x[i] = from[i];
  }
  return group;
}

template <class T>
__device__ __forceinline__ void store(void* tensor, int64_t first, int count, bool whole, const Group<T>& group) {
  T* const to = static_cast<T*>(tensor) + first;
  if (whole) {
    *reinterpret_cast<Group<T>*>(to) = group;
    return;
  }
  for (int i = 0; i < Group<T>::kCount; ++i) {
    if (i < count) to[i] = group.x[i];
  }
}

// `aligned`: every tensor starts at a multiple of 16 bytes. Everything is read before anything is written: out may be an input.
template <class T, Noise kNoise>
__global__ void __launch_bounds__(kThreads) step_kernel(const Step a, bool aligned) {
  constexpr int kCount = Group<T>::kCount;
  const int64_t first = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kCount;
  if (first >= a.count) return;
  const int count = a.count - first < kCount ? static_cast<int>(a.count - first) : kCount;
  const bool whole = aligned && count == kCount;
  const Group<T> sample = load<T>(a.sample, first, count, whole), cond = load<T>(a.cond, first, count, whole);
  const Group<T> uncond = a.uncond ? load<T>(a.uncond, first, count, whole) : cond;
  float z[kCount] = {};
  if constexpr (kNoise == Noise::kGiven) {
    const Group<T> noise = load<T>(a.noise, first, count, whole);
#pragma unroll
    for (int i = 0; i < kCount; ++i) z[i] = to_float(noise.x[i]);
  }
  if constexpr (kNoise == Noise::kPhilox) {
#pragma unroll
    for (int i = 0; i < kCount; i += 4) normal4(a.seed, a.offset, static_cast<uint64_t>(first + i) / 4, z + i);
  }
  Group<T> out, x0;
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    const Element y = step_element(a.k, to_float(sample.x[i]), to_float(cond.x[i]), to_float(uncond.x[i]), z[i]);
    out.x[i] = round_to<T>(y.previous);
    x0.x[i] = round_to<T>(y.original);
  }
  store(a.out, first, count, whole, out);
  if (a.x0) store(a.x0, first, count, whole, x0);
}

template <class T>
void step_of(const Step& a, void* stream) {
  const uintptr_t all = reinterpret_cast<uintptr_t>(a.sample) | reinterpret_cast<uintptr_t>(a.cond) |
                        reinterpret_cast<uintptr_t>(a.uncond) | reinterpret_cast<uintptr_t>(a.noise) |
                        reinterpret_cast<uintptr_t>(a.out) | reinterpret_cast<uintptr_t>(a.x0);
  const int64_t per_block = int64_t{kThreads} * Group<T>::kCount, blocks = (a.count + per_block - 1) / per_block;
  auto* kernel = a.k.sigma == 0 ? step_kernel<T, Noise::kNone>
                 : a.noise      ? step_kernel<T, Noise::kGiven>
                                : step_kernel<T, Noise::kPhilox>;
  launch("diffusion step", kernel, blocks, kThreads, 0, stream, a, all % 16 == 0);
}

}  // namespace

void step_cuda(const Step& a, Type type, int device, void* stream) {
  const DeviceGuard guard(device);
  switch (type) {
    case Type::kFloat32:
      return step_of<float>(a, stream);
    case Type::kFloat16:
      return step_of<Fp16>(a, stream);
    case Type::kBFloat16:
      return step_of<Bf16>(a, stream);
  }
}

}  // namespace aieng::diffusion
