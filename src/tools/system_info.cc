#include "tools/system_info.h"

#include <fstream>

#include <sched.h>
#include <sys/resource.h>
#include <sys/utsname.h>

#include "absl/strings/numbers.h"

namespace dsopt::tools {
namespace {

// The rest of the first line that starts with key, without ':' and white space.
std::string Field(const char* path, const std::string& key) {
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) {
    if (line.compare(0, key.size(), key) != 0) continue;
    const size_t start = line.find_first_not_of(" \t:", key.size());
    return start == std::string::npos ? "" : line.substr(start);
  }
  return "";
}

// "123 kB" -> bytes; a number without a unit is itself.
uint64_t Number(const std::string& text) {
  const size_t space = text.find(' ');
  uint64_t value = 0;
  if (!absl::SimpleAtoi(text.substr(0, space), &value)) return 0;
  return space != std::string::npos ? value * 1024 : value;
}

// "always [madvise] never" -> "madvise"
std::string Chosen(const char* path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  const size_t open = line.find('['), close = line.find(']');
  if (open == std::string::npos || close == std::string::npos || close < open) return "";
  return line.substr(open + 1, close - open - 1);
}

}  // namespace

SystemInfo ReadSystemInfo() {
  SystemInfo info;
  utsname names = {};
  if (uname(&names) == 0) info.kernel = std::string(names.sysname) + " " + names.release;
  info.cpu_model = Field("/proc/cpuinfo", "model name");
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) info.cpus = static_cast<uint32_t>(CPU_COUNT(&set));
  info.memory_bytes = Number(Field("/proc/meminfo", "MemTotal"));
  info.memory_available_bytes = AvailableMemoryBytes();
  info.huge_pages = Chosen("/sys/kernel/mm/transparent_hugepage/enabled");
  info.reserved_huge_pages = Number(Field("/proc/meminfo", "HugePages_Total"));
  rlimit limit = {};
  if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0) {
    info.locked_limit_bytes = limit.rlim_cur == RLIM_INFINITY ? UINT64_MAX : limit.rlim_cur;
  }
  return info;
}

uint64_t AvailableMemoryBytes() { return Number(Field("/proc/meminfo", "MemAvailable")); }

uint64_t PeakHostBytes() { return Number(Field("/proc/self/status", "VmHWM")); }

}  // namespace dsopt::tools
