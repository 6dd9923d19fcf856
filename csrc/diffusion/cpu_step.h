// The step's loop, written once: each instruction set's file includes it with its own lane set V, and keeps its copy to itself.
//
// V offers the lanes of philox.h, and: kWidth floats; load, store and stream (a store past the caches, address aligned to kAlign)
// of float, Half and BFloat16; clamp, where NaN passes; normals(seed, offset, block, z): the 4 * kWidth normals from Philox block
// `block` on, in order, as four vectors.
#pragma once
#include <cstring>

#include "diffusion.h"
#include "half.h"
#include "parallel.h"
#include "philox.h"

namespace aieng::diffusion {
namespace {

enum class Noise { kNone, kGiven, kPhilox };

template <class T>
struct Tensors {
  const T *sample, *cond, *uncond, *noise;
  T *out, *x0;
};

template <class V>
struct Vectors {
  typename V::Float p, q, r, s, t, sigma, low, high, guidance;
  explicit Vectors(const Coefficients& k)
      : p(V::set(k.p)),
        q(V::set(k.q)),
        r(V::set(k.r)),
        s(V::set(k.s)),
        t(V::set(k.t)),
        sigma(V::set(k.sigma)),
        low(V::set(-k.clip)),
        high(V::set(k.clip)),
        guidance(V::set(k.guidance)) {}
};

// 4 * kWidth elements from index i on; `first` is the Philox block of the first.
template <class V, Noise kNoise, bool kStream, class T>
AIENG_HD void block(const Vectors<V>& k, const Tensors<T>& a, std::int64_t i, const Step& step, std::uint64_t first) {
  using F = typename V::Float;
  F z[4];
  if constexpr (kNoise == Noise::kPhilox) V::normals(step.seed, step.offset, first, z);
  for (int v = 0; v < 4; ++v, i += V::kWidth) {
    const F x = V::load(a.sample + i);
    F e = V::load(a.cond + i);
    if (a.uncond) {
      const F u = V::load(a.uncond + i);
      e = V::fma(k.guidance, V::fma(u, V::set(-1.0f), e), u);
    }
    const F original = V::clamp(V::fma(k.p, x, V::mul(k.q, e)), k.low, k.high);
    F previous = V::fma(k.r, original, V::fma(k.s, x, V::mul(k.t, e)));
    if constexpr (kNoise == Noise::kGiven) z[v] = V::load(a.noise + i);
    if constexpr (kNoise != Noise::kNone) previous = V::fma(k.sigma, z[v], previous);
    if constexpr (kStream) {
      V::stream(a.out + i, previous);
      if (a.x0) V::stream(a.x0 + i, original);
    } else {
      V::store(a.out + i, previous);
      if (a.x0) V::store(a.x0 + i, original);
    }
  }
}

// The last elements, fewer than a block, through buffers of a block.
template <class V, Noise kNoise, class T>
void tail(const Vectors<V>& k, const Tensors<T>& a, std::int64_t i, std::int64_t count, const Step& step) {
  constexpr int kBlock = 4 * V::kWidth;
  alignas(64) T in[4][kBlock] = {}, out[2][kBlock];
  const T* const from[4] = {a.sample, a.cond, a.uncond, a.noise};
  const T* at[4];
  for (int n = 0; n < 4; ++n) {
    at[n] = from[n] ? in[n] : nullptr;
    if (from[n]) std::memcpy(in[n], from[n] + i, count * sizeof(T));
  }
  const Tensors<T> buffers{at[0], at[1], at[2], at[3], out[0], a.x0 ? out[1] : nullptr};
  block<V, kNoise, false>(k, buffers, 0, step, static_cast<std::uint64_t>(i) / 4);
  std::memcpy(a.out + i, out[0], count * sizeof(T));
  if (a.x0) std::memcpy(a.x0 + i, out[1], count * sizeof(T));
}

template <class V, Noise kNoise, bool kStream, class T>
void range(const Tensors<T>& a, const Step& step, std::int64_t begin, std::int64_t end) {
  constexpr int kBlock = 4 * V::kWidth;
  const Vectors<V> k(step.k);
  std::int64_t i = begin;
  for (; i + kBlock <= end; i += kBlock) block<V, kNoise, kStream>(k, a, i, step, static_cast<std::uint64_t>(i) / 4);
  if (i < end) tail<V, kNoise>(k, a, i, end - i, step);
  if (kStream) V::fence();
}

// Results larger than this go past the caches, which could not keep them and would read each line only to overwrite it.
constexpr std::int64_t kStreamBytes = std::int64_t{8} << 20;
// Fewest elements worth a thread of their own: waking one costs about what it does to this many.
constexpr std::int64_t kGrain = 32768, kGrainPhilox = 4096;

template <class V, Noise kNoise, class T>
void run(const Step& step, int threads) {
  const Tensors<T> a{static_cast<const T*>(step.sample), static_cast<const T*>(step.cond), static_cast<const T*>(step.uncond),
                     static_cast<const T*>(step.noise),  static_cast<T*>(step.out),        static_cast<T*>(step.x0)};
  const std::int64_t grain = kNoise == Noise::kPhilox ? kGrainPhilox : kGrain;
  const std::int64_t worth = step.count / grain;
  const int used = worth < threads ? static_cast<int>(worth) : threads;
  const bool aligned = (reinterpret_cast<std::uintptr_t>(a.out) | reinterpret_cast<std::uintptr_t>(a.x0)) % V::kAlign == 0;
  const bool in_place = a.out == a.sample || a.out == a.cond || a.x0 == a.sample || a.x0 == a.cond;
  const bool stream = aligned && !in_place && step.count * static_cast<std::int64_t>(sizeof(T)) >= kStreamBytes;
  parallel_ranges(step.count, 4096, used, [&](std::int64_t begin, std::int64_t end) {
    stream ? range<V, kNoise, true>(a, step, begin, end) : range<V, kNoise, false>(a, step, begin, end);
  });
}

template <class V, class T>
void run(const Step& step, int threads) {
  if (step.k.sigma == 0.0f) return run<V, Noise::kNone, T>(step, threads);
  step.noise ? run<V, Noise::kGiven, T>(step, threads) : run<V, Noise::kPhilox, T>(step, threads);
}

template <class V>
void run(const Step& step, Type type, int threads) {
  if (type == Type::kFloat32) return run<V, float>(step, threads);
  type == Type::kFloat16 ? run<V, Half>(step, threads) : run<V, BFloat16>(step, threads);
}

}  // namespace
}  // namespace aieng::diffusion
