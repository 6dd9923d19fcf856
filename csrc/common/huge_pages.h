// Large results are written into fresh memory, page by page: at 4 KiB the faults cost more than the writing.
#pragma once
#include <cstdint>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace aieng {

// Ask for 2 MiB pages under [address, address + bytes), where the system grants them on request. A hint: nothing happens elsewhere.
inline void prefer_huge_pages(std::uintptr_t address, std::uint64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr std::uintptr_t kPage = 4096;
  const std::uintptr_t begin = (address + kPage - 1) / kPage * kPage, end = (address + bytes) / kPage * kPage;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
  (void)address;
  (void)bytes;
#endif
}

}  // namespace aieng
