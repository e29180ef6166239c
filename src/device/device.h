// device.h - RAII over the tables of dsopt/backend.h: backends, opened devices, weights, programs.
#ifndef DSOPT_DEVICE_DEVICE_H_
#define DSOPT_DEVICE_DEVICE_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/log.h"
#include "base/memory.h"
#include "base/status.h"
#include "dsopt/backend.h"

// The CPU backend, linked into libdsopt.so (kernels/cpu/backend.cc).
extern "C" dsopt_status dsopt_cpu_backend_entry(const dsopt_host_api* host, uint32_t* abi,
                                                const dsopt_backend_api** out);

namespace dsopt {

// Turns a table's status into a Status with the message the backend left in set_error.
Status BackendStatus(dsopt_status code, const char* what);

// One packed tensor. Move-only. The device must outlive it.
class Weight {
 public:
  Weight() = default;
  Weight(const dsopt_backend_api* api, dsopt_be_weight* handle) : api_(api), handle_(handle) {}
  Weight(Weight&& other) noexcept { *this = std::move(other); }
  Weight& operator=(Weight&& other) noexcept {
    std::swap(api_, other.api_);
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Weight() {
    if (handle_ != nullptr) api_->weight_destroy(handle_);
  }
  dsopt_be_weight* get() const { return handle_; }
  explicit operator bool() const { return handle_ != nullptr; }

 private:
  const dsopt_backend_api* api_ = nullptr;
  dsopt_be_weight* handle_ = nullptr;
};

// An opened device. Shared by the models on it. Methods follow the thread rules of backend.h.
class Device {
 public:
  Device(const dsopt_backend_api* api, dsopt_be_device* handle, dsopt_device_info info)
      : api_(api), handle_(handle), info_(info) {}
  ~Device() { api_->device_close(handle_); }
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  const dsopt_backend_api& api() const { return *api_; }
  dsopt_be_device* handle() const { return handle_; }
  const dsopt_device_info& info() const { return info_; }

  uint64_t FreeBytes() const;  // on the device now; 0: unknown
  // Whether the backend has weight_write_scales, which came after the first tables.
  bool CanWriteScales() const;
  Result<Weight> CreateWeight(const dsopt_weight_desc& desc) const;
  Result<uint64_t> WeightBytes(const dsopt_weight_desc& desc) const;

 private:
  const dsopt_backend_api* api_;
  dsopt_be_device* handle_;
  dsopt_device_info info_;
};

struct BackendOptions {
  dsopt_allocator allocator;  // copied
  Logger log;
  uint32_t cpu_threads = 0;
  std::string cpu_variant;       // empty: best
  std::string plugin_directory;  // empty: the directory of libdsopt.so
  bool scan = true;
};

// All backends of one runtime: the CPU and the plugins found. [thread-safe]
class Backends {
 public:
  static Result<std::unique_ptr<Backends>> Create(const BackendOptions& options);
  ~Backends();
  Backends(const Backends&) = delete;
  Backends& operator=(const Backends&) = delete;

  // Loads a plugin file. A driver that is absent is DSOPT_E_NOT_FOUND.
  Status LoadPlugin(const std::string& path);
  std::vector<dsopt_device_info> Devices() const;
  // id "cpu" or "cuda:0"; empty: the best device with at least bytes_needed free, else the CPU. A device is
  // opened once and shared while anyone holds it.
  Result<std::shared_ptr<Device>> Open(const std::string& id, uint64_t bytes_needed);
  // Text for dsopt_runtime_report: devices, kernel choice, why a plugin was not used.
  std::string Report();

 private:
  struct Impl;
  explicit Backends(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace dsopt
#endif  // DSOPT_DEVICE_DEVICE_H_
