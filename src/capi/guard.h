// guard.h - the edge of the library: every fallible API function runs its body inside Guard(). The only
// try/catch of dsopt, and the only place that writes the thread's last error: code and message are set
// together.
#ifndef DSOPT_CAPI_GUARD_H_
#define DSOPT_CAPI_GUARD_H_

#include <new>
#include <string_view>
#include <utility>

#include "base/status.h"

namespace dsopt {

// What a body returns: a Status, or DSOPT_PENDING.
class Reply {
 public:
  Reply(Status status) : status_(std::move(status)) {}       // NOLINT: implicit on purpose
  Reply(dsopt_code ok_or_pending) : code_(ok_or_pending) {}  // NOLINT: implicit on purpose
  dsopt_status code() const { return status_.ok() ? code_ : status_.code(); }
  std::string_view message() const { return status_.message(); }

 private:
  dsopt_code code_ = DSOPT_OK;
  Status status_;
};

// Copies into a fixed thread-local buffer: cannot fail, cuts long messages. Empty: the call succeeded.
void SetLastError(std::string_view message) noexcept;
const char* LastError() noexcept;

template <typename Body>
dsopt_status Guard(Body&& body) noexcept {
  try {
    const Reply reply = std::forward<Body>(body)();
    SetLastError(reply.code() < 0 && reply.message().empty() ? "no message" : reply.message());
    return reply.code();
  } catch (const std::bad_alloc&) {
    SetLastError("allocating host memory failed");
    return DSOPT_E_OUT_OF_MEMORY;
  } catch (...) {
    SetLastError("internal error: an exception reached the C interface");
    return DSOPT_E_INTERNAL;
  }
}

}  // namespace dsopt
#endif  // DSOPT_CAPI_GUARD_H_
