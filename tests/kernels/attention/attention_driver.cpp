// Runs every CPU kernel that this processor has, forward and backward, with every option, on heap blocks of exactly the tensors'
// size, and compares with three loops in double. Built with AddressSanitizer and UBSan by test_attention_sanitized.py; scratch
// memory is filled with NaN. The kernels of BF16 are built with their instructions emulated, see emulated_bf16.h.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "cpu_api.h"
#include "cpu_features.h"
#include "philox.h"

using namespace aieng::attention;

namespace {

uint32_t state = 1;
float uniform() {
  state = state * 1664525u + 1013904223u;
  return static_cast<float>(state >> 8) / (1 << 23) - 1.f;
}

float float_at(const void* block, int64_t at, Type type) {
  float x;
  if (type == Type::kFloat32) return std::memcpy(&x, static_cast<const char*>(block) + 4 * at, 4), x;
  const uint32_t bits = static_cast<uint32_t>(static_cast<const uint16_t*>(block)[at]) << 16;
  return std::memcpy(&x, &bits, 4), x;
}

void put(void* block, int64_t at, Type type, float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  if (type == Type::kFloat32) {
    static_cast<float*>(block)[at] = x;
  } else {
    static_cast<uint16_t*>(block)[at] = static_cast<uint16_t>(bits >> 16);
  }
}

// A tensor of float32 or bfloat16 in a block of its own, rows `pad` elements further apart than they are long.
struct Tensor {
  void* block;
  View view;
  Type type;
  int64_t rows, width;

  Tensor(int64_t B, int64_t H, int64_t N, int64_t D, int64_t pad, Type type_, bool fill) : type(type_), rows(B * H * N), width(D) {
    const int64_t row = D + pad, size = type == Type::kFloat32 ? 4 : 2;
    block = std::malloc(rows ? ((rows - 1) * row + D) * size : 1);
    view = {block, H * N * row, N * row, row};
    for (int64_t i = 0; i < rows * D; ++i) put(block, at(i), type, fill ? uniform() : NAN);
  }
  ~Tensor() { std::free(block); }
  Tensor(const Tensor&) = delete;

  int64_t at(int64_t i) const { return i / width * view.row + i % width; }
  float operator[](int64_t i) const { return float_at(block, at(i), type); }
  std::vector<double> exact() const {
    std::vector<double> all(rows * width);
    for (int64_t i = 0; i < rows * width; ++i) all[i] = (*this)[i];
    return all;
  }
  WritableView writable() const { return {block, view.batch, view.head, view.row}; }
};

// What is asked, beside the shape.
struct Case {
  const char* name;
  int64_t left = -1, right = -1;
  bool bottom_right = false;
  float softcap = 0;
  Mask::Kind mask = Mask::kNone;
  const char* mask_dimensions = "bhqk";  // of which those that are named have a length
  double dropout = 0;
  std::vector<int> queries, keys, lengths;  // of the sequences; keys there are in each batch
};

const Case kCases[] = {
    {"full"},
    {"causal", -1, 0},
    {"causal, bottom-right", -1, 0, true},
    {"window", 17, 30},
    {"window, bottom-right", 20, 0, true},
    {"keys before", 0, -1, true},
    {"keys after", -1, 9},
    {"softcap", -1, 0, false, 0.5f},
    {"mask", -1, -1, false, 0, Mask::kBool},
    {"mask of keys", 30, -1, false, 0, Mask::kBool, "bk"},
    {"mask of queries", -1, -1, false, 0, Mask::kFloat32, "hq"},
    {"added", -1, 3, false, 0.7f, Mask::kOfInputs},
    {"added float32", -1, -1, false, 0, Mask::kFloat32, "qk"},
    {"dropout", -1, -1, false, 0, Mask::kNone, "", 0.3},
    {"dropout in a window", 40, 0, true, 0, Mask::kNone, "", 0.6},
    {"lengths", -1, 0, true, 0, Mask::kNone, "", 0, {}, {}, {70, 0}},
    {"lengths and all", 33, 5, true, 2.f, Mask::kBool, "bhqk", 0.1, {}, {}, {1, 113}},
    {"sequences", -1, -1, false, 0, Mask::kNone, "", 0, {3, 0, 47, 1, 50, 9}, {5, 4, 33, 80, 0, 7}},
    {"sequences, causal", -1, 0, true, 0, Mask::kNone, "", 0, {70, 1, 2, 3}, {100, 30, 1, 2}},
    {"slopes", 30, 0, true, 0, Mask::kSlopes},
    {"slopes and lengths", -1, -1, false, 1.5f, Mask::kSlopes, "", 0.2, {}, {}, {70, 113}},
    {"slopes of sequences", -1, 20, false, 0, Mask::kSlopes, "", 0, {20, 66, 1}, {41, 30, 77}},
    {"sequences and all", 25, 3, true, 1.f, Mask::kOfInputs, "hqk", 0.2, {20, 66, 1}, {41, 30, 77}},
};

int64_t sum(const std::vector<int>& all) {
  int64_t total = 0;
  for (const int n : all) total += n;
  return total;
}

std::vector<int32_t> starts(const std::vector<int>& lengths) {
  std::vector<int32_t> all{0};
  for (const int n : lengths) all.push_back(all.back() + n);
  return all;
}

constexpr int64_t kSeed = 0x123456789abcdef;

// A call: the tensors in blocks of their own, and the problem that points at them.
struct Call {
  Problem p;
  Tensor q, k, v, dout, mask;
  std::vector<int32_t> q_starts, k_starts, k_lengths;
  std::vector<float> slopes;

  Call(const Case& c, const Problem& shape, bool wide_mask)
      : p(shape),
        q(p.B, p.Hq, p.S, p.D, 3, p.type, true),
        k(p.B, p.Hkv, p.T, p.D, 0, p.type, true),
        v(p.B, p.Hkv, p.T, p.D, 5, p.type, true),
        dout(p.B, p.Hq, p.S, p.D, 1, p.type, true),
        mask(named(c, 'b') ? p.B : 1, named(c, 'h') ? p.Hq : 1, named(c, 'q') ? p.S : 1, named(c, 'k') ? p.T : 1, named(c, 'k'),
             wide_mask ? Type::kFloat32 : p.type, true),
        q_starts(starts(c.queries)),
        k_starts(starts(c.keys)),
        k_lengths(c.lengths.begin(), c.lengths.end()) {
    p.left = c.left, p.right = c.right, p.bottom_right = c.bottom_right, p.softcap = c.softcap;
    p.dropout = {&kSeed, static_cast<uint64_t>(c.dropout * 4294967296.), static_cast<float>(1 / (1 - c.dropout))};
    const auto stride = [&](char dimension, int64_t n) { return named(c, dimension) ? n : 0; };
    p.mask = {c.mask,        mask.block, stride('b', mask.view.batch), stride('h', mask.view.head), stride('q', mask.view.row),
              stride('k', 1)};
    for (int64_t i = 0; i < 3 * p.Hq; ++i) slopes.push_back(0.01f * static_cast<float>(i % 7));
    if (c.mask == Mask::kSlopes) p.mask = {c.mask, slopes.data(), p.Hq, 1, 0, 0};
    for (int64_t i = 0; i < mask.rows * mask.width; ++i) {
      const float x = mask[i];
      if (c.mask == Mask::kBool) static_cast<char*>(mask.block)[mask.at(i)] = x < 0.4f;
      if (c.mask != Mask::kBool) put(mask.block, mask.at(i), mask.type, x < -0.6f ? -INFINITY : 2 * x);
    }
    if (!c.queries.empty()) p.lengths = {static_cast<int64_t>(c.queries.size()), q_starts.data(), k_starts.data()};
    for (const int n : c.queries) p.lengths.longest_q = n > p.lengths.longest_q ? n : p.lengths.longest_q;
    for (const int n : c.keys) p.lengths.longest_k = n > p.lengths.longest_k ? n : p.lengths.longest_k;
    if (!c.lengths.empty()) p.lengths.k_lengths = k_lengths.data();
    for (int64_t row = 0; row < p.B * p.Hkv * p.T; ++row) {
      for (int64_t d = 0; row % p.T >= keys_there(row / p.T / p.Hkv) && d < p.D; ++d) {
        for (const Tensor* x : {&k, &v}) put(x->block, x->at(row * p.D + d), p.type, NAN);
      }
    }
  }

  static bool named(const Case& c, char dimension) { return c.mask && std::strchr(c.mask_dimensions, dimension); }
  int64_t keys_there(int64_t batch) const { return k_lengths.empty() ? p.T : k_lengths[batch] < p.T ? k_lengths[batch] : p.T; }

  // Where a query row's sequence lies, and its number.
  struct Place {
    int64_t q_first, queries, k_first, keys, number;
  };
  Place place(int64_t batch, int64_t row) const {
    if (!p.lengths.q_starts) return {0, p.S, 0, keys_there(batch), batch};
    int64_t n = 0;
    while (q_starts[n + 1] <= row) ++n;
    return {q_starts[n], q_starts[n + 1] - q_starts[n], k_starts[n], k_starts[n + 1] - k_starts[n], n};
  }

  bool in_band(const Place& s, int64_t i, int64_t j) const {
    const int64_t stands = i + (p.bottom_right ? s.keys - s.queries : 0);
    return (p.left < 0 || j >= stands - p.left) && (p.right < 0 || j <= stands + p.right);
  }

  double added(const Place& s, int64_t batch, int64_t head, int64_t row, int64_t key) const {
    if (p.mask.kind == Mask::kSlopes) {
      const int64_t stands = row - s.q_first + s.keys - s.queries;
      return -slopes[s.number * p.Hq + head] * std::abs(static_cast<double>(stands - (key - s.k_first)));
    }
    const int64_t at = batch * p.mask.batch + head * p.mask.head + row * p.mask.row + key * p.mask.key;
    if (p.mask.kind == Mask::kNone) return 0;
    if (p.mask.kind == Mask::kBool) return static_cast<const char*>(p.mask.data)[at] ? 0 : -INFINITY;
    return float_at(p.mask.data, at, mask.type);
  }

  double kept(const Place& s, int64_t head, int64_t i, int64_t j) const {
    const int64_t S = p.lengths.longest_q ? p.lengths.longest_q : p.S, T = p.lengths.longest_k ? p.lengths.longest_k : p.T;
    uint32_t words[4];
    aieng::philox_block(kSeed, 0, ((s.number * p.Hq + head) * S + i) * ((T + 3) / 4) + j / 4, words);
    return words[j % 4] < p.dropout.dropped ? 0 : p.dropout.rescale;
  }
};

struct Expected {
  std::vector<double> out, dq, dk, dv, lse;
};

Expected expect(const Call& c) {
  Expected e;
  const Problem& p = c.p;
  const int64_t D = p.D, group = p.Hq / p.Hkv;
  const std::vector<double> q = c.q.exact(), k = c.k.exact(), v = c.v.exact(), dout = c.dout.exact();
  e.lse.assign(p.B * p.Hq * p.S, 0), e.out.assign(p.B * p.Hq * p.S * D, 0), e.dq = e.out;
  e.dk.assign(p.B * p.Hkv * p.T * D, 0), e.dv = e.dk;
  for (int64_t row = 0; row < p.B * p.Hq * p.S; ++row) {
    const int64_t batch = row / p.S / p.Hq, head = row / p.S % p.Hq;
    const Call::Place s = c.place(batch, row % p.S);
    const int64_t i = row % p.S - s.q_first, first = (batch * p.Hkv + head / group) * p.T + s.k_first;
    std::vector<double> weight(s.keys), dp(s.keys), slope(s.keys), kept(s.keys);
    double total = 0, delta = 0;
    for (int64_t j = 0; j < s.keys; ++j) {
      if (!c.in_band(s, i, j)) continue;
      double score = 0;
      for (int64_t d = 0; d < D; ++d) {
        score += q[row * D + d] * k[(first + j) * D + d];
        dp[j] += dout[row * D + d] * v[(first + j) * D + d];
      }
      score *= p.scale;
      slope[j] = p.softcap > 0 ? 1 / std::pow(std::cosh(score / p.softcap), 2) : 1;
      if (p.softcap > 0) score = p.softcap * std::tanh(score / p.softcap);
      total += weight[j] = std::exp(score + c.added(s, batch, head, row % p.S, s.k_first + j));
      dp[j] *= kept[j] = c.kept(s, head, i, j);
    }
    e.lse[row] = std::log(total);
    for (int64_t j = 0; j < s.keys; ++j) delta += (weight[j] /= total > 0 ? total : 1) * dp[j];
    for (int64_t j = 0; j < s.keys; ++j) {
      if (weight[j] == 0) continue;
      const double ds = p.scale * slope[j] * weight[j] * (dp[j] - delta);
      for (int64_t d = 0; d < D; ++d) {
        const int64_t own = row * D + d, other = (first + j) * D + d;
        e.out[own] += weight[j] * kept[j] * v[other];
        e.dv[other] += weight[j] * kept[j] * dout[own];
        e.dq[own] += ds * k[other];
        e.dk[other] += ds * q[own];
      }
    }
  }
  return e;
}

// Relative to the root of the sum of squares: a few roundings of bfloat16, or of float32. What is infinite must be so exactly.
bool close(const char* isa, const char* name, const Tensor& got, const std::vector<double>& due) {
  double error = 0, size = 0;
  for (size_t i = 0; i < due.size(); ++i) {
    if (std::isinf(due[i]) && got[i] == due[i]) continue;
    error += std::pow(got[i] - due[i], 2), size += due[i] * due[i];
  }
  const bool wide = got.type == Type::kFloat32;
  const double bound = wide ? 1e-5 : 2e-2, floor = wide ? 1e-6 : 1e-2;  // where all cancels, the rounding of the saved out is left
  if (std::sqrt(error) <= bound * std::sqrt(size) + floor) return true;
  std::printf("%s %s: error %g of %g\n", isa, name, std::sqrt(error), std::sqrt(size));
  return false;
}

bool check(const char* isa, bool (*forward)(const Forward&), bool (*backward)(const Backward&), const Call& c, const Expected& due,
           int threads) {
  Problem p = c.p;
  p.threads = threads;
  const Tensor out(p.B, p.Hq, p.S, p.D, 2, p.type, false), lse(p.B, p.Hq, p.S, 1, 0, Type::kFloat32, false);
  const Tensor dq(p.B, p.Hq, p.S, p.D, 0, p.type, false), dk(p.B, p.Hkv, p.T, p.D, 0, p.type, false);
  const Tensor dv(p.B, p.Hkv, p.T, p.D, 0, p.type, false);
  const Forward f{p, c.q.view, c.k.view, c.v.view, out.writable(), static_cast<float*>(lse.block)};
  const Backward b{p,        c.dout.view, c.q.view, c.k.view, c.v.view, out.view, static_cast<float*>(lse.block),
                   dq.block, dk.block,    dv.block};
  if (!forward(f) || !backward(b)) return false;
  bool right = close(isa, "out", out, due.out);
  // Where products are of bfloat16, so are the errors of lse, which is float32.
  if (p.type == Type::kFloat32) right &= close(isa, "lse", lse, due.lse);
  right &= close(isa, "dq", dq, due.dq) & close(isa, "dk", dk, due.dk) & close(isa, "dv", dv, due.dv);
  if (!right) std::printf("  at S %ld T %ld D %ld, threads %d\n", long(p.S), long(p.T), long(p.D), p.threads);
  return right;
}

int check_all(const Case& c, const Problem& shape, int& ran) {
  const Call call(c, shape, c.mask == Mask::kFloat32);
  const Expected due = expect(call);
  int wrong = 0;
  const auto on = [&](const char* isa, bool (*forward)(const Forward&), bool (*backward)(const Backward&)) {
    const bool right = check(isa, forward, backward, call, due, ran % 2 ? 1 : 3);
    if (!right) std::printf("  %s\n", c.name);
    wrong += !right, ++ran;
  };
  on("portable", forward_portable, backward_portable);
#if defined(__x86_64__)
  if (aieng::has_avx2()) on("avx2", forward_avx2, backward_avx2);
  if (aieng::has_avx512()) on("avx512", forward_avx512, backward_avx512);
  if (aieng::has_avx512() && shape.type == Type::kBfloat16) on("avx512_bf16", forward_avx512_bf16, backward_avx512_bf16);
#endif
  return wrong;
}

}  // namespace

int main() {
  // The last five are for every case, the others for the plain ones: three loops in double are slow under the sanitizers.
  const int64_t shapes[][3] = {{113, 203, 40}, {203, 113, 24}, {9, 300, 128}, {0, 5, 16},  {65, 65, 72},
                               {1, 1, 8},      {3, 0, 16},     {97, 2, 5},    {1, 140, 16}};
  constexpr int kPlainCases = 4, kPlainShapes = 4;
  int wrong = 0, ran = 0;
  for (const Type type : {Type::kFloat32, Type::kBfloat16}) {
    for (const Case& c : kCases) {
      for (const auto& n : shapes) {
        if (&c - kCases >= kPlainCases && &n - shapes < kPlainShapes) continue;
        const bool sequences = !c.queries.empty();
        const int64_t S = sequences ? sum(c.queries) : n[0], T = sequences ? sum(c.keys) : n[1];
        wrong += check_all(c, {{}, sequences ? 1 : 2, 4, 2, S, T, n[2], 0.3f, type, 1}, ran);
        if (sequences) break;
      }
    }
  }
  std::printf("%d ran, %d wrong\n", ran, wrong);
  return wrong != 0;
}
