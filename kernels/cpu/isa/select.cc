// select.cc - which table this machine can run.
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "isa/kernels.h"

namespace dsopt_cpu {
namespace {

#if defined(__x86_64__)
// F16C and AVX512_BF16 by cpuid: clang 14 does not know their names. The builtins below include the system's support.
bool HasF16c() {
  unsigned a, b, c, d;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c >> 29 & 1) != 0;
}
bool HasAvx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && HasF16c(); }
bool HasAvx512() {
  return HasAvx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
bool HasBf16() {
  unsigned a, b, c, d;
  return HasAvx512() && __builtin_cpu_supports("avx512vnni") && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a >> 5 & 1) != 0;
}
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
