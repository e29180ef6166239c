// native_calls.h - part of native.h: raw functions that stand in for those of dsopt.h of the same name without
// "dsopt_". UTF8 arguments are NUL-terminated UTF-8 or null.
#ifndef DSOPT_BINDINGS_NATIVE_CALLS_H_
#define DSOPT_BINDINGS_NATIVE_CALLS_H_

#include "host_memory.h"

// ---- runtime and model --------------------------------------------------------------------------

inline dsopt_runtime* runtime_create(uint32_t cpu_threads, int log_level, LogSink* log, HostMemory* memory,
                                     bool scan_backends, const char* backend_path, const char* cpu_variant) {
  auto options = Sized<dsopt_runtime_options>();
  options.abi_level = DSOPT_ABI_LEVEL;
  options.allocator = memory != nullptr ? memory->allocator() : nullptr;
  options.log = log != nullptr ? &LogSink::Trampoline : nullptr;
  options.log_user = log != nullptr ? log->user() : nullptr;
  options.log_level = static_cast<dsopt_log_level>(log_level);
  options.cpu_threads = cpu_threads;
  options.backend_path = backend_path;
  options.disable_backend_scan = scan_backends ? 0 : 1;
  options.cpu_variant = cpu_variant;
  return NewHandle<dsopt_runtime>([&](dsopt_runtime** out) { return dsopt_runtime_create(&options, out); });
}
inline dsopt_length runtime_report(const dsopt_runtime* runtime, char* buf, size_t cap) {
  size_t length = 0;
  return Length(dsopt_runtime_report(runtime, buf, cap, &length), length);
}

#ifndef SWIG
inline dsopt_model_options ModelOptions(uint32_t flags, const char* device, uint64_t max_device_bytes,
                                        ProgressSink* progress) {
  auto options = Sized<dsopt_model_options>();
  options.flags = flags;
  options.device = device;
  options.max_device_bytes = max_device_bytes;
  options.progress = progress != nullptr ? &ProgressSink::Trampoline : nullptr;
  options.progress_user = progress != nullptr ? progress->user() : nullptr;
  return options;
}
#endif

// flags: DSOPT_MODEL_*. progress may be null; a lazy model uses it until it has loaded.
inline dsopt_model* model_open(dsopt_runtime* runtime, const char* path, uint32_t flags, const char* device,
                               uint64_t max_device_bytes, ProgressSink* progress) {
  const dsopt_model_options options = ModelOptions(flags, device, max_device_bytes, progress);
  return NewHandle<dsopt_model>(
      [&](dsopt_model** out) { return dsopt_model_open(runtime, path, &options, out); });
}
inline dsopt_model* model_open_io(dsopt_runtime* runtime, IoSource* source, uint64_t size, uint32_t flags,
                                  const char* device, uint64_t max_device_bytes, ProgressSink* progress) {
  const dsopt_model_options options = ModelOptions(flags, device, max_device_bytes, progress);
  auto io = Sized<dsopt_io>();
  io.user = source != nullptr ? source->user() : nullptr;
  io.size = size;
  io.read_at = &IoSource::ReadAt;
  io.close = &IoSource::Close;
  return NewHandle<dsopt_model>([&](dsopt_model** out) {
    return dsopt_model_open_io(runtime, source != nullptr ? &io : nullptr, &options, out);
  });
}
inline dsopt_length model_get_metadata(const dsopt_model* model, const char* key, char* buf, size_t cap) {
  size_t length = 0;
  return Length(dsopt_model_get_metadata(model, key, buf, cap, &length), length);
}

// ---- text ---------------------------------------------------------------------------------------

inline dsopt_length tokenize(const dsopt_model* model, const void* bytes, size_t size, uint32_t flags,
                             dsopt_token* tokens, size_t cap) {
  size_t count = 0;
  return Length(dsopt_tokenize(model, static_cast<const char*>(bytes), size, flags, tokens, cap, &count),
                count);
}
inline dsopt_length detokenize(const dsopt_model* model, const dsopt_token* tokens, size_t count,
                               uint32_t flags, char* buf, size_t cap) {
  size_t length = 0;
  return Length(dsopt_detokenize(model, tokens, count, flags, buf, cap, &length), length);
}
inline dsopt_length chat_format(const dsopt_model* model, const ChatMessages* messages, uint32_t flags,
                                char* buf, size_t cap) {
  size_t length = 0;
  std::vector<dsopt_message> list;
  const dsopt_status status = NoThrow([&] {
    for (const auto& m : messages->messages())
      list.push_back({m.role.c_str(), m.content.data(), m.content.size()});
  });
  if (status < 0) return status;
  return Length(dsopt_chat_format(model, list.data(), list.size(), flags, buf, cap, &length), length);
}

// ---- session and stream -------------------------------------------------------------------------

inline dsopt_session* session_create(dsopt_model* model, const dsopt_session_options* options) {
  return NewHandle<dsopt_session>(
      [&](dsopt_session** out) { return dsopt_session_create(model, options, out); });
}
inline dsopt_stream* stream_create(dsopt_session* session) {
  return NewHandle<dsopt_stream>([&](dsopt_stream** out) { return dsopt_stream_create(session, out); });
}
inline dsopt_stream* stream_fork(dsopt_stream* stream) {
  return NewHandle<dsopt_stream>([&](dsopt_stream** out) { return dsopt_stream_fork(stream, out); });
}
inline void stream_release(dsopt_stream* stream) {
  const std::lock_guard<std::recursive_mutex> lock(EventMutex());
  dsopt_stream_release(stream);
}
inline dsopt_status session_trim(dsopt_session* session) {
  const std::lock_guard<std::recursive_mutex> lock(EventMutex());
  return dsopt_session_trim(session);
}
inline dsopt_status stream_append_text(dsopt_stream* stream, const void* bytes, size_t size, uint32_t flags) {
  return dsopt_stream_append_text(stream, static_cast<const char*>(bytes), size, flags);
}
// sink null: collect with stream_read. It must live until the generation has ended.
inline dsopt_status stream_generate(dsopt_stream* stream, const GenerateRequest* request, EventSink* sink) {
  std::vector<const char*> pointers;
  dsopt_generate_options options = {};
  const dsopt_status status = NoThrow([&] { options = request->Options(&pointers); });
  if (status < 0) return status;
  options.on_event = sink != nullptr ? &EventSink::Trampoline : nullptr;
  options.user = sink != nullptr ? sink->user() : nullptr;
  const std::lock_guard<std::recursive_mutex> lock(EventMutex());
  return dsopt_stream_generate(stream, &options);
}
// true: event holds the next one. false (DSOPT_PENDING): there is none now.
inline dsopt_status stream_read(dsopt_stream* stream, NativeEvent* event) {
  auto raw = Sized<dsopt_event>();
  const std::lock_guard<std::recursive_mutex> lock(EventMutex());
  const dsopt_status status = dsopt_stream_read(stream, &raw);
  if (status != DSOPT_OK) return status;
  return NoThrow([&] { event->Assign(raw); });
}
// Status of the last generation as a number (not an exception), with its message in buf, cut to cap.
inline int stream_error(const dsopt_stream* stream, char* buf, size_t cap) {
  return dsopt_stream_error(stream, buf, cap, nullptr);
}
inline dsopt_length stream_get_tokens(const dsopt_stream* stream, size_t first, dsopt_token* tokens,
                                      size_t cap) {
  size_t count = 0;
  return Length(dsopt_stream_get_tokens(stream, first, tokens, cap, &count), count);
}
inline dsopt_length stream_get_logprobs(const dsopt_stream* stream, size_t first, float* logprobs, size_t cap) {
  size_t count = 0;
  return Length(dsopt_stream_get_logprobs(stream, first, logprobs, cap, &count), count);
}
inline dsopt_length stream_get_logits(dsopt_stream* stream, float* logits, size_t cap) {
  size_t count = 0;
  return Length(dsopt_stream_get_logits(stream, logits, cap, &count), count);
}
inline dsopt_length stream_save(dsopt_stream* stream, void* buf, size_t cap) {
  size_t length = 0;
  return Length(dsopt_stream_save(stream, buf, cap, &length), length);
}
inline dsopt_status stream_load(dsopt_stream* stream, const void* bytes, size_t size) {
  return dsopt_stream_load(stream, bytes, size);
}

#endif  // DSOPT_BINDINGS_NATIVE_CALLS_H_
