// The forward pass in work items: sequences in blocks of queries and of keys, heads in waves whose keys are packed together.
#pragma once
#include "cpu_scratch.h"
#include "cpu_work_items.h"

namespace aieng::attention::AIENG_ISA {

constexpr int64_t kBlockQ = 16 * kTileRows;
constexpr int64_t kBlockK = 128;

// A sequence in blocks: of `rows` queries, and of kBlockK keys from the first that any query sees, down to a multiple of four.
struct Part {
  Sequence s;
  int64_t q_blocks, rows, first_key, keys, k_blocks;
};

// Heads that are packed together, up to `end`, counted through all sequences; their blocks of keys and of queries.
struct Wave {
  int64_t end = 0, first_q_block = 0, q_blocks = 0, first_k_block = 0, k_blocks = 0;
};

// Blocks of queries of one query head, and of keys of one key/value head, of which there are `before` up to each sequence.
class ForwardPlan {
 public:
  const int64_t sequences, group;
  int64_t most_q_blocks = 0, most_keys = 0;

  explicit ForwardPlan(const Problem& f) : sequences(sequences_of(f, f.B)), group(f.Hq / greatest<int64_t>(f.Hkv, 1)), f_(f) {
    for (int64_t n = 0; n < sequences; ++n) {
      const Part part = part_of(n);
      most_q_blocks = greatest(most_q_blocks, part.q_blocks);
      most_keys = greatest(most_keys, part.keys);
    }
  }

  int64_t heads() const { return sequences * f_.Hkv; }

  Part part_of(int64_t n) const {
    const Sequence s = sequence_of(f_, f_.S, f_.T, n);
    const int64_t queries = s.band.queries, q_blocks = ceil_div(queries, kBlockQ);
    if (!queries) return {s, 0, 0, 0, 0, 0};
    const int64_t first = first_key(s.band, 0) / 4 * 4, keys = greatest<int64_t>(0, end_key(s.band, queries - 1) - first);
    return {s, q_blocks, round_up(ceil_div(queries, q_blocks), kTileRows), first, keys, ceil_div(keys, kBlockK)};
  }

  int64_t table_size() const { return Scratch::padded(4 * (sequences + 1)); }  // floats

  void count(float* table) {
    q_before_ = reinterpret_cast<int64_t*>(table);
    k_before_ = q_before_ + sequences + 1;
    q_before_[0] = k_before_[0] = 0;
    for (int64_t n = 0; n < sequences; ++n) {
      const Part part = part_of(n);
      q_before_[n + 1] = q_before_[n] + part.q_blocks * f_.Hq;
      k_before_[n + 1] = k_before_[n] + part.k_blocks * f_.Hkv;
    }
  }

  // Enough heads to keep the threads busy to the end and, if they are short, to make a barrier worth its while.
  Wave after(const Wave& last, int64_t block_size) const {
    constexpr int64_t kWorthABarrier = 1 << 18;  // floats: what a second-level cache holds
    Wave wave{last.end, last.first_q_block + last.q_blocks, 0, last.first_k_block + last.k_blocks, 0};
    for (; wave.end < heads(); ++wave.end) {
      const Part part = part_of(wave.end / f_.Hkv);
      const bool busy = wave.q_blocks >= 8 * f_.threads;
      if (busy && (wave.k_blocks + part.k_blocks) * block_size > kWorthABarrier) break;
      wave.q_blocks += part.q_blocks * group;
      wave.k_blocks += part.k_blocks;
    }
    return wave;
  }

  struct Keys {
    Part part;
    int64_t head, block;  // of keys and values
  };
  Keys keys(const Wave& wave, int64_t i) const {
    const int64_t item = wave.first_k_block + i, n = owner(k_before_, sequences, item), within = item - k_before_[n];
    const Part part = part_of(n);
    return {part, within / part.k_blocks, within % part.k_blocks};
  }

  struct Queries {
    Part part;
    int64_t head, block;  // of queries, the last block, which may see the most keys, first
    int64_t first_keys;   // the first of its blocks of keys in the wave
  };
  Queries queries(const Wave& wave, int64_t i) const {
    const int64_t item = wave.first_q_block + i, n = owner(q_before_, sequences, item), within = item - q_before_[n];
    const Part part = part_of(n);
    const int64_t h = within / (part.q_blocks * group), rest = within % (part.q_blocks * group);
    return {part, h * group + rest % group, part.q_blocks - 1 - rest / group,
            k_before_[n] + h * part.k_blocks - wave.first_k_block};
  }

 private:
  const Problem& f_;
  int64_t *q_before_ = nullptr, *k_before_ = nullptr;
};

}  // namespace aieng::attention::AIENG_ISA
