#include "tools/client.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "tools/output.h"

namespace dsopt::tools {
namespace {

const char* OrNull(const std::string& text) { return text.empty() ? nullptr : text.c_str(); }

struct CacheType {
  const char* name;
  dsopt_dtype dtype;
};
constexpr CacheType kCacheTypes[] = {
    {"bf16", DSOPT_BF16}, {"fp8", DSOPT_F8_E4M3}, {"int8", DSOPT_I8}, {"int4", DSOPT_I4}, {"f32", DSOPT_F32}};

int DSOPT_CALL OnProgress(void*, float progress) {
  std::fprintf(stderr, "\rloading %3.0f %%%s", static_cast<double>(progress) * 100,
               progress >= 1 ? "\r\033[K" : "");
  return 0;
}

dsopt_model_options ModelOptions(const EngineOptions& engine, uint32_t flags) {
  dsopt_model_options options = {};
  options.struct_size = sizeof options;
  options.flags = flags | (engine.verify ? DSOPT_MODEL_VERIFY : 0u);
  options.device = OrNull(engine.device);
  if (ShowProgress() && (flags & DSOPT_MODEL_METADATA_ONLY) == 0) options.progress = OnProgress;
  return options;
}

dsopt_session_options SessionOptions(const EngineOptions& engine, uint32_t max_streams, uint32_t max_tokens) {
  dsopt_session_options options = {};
  options.struct_size = sizeof options;
  options.max_streams = max_streams;
  options.max_tokens = engine.context != 0 ? engine.context : max_tokens;
  options.kv_dtype = engine.CacheDtype();
  options.precision = engine.precision == "reference" ? DSOPT_PRECISION_REFERENCE : DSOPT_PRECISION_FAST;
  options.max_cache_bytes = engine.max_cache_bytes;
  options.max_device_bytes = engine.max_device_bytes;
  options.max_host_cache_bytes = engine.max_host_cache_bytes;
  return options;
}

}  // namespace

dsopt_dtype EngineOptions::CacheDtype() const {
  for (const CacheType& type : kCacheTypes) {
    if (kv_dtype == type.name) return type.dtype;
  }
  return precision == "reference" ? DSOPT_F32 : DSOPT_BF16;
}

const char* EngineOptions::CacheName() const {
  for (const CacheType& type : kCacheTypes) {
    if (CacheDtype() == type.dtype) return type.name;
  }
  return "";
}

void EngineOptions::DeclareCache(Options* options) {
  std::vector<std::string> names;
  for (const CacheType& type : kCacheTypes) names.push_back(type.name);
  options->Choice("kv-dtype", names, &kv_dtype,
                  "type of the cache; default: bf16, or f32 with reference precision");
}

void EngineOptions::DeclareMemory(Options* options) {
  options->Value("max-cache-bytes", "N", &max_cache_bytes, "refuse a cache of more device memory");
  options->Value("max-device-bytes", "N", &max_device_bytes, "refuse weights and session of more device memory");
  options->Value("max-host-cache-bytes", "N", &max_host_cache_bytes,
                 "instead, keep what has no room on the GPU in so much pinned host memory: slower");
}

Status FromApi(dsopt_status status) {
  if (status >= 0) return {};
  return Status(static_cast<dsopt_code>(status), dsopt_last_error());
}

void EngineOptions::DeclareRuntime(Options* options) {
  options->Value("threads", "N", &threads, "compute threads; 0: all cores (default)");
  options->Choice("cpu-variant", {"scalar", "avx2", "avx2_vnni", "avx512", "avx512_vnni", "avx512_bf16"},
                  &cpu_variant, "use at most these CPU instructions");
  options->Value("plugins", "DIR", &plugins, "directory of backend plugins; default: that of libdsopt.so");
}

void EngineOptions::Declare(Options* options) {
  options->Value("device", "ID", &device, "cpu, cuda:0, ...; default: the best one with room");
  options->Choice("precision", {"fast", "reference"}, &precision, "arithmetic; reference computes in f32");
  DeclareCache(options);
  options->Value("context", "N", &context, "capacity of the cache in tokens");
  DeclareMemory(options);
  options->Flag("verify", &verify, "also check the checksums of the decoded weights");
  DeclareRuntime(options);
}

Result<RuntimePtr> OpenRuntime(const EngineOptions& engine) {
  dsopt_runtime_options options = {};
  options.struct_size = sizeof options;
  options.abi_level = DSOPT_ABI_LEVEL;
  options.cpu_threads = engine.threads;
  options.cpu_variant = OrNull(engine.cpu_variant);
  options.backend_path = OrNull(engine.plugins);
  dsopt_runtime* runtime = nullptr;
  RETURN_IF_ERROR(FromApi(dsopt_runtime_create(&options, &runtime)));
  return RuntimePtr(runtime);
}

Result<ModelPtr> OpenModel(dsopt_runtime* runtime, const std::string& path, const EngineOptions& engine,
                           uint32_t flags) {
  const dsopt_model_options options = ModelOptions(engine, flags);
  dsopt_model* model = nullptr;
  RETURN_IF_ERROR(FromApi(dsopt_model_open(runtime, path.c_str(), &options, &model)));
  return ModelPtr(model);
}

Result<ModelPtr> OpenModelMemory(dsopt_runtime* runtime, std::span<const uint8_t> bytes,
                                 const EngineOptions& engine) {
  const dsopt_model_options options = ModelOptions(engine, 0);
  dsopt_model* model = nullptr;
  RETURN_IF_ERROR(FromApi(dsopt_model_open_memory(runtime, bytes.data(), bytes.size(), &options, &model)));
  return ModelPtr(model);
}

Result<dsopt_model_info> ModelInfo(const dsopt_model* model) {
  dsopt_model_info info = {};
  info.struct_size = sizeof info;
  RETURN_IF_ERROR(FromApi(dsopt_model_get_info(model, &info)));
  return info;
}

Result<dsopt_session_memory> PlanSession(const dsopt_model* model, const EngineOptions& engine,
                                         uint32_t max_streams, uint32_t max_tokens) {
  const dsopt_session_options options = SessionOptions(engine, max_streams, max_tokens);
  dsopt_session_memory memory = {};
  memory.struct_size = sizeof memory;
  RETURN_IF_ERROR(FromApi(dsopt_session_plan(model, &options, &memory)));
  return memory;
}

Result<SessionPtr> OpenSession(dsopt_model* model, const EngineOptions& engine, uint32_t max_streams,
                               uint32_t max_tokens) {
  const dsopt_session_options options = SessionOptions(engine, max_streams, max_tokens);
  dsopt_session* session = nullptr;
  RETURN_IF_ERROR(FromApi(dsopt_session_create(model, &options, &session)));
  return SessionPtr(session);
}

Result<StreamPtr> OpenStream(dsopt_session* session) {
  dsopt_stream* stream = nullptr;
  RETURN_IF_ERROR(FromApi(dsopt_stream_create(session, &stream)));
  return StreamPtr(stream);
}

Status Finish(dsopt_session* session, dsopt_stream* stream) {
  for (;;) {
    const dsopt_status status = dsopt_session_poll(session, 1000000, nullptr);
    RETURN_IF_ERROR(FromApi(status));
    if (status != DSOPT_PENDING) break;
  }
  std::string message(512, '\0');
  size_t length = 0;
  const dsopt_status failure = dsopt_stream_error(stream, message.data(), message.size(), &length);
  if (failure >= 0) return {};
  message.resize(std::min(length, message.size() - 1));
  return Status(static_cast<dsopt_code>(failure), message);
}

Result<std::vector<dsopt_token>> Tokenize(const dsopt_model* model, const std::string& text, uint32_t flags) {
  std::vector<dsopt_token> tokens(text.size() + 8);
  for (;;) {
    size_t count = 0;
    const dsopt_status status =
        dsopt_tokenize(model, text.data(), text.size(), flags, tokens.data(), tokens.size(), &count);
    if (status == DSOPT_E_BUFFER_TOO_SMALL && count > tokens.size()) {
      tokens.resize(count);
      continue;
    }
    RETURN_IF_ERROR(FromApi(status));
    tokens.resize(count);
    return tokens;
  }
}

Result<std::string> Detokenize(const dsopt_model* model, std::span<const dsopt_token> tokens, uint32_t flags) {
  std::string text(tokens.size() * 16 + 16, '\0');
  for (;;) {
    size_t length = 0;
    const dsopt_status status =
        dsopt_detokenize(model, tokens.data(), tokens.size(), flags, text.data(), text.size(), &length);
    if (status == DSOPT_E_BUFFER_TOO_SMALL && length >= text.size()) {
      text.resize(length + 1);
      continue;
    }
    RETURN_IF_ERROR(FromApi(status));
    text.resize(length);
    return text;
  }
}

Result<std::string> Report(const dsopt_runtime* runtime) {
  std::string text(4096, '\0');
  for (;;) {
    size_t length = 0;
    const dsopt_status status = dsopt_runtime_report(runtime, text.data(), text.size(), &length);
    if (status == DSOPT_E_BUFFER_TOO_SMALL && length >= text.size()) {
      text.resize(length + 1);
      continue;
    }
    RETURN_IF_ERROR(FromApi(status));
    text.resize(length);
    return text;
  }
}

Result<std::string> ReadText(const std::string& path) {
  FILE* file = path == "-" ? stdin : std::fopen(path.c_str(), "rb");
  if (file == nullptr) return Error(DSOPT_E_IO, "%s: %s", path.c_str(), std::strerror(errno));
  std::string text;
  char part[65536];
  size_t count = 0;
  while ((count = std::fread(part, 1, sizeof part, file)) > 0) text.append(part, count);
  const bool failed = std::ferror(file) != 0;
  const int error = errno;
  if (file != stdin) std::fclose(file);
  if (failed) return Error(DSOPT_E_IO, "%s: %s", path.c_str(), std::strerror(error));
  return text;
}

void PromptOptions::Declare(Options* options) {
  options->Value("prompt,p", "TEXT", &text, "the text; - reads standard input");
  options->Value("file,f", "PATH", &file, "read the text from a file");
  options->Check([this]() {
    if (text.has_value() == file.has_value()) {
      return Status(DSOPT_E_INVALID_ARGUMENT, text.has_value() ? "--prompt and --file exclude each other"
                                                               : "one of --prompt and --file is needed");
    }
    return Status();
  });
}

Result<std::string> PromptOptions::Read() const {
  if (file.has_value()) return ReadText(*file);
  if (*text == "-") return ReadText("-");
  return *text;
}

}  // namespace dsopt::tools
