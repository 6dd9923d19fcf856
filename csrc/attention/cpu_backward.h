// Backward pass: Dao, FlashAttention-2 (2023), algorithm 2, for processors. A task owns a run of keys of one key/value head and
// walks the queries of every query head that shares it, so dk and dv have one writer and no sum depends on timing. Scores are
// formed transposed, keys in rows and queries in lanes: the softmax's row statistics are then vectors.
#pragma once
#include <initializer_list>

#include "cpu_backward_plan.h"
#include "cpu_pack.h"
#include "cpu_softmax_gradient.h"

namespace aieng::attention::AIENG_ISA {

static_assert(kQueries % kPanel == 0);

template <class Words, Type kType>
class BackwardKernel {
 public:
  explicit BackwardKernel(const Backward& f)
      : f_(f),
        softmax_(f),
        plan_(f),
        group_(f.Hq / greatest<int64_t>(f.Hkv, 1)),
        words_d_(ceil_div(f.D, Words::kPerWord)),
        vectors_d_(ceil_div(f.D, kLanes)),
        row_d_(vectors_d_ * kLanes),
        a_row_(round_up(words_d_, kLanes)),
        lanes_size_(Scratch::padded(words_d_ * kQueries)),
        q_panel_(kQueries / Words::kPerWord * kPanel),
        q_size_(ceil_div(vectors_d_, kTileVecs) * q_panel_),
        k_panel_(kKeys / Words::kPerWord * kPanel) {}

  bool run() {
    Block sizes;
    const int64_t per_thread = layout(sizes, nullptr);
    Scratch scratch(plan_.table_size() + f_.threads * per_thread + plan_.rows_apart * row_d_);
    if (!scratch.data()) return false;
    plan_.count(scratch.data());
    float *own = scratch.data() + plan_.table_size(), *partials = own + f_.threads * per_thread;
#pragma omp parallel num_threads(f_.threads)
    {
      Block block;
      layout(block, own + thread_number() * per_thread);
#pragma omp for schedule(dynamic, 1)
      for (int64_t i = 0; i < plan_.items(); ++i) {
        const auto item = plan_.run(i);
        keys_of_run(block, item.share, item.head, item.chunk, partials + item.partial * row_d_);
      }
      if (plan_.rows_apart) {
#pragma omp for schedule(dynamic, 1)
        for (int64_t i = 0; i < plan_.sequences * f_.Hq; ++i) sum_runs(i / f_.Hq, i % f_.Hq, partials);
      }
    }
    return true;
  }

 private:
  // One thread's working memory. Per query head: q and dout in both packings, and the row statistics. Per block of keys: k and v.
  struct Block {
    float *q_lanes, *dout_lanes, *q_rows, *dout_rows, *lse, *delta, *dq;
    float *k_words, *v_words, *k_rows, *dk, *dv;
    Left k, v;
    Square square;
  };

  int64_t layout(Block& block, float* base) const {
    const int64_t q_blocks = ceil_div(plan_.most_queries, kQueries);
    Cutter cut{base};
    for (float** lanes : {&block.q_lanes, &block.dout_lanes}) *lanes = cut.take(q_blocks * lanes_size_);
    for (float** rows : {&block.q_rows, &block.dout_rows}) *rows = cut.take(q_blocks * q_size_);
    for (float** statistic : {&block.lse, &block.delta}) *statistic = cut.take(q_blocks * kQueries);
    block.dq = cut.take(plan_.most_queries_undivided * row_d_);
    for (float** rows : {&block.k_words, &block.v_words}) *rows = cut.take(kLieAsWords<Words, kType> ? 0 : kKeys * a_row_);
    block.k_rows = cut.take(ceil_div(vectors_d_, kTileVecs) * k_panel_);
    for (float** gradient : {&block.dk, &block.dv}) *gradient = cut.take(plan_.most_keys * row_d_);
    softmax_.layout(block.square, cut);
    return cut.used;
  }

  void keys_of_run(Block& block, const Share& share, int64_t h, int64_t chunk, float* partials) const {
    const Sequence& s = share.s;
    const Band& band = s.band;
    const int64_t first = chunk * share.keys, count = least(share.keys, band.keys - first), dq_size = band.queries * row_d_;
    clear(block.dk, count * row_d_);
    clear(block.dv, count * row_d_);
    for (int64_t member = 0; member < group_; ++member) {
      const int64_t q_head = h * group_ + member;
      float* dq = share.chunks > 1 ? partials + (q_head * share.chunks + chunk) * dq_size : block.dq;
      clear(dq, dq_size);
      const Blocks all = blocks_that_see(band, first, count);
      for (int64_t m = all.first; m < all.end; ++m) pack_queries(block, s, q_head, m);
      for (int64_t key = first; key < first + count; key += kKeys) {
        const int64_t keys = least(kKeys, first + count - key);
        const Blocks some = blocks_that_see(band, key, keys);
        if (some.first < some.end) pack_keys(block, s, h, key, keys);
        for (int64_t m = some.first; m < some.end; ++m) {
          meet(block, s, q_head, h, m, key, keys, (key - first) * row_d_, dq + m * kQueries * row_d_);
        }
      }
      if (share.chunks == 1) store_sum(f_.dq, row_of_q(s, q_head), dq, band.queries, 1, f_.scale, 0);
    }
    const int64_t row = (s.batch * f_.Hkv + h) * f_.T + s.k_first;
    store_sum(f_.dk, row + first, block.dk, count, 1, f_.scale, 0);
    store_sum(f_.dv, row + first, block.dv, count, 1, f_.dropout.rescale, 0);
    if (f_.lengths.k_lengths && chunk == share.chunks - 1) {
      for (void* gradient : {f_.dk, f_.dv}) {  // of room without keys
        const int64_t size = f_.D * size_of(kType);
        std::memset(static_cast<char*>(gradient) + (row + band.keys) * size, 0, (f_.T - band.keys) * size);
      }
    }
  }

  void sum_runs(int64_t n, int64_t q_head, const float* partials) const {
    const Share share = plan_.share_of(n);
    const int64_t queries = share.s.band.queries, first = plan_.partial(n) + q_head * share.chunks * queries;
    if (share.chunks == 1) return;
    store_sum(f_.dq, row_of_q(share.s, q_head), partials + first * row_d_, queries, share.chunks, f_.scale, queries * row_d_);
  }

  int64_t row_of_q(const Sequence& s, int64_t q_head) const { return (s.batch * f_.Hq + q_head) * f_.S + s.q_first; }

  static void clear(float* p, int64_t floats) { std::memset(p, 0, floats * sizeof(float)); }

  // Blocks of queries with one that sees one of `count` keys.
  struct Blocks {
    int64_t first, end;
  };
  static Blocks blocks_that_see(const Band& band, int64_t key, int64_t count) {
    const int64_t first = first_query(band, key), end = end_query(band, key + count - 1);
    return {first / kQueries, count && first < end ? ceil_div(end, kQueries) : 0};
  }

  void pack_queries(Block& block, const Sequence& s, int64_t head, int64_t m) const {
    const int64_t first = m * kQueries;
    const Rows q = queries_of(f_.q, s, head, first), dout = queries_of(f_.dout, s, head, first);
    const Rows out = queries_of(f_.out, s, head, first);
    pack_lanes<Words, kType>(q, block.q_lanes + m * lanes_size_, words_d_, words_d_ * kPanel);
    pack_lanes<Words, kType>(dout, block.dout_lanes + m * lanes_size_, words_d_, words_d_ * kPanel);
    pack_sum_over_rows<Words, kType>(q, block.q_rows + m * q_size_, q_panel_);
    pack_sum_over_rows<Words, kType>(dout, block.dout_rows + m * q_size_, q_panel_);
    const float* lse = f_.lse + row_of_q(s, head) + first;
    for (int64_t r = 0; r < kQueries; ++r) {
      // A lane without a query, or with one that sees no key, gets probability zero.
      const bool there = r < q.count;
      block.lse[first + r] = there && lse[r] != -INFINITY ? lse[r] : 1e30f;
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

  void pack_keys(Block& block, const Sequence& s, int64_t h, int64_t key, int64_t keys) const {
    const Rows k = keys_of(f_.k, s, h, key, keys);
    block.k = pack_rows<Words, kType>(k, block.k_words, a_row_);
    block.v = pack_rows<Words, kType>(keys_of(f_.v, s, h, key, keys), block.v_words, a_row_);
    pack_sum_over_rows<Words, kType>(k, block.k_rows, k_panel_);
  }

  Rows keys_of(const View& x, const Sequence& s, int64_t h, int64_t key, int64_t keys) const {
    return rows_of(x, s.batch, h, s.k_first + key, keys, f_.D, kType);
  }
  Rows queries_of(const View& x, const Sequence& s, int64_t head, int64_t first) const {
    return rows_of(x, s.batch, head, s.q_first + first, least(kQueries, s.band.queries - first), f_.D, kType);
  }

  // A block of keys meets a block of queries.
  void meet(Block& block, const Sequence& s, int64_t head, int64_t kv_head, int64_t m, int64_t key, int64_t keys, int64_t at,
            float* dq) const {
    const int64_t first = m * kQueries, queries = least(kQueries, s.band.queries - first);
    const int64_t words = ceil_div(queries, Words::kPerWord), vectors = ceil_div(queries, kLanes), panel = words_d_ * kPanel;
    const Square& square = block.square;
    const Right q{block.q_lanes + m * lanes_size_, panel}, dout{block.dout_lanes + m * lanes_size_, panel};
    multiply<Words, Into::kSet>({words_d_, block.k, q, square.p, kQueries}, keys, vectors);
    multiply<Words, Into::kSet>({words_d_, block.v, dout, square.ds, kQueries}, keys, vectors);
    softmax_.differentiate(square, s, head, first, queries, key, keys, block.lse + first, block.delta + first);
    const Left p{square.p, kQueries, 1}, ds{square.ds, kQueries, 1}, ds_of_queries{square.ds_pairs, 1, kQueries};
    const Right dout_rows = over_rows(queries_of(f_.dout, s, head, first), block.dout_rows + m * q_size_, q_panel_);
    const Right q_rows = over_rows(queries_of(f_.q, s, head, first), block.q_rows + m * q_size_, q_panel_);
    const Right k_rows = over_rows(keys_of(f_.k, s, kv_head, key, keys), block.k_rows, k_panel_);
    multiply<Words, Into::kAdd>({words, p, dout_rows, block.dv + at, row_d_}, keys, vectors_d_);
    multiply<Words, Into::kAdd>({words, ds, q_rows, block.dk + at, row_d_}, keys, vectors_d_);
    multiply<Words, Into::kAdd>({ceil_div(keys, Words::kPerWord), ds_of_queries, k_rows, dq, row_d_}, queries, vectors_d_);
  }

  static Right over_rows(const Rows& rows, const float* packed, int64_t panel) {
    return sum_over_rows<Words, kType>(rows, packed, panel);
  }

  // Rows [row, row + count) of a contiguous output: the sum of `terms` parts, in order, `stride` apart, times `factor`.
  void store_sum(void* output, int64_t row, const float* parts, int64_t count, int64_t terms, float factor, int64_t stride) const {
    for (int64_t r = 0; r < count; ++r) {
      char* out = static_cast<char*>(output) + (row + r) * f_.D * size_of(kType);
      for (int64_t i = 0; i < f_.D; i += kLanes) {
        Vec x = load(parts + r * row_d_ + i);
        for (int64_t t = 1; t < terms; ++t) x = add(x, load(parts + t * stride + r * row_d_ + i));
        store_as<kType>(out + i * size_of(kType), mul(x, set1(factor)), f_.D - i);
      }
    }
  }

  const Backward& f_;
  const SoftmaxGradient<Words, kType> softmax_;
  BackwardPlan plan_;
  const int64_t group_, words_d_, vectors_d_, row_d_, a_row_, lanes_size_, q_panel_, q_size_, k_panel_;
};

}  // namespace aieng::attention::AIENG_ISA
