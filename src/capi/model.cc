// model.cc - dsopt_model_*.
#include <cstring>

#include "capi/guard.h"
#include "capi/handles.h"
#include "capi/options.h"

namespace dsopt {
namespace {

constexpr uint32_t kModelFlags =
    DSOPT_MODEL_VERIFY | DSOPT_MODEL_METADATA_ONLY | DSOPT_MODEL_LAZY | DSOPT_MODEL_MMAP;

Result<OpenOptions> ReadModelOptions(const dsopt_model_options* in, uint32_t* flags) {
  dsopt_model_options o;
  RETURN_IF_ERROR(ReadStruct(in, "options", &o));
  RETURN_IF_ERROR(CheckFlags("options.flags", o.flags, kModelFlags));
  *flags = o.flags;
  OpenOptions options;
  options.device = o.device != nullptr ? o.device : "";
  options.max_device_bytes = o.max_device_bytes;
  options.verify = (o.flags & DSOPT_MODEL_VERIFY) != 0;
  options.metadata_only = (o.flags & DSOPT_MODEL_METADATA_ONLY) != 0;
  options.lazy = (o.flags & DSOPT_MODEL_LAZY) != 0;
  options.progress = o.progress;
  options.progress_user = o.progress_user;
  return options;
}

Status OpenModel(dsopt_runtime* runtime, std::unique_ptr<Source> source, const OpenOptions& options,
                 dsopt_model** out) {
  auto handle = std::make_unique<dsopt_model>();
  ASSIGN_OR_RETURN(handle->impl, LoadedModel::Open(runtime->impl, std::move(source), options));
  *out = handle.release();
  return Status();
}

void CopyName(const std::string& from, char* to, size_t cap) {
  const size_t length = std::min(from.size(), cap - 1);
  std::memcpy(to, from.data(), length);
  to[length] = '\0';
}

dsopt_model_info InfoOf(const LoadedModel& loaded) {
  const Model& model = loaded.model();
  const ConfigSpec& config = model.config();
  const TokenizerSpec& tokenizer = model.spec().tokenizer;
  dsopt_model_info info = {};
  info.struct_size = sizeof info;
  info.vocab_size = config.vocab;
  info.context_length = config.context;
  info.layer_count = static_cast<uint32_t>(config.layers.size());
  info.parameter_count = model.parameter_count();
  info.weight_bytes = model.weight_bytes();
  info.kv_bytes_per_token = model.kv_bytes_per_token(DSOPT_DTYPE_DEFAULT);
  info.bos = tokenizer.bos;
  info.eos = tokenizer.eos >= 0 || tokenizer.end_tokens.empty() ? tokenizer.eos : tokenizer.end_tokens.front();
  info.pad = tokenizer.pad;
  info.loaded = model.loaded() ? 1 : 0;
  CopyName(config.architecture, info.architecture, sizeof info.architecture);
  if (const std::shared_ptr<Device> device = model.device(); device != nullptr) {
    CopyName(device->info().id, info.device, sizeof info.device);
  }
  return info;
}

// The serial flag of a model while it loads.
class ModelCall {
 public:
  explicit ModelCall(std::shared_ptr<LoadedModel> model)
      : model_(std::move(model)), entered_(!model_->busy().exchange(true, std::memory_order_acquire)) {}
  ~ModelCall() {
    if (entered_) model_->busy().store(false, std::memory_order_release);
  }
  ModelCall(const ModelCall&) = delete;
  ModelCall& operator=(const ModelCall&) = delete;
  Status status() const {
    return entered_ ? Status() : Error(DSOPT_E_BUSY, "model: another dsopt_model_poll is running on it");
  }
  LoadedModel& model() const { return *model_; }

 private:
  std::shared_ptr<LoadedModel> model_;
  bool entered_;
};

}  // namespace
}  // namespace dsopt

using namespace dsopt;  // NOLINT: the functions below are the C face of this namespace

dsopt_status dsopt_model_open(dsopt_runtime* runtime, const char* path, const dsopt_model_options* options,
                              dsopt_model** out) {
  return Guard([&]() -> Reply {
    RETURN_IF_NULL(runtime);
    RETURN_IF_NULL(path);
    RETURN_IF_NULL(out);
    uint32_t flags = 0;
    ASSIGN_OR_RETURN(const OpenOptions open, ReadModelOptions(options, &flags));
    ASSIGN_OR_RETURN(std::unique_ptr<Source> source, OpenFileSource(path, (flags & DSOPT_MODEL_MMAP) != 0));
    return OpenModel(runtime, std::move(source), open, out);
  });
}

dsopt_status dsopt_model_open_memory(dsopt_runtime* runtime, const void* bytes, size_t size,
                                     const dsopt_model_options* options, dsopt_model** out) {
  return Guard([&]() -> Reply {
    RETURN_IF_NULL(runtime);
    RETURN_IF_NULL(bytes);
    RETURN_IF_NULL(out);
    uint32_t flags = 0;
    ASSIGN_OR_RETURN(const OpenOptions open, ReadModelOptions(options, &flags));
    return OpenModel(runtime, MakeMemorySource({static_cast<const uint8_t*>(bytes), size}), open, out);
  });
}

dsopt_status dsopt_model_open_io(dsopt_runtime* runtime, const dsopt_io* io, const dsopt_model_options* options,
                                 dsopt_model** out) {
  return Guard([&]() -> Reply {
    RETURN_IF_NULL(io);
    dsopt_io copy;
    RETURN_IF_ERROR(ReadStruct(io, "io", &copy));
    if (copy.read_at == nullptr) return NullArgument("io.read_at");
    ASSIGN_OR_RETURN(std::unique_ptr<Source> source, MakeIoSource(copy));  // from here on closed in every case
    RETURN_IF_NULL(runtime);
    RETURN_IF_NULL(out);
    uint32_t flags = 0;
    ASSIGN_OR_RETURN(const OpenOptions open, ReadModelOptions(options, &flags));
    return OpenModel(runtime, std::move(source), open, out);
  });
}

dsopt_status dsopt_model_poll(dsopt_model* model, uint64_t budget_us, float* progress) {
  return Guard([&]() -> Reply {
    RETURN_IF_NULL(model);
    ModelCall call(model->impl);
    RETURN_IF_ERROR(call.status());
    bool done = false;
    RETURN_IF_ERROR(call.model().Poll(budget_us, &done, progress));
    return done ? DSOPT_OK : DSOPT_PENDING;
  });
}

void dsopt_model_cancel(dsopt_model* model) {
  if (model != nullptr) model->impl->Cancel();
}

void dsopt_model_release(dsopt_model* model) { delete model; }

dsopt_status dsopt_model_get_info(const dsopt_model* model, dsopt_model_info* info) {
  return Guard([&]() -> Reply {
    RETURN_IF_NULL(model);
    RETURN_IF_NULL(info);
    RETURN_IF_ERROR(CheckStructSize(info, "info"));
    WriteStruct(InfoOf(*model->impl), info);
    return DSOPT_OK;
  });
}

dsopt_status dsopt_model_get_metadata(const dsopt_model* model, const char* key, char* buf, size_t cap,
                                      size_t* out_len) {
  return Guard([&]() -> Reply {
    RETURN_IF_NULL(model);
    RETURN_IF_NULL(key);
    const auto& metadata = model->impl->model().spec().metadata;
    const auto found = metadata.find(key);
    if (found == metadata.end()) return Error(DSOPT_E_NOT_FOUND, "metadata: the file has no key '%s'", key);
    return WriteText(found->second, buf, cap, out_len);
  });
}
