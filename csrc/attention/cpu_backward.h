// Backward pass: Dao, FlashAttention-2 (2023), algorithm 2, for processors. A task owns a run of keys of one key/value head and
// walks the queries of every query head that shares it, so dk and dv have one writer and no sum depends on timing. Scores are
// formed transposed, keys in rows and queries in lanes: the softmax's row statistics are then vectors.
#pragma once
#include <initializer_list>

#include "attention.h"
#include "cpu_pack.h"
#include "cpu_scratch.h"

namespace aieng::attention::AIENG_ISA {

constexpr int64_t kQueries = 64;           // lanes of a block
constexpr int64_t kKeys = 16 * kTileRows;  // rows of a block
static_assert(kQueries % kPanel == 0 && kKeys % 2 == 0);

template <class Words, Type kType>
class BackwardKernel {
 public:
  explicit BackwardKernel(const Backward& f)
      : f_(f),
        heads_(f.B * f.Hkv),
        group_(f.Hq / greatest<int64_t>(f.Hkv, 1)),
        words_d_(ceil_div(f.D, Words::kPerWord)),
        vectors_d_(ceil_div(f.D, kLanes)),
        row_d_(vectors_d_ * kLanes),
        a_row_(round_up(words_d_, kLanes)),
        q_blocks_(ceil_div(f.S, kQueries)),
        lanes_size_(Scratch::padded(words_d_ * kQueries)),
        q_panel_(kQueries / Words::kPerWord * kPanel),
        q_size_(ceil_div(vectors_d_, kTileVecs) * q_panel_),
        k_panel_(kKeys / Words::kPerWord * kPanel),
        keys_(round_up(ceil_div(f.T, chunks_wanted()), kKeys)),
        chunks_(keys_ ? ceil_div(f.T, keys_) : 1),
        log2_scale_(f.scale * kLog2E) {}

  bool run() {
    Block sizes;
    const int64_t per_thread = layout(sizes, nullptr), dq_size = f_.S * row_d_;
    const int64_t partial = chunks_ > 1 ? chunks_ * f_.B * f_.Hq * dq_size : 0;
    Scratch scratch(f_.threads * per_thread + partial);
    if (!scratch.data()) return false;
    float* partials = scratch.data() + f_.threads * per_thread;
#pragma omp parallel num_threads(f_.threads)
    {
      Block block;
      layout(block, scratch.data() + thread_number() * per_thread);
#pragma omp for schedule(dynamic, 1)
      for (int64_t i = 0; i < heads_ * chunks_; ++i) keys_of_chunk(block, i / chunks_, i % chunks_, partials);
      if (chunks_ > 1) {
#pragma omp for schedule(static)
        for (int64_t i = 0; i < f_.B * f_.Hq; ++i)
          store_sum(f_.dq, i * f_.S, partials + i * chunks_ * dq_size, f_.S, chunks_, f_.scale);
      }
    }
    return true;
  }

 private:
  // One thread's working memory. Per query head: q and dout in both packings, and the row statistics. Per block of keys: k and v.
  struct Block {
    float *q_lanes, *dout_lanes, *q_rows, *dout_rows, *lse, *delta, *dq;
    float *k, *v, *k_rows, *dk, *dv;
    float *p, *ds, *ds_pairs;
  };

  int64_t layout(Block& block, float* base) const {
    Cutter cut{base};
    for (float** lanes : {&block.q_lanes, &block.dout_lanes}) *lanes = cut.take(q_blocks_ * lanes_size_);
    for (float** rows : {&block.q_rows, &block.dout_rows}) *rows = cut.take(q_blocks_ * q_size_);
    for (float** statistic : {&block.lse, &block.delta}) *statistic = cut.take(q_blocks_ * kQueries);
    block.dq = cut.take(chunks_ > 1 ? 0 : f_.S * row_d_);
    for (float** rows : {&block.k, &block.v}) *rows = cut.take(kKeys * a_row_);
    block.k_rows = cut.take(ceil_div(vectors_d_, kTileVecs) * k_panel_);
    for (float** gradient : {&block.dk, &block.dv}) *gradient = cut.take(keys_ * row_d_);
    for (float** square : {&block.p, &block.ds}) *square = cut.take(kKeys * kQueries);
    block.ds_pairs = Words::kPerWord == 1 ? block.ds : cut.take(kKeys / 2 * kQueries);
    return cut.used;
  }

  // One task a head where that divides well; else runs of keys, each with its own sum of dq.
  int64_t chunks_wanted() const {
    if (!heads_ || heads_ % f_.threads == 0 || heads_ >= 8 * f_.threads) return 1;
    return ceil_div(2 * f_.threads, heads_);
  }

  void keys_of_chunk(Block& block, int64_t head, int64_t chunk, float* partials) const {
    const int64_t b = head / f_.Hkv, h = head % f_.Hkv, first = chunk * keys_, count = least(keys_, f_.T - first);
    clear(block.dk, count * row_d_);
    clear(block.dv, count * row_d_);
    for (int64_t member = 0; member < group_; ++member) {
      const int64_t q_head = h * group_ + member, index = b * f_.Hq + q_head;
      float* dq = chunks_ > 1 ? partials + (index * chunks_ + chunk) * f_.S * row_d_ : block.dq;
      clear(dq, f_.S * row_d_);
      for (int64_t m = first_query(f_.right == 0, first) / kQueries; m < q_blocks_; ++m) pack_queries(block, b, q_head, m);
      for (int64_t key = first; key < first + count; key += kKeys) {
        const int64_t keys = least(kKeys, first + count - key);
        pack_keys(block, b, h, key, keys);
        for (int64_t m = first_query(f_.right == 0, key) / kQueries; m < q_blocks_; ++m) {
          meet(block, m, key, keys, (key - first) * row_d_, dq + m * kQueries * row_d_);
        }
      }
      if (chunks_ == 1) store_sum(f_.dq, index * f_.S, dq, f_.S, 1, f_.scale);
    }
    store_sum(f_.dk, head * f_.T + first, block.dk, count, 1, f_.scale);
    store_sum(f_.dv, head * f_.T + first, block.dv, count, 1, 1.f);
  }

  static void clear(float* p, int64_t floats) { std::memset(p, 0, floats * sizeof(float)); }

  void pack_queries(Block& block, int64_t b, int64_t head, int64_t m) const {
    const int64_t first = m * kQueries, count = least(kQueries, f_.S - first);
    const Rows q = rows_of(f_.q, b, head, first, count, f_.D, kType), dout = rows_of(f_.dout, b, head, first, count, f_.D, kType);
    const Rows out = rows_of(f_.out, b, head, first, count, f_.D, kType);
    pack_lanes<Words, kType>(q, block.q_lanes + m * lanes_size_, words_d_, words_d_ * kPanel);
    pack_lanes<Words, kType>(dout, block.dout_lanes + m * lanes_size_, words_d_, words_d_ * kPanel);
    pack_sum_over_rows<Words, kType>(q, block.q_rows + m * q_size_, q_panel_);
    pack_sum_over_rows<Words, kType>(dout, block.dout_rows + m * q_size_, q_panel_);
    const float* lse = f_.lse + (b * f_.Hq + head) * f_.S + first;
    for (int64_t r = 0; r < kQueries; ++r) {
      const bool there = r < count;  // a lane without a query gets probability zero
      block.lse[first + r] = there ? lse[r] * kLog2E : 1e30f;
      block.delta[first + r] = there ? dot_rows(dout.data + r * dout.stride, out.data + r * out.stride) : 0.f;
    }
  }

  float dot_rows(const char* a, const char* b) const {
    Vec sum = zero();
    for (int64_t i = 0; i < f_.D; i += kLanes) {
      const int64_t n = least<int64_t>(f_.D - i, kLanes);
      sum = fma(load_as<kType>(a + i * size_of(kType), n), load_as<kType>(b + i * size_of(kType), n), sum);
    }
    return sum_lanes(sum);
  }

  void pack_keys(Block& block, int64_t b, int64_t h, int64_t key, int64_t keys) const {
    const Rows k = rows_of(f_.k, b, h, key, keys, f_.D, kType);
    pack_rows<Words, kType>(k, block.k, a_row_);
    pack_rows<Words, kType>(rows_of(f_.v, b, h, key, keys, f_.D, kType), block.v, a_row_);
    pack_sum_over_rows<Words, kType>(k, block.k_rows, k_panel_);
  }

  // A block of keys meets a block of queries.
  void meet(Block& block, int64_t m, int64_t key, int64_t keys, int64_t at, float* dq) const {
    const int64_t queries = least(kQueries, f_.S - m * kQueries), words = ceil_div(queries, Words::kPerWord);
    const int64_t vectors = ceil_div(queries, kLanes), panel = words_d_ * kPanel;
    const float *q = block.q_lanes + m * lanes_size_, *dout = block.dout_lanes + m * lanes_size_;
    multiply<Words, Into::kSet>({words_d_, block.k, a_row_, 1, q, panel, block.p, kQueries}, keys, vectors);
    multiply<Words, Into::kSet>({words_d_, block.v, a_row_, 1, dout, panel, block.ds, kQueries}, keys, vectors);
    for (int64_t n = 0; n < keys; n += 2) {
      for (int64_t lane = 0; lane < queries; lane += kLanes) differentiate(block, n, m * kQueries, lane, key, keys);
    }
    const float *q_rows = block.q_rows + m * q_size_, *dout_rows = block.dout_rows + m * q_size_;
    multiply<Words, Into::kAdd>({words, block.p, kQueries, 1, dout_rows, q_panel_, block.dv + at, row_d_}, keys, vectors_d_);
    multiply<Words, Into::kAdd>({words, block.ds, kQueries, 1, q_rows, q_panel_, block.dk + at, row_d_}, keys, vectors_d_);
    const int64_t key_words = ceil_div(keys, Words::kPerWord);
    multiply<Words, Into::kAdd>({key_words, block.ds_pairs, 1, kQueries, block.k_rows, k_panel_, dq, row_d_}, queries, vectors_d_);
  }

  // Two rows of scores become p = 2^(score - lse), and their dp become ds = p (dp - delta), as words, in place.
  void differentiate(Block& block, int64_t n, int64_t query, int64_t lane, int64_t key, int64_t keys) const {
    const Vec lse = load(block.lse + query + lane), delta = load(block.delta + query + lane), factor = set1(log2_scale_);
    Vec ds[2] = {zero(), zero()};
    for (int64_t r = 0; r < 2 && n + r < keys; ++r) {
      float *p_row = block.p + (n + r) * kQueries, *ds_row = block.ds + (n + r) * kQueries;
      Vec p = exp2<Words::kExp2Degree>(sub(mul(load(p_row + lane), factor), lse));
      const int64_t hidden = first_query(f_.right == 0, key + n + r) - query - lane;
      if (hidden > 0) p = keep_first(zero(), least<int64_t>(hidden, kLanes), p);
      ds[r] = mul(p, sub(load(ds_row + lane), delta));
      Words::store_row(p_row, lane, p);
      Words::store_row(ds_row, lane, ds[r]);
    }
    if constexpr (Words::kPerWord == 2) Words::store_pair(block.ds_pairs + n / 2 * kQueries + lane, 0, ds[0], ds[1]);
  }

  // Rows [row, row + count) of a contiguous output: the sum of `terms` parts, in order, times `factor`.
  void store_sum(void* output, int64_t row, const float* parts, int64_t count, int64_t terms, float factor) const {
    for (int64_t r = 0; r < count; ++r) {
      char* out = static_cast<char*>(output) + (row + r) * f_.D * size_of(kType);
      for (int64_t i = 0; i < f_.D; i += kLanes) {
        Vec x = load(parts + r * row_d_ + i);
        for (int64_t t = 1; t < terms; ++t) x = add(x, load(parts + (t * f_.S + r) * row_d_ + i));
        store_as<kType>(out + i * size_of(kType), mul(x, set1(factor)), f_.D - i);
      }
    }
  }

  const Backward& f_;
  const int64_t heads_, group_, words_d_, vectors_d_, row_d_, a_row_, q_blocks_, lanes_size_, q_panel_, q_size_, k_panel_, keys_,
      chunks_;
  const float log2_scale_;
};

}  // namespace aieng::attention::AIENG_ISA
