// The step's loop, written once: each instruction set's file includes it with its own lane set V, and keeps its copy to itself.
//
// V offers the lanes of philox.h, and: kWidth floats; load, store and stream (a store past the caches, address aligned to kAlign)
// of float, Half and BFloat16; clamp, where NaN passes; keep(at, x, bar): stores those lanes of x whose magnitudes are not below
// the bar one after the other, with no more than kWidth floats written, and says how many they are; normals(seed, offset, block,
// groups, z): 4 * kWidth normals for each of `groups`, from Philox block `block` on, in order.
#pragma once
#include <cstring>
#include <memory>

#include "cpu_samples.h"
#include "diffusion.h"
#include "half.h"
#include "parallel.h"
#include "philox.h"

namespace aieng::diffusion {
namespace {

enum class Noise { kNone, kGiven, kPhilox };
// Normals made before the elements that take them: enough for two short loops, few beside a first-level cache; a multiple of every
// block.
constexpr std::int64_t kNormals = 512;

// 4 * kWidth elements from index i on; `normals` are theirs, read with kPhilox.
template <class V, Noise kNoise, bool kHistory, bool kStream, class T>
AIENG_HD void block(const Vectors<V>& k, const Tensors<T>& a, std::int64_t i, const float* normals) {
  using F = typename V::Float;
  for (int v = 0; v < 4; ++v, i += V::kWidth) {
    const F x = V::load(a.sample + i);
    const F e = guided<V>(k, a, i);
    const F original = V::clamp(V::fma(k.p, x, V::mul(k.q, e)), k.low, k.high);
    F previous = V::fma(k.r, original, V::fma(k.s, x, V::mul(k.t, e)));
    if constexpr (kHistory) previous = V::fma(k.h, V::load(a.history + i), previous);
    if constexpr (kNoise == Noise::kGiven) previous = V::fma(k.sigma, V::load(a.noise + i), previous);
    if constexpr (kNoise == Noise::kPhilox) previous = V::fma(k.sigma, V::load(normals + v * V::kWidth), previous);
    if constexpr (kStream) {
      V::stream(a.out + i, previous);
      if (a.x0) V::stream(a.x0 + i, original);
    } else {
      V::store(a.out + i, previous);
      if (a.x0) V::store(a.x0 + i, original);
    }
  }
}

// Fewer elements than a block, through buffers of a block: the last ones, or those from inside a Philox block to its end.
template <class V, Noise kNoise, bool kHistory, class T>
void part(const Vectors<V>& k, const Tensors<T>& a, std::int64_t i, std::int64_t count, const Step& step) {
  constexpr int kBlock = 4 * V::kWidth;
  alignas(64) T in[5][kBlock] = {}, out[2][kBlock];
  const T* const from[5] = {a.sample, a.cond, a.uncond, a.noise, a.history};
  const T* at[5];
  const std::int64_t skipped = i % 4;
  for (int n = 0; n < 5; ++n) {
    at[n] = from[n] ? in[n] : nullptr;
    if (from[n]) std::memcpy(in[n] + skipped, from[n] + i, count * sizeof(T));
  }
  const Tensors<T> buffers{at[0], at[1], at[2], at[3], at[4], out[0], a.x0 ? out[1] : nullptr};
  alignas(64) float normals[kBlock];
  if constexpr (kNoise == Noise::kPhilox) V::normals(step.seed, step.offset, static_cast<std::uint64_t>(i) / 4, 1, normals);
  block<V, kNoise, kHistory, false>(k, buffers, 0, normals);
  std::memcpy(a.out + i, out[0] + skipped, count * sizeof(T));
  if (a.x0) std::memcpy(a.x0 + i, out[1] + skipped, count * sizeof(T));
}

template <class V, Noise kNoise, bool kHistory, bool kStream, class T>
void range(const Tensors<T>& a, const Step& step, std::int64_t begin, std::int64_t end) {
  constexpr int kBlock = 4 * V::kWidth;
  const Vectors<V> k(step.k);
  std::int64_t i = begin;
  if (i % 4 && i < end) {
    const std::int64_t first = end - i < 4 - i % 4 ? end - i : 4 - i % 4;
    part<V, kNoise, kHistory>(k, a, i, first, step);
    i += first;
  }
  if constexpr (kNoise == Noise::kPhilox) {
    alignas(64) float normals[kNormals];
    while (i + kBlock <= end) {
      const int groups = static_cast<int>((end - i < kNormals ? end - i : kNormals) / kBlock);
      V::normals(step.seed, step.offset, static_cast<std::uint64_t>(i) / 4, groups, normals);
      for (int g = 0; g < groups; ++g, i += kBlock) block<V, kNoise, kHistory, kStream>(k, a, i, normals + g * kBlock);
    }
  } else {
    for (; i + kBlock <= end; i += kBlock) block<V, kNoise, kHistory, kStream>(k, a, i, nullptr);
  }
  if (i < end) part<V, kNoise, kHistory>(k, a, i, end - i, step);
  if (kStream) V::fence();
}

// What a sample's rescaling and threshold make of the coefficients.
template <class V, class T>
Coefficients sample_coefficients(const Step& step, const Tensors<T>& a, std::int64_t begin, std::int64_t end, float* room) {
  Coefficients k = step.k;
  if (step.rescale > 0 && a.uncond) {
    const double scale = step.rescale * deviation_ratio<V>(k, a, begin, end) + (1 - step.rescale);
    k.q = static_cast<float>(k.q * scale);
    k.t = static_cast<float>(k.t * scale);
  }
  if (step.ratio > 0 && begin < end) {
    double s = original_quantile<V>(k, a, begin, end, step.ratio, room + begin);
    if (s < 1) s = 1;
    if (s > step.most) s = step.most;
    // clip(x0, s) / s = clip(x0 / s, 1)
    k.p = static_cast<float>(k.p / s);
    k.q = static_cast<float>(k.q / s);
    k.clip = 1.0f;
  }
  return k;
}

// Each sample's passes and its step in one thread, one sample after the other, so that a sample is still in the caches.
template <class V, class T, class Range>
void run_samples(const Step& step, const Tensors<T>& a, int threads, const Range& range) {
  const std::int64_t size = step.samples ? step.count / step.samples : 0;
  const std::unique_ptr<float[]> room(step.ratio > 0 ? new float[step.count] : nullptr);
  parallel_ranges(step.samples, 1, step.samples < threads ? static_cast<int>(step.samples) : threads,
                  [&](std::int64_t first, std::int64_t last) {
                    for (std::int64_t n = first; n < last; ++n) {
                      Step one = step;
                      one.k = sample_coefficients<V>(step, a, n * size, (n + 1) * size, room.get());
                      range(one, n * size, (n + 1) * size);
                    }
                  });
}

// Results larger than this go past the caches, which could not keep them and would read each line only to overwrite it.
constexpr std::int64_t kStreamBytes = std::int64_t{8} << 20;
// Fewest elements worth a thread of their own: waking one costs about what it does to this many.
constexpr std::int64_t kGrain = 32768, kGrainPhilox = 4096;

template <class V, Noise kNoise, bool kHistory, class T>
void run(const Step& step, int threads) {
  const Tensors<T> a{static_cast<const T*>(step.sample),
                     static_cast<const T*>(step.cond),
                     static_cast<const T*>(step.uncond),
                     static_cast<const T*>(step.noise),
                     static_cast<const T*>(step.history),
                     static_cast<T*>(step.out),
                     static_cast<T*>(step.x0)};
  if (step.rescale > 0 || step.ratio > 0) {
    return run_samples<V>(step, a, threads, [&](const Step& one, std::int64_t begin, std::int64_t end) {
      range<V, kNoise, kHistory, false>(a, one, begin, end);
    });
  }
  const std::int64_t grain = kNoise == Noise::kPhilox ? kGrainPhilox : kGrain;
  const std::int64_t worth = step.count / grain;
  const int used = worth < threads ? static_cast<int>(worth) : threads;
  const bool aligned = (reinterpret_cast<std::uintptr_t>(a.out) | reinterpret_cast<std::uintptr_t>(a.x0)) % V::kAlign == 0;
  const bool in_place = a.out == a.sample || a.out == a.cond || a.x0 == a.sample || a.x0 == a.cond;
  const bool stream = aligned && !in_place && step.count * static_cast<std::int64_t>(sizeof(T)) >= kStreamBytes;
  parallel_ranges(step.count, 4096, used, [&](std::int64_t begin, std::int64_t end) {
    stream ? range<V, kNoise, kHistory, true>(a, step, begin, end) : range<V, kNoise, kHistory, false>(a, step, begin, end);
  });
}

template <class V, bool kHistory, class T>
void run(const Step& step, int threads) {
  if (step.k.sigma == 0.0f) return run<V, Noise::kNone, kHistory, T>(step, threads);
  step.noise ? run<V, Noise::kGiven, kHistory, T>(step, threads) : run<V, Noise::kPhilox, kHistory, T>(step, threads);
}

template <class V, class T>
void run(const Step& step, int threads) {
  step.history ? run<V, true, T>(step, threads) : run<V, false, T>(step, threads);
}

template <class V>
void run(const Step& step, Type type, int threads) {
  if (type == Type::kFloat32) return run<V, float>(step, threads);
  type == Type::kFloat16 ? run<V, Half>(step, threads) : run<V, BFloat16>(step, threads);
}

}  // namespace
}  // namespace aieng::diffusion
