// Forward pass of few queries over many keys, as when text is made token by token: limited by reading keys and values once. The
// keys are divided among the threads too, and the parts' results joined by their maxima and sums. A few rows of queries read keys
// and values where they lie; more meet a block of them that is packed for matrix products. Dao et al., Flash-Decoding for
// long-context inference (2023).
#pragma once
#include "cpu_pack.h"
#include "cpu_scores.h"
#include "cpu_scratch.h"

namespace aieng::attention::AIENG_ISA {

template <class Words, Type kType>
class DecodeKernel {
 public:
  static bool takes(const Forward& f) {
    if (shapes_scores(f) || drops(f) || f.lengths.q_starts || f.Hkv == 0) return false;
    const int64_t rows = f.S * (f.Hq / f.Hkv);
    return rows <= kAlways || (rows <= kMostRows && f.T >= 2 * kFewestKeys);
  }

  explicit DecodeKernel(const Forward& f)
      : f_(f),
        heads_(f.B * f.Hkv),
        group_(f.Hq / f.Hkv),
        rows_(f.S * group_),
        words_d_(ceil_div(f.D, Words::kPerWord)),
        row_d_(round_up(f.D, kLanes * Words::kPerWord)),
        a_row_(round_up(words_d_, kLanes)),
        v_panel_(kBlock / Words::kPerWord * kPanel),
        parts_(greatest<int64_t>(1, least(ceil_div(f.T, kFewestKeys), ceil_div(kTasks * f.threads, greatest<int64_t>(1, heads_))))),
        keys_(round_up(ceil_div(f.T, parts_), kBlock)),
        log2_scale_(f.scale * kLog2E),
        far_(2 * heads_ * f.T * f.D * size_of(kType) > kNear) {}

  bool run() {
    Scratch scratch(heads_ * parts_ * rows_ * part_size() + f_.threads * own_size());
    if (!scratch.data()) return false;
    float* const parts = scratch.data() + f_.threads * own_size();
#pragma omp parallel num_threads(f_.threads)
    {
      Own own;
      layout(own, scratch.data() + thread_number() * own_size());
#pragma omp for schedule(dynamic, 1)
      for (int64_t i = 0; i < heads_ * parts_; ++i) attend(i / parts_, i % parts_, own, parts + i * rows_ * part_size());
#pragma omp for schedule(static)
      for (int64_t i = 0; i < heads_ * rows_; ++i) join(i / rows_, i % rows_, parts);
    }
    return true;
  }

 private:
  static constexpr int64_t kBlock = 64;        // keys whose scores are formed at once
  static constexpr int64_t kFewestKeys = 256;  // of a part
  static constexpr int64_t kTasks = 4;         // of a thread, so that one that started late does not keep the others waiting
  // Rows of queries that share a key head: those for which this is the way however few keys there are, that read keys where they
  // lie, and for which keys are worth dividing.
  static constexpr int64_t kAlways = 2, kDirect = 8, kMostRows = 32;
  static constexpr bool kPairs = Words::kPerWord == 2;
  static constexpr int64_t kNear = int64_t{8} << 20;  // bytes that a last-level cache holds
  static_assert(kBlock % kPanel == 0 && kBlock % kLanes == 0);

  // What a part leaves of a row: the weighted sum of values, the maximum in powers of two, the sum.
  int64_t part_size() const { return row_d_ + kLanes; }

  // A thread's working memory: queries as words; scores; a packed block.
  struct Own {
    float *q, *scores, *shrink, *k, *v;
  };

  int64_t layout(Own& own, float* base) const {
    Cutter cut{base};
    const int64_t packed = rows_ > kDirect;
    own.q = cut.take(rows_ * a_row_);
    own.scores = cut.take(rows_ * kBlock);
    own.shrink = cut.take(rows_);
    own.k = cut.take(packed * (kBlock / kPanel) * words_d_ * kPanel);
    own.v = cut.take(packed * ceil_div(row_d_, kPanel) * v_panel_);
    return cut.used;
  }
  int64_t own_size() const {
    Own own;
    return layout(own, nullptr);
  }

  // Row r of a key head is query r % S of the head's member r / S.
  int64_t query_head(int64_t head, int64_t r) const { return head % f_.Hkv * group_ + r / f_.S; }

  void attend(int64_t head, int64_t part, Own& own, float* results) const {
    const int64_t b = head / f_.Hkv, h = head % f_.Hkv;
    for (int64_t r = 0; r < rows_; ++r) {
      const Rows q = rows_of(f_.q, b, query_head(head, r), r % f_.S, 1, f_.D, kType);
      copy_rows<Words, kType>(q, own.q + r * a_row_, a_row_);
      float* result = results + r * part_size();
      for (int64_t i = 0; i < row_d_; i += kLanes) store(result + i, zero());
      result[row_d_] = -INFINITY;
      result[row_d_ + 1] = 0;
    }
    const Band seen = sequence_of(f_, f_.S, f_.T, b).band;
    const int64_t begin = greatest(part * keys_, first_key(seen, 0)), end = least((part + 1) * keys_, end_key(seen, f_.S - 1));
    for (int64_t key = begin; key < end; key += kBlock) {
      const int64_t count = least(kBlock, end - key);
      const Rows k = rows_of(f_.k, b, h, key, count, f_.D, kType), v = rows_of(f_.v, b, h, key, count, f_.D, kType);
      if (rows_ > kDirect) {
        multiply_block(k, v, seen, key, own, results);
      } else {
        meet_block(k, v, seen, key, own, results);
      }
    }
  }

  // All queries meet a block.
  void multiply_block(const Rows& k, const Rows& v, const Band& seen, int64_t key, Own& own, float* results) const {
    pack_lanes<Words, kType>(k, own.k, words_d_, words_d_ * kPanel);
    pack_sum_over_rows<Words, kType>(v, own.v, v_panel_);
    const int64_t vectors = ceil_div(k.count, kLanes), words = ceil_div(k.count, Words::kPerWord);
    multiply<Words, Into::kSet>({words_d_, {own.q, a_row_, 1}, {own.k, words_d_ * kPanel}, own.scores, kBlock}, rows_, vectors);
    for (int64_t r = 0; r < rows_; ++r) {
      const int64_t first = greatest<int64_t>(0, first_key(seen, r % f_.S) - key);
      const int64_t last = least(k.count, end_key(seen, r % f_.S) - key);
      own.shrink[r] = soften<Words>(own.scores + r * kBlock, first, last, k.count, results + r * part_size() + row_d_);
    }
    const Right values = sum_over_rows<Words, kType>(v, own.v, v_panel_);
    multiply<Words, Into::kScaledAdd>({words, {own.scores, kBlock, 1}, values, results, part_size(), own.shrink}, rows_,
                                      ceil_div(f_.D, kLanes));
  }

  // All queries meet a block where it lies: those that see the same keys of it by fours or twos, which share what is done to read
  // its values.
  void meet_block(const Rows& k, const Rows& v, const Band& seen, int64_t key, Own& own, float* results) const {
    int64_t r = 0;
    for (; f_.S == 1 && r + 4 <= rows_; r += 4) meet<4>(k, v, seen, key, r, own, results);
    for (; f_.S == 1 && r + 2 <= rows_; r += 2) meet<2>(k, v, seen, key, r, own, results);
    for (; r < rows_; ++r) meet<1>(k, v, seen, key, r, own, results);
  }

  // What a block's values are added to: kRows rows of results from row r on, and what these are multiplied by before.
  template <int kRows>
  struct Gathered {
    const float* weights[kRows];
    float shrink[kRows];
    float* result[kRows];

    // result[i ...] = shrink result[i ...] + sums, kVecs vectors of each row. A block's products are summed first: added one by
    // one, each would take a rounding of the whole result on.
    template <int kVecs>
    void add(int64_t i, const Vec* sums) const {
#pragma GCC unroll 16
      for (int c = 0; c < kRows * kVecs; ++c) {
        float* const at = result[c / kVecs] + i + c % kVecs * kLanes;
        store(at, fma(load(at), set1(shrink[c / kVecs]), sums[c]));
      }
    }
  };

  template <int kRows>
  void meet(const Rows& k, const Rows& v, const Band& seen, int64_t key, int64_t r, Own& own, float* results) const {
    const int64_t first = greatest<int64_t>(0, first_key(seen, r % f_.S) - key);
    const int64_t last = least(k.count, end_key(seen, r % f_.S) - key);
    if (first >= last) return;
    const bool ask = far_ && r == 0;
    Gathered<kRows> to;
    for (int c = 0; c < kRows; ++c) {
      float* const row = own.scores + (r + c) * kBlock;
      for (int64_t n = first / kLanes * kLanes; n < last; n += kLanes) {
        store(row + n, scores(k, n, own.q + (r + c) * a_row_, v, ask && c == 0));
      }
      to.weights[c] = row;
      to.result[c] = results + (r + c) * part_size();
      to.shrink[c] = soften<Words>(row, first, last, k.count, to.result[c] + row_d_);
    }
    int64_t i = 0;
    if constexpr (kPairs) {
      constexpr int kMost = kRows == 4 ? 2 : 4;  // as many as there are registers for
      constexpr int64_t kStep = 2 * kMost * kLanes;
      for (; i + kStep <= f_.D; i += kStep) gather_pairs<kMost, true>(v, first, last, i, to, k, ask);
      for (; i + 4 * kLanes <= f_.D; i += 4 * kLanes) gather_pairs<2, true>(v, first, last, i, to, k, ask);
      for (; i < f_.D; i += 2 * kLanes) gather_pairs<1, false>(v, first, last, i, to, k, ask);
    } else {
      for (; i + 4 * kLanes <= f_.D; i += 4 * kLanes) gather<4, true>(v, first, last, i, to, k, ask);
      for (; i < f_.D; i += kLanes) gather<1, false>(v, first, last, i, to, k, ask);
    }
  }

  // Products of a block's keys with a query, of which [first, last) are seen, become weights 2^(score - maximum) as words, in
  // place. statistics[0] is the row's maximum, [1] its sum. Returns what earlier weights are to be multiplied by.
  template <class Kept>
  float soften(float* row, int64_t first, int64_t last, int64_t count, float* statistics) const {
    const Vec factor = set1(log2_scale_);
    const float old_max = statistics[0];
    const auto seen = [&](Vec x, int64_t n) { return n < first || last < n + kLanes ? only(x, first - n, last - n) : x; };
    Vec top = set1(old_max);
    for (int64_t n = 0; n < count; n += kLanes) top = max(top, seen(mul(load(row + n), factor), n));
    const float new_max = max_lanes(top);
    const Vec minus_max = set1(new_max == -INFINITY ? 0.f : -new_max);
    Vec sum = zero();
    for (int64_t n = 0; n < count; n += kLanes) {
      // One rounding, so that the sum makes up for that of the maximum.
      const Vec p = exp2<Kept::kExp2Degree>(seen(fma(load(row + n), factor, minus_max), n));
      sum = add(sum, p);
      Kept::store_row(row, n, p);
    }
    const float shrink = old_max == -INFINITY ? 0.f : exp2f(old_max - new_max);
    statistics[0] = new_max;
    statistics[1] = statistics[1] * shrink + sum_lanes(sum);
    return shrink;
  }

  // Some elements of a row into the second-level cache: values while keys are read, and the next keys meanwhile values are, or each
  // change from one to the other would wait for memory. Beyond the last nothing happens.
  static void ask_for(const char* row, int64_t elements) {
    for (int64_t byte = 0; byte < elements * size_of(kType); byte += 64) __builtin_prefetch(row + byte, 0, 2);
  }

  // What follows is inlined by force: it is more, for every number of rows, than compilers do by themselves, and called for every
  // few keys (a tenth of the time on an EPYC).

  // q k^T of kLanes keys from n on, one a lane; lanes beyond the block hold its last key's.
  [[gnu::always_inline]] Vec scores(const Rows& k, int64_t n, const float* q, const Rows& v, bool ask) const {
    Vec part[kLanes];
#pragma GCC unroll 16
    for (int64_t j = 0; j < kLanes; ++j) {
      const char* row = k.data + least(n + j, k.count - 1) * k.stride;
      if (ask) ask_for(v.data + (n + j) * v.stride, f_.D);
      Vec even = zero(), odd = zero();
      constexpr int64_t kWhole = kLanes * Words::kPerWord;
      const auto words = [&](int64_t at) { return load_words<Words, kType>(row, at, at + kWhole); };
      int64_t i = 0;
      for (; i + 2 * kWhole <= f_.D; i += 2 * kWhole) {
        even = Words::dot(even, words(i), load(q + i / Words::kPerWord));
        odd = Words::dot(odd, words(i + kWhole), load(q + (i + kWhole) / Words::kPerWord));
      }
      for (; i < f_.D; i += kWhole) even = Words::dot(even, load_words<Words, kType>(row, i, f_.D), load(q + i / Words::kPerWord));
      part[j] = add(even, odd);
    }
    return combine_each(part, [](Vec a, Vec b) { return add(a, b); });
  }

  // The weighted sum of kVecs vectors of each value, of which the last is whole or not.
  template <int kVecs, bool kWhole, int kRows>
  [[gnu::always_inline]]
  void gather(const Rows& v, int64_t first, int64_t last, int64_t i, const Gathered<kRows>& to, const Rows& k, bool ask) const {
    Vec acc[kRows * kVecs];
#pragma GCC unroll 16
    for (Vec& sum : acc) sum = zero();
    const char* row = v.data + first * v.stride + i * size_of(kType);
    const char* ahead = k.data + (kBlock + first) * k.stride + i * size_of(kType);
    for (int64_t n = first; n < last; ++n, row += v.stride, ahead += k.stride) {
      if (ask) ask_for(ahead, kVecs * kLanes);
      Vec p[kRows];
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) p[r] = set1(to.weights[r][n]);
#pragma GCC unroll 4
      for (int c = 0; c < kVecs; ++c) {
        const int64_t left = kWhole ? int64_t{kLanes} : f_.D - i - c * kLanes;
        const Vec value = load_as<kType>(row + c * kLanes * size_of(kType), left);
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r) acc[r * kVecs + c] = fma(p[r], value, acc[r * kVecs + c]);
      }
    }
    to.template add<kVecs>(i, acc);
  }

  // The same where a word holds the weights of two values: kWords vectors of words of each value. Columns of the result are in the
  // order that pairing the values up leaves them in, until `join`.
  template <int kWords, bool kWhole, int kRows>
  [[gnu::always_inline]]
  void gather_pairs(const Rows& v, int64_t first, int64_t last, int64_t i, const Gathered<kRows>& to, const Rows& k,
                    bool ask) const {
    constexpr int kVecs = 2 * kWords;
    constexpr int64_t kWord = 2 * kLanes;  // elements of a vector of words
    Vec acc[kRows * kVecs];
#pragma GCC unroll 16
    for (Vec& sum : acc) sum = zero();
    const auto words = [&](int64_t n, int c) {
      const int64_t at = i + c * kWord;
      return load_words<Words, kType>(v.data + n * v.stride, at, kWhole ? at + kWord : f_.D);
    };
    // Values n and n + 1, of which the one or the other is not seen if zero is to stand for it.
    const auto add_pair = [&](int64_t n, bool even, bool odd) {
      Vec p[kRows];
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) p[r] = set1(to.weights[r][n / 2]);
#pragma GCC unroll 4
      for (int c = 0; c < kWords; ++c) {
        Vec low = even ? words(n, c) : zero(), high = odd ? words(n + 1, c) : zero();
        Words::pair_up(low, high);
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r) {
          acc[r * kVecs + 2 * c] = Words::dot(acc[r * kVecs + 2 * c], low, p[r]);
          acc[r * kVecs + 2 * c + 1] = Words::dot(acc[r * kVecs + 2 * c + 1], high, p[r]);
        }
      }
    };
    int64_t n = first / 2 * 2;
    if (n < first) add_pair(n, false, first < last), n += 2;
    for (; n + 2 <= last; n += 2) {
      const char* ahead = k.data + (kBlock + n) * k.stride + i * size_of(kType);
      if (ask) ask_for(ahead, kWords * kWord), ask_for(ahead + k.stride, kWords * kWord);
      add_pair(n, true, true);
    }
    if (n < last) add_pair(n, true, false);
    to.template add<kVecs>(i, acc);
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
    for (int64_t i = 0; i < f_.D; i += Words::kPerWord * kLanes) {
      Vec x[Words::kPerWord];
#pragma GCC unroll 2
      for (int c = 0; c < Words::kPerWord; ++c) {
        x[c] = zero();
        for (int64_t part = 0; part < parts_; ++part) x[c] = fma(set1(share(part)), load(result(part) + i + c * kLanes), x[c]);
      }
      if constexpr (kPairs) {
        if (rows_ <= kDirect) Words::in_order(x[0], x[1]);
      }
#pragma GCC unroll 2
      for (int c = 0; c < Words::kPerWord; ++c) {
        const int64_t at = i + c * kLanes;
        if (at < f_.D) store_as<kType>(out + at * size_of(kType), mul(x[c], inverse), f_.D - at);
      }
    }
    f_.lse[(b * f_.Hq + h) * f_.S + row] = natural_lse(top, sum);
  }

  const Forward& f_;
  const int64_t heads_, group_, rows_, words_d_, row_d_, a_row_, v_panel_, parts_, keys_;
  const float log2_scale_;
  const bool far_;  // keys and values are too many for the caches
};

}  // namespace aieng::attention::AIENG_ISA
