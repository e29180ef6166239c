// common.h - errors and memory of the CPU backend, and small arithmetic. Not for the isa/ files.
#ifndef DSOPT_CPU_COMMON_H_
#define DSOPT_CPU_COMMON_H_

#include <cstddef>
#include <cstdint>

#include "dsopt/backend.h"
#include "isa/kernels.h"

namespace dsopt_cpu {

// Hands "one line" to the host and returns code.
[[gnu::format(printf, 3, 4)]] dsopt_status Fail(const dsopt_host_api* host, dsopt_status code,
                                                const char* format, ...);

constexpr uint64_t RoundUp(uint64_t value, uint64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}
constexpr uint64_t DivUp(uint64_t value, uint64_t by) { return (value + by - 1) / by; }
template <typename T>
constexpr T Min(T a, T b) {
  return a < b ? a : b;
}
template <typename T>
constexpr T Max(T a, T b) {
  return a > b ? a : b;
}

inline uint64_t StorageBytes(Storage storage) { return storage == kF32 ? 4 : 2; }

// Host memory with its size. Plain data: whoever owns it calls Release.
struct Memory {
  uint8_t* data = nullptr;
  size_t bytes = 0;
  size_t align = 0;
};

// 64-byte aligned; from 2 MiB on aligned to huge pages and marked for them. `what` is for the message.
dsopt_status Allocate(const dsopt_host_api* host, uint64_t bytes, const char* what, Memory* memory);
void Release(const dsopt_host_api* host, Memory* memory);

uint64_t NowNs();  // CLOCK_MONOTONIC

uint16_t Bf16FromFloat(float value);  // nearest even
float FloatFromBf16(uint16_t value);
uint16_t F16FromFloat(float value);  // nearest even
float FloatFromF16(uint16_t value);

}  // namespace dsopt_cpu
#endif  // DSOPT_CPU_COMMON_H_
