// host.h - host-side basics of the plugin: memory from the host's allocator, errors as values.
// Nothing here touches a device.
#ifndef DSOPT_CUDA_HOST_H_
#define DSOPT_CUDA_HOST_H_

#include <cstddef>
#include <new>
#include <utility>
#include <vector>

#include "dsopt/backend.h"

namespace dsopt_cuda {

// Standard allocator over dsopt_allocator. Throws std::bad_alloc; the entries of the table catch it.
template <typename T>
class HostAllocator {
 public:
  using value_type = T;
  explicit HostAllocator(const dsopt_allocator* allocator) : allocator_(allocator) {}
  template <typename U>
  HostAllocator(const HostAllocator<U>& other) : allocator_(other.allocator()) {}
  T* allocate(size_t count) {
    if (count > SIZE_MAX / sizeof(T)) throw std::bad_alloc();
    void* p = allocator_->alloc(allocator_->user, count * sizeof(T), alignof(T) < 16 ? 16 : alignof(T));
    if (p == nullptr) throw std::bad_alloc();
    return static_cast<T*>(p);
  }
  void deallocate(T* p, size_t count) {
    allocator_->free(allocator_->user, p, count * sizeof(T), alignof(T) < 16 ? 16 : alignof(T));
  }
  const dsopt_allocator* allocator() const { return allocator_; }
  friend bool operator==(const HostAllocator& a, const HostAllocator& b) { return a.allocator_ == b.allocator_; }

 private:
  const dsopt_allocator* allocator_;
};
template <typename T>
using HostVector = std::vector<T, HostAllocator<T>>;

// new and delete over the host's allocator.
template <typename T, typename... Args>
T* HostNew(const dsopt_allocator* allocator, Args&&... args) {
  T* p = HostAllocator<T>(allocator).allocate(1);
  try {
    return new (p) T(std::forward<Args>(args)...);
  } catch (...) {
    HostAllocator<T>(allocator).deallocate(p, 1);
    throw;
  }
}
template <typename T>
void HostDelete(const dsopt_allocator* allocator, T* p) {
  if (p == nullptr) return;
  p->~T();
  HostAllocator<T>(allocator).deallocate(p, 1);
}

// Sets the host's message for the calling thread and returns code.
[[gnu::format(printf, 3, 4)]] dsopt_status Fail(const dsopt_host_api& host, dsopt_status code, const char* format,
                                                ...);

#define DSOPT_CUDA_RETURN_IF_ERROR(expression)          \
  do {                                                  \
    const dsopt_status status_of_call = (expression);   \
    if (status_of_call != DSOPT_OK) return status_of_call; \
  } while (0)

}  // namespace dsopt_cuda
#endif  // DSOPT_CUDA_HOST_H_
