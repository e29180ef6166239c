// dsopt/dsopt.hpp - C++20 over dsopt/dsopt.h: RAII handles, exceptions, spans, durations. Header-only: it adds
// no symbol to libdsopt.so, so it may change without breaking a binary. The manual is dsopt.h; here is only
// what differs from it.
//
//   Errors     A failed call throws dsopt::Error with code() and the message. DSOPT_PENDING never throws.
//   Ownership  Handles are move-only and release in their destructor, in any order.
//   Options    Aggregates; every default is zero. struct_size is filled in here.
//   Threads    As in dsopt.h.
//
//   dsopt::Runtime runtime;
//   dsopt::Model model(runtime, "model.dsopt");
//   dsopt::Session session(model);
//   dsopt::Stream stream = session.NewStream();
//   stream.Append("Once upon a time", DSOPT_TOKENIZE_ADD_BOS);
//   stream.Generate({.max_tokens = 64});
//   for (std::string_view piece : stream.Pieces()) std::cout << piece << std::flush;
#ifndef DSOPT_DSOPT_HPP_
#define DSOPT_DSOPT_HPP_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "dsopt/dsopt.h"

namespace dsopt {
inline namespace v1 {

// A call that failed.
class Error : public std::runtime_error {
 public:
  Error(dsopt_status code, const std::string& message)
      : std::runtime_error(std::string(dsopt_status_name(code)) + ": " + message), code_(code) {}
  dsopt_code code() const noexcept { return static_cast<dsopt_code>(code_); }

 private:
  dsopt_status code_;
};

namespace detail {

// Throws on failure; true when the call is finished, false for DSOPT_PENDING.
inline bool Check(dsopt_status status) {
  if (status < 0) throw Error(status, dsopt_last_error());
  return status != DSOPT_PENDING;
}

inline uint64_t Microseconds(std::chrono::nanoseconds time) {
  return time.count() <= 0 ? 0 : static_cast<uint64_t>(time.count()) / 1000;
}

template <typename T>
T Sized(T value) {
  value.struct_size = sizeof(T);
  return value;
}

// A function with (buf, cap, out_len): asks for the length, then for the text.
template <typename Call>
std::string ReadString(Call&& call) {
  size_t length = 0;
  dsopt_status status = call(nullptr, 0, &length);
  std::string text;
  while (status == DSOPT_E_BUFFER_TOO_SMALL) {
    text.resize(length + 1);
    status = call(text.data(), text.size(), &length);
  }
  Check(status);
  text.resize(length);
  return text;
}

// An exception that left a callback, on its way to the caller of Poll or Wait.
struct Pending {
  std::exception_ptr exception;
  void Rethrow() {
    if (exception) std::rethrow_exception(std::exchange(exception, nullptr));
  }
};

}  // namespace detail

// ---- runtime ------------------------------------------------------------------------------------

class Runtime {
 public:
  explicit Runtime(dsopt_runtime_options options = {}) {
    options = detail::Sized(options);
    dsopt_runtime* handle = nullptr;
    detail::Check(dsopt_runtime_create(&options, &handle));
    handle_.reset(handle);
  }
  dsopt_runtime* handle() const noexcept { return handle_.get(); }

  void LoadBackend(const std::string& path) {
    detail::Check(dsopt_runtime_load_backend(handle(), path.c_str()));
  }
  std::vector<dsopt_device_info> Devices() const {
    std::vector<dsopt_device_info> devices(dsopt_device_count(handle()));
    for (uint32_t i = 0; i < devices.size(); ++i) {
      devices[i] = detail::Sized(dsopt_device_info{});
      detail::Check(dsopt_device_get_info(handle(), i, &devices[i]));
    }
    return devices;
  }
  // Bytes per second: see dsopt_device_measure_read.
  double MeasureRead(const std::string& device = "cpu", uint64_t bytes = 0) {
    double rate = 0;
    detail::Check(dsopt_device_measure_read(handle(), device.c_str(), bytes, &rate));
    return rate;
  }
  std::string Report() const {
    return detail::ReadString(
        [&](char* buf, size_t cap, size_t* len) { return dsopt_runtime_report(handle(), buf, cap, len); });
  }

 private:
  struct Release { void operator()(dsopt_runtime* handle) const { dsopt_runtime_release(handle); } };
  std::unique_ptr<dsopt_runtime, Release> handle_;
};

// ---- model --------------------------------------------------------------------------------------

struct Message {
  std::string role, content;
};

class Model {
 public:
  Model(const Runtime& runtime, const std::string& path, dsopt_model_options options = {}) {
    options = detail::Sized(options);
    dsopt_model* handle = nullptr;
    detail::Check(dsopt_model_open(runtime.handle(), path.c_str(), &options, &handle));
    handle_.reset(handle);
  }
  // bytes must stay valid until the model has loaded or was destroyed.
  Model(const Runtime& runtime, std::span<const std::byte> bytes, dsopt_model_options options = {}) {
    options = detail::Sized(options);
    dsopt_model* handle = nullptr;
    detail::Check(dsopt_model_open_memory(runtime.handle(), bytes.data(), bytes.size(), &options, &handle));
    handle_.reset(handle);
  }
  dsopt_model* handle() const noexcept { return handle_.get(); }

  // DSOPT_MODEL_LAZY: loads for about budget; true when complete. progress, if given, becomes 0 .. 1.
  bool Poll(std::chrono::nanoseconds budget, float* progress = nullptr) {
    return detail::Check(dsopt_model_poll(handle(), detail::Microseconds(budget), progress));
  }
  void Cancel() noexcept { dsopt_model_cancel(handle()); }
  dsopt_model_info Info() const {
    auto info = detail::Sized(dsopt_model_info{});
    detail::Check(dsopt_model_get_info(handle(), &info));
    return info;
  }
  // nullopt if the file has no such key.
  std::optional<std::string> Metadata(const std::string& key) const {
    try {
      return detail::ReadString([&](char* buf, size_t cap, size_t* len) {
        return dsopt_model_get_metadata(handle(), key.c_str(), buf, cap, len);
      });
    } catch (const Error& error) {
      if (error.code() == DSOPT_E_NOT_FOUND) return std::nullopt;
      throw;
    }
  }

  // flags: DSOPT_TOKENIZE_*.
  std::vector<dsopt_token> Tokenize(std::string_view text, uint32_t flags = 0) const {
    std::vector<dsopt_token> tokens(text.size() + 8);  // enough for nearly every tokenizer
    size_t count = 0;
    dsopt_status status;
    while ((status = dsopt_tokenize(handle(), text.data(), text.size(), flags, tokens.data(), tokens.size(),
                                    &count)) == DSOPT_E_BUFFER_TOO_SMALL) {
      tokens.resize(count);
    }
    detail::Check(status);
    tokens.resize(count);
    return tokens;
  }
  // The exact bytes; may be invalid UTF-8. flags: DSOPT_DETOKENIZE_*.
  std::string Detokenize(std::span<const dsopt_token> tokens, uint32_t flags = 0) const {
    return detail::ReadString([&](char* buf, size_t cap, size_t* len) {
      return dsopt_detokenize(handle(), tokens.data(), tokens.size(), flags, buf, cap, len);
    });
  }
  std::string FormatChat(std::span<const Message> messages, bool add_prompt = true) const {
    std::vector<dsopt_message> list;
    for (const Message& m : messages) list.push_back({m.role.c_str(), m.content.data(), m.content.size()});
    return detail::ReadString([&](char* buf, size_t cap, size_t* len) {
      const uint32_t flags = add_prompt ? DSOPT_CHAT_ADD_PROMPT : 0;
      return dsopt_chat_format(handle(), list.data(), list.size(), flags, buf, cap, len);
    });
  }

 private:
  struct Release { void operator()(dsopt_model* handle) const { dsopt_model_release(handle); } };
  std::unique_ptr<dsopt_model, Release> handle_;
};

// ---- stream -------------------------------------------------------------------------------------

struct GenerateOptions {
  uint32_t max_tokens = 0;
  uint32_t flags = 0;  // DSOPT_GENERATE_*
  int32_t priority = 0;
  std::optional<dsopt_sampling> sampling = {};  // nullopt: the model file's defaults
  std::vector<std::string> stop = {};
  std::vector<dsopt_token> stop_tokens = {};
  std::vector<dsopt_logit_bias> bias = {};
  bool logprobs = false;
  uint32_t top_logprobs = 0;
  // Runs inside Session::Poll or Wait; false cancels. An exception cancels too, and Poll or Wait throws it on.
  // Empty: collect with Read or Pieces.
  std::function<bool(const dsopt_event&)> on_event = {};
};

class Stream {
 public:
  class PieceRange;

  Stream(Stream&&) noexcept = default;
  Stream& operator=(Stream&&) noexcept = default;
  dsopt_stream* handle() const noexcept { return handle_.get(); }

  void Append(std::string_view text, uint32_t flags = 0) {
    detail::Check(dsopt_stream_append_text(handle(), text.data(), text.size(), flags));
  }
  void Append(std::span<const dsopt_token> tokens) {
    detail::Check(dsopt_stream_append_tokens(handle(), tokens.data(), tokens.size()));
  }

  void Generate(const GenerateOptions& options = {}) {
    auto callback = std::make_unique<Callback>(Callback{options.on_event, pending_});
    std::vector<const char*> stops;
    for (const std::string& stop : options.stop) stops.push_back(stop.c_str());
    auto sampling = detail::Sized(options.sampling.value_or(dsopt_sampling{}));
    auto raw = detail::Sized(dsopt_generate_options{});
    raw.flags = options.flags;
    raw.max_tokens = options.max_tokens;
    raw.priority = options.priority;
    raw.sampling = options.sampling ? &sampling : nullptr;
    raw.stop = stops.data();
    raw.stop_count = stops.size();
    raw.stop_tokens = options.stop_tokens.data();
    raw.stop_token_count = options.stop_tokens.size();
    raw.bias = options.bias.data();
    raw.bias_count = options.bias.size();
    raw.on_event = options.on_event ? &Callback::Run : nullptr;
    raw.user = callback.get();
    raw.logprobs = options.logprobs ? 1 : 0;
    raw.top_logprobs = options.top_logprobs;
    detail::Check(dsopt_stream_generate(handle(), &raw));
    callback_ = std::move(callback);  // the one before is no longer called
  }
  void Cancel() noexcept { dsopt_stream_cancel(handle()); }

  // The next event, or nullopt if there is none yet. Its pointers are valid until the next Read.
  std::optional<dsopt_event> Read() {
    auto event = detail::Sized(dsopt_event{});
    if (!detail::Check(dsopt_stream_read(handle(), &event))) return std::nullopt;
    return event;
  }
  // The text of the generation as it appears: an input range of std::string_view, each valid until the next.
  // Drives the session while it waits; throws Error if the generation fails. Not together with on_event.
  PieceRange Pieces();
  // Of the last generation whose end was read.
  dsopt_finish finish() const noexcept { return finish_; }

  size_t TokenCount() const noexcept { return dsopt_stream_token_count(handle()); }
  std::vector<dsopt_token> Tokens(size_t first = 0) const {
    std::vector<dsopt_token> tokens(Left(first));
    size_t count = 0;
    detail::Check(dsopt_stream_get_tokens(handle(), first, tokens.data(), tokens.size(), &count));
    tokens.resize(count);
    return tokens;
  }
  std::vector<float> Logprobs(size_t first = 0) const {
    std::vector<float> logprobs(Left(first));
    size_t count = 0;
    detail::Check(dsopt_stream_get_logprobs(handle(), first, logprobs.data(), logprobs.size(), &count));
    logprobs.resize(count);
    return logprobs;
  }
  std::vector<float> Logits() {
    size_t count = 0;
    const dsopt_status status = dsopt_stream_get_logits(handle(), nullptr, 0, &count);
    if (status != DSOPT_E_BUFFER_TOO_SMALL) detail::Check(status);
    std::vector<float> logits(count);
    detail::Check(dsopt_stream_get_logits(handle(), logits.data(), logits.size(), &count));
    return logits;
  }
  void Rewind(size_t count) { detail::Check(dsopt_stream_rewind(handle(), count)); }
  Stream Fork() {
    dsopt_stream* fork = nullptr;
    detail::Check(dsopt_stream_fork(handle(), &fork));
    return Stream(fork, session_, pending_);
  }
  std::vector<std::byte> Save() {
    size_t length = 0;
    const dsopt_status status = dsopt_stream_save(handle(), nullptr, 0, &length);
    if (status != DSOPT_E_BUFFER_TOO_SMALL) detail::Check(status);
    std::vector<std::byte> buffer(length);
    detail::Check(dsopt_stream_save(handle(), buffer.data(), buffer.size(), &length));
    return buffer;
  }
  void Load(std::span<const std::byte> buffer) {
    detail::Check(dsopt_stream_load(handle(), buffer.data(), buffer.size()));
  }

 private:
  friend class Session;
  struct Callback {
    std::function<bool(const dsopt_event&)> function;
    std::shared_ptr<detail::Pending> pending;

    static int DSOPT_CALL Run(void* user, dsopt_stream*, const dsopt_event* event) noexcept {
      auto* self = static_cast<Callback*>(user);
      try {
        return self->function(*event) ? 0 : 1;
      } catch (...) {
        self->pending->exception = std::current_exception();
        return 1;
      }
    }
  };
  struct Release { void operator()(dsopt_stream* handle) const { dsopt_stream_release(handle); } };

  Stream(dsopt_stream* handle, std::shared_ptr<dsopt_session> session, std::shared_ptr<detail::Pending> pending)
      : session_(std::move(session)), pending_(std::move(pending)), handle_(handle) {}
  // Drives the session until there is more text; false at the end of the generation.
  bool NextPiece(std::string_view* piece) {
    for (bool active = true;;) {
      const std::optional<dsopt_event> event = Read();
      if (!event) {
        if (!active) return false;  // nothing generates any more, and that was the last event
        active = Step();
        continue;
      }
      if (event->kind == DSOPT_EVENT_ERROR) {
        finish_ = DSOPT_FINISH_ERROR;
        throw Error(event->status, ErrorText());
      }
      if (event->kind == DSOPT_EVENT_DONE) {
        finish_ = event->finish;
        return false;
      }
      *piece = std::string_view(event->text, event->text_len);
      if (!piece->empty()) return true;
    }
  }
  // One poll; sleeps shortly when a device is at work. Not dsopt_session_wait: that returns at once while
  // another stream of the session has events that nobody reads.
  bool Step() {
    auto result = detail::Sized(dsopt_poll_result{});
    const bool finished = detail::Check(dsopt_session_poll(session_.get(), 2000, &result));
    pending_->Rethrow();
    const uint64_t sleep_us = result.suggested_wait_us < 500 ? result.suggested_wait_us : 500;
    if (!finished && sleep_us > 0) std::this_thread::sleep_for(std::chrono::microseconds(sleep_us));
    return !finished;
  }
  std::string ErrorText() const {
    char text[512] = "";
    dsopt_stream_error(handle(), text, sizeof text, nullptr);
    return text;
  }
  size_t Left(size_t first) const noexcept {
    const size_t count = TokenCount();
    return first < count ? count - first : 0;
  }

  std::shared_ptr<dsopt_session> session_;  // for Pieces
  std::shared_ptr<detail::Pending> pending_;
  std::unique_ptr<Callback> callback_;      // before handle_: released after it
  std::unique_ptr<dsopt_stream, Release> handle_;
  dsopt_finish finish_ = DSOPT_FINISH_NONE;
};

class Stream::PieceRange {
 public:
  struct Sentinel {};
  class Iterator {
   public:
    using value_type = std::string_view;
    using difference_type = std::ptrdiff_t;
    explicit Iterator(Stream* stream) : stream_(stream) { ++*this; }
    std::string_view operator*() const noexcept { return piece_; }
    Iterator& operator++() {
      if (!stream_->NextPiece(&piece_)) stream_ = nullptr;
      return *this;
    }
    void operator++(int) { ++*this; }
    bool operator==(Sentinel) const noexcept { return stream_ == nullptr; }

   private:
    Stream* stream_;
    std::string_view piece_;
  };

  explicit PieceRange(Stream* stream) : stream_(stream) {}
  Iterator begin() { return Iterator(stream_); }
  Sentinel end() const noexcept { return {}; }

 private:
  Stream* stream_;
};

inline Stream::PieceRange Stream::Pieces() { return PieceRange(this); }

// ---- session ------------------------------------------------------------------------------------

struct PollResult : dsopt_poll_result {
  bool finished = false;  // no stream is generating
};

enum class WaitResult { kEvent, kTimeout, kInterrupted };

class Session {
 public:
  explicit Session(const Model& model, dsopt_session_options options = {}) {
    options = detail::Sized(options);
    dsopt_session* handle = nullptr;
    detail::Check(dsopt_session_create(model.handle(), &options, &handle));
    handle_ = std::shared_ptr<dsopt_session>(handle, dsopt_session_release);
  }
  dsopt_session* handle() const noexcept { return handle_.get(); }

  // What a session of these options would take.
  static dsopt_session_memory Plan(const Model& model, dsopt_session_options options = {}) {
    options = detail::Sized(options);
    auto memory = detail::Sized(dsopt_session_memory{});
    detail::Check(dsopt_session_plan(model.handle(), &options, &memory));
    return memory;
  }

  Stream NewStream() {
    dsopt_stream* stream = nullptr;
    detail::Check(dsopt_stream_create(handle(), &stream));
    return Stream(stream, handle_, pending_);
  }
  PollResult Poll(std::chrono::nanoseconds budget) {
    PollResult result{};
    static_cast<dsopt_poll_result&>(result) = detail::Sized(dsopt_poll_result{});
    result.finished = detail::Check(dsopt_session_poll(handle(), detail::Microseconds(budget), &result));
    pending_->Rethrow();
    return result;
  }
  // kEvent also when nothing is generating.
  WaitResult Wait(std::chrono::nanoseconds timeout) {
    const dsopt_status status = dsopt_session_wait(handle(), detail::Microseconds(timeout));
    pending_->Rethrow();
    if (status == DSOPT_E_TIMEOUT) return WaitResult::kTimeout;
    if (status == DSOPT_E_CANCELLED) return WaitResult::kInterrupted;
    detail::Check(status);
    return WaitResult::kEvent;
  }
  void Interrupt() noexcept { dsopt_session_interrupt(handle()); }
  void Trim() { detail::Check(dsopt_session_trim(handle())); }
  void SetCacheLimit(uint64_t bytes) { detail::Check(dsopt_session_set_cache_limit(handle(), bytes)); }
  dsopt_session_stats Stats() const {
    auto stats = detail::Sized(dsopt_session_stats{});
    detail::Check(dsopt_session_get_stats(handle(), &stats));
    return stats;
  }

 private:
  std::shared_ptr<detail::Pending> pending_ = std::make_shared<detail::Pending>();
  std::shared_ptr<dsopt_session> handle_;
};

}  // namespace v1
}  // namespace dsopt
#endif  // DSOPT_DSOPT_HPP_
