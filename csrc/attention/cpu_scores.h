// What makes a score of a product where more is asked for than a scale: the soft cap, a mask, and a band's edges.
#pragma once
#include <cfloat>

#include "attention.h"
#include "cpu_simd.h"

namespace aieng::attention::AIENG_ISA {

// tanh, to 1.6 ulp. y + y^3 P(y^2) to |y| = 5/8, with P fitted for the least relative error (4.4e-9); beyond, of 2^(-2 |y| log2 e).
inline Vec tanh(Vec y) {
  const Vec size = max(y, sub(zero(), y)), square = mul(y, y);
  Vec p = fma(set1(-5.705029238e-3f), square, set1(2.063912340e-2f));
  p = fma(p, square, set1(-5.373972654e-2f));
  p = fma(p, square, set1(1.333144158e-1f));
  p = fma(p, square, set1(-3.333328068e-1f));
  const Vec e = exp2<5>(mul(size, set1(-2.f * kLog2E)));
  const Vec large = div(sub(set1(1.f), e), add(set1(1.f), e));
  return if_less(size, set1(0.625f), fma(mul(y, square), p, y), if_less(y, zero(), sub(zero(), large), large));
}

// natural_lse with a single rounding: every weight of the row takes its error on in the backward pass.
inline float rounded_lse(float max_log2, float sum) {
  if (!(sum > 0.f)) return natural_lse(max_log2, sum);
  return static_cast<float>(0.69314718055994530942 * max_log2 + log(static_cast<double>(sum)));
}

// Lanes [first, end) of x, -inf in the others.
inline Vec only(Vec x, int64_t first, int64_t end) {
  const Vec hidden = set1(-INFINITY);
  x = keep_first(x, least<int64_t>(greatest<int64_t>(end, 0), kLanes), hidden);
  return keep_first(hidden, least<int64_t>(greatest<int64_t>(first, 0), kLanes), x);
}

// kType: that of the inputs.
template <Type kType>
class Scores {
 public:
  explicit Scores(const Problem& f) : f_(f), scale_(f.softcap > 0.f ? f.scale / f.softcap : f.scale) {}

  bool masked() const { return f_.mask.kind != Mask::kNone; }

  // A mask's row of a query; or where the query stands among its keys, and what each step from there takes off.
  struct MaskRow {
    const char* data;
    float stands, slope;
  };
  MaskRow mask_row(const Sequence& s, int64_t head, int64_t query) const {
    const Mask& m = f_.mask;
    if (m.kind == Mask::kSlopes) {
      const float stands = static_cast<float>(query + s.band.keys - s.band.queries);
      return {nullptr, stands, static_cast<const float*>(m.data)[s.number * m.batch + head * m.head]};
    }
    const int64_t at = s.batch * m.batch + head * m.head + (s.q_first + query) * m.row + s.k_first * m.key;
    return {masked() ? static_cast<const char*>(m.data) + at * element() : nullptr, 0, 0};
  }

  // What the mask adds to `n` keys of a row, kLanes at most: a number, or 0 and -inf.
  Vec mask_at(const MaskRow& row, int64_t key, int64_t n) const {
    if (f_.mask.kind == Mask::kSlopes) {
      alignas(64) static constexpr float kLane[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
      const Vec steps = sub(set1(row.stands - static_cast<float>(key)), load(kLane));
      return mul(set1(-row.slope), max(steps, sub(zero(), steps)));
    }
    if (f_.mask.key == 0) return set1(load_mask(row.data, 1)[0]);
    return load_mask(row.data + key * element(), n);
  }

  // A product with q, scaled and capped; `slope` is the derivative of the cap.
  Vec capped(Vec product, Vec& slope) const {
    const Vec x = mul(product, set1(scale_));
    slope = set1(1.f);
    if (f_.softcap <= 0.f) return x;
    const Vec t = tanh(x);
    slope = fma(sub(zero(), t), t, slope);
    return mul(t, set1(f_.softcap));
  }

  // score + added; where -inf is added it is -inf, whatever the score, and nothing finite becomes that, nor does log2(e) times it.
  static Vec with_mask(Vec score, Vec added) {
    return if_less(added, set1(-FLT_MAX), set1(-INFINITY), max(set1(-2e38f), add(score, added)));
  }

  // A row of products with one query, of `keys` keys from `key` on, becomes scores times log2(e), -inf outside [first, end). Lanes
  // beyond the keys, to a whole vector, are written too.
  void shape(float* row, const MaskRow& mask, int64_t key, int64_t keys, int64_t first, int64_t end) const {
    for (int64_t i = 0; i < keys; i += kLanes) {
      Vec slope;
      Vec x = capped(load(row + i), slope);
      if (masked()) x = with_mask(x, mask_at(mask, key + i, keys - i));
      x = mul(x, set1(kLog2E));
      store(row + i, first > i || end < i + kLanes ? only(x, first - i, end - i) : x);
    }
  }

 private:
  int64_t element() const { return f_.mask.kind == Mask::kBool ? 1 : f_.mask.kind == Mask::kFloat32 ? 4 : size_of(kType); }
  Vec load_mask(const char* p, int64_t n) const {
    if (f_.mask.kind == Mask::kBool) return load_seen(p, n);
    return f_.mask.kind == Mask::kFloat32 ? load_as<Type::kFloat32>(p, n) : load_as<kType>(p, n);
  }

  const Problem& f_;
  const float scale_;
};

}  // namespace aieng::attention::AIENG_ISA
