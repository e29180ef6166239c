// log.h - the host's log callback. Never prints by itself.
#ifndef DSOPT_BASE_LOG_H_
#define DSOPT_BASE_LOG_H_

#include "dsopt/dsopt.h"

namespace dsopt {

// [thread-safe] Copyable view of the host's callback.
class Logger {
 public:
  Logger() = default;
  Logger(dsopt_log_fn fn, void* user, dsopt_log_level level)
      : fn_(fn), user_(user), level_(level == DSOPT_LOG_DEFAULT ? DSOPT_LOG_WARN : level) {}
  bool enabled(dsopt_log_level level) const {
    return fn_ != nullptr && level_ != DSOPT_LOG_OFF && level <= level_;
  }
  void Log(dsopt_log_level level, const char* component, const char* format, ...) const
      __attribute__((format(printf, 4, 5)));

 private:
  dsopt_log_fn fn_ = nullptr;
  void* user_ = nullptr;
  dsopt_log_level level_ = DSOPT_LOG_OFF;
};

}  // namespace dsopt
#endif  // DSOPT_BASE_LOG_H_
