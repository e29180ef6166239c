// loaded_model.h - a model as the host sees it: file, device, weights while they load, tokenizer, chat
// template. Not for: what the weights mean (model/), text algorithms (text/).
#ifndef DSOPT_RUNTIME_LOADED_MODEL_H_
#define DSOPT_RUNTIME_LOADED_MODEL_H_

#include <atomic>
#include <memory>
#include <span>
#include <string>

#include "base/status.h"
#include "format/source.h"
#include "model/loader.h"
#include "model/model.h"
#include "runtime/runtime.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace dsopt {

struct OpenOptions {
  std::string device;             // empty: the best with room
  uint64_t max_device_bytes = 0;  // 0: no limit
  bool verify = false;
  bool metadata_only = false;
  bool lazy = false;  // return after the header
  dsopt_progress_fn progress = nullptr;
  void* progress_user = nullptr;
};

// Const methods and Cancel are [thread-safe]; Poll is serial.
class LoadedModel {
 public:
  // Reads the header; unless lazy or metadata_only, also the weights. The source is closed when the weights are
  // complete or the open failed.
  static Result<std::shared_ptr<LoadedModel>> Open(std::shared_ptr<Runtime> runtime,
                                                   std::unique_ptr<Source> source, const OpenOptions& options);

  // Loads for about budget_us. A failure is final. progress (may be NULL) in [0, 1].
  Status Poll(uint64_t budget_us, bool* done, float* progress);
  // Makes a load in progress end with DSOPT_E_CANCELLED.
  void Cancel() { cancel_.store(true, std::memory_order_relaxed); }

  const std::shared_ptr<Runtime>& runtime() const { return runtime_; }
  const Model& model() const { return *model_; }
  const Tokenizer* tokenizer() const { return tokenizer_.get(); }  // NULL: the file has none
  // Longest text one token can contribute, in bytes.
  uint32_t max_token_bytes() const { return max_token_bytes_; }
  // DSOPT_E_NOT_FOUND without a tokenizer.
  Status NeedTokenizer() const;
  Result<std::string> FormatChat(std::span<const ChatMessage> messages, bool add_generation_prompt) const;

  // The serial-call flag of capi/handles.h.
  std::atomic<bool>& busy() { return busy_; }

 private:
  LoadedModel(std::shared_ptr<Runtime> runtime, const OpenOptions& options)
      : runtime_(std::move(runtime)), options_(options) {}
  Status ReadHeader(std::unique_ptr<Source> source);
  Status ReadText();

  std::shared_ptr<Runtime> runtime_;  // first: everything below uses its allocator and devices
  OpenOptions options_;
  std::atomic<bool> cancel_{false};
  std::atomic<bool> busy_{false};
  std::shared_ptr<Model> model_;
  std::unique_ptr<const Tokenizer> tokenizer_;
  std::unique_ptr<const ChatTemplate> chat_template_;
  Status chat_template_status_;  // why there is no template although the file has one
  uint32_t max_token_bytes_ = 0;
  std::unique_ptr<ModelLoader> loader_;  // NULL once loaded
  Status failure_;
};

}  // namespace dsopt
#endif  // DSOPT_RUNTIME_LOADED_MODEL_H_
