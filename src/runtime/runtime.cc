#include "runtime/runtime.h"

namespace dsopt {

Result<std::shared_ptr<Runtime>> Runtime::Create(const BackendOptions& options) {
  std::shared_ptr<Runtime> runtime(new Runtime(options));
  ASSIGN_OR_RETURN(runtime->backends_, Backends::Create(options));
  return runtime;
}

}  // namespace dsopt
