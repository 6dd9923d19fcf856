// Forward pass: Dao, FlashAttention-2 (2023), algorithm 1, for processors. Keys and values are packed once per group of heads, then
// threads take blocks of queries and walk the keys with the online softmax in powers of two. Where a head is a single block of
// queries, the thread that takes the block packs for itself, and nobody waits for anybody.
#pragma once
#include "attention.h"
#include "cpu_pack.h"
#include "cpu_scratch.h"

namespace aieng::attention::AIENG_ISA {

constexpr int64_t kBlockQ = 16 * kTileRows;
constexpr int64_t kBlockK = 128;
static_assert(kBlockK % kPanel == 0);

template <class Words, Type kType>
class ForwardKernel {
 public:
  explicit ForwardKernel(const Forward& f)
      : f_(f),
        group_(f.Hq / greatest<int64_t>(f.Hkv, 1)),
        words_d_(ceil_div(f.D, Words::kPerWord)),
        vectors_d_(ceil_div(f.D, kLanes)),
        q_blocks_(ceil_div(f.S, kBlockQ)),
        rows_q_(q_blocks_ ? round_up(ceil_div(f.S, q_blocks_), kTileRows) : 0),
        k_blocks_(ceil_div(f.T, kBlockK)),
        k_rows_(least(kBlockK, round_up(f.T, kPanel))),
        k_size_(Scratch::padded(k_rows_ * words_d_)),
        v_panel_(k_rows_ / Words::kPerWord * kPanel),
        v_size_(ceil_div(vectors_d_, kTileVecs) * v_panel_),
        log2_scale_(f.scale * kLog2E) {}

  bool run() {
    const int64_t heads = f_.B * f_.Hkv, per_head = k_blocks_ * (k_size_ + v_size_);
    Block sizes;
    const int64_t per_thread = layout(sizes, nullptr);
    if (q_blocks_ * group_ == 1) return run_apart(heads, per_head, per_thread);
    const int64_t wave = heads_at_once(heads, per_head);
    Scratch scratch(wave * per_head + f_.threads * per_thread);
    if (!scratch.data()) return false;
    float* own = scratch.data() + wave * per_head;
    for (int64_t first = 0; first < heads; first += wave) {
      const int64_t count = least(wave, heads - first), blocks = q_blocks_ * group_;
#pragma omp parallel num_threads(f_.threads)
      {
        Block block;
        layout(block, own + thread_number() * per_thread);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < count * k_blocks_; ++i) {
          pack(first + i / k_blocks_, i % k_blocks_, scratch.data() + i * (k_size_ + v_size_));
        }
#pragma omp for schedule(dynamic, 1)
        for (int64_t i = 0; i < count * blocks; ++i) {
          const int64_t head = i / blocks, longest_first = q_blocks_ - 1 - i % blocks / group_;
          attend(block, first + head, i % group_, longest_first * rows_q_, scratch.data() + head * per_head);
        }
      }
    }
    return true;
  }

 private:
  // One thread's working memory for a block of queries.
  struct Block {
    float *q, *scores, *out, *max, *sum, *scale;
    int64_t first, rows;
  };

  int64_t layout(Block& block, float* base) const {
    Cutter cut{base};
    block.q = cut.take(kBlockQ * q_row());
    block.scores = cut.take(kBlockQ * kBlockK);
    block.out = cut.take(kBlockQ * out_row());
    block.max = cut.take(kBlockQ);
    block.sum = cut.take(kBlockQ * kLanes);
    block.scale = cut.take(kBlockQ);
    return cut.used;
  }
  int64_t q_row() const { return round_up(words_d_, kLanes); }
  int64_t out_row() const { return vectors_d_ * kLanes; }

  bool run_apart(int64_t heads, int64_t per_head, int64_t per_thread) const {
    Scratch scratch(f_.threads * (per_head + per_thread));
    if (!scratch.data()) return false;
#pragma omp parallel num_threads(f_.threads)
    {
      Block block;
      float* packed = scratch.data() + thread_number() * (per_head + per_thread);
      layout(block, packed + per_head);
#pragma omp for schedule(dynamic, 1)
      for (int64_t head = 0; head < heads; ++head) {
        for (int64_t k = 0; k < k_blocks_; ++k) pack(head, k, packed + k * (k_size_ + v_size_));
        attend(block, head, 0, 0, packed);
      }
    }
    return true;
  }

  // Enough heads to keep the threads busy to the end and, if they are short, to make a barrier worth its while.
  int64_t heads_at_once(int64_t heads, int64_t per_head) const {
    constexpr int64_t kWorthABarrier = 1 << 18;  // floats: what a second-level cache holds
    const int64_t busy = ceil_div(8 * f_.threads, greatest<int64_t>(q_blocks_ * group_, 1));
    return least(heads, greatest(busy, kWorthABarrier / greatest<int64_t>(per_head, 1)));
  }

  void pack(int64_t head, int64_t k_block, float* dst) const {
    const int64_t first = k_block * kBlockK, count = least(kBlockK, f_.T - first), b = head / f_.Hkv, h = head % f_.Hkv;
    pack_lanes<Words, kType>(rows_of(f_.k, b, h, first, count, f_.D, kType), dst, words_d_, words_d_ * kPanel);
    pack_sum_over_rows<Words, kType>(rows_of(f_.v, b, h, first, count, f_.D, kType), dst + k_size_, v_panel_);
  }

  void attend(Block& block, int64_t kv_head, int64_t member, int64_t first, const float* packed) const {
    const int64_t b = kv_head / f_.Hkv, h = kv_head % f_.Hkv * group_ + member;
    block.first = first;
    block.rows = least(rows_q_, f_.S - first);
    if (block.rows <= 0) return;
    pack_rows<Words, kType>(rows_of(f_.q, b, h, first, block.rows, f_.D, kType), block.q, q_row());
    const int64_t seen = keys_seen(f_.right == 0, first + block.rows - 1, f_.T);
    for (int64_t key = 0; key < seen; key += kBlockK, packed += k_size_ + v_size_) {
      const int64_t keys = least(kBlockK, seen - key);
      // Rows above the diagonal see none of these keys.
      const int64_t skipped = greatest<int64_t>(0, first_query(f_.right == 0, key) - first);
      const int64_t rows = block.rows - skipped;
      float* scores = block.scores + skipped * kBlockK;
      float* out = block.out + skipped * out_row();
      multiply<Words, Into::kSet>({words_d_, block.q + skipped * q_row(), q_row(), 1, packed, words_d_ * kPanel, scores, kBlockK},
                                  rows, ceil_div(keys, kLanes));
      for (int64_t r = skipped; r < block.rows; ++r) soften(block, r, key, keys);
      const Product values{
          ceil_div(keys, Words::kPerWord), scores, kBlockK, 1, packed + k_size_, v_panel_, out, out_row(), block.scale + skipped};
      if (key == 0) {
        multiply<Words, Into::kSet>(values, rows, vectors_d_);
      } else {
        multiply<Words, Into::kScaledAdd>(values, rows, vectors_d_);
      }
    }
    finish(block, b, h, seen > 0);
  }

  // A row of scores becomes probabilities 2^(score - maximum), as words, in place; the row's maximum and lane sums go along.
  void soften(Block& block, int64_t r, int64_t key, int64_t keys) const {
    float* row = block.scores + r * kBlockK;
    const int64_t seen = least(keys, keys_seen(f_.right == 0, block.first + r, f_.T) - key);
    const int64_t whole = seen / kLanes * kLanes, rest = seen - whole;
    const Vec factor = set1(log2_scale_);
    Vec top = set1(key ? block.max[r] : -INFINITY);
    for (int64_t i = 0; i < whole; i += kLanes) top = max(top, mul(load(row + i), factor));
    if (rest) top = max(top, keep_first(mul(load(row + whole), factor), rest, set1(-INFINITY)));
    const float new_max = max_lanes(top);
    const Vec minus_max = set1(-new_max);
    Vec sum = zero();
    for (int64_t i = 0; i < whole; i += kLanes) {
      const Vec p = exp2<Words::kExp2Degree>(fma(load(row + i), factor, minus_max));
      sum = add(sum, p);
      Words::store_row(row, i, p);
    }
    if (rest) {
      const Vec p = keep_first(exp2<Words::kExp2Degree>(fma(load(row + whole), factor, minus_max)), rest, zero());
      sum = add(sum, p);
      Words::store_row(row, whole, p);
    }
    for (int64_t i = round_up(seen, kLanes); i < keys; i += kLanes) Words::store_row(row, i, zero());
    float* sums = block.sum + r * kLanes;
    if (key) {
      block.scale[r] = exp2f(block.max[r] - new_max);
      sum = fma(load(sums), set1(block.scale[r]), sum);
    }
    store(sums, sum);
    block.max[r] = new_max;
  }

  void finish(const Block& block, int64_t b, int64_t h, bool any) const {
    char* const first = static_cast<char*>(f_.out.data) + (b * f_.out.batch + h * f_.out.head) * size_of(kType);
    for (int64_t r = 0; r < block.rows; ++r) {
      const int64_t row = block.first + r;
      const float sum = any ? sum_lanes(load(block.sum + r * kLanes)) : 0.f;
      const Vec inverse = set1(1.f / sum);
      char* out = first + row * f_.out.row * size_of(kType);
      for (int64_t i = 0; i < f_.D; i += kLanes) {
        const Vec x = any ? mul(load(block.out + r * out_row() + i), inverse) : zero();
        store_as<kType>(out + i * size_of(kType), x, f_.D - i);
      }
      f_.lse[(b * f_.Hq + h) * f_.S + row] = natural_lse(any ? block.max[r] : -INFINITY, sum);
    }
  }

  const Forward& f_;
  const int64_t group_, words_d_, vectors_d_, q_blocks_, rows_q_, k_blocks_, k_rows_, k_size_, v_panel_, v_size_;
  const float log2_scale_;
};

}  // namespace aieng::attention::AIENG_ISA
