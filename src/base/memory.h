// memory.h - host memory through the host's allocator. Bulk memory (weights, cache, workspace, file buffers)
// comes from here; small bookkeeping uses operator new, whose failure becomes DSOPT_E_OUT_OF_MEMORY in
// capi/guard.h.
#ifndef DSOPT_BASE_MEMORY_H_
#define DSOPT_BASE_MEMORY_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "base/status.h"
#include "dsopt/dsopt.h"

namespace dsopt {

// malloc-backed allocator (aligned_alloc/free).
const dsopt_allocator& DefaultAllocator();

// Owning block of bytes. Move-only. The allocator must outlive it.
class Buffer {
 public:
  Buffer() = default;
  Buffer(Buffer&& other) noexcept { *this = std::move(other); }
  Buffer& operator=(Buffer&& other) noexcept;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { Reset(); }

  // Contents are uninitialised. size 0 gives an empty buffer. `what` names the buffer in the error.
  static Result<Buffer> Allocate(const dsopt_allocator& allocator, uint64_t size, const char* what,
                                 size_t align = 64);
  void Reset();

  uint8_t* data() { return data_; }
  const uint8_t* data() const { return data_; }
  size_t size() const { return size_; }
  std::span<uint8_t> span() { return {data_, size_}; }
  std::span<const uint8_t> span() const { return {data_, size_}; }
  template <typename T>
  T* as() { return reinterpret_cast<T*>(data_); }

 private:
  const dsopt_allocator* allocator_ = nullptr;
  uint8_t* data_ = nullptr;
  size_t size_ = 0;
  size_t align_ = 0;
};

}  // namespace dsopt
#endif  // DSOPT_BASE_MEMORY_H_
