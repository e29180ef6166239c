// handles.h - what the opaque handles of dsopt.h hold, and the serial-call rule. A handle owns a share of its
// object and, through it, of all parents: handles may be released in any order.
#ifndef DSOPT_CAPI_HANDLES_H_
#define DSOPT_CAPI_HANDLES_H_

#include <memory>

#include "capi/options.h"
#include "runtime/loaded_model.h"
#include "runtime/runtime.h"
#include "runtime/session.h"

struct dsopt_runtime {
  std::shared_ptr<dsopt::Runtime> impl;
};
struct dsopt_model {
  std::shared_ptr<dsopt::LoadedModel> impl;
};
struct dsopt_session {
  std::shared_ptr<dsopt::Session> impl;
};
// Freed by the session, once no serial call that could still pass it to a callback is running.
struct dsopt_stream {
  std::shared_ptr<dsopt::Session> session;
  std::shared_ptr<dsopt::Stream> impl;
};

namespace dsopt {

// One [serial] call on a session. Keeps the session alive to the end of the call, also when the host's callback
// or another thread releases the handle meanwhile.
class SerialCall {
 public:
  explicit SerialCall(std::shared_ptr<Session> session)
      : session_(std::move(session)), entered_(session_->TryEnter()) {}
  ~SerialCall() {
    if (entered_) session_->Leave();
  }
  SerialCall(const SerialCall&) = delete;
  SerialCall& operator=(const SerialCall&) = delete;

  Status status() const {
    if (entered_) return Status();
    return Error(DSOPT_E_BUSY, "session: another call that must be alone is running on it");
  }
  Session& session() const { return *session_; }

 private:
  std::shared_ptr<Session> session_;
  bool entered_;
};

}  // namespace dsopt
#endif  // DSOPT_CAPI_HANDLES_H_
