// Does the shim see what it is there to see? One small kernel with every mechanism in it, and one planted fault of choice.
// Arguments: the fault and the seed. Exit 0: right, 1: a wrong result, 2: refused by the shim.
#include <cstdio>
#include <vector>

#include "launch.cuh"
#include "ptx.cuh"

namespace {

enum Fault { kNone, kNoBarrier, kReadPastGlobal, kWritePastShared, kNoWait, kLaneLeaves };

constexpr int kThreads = 64;

// out[i] = in[last - i], through shared memory, one 16-byte copy of four numbers a thread; plus the warp's neighbour times 0.
__global__ void reverse(const float* in, float* out, Fault fault) {
  using namespace aieng;
  float* const tile = reinterpret_cast<float*>(shared_memory());
  const int first = static_cast<int>(threadIdx.x) * 4, last = kThreads * 4 - 1;
  if (fault == kWritePastShared) tile[kThreads * 4] = 0.0f;
  copy_async_16(tile + first, in + first + (fault == kReadPastGlobal ? 4 : 0), true);
  copy_async_commit();
  if (fault != kNoWait) copy_async_wait<0>();
  if (fault != kNoBarrier) __syncthreads();
  if (fault == kLaneLeaves && threadIdx.x == 3) return;
  for (int i = first; i < first + 4; ++i) out[i] = tile[last - i] + 0.0f * shuffle_xor(tile[last - i], 1);
}

}  // namespace

int main(int, char** arguments) {
  aieng::shim::seed() = static_cast<unsigned>(std::atoi(arguments[2]));
  std::vector<float> in(kThreads * 4), out(kThreads * 4);
  std::iota(in.begin(), in.end(), 1.0f);
  try {
    aieng::launch("reverse", reverse, 1, kThreads, in.size() * sizeof(float), nullptr, in.data(), out.data(),
                  static_cast<Fault>(std::atoi(arguments[1])));
  } catch (const std::runtime_error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  }
  std::reverse(in.begin(), in.end());
  return in == out ? 0 : 1;
}
