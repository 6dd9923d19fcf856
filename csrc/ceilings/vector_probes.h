// The probes in compiler vectors of AIENG_VECTOR_BYTES; each instruction set includes this once, compiled with its own flags.
// Everything is in an unnamed namespace: were it inline, the linker would keep one instruction set's code for all of them.
#pragma once
#include "probes.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace aieng::ceilings {
namespace {

typedef float Vector __attribute__((vector_size(AIENG_VECTOR_BYTES), may_alias));
typedef std::int32_t Bits __attribute__((vector_size(AIENG_VECTOR_BYTES), may_alias));

constexpr int kLanes = AIENG_VECTOR_BYTES / 4;
// Independent chains: enough to hide the latency of every unit, few enough for the registers there are.
#if defined(__aarch64__) || AIENG_VECTOR_BYTES == 64
constexpr int kChains = 24;
#else
constexpr int kChains = 12;
#endif
constexpr int kExpChains = kChains / 2;
constexpr int kUnroll = 8;
static_assert(kBlock % (kUnroll * kLanes) == 0, "a block holds whole unrolled steps");

float sum(const Vector* values, int count) {
  float total = 0;
  for (int i = 0; i < count; ++i)
    for (int lane = 0; lane < kLanes; ++lane) total += values[i][lane];
  return total;
}

// Hides a value from the optimiser, so that nothing is computed at compile time.
template <class T>
T opaque(T value) {
  volatile T hidden = value;
  return hidden;
}

void start(Vector* values, int count) {
  for (int i = 0; i < count; ++i) values[i] = Vector{} + opaque(0.5f + 0.01f * static_cast<float>(i));
}

// Tells the compiler that memory may have changed: the next pass must be made.
void next_pass() { asm volatile("" ::: "memory"); }

float fma(std::int64_t steps) {
  Vector chain[kChains];
  start(chain, kChains);
  const Vector scale = Vector{} + opaque(0.999f), shift = Vector{} + opaque(0.001f);
  for (std::int64_t step = 0; step < steps; ++step)
#pragma GCC unroll 24
    for (int i = 0; i < kChains; ++i) chain[i] = chain[i] * scale + shift;
  return sum(chain, kChains);
}
constexpr double kFmaOperations = 2.0 * kChains * kLanes;

// 0.5 · 2^x by rounding to an integer (added to the exponent) and a cubic for the rest (relative error 1e-4, what bf16 needs):
// the cheapest exp in use. The factor 0.5 keeps the iteration x <- 0.5 · 2^x at its fixed point 1.
float exp2(std::int64_t steps) {
  Vector chain[kExpChains];
  start(chain, kExpChains);
  const Vector magic = Vector{} + opaque(12582912.0f);  // 1.5 · 2^23: the sum's low mantissa bits are the rounded integer
  const Vector c0 = Vector{} + opaque(0.49996f), c1 = Vector{} + opaque(0.34658f), c2 = Vector{} + opaque(0.12113f),
               c3 = Vector{} + opaque(0.02788f);
  for (std::int64_t step = 0; step < steps; ++step)
#pragma GCC unroll 24
    for (int i = 0; i < kExpChains; ++i) {
      const Vector rounded = chain[i] + magic;
      const Vector rest = chain[i] - (rounded - magic);
      const Vector power = c0 + rest * (c1 + rest * (c2 + rest * c3));
      chain[i] = (Vector)((Bits)power + ((Bits)rounded << 23));
    }
  return sum(chain, kExpChains);
}
constexpr double kExpOperations = 1.0 * kExpChains * kLanes;

void store(Vector* to, const Vector& value) { *to = value; }

#if defined(__x86_64__)
// Past the caches: no read for ownership. The best for large arrays, the worst for small ones; the driver keeps the better.
void store_streaming(Vector* to, const Vector& value) {
#if AIENG_VECTOR_BYTES == 64
  _mm512_stream_ps(reinterpret_cast<float*>(to), (__m512)value);
#elif AIENG_VECTOR_BYTES == 32
  _mm256_stream_ps(reinterpret_cast<float*>(to), (__m256)value);
#else
  _mm_stream_ps(reinterpret_cast<float*>(to), (__m128)value);
#endif
}
#endif

using Store = void (*)(Vector*, const Vector&);

float read(const float* a, const float*, float*, std::int64_t count, std::int64_t passes) {
  Vector total[kUnroll];
  start(total, kUnroll);
  const Vector* from = reinterpret_cast<const Vector*>(a);
  const std::int64_t vectors = count / kLanes;
  for (std::int64_t pass = 0; pass < passes; ++pass, next_pass())
    for (std::int64_t v = 0; v < vectors; v += kUnroll)
#pragma GCC unroll 8
      for (int i = 0; i < kUnroll; ++i) total[i] += from[v + i];
  return sum(total, kUnroll);
}

template <Store put>
float write(const float*, const float*, float* c, std::int64_t count, std::int64_t passes) {
  const Vector value = Vector{} + opaque(1.0f);
  Vector* to = reinterpret_cast<Vector*>(c);
  const std::int64_t vectors = count / kLanes;
  for (std::int64_t pass = 0; pass < passes; ++pass, next_pass())
    for (std::int64_t v = 0; v < vectors; v += kUnroll)
#pragma GCC unroll 8
      for (int i = 0; i < kUnroll; ++i) put(to + v + i, value);
  return c[count - 1];
}

template <Store put>
float copy(const float* a, const float*, float* c, std::int64_t count, std::int64_t passes) {
  const Vector* from = reinterpret_cast<const Vector*>(a);
  Vector* to = reinterpret_cast<Vector*>(c);
  const std::int64_t vectors = count / kLanes;
  for (std::int64_t pass = 0; pass < passes; ++pass, next_pass())
    for (std::int64_t v = 0; v < vectors; v += kUnroll)
#pragma GCC unroll 8
      for (int i = 0; i < kUnroll; ++i) put(to + v + i, from[v + i]);
  return c[count - 1];
}

template <Store put>
float add(const float* a, const float* b, float* c, std::int64_t count, std::int64_t passes) {
  const Vector *left = reinterpret_cast<const Vector*>(a), *right = reinterpret_cast<const Vector*>(b);
  Vector* to = reinterpret_cast<Vector*>(c);
  const std::int64_t vectors = count / kLanes;
  for (std::int64_t pass = 0; pass < passes; ++pass, next_pass())
    for (std::int64_t v = 0; v < vectors; v += kUnroll)
#pragma GCC unroll 8
      for (int i = 0; i < kUnroll; ++i) put(to + v + i, left[v + i] + right[v + i]);
  return c[count - 1];
}

[[maybe_unused]] constexpr ComputeProbe kCompute[] = {{"fma", fma, kFmaOperations}, {"exp", exp2, kExpOperations}};
[[maybe_unused]] constexpr StreamProbe kStreams[] = {
    {"read", read},
    {"write", write<store>},
    {"copy", copy<store>},
    {"add", add<store>},
#if defined(__x86_64__)
    {"write", write<store_streaming>},
    {"copy", copy<store_streaming>},
    {"add", add<store_streaming>},
#endif
};

template <int N, int M>
Probes probes(const ComputeProbe (&compute)[N], const StreamProbe (&streams)[M]) {
  return {compute, N, streams, M};
}

}  // namespace
}  // namespace aieng::ceilings
