// Forward pass of few queries over many keys, as when text is made token by token: limited by reading keys and values once. They
// are read where they lie, not packed; the keys are divided among the threads too, and the parts' results joined by their maxima
// and sums. Dao et al., Flash-Decoding for long-context inference (2023).
#pragma once
#include "attention.h"
#include "cpu_pack.h"
#include "cpu_scratch.h"

namespace aieng::attention::AIENG_ISA {

template <Type kType>
class DecodeKernel {
 public:
  // Rows of queries that share a key head, up to which this is faster than packing keys for matrix products.
  static constexpr int64_t kMostRows = 8;

  static bool takes(const Forward& f) {
    const bool plain = f.mask.kind == Mask::kNone && f.softcap == 0 && f.dropout.dropped == 0 && !f.lengths.q_starts;
    return plain && f.Hkv > 0 && f.S * (f.Hq / f.Hkv) <= kMostRows;
  }

  explicit DecodeKernel(const Forward& f)
      : f_(f),
        heads_(f.B * f.Hkv),
        group_(f.Hq / f.Hkv),
        rows_(f.S * group_),
        row_d_(round_up(f.D, kLanes)),
        parts_(greatest<int64_t>(1, least(ceil_div(f.T, kFewestKeys), ceil_div(kTasks * f.threads, greatest<int64_t>(1, heads_))))),
        keys_(round_up(ceil_div(f.T, parts_), kBlock)),
        log2_scale_(f.scale * kLog2E) {}

  bool run() {
    Scratch scratch(heads_ * parts_ * rows_ * part_size() + f_.threads * own_size());
    if (!scratch.data()) return false;
    float* const parts = scratch.data() + f_.threads * own_size();
#pragma omp parallel num_threads(f_.threads)
    {
      float* own = scratch.data() + thread_number() * own_size();
#pragma omp for schedule(dynamic, 1)
      for (int64_t i = 0; i < heads_ * parts_; ++i) attend(i / parts_, i % parts_, own, parts + i * rows_ * part_size());
#pragma omp for schedule(static)
      for (int64_t i = 0; i < heads_ * rows_; ++i) join(i / rows_, i % rows_, parts);
    }
    return true;
  }

 private:
  static constexpr int64_t kBlock = 64;        // keys whose scores are formed at once: a multiple of every kLanes
  static constexpr int64_t kFewestKeys = 256;  // of a part
  static constexpr int64_t kTasks = 4;         // of a thread, so that one that started late does not keep the others waiting

  // What a part leaves of a row: the weighted sum of values, the maximum in powers of two, the sum.
  int64_t part_size() const { return row_d_ + kLanes; }
  // A thread's queries as float32, and the weights of a block.
  int64_t own_size() const { return Scratch::padded(rows_ * row_d_ + kBlock); }

  Band band(int64_t b) const {
    return band_of(f_.S, f_.lengths.k_lengths ? f_.lengths.k_lengths[b] : f_.T, f_.left, f_.right, f_.bottom_right);
  }
  // Row r of a key head is query r % S of the head's member r / S.
  int64_t query_head(int64_t head, int64_t r) const { return head % f_.Hkv * group_ + r / f_.S; }

  void attend(int64_t head, int64_t part, float* own, float* results) const {
    const int64_t b = head / f_.Hkv, h = head % f_.Hkv;
    for (int64_t r = 0; r < rows_; ++r) {
      const Rows q = rows_of(f_.q, b, query_head(head, r), r % f_.S, 1, f_.D, kType);
      for (int64_t i = 0; i < f_.D; i += kLanes) store(own + r * row_d_ + i, load_as<kType>(q.data + i * size_of(kType), f_.D - i));
      float* result = results + r * part_size();
      for (int64_t i = 0; i < row_d_; i += kLanes) store(result + i, zero());
      result[row_d_] = -INFINITY;
      result[row_d_ + 1] = 0;
    }
    const Band seen = band(b);
    const int64_t begin = greatest(part * keys_, first_key(seen, 0)), end = least((part + 1) * keys_, end_key(seen, f_.S - 1));
    for (int64_t key = begin; key < end; key += kBlock) {
      const int64_t count = least(kBlock, end - key);
      const Rows k = rows_of(f_.k, b, h, key, count, f_.D, kType), v = rows_of(f_.v, b, h, key, count, f_.D, kType);
      for (int64_t r = 0; r < rows_; ++r) {  // the block's keys and values are in the first-level cache from the second row on
        const int64_t first = greatest<int64_t>(0, first_key(seen, r % f_.S) - key);
        const int64_t last = least(count, end_key(seen, r % f_.S) - key);
        if (first < last) meet(k, v, first, last, own + r * row_d_, own + rows_ * row_d_, results + r * part_size());
      }
    }
  }

  // A query meets keys [first, last) of a block: the online softmax of one row.
  void meet(const Rows& k, const Rows& v, int64_t first, int64_t last, const float* q, float* weights, float* result) const {
    Vec top = set1(result[row_d_]);
    for (int64_t n = first; n < last; n += kLanes) {
      const Vec score = mul(scores(k, n, least<int64_t>(last - n, kLanes), q), set1(log2_scale_));
      store(weights + n - first, score);
      top = max(top, last - n < kLanes ? keep_first(score, last - n, set1(-INFINITY)) : score);
    }
    const float old_max = result[row_d_], new_max = max_lanes(top);
    const Vec minus_max = set1(new_max == -INFINITY ? 0.f : -new_max);
    Vec sum = zero();
    for (int64_t n = first; n < last; n += kLanes) {
      Vec p = exp2<5>(add(load(weights + n - first), minus_max));
      if (last - n < kLanes) p = keep_first(p, last - n, zero());
      sum = add(sum, p);
      store(weights + n - first, p);
    }
    const float shrink = old_max == -INFINITY ? 0.f : exp2f(old_max - new_max);
    result[row_d_] = new_max;
    result[row_d_ + 1] = result[row_d_ + 1] * shrink + sum_lanes(sum);
    int64_t i = 0;
    for (; i + 4 * kLanes <= row_d_; i += 4 * kLanes) gather<4>(v, first, last, i, weights, shrink, result);
    for (; i < row_d_; i += kLanes) gather<1>(v, first, last, i, weights, shrink, result);
  }

  // q k^T of kLanes keys from n on, one a lane; lanes beyond `count` hold the last key's.
  Vec scores(const Rows& k, int64_t n, int64_t count, const float* q) const {
    Vec part[kLanes];
    for (int64_t j = 0; j < kLanes; ++j) {
      const char* row = k.data + (n + least(j, count - 1)) * k.stride;
      Vec even = zero(), odd = zero();
      int64_t i = 0;
      for (; i + 2 * kLanes <= f_.D; i += 2 * kLanes) {
        even = fma(load_as<kType>(row + i * size_of(kType), kLanes), load(q + i), even);
        odd = fma(load_as<kType>(row + (i + kLanes) * size_of(kType), kLanes), load(q + i + kLanes), odd);
      }
      for (; i < f_.D; i += kLanes) even = fma(load_as<kType>(row + i * size_of(kType), f_.D - i), load(q + i), even);
      part[j] = add(even, odd);
    }
    transpose(part);
    for (int step = 1; step < kLanes; step *= 2) {
      for (int j = 0; j < kLanes; j += 2 * step) part[j] = add(part[j], part[j + step]);
    }
    return part[0];
  }

  // result[i ...] = shrink result[i ...] + the weighted sum of kVecs vectors of each value.
  template <int kVecs>
  void gather(const Rows& v, int64_t first, int64_t last, int64_t i, const float* weights, float shrink, float* result) const {
    Vec acc[kVecs];
    for (int c = 0; c < kVecs; ++c) acc[c] = mul(load(result + i + c * kLanes), set1(shrink));
    for (int64_t n = first; n < last; ++n) {
      const Vec p = set1(weights[n - first]);
      const char* row = v.data + n * v.stride;
      for (int c = 0; c < kVecs; ++c) {
        const int64_t at = i + c * kLanes;
        acc[c] = fma(p, load_as<kType>(row + at * size_of(kType), f_.D - at), acc[c]);
      }
    }
    for (int c = 0; c < kVecs; ++c) store(result + i + c * kLanes, acc[c]);
  }

  // out and lse of a row from what its parts left.
  void join(int64_t head, int64_t r, const float* parts) const {
    const auto result = [&](int64_t part) { return parts + ((head * parts_ + part) * rows_ + r) * part_size(); };
    float top = -INFINITY, sum = 0;
    for (int64_t part = 0; part < parts_; ++part) top = result(part)[row_d_] > top ? result(part)[row_d_] : top;
    const auto share = [&](int64_t part) {
      const float max = result(part)[row_d_];
      return max == -INFINITY ? 0.f : exp2f(max - top);
    };
    for (int64_t part = 0; part < parts_; ++part) sum += share(part) * result(part)[row_d_ + 1];
    const int64_t b = head / f_.Hkv, h = query_head(head, r), row = r % f_.S;
    char* const out = static_cast<char*>(f_.out.data) + (b * f_.out.batch + h * f_.out.head + row * f_.out.row) * size_of(kType);
    const Vec inverse = set1(sum == 0.f ? 0.f : 1.f / sum);
    for (int64_t i = 0; i < f_.D; i += kLanes) {
      Vec x = zero();
      for (int64_t part = 0; part < parts_; ++part) x = fma(set1(share(part)), load(result(part) + i), x);
      store_as<kType>(out + i * size_of(kType), mul(x, inverse), f_.D - i);
    }
    f_.lse[(b * f_.Hq + h) * f_.S + row] = natural_lse(top, sum);
  }

  const Forward& f_;
  const int64_t heads_, group_, rows_, row_d_, parts_, keys_;
  const float log2_scale_;
};

}  // namespace aieng::attention::AIENG_ISA
