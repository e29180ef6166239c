// host_device.h - the CPU as a device of ops_harness.h.
#ifndef DSOPT_TESTS_OPS_HOST_DEVICE_H_
#define DSOPT_TESTS_OPS_HOST_DEVICE_H_

#include <cstdlib>
#include <cstring>

#include "ops_harness.h"

namespace dsopt::ops_test {

class HostMemory : public Memory {
 public:
  void* Allocate(size_t bytes) override { return std::aligned_alloc(512, (bytes + 1023) / 512 * 512); }
  void Free(void* data) override { std::free(data); }
  void Write(void* dst, const void* src, size_t bytes) override { std::memcpy(dst, src, bytes); }
  void Read(void* dst, const void* src, size_t bytes) override { std::memcpy(dst, src, bytes); }
  void* stream() override { return nullptr; }
  dsopt_status Run(const std::function<dsopt_status()>& call) override { return call(); }
  size_t Misalignment(size_t element_bytes) override { return element_bytes; }
  bool on_host() override { return true; }
};

struct ReleaseRuntime {
  void operator()(dsopt_runtime* runtime) const { dsopt_runtime_release(runtime); }
};
using RuntimePtr = std::unique_ptr<dsopt_runtime, ReleaseRuntime>;

inline RuntimePtr NewRuntime(const char* variant, uint32_t threads) {
  auto options = Sized<dsopt_runtime_options>();
  options.cpu_threads = threads;
  options.cpu_variant = variant;
  options.disable_backend_scan = 1;
  dsopt_runtime* runtime = nullptr;
  REQUIRE(dsopt_runtime_create(&options, &runtime) == DSOPT_OK);
  return RuntimePtr(runtime);
}

}  // namespace dsopt::ops_test
#endif  // DSOPT_TESTS_OPS_HOST_DEVICE_H_
