#include "base/memory.h"

#include <cstdlib>
#include <limits>

namespace dsopt {
namespace {

void* DefaultAlloc(void*, size_t size, size_t align) {
  if (align < sizeof(void*)) align = sizeof(void*);
  if (size > std::numeric_limits<size_t>::max() - align) return nullptr;
  return std::aligned_alloc(align, (size + align - 1) / align * align);
}

void DefaultFree(void*, void* ptr, size_t, size_t) { std::free(ptr); }

}  // namespace

const dsopt_allocator& DefaultAllocator() {
  static constexpr dsopt_allocator kAllocator = {sizeof(dsopt_allocator), 0, nullptr, DefaultAlloc,
                                                 DefaultFree};
  return kAllocator;
}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  if (this != &other) {
    Reset();
    allocator_ = other.allocator_;
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, 0);
    align_ = other.align_;
  }
  return *this;
}

Result<Buffer> Buffer::Allocate(const dsopt_allocator& allocator, uint64_t size, const char* what,
                                size_t align) {
  Buffer buffer;
  if (size == 0) return buffer;
  void* data = size <= std::numeric_limits<size_t>::max()
                   ? allocator.alloc(allocator.user, static_cast<size_t>(size), align)
                   : nullptr;
  if (data == nullptr) {
    return Error(DSOPT_E_OUT_OF_MEMORY, "%s: allocating %llu bytes of host memory failed", what,
                 static_cast<unsigned long long>(size));
  }
  buffer.allocator_ = &allocator;
  buffer.data_ = static_cast<uint8_t*>(data);
  buffer.size_ = static_cast<size_t>(size);
  buffer.align_ = align;
  return buffer;
}

void Buffer::Reset() {
  if (data_ != nullptr) allocator_->free(allocator_->user, data_, size_, align_);
  data_ = nullptr;
  size_ = 0;
}

}  // namespace dsopt
