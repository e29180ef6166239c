// system_info.h - what Linux says about this machine and this process. Values that cannot be read are 0 or empty.
#ifndef DSOPT_TOOLS_SYSTEM_INFO_H_
#define DSOPT_TOOLS_SYSTEM_INFO_H_

#include <cstdint>
#include <string>

namespace dsopt::tools {

struct SystemInfo {
  std::string kernel;            // uname: release
  std::string cpu_model;
  uint32_t cpus = 0;             // this process may run on
  uint64_t memory_bytes = 0, memory_available_bytes = 0;
  std::string huge_pages;        // transparent: "always", "madvise", "never"
  uint64_t reserved_huge_pages = 0;
  uint64_t locked_limit_bytes = 0;  // RLIMIT_MEMLOCK; UINT64_MAX: none
};

SystemInfo ReadSystemInfo();
uint64_t AvailableMemoryBytes();
// Largest resident set of this process so far.
uint64_t PeakHostBytes();

}  // namespace dsopt::tools
#endif  // DSOPT_TOOLS_SYSTEM_INFO_H_
