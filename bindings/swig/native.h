// native.h - what the bindings call besides dsopt.h, the same in every language: functions whose C form has
// pointers inside structs, callbacks, or out-buffers. Plain data in and out; nothing here throws.
#ifndef DSOPT_BINDINGS_NATIVE_H_
#define DSOPT_BINDINGS_NATIVE_H_

#include <cstring>
#include <mutex>
#include <string>
#include <vector>

#include "dsopt/dsopt.h"
#include "sink.h"

// The full length or count that an out-buffer function has to give, or a failure (< 0). The caller compares it
// with the room it gave and calls again with more: text needs length + 1.
typedef int64_t dsopt_length;

#ifndef SWIG

// Message of the last failed raw call of this thread. The functions below fail on their own only for lack of
// memory.
inline bool& OutOfHostMemory() {
  thread_local bool failed = false;
  return failed;
}
inline const char* RawError() {
  const bool own = OutOfHostMemory();
  OutOfHostMemory() = false;
  return own ? "allocating host memory for an argument failed" : dsopt_last_error();
}
// Status of the last raw call of this thread that gave no handle.
inline int& RawStatus() {
  thread_local int status = DSOPT_OK;
  return status;
}
// The handle that call(&handle) makes, or null.
template <typename T, typename Call>
T* NewHandle(Call&& call) {
  T* handle = nullptr;
  RawStatus() = call(&handle);
  return RawStatus() == DSOPT_OK ? handle : nullptr;
}
template <typename Body>
dsopt_status NoThrow(Body&& body) noexcept {
  try {
    body();
    return DSOPT_OK;
  } catch (...) {
    OutOfHostMemory() = true;
    return DSOPT_E_OUT_OF_MEMORY;
  }
}
// length by reference: it is an out parameter of the call whose result is status.
inline dsopt_length Length(dsopt_status status, const size_t& length) {
  return status == DSOPT_OK || status == DSOPT_E_BUFFER_TOO_SMALL ? static_cast<dsopt_length>(length) : status;
}
template <typename T>
T Sized() {
  T value = {};
  value.struct_size = sizeof(T);
  return value;
}
template <typename T>
size_t CopyOut(const std::vector<T>& from, T* to, size_t cap) {
  if (!from.empty() && cap > 0) std::memcpy(to, from.data(), std::min(cap, from.size()) * sizeof(T));
  return from.size();
}

// dsopt_stream_read lends pointers until the next read, generate or trim. This lock makes copying them out safe
// whatever other threads do with the stream, as host languages promise memory safety. Held for microseconds.
// Recursive: a log or io callback may make the host language release another object.
inline std::recursive_mutex& EventMutex() {
  static std::recursive_mutex* mutex = new std::recursive_mutex;
  return *mutex;
}

#endif  // SWIG

// ---- events -------------------------------------------------------------------------------------

// A copy of one dsopt_event. Reuse one object: its buffers grow to the largest event and stay.
class NativeEvent {
 public:
  NativeEvent() {}
  int kind() const { return kind_; }
  int finish() const { return finish_; }
  int status() const { return status_; }
  bool has_logprobs() const { return !logprobs_.empty(); }
  uint32_t top_count() const { return top_count_; }
  // Each gives the full length or count; see dsopt_length. Text is UTF-8 without a NUL.
  dsopt_length text(void* buf, size_t cap) const {
    if (cap > 0) std::memcpy(buf, text_.data(), std::min(cap, text_.size()));
    return static_cast<dsopt_length>(text_.size());
  }
  dsopt_length tokens(dsopt_token* tokens, size_t cap) const {
    return static_cast<dsopt_length>(CopyOut(tokens_, tokens, cap));
  }
  dsopt_length logprobs(float* logprobs, size_t cap) const {
    return static_cast<dsopt_length>(CopyOut(logprobs_, logprobs, cap));
  }
  dsopt_length top_tokens(dsopt_token* tokens, size_t cap) const {
    return static_cast<dsopt_length>(CopyOut(top_tokens_, tokens, cap));
  }
  dsopt_length top_logprobs(float* logprobs, size_t cap) const {
    return static_cast<dsopt_length>(CopyOut(top_logprobs_, logprobs, cap));
  }

#ifndef SWIG
  void Assign(const dsopt_event& e) {
    text_.assign(e.text != nullptr ? e.text : "", e.text != nullptr ? e.text_len : 0);
    tokens_.assign(e.tokens, e.tokens + e.token_count);
    logprobs_.assign(e.logprobs, e.logprobs != nullptr ? e.logprobs + e.token_count : nullptr);
    const size_t top = e.top_tokens != nullptr ? e.token_count * e.top_count : 0;
    top_tokens_.assign(e.top_tokens, e.top_tokens + top);
    top_logprobs_.assign(e.top_logprobs, e.top_logprobs + top);
    kind_ = e.kind;
    finish_ = e.finish;
    status_ = e.status;
    top_count_ = top > 0 ? e.top_count : 0;
  }
  const std::string& text_bytes() const { return text_; }
  const std::vector<dsopt_token>& token_list() const { return tokens_; }
  const std::vector<float>& logprob_list() const { return logprobs_; }
  const std::vector<dsopt_token>& top_token_list() const { return top_tokens_; }
  const std::vector<float>& top_logprob_list() const { return top_logprobs_; }

 private:
  int kind_ = 0, finish_ = 0, status_ = 0;
  uint32_t top_count_ = 0;
  std::string text_;
  std::vector<dsopt_token> tokens_, top_tokens_;
  std::vector<float> logprobs_, top_logprobs_;
#endif
};

// ---- callbacks: subclass in the host language ---------------------------------------------------
// An implementation must not throw. If it does, the trampoline stops the exception and answers as if cancelled;
// the language layer therefore catches first, keeps the exception and rethrows it from poll.

class EventSink : public Sink {
 public:
  EventSink() {}
  virtual ~EventSink() {}
  // Inside session_poll or _wait, on that thread. last_event() holds what came. true cancels the stream.
  virtual bool on_event() { return true; }
  const NativeEvent* last_event() const { return &event_; }

#ifndef SWIG
  static int DSOPT_CALL Trampoline(void* user, dsopt_stream*, const dsopt_event* event) noexcept {
    try {
      const SinkCall<EventSink> call(user);
      if (call.get() == nullptr) return 1;
      call.get()->event_.Assign(*event);
      return call.get()->on_event() ? 1 : 0;
    } catch (...) {
      return 1;
    }
  }

 private:
  NativeEvent event_;
#endif
};

class LogSink : public Sink {
 public:
  LogSink() {}
  virtual ~LogSink() {}
  // On any thread, several at once.
  virtual void on_log(int level, const char* component, const char* message) {}

#ifndef SWIG
  static void DSOPT_CALL Trampoline(void* user, dsopt_log_level level, const char* component,
                                    const char* message) noexcept {
    try {
      const SinkCall<LogSink> call(user);
      if (call.get() != nullptr) call.get()->on_log(level, component, message);
    } catch (...) {
    }
  }
#endif
};

class ProgressSink : public Sink {
 public:
  ProgressSink() {}
  virtual ~ProgressSink() {}
  // Inside model_open* or dsopt_model_poll, on that thread. true cancels.
  virtual bool on_progress(float progress) { return true; }

#ifndef SWIG
  static int DSOPT_CALL Trampoline(void* user, float progress) noexcept {
    try {
      const SinkCall<ProgressSink> call(user);
      return call.get() == nullptr || call.get()->on_progress(progress) ? 1 : 0;
    } catch (...) {
      return 1;
    }
  }
#endif
};

// A model's bytes from the host language. on_read answers one request by fill(); false or fewer bytes: the read
// fails.
class IoSource : public Sink {
 public:
  IoSource() {}
  virtual ~IoSource() {}
  virtual bool on_read(uint64_t offset, uint64_t length) { return false; }
  virtual void on_close() {}
  // Inside on_read: the next bytes. false if they are more than were asked for.
  bool fill(const void* bytes, size_t size) {
    if (size > room_) return false;
    if (size > 0) std::memcpy(to_, bytes, size);
    to_ += size;
    room_ -= size;
    return true;
  }

#ifndef SWIG
  static dsopt_status DSOPT_CALL ReadAt(void* user, uint64_t offset, void* dst, size_t len) noexcept {
    try {
      const SinkCall<IoSource> call(user);
      IoSource* source = call.get();
      if (source == nullptr) return DSOPT_E_CALLBACK;
      source->to_ = static_cast<char*>(dst);
      source->room_ = len;
      const bool read = source->on_read(offset, len);
      const bool whole = read && source->room_ == 0;
      source->room_ = 0;
      return whole ? DSOPT_OK : DSOPT_E_CALLBACK;
    } catch (...) {
      return DSOPT_E_CALLBACK;
    }
  }
  static void DSOPT_CALL Close(void* user) noexcept {
    try {
      const SinkCall<IoSource> call(user);
      if (call.get() != nullptr) call.get()->on_close();
    } catch (...) {
    }
  }

 private:
  char* to_ = nullptr;
  size_t room_ = 0;
#endif
};

// ---- arguments with pointers inside -------------------------------------------------------------

// dsopt_generate_options and all that it points to.
class GenerateRequest {
 public:
  GenerateRequest() : options_(Sized<dsopt_generate_options>()), sampling_(Sized<dsopt_sampling>()) {}
  void set_flags(uint32_t flags) { options_.flags = flags; }
  void set_max_tokens(uint32_t count) { options_.max_tokens = count; }
  void set_priority(int32_t priority) { options_.priority = priority; }
  void set_logprobs(bool on) { options_.logprobs = on ? 1 : 0; }
  void set_top_logprobs(uint32_t count) { options_.top_logprobs = count; }
  // Without a call the model file's defaults hold.
  void set_sampling(const dsopt_sampling* sampling) {
    sampling_ = *sampling;
    options_.sampling = &sampling_;
  }
  dsopt_status add_stop(const void* bytes, size_t size) {
    return NoThrow([&] { stops_.emplace_back(static_cast<const char*>(bytes), size); });
  }
  dsopt_status add_stop_token(dsopt_token token) {
    return NoThrow([&] { stop_tokens_.push_back(token); });
  }
  dsopt_status add_bias(dsopt_token token, float bias) {
    return NoThrow([&] { biases_.push_back({token, bias}); });
  }

#ifndef SWIG
  // pointers: room for those to the stop strings; lives as long as the result is used.
  dsopt_generate_options Options(std::vector<const char*>* pointers) const {
    for (const std::string& stop : stops_) pointers->push_back(stop.c_str());
    dsopt_generate_options options = options_;
    options.stop = pointers->data();
    options.stop_count = pointers->size();
    options.stop_tokens = stop_tokens_.data();
    options.stop_token_count = stop_tokens_.size();
    options.bias = biases_.data();
    options.bias_count = biases_.size();
    return options;
  }

  GenerateRequest(const GenerateRequest&) = delete;
  GenerateRequest& operator=(const GenerateRequest&) = delete;

 private:
  dsopt_generate_options options_;
  dsopt_sampling sampling_;
  std::vector<std::string> stops_;
  std::vector<dsopt_token> stop_tokens_;
  std::vector<dsopt_logit_bias> biases_;
#endif
};

// The messages of dsopt_chat_format, UTF-8.
class ChatMessages {
 public:
  ChatMessages() {}
  dsopt_status add(const void* role, size_t role_size, const void* content, size_t content_size) {
    return NoThrow([&] {
      messages_.push_back({std::string(static_cast<const char*>(role), role_size),
                           std::string(static_cast<const char*>(content), content_size)});
    });
  }

#ifndef SWIG
  struct Message {
    std::string role, content;
  };
  const std::vector<Message>& messages() const { return messages_; }

 private:
  std::vector<Message> messages_;
#endif
};

#include "native_calls.h"

#endif  // DSOPT_BINDINGS_NATIVE_H_
