// device.h - one opened GPU: its limits, its accounting of memory, its upload ring, its error texts.
// Knows nothing of models.
#ifndef DSOPT_CUDA_DEVICE_H_
#define DSOPT_CUDA_DEVICE_H_

#include <cuda_runtime.h>

#include <atomic>
#include <cstdint>
#include <mutex>

#include "host.h"

#define RETURN_IF_CUDA_ERROR(expression)                    \
  do {                                                      \
    const cudaError_t error_of_call = (expression);         \
    if (error_of_call != cudaSuccess) return error_of_call; \
  } while (0)

namespace dsopt_cuda {

// Most dynamic shared memory of kernels on this device, as far as it was asked for. [thread-safe]
class SharedLimits {
 public:
  // 0: not known.
  int Find(const void* kernel) const {
    for (size_t i = 0; i < kProbes; ++i) {
      const Entry& entry = entries_[(Hash(kernel) + i) % kEntries];
      const void* found = entry.kernel.load(std::memory_order_acquire);
      if (found == kernel) return entry.bytes.load(std::memory_order_acquire);
      if (found == nullptr) return 0;
    }
    return 0;
  }
  // Whoever adds a kernel adds the same number.
  void Add(const void* kernel, int bytes) {
    for (size_t i = 0; i < kProbes; ++i) {
      Entry& entry = entries_[(Hash(kernel) + i) % kEntries];
      const void* found = nullptr;
      if (!entry.kernel.compare_exchange_strong(found, kernel) && found != kernel) continue;
      entry.bytes.store(bytes, std::memory_order_release);
      return;
    }
  }

 private:
  static constexpr size_t kEntries = 512, kProbes = 16;
  struct Entry {
    std::atomic<const void*> kernel{nullptr};
    std::atomic<int> bytes{0};
  };
  static size_t Hash(const void* kernel) { return reinterpret_cast<uintptr_t>(kernel) / 16; }
  Entry entries_[kEntries];
};

// What kernels choose their geometry by.
struct Limits {
  int sms = 0;
  int arch = 0;                // 80, 90, ...: major * 10 + minor
  int code_arch = 0;           // of the code that runs: kernels are empty where it is older than what they need
  int shared_bytes = 0;        // most dynamic shared memory of one CTA
  bool has_sm90a = false;      // the binary holds sm_90a code and the GPU runs it
  void* tensor_map_encoder = nullptr;  // see tensor_map.h
  SharedLimits* shared_limits = nullptr;
};

// One pinned upload buffer; `busy` is recorded behind the last copy out of it.
struct UploadSlot {
  std::mutex mutex;
  void* memory = nullptr;
  cudaEvent_t busy = nullptr;
  void* device_memory = nullptr;  // as large; made when codes are first uploaded through this slot
};

inline constexpr int kUploadSlots = 4;
inline constexpr size_t kUploadSlotBytes = size_t{4} << 20;

class CublasLt;  // cublaslt.h

}  // namespace dsopt_cuda

// [serial], except Allocate, Free, Check and the upload ring: [thread-safe].
struct dsopt_be_device {
  explicit dsopt_be_device(const dsopt_host_api& host_api, int device_index) : host(host_api), index(device_index) {}

  dsopt_status Open(uint64_t cap_bytes);
  void Close();

  // Device memory, counted against the cap. what names it in the message.
  dsopt_status Allocate(uint64_t bytes, const char* what, void** out);
  void Free(void* memory, uint64_t bytes);
  // Pins host memory and maps it into the device; what names it in the message. Undo: cudaHostUnregister.
  dsopt_status Pin(void* memory, uint64_t bytes, const char* what) const;
  // Turns a CUDA status into ours. Sticky errors are DSOPT_E_DEVICE_LOST.
  dsopt_status Check(cudaError_t error, const char* what) const;

  dsopt_host_api host;
  int index;
  dsopt_cuda::Limits limits;
  dsopt_cuda::SharedLimits shared_limits;
  uint64_t max_bytes = 0;
  std::atomic<uint64_t> used_bytes{0};
  cudaStream_t upload_stream = nullptr;
  std::atomic<uint32_t> next_slot{0};
  dsopt_cuda::UploadSlot slots[dsopt_cuda::kUploadSlots];
  dsopt_cuda::CublasLt* cublas_lt = nullptr;  // null: the library is not there; our own kernel does its work
  char report[1024] = {};

 private:
  dsopt_status OpenUpload();
  void WriteReport();
};

namespace dsopt_cuda {

// Makes the device current on this thread and puts the previous one back: hosts have devices of their own.
class ScopedDevice {
 public:
  explicit ScopedDevice(int index) {
    if (cudaGetDevice(&previous_) != cudaSuccess) previous_ = -1;
    if (previous_ != index) error_ = cudaSetDevice(index);
    else previous_ = -1;
  }
  ~ScopedDevice() {
    if (previous_ >= 0) cudaSetDevice(previous_);
  }
  ScopedDevice(const ScopedDevice&) = delete;
  ScopedDevice& operator=(const ScopedDevice&) = delete;
  cudaError_t error() const { return error_; }

 private:
  cudaError_t error_ = cudaSuccess;
  int previous_ = -1;
};

}  // namespace dsopt_cuda
#endif  // DSOPT_CUDA_DEVICE_H_
