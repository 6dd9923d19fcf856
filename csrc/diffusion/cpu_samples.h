// What a step reads, and what a whole sample says before its step: the ratio of two standard deviations, a quantile of |x0|.
//
// Included by every instruction set's file, like cpu_step.h, and so without library templates, of which the linker keeps one copy.
#pragma once
#include <cmath>
#include <cstdint>

#include "diffusion.h"
#include "half.h"

namespace aieng::diffusion {
namespace {

template <class T>
struct Tensors {
  const T *sample, *cond, *uncond, *noise, *history;
  T *out, *x0;
};

template <class V>
struct Vectors {
  typename V::Float p, q, r, s, t, sigma, low, high, guidance, h;
  explicit Vectors(const Coefficients& k)
      : p(V::set(k.p)),
        q(V::set(k.q)),
        r(V::set(k.r)),
        s(V::set(k.s)),
        t(V::set(k.t)),
        sigma(V::set(k.sigma)),
        low(V::set(-k.clip)),
        high(V::set(k.clip)),
        guidance(V::set(k.guidance)),
        h(V::set(k.h)) {}
};

// e of the elements from index i on.
template <class V, class T>
AIENG_HD typename V::Float guided(const Vectors<V>& k, const Tensors<T>& a, std::int64_t i) {
  const typename V::Float e = V::load(a.cond + i);
  if (!a.uncond) return e;
  const typename V::Float u = V::load(a.uncond + i);
  return V::fma(k.guidance, V::fma(u, V::set(-1.0f), e), u);
}

template <class T>
AIENG_HD float guided(const Coefficients& k, const Tensors<T>& a, std::int64_t i) {
  const float e = widen(a.cond[i]);
  if (!a.uncond) return e;
  const float u = widen(a.uncond[i]);
  return u + k.guidance * (e - u);
}

// The sum and the sum of squares of deviations from a number near the mean, where squares do not cancel.
struct Moments {
  double sum = 0, squares = 0;
  AIENG_HD void add(double x) {
    sum += x;
    squares += x * x;
  }
  AIENG_HD double variance(double count) const { return squares / count - sum / count * (sum / count); }
};

template <class V>
struct LaneMoments {
  typename V::Float sum = V::set(0.0f), squares = V::set(0.0f);
  AIENG_HD void add(typename V::Float x) {
    sum = V::fma(x, V::set(1.0f), sum);
    squares = V::fma(x, x, squares);
  }
  AIENG_HD void into(Moments& all) const {
    float lanes[2][V::kWidth];
    V::store(lanes[0], sum);
    V::store(lanes[1], squares);
    for (int i = 0; i < V::kWidth; ++i) {
      all.sum += lanes[0][i];
      all.squares += lanes[1][i];
    }
  }
};

// std(c) / std(e) over the elements begin .. end - 1.
template <class V, class T>
double deviation_ratio(const Coefficients& k, const Tensors<T>& a, std::int64_t begin, std::int64_t end) {
  constexpr std::int64_t kLanesHold = 64;  // additions in float32 before they go on in float64
  if (begin == end) return 1;
  const Vectors<V> v(k);
  const float first_c = widen(a.cond[begin]), first_e = guided(k, a, begin);
  const typename V::Float one = V::set(1.0f), minus_c = V::set(-first_c), minus_e = V::set(-first_e);
  Moments c, e;
  std::int64_t i = begin;
  while (i + V::kWidth <= end) {
    LaneMoments<V> lanes_c, lanes_e;
    for (std::int64_t n = 0; n < kLanesHold && i + V::kWidth <= end; ++n, i += V::kWidth) {
      lanes_c.add(V::fma(V::load(a.cond + i), one, minus_c));
      lanes_e.add(V::fma(guided<V>(v, a, i), one, minus_e));
    }
    lanes_c.into(c);
    lanes_e.into(e);
  }
  for (; i < end; ++i) {
    c.add(static_cast<double>(widen(a.cond[i])) - first_c);
    e.add(static_cast<double>(guided(k, a, i)) - first_e);
  }
  const double count = static_cast<double>(end - begin);
  return __builtin_sqrt(c.variance(count) / e.variance(count));
}

// The value at `rank` of the magnitudes in ascending order: radix selection on the bits of floats, which order as they do.
// `until`: how many magnitudes are not above it.
inline float magnitude_at(const float* x, std::int64_t count, std::int64_t rank, std::int64_t& until) {
  constexpr int kShift[3] = {19, 8, 0}, kBits[3] = {12, 11, 8};
  std::int64_t below = 0;
  std::uint32_t prefix = 0;
  for (int level = 0; level < 3; ++level) {
    std::int64_t buckets[1 << 12] = {};
    const int shift = kShift[level], bits = kBits[level];
    const std::uint32_t last = (1u << bits) - 1;
    for (std::int64_t i = 0; i < count; ++i) {
      const std::uint32_t magnitude = bits_from_float(x[i]) & 0x7FFFFFFFu;
      if (magnitude >> (shift + bits) == prefix) ++buckets[magnitude >> shift & last];
    }
    std::uint32_t bucket = 0;
    while (below + buckets[bucket] <= rank) below += buckets[bucket++];
    prefix = prefix << bits | bucket;
    until = below + buckets[bucket];
  }
  return float_from_bits(prefix);
}

// The magnitude at `rank` in ascending order, and `weight` of the way to the next, as torch.quantile interpolates; NaN if any is.
inline double magnitude_between(const float* x, std::int64_t count, std::int64_t rank, double weight) {
  constexpr std::uint32_t kInfinity = 0x7F800000u;
  std::int64_t until = 0;
  const float low = magnitude_at(x, count, rank, until);
  std::uint32_t next = ~0u, most = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::uint32_t magnitude = bits_from_float(x[i]) & 0x7FFFFFFFu;
    most = magnitude > most ? magnitude : most;
    if (magnitude > bits_from_float(low) && magnitude < next) next = magnitude;
  }
  if (most > kInfinity) return static_cast<double>(float_from_bits(most));
  if (weight == 0) return low;
  const double high = until > rank + 1 ? low : float_from_bits(next);
  return low + weight * (high - low);
}

// A magnitude that the `wanted` largest of x0 very likely reach, and few others: from a number of probes, of which those that are
// due and some more reach it. 0 where that would be many of the probes, or of so few elements.
template <class T>
float likely_bar(const Coefficients& k, const Tensors<T>& a, std::int64_t begin, std::int64_t count, std::int64_t wanted) {
  constexpr int kProbes = 1024, kMost = 64;
  const double due = static_cast<double>(kProbes) * static_cast<double>(wanted) / static_cast<double>(count);
  const double most = due + 4 * __builtin_sqrt(due) + 8;
  if (count < 4 * kProbes || most > kMost) return 0;
  const int last = static_cast<int>(most) - 1;
  float largest[kMost] = {};  // ascending
  for (int n = 0; n < kProbes; ++n) {
    const std::int64_t i = begin + n * count / kProbes;
    const float magnitude = __builtin_fabsf(k.p * widen(a.sample[i]) + k.q * guided(k, a, i));
    if (!(magnitude > largest[0])) continue;
    int place = 0;
    for (; place < last && largest[place + 1] < magnitude; ++place) largest[place] = largest[place + 1];
    largest[place] = magnitude;
  }
  return largest[0];
}

// Those x0 of a sample, before any clip, whose magnitudes are not below the bar; how many. `kept` has room for all.
template <class V, class T>
std::int64_t originals(const Coefficients& k, const Tensors<T>& a, std::int64_t begin, std::int64_t end, float bar, float* kept) {
  const Vectors<V> v(k);
  std::int64_t i = begin, n = 0;
  for (; i + V::kWidth <= end; i += V::kWidth) {
    n += V::keep(kept + n, V::fma(v.p, V::load(a.sample + i), V::mul(v.q, guided<V>(v, a, i))), bar);
  }
  for (; i < end; ++i) {
    const float original = k.p * widen(a.sample[i]) + k.q * guided(k, a, i);
    if (!(__builtin_fabsf(original) < bar)) kept[n++] = original;
  }
  return n;
}

// V::keep for a lane set without an instruction for it.
template <class V>
AIENG_HD int keep_each(float* at, typename V::Float x, float bar) {
  float lanes[V::kWidth];
  V::store(lanes, x);
  int n = 0;
  for (int i = 0; i < V::kWidth; ++i) {
    at[n] = lanes[i];
    n += !(__builtin_fabsf(lanes[i]) < bar);
  }
  return n;
}

// The quantile `ratio` of a sample's |x0|, before any clip; `room` is for as many floats.
template <class V, class T>
double original_quantile(const Coefficients& k, const Tensors<T>& a, std::int64_t begin, std::int64_t end, double ratio,
                         float* room) {
  const std::int64_t count = end - begin;
  const double position = ratio * static_cast<double>(count - 1);
  const std::int64_t rank = static_cast<std::int64_t>(position);
  std::int64_t kept = originals<V>(k, a, begin, end, likely_bar(k, a, begin, count, count - rank), room);
  if (kept < count - rank) kept = originals<V>(k, a, begin, end, 0.0f, room);
  return magnitude_between(room, kept, rank - (count - kept), position - static_cast<double>(rank));
}

}  // namespace
}  // namespace aieng::diffusion
