// Runs every CPU kernel that this processor has, forward and backward, on heap blocks of exactly the tensors' size, and compares
// with three loops in double. Built with AddressSanitizer and UBSan by test_attention_sanitized.py; scratch memory is filled with
// NaN.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "attention.h"
#include "cpu_api.h"
#include "cpu_features.h"

using namespace aieng::attention;

namespace {

uint32_t state = 1;
float uniform() {
  state = state * 1664525u + 1013904223u;
  return static_cast<float>(state >> 8) / (1 << 23) - 1.f;
}

// A tensor of float32 or bfloat16 in a block of its own, rows `pad` elements further apart than they are long.
struct Tensor {
  std::vector<float> exact;
  void* block;
  View view;
  Type type;
  int64_t width;

  Tensor(int64_t B, int64_t H, int64_t N, int64_t D, int64_t pad, Type type_, bool fill) : type(type_), width(D) {
    const int64_t row = D + pad, rows = B * H * N, size = type == Type::kFloat32 ? 4 : 2;
    block = std::malloc(rows ? ((rows - 1) * row + D) * size : 1);
    view = {block, H * N * row, N * row, row};
    exact.assign(rows * D, NAN);
    for (int64_t i = 0; fill && i < rows * D; ++i) {
      const int64_t at = i / D * row + i % D;
      uint32_t bits;
      float x = uniform();
      std::memcpy(&bits, &x, 4);
      if (type == Type::kBfloat16) {
        bits &= 0xffff0000u;
        static_cast<uint16_t*>(block)[at] = static_cast<uint16_t>(bits >> 16);
        std::memcpy(&x, &bits, 4);
      } else {
        static_cast<float*>(block)[at] = x;
      }
      exact[i] = x;
    }
  }
  ~Tensor() { std::free(block); }
  Tensor(const Tensor&) = delete;

  float operator[](int64_t i) const {
    const int64_t at = i / width * view.row + i % width;
    if (type == Type::kFloat32) return static_cast<float*>(block)[at];
    const uint32_t bits = static_cast<uint32_t>(static_cast<uint16_t*>(block)[at]) << 16;
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
  }
};

struct Expected {
  std::vector<double> out, dq, dk, dv;
};

Expected expect(const Problem& p, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& dout) {
  Expected e;
  const int64_t D = p.D, group = p.Hq / p.Hkv;
  e.out.assign(p.B * p.Hq * p.S * D, 0), e.dq = e.out;
  e.dk.assign(p.B * p.Hkv * p.T * D, 0), e.dv = e.dk;
  for (int64_t row = 0; row < p.B * p.Hq * p.S; ++row) {
    const int64_t head = row / p.S, first = (head / p.Hq * p.Hkv + head % p.Hq / group) * p.T,
                  seen = keys_seen(p.right == 0, row % p.S, p.T);
    std::vector<double> weight(seen), dp(seen);
    double sum = 0, delta = 0;
    for (int64_t j = 0; j < seen; ++j) {
      double score = 0;
      for (int64_t d = 0; d < D; ++d) {
        score += double(q.exact[row * D + d]) * k.exact[(first + j) * D + d];
        dp[j] += double(dout.exact[row * D + d]) * v.exact[(first + j) * D + d];
      }
      sum += weight[j] = std::exp(p.scale * score);
    }
    for (int64_t j = 0; j < seen; ++j) delta += (weight[j] /= sum) * dp[j];
    for (int64_t j = 0; j < seen; ++j) {
      const double ds = p.scale * weight[j] * (dp[j] - delta);
      for (int64_t d = 0; d < D; ++d) {
        const int64_t own = row * D + d, other = (first + j) * D + d;
        e.out[own] += weight[j] * v.exact[other];
        e.dv[other] += weight[j] * dout.exact[own];
        e.dq[own] += ds * k.exact[other];
        e.dk[other] += ds * q.exact[own];
      }
    }
  }
  return e;
}

// Relative to the root mean square: a few roundings of bfloat16, or of float32.
bool close(const char* isa, const char* name, const Tensor& got, const std::vector<double>& due) {
  double error = 0, size = 0;
  for (size_t i = 0; i < due.size(); ++i) error += std::pow(got[i] - due[i], 2), size += due[i] * due[i];
  const double bound = got.type == Type::kFloat32 ? 1e-5 : 2e-2;
  if (std::sqrt(error) <= bound * std::sqrt(size) + 1e-6) return true;
  std::printf("%s %s: error %g of %g\n", isa, name, std::sqrt(error), std::sqrt(size));
  return false;
}

bool check(const char* isa, bool (*forward)(const Forward&), bool (*backward)(const Backward&), Problem p) {
  const Tensor q(p.B, p.Hq, p.S, p.D, 3, p.type, true), k(p.B, p.Hkv, p.T, p.D, 0, p.type, true),
      v(p.B, p.Hkv, p.T, p.D, 5, p.type, true);
  const Tensor dout(p.B, p.Hq, p.S, p.D, 1, p.type, true), out(p.B, p.Hq, p.S, p.D, 2, p.type, false);
  const Tensor dq(p.B, p.Hq, p.S, p.D, 0, p.type, false), dk(p.B, p.Hkv, p.T, p.D, 0, p.type, false);
  const Tensor dv(p.B, p.Hkv, p.T, p.D, 0, p.type, false), lse(p.B, p.Hq, p.S, 1, 0, Type::kFloat32, false);
  const Forward f{
      p, q.view, k.view, v.view, {out.block, out.view.batch, out.view.head, out.view.row}, static_cast<float*>(lse.block)};
  const Backward b{p, dout.view, q.view, k.view, v.view, out.view, static_cast<float*>(lse.block), dq.block, dk.block, dv.block};
  if (!forward(f) || !backward(b)) return false;
  const Expected due = expect(p, q, k, v, dout);
  const bool right[] = {close(isa, "out", out, due.out), close(isa, "dq", dq, due.dq), close(isa, "dk", dk, due.dk),
                        close(isa, "dv", dv, due.dv)};
  if (right[0] && right[1] && right[2] && right[3]) return true;
  std::printf("  at S %ld T %ld D %ld causal %d threads %d\n", long(p.S), long(p.T), long(p.D), p.right == 0, p.threads);
  return false;
}

}  // namespace

int main() {
  const int64_t shapes[][3] = {{1, 1, 8},      {65, 65, 64},   {3, 0, 16},    {0, 5, 16},
                               {113, 203, 40}, {203, 113, 72}, {9, 300, 128}, {97, 2, 5}};
  int wrong = 0, ran = 0;
  for (const auto& n : shapes) {
    for (const bool causal : {false, true}) {
      for (const int threads : {1, 3}) {
        Problem p{2, 4, 2, n[0], n[1], n[2], 0.3f, Type::kFloat32, threads, -1, causal ? 0 : -1};
        const auto all_types = [&](const char* isa, bool (*forward)(const Forward&), bool (*backward)(const Backward&), bool wide) {
          for (const Type type : {Type::kFloat32, Type::kBfloat16}) {
            if (type == Type::kFloat32 && !wide) continue;
            p.type = type;
            wrong += !check(isa, forward, backward, p);
            ++ran;
          }
        };
        all_types("portable", forward_portable, backward_portable, true);
#if defined(__x86_64__)
        if (aieng::has_avx2()) all_types("avx2", forward_avx2, backward_avx2, true);
        if (aieng::has_avx512()) all_types("avx512", forward_avx512, backward_avx512, true);
        if (aieng::has_avx512_bf16()) all_types("avx512_bf16", forward_avx512_bf16, backward_avx512_bf16, false);
#endif
      }
    }
  }
  std::printf("%d ran, %d wrong\n", ran, wrong);
  return wrong != 0;
}
