#include "tools/output.h"

#include <cerrno>
#include <cstdio>
#include <cstring>

#include <unistd.h>

#include "tools/commands.h"

namespace dsopt::tools {

int Fail(std::string_view command, const Status& status) {
  std::string line = Format("dsopt %.*s: %s: ", static_cast<int>(command.size()), command.data(),
                            dsopt_status_name(status.code()));
  line += status.message();
  for (char& c : line) {
    if (c == '\n' || c == '\r') c = ' ';
  }
  std::fprintf(stderr, "%s\n", line.c_str());
  return kExitFailure;
}

void PrintJson(const Json& object) {
  const std::string line = object.dump(-1, ' ', false, Json::error_handler_t::replace);
  std::fwrite(line.data(), 1, line.size(), stdout);
  std::fputc('\n', stdout);
  std::fflush(stdout);
}

Status Print(std::string_view bytes) {
  if (std::fwrite(bytes.data(), 1, bytes.size(), stdout) == bytes.size() && std::fflush(stdout) == 0) return {};
  return Error(DSOPT_E_IO, "standard output: %s", std::strerror(errno));
}

bool ShowProgress() { return isatty(STDERR_FILENO) == 1; }

std::string HumanBytes(uint64_t bytes) {
  const char* const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < std::size(units)) value /= 1024, ++unit;
  return Format(unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
}

}  // namespace dsopt::tools
