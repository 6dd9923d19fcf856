// A whole diffusion step in one pass over memory, 16 bytes of every tensor at a time. With a history, or with what whole samples
// said before it, not yet run on a chip.
//
// Its time is the memory's only as long as the instructions fit beside it: at 4 TB/s an H200 issues some 50 for an element of two
// 16-bit inputs and an output. So whatever a step lacks is compiled out, indices have 32 bits, and noise is made with
// special functions (cuda_philox.cuh).
#include <algorithm>
#include <cmath>
#include <type_traits>

#include "cuda_philox.cuh"
#include "cuda_step.h"
#include "launch.cuh"

namespace aieng::diffusion {
namespace {

constexpr int kThreads = 128, kEach = 8;  // elements a thread: two Philox blocks
constexpr uint32_t kPerBlock = kThreads * kEach;
constexpr int64_t kChunk = int64_t{1} << 30;  // elements a launch, so that their indices fit; a multiple of kPerBlock

enum class Noise { kNone, kGiven, kPhilox };

// With a history, whether x0 is clipped and kept is seen at run time: it adds a tensor, beside which those instructions fit. With
// scales of samples, whether there is a history is too.
template <Noise kSource, bool kGuidance, bool kClip, bool kX0, bool kHistoric = false, bool kScaling = false>
struct Form {
  static constexpr Noise kNoise = kSource;
  static constexpr bool kGuided = kGuidance, kClipped = kClip, kOriginal = kX0, kHistory = kHistoric, kScaled = kScaling;
};

// Of one sample.
struct Scale {
  float factor = 1.0f, bound = 0.0f, inverse = 0.0f;  // of the bound, 0 if there is none
};

// x over the bound: a product with its inverse and a step of Newton's, which makes 1 of the bound itself; the operator would call a
// function for what is out of range.
__device__ __forceinline__ float over_bound(float x, const Scale& scale) {
  const float quotient = x * scale.inverse;
  return fmaf(fmaf(-scale.bound, quotient, x), scale.inverse, quotient);
}

template <class T>
struct Chunk {
  const T *sample, *cond, *uncond, *noise, *history;
  T *out, *x0;
  uint32_t count;
  bool aligned;  // every tensor starts at a multiple of 16 bytes
  Coefficients k;
};

// The scales of the samples from the one on that the chunk begins in, `before` elements behind that sample's begin.
struct Samples {
  const float *factor, *bound;
  uint32_t before, size;
};
struct NoSamples {};

template <class F>
using SamplesOf = std::conditional_t<F::kScaled, Samples, NoSamples>;

// 16 bytes of a tensor, as registers.
template <class T>
struct alignas(16) Group {
  static constexpr int kCount = 16 / sizeof(T);
  uint32_t words[4];
};

template <class T>
__device__ __forceinline__ Group<T> load(const T* tensor, uint32_t i) {
  return *reinterpret_cast<const Group<T>*>(tensor + i);
}

template <class T>
__device__ __forceinline__ void widen(const Group<T>& group, float (&x)[Group<T>::kCount]) {
#pragma unroll
  for (int w = 0; w < 4; ++w) {
    if constexpr (Group<T>::kCount == 4) {
      x[w] = float_from_bits(group.words[w]);
    } else {
      unpack<T>(group.words[w], x[2 * w], x[2 * w + 1]);
    }
  }
}

template <class T>
__device__ __forceinline__ void store(T* tensor, uint32_t i, const float (&x)[Group<T>::kCount]) {
  Group<T> group;
#pragma unroll
  for (int w = 0; w < 4; ++w) {
    if constexpr (Group<T>::kCount == 4) {
      group.words[w] = bits_from_float(x[w]);
    } else {
      group.words[w] = pack<T>(x[2 * w], x[2 * w + 1]);
    }
  }
  *reinterpret_cast<Group<T>*>(tensor + i) = group;
}

// Of the sample that element i of the chunk is in.
template <class F>
__device__ __forceinline__ Scale scale_at(const SamplesOf<F>& all, uint32_t i) {
  Scale scale;
  if constexpr (F::kScaled) {
    const uint32_t sample = (all.before + i) / all.size;
    if (all.factor) scale.factor = all.factor[sample];
    if (all.bound) {
      scale.bound = all.bound[sample];
      scale.inverse = __fdividef(1.0f, scale.bound);
    }
  }
  return scale;
}

template <class F>
__device__ __forceinline__ Element element(const Coefficients& k, const Scale& scale, float x, float e, float uncond, float y,
                                           float z) {
  if constexpr (F::kGuided) e = uncond + k.guidance * (e - uncond);
  if constexpr (F::kScaled) e *= scale.factor;
  float original = k.p * x + k.q * e;
  if constexpr (F::kClipped) original = clamp_or_nan(original, -k.clip, k.clip);
  if constexpr (F::kScaled) {
    if (scale.bound != 0.0f) original = over_bound(clamp_or_nan(original, -scale.bound, scale.bound), scale);
  }
  float previous = k.r * original + (k.s * x + k.t * e);
  if constexpr (F::kHistory) previous += k.h * y;
  if constexpr (F::kNoise != Noise::kNone) previous += k.sigma * z;
  return {previous, original};
}

// Normals of elements i .. i + kCount - 1, i a multiple of four.
template <int kCount>
__device__ __forceinline__ void normals(const PhiloxStream& stream, uint32_t i, float (&z)[kCount]) {
#pragma unroll
  for (int n = 0; n < kCount; n += 4) {
    uint32_t words[4];
    philox_words(stream, (i + n) / 4, words);
    normal_pair(words[0], words[1], z[n], z[n + 1]);
    normal_pair(words[2], words[3], z[n + 2], z[n + 3]);
  }
}

// A thread's part of a whole block of aligned tensors, all of one sample. Everything is read before anything is written: out may be
// an input.
template <class T, class F>
__device__ __forceinline__ void whole(const Chunk<T>& a, const SamplesOf<F>& all, const PhiloxStream& stream, uint32_t first) {
  constexpr int kCount = Group<T>::kCount, kGroups = kEach / kCount;
  Group<T> sample[kGroups], cond[kGroups], uncond[kGroups], noise[kGroups], history[kGroups];
#pragma unroll
  for (int g = 0; g < kGroups; ++g) {
    const uint32_t i = first + (g * kThreads + threadIdx.x) * kCount;
    sample[g] = load(a.sample, i);
    cond[g] = load(a.cond, i);
    if constexpr (F::kGuided) uncond[g] = load(a.uncond, i);
    if constexpr (F::kNoise == Noise::kGiven) noise[g] = load(a.noise, i);
    if constexpr (F::kHistory) history[g] = F::kScaled && !a.history ? Group<T>{} : load(a.history, i);
  }
  const Scale scale = scale_at<F>(all, first);
#pragma unroll
  for (int g = 0; g < kGroups; ++g) {
    const uint32_t i = first + (g * kThreads + threadIdx.x) * kCount;
    float x[kCount], c[kCount], u[kCount] = {}, y[kCount] = {}, z[kCount] = {}, previous[kCount], original[kCount];
    if constexpr (F::kNoise == Noise::kGiven) widen(noise[g], z);
    if constexpr (F::kNoise == Noise::kPhilox) normals(stream, i, z);
    widen(sample[g], x);
    widen(cond[g], c);
    if constexpr (F::kGuided) widen(uncond[g], u);
    if constexpr (F::kHistory) widen(history[g], y);
#pragma unroll
    for (int n = 0; n < kCount; ++n) {
      const Element made = element<F>(a.k, scale, x[n], c[n], u[n], y[n], z[n]);
      previous[n] = made.previous;
      original[n] = made.original;
    }
    store(a.out, i, previous);
    if (F::kHistory ? a.x0 != nullptr : F::kOriginal) store(a.x0, i, original);
  }
}

// The same one by one, for the last block, for tensors that are not aligned, and where two samples meet.
template <class T, class F>
__device__ __forceinline__ void part(const Chunk<T>& a, const SamplesOf<F>& all, const PhiloxStream& stream, uint32_t first) {
#pragma unroll 1
  for (uint32_t i = first + threadIdx.x * 4; i < first + kPerBlock && i < a.count; i += kThreads * 4) {
    float z[4] = {};
    if constexpr (F::kNoise == Noise::kPhilox) normals(stream, i, z);
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      if (i + n >= a.count) break;
      float u = 0.0f, y = 0.0f;
      if constexpr (F::kGuided) u = to_float(a.uncond[i + n]);
      if constexpr (F::kNoise == Noise::kGiven) z[n] = to_float(a.noise[i + n]);
      if constexpr (F::kHistory) y = F::kScaled && !a.history ? 0.0f : to_float(a.history[i + n]);
      const Scale scale = scale_at<F>(all, i + n);
      const Element made = element<F>(a.k, scale, to_float(a.sample[i + n]), to_float(a.cond[i + n]), u, y, z[n]);
      a.out[i + n] = round_to<T>(made.previous);
      if (F::kHistory ? a.x0 != nullptr : F::kOriginal) a.x0[i + n] = round_to<T>(made.original);
    }
  }
}

template <class T, class F>
__global__ void __launch_bounds__(kThreads) step_kernel(const Chunk<T> a, const PhiloxStream stream, const SamplesOf<F> all) {
  const uint32_t first = blockIdx.x * kPerBlock;
  bool together = true;
  if constexpr (F::kScaled) {
    together = (all.before + first) / all.size == (all.before + first + kPerBlock - 1) / all.size;
  }
  if (a.aligned && together && first + kPerBlock <= a.count) {
    whole<T, F>(a, all, stream, first);
  } else {
    part<T, F>(a, all, stream, first);
  }
}

// Calls `then` with std::true_type or std::false_type.
template <class Then>
void with(bool flag, Then then) {
  flag ? then(std::true_type{}) : then(std::false_type{});
}

template <class T, class F>
void step_in(const Step& a, const Scales& scales, void* stream) {
  const auto at = [](const void* tensor, int64_t start) { return tensor ? static_cast<const T*>(tensor) + start : nullptr; };
  uintptr_t all = 0;
  for (const void* tensor : {a.sample, a.cond, a.uncond, a.noise, a.history}) all |= reinterpret_cast<uintptr_t>(tensor);
  for (void* tensor : {a.out, a.x0}) all |= reinterpret_cast<uintptr_t>(tensor);
  Coefficients k = a.k;
  if (!a.history) k.h = 0;  // where a kernel looks for a history as it runs, none is zeros, which an h of NaN would spoil
  for (int64_t start = 0; start < a.count; start += kChunk) {
    const int64_t count = std::min(kChunk, a.count - start);
    const Chunk<T> chunk{at(a.sample, start),
                         at(a.cond, start),
                         at(a.uncond, start),
                         at(a.noise, start),
                         at(a.history, start),
                         const_cast<T*>(at(a.out, start)),
                         const_cast<T*>(at(a.x0, start)),
                         static_cast<uint32_t>(count),
                         all % 16 == 0,
                         k};
    const PhiloxStream words = philox_stream(a.seed, a.offset, static_cast<uint64_t>(start) / 4);
    SamplesOf<F> samples{};
    if constexpr (F::kScaled) {
      const int64_t first = start / scales.size;
      samples.factor = scales.factor ? scales.factor + first : nullptr;
      samples.bound = scales.bound ? scales.bound + first : nullptr;
      samples.before = static_cast<uint32_t>(start % scales.size);
      samples.size = static_cast<uint32_t>(scales.size);
    }
    launch("diffusion step", step_kernel<T, F>, (count + kPerBlock - 1) / kPerBlock, kThreads, 0, stream, chunk, words, samples);
  }
}

template <class T, Noise kNoise>
void step_of(const Step& a, const Scales& s, void* stream) {
  with(a.uncond, [&](auto guided) {
    if (s.factor || s.bound) return step_in<T, Form<kNoise, guided.value, true, true, true, true>>(a, s, stream);
    if (a.history) return step_in<T, Form<kNoise, guided.value, true, true, true>>(a, s, stream);
    with(a.k.clip < INFINITY, [&](auto clipped) {
      with(a.x0, [&](auto original) { step_in<T, Form<kNoise, guided.value, clipped.value, original.value>>(a, s, stream); });
    });
  });
}

template <class T>
void step_of(const Step& a, const Scales& s, void* stream) {
  if (a.k.sigma == 0) return step_of<T, Noise::kNone>(a, s, stream);
  a.noise ? step_of<T, Noise::kGiven>(a, s, stream) : step_of<T, Noise::kPhilox>(a, s, stream);
}

}  // namespace

void step_cuda(const Step& a, const Scales& scales, Type type, int device, void* stream) {
  const DeviceGuard guard(device);
  switch (type) {
    case Type::kFloat32:
      return step_of<float>(a, scales, stream);
    case Type::kFloat16:
      return step_of<Fp16>(a, scales, stream);
    case Type::kBFloat16:
      return step_of<Bf16>(a, scales, stream);
  }
}

}  // namespace aieng::diffusion
