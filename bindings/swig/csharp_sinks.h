// csharp_sinks.h - the sinks of sink.h for C#: each calls a static function of Dsopt.dll with the key of its receiver.
// SWIG's directors cannot be used: Unity's IL2CPP makes only static methods callable from native code. The functions
// catch every managed exception.
#ifndef DSOPT_BINDINGS_CSHARP_SINKS_H_
#define DSOPT_BINDINGS_CSHARP_SINKS_H_

#include "native.h"

#ifndef SWIG

class FunctionEventSink final : public EventSink {
 public:
  using Function = int32_t(DSOPT_CALL*)(void* key, const NativeEvent* event);  // 0: go on
  FunctionEventSink(void* function, void* key) : function_(reinterpret_cast<Function>(function)), key_(key) {}
  bool on_event() override { return function_(key_, last_event()) != 0; }

 private:
  Function function_;
  void* key_;
};

class FunctionLogSink final : public LogSink {
 public:
  using Function = void(DSOPT_CALL*)(void* key, int32_t level, const char* component, const char* message);
  FunctionLogSink(void* function, void* key) : function_(reinterpret_cast<Function>(function)), key_(key) {}
  void on_log(int level, const char* component, const char* message) override {
    function_(key_, level, component, message);
  }

 private:
  Function function_;
  void* key_;
};

class FunctionProgressSink final : public ProgressSink {
 public:
  using Function = int32_t(DSOPT_CALL*)(void* key, float progress);  // 0: go on
  FunctionProgressSink(void* function, void* key) : function_(reinterpret_cast<Function>(function)), key_(key) {}
  bool on_progress(float progress) override { return function_(key_, progress) != 0; }

 private:
  Function function_;
  void* key_;
};

class FunctionIoSource final : public IoSource {
 public:
  // 0: all length bytes went to source->fill().
  using Read = int32_t(DSOPT_CALL*)(void* key, IoSource* source, uint64_t offset, uint64_t length);
  using Close = void(DSOPT_CALL*)(void* key);
  FunctionIoSource(void* read, void* close, void* key)
      : read_(reinterpret_cast<Read>(read)), close_(reinterpret_cast<Close>(close)), key_(key) {}
  bool on_read(uint64_t offset, uint64_t length) override { return read_(key_, this, offset, length) == 0; }
  void on_close() override { close_(key_); }

 private:
  Read read_;
  Close close_;
  void* key_;
};

template <typename T, typename... Args>
Sink* NewSink(Args... args) noexcept {
  try {
    return new T(args...);
  } catch (...) {
    return nullptr;
  }
}

#endif  // SWIG

// What C# holds is a Sink*, or null without memory; it goes back through retire_sink.
inline Sink* new_event_sink(void* function, void* key) { return NewSink<FunctionEventSink>(function, key); }
inline Sink* new_log_sink(void* function, void* key) { return NewSink<FunctionLogSink>(function, key); }
inline Sink* new_progress_sink(void* function, void* key) { return NewSink<FunctionProgressSink>(function, key); }
inline Sink* new_io_sink(void* read, void* close, void* key) { return NewSink<FunctionIoSource>(read, close, key); }
inline void retire_sink(Sink* dying) { dying->retire(); }
inline bool fill_io(void* source, const void* bytes, size_t size) {
  return static_cast<IoSource*>(source)->fill(bytes, size);
}

// Handles are released as plain pointers: the SafeHandle that held them is closing.
inline void release_runtime(void* dying) { dsopt_runtime_release(static_cast<dsopt_runtime*>(dying)); }
inline void release_model(void* dying) { dsopt_model_release(static_cast<dsopt_model*>(dying)); }
inline void release_session(void* dying) { dsopt_session_release(static_cast<dsopt_session*>(dying)); }
inline void release_stream(void* dying) { stream_release(static_cast<dsopt_stream*>(dying)); }

// The bytes at pinned must stay where they are until the model has loaded or was released.
inline dsopt_model* model_open_memory(dsopt_runtime* runtime, void* pinned, size_t size, uint32_t flags,
                                      const char* device, uint64_t max_device_bytes, ProgressSink* progress) {
  const dsopt_model_options options = ModelOptions(flags, device, max_device_bytes, progress);
  return NewHandle<dsopt_model>(
      [&](dsopt_model** out) { return dsopt_model_open_memory(runtime, pinned, size, &options, out); });
}

#endif  // DSOPT_BINDINGS_CSHARP_SINKS_H_
