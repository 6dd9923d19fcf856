// Forward pass: Dao, FlashAttention-2 (2023), algorithm 1, for processors. Keys and values are packed once per group of heads, then
// threads take blocks of queries and walk the keys with the online softmax in powers of two. Where a head is a single block of
// queries, the thread that takes the block packs for itself, and nobody waits for anybody.
#pragma once
#include "cpu_dropout.h"
#include "cpu_forward_plan.h"
#include "cpu_pack.h"
#include "cpu_scores.h"

namespace aieng::attention::AIENG_ISA {

static_assert(kBlockK % kPanel == 0 && kBlockK % (4 * kLanes) == 0);

template <class Words, Type kType>
class ForwardKernel {
 public:
  explicit ForwardKernel(const Forward& f)
      : f_(f),
        scores_(f),
        dropped_(f),
        shapes_(shapes_scores(f)),
        drops_(drops(f)),
        plan_(f),
        words_d_(ceil_div(f.D, Words::kPerWord)),
        vectors_d_(ceil_div(f.D, kLanes)),
        k_rows_(least(kBlockK, round_up(plan_.most_keys, kPanel))),
        k_size_(Scratch::padded(k_rows_ * words_d_)),
        v_panel_(k_rows_ / Words::kPerWord * kPanel),
        kv_size_(k_size_ + Scratch::padded(ceil_div(vectors_d_, kTileVecs) * v_panel_)),
        log2_scale_(f.scale * kLog2E) {}

  bool run() {
    if (plan_.most_q_blocks * plan_.group == 1) return run_apart();
    Block sizes;
    const int64_t per_thread = layout(sizes, nullptr);
    int64_t packed = 0;
    for (Wave wave; wave.end < plan_.heads();) {
      wave = plan_.after(wave, kv_size_);
      packed = greatest(packed, wave.k_blocks * kv_size_);
    }
    Scratch scratch(packed + plan_.table_size() + f_.threads * per_thread);
    if (!scratch.data()) return false;
    float *table = scratch.data() + packed, *own = table + plan_.table_size();
    plan_.count(table);
    for (Wave wave; wave.end < plan_.heads();) {
      wave = plan_.after(wave, kv_size_);
#pragma omp parallel num_threads(f_.threads)
      {
        Block block;
        layout(block, own + thread_number() * per_thread);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < wave.k_blocks; ++i) {
          const auto item = plan_.keys(wave, i);
          pack(item.part, item.head, item.block, scratch.data() + i * kv_size_);
        }
#pragma omp for schedule(dynamic, 1)
        for (int64_t i = 0; i < wave.q_blocks; ++i) {
          const auto item = plan_.queries(wave, i);
          attend(block, item.part, item.head, item.block, scratch.data() + item.first_keys * kv_size_);
        }
      }
    }
    return true;
  }

 private:
  // One thread's working memory for a block of queries.
  struct Block {
    float *q, *scores, *out, *max, *sum, *scale, *kept;
    int64_t first, rows;
  };

  int64_t layout(Block& block, float* base) const {
    Cutter cut{base};
    block.q = cut.take(kLieAsWords<Words, kType> ? 0 : kBlockQ * q_row());
    block.scores = cut.take(kBlockQ * kBlockK);
    block.out = cut.take(kBlockQ * out_row());
    block.max = cut.take(kBlockQ + kLanes);
    block.sum = cut.take(kBlockQ * kLanes);
    block.scale = cut.take(kBlockQ + kLanes);
    block.kept = cut.take(drops_ ? kBlockK : 0);
    return cut.used;
  }
  int64_t q_row() const { return round_up(words_d_, kLanes); }
  int64_t out_row() const { return vectors_d_ * kLanes; }

  bool run_apart() const {
    Block sizes;
    const int64_t per_head = ceil_div(plan_.most_keys, kBlockK) * kv_size_, per_thread = layout(sizes, nullptr);
    Scratch scratch(f_.threads * (per_head + per_thread));
    if (!scratch.data()) return false;
#pragma omp parallel num_threads(f_.threads)
    {
      Block block;
      float* packed = scratch.data() + thread_number() * (per_head + per_thread);
      layout(block, packed + per_head);
#pragma omp for schedule(dynamic, 1)
      for (int64_t i = 0; i < plan_.heads(); ++i) {
        const Part part = plan_.part_of(i / f_.Hkv);
        for (int64_t k = 0; k < part.k_blocks; ++k) pack(part, i % f_.Hkv, k, packed + k * kv_size_);
        attend(block, part, i % f_.Hkv, 0, packed);
      }
    }
    return true;
  }

  void pack(const Part& part, int64_t h, int64_t k_block, float* dst) const {
    const int64_t first = part.first_key + k_block * kBlockK, count = least(kBlockK, part.keys - k_block * kBlockK);
    pack_lanes<Words, kType>(keys_of(f_.k, part.s, h, first, count), dst, words_d_, words_d_ * kPanel);
    pack_sum_over_rows<Words, kType>(keys_of(f_.v, part.s, h, first, count), dst + k_size_, v_panel_);
  }

  // Keys [first, first + count) of a sequence.
  Rows keys_of(const View& view, const Sequence& s, int64_t h, int64_t first, int64_t count) const {
    return rows_of(view, s.batch, h, s.k_first + first, count, f_.D, kType);
  }

  void attend(Block& block, const Part& part, int64_t h, int64_t q_block, const float* packed) const {
    const Band& band = part.s.band;
    const int64_t first = block.first = q_block * part.rows, last = least(first + part.rows, band.queries) - 1;
    block.rows = last + 1 - first;
    if (block.rows <= 0) return;
    const Rows queries = rows_of(f_.q, part.s.batch, h, part.s.q_first + first, block.rows, f_.D, kType);
    const Left q = pack_rows<Words, kType>(queries, block.q, q_row());
    const int64_t skipped = greatest<int64_t>(0, first_key(band, first) - part.first_key) / kBlockK, seen = end_key(band, last);
    int64_t key = part.first_key + skipped * kBlockK;
    packed += skipped * kv_size_;
    // Where every row sees the first block, that block sets what the others add to.
    bool fresh = key < seen && first_query(band, key) <= first && end_query(band, least(key + kBlockK, seen) - 1) > last;
    if (!fresh) clear(block);
    for (; key < seen; key += kBlockK, packed += kv_size_) {
      const int64_t keys = least(kBlockK, seen - key);
      // Rows before `top` and from `bottom` on see none of these keys.
      const int64_t top = greatest<int64_t>(0, first_query(band, key) - first);
      const int64_t bottom = least(block.rows, end_query(band, key + keys - 1) - first), rows = bottom - top;
      float* scores = block.scores + top * kBlockK;
      float* out = block.out + top * out_row();
      const Left q_rows{q.data + top * q.row, q.row, 1};
      multiply<Words, Into::kSet>({words_d_, q_rows, {packed, words_d_ * kPanel}, scores, kBlockK}, rows, ceil_div(keys, kLanes));
      soften(block, part.s, h, top, bottom, key, keys, fresh);
      const Right v = sum_over_rows<Words, kType>(keys_of(f_.v, part.s, h / plan_.group, key, keys), packed + k_size_, v_panel_);
      const Product values{ceil_div(keys, Words::kPerWord), {scores, kBlockK, 1}, v, out, out_row(), block.scale + top};
      if (fresh) {
        multiply<Words, Into::kSet>(values, rows, vectors_d_);
      } else {
        multiply<Words, Into::kScaledAdd>(values, rows, vectors_d_);
      }
      fresh = false;
    }
    finish(block, part.s, h);
  }

  void clear(Block& block) const {
    std::memset(block.out, 0, block.rows * out_row() * sizeof(float));
    std::memset(block.sum, 0, block.rows * kLanes * sizeof(float));
    for (int64_t r = 0; r < block.rows; ++r) block.max[r] = -INFINITY;
  }

  // Products of rows [top, bottom) become probabilities 2^(score - maximum), as words, in place, zero up to `keys`; the rows'
  // maxima and lane sums go along. Whatever is asked beside a scale is done here.
  void soften(Block& block, const Sequence& s, int64_t h, int64_t top, int64_t bottom, int64_t key, int64_t keys,
              bool fresh) const {
    for (int64_t r = top; r < bottom; r += kLanes) {
      const int64_t count = least<int64_t>(bottom - r, kLanes);
      Seen seen[kLanes];
      Vec maxima[kLanes];  // of lanes
      for (int64_t i = 0; i < kLanes; ++i) {
        if (i < count) seen[i] = shaped(block, s, h, r + i, key, keys);
        maxima[i] = i < count ? max_of_row(block.scores + (r + i) * kBlockK, seen[i]) : set1(-INFINITY);
      }
      transpose(maxima);
      const Vec old = fresh ? set1(-INFINITY) : load(block.max + r);
      Vec highest = old;
      for (int64_t i = 0; i < kLanes; ++i) highest = max(maxima[i], highest);
      const Vec base = if_less(set1(-INFINITY), highest, highest, zero());  // of rows that have seen nothing yet: 0
      alignas(64) float bases[kLanes];
      store(bases, base);
      store(block.max + r, highest);
      // Exactly 1 where the maximum stays: an error of exp2 there would be taken on at every block.
      if (!fresh) store(block.scale + r, if_less(old, base, exp2<5>(sub(old, base)), set1(1.f)));
      for (int64_t i = 0; i < count; ++i) {
        if (drops_) {
          dropped_.of_keys(s, h, block.first + r + i, key, keys, block.kept);
          powers<true>(block, r + i, seen[i], keys, bases[i], fresh);
        } else {
          powers<false>(block, r + i, seen[i], keys, bases[i], fresh);
        }
      }
    }
  }

  // The first `end` scores of a row are seen, times `factor`.
  struct Seen {
    int64_t end;
    float factor;
  };

  Seen shaped(Block& block, const Sequence& s, int64_t h, int64_t r, int64_t key, int64_t keys) const {
    const int64_t query = block.first + r, first = first_key(s.band, query) - key;
    const int64_t end = least(keys, end_key(s.band, query) - key);
    if (!shapes_ && first <= 0) return {end, log2_scale_};
    scores_.shape(block.scores + r * kBlockK, scores_.mask_row(s, h, query), key, keys, first, end);
    return {keys, 1.f};
  }

  static Vec max_of_row(const float* row, Seen seen) {
    const int64_t whole = seen.end / kLanes * kLanes, rest = seen.end - whole;
    const Vec factor = set1(seen.factor);
    Vec top = set1(-INFINITY);
    for (int64_t i = 0; i < whole; i += kLanes) top = max(top, mul(load(row + i), factor));
    return rest ? max(top, keep_first(mul(load(row + whole), factor), rest, set1(-INFINITY))) : top;
  }

  // 2^(score - base) of a row, as words, and their lane sums.
  template <bool kDrops>
  void powers(Block& block, int64_t r, Seen seen, int64_t keys, float base, bool fresh) const {
    float* row = block.scores + r * kBlockK;
    const int64_t whole = seen.end / kLanes * kLanes, rest = seen.end - whole;
    const Vec factor = set1(seen.factor), minus_max = set1(-base);
    const auto keep = [&](Vec p, int64_t i) { return kDrops ? mul(p, load(block.kept + i)) : p; };
    Vec sum = zero();
    for (int64_t i = 0; i < whole; i += kLanes) {
      const Vec p = exp2<Words::kExp2Degree>(fma(load(row + i), factor, minus_max));
      sum = add(sum, p);
      Words::store_row(row, i, keep(p, i));
    }
    if (rest) {
      const Vec p = keep_first(exp2<Words::kExp2Degree>(fma(load(row + whole), factor, minus_max)), rest, zero());
      sum = add(sum, p);
      Words::store_row(row, whole, keep(p, whole));
    }
    for (int64_t i = round_up(seen.end, kLanes); i < keys; i += kLanes) Words::store_row(row, i, zero());
    float* sums = block.sum + r * kLanes;
    if (!fresh) sum = fma(load(sums), set1(block.scale[r]), sum);
    store(sums, sum);
  }

  void finish(const Block& block, const Sequence& s, int64_t h) const {
    char* const first = static_cast<char*>(f_.out.data) + (s.batch * f_.out.batch + h * f_.out.head) * size_of(kType);
    for (int64_t r = 0; r < block.rows; ++r) {
      const int64_t row = s.q_first + block.first + r;
      const float sum = sum_lanes(load(block.sum + r * kLanes));
      const Vec inverse = set1(f_.dropout.rescale / sum);
      char* out = first + row * f_.out.row * size_of(kType);
      for (int64_t i = 0; i < f_.D; i += kLanes) {
        const Vec x = sum == 0.f ? zero() : mul(load(block.out + r * out_row() + i), inverse);
        store_as<kType>(out + i * size_of(kType), x, f_.D - i);
      }
      f_.lse[(s.batch * f_.Hq + h) * f_.S + row] = rounded_lse(block.max[r], sum);
    }
  }

  const Forward& f_;
  const Scores<kType> scores_;
  const Dropped dropped_;
  const bool shapes_, drops_;
  ForwardPlan plan_;
  const int64_t words_d_, vectors_d_, k_rows_, k_size_, v_panel_, kv_size_;
  const float log2_scale_;
};

}  // namespace aieng::attention::AIENG_ISA
