// What each whole sample says before its step: the factor that rescales guidance and the bound of dynamic thresholding.
//
// A block a sample, which reads it up to six times; x0 is made again each time, so that no memory is asked for to keep it.
// The simplest form, not yet run on a chip: a batch of few large samples leaves most of a GPU idle.
#include <cmath>
#include <stdexcept>

#include "cuda_step.h"
#include "half.h"
#include "launch.cuh"
#include "ptx.cuh"

namespace aieng::diffusion {
namespace {

constexpr int kThreads = 512, kWarp = 32, kBins = 256;
constexpr uint32_t kLargest = 0x7FFFFFFFu, kInfinity = 0x7F800000u;

template <class T>
struct Sample {
  const T *sample, *cond, *uncond;
  int64_t size;
  Coefficients k;
};

// What is asked: a rescaling and, between the magnitudes of `rank` and the next as `weight` says, a quantile.
struct Asked {
  float rescale, weight, most, share;  // the last: of one element in its sample
  uint32_t rank;
};

// What the block's threads share.
struct Shared {
  float sums[kThreads / kWarp][4];
  uint32_t counts[kBins];
  uint32_t found, within, equal;  // the digits known so far; the rank among those that begin so; how many there are
  uint32_t above, greatest;
};

template <class T>
__device__ __forceinline__ float guided(const Sample<T>& a, int64_t i) {
  const float e = to_float(a.cond[i]);
  if (!a.uncond) return e;
  const float u = to_float(a.uncond[i]);
  return u + a.k.guidance * (e - u);
}

// The bits of |x0|, which order as the numbers do, with NaN above them all.
template <class T>
__device__ __forceinline__ uint32_t magnitude(const Sample<T>& a, float factor, int64_t i) {
  const float e = guided(a, i) * factor;
  return bits_from_float(a.k.p * to_float(a.sample[i]) + a.k.q * e) & kLargest;
}

// rescale std(c) / std(e) + 1 - rescale: arXiv:2305.08891, equations 15 and 16. The sums are of deviations from the sample's first
// element, whose squares do not cancel as those of the values may.
template <class T>
__device__ __forceinline__ float factor_of(const Sample<T>& a, const Asked& asked, Shared& s) {
  const float first_c = to_float(a.cond[0]), first_e = guided(a, 0);
  float sums[4] = {};
  for (int64_t i = threadIdx.x; i < a.size; i += kThreads) {
    const float c = to_float(a.cond[i]) - first_c, e = guided(a, i) - first_e;
    sums[0] += c;
    sums[1] += c * c;
    sums[2] += e;
    sums[3] += e * e;
  }
#pragma unroll
  for (int n = 0; n < 4; ++n) {
    for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) sums[n] += shuffle_xor(sums[n], lanes);
    if (threadIdx.x % kWarp == 0) s.sums[threadIdx.x / kWarp][n] = sums[n];
  }
  __syncthreads();
#pragma unroll
  for (int n = 0; n < 4; ++n) {
    sums[n] = 0.0f;
    for (int warp = 0; warp < kThreads / kWarp; ++warp) sums[n] += s.sums[warp][n];
    sums[n] *= asked.share;
  }
  const float ratio = __fdividef(sums[1] - sums[0] * sums[0], sums[3] - sums[2] * sums[2]);  // 2 ulp, without a call
  return asked.rescale * fast_sqrt(ratio) + (1.0f - asked.rescale);
}

// One digit of a radix selection, the bits kShift .. kShift + kWidth - 1, among the magnitudes that begin with s.found.
template <int kShift, int kWidth, class T>
__device__ __forceinline__ void digit(const Sample<T>& a, float factor, Shared& s) {
  const uint32_t found = s.found, within = s.within;
  for (uint32_t bin = threadIdx.x; bin < kBins; bin += kThreads) s.counts[bin] = 0;
  __syncthreads();
  for (int64_t i = threadIdx.x; i < a.size; i += kThreads) {
    const uint32_t bits = magnitude(a, factor, i);
    if (bits >> (kShift + kWidth) == found) atomicAdd(&s.counts[bits >> kShift & ((1u << kWidth) - 1)], 1u);
  }
  __syncthreads();
  if (threadIdx.x < kBins) {
    uint32_t below = 0;
    for (uint32_t bin = 0; bin < threadIdx.x; ++bin) below += s.counts[bin];
    const uint32_t count = s.counts[threadIdx.x];
    if (below <= within && within < below + count) {
      s.found = found << kWidth | threadIdx.x;
      s.within = within - below;
      s.equal = count;
    }
  }
  __syncthreads();
}

// The quantile of |x0|, at least 1 and at most `most`, NaN if any is: arXiv:2205.11487, section 2.3.
template <class T>
__device__ __forceinline__ float bound_of(const Sample<T>& a, float factor, const Asked& asked, Shared& s) {
  if (threadIdx.x == 0) {
    s.found = 0;
    s.within = asked.rank;
    s.above = kLargest;
    s.greatest = 0;
  }
  __syncthreads();
  digit<23, 8>(a, factor, s);
  digit<15, 8>(a, factor, s);
  digit<7, 8>(a, factor, s);
  digit<0, 7>(a, factor, s);
  const uint32_t found = s.found;
  uint32_t above = kLargest, greatest = 0;
  for (int64_t i = threadIdx.x; i < a.size; i += kThreads) {
    const uint32_t bits = magnitude(a, factor, i);
    if (bits > found && bits < above) above = bits;
    if (bits > greatest) greatest = bits;
  }
  atomicMin(&s.above, above);
  atomicMax(&s.greatest, greatest);
  __syncthreads();
  if (s.greatest > kInfinity) return float_from_bits(s.greatest);
  const float low = float_from_bits(found), high = float_from_bits(s.within + 1 < s.equal ? found : s.above);
  float bound = asked.weight == 0.0f ? low : low + asked.weight * (high - low);
  bound = bound > 1.0f ? bound : 1.0f;
  return bound < asked.most ? bound : asked.most;
}

template <class T>
__global__ void __launch_bounds__(kThreads) scales_kernel(const Sample<T> first, const Asked asked, const Scales scales) {
  Shared& shared = *reinterpret_cast<Shared*>(shared_memory());
  const int64_t begin = static_cast<int64_t>(blockIdx.x) * first.size;
  Sample<T> a = first;
  a.sample += begin;
  a.cond += begin;
  if (a.uncond) a.uncond += begin;
  float factor = 1.0f;
  if (scales.factor) {
    factor = factor_of(a, asked, shared);
    if (threadIdx.x == 0) scales.factor[blockIdx.x] = factor;
  }
  if (scales.bound) {
    const float bound = bound_of(a, factor, asked, shared);
    if (threadIdx.x == 0) scales.bound[blockIdx.x] = bound;
  }
}

template <class T>
void scales_in(const Step& a, const Scales& scales, void* stream) {
  const double position = a.ratio * static_cast<double>(scales.size - 1), rank = std::floor(position);
  const auto tensor = [](const void* at) { return static_cast<const T*>(at); };
  const Sample<T> first{tensor(a.sample), tensor(a.cond), tensor(a.uncond), scales.size, a.k};
  const Asked asked{static_cast<float>(a.rescale), static_cast<float>(position - rank), static_cast<float>(a.most),
                    static_cast<float>(1 / static_cast<double>(scales.size)), static_cast<uint32_t>(rank)};
  launch("scales of samples", scales_kernel<T>, a.samples, kThreads, sizeof(Shared), stream, first, asked, scales);
}

}  // namespace

void scales_cuda(const Step& a, const Scales& scales, Type type, int device, void* stream) {
  if (scales.size > INT32_MAX) throw std::invalid_argument("sample: 2^31 elements or more are not rescaled or thresholded in CUDA");
  const DeviceGuard guard(device);
  switch (type) {
    case Type::kFloat32:
      return scales_in<float>(a, scales, stream);
    case Type::kFloat16:
      return scales_in<Fp16>(a, scales, stream);
    case Type::kBFloat16:
      return scales_in<Bf16>(a, scales, stream);
  }
}

}  // namespace aieng::diffusion
