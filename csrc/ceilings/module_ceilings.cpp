// The module aieng_bench._ceilings: what this processor reaches, as the least seconds for a known count of operations or bytes.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "cpu_features.h"
#include "crew.h"
#include "parallel.h"
#include "probes.h"

namespace aieng::ceilings {
namespace {

constexpr std::uintptr_t kAlign = 64;  // of the widest vector

using Measured = std::pair<double, double>;  // seconds, operations or bytes

// Every instruction set that runs here, not the widest alone: on some processors wide vectors lower the clock.
std::vector<Probes> runnable() {
  std::vector<Probes> found{portable_probes(), library_probes()};
#if defined(__x86_64__)
  if (has_avx2()) found.push_back(avx2_probes());
  if (has_avx512()) found.push_back(avx512_probes());
  if (has_avx512_bf16()) found.push_back(avx512_bf16_probes());
#endif
  return found;
}

void check(int threads, double seconds) {
  if (threads < 1) throw std::invalid_argument("threads must be at least 1");
  if (!(seconds >= 0)) throw std::invalid_argument("seconds must not be negative");
}

// The faster of two measurements of one kind.
void keep_best(std::optional<Measured>& best, Measured candidate) {
  if (!best || candidate.second / candidate.first > best->second / best->first) best = candidate;
}

// A result that is used: the call that made it cannot be left out.
void keep(float result) {
  volatile float used = result;
  (void)used;
}

std::optional<Measured> compute(const std::string& kind, int threads, double seconds) {
  check(threads, seconds);
  constexpr std::int64_t kSteps = 20000;  // some hundred microseconds: short enough to fit between two interruptions
  std::vector<ComputeProbe> probes;
  for (const Probes& all : runnable())
    std::copy_if(all.compute, all.compute + all.computes, std::back_inserter(probes),
                 [&](const ComputeProbe& probe) { return kind == probe.kind; });
  std::optional<Measured> best;
  for (const ComputeProbe& probe : probes) {
    const double least = best_seconds(threads, seconds / static_cast<double>(probes.size()),
                                      [&](int) { return [run = probe.run] { keep(run(kSteps)); }; });
    keep_best(best, {least, probe.operations * kSteps * threads});
  }
  return best;
}

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};

// Untouched memory, in huge pages where there are such: a ceiling is not set by page-table walks.
std::unique_ptr<float, Free> allocate(std::int64_t floats) {
  constexpr std::size_t kHuge = std::size_t{1} << 21;
  const std::size_t bytes = (static_cast<std::size_t>(floats) * 4 + kHuge - 1) / kHuge * kHuge;
  float* memory = static_cast<float*>(std::aligned_alloc(kHuge, bytes));
  if (memory == nullptr) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
  madvise(memory, bytes, MADV_HUGEPAGE);
#endif
  return std::unique_ptr<float, Free>(memory);
}

int arrays_of(const std::string& kind) { return kind == "add" ? 3 : kind == "copy" ? 2 : 1; }

std::optional<Measured> stream(const std::string& kind, std::int64_t working_set_bytes, int threads, double seconds) {
  check(threads, seconds);
  const int arrays = arrays_of(kind);
  const std::int64_t count = working_set_bytes / 4 / threads / arrays / kBlock * kBlock;  // floats of one array of one thread
  if (count < kBlock) throw std::invalid_argument("working_set_bytes is too small for this many threads");
  const std::int64_t stride = count + kBlock * 4;  // apart from multiples of 4 KiB, where a load waits for an unrelated store
  constexpr std::int64_t kBurst = std::int64_t{1} << 23;  // floats: passes over small sets until the clock's own cost vanishes
  const std::int64_t passes = std::max<std::int64_t>(1, kBurst / (count * arrays * threads));
  std::vector<StreamProbe> probes;
  for (const Probes& all : runnable())
    std::copy_if(all.stream, all.stream + all.streams, std::back_inserter(probes),
                 [&](const StreamProbe& probe) { return kind == probe.kind; });
  std::vector<std::unique_ptr<float, Free>> memory;
  for (int thread = 0; thread < threads; ++thread) memory.push_back(allocate(stride * arrays));
  std::vector<char> touched(threads, 0);
  std::optional<Measured> best;
  for (const StreamProbe& probe : probes) {
    const double least = best_seconds(threads, seconds / static_cast<double>(probes.size()), [&](int thread) {
      float* a = memory[thread].get();
      if (!touched[thread])
        std::fill(a, a + stride * arrays, 1.0f);  // by its own thread, so that it lies in that thread's memory node
      touched[thread] = 1;
      float *b = a + (arrays - 1) / 2 * stride, *c = a + (arrays - 1) * stride;
      return [=, run = probe.run] { keep(run(a, b, c, count, passes)); };
    });
    keep_best(best, {least, 4.0 * static_cast<double>(count * arrays * passes) * threads});
  }
  return best;
}

// The probes' copy past the caches, between memory of the caller's: what is bound by memory can be timed beside it.
void copy(std::uintptr_t source, std::uintptr_t target, std::int64_t bytes, int threads) {
  check(threads, 0);
  if (source % kAlign || target % kAlign) throw std::invalid_argument("source and target must be multiples of 64");
  Stream run = nullptr;
  for (const Probes& all : runnable())
    for (int i = 0; i < all.streams; ++i)
      if (std::string("copy") == all.stream[i].kind) run = all.stream[i].run;
  const float* const a = reinterpret_cast<const float*>(source);
  float* const c = reinterpret_cast<float*>(target);
  const std::int64_t whole = bytes / 4 / kBlock * kBlock;
  parallel_ranges(whole, kBlock, threads, [&](std::int64_t begin, std::int64_t end) {
    keep(run(a + begin, nullptr, c + begin, end - begin, 1));
    std::atomic_thread_fence(std::memory_order_seq_cst);  // such stores are ordered by nothing less
  });
  std::memcpy(c + whole, a + whole, static_cast<std::size_t>(bytes - whole * 4));
}

}  // namespace
}  // namespace aieng::ceilings

PYBIND11_MODULE(_ceilings, m) {
  namespace py = pybind11;
  m.doc() = "Micro-benchmarks of the processor; call them through aieng_bench.ceilings.";
  m.def("features", &aieng::cpu_features, "Instruction sets that the probes use here, beside the portable one.");
  m.def("compute", &aieng::ceilings::compute, py::arg("kind"), py::arg("threads"), py::arg("seconds"),
        py::call_guard<py::gil_scoped_release>(),
        "(least seconds, operations) of 'fma', 'dot' (bf16) or 'exp' on all threads at once; None if no instruction set here has "
        "it.");
  m.def("stream", &aieng::ceilings::stream, py::arg("kind"), py::arg("working_set_bytes"), py::arg("threads"), py::arg("seconds"),
        py::call_guard<py::gil_scoped_release>(),
        "(least seconds, bytes read and written) of 'read', 'write', 'copy' or 'add' over arrays of working_set_bytes in all; "
        "None for another kind.");
  m.def("copy", &aieng::ceilings::copy, py::arg("source"), py::arg("target"), py::arg("nbytes"), py::arg("threads"),
        py::call_guard<py::gil_scoped_release>(), "Copy by the probes' stores past the caches, from an address to another.");
}
