#include "base/log.h"

#include <cstdarg>
#include <cstdio>

namespace dsopt {

void Logger::Log(dsopt_log_level level, const char* component, const char* format, ...) const {
  if (!enabled(level)) return;
  char text[1024];
  va_list args;
  va_start(args, format);
  std::vsnprintf(text, sizeof text, format, args);
  va_end(args);
  fn_(user_, level, component, text);
}

}  // namespace dsopt
