// stream.h - one sequence: its tokens, what of them is in the cache, and the generation in progress: text, stop
// conditions, events. Runs nothing itself: session.cc decides when, and brings the sampled tokens.
#ifndef DSOPT_RUNTIME_STREAM_H_
#define DSOPT_RUNTIME_STREAM_H_

#include <atomic>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "runtime/event_queue.h"
#include "runtime/generation.h"
#include "runtime/kv_cache.h"
#include "runtime/loaded_model.h"
#include "runtime/stop_matcher.h"
#include "text/utf8_stream.h"

namespace dsopt {

// One sampled token as the backend reports it.
struct SampledToken {
  dsopt_token token = 0;
  float logprob = 0;
  const dsopt_token* top_tokens = nullptr;  // [DSOPT_MAX_TOP_LOGPROBS]
  const float* top_logprobs = nullptr;
};

// Serial methods are called under the session's serial flag; those tagged [shared] or [any] from any thread.
class Stream {
 public:
  // length_limit: most tokens this stream may ever have (context or cache capacity).
  Stream(const LoadedModel& model, PagePool* pool, uint32_t page_tokens, uint32_t length_limit)
      : model_(model), length_limit_(length_limit), cache_(pool, page_tokens) {}

  // ---- prompt -----
  Status AppendTokens(std::span<const dsopt_token> tokens);
  Status AppendText(std::string_view text, uint32_t flags);
  Status Rewind(size_t count);
  // Tokens, logprobs and shared pages of another idle or generating stream. This stream must be new.
  void ForkFrom(const Stream& parent);
  // Replaces everything, as loaded from a buffer.
  void Restore(std::vector<dsopt_token> tokens, SequenceCache* cache);

  // ---- generation -----
  Status StartGeneration(Generation generation, uint64_t order);
  bool generating() const { return generating_; }
  const Generation& generation() const { return generation_; }
  uint64_t order() const { return order_; }
  // Tokens that are not in the cache. While generating at least 1.
  uint32_t pending_rows() const { return static_cast<uint32_t>(tokens_.size()) - cache_.tokens(); }
  // Allocates now what accepting one more token could need, so that Accept cannot fail.
  void PrepareForToken();
  // The token sampled after tokens_.back(). May end the generation.
  void Accept(const SampledToken& sampled);
  // PREFILL_ONLY: all tokens are in the cache.
  void FinishPrefill() { Finish(DSOPT_FINISH_LENGTH); }
  void SetLogprob(size_t index, float logprob);
  // Ends the generation, with an event unless the stream was released.
  void Finish(dsopt_finish finish);
  void Fail(const Status& status);

  // ---- state -----
  std::span<const dsopt_token> tokens() const { return tokens_; }  // serial
  SequenceCache& cache() { return cache_; }
  const SequenceCache& cache() const { return cache_; }
  EventQueue& events() { return events_; }
  const EventQueue& events() const { return events_; }
  void Trim();
  // Batch whose last position of this stream was its last; its index in the batch's sample rows.
  uint64_t logits_batch = 0;
  uint32_t logits_index = 0;

  size_t TokenCount() const;                                                     // [shared]
  size_t CopyTokens(size_t first, std::span<dsopt_token> out) const;             // [shared]
  size_t CopyLogprobs(size_t first, std::span<float> out) const;                 // [shared]
  Status LastError() const;                                                      // [shared]
  void Cancel() { cancelled_.store(true, std::memory_order_relaxed); }           // [any]
  bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }  // [any]
  // The handle is gone: no more events; the session drops the stream when no serial call runs.
  void MarkReleased() { released_.store(true, std::memory_order_release); }    // [any]
  bool released() const { return released_.load(std::memory_order_acquire); }  // [any]

  // The C handle, for callbacks. free_handle is called when the session drops the stream.
  dsopt_stream* handle = nullptr;
  void (*free_handle)(dsopt_stream* handle) = nullptr;

 private:
  Status NeedIdle(const char* what) const;
  bool EndsGeneration(dsopt_token token) const;
  // Adds the token's text; true when a stop string is complete.
  bool AddText(dsopt_token token);
  void FlushText();

  const LoadedModel& model_;
  const uint32_t length_limit_;

  mutable std::mutex mutex_;  // guards writes to tokens_, logprobs_, error_, and [shared] reads
  std::vector<dsopt_token> tokens_;
  std::vector<float> logprobs_;  // NaN: not computed
  Status error_;
  std::atomic<bool> cancelled_{false}, released_{false};

  SequenceCache cache_;
  bool generating_ = false;
  uint64_t order_ = 0;
  Generation generation_;
  uint32_t sampled_count_ = 0;  // in this generation
  bool text_is_empty_ = true;   // no token so far contributed text: see Tokenizer::TokenBytes
  Utf8Stream utf8_;
  std::string characters_;  // scratch of AddText
  StopMatcher stop_;
  EventQueue events_;
};

}  // namespace dsopt
#endif  // DSOPT_RUNTIME_STREAM_H_
