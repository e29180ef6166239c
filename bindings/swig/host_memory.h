// host_memory.h - an allocator that counts and caps the host memory of a runtime and of all that it made.
#ifndef DSOPT_BINDINGS_HOST_MEMORY_H_
#define DSOPT_BINDINGS_HOST_MEMORY_H_

#include <atomic>
#include <cstdlib>

#include "dsopt/dsopt.h"

// May be deleted before the runtime: the account lives until its last byte was freed.
class HostMemory {
 public:
  // limit 0: counts only. Above it allocations fail, and calls return DSOPT_E_OUT_OF_MEMORY.
  explicit HostMemory(uint64_t limit);
  ~HostMemory();
  uint64_t used() const;
  uint64_t peak() const;

#ifndef SWIG
  HostMemory(const HostMemory&) = delete;
  HostMemory& operator=(const HostMemory&) = delete;
  const dsopt_allocator* allocator() const { return &allocator_; }

 private:
  struct Account {
    const uint64_t limit;
    std::atomic<uint64_t> used{0}, peak{0};
    std::atomic<uint64_t> holders{1};  // this object and every allocation
    void Drop() {
      if (holders.fetch_sub(1) == 1) delete this;
    }
  };
  static void* DSOPT_CALL Alloc(void* user, size_t size, size_t align) noexcept;
  static void DSOPT_CALL Free(void* user, void* ptr, size_t size, size_t align) noexcept;

  Account* account_;
  dsopt_allocator allocator_ = {};
#endif
};

#ifndef SWIG

inline HostMemory::HostMemory(uint64_t limit) : account_(new Account{limit == 0 ? UINT64_MAX : limit}) {
  allocator_.struct_size = sizeof allocator_;
  allocator_.user = account_;
  allocator_.alloc = &Alloc;
  allocator_.free = &Free;
}
inline HostMemory::~HostMemory() { account_->Drop(); }
inline uint64_t HostMemory::used() const { return account_->used.load(); }
inline uint64_t HostMemory::peak() const { return account_->peak.load(); }

inline void* HostMemory::Alloc(void* user, size_t size, size_t align) noexcept {
  auto* account = static_cast<Account*>(user);
  uint64_t used = account->used.load();
  do {
    if (size > account->limit - used) return nullptr;
  } while (!account->used.compare_exchange_weak(used, used + size));
  void* ptr = nullptr;
  if (posix_memalign(&ptr, align < sizeof(void*) ? sizeof(void*) : align, size > 0 ? size : 1) != 0) {
    account->used.fetch_sub(size);
    return nullptr;
  }
  account->holders.fetch_add(1);
  const uint64_t now = used + size;
  uint64_t peak = account->peak.load();
  while (now > peak && !account->peak.compare_exchange_weak(peak, now)) {
  }
  return ptr;
}

inline void HostMemory::Free(void* user, void* ptr, size_t size, size_t) noexcept {
  if (ptr == nullptr) return;
  auto* account = static_cast<Account*>(user);
  std::free(ptr);
  account->used.fetch_sub(size);
  account->Drop();
}

#endif  // SWIG
#endif  // DSOPT_BINDINGS_HOST_MEMORY_H_
