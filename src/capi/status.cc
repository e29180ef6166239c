// status.cc - versions, names of codes, the last error of a thread.
#include <cstring>

#include "capi/guard.h"
#include "dsopt/backend.h"
#include "dsopt/dsopt.h"

namespace dsopt {
namespace {

constexpr size_t kMaxErrorBytes = 1024;
thread_local char t_last_error[kMaxErrorBytes];

#define DSOPT_TEXT_INNER(x) #x
#define DSOPT_TEXT(x) DSOPT_TEXT_INNER(x)

}  // namespace

void SetLastError(std::string_view message) noexcept {
  const size_t length = message.size() < kMaxErrorBytes ? message.size() : kMaxErrorBytes - 1;
  if (length > 0) std::memcpy(t_last_error, message.data(), length);
  t_last_error[length] = '\0';
}

const char* LastError() noexcept { return t_last_error; }

}  // namespace dsopt

uint32_t dsopt_version_number(void) { return DSOPT_VERSION_NUMBER; }
uint32_t dsopt_abi_level(void) { return DSOPT_ABI_LEVEL; }

const char* dsopt_build_info(void) {
  return "dsopt " DSOPT_TEXT(DSOPT_VERSION_MAJOR) "." DSOPT_TEXT(DSOPT_VERSION_MINOR) "." DSOPT_TEXT(
      DSOPT_VERSION_PATCH) ", ABI level " DSOPT_TEXT(DSOPT_ABI_LEVEL) ", backend interface " DSOPT_TEXT(
      DSOPT_BACKEND_ABI) ", compiler " __VERSION__
#if defined(__SANITIZE_ADDRESS__)
      ", address sanitizer"
#endif
#if defined(__SANITIZE_THREAD__)
      ", thread sanitizer"
#endif
      ;
}

const char* dsopt_status_name(int32_t status) {
  switch (status) {
    case DSOPT_OK:
      return "DSOPT_OK";
    case DSOPT_PENDING:
      return "DSOPT_PENDING";
    case DSOPT_E_INVALID_ARGUMENT:
      return "DSOPT_E_INVALID_ARGUMENT";
    case DSOPT_E_INVALID_STATE:
      return "DSOPT_E_INVALID_STATE";
    case DSOPT_E_OUT_OF_MEMORY:
      return "DSOPT_E_OUT_OF_MEMORY";
    case DSOPT_E_DEVICE_MEMORY:
      return "DSOPT_E_DEVICE_MEMORY";
    case DSOPT_E_IO:
      return "DSOPT_E_IO";
    case DSOPT_E_CORRUPT:
      return "DSOPT_E_CORRUPT";
    case DSOPT_E_UNSUPPORTED:
      return "DSOPT_E_UNSUPPORTED";
    case DSOPT_E_VERSION:
      return "DSOPT_E_VERSION";
    case DSOPT_E_NOT_FOUND:
      return "DSOPT_E_NOT_FOUND";
    case DSOPT_E_BUFFER_TOO_SMALL:
      return "DSOPT_E_BUFFER_TOO_SMALL";
    case DSOPT_E_CANCELLED:
      return "DSOPT_E_CANCELLED";
    case DSOPT_E_TIMEOUT:
      return "DSOPT_E_TIMEOUT";
    case DSOPT_E_DEVICE_LOST:
      return "DSOPT_E_DEVICE_LOST";
    case DSOPT_E_BUSY:
      return "DSOPT_E_BUSY";
    case DSOPT_E_CALLBACK:
      return "DSOPT_E_CALLBACK";
    case DSOPT_E_INTERNAL:
      return "DSOPT_E_INTERNAL";
    default:
      return "unknown status";
  }
}

const char* dsopt_last_error(void) { return dsopt::LastError(); }
