// What csrc/common/ptx_sm90.cuh gives kernels, with the meaning that the PTX manual gives each instruction.
//
// Even seeds: the copy engine and the tensor cores work as late as allowed; odd seeds: at once.
#pragma once
#include <array>

#include "ptx_shim.h"

namespace aieng {

inline unsigned char* align_1024(unsigned char* p) { return p + (-reinterpret_cast<uintptr_t>(p) & 1023u); }

struct TensorMap {
  const uint16_t* data;
  std::array<int64_t, 4> sizes;
  std::array<int64_t, 3> strides;
  int box_rows;
};

struct alignas(8) Barrier {
  int16_t arrivals, pending;
  int32_t bytes : 31;
  uint32_t phase : 1;

  void settle() {
    if (pending < 0) shim::Block::current()->fail("more arrivals at an mbarrier than it was initialised for");
    if (pending || bytes) return;
    phase ^= 1;
    pending = arrivals;
  }
};
static_assert(sizeof(Barrier) == 8);

inline void barrier_init(Barrier* barrier, int arrivals) {
  const auto count = static_cast<int16_t>(arrivals);
  *barrier = {count, count, 0, 0};
}
inline void barrier_init_fence() {}
inline void barrier_arrive(Barrier* barrier) {
  --barrier->pending;
  barrier->settle();
}
inline void barrier_expect(Barrier* barrier, int bytes) {
  barrier->bytes += bytes;
  barrier_arrive(barrier);
}
inline void barrier_wait(Barrier* barrier, int parity) {
  shim::Block::current()->wait([=] { return static_cast<int>(barrier->phase) != parity; });
}

// Where bytes land under the 128-byte swizzle: bits 4 to 6 of the address are changed by bits 7 to 9.
inline uint16_t* swizzled(unsigned char* p) {
  const auto address = reinterpret_cast<uintptr_t>(p);
  return reinterpret_cast<uint16_t*>(address ^ (address >> 7 & 7) << 4);
}

inline void copy_box(void* shared, const TensorMap* map, int c0, int c1, int c2, int c3, Barrier* barrier) {
  shim::Block& block = *shim::Block::current();
  auto* const to = static_cast<unsigned char*>(shared);
  if (reinterpret_cast<uintptr_t>(to) % 1024) block.fail("a swizzled box copied to an address that is not a multiple of 1024");
  if (reinterpret_cast<uintptr_t>(map->data) % 16) block.fail("a tensor map of an address that is not a multiple of 16");
  const auto land = [=, map = *map] {
    for (int row = 0; row < map.box_rows; ++row) {
      for (int column = 0; column < 64; ++column) {
        const bool inside = c0 + column < map.sizes[0] && c1 + row < map.sizes[1];
        const int64_t from = c0 + column + (c1 + row) * map.strides[0] + c2 * map.strides[1] + c3 * map.strides[2];
        *swizzled(to + row * 128 + column * 2) = inside ? map.data[from] : 0;
      }
    }
    barrier->bytes -= map.box_rows * 128;
    barrier->settle();
  };
  if (shim::seed() % 2) {
    land();
  } else {
    block.late.emplace_back(land);
  }
}

template <int>
void registers_grow() {}
template <int>
void registers_shrink() {}

inline bool any_lane(bool x) {
  return shim::collective<bool>("vote.any", x, [](const shim::Warp& warp) {
    bool any = false;
    for (int lane = 0; lane < shim::kLanes; ++lane) any |= warp.in<bool>(lane);
    for (int lane = 0; lane < shim::kLanes; ++lane) warp.out<bool>(lane) = any;
  });
}

struct Matrix {
  unsigned char* start;
  int panel_bytes;
};
inline Matrix matrix_descriptor(unsigned char* shared, int panel_bytes) {
  if (reinterpret_cast<uintptr_t>(shared) % 1024)
    shim::Block::current()->fail("a matrix that does not start at a multiple of 1024");
  return {shared, panel_bytes};
}
inline Matrix advance(Matrix matrix, int bytes) { return {matrix.start + bytes, matrix.panel_bytes}; }

inline void products_fence() {}
inline void products_commit() { shim::Block::current()->fiber().products.emplace_back(); }
template <int Pending>
void products_wait() {
  auto& products = shim::Block::current()->fiber().products;
  while (products.size() > Pending + 1) {
    for (const auto& product : products.front()) product();
    products.erase(products.begin());
  }
}
template <int N>
void pin(float (&)[N][4]) {}

inline void issue(std::function<void()> product) {
  if (shim::seed() % 2) {
    product();
  } else {
    shim::Block::current()->fiber().products.back().push_back(std::move(product));
  }
}

// d = or += the product's element (row, column), which `term(row of this lane, column, k)` sums over 16 k.
template <int N, class Left, class Right>
void multiply_64(float (&d)[N][4], bool accumulate, Left left, Right right) {
  const int lane = shim::Block::current()->lane();
  float rows[2][16], column[16];
  for (int k = 0; k < 16; ++k) {
    for (int half = 0; half < 2; ++half) rows[half][k] = left(half, k);
  }
  for (int n = 0; n < N; ++n) {
    for (int i = 0; i < 2; ++i) {
      for (int k = 0; k < 16; ++k) column[k] = right(n * 8 + lane % 4 * 2 + i, k);
      for (int half = 0; half < 2; ++half) {
        float& sum = d[n][half * 2 + i];
        if (!accumulate) sum = 0.0f;
        for (int k = 0; k < 16; ++k) sum += rows[half][k] * column[k];
      }
    }
  }
}

template <class T>
float element(unsigned char* p) {
  return to_float(T{*swizzled(p)});
}

template <class T, int N>
void product_of_rows(float (&d)[N][4], Matrix left, Matrix right, bool accumulate) {
  const int warp = static_cast<int>(threadIdx.x) / 32 % 4, first = warp * 16 + shim::Block::current()->lane() / 4;
  issue([&d, left, right, accumulate, first] {
    multiply_64(
        d, accumulate, [&](int half, int k) { return element<T>(left.start + (first + half * 8) * 128 + k * 2); },
        [&](int column, int k) { return element<T>(right.start + column * 128 + k * 2); });
  });
}

template <class T, int N>
void product_with_columns(float (&d)[N][4], const uint32_t (&left)[4], Matrix right, bool accumulate) {
  struct Fragment {
    uint32_t a[4];
  };
  struct Rows {
    float a[2][16];
  };
  const Fragment mine{{left[0], left[1], left[2], left[3]}};
  const Rows rows = shim::collective<Rows>("wgmma", mine, [](const shim::Warp& warp) {
    for (int lane = 0; lane < shim::kLanes; ++lane) {
      for (int k = 0; k < 16; ++k) {
        const Fragment& from = warp.in<Fragment>(lane / 4 * 4 + k % 8 / 2);
        for (int half = 0; half < 2; ++half)
          warp.out<Rows>(lane).a[half][k] = to_float(half_of<T>(from.a[half + k / 8 * 2], k % 2));
      }
    }
  });
  issue([&d, rows, right, accumulate] {
    multiply_64(
        d, accumulate, [&](int half, int k) { return rows.a[half][k]; },
        [&](int column, int k) { return element<T>(right.start + column / 64 * right.panel_bytes + k * 128 + column % 64 * 2); });
  });
}

template <class T>
constexpr bool kIsBf16 = std::is_same_v<T, Bf16>;

}  // namespace aieng
