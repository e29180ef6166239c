// host_pages.cc - the pages of a program's cache that lie in pinned host memory, and how attention reads them.
//
// A kernel finds a page at cache + id * page_bytes, with an id of 32 bits that is extended with its sign. Host
// pages begin at a distance from the cache that is a multiple of page_bytes, so there is an id for them, too,
// mostly one far outside of [0, page_count) and as often negative as not: no kernel knows the difference.
//
// Decode steps copy nothing to the device first. Attention reads pages through its own pipelines, many copies
// ahead of their use, which keeps the bus as busy as a copy engine would. What a copy of the next layer's pages
// could add is to use the bus while weights are read as well. Of 131072 tokens of Llama-3-8B 13 GB on the host
// are 260 ms of a step at 50 GB/s, all weights 5 ms at 3 TB/s: that is two percent, and its buffers would push
// more pages off the device. Prompts are another case: AttendTiles.
#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "program.h"

using namespace dsopt_cuda;

namespace {

constexpr uint64_t kAlign = 4096;  // of what is registered, at both ends

uint64_t AddressOf(const void* memory) { return reinterpret_cast<uintptr_t>(memory); }

// Bytes from `from` up to the next address that lies a multiple of page_bytes from `base`, before it or behind.
uint64_t BytesToPage(uint64_t from, uint64_t base, uint64_t page_bytes) {
  if (from < base) return (base - from) % page_bytes;
  const uint64_t past = (from - base) % page_bytes;
  return past == 0 ? 0 : page_bytes - past;
}

// (at - base) / page_bytes, which has no remainder. False: it and the `count - 1` behind it are no 32-bit
// numbers.
bool IdOf(uint64_t at, uint64_t base, uint64_t page_bytes, uint32_t count, int* id) {
  const uint64_t pages = (at < base ? base - at : at - base) / page_bytes;
  if (at < base ? pages > uint64_t{1} << 31 : pages + count > uint64_t{1} << 31) return false;
  *id = static_cast<int>(at < base ? -static_cast<int64_t>(pages) : static_cast<int64_t>(pages));
  return true;
}

}  // namespace

// The memory has a page more than is used, for the distance; what is not used is neither touched nor pinned.
dsopt_status dsopt_be_program::AllocateHostPages() {
  const uint64_t bytes = plan.host_cache_bytes + desc.page_bytes;
  void* memory = device->host.allocator->alloc(device->host.allocator->user, bytes, kAlign);
  if (memory == nullptr)
    return dsopt_cuda::Fail(device->host, DSOPT_E_OUT_OF_MEMORY,
                            "program: no host memory for %llu bytes of KV cache",
                            static_cast<unsigned long long>(plan.host_cache_bytes));
  host_memory_ = memory;
  char* first = static_cast<char*>(memory) + BytesToPage(AddressOf(memory), AddressOf(cache_), desc.page_bytes);
  const uint64_t lead_bytes = AddressOf(first) % kAlign;
  char* pinned = first - lead_bytes;
  const uint64_t pinned_bytes = std::min((lead_bytes + plan.host_cache_bytes + kAlign - 1) / kAlign * kAlign,
                                         AddressOf(memory) + bytes - AddressOf(pinned));
  // A hint: large pages are a fraction of the faults now, and of the translations of every read later.
  madvise(pinned, pinned_bytes, MADV_HUGEPAGE);
  // Masked keys are multiplied by zero, so what was never written must be finite.
  std::memset(first, 0, plan.host_cache_bytes);
  DSOPT_CUDA_RETURN_IF_ERROR(device->Pin(pinned, pinned_bytes, "pinning host memory of the KV cache"));
  host_pinned_ = pinned;
  void* seen = nullptr;
  DSOPT_CUDA_RETURN_IF_ERROR(
      device->Check(cudaHostGetDevicePointer(&seen, pinned, 0), "mapping the KV cache in host memory"));
  host_cache_ = static_cast<char*>(seen) + lead_bytes;
  const uint64_t at = AddressOf(host_cache_), base = AddressOf(cache_);
  if (BytesToPage(at, base, desc.page_bytes) != 0 ||
      !IdOf(at, base, desc.page_bytes, desc.host_pages, &first_host_id_))
    return dsopt_cuda::Fail(
        device->host, DSOPT_E_UNSUPPORTED,
        "program: host_pages is %u: host memory at %p is out of reach of pages of %llu bytes at %p",
        desc.host_pages, static_cast<void*>(host_cache_), static_cast<unsigned long long>(desc.page_bytes),
        static_cast<void*>(cache_));
  return DSOPT_OK;
}

void dsopt_be_program::FreeHostPages() {
  if (host_pinned_ != nullptr) cudaHostUnregister(host_pinned_);
  if (host_memory_ == nullptr) return;
  device->host.allocator->free(device->host.allocator->user, host_memory_,
                               plan.host_cache_bytes + desc.page_bytes, kAlign);
}

char* dsopt_be_program::PageAddress(uint32_t page) const {
  const uint32_t device_pages = desc.page_count - desc.host_pages;
  return page < device_pages ? cache_ + page * desc.page_bytes
                             : host_cache_ + (page - device_pages) * desc.page_bytes;
}

// From indices to what kernels take. Entries that are no page (-1) stay.
void dsopt_be_program::TranslatePages(int* table, uint64_t count) const {
  const int device_pages = static_cast<int>(desc.page_count - desc.host_pages);
  for (uint64_t i = 0; i < count; ++i)
    if (table[i] >= device_pages)
      table[i] = static_cast<int>(int64_t{first_host_id_} + (table[i] - device_pages));
}
