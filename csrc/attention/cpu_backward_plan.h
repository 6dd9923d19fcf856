// The backward pass in work items: a run of keys of one key/value head of one sequence each.
#pragma once
#include "cpu_scratch.h"
#include "cpu_work_items.h"

namespace aieng::attention::AIENG_ISA {

constexpr int64_t kQueries = 64;           // lanes of a block
constexpr int64_t kKeys = 16 * kTileRows;  // rows of a block

// A sequence's keys in `chunks` runs of `keys`, one at least; each of several runs has its own sum of dq.
struct Share {
  Sequence s;
  int64_t keys, chunks;
};

class BackwardPlan {
 public:
  const int64_t sequences;
  int64_t most_queries = 0, most_keys = 0;  // of a sequence, and of a run
  int64_t most_queries_undivided = 0;       // of a sequence that is a single run
  int64_t rows_apart = 0;                   // of dq, that are summed up apart, over all runs

  explicit BackwardPlan(const Problem& f) : sequences(sequences_of(f, f.B)), f_(f) {
    int64_t most = 0;
    for (int64_t n = 0; n < sequences; ++n) {
      const Band band = sequence_of(f, f.S, f.T, n).band;
      const int64_t work = band.queries * band.keys;
      total_ += work;
      most = greatest(most, work);
      most_queries = greatest(most_queries, band.queries);
    }
    const bool alike = total_ == most * sequences, even = alike && sequences * f.Hkv % f.threads == 0;
    divided_ = f.threads > 1 && f.Hkv && !even && most * 8 * f.threads > total_ * f.Hkv;
    for (int64_t n = 0; n < sequences; ++n) {
      const Share share = share_of(n);
      most_keys = greatest(most_keys, share.keys);
      rows_apart += apart(share);
      if (share.chunks == 1) most_queries_undivided = greatest(most_queries_undivided, share.s.band.queries);
    }
  }

  // Not divided where threads have even shares of whole heads, or small ones; else there are two runs or more for each thread.
  Share share_of(int64_t n) const {
    const Sequence s = sequence_of(f_, f_.S, f_.T, n);
    const int64_t work = s.band.queries * s.band.keys, run = greatest<int64_t>(1, total_ * f_.Hkv / (2 * f_.threads));
    const int64_t wanted = divided_ ? greatest<int64_t>(1, ceil_div(work, run)) : 1;
    const int64_t keys = round_up(ceil_div(s.band.keys, wanted), kKeys);
    return {s, keys, keys ? ceil_div(s.band.keys, keys) : 1};
  }

  int64_t table_size() const { return Scratch::padded(4 * (sequences + 1)); }  // floats

  void count(float* table) {
    before_ = reinterpret_cast<int64_t*>(table);
    partial_ = before_ + sequences + 1;
    before_[0] = partial_[0] = 0;
    for (int64_t n = 0; n < sequences; ++n) {
      const Share share = share_of(n);
      before_[n + 1] = before_[n] + share.chunks * f_.Hkv;
      partial_[n + 1] = partial_[n] + apart(share);
    }
  }

  int64_t items() const { return before_[sequences]; }

  struct Run {
    Share share;
    int64_t head, chunk, partial;  // of keys and values; where the sums of its sequence begin
  };
  Run run(int64_t i) const {
    const int64_t n = owner(before_, sequences, i), within = i - before_[n];
    const Share share = share_of(n);
    return {share, within / share.chunks, within % share.chunks, partial_[n]};
  }
  int64_t partial(int64_t n) const { return partial_[n]; }

 private:
  int64_t apart(const Share& share) const { return share.chunks > 1 ? share.chunks * f_.Hq * share.s.band.queries : 0; }

  const Problem& f_;
  int64_t total_ = 0;
  bool divided_ = false;
  int64_t *before_ = nullptr, *partial_ = nullptr;
};

}  // namespace aieng::attention::AIENG_ISA
