// runtime.h - the root object: the host's allocator and log, and the backends found. No global state: a process
// may hold any number of runtimes.
#ifndef DSOPT_RUNTIME_RUNTIME_H_
#define DSOPT_RUNTIME_RUNTIME_H_

#include <memory>

#include "base/log.h"
#include "base/status.h"
#include "device/device.h"

namespace dsopt {

// [thread-safe] Models hold it by shared_ptr, so it outlives every device opened through it.
class Runtime {
 public:
  static Result<std::shared_ptr<Runtime>> Create(const BackendOptions& options);
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  const dsopt_allocator& allocator() const { return allocator_; }
  const Logger& log() const { return log_; }
  Backends& backends() const { return *backends_; }
  uint32_t cpu_threads() const { return cpu_threads_; }  // including the caller's; at least 1

 private:
  explicit Runtime(const BackendOptions& options);

  dsopt_allocator allocator_;
  Logger log_;
  uint32_t cpu_threads_;
  std::unique_ptr<Backends> backends_;
};

}  // namespace dsopt
#endif  // DSOPT_RUNTIME_RUNTIME_H_
