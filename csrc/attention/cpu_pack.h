// Rows of a tensor as operands of a product: packed into words, panels and zero padding, converted on the way.
#pragma once
#include "cpu_gemm.h"

namespace aieng::attention::AIENG_ISA {

// `count` rows of `width` elements; rows are `stride` bytes apart.
struct Rows {
  const char* data;
  int64_t stride, count, width;
};

inline Rows rows_of(const View& view, int64_t batch, int64_t head, int64_t first, int64_t count, int64_t width, Type type) {
  const int64_t offset = batch * view.batch + head * view.head + first * view.row;
  return {static_cast<const char*>(view.data) + offset * size_of(type), view.row * size_of(type), count, width};
}

// The words of one row that start at element i: kLanes words.
template <class Words, Type kType>
inline Vec load_words(const char* row, int64_t i, int64_t width) {
  if constexpr (Words::kPerWord == 1) {
    return load_as<kType>(row + i * size_of(kType), least<int64_t>(width - i, kLanes));
  } else {
#if defined(__AVX512BF16__)
    const int64_t left = width - i;
    const __mmask32 lanes = left < 32 ? (1u << left) - 1u : ~0u;
    return _mm512_castsi512_ps(_mm512_maskz_loadu_epi16(lanes, row + i * 2));
#endif
  }
}

// Rows of float32 are words as they lie. As a right operand they are whole vectors, and not so far apart that a panel would crowd
// into few sets of the first-level cache.
template <class Words, Type kType>
constexpr bool kLieAsWords = Words::kPerWord == 1 && kType == Type::kFloat32;
template <class Words, Type kType>
inline bool lie_in_panels(const Rows& rows) {
  constexpr int64_t kNear = 1024;  // bytes
  return kLieAsWords<Words, kType> && rows.width % kLanes == 0 && rows.stride >= 0 && rows.stride <= kNear;
}
inline const float* words_at(const Rows& rows) { return reinterpret_cast<const float*>(rows.data); }
inline int64_t words_apart(const Rows& rows) { return rows.stride / static_cast<int64_t>(sizeof(float)); }

// Operand A, the sum along the elements of a row: (count, ld) words in dst, where rows do not lie as words. Whole vectors are
// written, so ld is a multiple of kLanes.
template <class Words, Type kType>
inline void copy_rows(const Rows& rows, float* dst, int64_t ld) {
  for (int64_t n = 0; n < rows.count; ++n) {
    const char* row = rows.data + n * rows.stride;
    for (int64_t i = 0; i < rows.width; i += kLanes * Words::kPerWord) {
      store(dst + n * ld + i / Words::kPerWord, load_words<Words, kType>(row, i, rows.width));
    }
  }
}
template <class Words, Type kType>
inline Left pack_rows(const Rows& rows, float* dst, int64_t ld) {
  if constexpr (kLieAsWords<Words, kType>) return {words_at(rows), words_apart(rows), 1};
  copy_rows<Words, kType>(rows, dst, ld);
  return {dst, ld, 1};
}

// Operand B, the sum along the elements of a row, one lane a row: panels of (words, kPanel), written in whole vectors.
template <class Words, Type kType>
inline void pack_lanes(const Rows& rows, float* dst, int64_t words, int64_t panel) {
  for (int64_t n = 0; n < rows.count; n += kLanes) {
    float* out = dst + n / kPanel * panel + n % kPanel;
    for (int64_t w = 0; w < words; w += kLanes) {
      Vec block[kLanes];
      for (int64_t r = 0; r < kLanes; ++r) {
        const bool there = n + r < rows.count;
        block[r] = there ? load_words<Words, kType>(rows.data + (n + r) * rows.stride, w * Words::kPerWord, rows.width) : zero();
      }
      transpose(block);
      const int64_t last = least<int64_t>(words - w, kLanes);
      for (int64_t r = 0; r < last; ++r) store(out + (w + r) * kPanel, block[r]);
    }
  }
}

// Operand B, the sum along the rows, one lane an element: panels of (ceil(count / kPerWord), kPanel), written in whole vectors,
// where rows do not lie in panels.
template <class Words, Type kType>
inline Right sum_over_rows(const Rows& rows, const float* packed, int64_t panel) {
  if (lie_in_panels<Words, kType>(rows)) return {words_at(rows), kPanel, words_apart(rows)};
  return {packed, panel};
}
template <class Words, Type kType>
inline void pack_sum_over_rows(const Rows& rows, float* dst, int64_t panel) {
  if (lie_in_panels<Words, kType>(rows)) return;
  for (int64_t n = 0; n < rows.count; n += Words::kPerWord) {
    const char* row = rows.data + n * rows.stride;
    for (int64_t i = 0; i < rows.width; i += kLanes) {
      const int64_t left = least<int64_t>(rows.width - i, kLanes);
      float* out = dst + i / kPanel * panel + n / Words::kPerWord * kPanel + i % kPanel;
      const Vec first = load_as<kType>(row + i * size_of(kType), left);
      if constexpr (Words::kPerWord == 1) {
        store(out, first);
      } else {
        const Vec second = n + 1 < rows.count ? load_as<kType>(row + rows.stride + i * size_of(kType), left) : zero();
        Words::store_pair(out, 0, first, second);
      }
    }
  }
}

}  // namespace aieng::attention::AIENG_ISA
