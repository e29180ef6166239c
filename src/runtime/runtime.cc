#include "runtime/runtime.h"

#include <algorithm>
#include <thread>

namespace dsopt {

Runtime::Runtime(const BackendOptions& options)
    : allocator_(options.allocator),
      log_(options.log),
      cpu_threads_(options.cpu_threads != 0 ? options.cpu_threads
                                            : std::max(std::thread::hardware_concurrency(), 1u)) {}

Result<std::shared_ptr<Runtime>> Runtime::Create(const BackendOptions& options) {
  std::shared_ptr<Runtime> runtime(new Runtime(options));
  ASSIGN_OR_RETURN(runtime->backends_, Backends::Create(options));
  return runtime;
}

}  // namespace dsopt
