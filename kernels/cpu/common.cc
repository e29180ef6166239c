// common.cc - see common.h.
#include "common.h"

#include <sys/mman.h>
#include <time.h>

#include <cstdarg>
#include <cstdio>
#include <cstring>

namespace dsopt_cpu {

namespace {
constexpr size_t kHugePage = size_t{2} << 20;
}

dsopt_status Fail(const dsopt_host_api* host, dsopt_status code, const char* format, ...) {
  char text[512];
  va_list args;
  va_start(args, format);
  std::vsnprintf(text, sizeof(text), format, args);
  va_end(args);
  if (host != nullptr && host->set_error != nullptr) host->set_error(host->context, text);
  return code;
}

dsopt_status Allocate(const dsopt_host_api* host, uint64_t bytes, const char* what, Memory* memory) {
  *memory = Memory{};
  const size_t align = bytes >= kHugePage ? kHugePage : 64;
  if (bytes <= SIZE_MAX / 2) {
    memory->data = static_cast<uint8_t*>(host->allocator->alloc(host->allocator->user, bytes, align));
  }
  if (memory->data == nullptr) {
    return Fail(host, DSOPT_E_OUT_OF_MEMORY, "%s: the host allocator has no %llu bytes", what,
                static_cast<unsigned long long>(bytes));
  }
  memory->bytes = bytes;
  memory->align = align;
  // Only a wish: without huge pages everything works, slower. The tail may share a page with other data.
  if (align == kHugePage) madvise(memory->data, bytes, MADV_HUGEPAGE);
  return DSOPT_OK;
}

void Release(const dsopt_host_api* host, Memory* memory) {
  if (memory->data != nullptr) {
    host->allocator->free(host->allocator->user, memory->data, memory->bytes, memory->align);
  }
  *memory = Memory{};
}

uint64_t NowNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000000000u + static_cast<uint64_t>(now.tv_nsec);
}

uint16_t Bf16FromFloat(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

float FloatFromBf16(uint16_t value) {
  const uint32_t bits = static_cast<uint32_t>(value) << 16;
  float f;
  std::memcpy(&f, &bits, 4);
  return f;
}

uint16_t F16FromFloat(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  bits &= 0x7fffffffu;
  if (bits >= 0x47800000u) {  // 65536 and above, infinity, NaN
    return static_cast<uint16_t>(sign | (bits > 0x7f800000u ? 0x7e00u : 0x7c00u));
  }
  if (bits < 0x38800000u) {  // subnormal: adding 0.5 leaves round(value * 2^24) in the low bits
    float f;
    std::memcpy(&f, &bits, 4);
    f += 0.5f;
    uint32_t sum;
    std::memcpy(&sum, &f, 4);
    return static_cast<uint16_t>(sign | (sum - 0x3f000000u));
  }
  bits += 0xfffu + ((bits >> 13) & 1u);  // may carry into the exponent, up to infinity
  return static_cast<uint16_t>(sign | ((bits - 0x38000000u) >> 13));
}

float FloatFromF16(uint16_t value) {
  const uint32_t magnitude = value & 0x7fffu;
  uint32_t bits = magnitude << 13;
  if (magnitude >= 0x7c00u) {
    bits += 0x70000000u;
  } else if (magnitude >= 0x400u) {
    bits += 0x38000000u;
  } else {
    const float f = static_cast<float>(magnitude) * 0x1p-24f;
    std::memcpy(&bits, &f, 4);
  }
  bits |= static_cast<uint32_t>(value & 0x8000u) << 16;
  float f;
  std::memcpy(&f, &bits, 4);
  return f;
}

}  // namespace dsopt_cpu
