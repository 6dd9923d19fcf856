// Memory of large results, kept for the next ones. malloc maps results of 32 MiB and more anew every time, and touching a new page
// costs more than a pass over it; a sampling loop asks for the same sizes again and again.
#pragma once
#include <cstddef>
#include <mutex>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace aieng {

// Blocks of whole 2 MiB pages. Two free ones stay mapped, as many as a step has results: while a loop makes the next two, those
// before are in use, and then they are free. Of larger ones the system may take the pages when memory runs short (MADV_FREE); a
// step of 50 MB results that way takes a tenth longer.
class KeptMemory {
 public:
  // The one of this process; never destroyed, as tensors may be later than everything else.
  static KeptMemory& instance() {
    static auto* const kept = new KeptMemory;
    return *kept;
  }

  // At least this many bytes, or null if there are none. What lies in them is left from before.
  void* take(std::size_t bytes) {
    const std::size_t size = whole_pages(bytes);
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      for (auto block = free_.rbegin(); block != free_.rend(); ++block) {
        if (block->size != size) continue;
        void* const start = block->start;
        free_.erase(std::next(block).base());
        return start;
      }
    }
    return map(size);
  }

  void give_back(void* start, std::size_t bytes) {
    const std::size_t size = whole_pages(bytes);
    if (size > kMostHeld) release_when_short(start, size);
    const std::lock_guard<std::mutex> lock(mutex_);
    free_.push_back({start, size});
    if (free_.size() <= kMostFree) return;
    unmap(free_.front().start, free_.front().size);
    free_.erase(free_.begin());
  }

 private:
  struct Block {
    void* start;
    std::size_t size;
  };
  static constexpr std::size_t kPage = std::size_t{1} << 21;
  static constexpr std::size_t kMostFree = 2, kMostHeld = std::size_t{256} << 20;

  static std::size_t whole_pages(std::size_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }

#if defined(__linux__)
  static void* map(std::size_t size) {
    void* const all = mmap(nullptr, size + kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED) return nullptr;
    char* const from = static_cast<char*>(all);
    const std::size_t before = (kPage - reinterpret_cast<std::size_t>(from) % kPage) % kPage;
    if (before) munmap(from, before);
    munmap(from + before + size, kPage - before);
    madvise(from + before, size, MADV_HUGEPAGE);
    return from + before;
  }
  static void unmap(void* start, std::size_t size) { munmap(start, size); }
  static void release_when_short(void* start, std::size_t size) { madvise(start, size, MADV_FREE); }
#else
  static void* map(std::size_t) { return nullptr; }
  static void unmap(void*, std::size_t) {}
  static void release_when_short(void*, std::size_t) {}
#endif

  std::mutex mutex_;
  std::vector<Block> free_;  // the longest free first
};

}  // namespace aieng
