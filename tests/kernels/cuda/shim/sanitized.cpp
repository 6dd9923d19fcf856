// A program for AddressSanitizer and UBSan: every kernel template once, on tensors that end where their memory ends, odd shapes,
// against the definition in double. Exit 1 names what was wrong.
#include <cstdio>

#include "attention/simt_tile.cuh"
#include "attention/sm80_backward.cuh"
#include "attention/sm80_forward.cuh"
#include "diffusion/cuda_philox.cuh"
#include "diffusion/cuda_step.h"

namespace {

namespace cuda = aieng::attention::cuda;
using Numbers = std::vector<double>;

std::mt19937 generator(7);

struct Shape {
  int64_t batch, q_heads, kv_heads, rows, keys;
  int d;
  bool causal;
};

// A contiguous tensor of exactly its size, with its values in double.
template <class T>
struct Tensor {
  std::unique_ptr<T[]> memory;
  Numbers values;
  int64_t heads, rows;
  int d;

  Tensor(int64_t batch, int64_t heads_, int64_t rows_, int d_)
      : values(batch * heads_ * rows_ * d_), heads(heads_), rows(rows_), d(d_) {
    memory.reset(new T[values.size()]);
    std::normal_distribution<float> normal;
    for (size_t i = 0; i < values.size(); ++i) {
      memory[i] = aieng::round_to<T>(normal(generator));
      values[i] = aieng::to_float(memory[i]);
    }
  }
  cuda::View view() { return {memory.get(), heads * rows * d, rows * d, d}; }
  const double* row(int64_t b, int64_t h, int64_t i) const { return values.data() + ((b * heads + h) * rows + i) * d; }
  double* row(int64_t b, int64_t h, int64_t i) { return values.data() + ((b * heads + h) * rows + i) * d; }
};

double dot(const double* a, const double* b, int d) { return std::inner_product(a, a + d, b, 0.0); }

// Everything a case has: inputs, what the kernels write, and in `values` of the latter what they ought to.
template <class T>
struct Case {
  Shape n;
  Tensor<T> q, k, v, dout, out, dq, dk, dv;
  std::vector<float> lse, delta;
  bool asked;
  // Options that change nothing, each in memory of its exact size.
  const std::unique_ptr<float[]> mask;
  const std::unique_ptr<int32_t[]> lengths;
  const std::unique_ptr<int64_t> seed;

  explicit Case(const Shape& s, bool asked_)
      : n(s),
        q(s.batch, s.q_heads, s.rows, s.d),
        k(s.batch, s.kv_heads, s.keys, s.d),
        v(s.batch, s.kv_heads, s.keys, s.d),
        dout(s.batch, s.q_heads, s.rows, s.d),
        out(s.batch, s.q_heads, s.rows, s.d),
        dq(s.batch, s.q_heads, s.rows, s.d),
        dk(s.batch, s.kv_heads, s.keys, s.d),
        dv(s.batch, s.kv_heads, s.keys, s.d),
        lse(s.batch * s.q_heads * s.rows),
        delta(lse.size()),
        asked(asked_),
        mask(new float[s.rows * s.keys]()),
        lengths(new int32_t[s.batch]),
        seed(new int64_t(7)) {
    std::fill_n(lengths.get(), s.batch, static_cast<int32_t>(s.keys));
    for (Tensor<T>* t : {&out, &dq, &dk, &dv}) std::fill(t->values.begin(), t->values.end(), 0.0);
    for (int64_t b = 0; b < n.batch; ++b) {
      for (int64_t h = 0; h < n.q_heads; ++h) {
        for (int64_t i = 0; i < n.rows; ++i) define_row(b, h, i);
      }
    }
  }

  double scale() const { return 1 / std::sqrt(static_cast<double>(n.d)); }
  cuda::Problem problem() const {
    aieng::attention::Options o;
    o.right = n.causal ? 0 : -1;
    if (asked) {
      o.softcap = 1e4f;
      o.mask = {aieng::attention::Mask::kFloat32, mask.get(), 0, 0, n.keys, 1};
      o.dropout = {seed.get(), 1, 1.0f};  // one word of 2^32
      o.lengths.k_lengths = lengths.get();
    }
    return {n.batch, n.q_heads, n.kv_heads, n.rows, n.keys, n.d, n.causal, static_cast<float>(scale()), o};
  }

  void define_row(int64_t b, int64_t h, int64_t i) {
    const int64_t kv = h / (n.q_heads / n.kv_heads), seen = n.causal ? std::min(i + 1, n.keys) : n.keys;
    Numbers p(seen);
    for (int64_t j = 0; j < seen; ++j) p[j] = std::exp(scale() * dot(q.row(b, h, i), k.row(b, kv, j), n.d));
    const double sum = std::accumulate(p.begin(), p.end(), 0.0);
    double row_delta = 0;
    for (int64_t j = 0; j < seen; ++j) {
      p[j] /= sum;
      for (int c = 0; c < n.d; ++c) out.row(b, h, i)[c] += p[j] * v.row(b, kv, j)[c];
      row_delta += p[j] * dot(dout.row(b, h, i), v.row(b, kv, j), n.d);
    }
    for (int64_t j = 0; j < seen; ++j) {
      const double ds = scale() * p[j] * (dot(dout.row(b, h, i), v.row(b, kv, j), n.d) - row_delta);
      for (int c = 0; c < n.d; ++c) {
        dv.row(b, kv, j)[c] += p[j] * dout.row(b, h, i)[c];
        dq.row(b, h, i)[c] += ds * k.row(b, kv, j)[c];
        dk.row(b, kv, j)[c] += ds * q.row(b, h, i)[c];
      }
    }
  }

  template <class ForwardOf, class BackwardOf>
  bool right(const char* name, double tolerance, ForwardOf forward, BackwardOf backward) {
    forward(cuda::Forward{problem(), q.view(), k.view(), v.view(), out.view(), lse.data()});
    backward(cuda::Backward{problem(), q.view(), k.view(), v.view(), out.view(), dout.view(), dq.view(), dk.view(), dv.view(),
                            lse.data(), delta.data()});
    double worst = 0;
    for (Tensor<T>* t : {&out, &dq, &dk, &dv}) {
      for (size_t i = 0; i < t->values.size(); ++i) {
        const double error = std::abs(aieng::to_float(t->memory[i]) - t->values[i]);
        if (!(error <= worst)) worst = error;
      }
    }
    std::printf("%s d=%d%s: largest error %.2e\n", name, n.d, asked ? " with options" : "", worst);
    return worst <= tolerance;
  }
};

// bfloat16 keeps 8 bits: an ulp of values up to 4 is 2^-6, and p and ds are rounded once more on the way.
constexpr double kBf16Tolerance = 0.06, kFloatTolerance = 1e-5;

template <int D, bool kAsked = false>
bool tensor_cores(const Shape& shape) {
  using aieng::Bf16;
  return Case<Bf16>(shape, kAsked)
      .right(
          "sm80", kBf16Tolerance, [](const cuda::Forward& a) { cuda::launch_forward_sm80<D, Bf16, kAsked>(a, nullptr); },
          [](const cuda::Backward& a) { cuda::launch_backward_sm80<D, Bf16, kAsked>(a, nullptr); });
}

bool multiply_adds(const Shape& shape, bool asked = false) {
  return Case<float>(shape, asked)
      .right(
          "simt", kFloatTolerance, [](const cuda::Forward& a) { cuda::forward_simt(a, 0, nullptr); },
          [](const cuda::Backward& a) { cuda::backward_simt(a, 0, nullptr); });
}

// 13 numbers from the second on: neither aligned nor whole groups.
bool diffusion() {
  constexpr int64_t kCount = 13;
  Tensor<float> sample(1, 1, 1, kCount + 1), cond(1, 1, 1, kCount + 1), out(1, 1, 1, kCount + 1), x0(1, 1, 1, kCount + 1);
  const aieng::diffusion::Coefficients k{1.5f, -0.5f, 0.75f, 0.25f, 0.125f, 0.0f, 1.0f, 1.0f};
  aieng::diffusion::step_cuda({sample.memory.get() + 1, cond.memory.get() + 1, nullptr, nullptr, out.memory.get() + 1,
                               x0.memory.get() + 1, kCount, k, 0, 0},
                              {}, aieng::diffusion::Type::kFloat32, 0, nullptr);
  double worst = 0;
  for (int64_t i = 1; i <= kCount; ++i) {
    const double x = sample.values[i], e = cond.values[i], original = std::clamp(k.p * x + k.q * e, -1.0, 1.0);
    worst = std::max(worst, std::abs(out.memory[i] - (k.r * original + k.s * x + k.t * e)));
  }
  std::printf("diffusion: largest error %.2e\n", worst);
  return worst <= kFloatTolerance;
}

// Two samples of 13 numbers, in memory that ends where they do: the factor, and the bound between two ranks.
bool scales() {
  constexpr int64_t kSamples = 2, kSize = 13;
  Tensor<float> sample(1, 1, kSamples, kSize), cond(1, 1, kSamples, kSize), uncond(1, 1, kSamples, kSize);
  const std::unique_ptr<float[]> factor(new float[kSamples]), bound(new float[kSamples]);
  aieng::diffusion::Step a{};
  a.sample = sample.memory.get(), a.cond = cond.memory.get(), a.uncond = uncond.memory.get();
  a.k.p = 30.0f, a.k.q = -0.5f, a.k.guidance = 3.0f;
  a.samples = kSamples, a.rescale = 0.5, a.ratio = 0.9, a.most = 1000;
  aieng::diffusion::scales_cuda(a, {factor.get(), bound.get(), kSize}, aieng::diffusion::Type::kFloat32, 0, nullptr);
  const auto deviation = [](const Numbers& x) {
    const double mean = std::accumulate(x.begin(), x.end(), 0.0) / x.size();
    double squares = 0;
    for (const double one : x) squares += (one - mean) * (one - mean);
    return std::sqrt(squares);
  };
  double worst = 0;
  for (int64_t n = 0; n < kSamples; ++n) {
    Numbers c(cond.row(0, 0, n), cond.row(0, 0, n) + kSize), e(kSize), x0(kSize);
    for (int64_t i = 0; i < kSize; ++i) e[i] = uncond.row(0, 0, n)[i] + a.k.guidance * (c[i] - uncond.row(0, 0, n)[i]);
    const double wanted = a.rescale * deviation(c) / deviation(e) + 1 - a.rescale;
    for (int64_t i = 0; i < kSize; ++i) x0[i] = std::abs(a.k.p * sample.row(0, 0, n)[i] + a.k.q * wanted * e[i]);
    std::sort(x0.begin(), x0.end());
    const double quantile = x0[10] + (a.ratio * (kSize - 1) - 10) * (x0[11] - x0[10]);
    worst = std::max({worst, std::abs(factor[n] - wanted), std::abs(bound[n] / quantile - 1)});
  }
  std::printf("scales: largest error %.2e\n", worst);
  return worst <= kFloatTolerance;
}

// The words of cuda_philox.cuh against philox.h, on both sides of a carry into the counter's upper word.
bool philox() {
  int wrong = 0;
  for (const uint64_t seed : {uint64_t{0}, uint64_t{0xDEADBEEFCAFE1234}, ~uint64_t{0}}) {
    for (const uint64_t offset : {uint64_t{0}, uint64_t{0x123456789ABCDEF0}, ~uint64_t{0} >> 1}) {
      for (const uint64_t first : {uint64_t{0}, uint64_t{1} << 31, uint64_t{3} << 32, (uint64_t{5} << 32) + (uint64_t{7} << 28)}) {
        const auto stream = aieng::diffusion::philox_stream(seed, offset, first);
        for (const uint32_t block : {0u, 1u, 77u, (1u << 28) - 1}) {
          uint32_t words[4], wanted[4];
          aieng::diffusion::philox_words(stream, block, words);
          aieng::philox_block(seed, offset, first + block, wanted);
          wrong += !std::equal(words, words + 4, wanted);
        }
      }
    }
  }
  std::printf("philox: %d blocks wrong\n", wrong);
  return wrong == 0;
}

// Normals with the special functions as wrong as they may be, to the bound that their text gives; small 1 - u0 above all.
bool normals() {
  double worst = 0;
  for (unsigned seed : {0u, 1u}) {
    aieng::shim::seed() = seed;
    for (uint64_t step = 0; step < 1 << 21; ++step) {
      const uint32_t distance = static_cast<uint32_t>(step < 1 << 20 ? step << 9 : step << 11);
      const uint32_t word0 = step % 2 ? ~distance : distance, word1 = static_cast<uint32_t>(step * 2654435761u);
      float z[2];
      aieng::diffusion::normal_pair(word0, word1, z[0], z[1]);
      const double radius = std::sqrt(-2 * std::log(static_cast<double>(aieng::uniform(word0))));
      const double angle = 2 * M_PI * aieng::uniform(word1);
      worst = std::max({worst, std::abs(z[0] - radius * std::cos(angle)), std::abs(z[1] - radius * std::sin(angle))});
    }
  }
  std::printf("normals: largest error %.2e\n", worst);
  return worst <= 4e-6;
}

}  // namespace

int main() {
  bool right = diffusion();
  right &= scales();
  right &= philox();
  right &= normals();
  right &= tensor_cores<64>({1, 2, 1, 71, 67, 40, true});
  right &= tensor_cores<128>({1, 1, 1, 33, 66, 104, false});
  right &= tensor_cores<192>({1, 1, 1, 65, 35, 168, true});
  right &= tensor_cores<64, true>({2, 2, 1, 71, 67, 40, true});
  right &= tensor_cores<128, true>({1, 1, 1, 33, 66, 104, false});
  right &= tensor_cores<256, true>({1, 1, 1, 65, 35, 168, true});
  right &= multiply_adds({2, 2, 1, 37, 33, 40, true}, true);
  right &= multiply_adds({1, 2, 1, 35, 37, 7, true});
  right &= multiply_adds({1, 1, 1, 18, 17, 130, false});
  return right ? 0 : 1;
}
