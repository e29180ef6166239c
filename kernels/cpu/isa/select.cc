// select.cc - which table this machine can run.
#include <string.h>

#include "isa/kernels.h"

namespace dsopt_cpu {
namespace {

#if defined(__x86_64__)
bool HasAvx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}
bool HasAvx512() {
  return HasAvx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
bool HasBf16() { return HasAvx512() && __builtin_cpu_supports("avx512bf16"); }
#endif

struct Entry {
  const char* name;
  const Kernels* (*table)();
  bool (*supported)();
};

bool Always() { return true; }

constexpr Entry kEntries[] = {
    {"scalar", KernelsScalar, Always},
#if defined(__x86_64__)
    {"avx2", KernelsAvx2, HasAvx2},
    {"avx512", KernelsAvx512, HasAvx512},
    {"avx512_bf16", KernelsAvx512Bf16, HasBf16},
#endif
};

}  // namespace

const Kernels* SelectKernels(const char* variant) {
#if defined(__x86_64__)
  __builtin_cpu_init();
#endif
  const Kernels* best = nullptr;
  for (const Entry& entry : kEntries) {
    if (entry.supported()) best = entry.table();
    if (variant != nullptr && strcmp(variant, entry.name) == 0) return best;
  }
  return variant == nullptr ? best : nullptr;
}

}  // namespace dsopt_cpu
