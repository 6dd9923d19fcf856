// Python bindings of the CPU attention kernels: addresses and numbers in, one function a pass, the instruction set by name; small
// plain calls with the tensors themselves.
#include <algorithm>
#include <array>
#include <cmath>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "bind_options.h"
#include "cpu_api.h"
#include "dlpack.h"

namespace {
namespace py = pybind11;
namespace dlpack = aieng::dlpack;
using namespace aieng::attention;

template <class Pointed = const void>
ViewOf<Pointed*> view(const Tensor& t) {
  return {aieng::pointer<Pointed>(t.first), t.second[0], t.second[1], t.second[2]};
}

Problem problem(const Four& q, const Four& k, int type, const Asked& asked, int threads) {
  Problem p{asked.options, q[0], q[1], k[1], q[2], k[2], q[3], asked.scale, static_cast<Type>(type), 1};
  // A thread gets at least kGrain multiply-adds of either product: waking one that sleeps costs more than it would save.
  constexpr double kGrain = 32768;
  double keys = static_cast<double>(p.lengths.q_starts ? p.lengths.longest_k : p.T);
  if (p.left >= 0 && p.right >= 0) keys = std::min(keys, static_cast<double>(p.left) + static_cast<double>(p.right) + 1);
  const double worth = static_cast<double>(p.B) * p.Hq * p.S * p.D * keys / kGrain;
  p.threads = worth >= threads ? threads : worth < 1 ? 1 : static_cast<int>(worth);
  return p;
}

#if defined(__x86_64__)
#define AIENG_EACH(pass) pass##_portable, pass##_avx2, pass##_avx512, pass##_avx512_bf16
#else
#define AIENG_EACH(pass) pass##_portable, nullptr, nullptr, nullptr
#endif

template <class Args>
void run(const std::string& isa, const Args& args, bool (*portable)(const Args&), bool (*avx2)(const Args&),
         bool (*avx512)(const Args&), bool (*avx512_bf16)(const Args&)) {
  auto kernel = isa == "avx512_bf16" ? avx512_bf16
                : isa == "avx512"    ? avx512
                : isa == "avx2"      ? avx2
                : isa == "portable"  ? portable
                                     : nullptr;
  if (!kernel) throw std::invalid_argument("isa " + isa + " is not built");
  const py::gil_scoped_release release;
  if (!kernel(args)) throw std::bad_alloc();
}

// The type of a tensor that small() takes: on the CPU, (B, H, N, D) with no empty dimension and a contiguous last one.
std::optional<Type> type_of(const dlpack::Tensor& t) {
  const int type = dlpack::cpu_type(t);
  if (type < 0 || t.ndim != 4 || t.strides[3] != 1) return {};
  if (std::any_of(t.shape, t.shape + 4, [](int64_t n) { return n < 1; })) return {};
  return static_cast<Type>(type);
}

template <class Pointed = const void>
ViewOf<Pointed*> view(const dlpack::Tensor& t) {
  return {dlpack::address(t), t.strides[0], t.strides[1], t.strides[2]};
}

Four shape(const dlpack::Tensor& t) { return {t.shape[0], t.shape[1], t.shape[2], t.shape[3]}; }

// The tensors of a small call as they are, and their type; none where they do not have one that such a call takes.
template <size_t kCount>
std::optional<Type> look(const std::array<py::handle, kCount>& objects, std::array<dlpack::Tensor, kCount>& seen) {
  if (!dlpack::exchange) return {};
  std::optional<Type> type;
  for (size_t i = 0; i < kCount; ++i) {
    if (dlpack::exchange->view(objects[i].ptr(), &seen[i])) throw py::error_already_set();
    const auto found = type_of(seen[i]);
    if (!found || (i > 0 && found != type)) return {};
    type = found;
  }
  return type;
}

// Asked for a scale (that of D if none) and causality alone.
Problem plain_problem(const Four& q, const Four& k, Type type, std::optional<double> scale, bool causal, int threads) {
  const double factor = scale.value_or(1 / std::sqrt(static_cast<double>(q[3])));
  const Asked asked{static_cast<float>(factor), {-1, causal ? 0 : -1}};
  return problem(q, k, static_cast<int>(type), asked, threads);
}

// The forward pass of tensors as they are, with `grouped` heads or not; lse may be 0. False, and nothing is done, where they do not
// fit together, or are so many that time is no matter: whoever asked then goes the way of the checks.
bool small(const std::string& isa, py::handle q, py::handle k, py::handle v, py::handle out, Address lse,
           std::optional<double> scale, bool causal, bool grouped, int threads) {
  constexpr int64_t kMostRows = 1 << 16, kLargestHeadDim = 256;
  std::array<dlpack::Tensor, 4> seen;
  const auto type = look<4>({q, k, v, out}, seen);
  if (!type) return false;
  const Four queries = shape(seen[0]), keys = shape(seen[1]);
  const bool fit = keys == shape(seen[2]) && queries == shape(seen[3]) && queries[0] == keys[0] && queries[3] == keys[3];
  const int64_t rows = queries[0] * queries[1] * queries[2];
  if (!fit || (grouped ? queries[1] % keys[1] != 0 : queries[1] != keys[1]) || queries[3] > kLargestHeadDim || rows > kMostRows)
    return false;
  thread_local std::vector<float> unread;
  if (!lse) unread.resize(std::max<size_t>(unread.size(), static_cast<size_t>(rows)));
  const Forward f{plain_problem(queries, keys, *type, scale, causal, threads),
                  view(seen[0]),
                  view(seen[1]),
                  view(seen[2]),
                  view<void>(seen[3]),
                  lse ? aieng::pointer<float>(lse) : unread.data()};
  run(isa, f, AIENG_EACH(forward));
  return true;
}

// The backward pass of what small() took, whose results lie contiguously. False, and nothing is done, where dout is of another
// kind.
bool small_backward(const std::string& isa, py::handle dout, py::handle q, py::handle k, py::handle v, py::handle out, Address lse,
                    Address dq, Address dk, Address dv, std::optional<double> scale, bool causal, int threads) {
  std::array<dlpack::Tensor, 5> seen;
  const auto type = look<5>({dout, q, k, v, out}, seen);
  if (!type || shape(seen[0]) != shape(seen[1])) return false;
  const Backward f{plain_problem(shape(seen[1]), shape(seen[2]), *type, scale, causal, threads),
                   view(seen[0]),
                   view(seen[1]),
                   view(seen[2]),
                   view(seen[3]),
                   view(seen[4]),
                   aieng::pointer<const float>(lse),
                   aieng::pointer<void>(dq),
                   aieng::pointer<void>(dk),
                   aieng::pointer<void>(dv)};
  run(isa, f, AIENG_EACH(backward));
  return true;
}
}  // namespace

AIENG_BIND(attention) {
  bind_options(m);
  m.def(
      "attention_forward",
      [](const std::string& isa, int type, const Four& q_shape, const Four& k_shape, const Asked& asked, int threads,
         const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& out, Address lse) {
        const Forward f{problem(q_shape, k_shape, type, asked, threads),
                        view(q),
                        view(k),
                        view(v),
                        view<void>(out),
                        aieng::pointer<float>(lse)};
        run(isa, f, AIENG_EACH(forward));
      },
      "Shapes are (B, H, N, D); a tensor is its address and its four strides in elements.");
  m.def("attention_small", small,
        "Whether out was written: not where the tensors, which nobody has checked, do not fit or are many.");
  m.def("attention_small_backward", small_backward, "Whether dq, dk and dv were written, of tensors that attention_small took.");
  m.def("attention_backward", [](const std::string& isa, int type, const Four& q_shape, const Four& k_shape, const Asked& asked,
                                 int threads, const Tensor& dout, const Tensor& q, const Tensor& k, const Tensor& v,
                                 const Tensor& out, Address lse, Address dq, Address dk, Address dv) {
    const Backward f{problem(q_shape, k_shape, type, asked, threads),
                     view(dout),
                     view(q),
                     view(k),
                     view(v),
                     view(out),
                     aieng::pointer<const float>(lse),
                     aieng::pointer<void>(dq),
                     aieng::pointer<void>(dk),
                     aieng::pointer<void>(dv)};
    run(isa, f, AIENG_EACH(backward));
  });
}
