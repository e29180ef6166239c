#include "runtime/loaded_model.h"

#include <algorithm>

#include "base/clock.h"

namespace dsopt {
namespace {

constexpr uint64_t kProgressIntervalUs = 5000;  // between two calls of the host's progress callback

}  // namespace

Result<std::shared_ptr<LoadedModel>> LoadedModel::Open(std::shared_ptr<Runtime> runtime,
                                                       std::unique_ptr<Source> source,
                                                       const OpenOptions& options) {
  std::shared_ptr<LoadedModel> loaded(new LoadedModel(std::move(runtime), options));
  RETURN_IF_ERROR(loaded->ReadHeader(std::move(source)));
  if (!options.lazy && !options.metadata_only) {
    bool done = false;
    while (!done) RETURN_IF_ERROR(loaded->Poll(kProgressIntervalUs, &done, nullptr));
  }
  return loaded;
}

// Everything that can be said without reading weights, including whether they will fit.
Status LoadedModel::ReadHeader(std::unique_ptr<Source> source) {
  ASSIGN_OR_RETURN(model_, Model::FromSource(*source, runtime_->allocator(), runtime_->log()));
  RETURN_IF_ERROR(ReadText());
  if (options_.metadata_only) return Status();
  ASSIGN_OR_RETURN(std::shared_ptr<Device> device,
                   runtime_->backends().Open(options_.device, model_->raw_weight_bytes()));
  LoadOptions load;
  load.max_device_bytes = options_.max_device_bytes;
  load.verify = options_.verify;
  load.cancel = &cancel_;
  load.workers = runtime_->cpu_threads() - 1;
  ASSIGN_OR_RETURN(
      loader_, ModelLoader::Create(model_, std::move(source), std::move(device), runtime_->allocator(), load));
  return Status();
}

// A chat template outside of the supported subset must not make the model unusable: the failure is kept for
// dsopt_chat_format.
Status LoadedModel::ReadText() {
  const ModelSpec& spec = model_->spec();
  if (spec.tokenizer.kind != TokenizerKind::kNone) {
    ASSIGN_OR_RETURN(tokenizer_, Tokenizer::Create(spec.tokenizer));
    for (uint32_t id = 0; id < tokenizer_->vocab_size(); ++id) {
      const size_t bytes = tokenizer_->TokenBytes(static_cast<int32_t>(id)).size();
      max_token_bytes_ = std::max(max_token_bytes_, static_cast<uint32_t>(bytes));
    }
  }
  if (spec.chat_template.empty()) {
    chat_template_status_ = Error(DSOPT_E_NOT_FOUND, "chat template: the model has none");
    return Status();
  }
  Result<std::unique_ptr<const ChatTemplate>> parsed = ChatTemplate::Parse(spec.chat_template);
  if (parsed.ok()) {
    chat_template_ = *std::move(parsed);
  } else {
    chat_template_status_ = parsed.status();
    runtime_->log().Log(DSOPT_LOG_WARN, "model", "chat template not usable: %s",
                        std::string(parsed.status().message()).c_str());
  }
  return Status();
}

Status LoadedModel::Poll(uint64_t budget_us, bool* done, float* progress) {
  *done = false;
  if (!failure_.ok()) return failure_;
  if (model_->loaded()) {
    *done = true;
    if (progress != nullptr) *progress = 1.0f;
    return Status();
  }
  if (loader_ == nullptr) {
    return Error(DSOPT_E_INVALID_STATE,
                 "model: opened with DSOPT_MODEL_METADATA_ONLY, it has no weights to load");
  }
  const uint64_t deadline_ns = DeadlineNs(NowNs(), budget_us);
  float fraction = 0;
  Status status;
  do {  // short steps, so that the host's callback can cancel
    const uint64_t step_ns = std::min(deadline_ns, DeadlineNs(NowNs(), kProgressIntervalUs));
    status = loader_->Step(step_ns, done, &fraction);
    if (status.ok() && options_.progress != nullptr &&
        options_.progress(options_.progress_user, fraction) != 0) {
      Cancel();
      if (!*done) status = Error(DSOPT_E_CANCELLED, "model: loading was cancelled by the progress callback");
    }
  } while (status.ok() && !*done && NowNs() < deadline_ns);
  if (!status.ok()) {
    *done = false;
    failure_ = status;
  }
  if (progress != nullptr) *progress = fraction;
  if (*done || !failure_.ok()) loader_.reset();  // closes the source
  return failure_;
}

Status LoadedModel::NeedTokenizer() const {
  if (tokenizer_ != nullptr) return Status();
  return Error(DSOPT_E_NOT_FOUND, "tokenizer: the model has none");
}

Result<std::string> LoadedModel::FormatChat(std::span<const ChatMessage> messages,
                                            bool add_generation_prompt) const {
  if (chat_template_ == nullptr) return chat_template_status_;
  const auto piece = [this](int32_t id) {
    const std::vector<std::string>& pieces = model_->spec().tokenizer.pieces;
    return id >= 0 && static_cast<size_t>(id) < pieces.size()
               ? std::string_view(pieces[static_cast<size_t>(id)])
               : std::string_view();
  };
  const TokenizerSpec& spec = model_->spec().tokenizer;
  return chat_template_->Render(messages, piece(spec.bos), piece(spec.eos), add_generation_prompt);
}

}  // namespace dsopt
