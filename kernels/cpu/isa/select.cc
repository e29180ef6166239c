// select.cc - which table this machine can run.
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "isa/kernels.h"

namespace dsopt_cpu {
namespace {

#if defined(__x86_64__)
// F16C, AVX_VNNI and AVX512_BF16 by cpuid: clang 14 does not know their names. The builtins below include the
// system's support.
bool HasF16c() {
  unsigned a, b, c, d;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c >> 29 & 1) != 0;
}
bool HasAvx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && HasF16c(); }
bool HasAvx512() {
  return HasAvx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
bool HasFeature7(unsigned bit) {  // of leaf 7, part 1, register eax
  unsigned a, b, c, d;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a >> bit & 1) != 0;
}
bool HasAvx2Vnni() { return HasAvx2() && HasFeature7(4); }
bool HasAvx512Vnni() { return HasAvx512() && __builtin_cpu_supports("avx512vnni"); }
bool HasBf16() { return HasAvx512Vnni() && HasFeature7(5); }
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
    {"avx2_vnni", KernelsAvx2Vnni, HasAvx2Vnni},
    {"avx512", KernelsAvx512, HasAvx512},
    {"avx512_vnni", KernelsAvx512Vnni, HasAvx512Vnni},
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
