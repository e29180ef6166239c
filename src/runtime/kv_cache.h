// kv_cache.h - who owns which page of a session's key/value cache: a pool with reference counts, and the page
// list of one sequence with copy-on-write. Bookkeeping only: contents live in the backend's program.
#ifndef DSOPT_RUNTIME_KV_CACHE_H_
#define DSOPT_RUNTIME_KV_CACHE_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

namespace dsopt {

// [thread-compatible], but the counts of used pages and the limits are [thread-safe].
class PagePool {
 public:
  // The last host_pages of the pages lie on the host: they are given only when the device has none left.
  explicit PagePool(uint32_t page_count, uint32_t host_pages = 0);
  PagePool(const PagePool&) = delete;
  PagePool& operator=(const PagePool&) = delete;

  int32_t Take();  // with one reference; -1: none is free
  void Ref(int32_t page) { ++references_[static_cast<size_t>(page)]; }
  void Unref(int32_t page);
  uint32_t references(int32_t page) const { return references_[static_cast<size_t>(page)]; }

  uint32_t page_count() const { return static_cast<uint32_t>(references_.size()); }
  // Pages that Take would still give: no more than the limit are in use at a time, but for those that were
  // before it was lowered.
  uint32_t free_pages() const { return limit() > used_pages() ? limit() - used_pages() : 0; }
  void SetLimit(uint32_t pages) { limit_.store(std::min(pages, page_count()), std::memory_order_relaxed); }
  uint32_t limit() const { return limit_.load(std::memory_order_relaxed); }
  uint32_t used_pages() const { return used_.load(std::memory_order_relaxed); }
  // Of used_pages() and of limit(), those on the host.
  uint32_t used_host_pages() const { return used_host_.load(std::memory_order_relaxed); }
  uint32_t host_limit() const { return limit() > device_pages_ ? limit() - device_pages_ : 0; }

 private:
  bool OnHost(int32_t page) const { return static_cast<uint32_t>(page) >= device_pages_; }

  std::vector<uint32_t> references_;
  const uint32_t device_pages_;
  std::vector<int32_t> free_, free_host_;  // capacity for all pages: Unref never allocates
  std::atomic<uint32_t> used_{0}, used_host_{0};
  std::atomic<uint32_t> limit_;
};

struct PageCopy {
  int32_t from = -1, to = -1;
  bool needed() const { return to >= 0; }
};

// Pages of one sequence in order of position. Pages past tokens() may be reserved but hold nothing valid.
// [thread-compatible]
class SequenceCache {
 public:
  SequenceCache(PagePool* pool, uint32_t page_tokens) : pool_(pool), page_tokens_(page_tokens) {}
  ~SequenceCache() { Truncate(0); }
  SequenceCache(const SequenceCache&) = delete;
  SequenceCache& operator=(const SequenceCache&) = delete;

  uint32_t tokens() const { return tokens_; }  // positions whose keys and values are in the cache
  std::span<const int32_t> pages() const { return pages_; }
  uint32_t PagesFor(uint32_t tokens) const { return (tokens + page_tokens_ - 1) / page_tokens_; }
  // Capacity of the page list, so that Reserve does not allocate.
  void ReserveList(uint32_t tokens) { pages_.reserve(PagesFor(tokens)); }

  // Makes positions [tokens(), tokens() + rows) writable by this sequence alone. A shared page that is partly
  // filled is replaced by a fresh one: the caller must then copy its contents. False: the pool has too few free
  // pages; nothing changed.
  bool Reserve(uint32_t rows, PageCopy* copy);
  // The first `rows` reserved positions are now valid.
  void Commit(uint32_t rows) { tokens_ += rows; }
  // Keeps the first min(tokens, tokens()) positions; whole pages behind them go back to the pool.
  void Truncate(uint32_t tokens);
  // Forgets validity but keeps the pages: the last position is computed again (see Stream::StartGeneration).
  void StepBack() {
    if (tokens_ > 0) --tokens_;
  }
  // Becomes a second owner of other's valid pages. This cache must be empty.
  void ShareFrom(const SequenceCache& other);
  void Swap(SequenceCache& other);

 private:
  PagePool* pool_;
  uint32_t page_tokens_;
  uint32_t tokens_ = 0;
  std::vector<int32_t> pages_;
};

}  // namespace dsopt
#endif  // DSOPT_RUNTIME_KV_CACHE_H_
