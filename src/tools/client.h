// client.h - what the subcommands share of dsopt.h: handles that release themselves, statuses as Status, and the
// options that choose device, precision and memory.
#ifndef DSOPT_TOOLS_CLIENT_H_
#define DSOPT_TOOLS_CLIENT_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "dsopt/dsopt.h"
#include "tools/options.h"

namespace dsopt::tools {

struct Release {
  void operator()(dsopt_runtime* handle) const { dsopt_runtime_release(handle); }
  void operator()(dsopt_model* handle) const { dsopt_model_release(handle); }
  void operator()(dsopt_session* handle) const { dsopt_session_release(handle); }
  void operator()(dsopt_stream* handle) const { dsopt_stream_release(handle); }
};
using RuntimePtr = std::unique_ptr<dsopt_runtime, Release>;
using ModelPtr = std::unique_ptr<dsopt_model, Release>;
using SessionPtr = std::unique_ptr<dsopt_session, Release>;
using StreamPtr = std::unique_ptr<dsopt_stream, Release>;

// Of the call just made on this thread; DSOPT_PENDING counts as ok.
Status FromApi(dsopt_status status);

// Options of every command that runs a model.
struct EngineOptions {
  std::string device;                 // empty: the best with room
  std::string precision = "fast";
  std::string kv_dtype;               // empty: by precision
  std::string cpu_variant;            // empty: best
  std::string plugins;                // directory; empty: that of libdsopt.so
  uint32_t threads = 0;               // 0: all cores
  uint32_t context = 0;               // KV capacity in tokens; 0: the command's own choice
  uint64_t max_cache_bytes = 0;       // on the device; 0: no cap
  uint64_t max_device_bytes = 0;      // of weights and session; 0: no cap
  uint64_t max_host_cache_bytes = 0;  // 0: no part of the cache may lie on the host
  bool verify = false;

  void DeclareRuntime(Options* options);  // threads, cpu-variant, plugins
  void DeclareCache(Options* options);    // kv-dtype
  void DeclareMemory(Options* options);   // the caps
  void Declare(Options* options);         // all
  dsopt_dtype CacheDtype() const;         // never DEFAULT
  const char* CacheName() const;          // of that, as --kv-dtype takes it
};

Result<RuntimePtr> OpenRuntime(const EngineOptions& engine);
// path may be a file of any size; flags: DSOPT_MODEL_*. Shows progress on a terminal.
Result<ModelPtr> OpenModel(dsopt_runtime* runtime, const std::string& path, const EngineOptions& engine,
                           uint32_t flags = 0);
Result<ModelPtr> OpenModelMemory(dsopt_runtime* runtime, std::span<const uint8_t> bytes,
                                 const EngineOptions& engine);
Result<dsopt_model_info> ModelInfo(const dsopt_model* model);
// max_tokens: KV capacity when the options name none.
Result<SessionPtr> OpenSession(dsopt_model* model, const EngineOptions& engine, uint32_t max_streams,
                               uint32_t max_tokens);
// What that session would take.
Result<dsopt_session_memory> PlanSession(const dsopt_model* model, const EngineOptions& engine, uint32_t max_streams,
                                         uint32_t max_tokens);
Result<StreamPtr> OpenStream(dsopt_session* session);
// Polls until nothing of the session generates; then the status of `stream`.
Status Finish(dsopt_session* session, dsopt_stream* stream);
Result<std::vector<dsopt_token>> Tokenize(const dsopt_model* model, const std::string& text, uint32_t flags);
Result<std::string> Detokenize(const dsopt_model* model, std::span<const dsopt_token> tokens, uint32_t flags);
Result<std::string> Report(const dsopt_runtime* runtime);

// Whole file; "-" is standard input. what names it in the error.
Result<std::string> ReadText(const std::string& path);

// The prompt options -p TEXT ("-": standard input) and --file PATH.
struct PromptOptions {
  std::optional<std::string> text, file;
  void Declare(Options* options);  // one of both is required
  Result<std::string> Read() const;
};

}  // namespace dsopt::tools
#endif  // DSOPT_TOOLS_CLIENT_H_
