// Threads that do the same timed piece of work at the same moment, again and again; the shortest time counts.
#pragma once
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <limits>
#include <thread>
#include <vector>

namespace aieng::ceilings {

// Spinning, so that all leave it within nanoseconds; yielding, so that a busy machine gets on.
class Barrier {
 public:
  explicit Barrier(int threads) : threads_(threads) {}
  void wait() {
    const std::int64_t round = round_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == threads_) {
      arrived_.store(0, std::memory_order_relaxed);
      round_.store(round + 1, std::memory_order_release);
      return;
    }
    for (int spins = 0; round_.load(std::memory_order_acquire) == round; ++spins)
      if (spins > 4096) std::this_thread::yield();
  }

 private:
  const int threads_;
  std::atomic<int> arrived_{0};
  std::atomic<std::int64_t> round_{0};
};

// Plain threads rather than OpenMP: a platform whose build has no OpenMP must not get one-thread ceilings.
// `prepare(thread)` runs once and returns that thread's work. Returns the least seconds from the first start to the last end.
inline double best_seconds(int threads, double budget_s, const std::function<std::function<void()>(int)>& prepare) {
  using Clock = std::chrono::steady_clock;
  using Seconds = std::chrono::duration<double>;
  constexpr int kFewest = 5;
  std::vector<Clock::time_point> begins(threads), ends(threads);
  Barrier barrier(threads);
  double best = std::numeric_limits<double>::infinity();
  bool done = false;
  auto member = [&](int thread) {
    const std::function<void()> work = prepare(thread);
    const Clock::time_point began = Clock::now();
    for (int round = 0; !done; ++round) {
      barrier.wait();
      begins[thread] = Clock::now();
      work();
      ends[thread] = Clock::now();
      barrier.wait();
      if (thread == 0) {
        const Seconds taken = *std::max_element(ends.begin(), ends.end()) - *std::min_element(begins.begin(), begins.end());
        best = std::min(best, taken.count());
        done = round + 1 >= kFewest && Seconds(Clock::now() - began).count() > budget_s;
      }
      barrier.wait();
    }
  };
  std::vector<std::thread> others;
  for (int thread = 1; thread < threads; ++thread) others.emplace_back(member, thread);
  member(0);
  for (std::thread& other : others) other.join();
  return best;
}

}  // namespace aieng::ceilings
