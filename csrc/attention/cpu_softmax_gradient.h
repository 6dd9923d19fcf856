// The backward pass between its products: scores and dp of a block of keys and queries become p and ds.
#pragma once
#include "cpu_backward_plan.h"
#include "cpu_dropout.h"
#include "cpu_gemm.h"
#include "cpu_scores.h"

namespace aieng::attention::AIENG_ISA {

static_assert(kKeys % 4 == 0 && kKeys % kLanes == 0);

// Keys in rows, queries in kQueries lanes; ds_pairs holds ds as the words of an operand that is summed over keys.
struct Square {
  float *p, *ds, *ds_pairs, *mask, *kept;
};

template <class Words, Type kType>
class SoftmaxGradient {
 public:
  explicit SoftmaxGradient(const Problem& f)
      : f_(f), scores_(f), dropped_(f), drops_(drops(f)), asks_(drops_ || shapes_scores(f)) {}

  void layout(Square& square, Cutter& cut) const {
    for (float** part : {&square.p, &square.ds}) *part = cut.take(kKeys * kQueries);
    square.ds_pairs = Words::kPerWord == 1 ? square.ds : cut.take(kKeys / 2 * kQueries);
    square.mask = cut.take(scores_.masked() ? kKeys * kQueries : 0);
    square.kept = cut.take(drops_ ? kKeys * kQueries : 0);
  }

  // In place; lse and delta are those of the block's queries.
  void differentiate(const Square& square, const Sequence& s, int64_t head, int64_t query, int64_t queries, int64_t key,
                     int64_t keys, const float* lse, const float* delta) const {
    // Of row n, lanes [n + low, n + high) see the key.
    const int64_t low = key - s.band.high + 1 - query, high = key - s.band.low + 1 - query;
    const bool asks = asks_ || high < queries;
    if (asks_) lay_out_what_is_asked(square, s, head, query, queries, key, keys);
    for (int64_t n = 0; n < keys; n += 2) {
      for (int64_t lane = 0; lane < queries; lane += kLanes) {
        const int64_t first = n + low - lane, end = n + high - lane;
        if (asks) {
          pair<true>(square, n, lane, keys, first, end, load(lse + lane), load(delta + lane));
        } else {
          pair<false>(square, n, lane, keys, first, end, load(lse + lane), load(delta + lane));
        }
      }
    }
  }

 private:
  // The mask and what dropout keeps, keys in rows and queries in lanes like the scores.
  void lay_out_what_is_asked(const Square& square, const Sequence& s, int64_t head, int64_t query, int64_t queries, int64_t key,
                             int64_t keys) const {
    for (int64_t lane = 0; lane < queries; lane += kLanes) {
      for (int64_t n = 0; scores_.masked() && n < keys; n += kLanes) {
        Vec block[kLanes];
        for (int64_t r = 0; r < kLanes; ++r) {
          const bool there = lane + r < queries;
          block[r] = there ? scores_.mask_at(scores_.mask_row(s, head, query + lane + r), key + n, keys - n) : zero();
        }
        transpose(block);
        for (int64_t r = 0; r < kLanes; ++r) store(square.mask + (n + r) * kQueries + lane, block[r]);
      }
      for (int64_t n = 0; drops_ && n < keys; n += 4) {
        Vec kept[4];
        dropped_.of_queries(s, head, query + lane, key + n, kept);
        for (int64_t r = 0; r < 4; ++r) store(square.kept + (n + r) * kQueries + lane, kept[r]);
      }
    }
  }

  // Two rows of products become p = 2^((scale product - lse) log2 e), and their dp become ds = p (dp - delta), as words; p is zero
  // before lane `first` of the first row, first + 1 of the second. If more is asked for: also from lane `end` on, and ds is of the
  // p before dropout, times the soft cap's slope.
  template <bool kAsked>
  void pair(const Square& square, int64_t n, int64_t lane, int64_t keys, int64_t first, int64_t end, Vec lse, Vec delta) const {
    Vec ds[2] = {zero(), zero()};
    for (int64_t r = 0; r < 2 && n + r < keys; ++r, ++first, ++end) {
      const int64_t at = (n + r) * kQueries;
      float *p_row = square.p + at, *ds_row = square.ds + at;
      if constexpr (kAsked) {
        Vec slope, score = scores_.capped(load(p_row + lane), slope), dp = load(ds_row + lane);
        if (scores_.masked()) score = scores_.with_mask(score, load(square.mask + at + lane));
        const Vec exponent = mul(sub(only(score, first, end), lse), set1(kLog2E));
        // Of scores near the lowest number, an ulp is a large power of two.
        const Vec p = exp2<Words::kExp2Degree>(if_less(zero(), exponent, zero(), exponent));
        Vec kept = p;
        if (drops_) {
          const Vec ones = load(square.kept + at + lane);
          kept = mul(p, ones);
          dp = mul(dp, mul(ones, set1(f_.dropout.rescale)));
        }
        ds[r] = mul(mul(p, slope), sub(dp, delta));
        Words::store_row(p_row, lane, kept);
      } else {
        const Vec exponent = mul(fma(load(p_row + lane), set1(f_.scale), sub(zero(), lse)), set1(kLog2E));
        Vec p = exp2<Words::kExp2Degree>(exponent);
        if (first > 0) p = keep_first(zero(), least<int64_t>(first, kLanes), p);
        ds[r] = mul(p, sub(load(ds_row + lane), delta));
        Words::store_row(p_row, lane, p);
      }
      Words::store_row(ds_row, lane, ds[r]);
    }
    if constexpr (Words::kPerWord == 2) Words::store_pair(square.ds_pairs + n / 2 * kQueries + lane, 0, ds[0], ds[1]);
  }

  const Problem& f_;
  const Scores<kType> scores_;
  const Dropped dropped_;
  const bool drops_, asks_;
};

}  // namespace aieng::attention::AIENG_ISA
