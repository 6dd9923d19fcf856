// Drives every CPU step under AddressSanitizer and UndefinedBehaviorSanitizer: exact-size heap buffers, odd counts, odd addresses.
// Exits with 1 and a line on the first result that is not the scalar formula's, or any vector of Random123 that is not met.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <memory>

#include "cpu_features.h"
#include "diffusion.h"
#include "half.h"
#include "philox.h"

namespace {

using aieng::BFloat16;
using aieng::Half;
using aieng::diffusion::Step;
using aieng::diffusion::Type;
using Kernel = void (*)(const Step&, Type, int);

void fail(const char* what, long long at) {
  std::printf("%s differs at %lld\n", what, at);
  std::exit(1);
}

// A buffer of exactly `count` elements that starts `shift` elements into its block, so that most are not aligned.
template <class T>
struct Buffer {
  std::unique_ptr<T[]> block;
  T* data;
  Buffer(std::int64_t count, int shift, unsigned seed) : block(new T[count + shift]), data(block.get() + shift) {
    for (std::int64_t i = 0; i < count; ++i) {
      seed = seed * 1664525u + 1013904223u;
      aieng::narrow(static_cast<float>(static_cast<int>(seed >> 16) - 32768) / 16384.0f, data[i]);
    }
  }
};

template <class T>
void check(const char* name, Kernel kernel, Type type, std::int64_t count, int shift, int variant, int threads, float epsilon) {
  const bool guided = variant & 1, given = variant & 2, philox = variant & 4, original = variant & 8;
  Buffer<T> x(count, shift, 1), c(count, shift, 2), u(count, shift, 3), z(count, shift, 4), out(count, shift, 5),
      x0(count, shift, 6);
  const float sigma = given || philox ? 0.25f : 0.0f;
  const Step step{x.data,
                  c.data,
                  guided ? u.data : nullptr,
                  given ? z.data : nullptr,
                  out.data,
                  original ? x0.data : nullptr,
                  count,
                  {1.5f, -0.75f, 0.5f, 0.25f, -0.5f, sigma, 1.25f, 2.0f},
                  0x123456789ABCDEFull,
                  0xFEDCBA987654321ull};
  kernel(step, type, threads);
  float normals[4];
  for (std::int64_t i = 0; i < count; ++i) {
    if (i % 4 == 0) aieng::normal4(step.seed, step.offset, static_cast<std::uint64_t>(i) / 4, normals);
    const float cond = aieng::widen(c.data[i]), noise = given ? aieng::widen(z.data[i]) : normals[i % 4];
    const auto want = step_element(step.k, aieng::widen(x.data[i]), cond, guided ? aieng::widen(u.data[i]) : cond, noise);
    const float bound = 2e-6f + epsilon * 8.0f;
    if (!(std::fabs(aieng::widen(out.data[i]) - want.previous) <= bound)) fail(name, i);
    if (original && !(std::fabs(aieng::widen(x0.data[i]) - want.original) <= bound)) fail(name, i);
  }
}

void check_kernel(const char* name, Kernel kernel, bool bf16_alone = false) {
  for (std::int64_t count : {0, 1, 2, 3, 5, 31, 33, 63, 64, 65, 127, 129, 1000, 4099}) {
    for (int variant = 0; variant < 16; ++variant) {
      const int shift = variant % 3;
      if (!bf16_alone) check<float>(name, kernel, Type::kFloat32, count, shift, variant, 1, 0.0f);
      if (!bf16_alone) check<Half>(name, kernel, Type::kFloat16, count, shift, variant, 2, 0x1p-11f);
      check<BFloat16>(name, kernel, Type::kBFloat16, count, shift, variant, 2, 0x1p-8f);
    }
  }
  for (std::int64_t count : {70001, 2200001}) {  // several threads; past the caches
    if (!bf16_alone) check<float>(name, kernel, Type::kFloat32, count, 0, 8 | 2, 3, 0.0f);
    check<BFloat16>(name, kernel, Type::kBFloat16, 2 * count, 0, 8, 3, 0x1p-8f);
  }
}

void check_known_answers() {
  const std::uint32_t known[3][10] = {
      {0, 0, 0, 0, 0, 0, 0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8},
      {~0u, ~0u, ~0u, ~0u, ~0u, ~0u, 0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD},
      {0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344, 0xA4093822, 0x299F31D0, 0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1},
  };
  for (const auto& row : known) {
    std::uint32_t words[4] = {row[0], row[1], row[2], row[3]};
    aieng::philox4x32_10(words, row[4], row[5]);
    for (int w = 0; w < 4; ++w) {
      if (words[w] != row[6 + w]) fail("philox4x32_10", w);
    }
  }
}

// The logarithm within 2 ulp, cosine and sine within 1e-7, over the whole range of words.
void check_accuracy() {
  for (std::uint64_t word = 0; word <= 0xFFFFFFFFu; word += 65521) {
    const float u = aieng::uniform(static_cast<std::uint32_t>(word)), log = aieng::log_unit<aieng::Scalar>(u);
    const double exact = std::log(static_cast<double>(u)), turn = 6.283185307179586 * u;
    const double ulp = std::nextafter(static_cast<float>(std::fabs(exact)), 1e9f) - static_cast<float>(std::fabs(exact));
    float cosine, sine;
    aieng::cos_sin_turns<aieng::Scalar>(u, cosine, sine);
    if (!(u > 0 && u <= 1) || std::fabs(log - exact) > 2 * ulp) fail("log_unit", static_cast<long long>(word));
    if (std::fabs(cosine - std::cos(turn)) > 1e-7 || std::fabs(sine - std::sin(turn)) > 1e-7) {
      fail("cos_sin_turns", static_cast<long long>(word));
    }
  }
}

// All 65,536 halves return to themselves, and floats between two of them go to the nearer, ties to even.
void check_half() {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float x = aieng::widen(Half{static_cast<std::uint16_t>(bits)});
    Half back;
    aieng::narrow(x, back);
    if (std::isnan(x) ? !std::isnan(aieng::widen(back)) : back.bits != bits) fail("half", bits);
    if ((bits & 0x7FFF) >= 0x7BFF) continue;
    const float next = aieng::widen(Half{static_cast<std::uint16_t>(bits + 1)}), middle = x + (next - x) / 2;
    aieng::narrow(middle, back);
    if (back.bits != bits + (bits & 1)) fail("a tie between halves", bits);
    aieng::narrow(std::nextafter(middle, x), back);
    if (back.bits != bits) fail("a half's lower neighbourhood", bits);
    aieng::narrow(std::nextafter(middle, next), back);
    if (back.bits != bits + 1) fail("a half's upper neighbourhood", bits);
  }
}

}  // namespace

int main() {
  check_known_answers();
  check_accuracy();
  check_half();
  check_kernel("portable", aieng::diffusion::step_portable);
#if defined(__x86_64__)
  if (aieng::has_avx2()) check_kernel("avx2", aieng::diffusion::step_avx2);
  if (aieng::has_avx512()) check_kernel("avx512", aieng::diffusion::step_avx512);
  if (aieng::has_avx512()) check_kernel("avx512_bf16", aieng::diffusion::step_avx512_bf16, true);  // its instruction is emulated
#endif
  std::puts("ok");
}
