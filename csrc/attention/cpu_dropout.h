// Which weights dropout keeps, by Philox's words as options.py numbers them: one block for four keys of a query.
#pragma once
#include "attention.h"
#include "cpu_simd.h"
#include "philox.h"

namespace aieng::attention::AIENG_ISA {

typedef uint32_t Words32 __attribute__((vector_size(4 * kLanes)));

struct WideLanes {
  using Int = Wide;
  static Wide set64(uint64_t x) { return Wide{} + x; }
  static Wide mul32(Wide a, Wide b) { return mul_words(a, b); }
  static Wide high(Wide a) { return a >> 32; }
  static Wide xor3(Wide a, Wide b, Wide c) { return a ^ b ^ c; }
};

class Dropped {
 public:
  explicit Dropped(const Problem& f)
      : f_(f),
        S_(f.lengths.longest_q ? f.lengths.longest_q : f.S),
        blocks_(ceil_div(f.lengths.longest_k ? f.lengths.longest_k : f.T, 4)),
        last_(static_cast<uint32_t>(f.dropout.dropped - 1)),
        keys_(drops(f) ? static_cast<uint64_t>(*f.dropout.seed) : 0) {}

  // Ones and zeros of one query, `keys` of them rounded up to 4 kLanes, from `key` on, a multiple of 4.
  void of_keys(const Sequence& s, int64_t head, int64_t query, int64_t key, int64_t keys, float* kept) const {
    // Lane 4 g + r takes block kGroups r + g, so that a transposition within 128 bits puts the words in order.
    constexpr int kGroups = kLanes / 4;
    Wide even, odd;
    for (int i = 0; i < kLanes / 2; ++i) {
      even[i] = kGroups * (2 * i % 4) + 2 * i / 4;
      odd[i] = kGroups * ((2 * i + 1) % 4) + 2 * i / 4;
    }
    const uint64_t first = row(s, head, query) * blocks_ + key / 4;
    for (int64_t i = 0; i < keys; i += 4 * kLanes) {
      Vec ones[4];
      of_counters(even + (first + i / 4), odd + (first + i / 4), ones);
      transpose4(ones);
      for (int w = 0; w < 4; ++w) store(kept + i + w * kLanes, ones[w]);
    }
  }

  // The same of keys `key` to `key` + 3, a multiple of 4 again, for kLanes queries from `query` on: a vector a key.
  void of_queries(const Sequence& s, int64_t head, int64_t query, int64_t key, Vec kept[4]) const {
    const uint64_t first = row(s, head, query) * blocks_ + key / 4;
    Wide even, odd;
    for (int i = 0; i < kLanes / 2; ++i) {
      even[i] = first + 2 * i * blocks_;
      odd[i] = first + (2 * i + 1) * blocks_;
    }
    of_counters(even, odd, kept);
  }

 private:
  uint64_t row(const Sequence& s, int64_t head, int64_t query) const { return (s.number * f_.Hq + head) * S_ + query; }

  void of_counters(Wide even, Wide odd, Vec kept[4]) const {
    Wide c[2][4] = {{even, even >> 32, Wide{}, Wide{}}, {odd, odd >> 32, Wide{}, Wide{}}};
    philox_rounds<WideLanes>(c, keys_);
    for (int w = 0; w < 4; ++w) {
      const Words32 words = (Words32)((c[0][w] & 0xffffffffu) | c[1][w] << 32);
      kept[w] = (Vec)((Words32)(words > last_) & 0x3f800000u);
    }
  }

  const Problem& f_;
  const int64_t S_, blocks_;
  const uint32_t last_;
  const PhiloxKeys<WideLanes> keys_;
};

}  // namespace aieng::attention::AIENG_ISA
