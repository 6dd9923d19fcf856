// CUDA on the CPU, for tests: the same .cu file, compiled by an ordinary C++ compiler, runs a block as fibers, one for each thread.
//
// Shared memory is poisoned with 0xFF (NaN) and of exactly the size asked for, so that a read before its write shows as NaN and
// one outside it stops AddressSanitizer. A warp runs as far as it can before another gets a turn, in an order that the seed
// shuffles, so that a missing barrier is met at its worst. A block in which nobody can go on is reported as a deadlock.
#pragma once
#include <ucontext.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__

using cudaError_t = int;
constexpr cudaError_t cudaSuccess = 0;
inline const char* cudaGetErrorString(cudaError_t) { return "an error of the shim"; }
inline cudaError_t cudaSetDevice(int) { return cudaSuccess; }
inline cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

namespace aieng::shim {

constexpr int kLanes = 32;
constexpr size_t kStackBytes = 256 * 1024;
constexpr size_t kMostSharedBytes = 227 * 1024;

// Shuffles the order of warps; even: asynchronous copies land as late as allowed, odd: at once.
inline unsigned& seed() {
  static unsigned value = 0;
  return value;
}

struct Index {
  unsigned x = 0;
};

struct AsyncCopy {
  void* to;
  const void* from;  // null: zeros
  size_t bytes;

  void land() const {
    if (from) {
      std::memcpy(to, from, bytes);
    } else {
      std::memset(to, 0, bytes);
    }
  }
};

enum class State { kReady, kAtBarrier, kInWarp, kWaiting, kDone };

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack{new char[kStackBytes]};
  State state = State::kReady;
  Index thread;
  std::vector<std::vector<AsyncCopy>> groups{1};                // of asynchronous copies, oldest first; the last one is still open
  std::vector<std::vector<std::function<void()>>> products{1};  // of asynchronous products, likewise
  std::function<bool()> awaited;                                // what a waiting fiber waits for
};

// Where the lanes of a warp meet.
struct Warp {
  std::string operation;
  int arrived = 0;
  const void* inputs[kLanes] = {};
  void* outputs[kLanes] = {};

  template <class T>
  const T& in(int lane) const {
    return *static_cast<const T*>(inputs[lane]);
  }
  template <class T>
  T& out(int lane) const {
    return *static_cast<T*>(outputs[lane]);
  }
};

class Block {
 public:
  Block(std::string what, int threads, size_t shared_bytes) : what_(std::move(what)), fibers_(threads), warps_(threads / kLanes) {
    if (threads % kLanes || threads > 1024 || threads <= 0) throw std::runtime_error(what_ + ": threads must be whole warps");
    if (shared_bytes > kMostSharedBytes) throw std::runtime_error(what_ + ": more shared memory than any block has");
    void* memory = nullptr;
    if (posix_memalign(&memory, 128, std::max<size_t>(shared_bytes, 1))) throw std::bad_alloc();
    shared_.reset(static_cast<unsigned char*>(memory));
    shared_bytes_ = shared_bytes;
  }

  static Block*& current() {
    static Block* block = nullptr;
    return block;
  }

  Fiber& fiber() { return fibers_[running_]; }
  int lane() const { return running_ % kLanes; }
  Warp& warp() { return warps_[running_ / kLanes]; }
  unsigned char* shared() { return shared_.get(); }
  Index index, blocks, threads;
  std::deque<std::function<void()>> late;  // what the copy engine does when nobody can go on before it has

  // One block from its start to its end.
  void run(const std::function<void()>& body) {
    body_ = &body;
    std::memset(shared_.get(), 0xFF, shared_bytes_);
    for (size_t i = 0; i < fibers_.size(); ++i) start(fibers_[i], static_cast<unsigned>(i));
    std::mt19937 random(seed() * 7919u + index.x);
    std::vector<int> order(warps_.size());
    std::iota(order.begin(), order.end(), 0);
    while (count(State::kDone) < fibers_.size()) {
      std::shuffle(order.begin(), order.end(), random);
      bool moved = false;
      for (int w : order) {
        while (run_warp(w)) moved = true;
      }
      if (moved) continue;
      if (late.empty()) {
        release_barrier();
      } else {
        late.front()();
        late.pop_front();
      }
    }
  }

  void suspend(State state) {
    fiber().state = state;
    swapcontext(&fiber().context, &scheduler_);
  }

  void wait(std::function<bool()> awaited) {
    if (awaited()) return;
    fiber().awaited = std::move(awaited);
    suspend(State::kWaiting);
  }

  void wake_warp() {
    const int first = running_ / kLanes * kLanes;
    for (int i = first; i < first + kLanes; ++i) {
      if (fibers_[i].state == State::kInWarp) fibers_[i].state = State::kReady;
    }
  }

  // From inside a kernel: ends the launch with an exception; the fiber is never resumed.
  void fail(const std::string& why) {
    failure_ = why;
    suspend(State::kInWarp);
  }

 private:
  struct Free {
    void operator()(unsigned char* p) const { std::free(p); }
  };

  static void enter() {
    Block& block = *current();
    (*block.body_)();
    block.suspend(State::kDone);
  }

  void start(Fiber& fiber, unsigned thread) {
    fiber.state = State::kReady;
    fiber.thread = {thread};
    fiber.groups.assign(1, {});
    fiber.products.assign(1, {});
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = kStackBytes;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, &Block::enter, 0);
  }

  bool run_warp(int w) {
    bool moved = false;
    for (int i = w * kLanes; i < (w + 1) * kLanes; ++i) {
      if (fibers_[i].state == State::kWaiting && fibers_[i].awaited()) fibers_[i].state = State::kReady;
      if (fibers_[i].state != State::kReady) continue;
      running_ = i;
      swapcontext(&scheduler_, &fibers_[i].context);
      if (!failure_.empty()) throw std::runtime_error(what_ + ": " + failure_);
      moved = true;
    }
    return moved;
  }

  size_t count(State state) const {
    return std::count_if(fibers_.begin(), fibers_.end(), [&](const Fiber& f) { return f.state == state; });
  }

  void release_barrier() {
    const size_t waiting = count(State::kAtBarrier), done = count(State::kDone);
    if (waiting + done < fibers_.size()) {
      std::string where;
      for (const Warp& warp : warps_) {
        if (warp.arrived) where += " " + warp.operation + " (" + std::to_string(warp.arrived) + " of 32 lanes)";
      }
      throw std::runtime_error(what_ + ": deadlock: " + std::to_string(waiting) + " threads at __syncthreads, " +
                               std::to_string(count(State::kWaiting)) + " at mbarriers, " + std::to_string(done) +
                               " have left, others wait in" + where);
    }
    for (Fiber& fiber : fibers_) {
      if (fiber.state == State::kAtBarrier) fiber.state = State::kReady;
    }
  }

  std::string what_, failure_;
  std::vector<Fiber> fibers_;
  std::vector<Warp> warps_;
  std::unique_ptr<unsigned char, Free> shared_;
  size_t shared_bytes_ = 0;
  ucontext_t scheduler_;
  const std::function<void()>* body_ = nullptr;
  int running_ = 0;
};

// All blocks of a launch, one after the other.
inline void run_grid(const char* what, int64_t blocks, int threads, size_t shared_bytes, const std::function<void()>& body) {
  Block block(what, threads, shared_bytes);
  Block::current() = &block;
  block.blocks = {static_cast<unsigned>(blocks)};
  block.threads = {static_cast<unsigned>(threads)};
  for (int64_t i = 0; i < blocks; ++i) {
    block.index = {static_cast<unsigned>(i)};
    block.run(body);
  }
  Block::current() = nullptr;
}

// The lanes of a warp meet: the last to arrive computes every lane's output from every lane's input.
template <class Out, class In, class Combine>
Out collective(const char* operation, const In& in, Combine combine) {
  Block& block = *Block::current();
  Warp& warp = block.warp();
  Out out{};
  if (warp.arrived == 0) warp.operation = operation;
  if (warp.operation != operation) block.fail("lanes of one warp are in " + warp.operation + " and in " + operation);
  warp.inputs[block.lane()] = &in;
  warp.outputs[block.lane()] = &out;
  if (++warp.arrived < kLanes) {
    block.suspend(State::kInWarp);
  } else {
    combine(warp);
    warp.arrived = 0;
    block.wake_warp();
  }
  return out;
}

}  // namespace aieng::shim

#define threadIdx (aieng::shim::Block::current()->fiber().thread)
#define blockIdx (aieng::shim::Block::current()->index)
#define blockDim (aieng::shim::Block::current()->threads)
#define gridDim (aieng::shim::Block::current()->blocks)

inline float __fdividef(float x, float y) { return x / y; }

// Fibers take turns, so that nobody comes between.
inline unsigned atomicAdd(unsigned* at, unsigned x) { return std::exchange(*at, *at + x); }
inline unsigned atomicMin(unsigned* at, unsigned x) { return std::exchange(*at, std::min(*at, x)); }
inline unsigned atomicMax(unsigned* at, unsigned x) { return std::exchange(*at, std::max(*at, x)); }

inline void __syncthreads() { aieng::shim::Block::current()->suspend(aieng::shim::State::kAtBarrier); }
