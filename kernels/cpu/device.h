// device.h - an opened CPU: the chosen kernels, the threads, the memory account.
#ifndef DSOPT_CPU_DEVICE_H_
#define DSOPT_CPU_DEVICE_H_

#include <atomic>

#include "common.h"
#include "pool.h"
#include "shared/check.h"

struct dsopt_be_device {
  const dsopt_host_api* host;
  const dsopt_cpu::Kernels* kernels;
  dsopt_cpu::Pool* pool;
  uint64_t max_bytes;  // 0: no cap
  std::atomic<uint64_t> used_bytes;
  dsopt_cpu::Memory memory;  // this struct
  char report[1024];
};

namespace dsopt_cpu {

uint32_t DeviceCount();
dsopt_status DeviceInfo(uint32_t index, dsopt_device_info* info);
dsopt_status DeviceOpen(uint32_t index, const dsopt_device_options* options, dsopt_be_device** out);
void DeviceClose(dsopt_be_device* device);
const char* DeviceReport(dsopt_be_device* device);
dsopt_status MeasureRead(dsopt_be_device* device, uint64_t bytes, double* bytes_per_second);

// Counts bytes against the device's cap, or fails with DSOPT_E_DEVICE_MEMORY.
dsopt_status Charge(dsopt_be_device* device, uint64_t bytes, const char* what);
void Refund(dsopt_be_device* device, uint64_t bytes);

using dsopt_shared::CopyStruct;

}  // namespace dsopt_cpu
#endif  // DSOPT_CPU_DEVICE_H_
