#include "runtime/kv_cache.h"

#include <algorithm>
#include <utility>

namespace dsopt {

PagePool::PagePool(uint32_t page_count, uint32_t host_pages)
    : references_(page_count, 0),
      device_pages_(page_count - std::min(host_pages, page_count)),
      limit_(page_count) {
  free_.reserve(device_pages_);
  free_host_.reserve(page_count - device_pages_);
  for (uint32_t page = page_count; page > 0; --page) {
    const int32_t index = static_cast<int32_t>(page - 1);
    (OnHost(index) ? free_host_ : free_).push_back(index);
  }
}

int32_t PagePool::Take() {
  if (free_pages() == 0) return -1;
  std::vector<int32_t>& from = !free_.empty() ? free_ : free_host_;
  const int32_t page = from.back();
  from.pop_back();
  references_[static_cast<size_t>(page)] = 1;
  used_.fetch_add(1, std::memory_order_relaxed);
  if (OnHost(page)) used_host_.fetch_add(1, std::memory_order_relaxed);
  return page;
}

void PagePool::Unref(int32_t page) {
  if (--references_[static_cast<size_t>(page)] > 0) return;
  (OnHost(page) ? free_host_ : free_).push_back(page);
  used_.fetch_sub(1, std::memory_order_relaxed);
  if (OnHost(page)) used_host_.fetch_sub(1, std::memory_order_relaxed);
}

bool SequenceCache::Reserve(uint32_t rows, PageCopy* copy) {
  *copy = PageCopy();
  if (rows == 0) return true;
  const uint32_t first_page = tokens_ / page_tokens_;
  const uint32_t wanted = PagesFor(tokens_ + rows);
  const uint32_t present = static_cast<uint32_t>(pages_.size());
  const bool shared = first_page < present && pool_->references(pages_[first_page]) > 1;
  const uint32_t missing = (wanted > present ? wanted - present : 0) + (shared ? 1 : 0);
  if (missing > pool_->free_pages()) return false;
  if (wanted > present) pages_.reserve(wanted);  // before anything changes
  if (shared) {
    const int32_t old_page = pages_[first_page];
    pages_[first_page] = pool_->Take();
    if (tokens_ % page_tokens_ != 0) *copy = {old_page, pages_[first_page]};
    pool_->Unref(old_page);
  }
  while (pages_.size() < wanted) pages_.push_back(pool_->Take());
  return true;
}

void SequenceCache::Truncate(uint32_t tokens) {
  tokens_ = std::min(tokens_, tokens);
  while (pages_.size() > PagesFor(tokens_)) {
    pool_->Unref(pages_.back());
    pages_.pop_back();
  }
}

void SequenceCache::ShareFrom(const SequenceCache& other) {
  const uint32_t count = PagesFor(other.tokens_);
  pages_.assign(other.pages_.begin(), other.pages_.begin() + count);
  tokens_ = other.tokens_;
  for (int32_t page : pages_) pool_->Ref(page);
}

void SequenceCache::Swap(SequenceCache& other) {
  std::swap(tokens_, other.tokens_);
  pages_.swap(other.pages_);
}

}  // namespace dsopt
