#include "runtime/stream.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace dsopt {
namespace {

constexpr float kNotComputed = std::numeric_limits<float>::quiet_NaN();
constexpr size_t kReplacementBytes = 3;    // U+FFFD, which can stand for a single byte
constexpr uint32_t kReserveTokens = 4096;  // of room ahead of a generation without a limit

// Most text that `bytes` bytes of tokens and the pending bytes of a Utf8Stream can become.
size_t MaxText(size_t bytes) { return (bytes + 4) * kReplacementBytes; }

template <typename Vector>
void Grow(Vector* vector, size_t wanted) {
  if (wanted > vector->capacity()) vector->reserve(std::max(wanted, 2 * vector->capacity()));
}

}  // namespace

Status Stream::NeedIdle(const char* what) const {
  if (!generating_) return Status();
  return Error(DSOPT_E_INVALID_STATE, "%s: the stream is generating; cancel it or poll to its end", what);
}

Status Stream::AppendTokens(std::span<const dsopt_token> tokens) {
  RETURN_IF_ERROR(NeedIdle("append"));
  const ConfigSpec& config = model_.model().config();
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] < 0 || static_cast<uint32_t>(tokens[i]) >= config.vocab) {
      return Error(DSOPT_E_INVALID_ARGUMENT, "append: token %d at index %zu, expected 0 to %u", tokens[i], i,
                   config.vocab - 1);
    }
  }
  if (tokens.size() > config.context - tokens_.size()) {
    return Error(DSOPT_E_INVALID_ARGUMENT, "append: %zu tokens after %zu, the model's context has %u",
                 tokens.size(), tokens_.size(), config.context);
  }
  std::lock_guard<std::mutex> lock(mutex_);
  Grow(&logprobs_, logprobs_.size() + tokens.size());  // both can fail only before anything changed
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
  logprobs_.insert(logprobs_.end(), tokens.size(), kNotComputed);
  return Status();
}

Status Stream::AppendText(std::string_view text, uint32_t flags) {
  RETURN_IF_ERROR(NeedIdle("append"));
  RETURN_IF_ERROR(model_.NeedTokenizer());
  std::vector<dsopt_token> tokens;
  RETURN_IF_ERROR(model_.tokenizer()->Encode(text, flags, &tokens));
  return AppendTokens(tokens);
}

Status Stream::Rewind(size_t count) {
  RETURN_IF_ERROR(NeedIdle("rewind"));
  if (count > tokens_.size()) {
    return Error(DSOPT_E_INVALID_ARGUMENT, "rewind: to %zu tokens, the stream has %zu", count, tokens_.size());
  }
  if (count < tokens_.size()) logits_batch = 0;
  cache_.Truncate(static_cast<uint32_t>(count));
  std::lock_guard<std::mutex> lock(mutex_);
  tokens_.resize(count);
  logprobs_.resize(count);
  return Status();
}

void Stream::ForkFrom(const Stream& parent) {
  std::lock_guard<std::mutex> lock(mutex_);
  tokens_ = parent.tokens_;
  logprobs_ = parent.logprobs_;
  cache_.ShareFrom(parent.cache_);
  logits_batch = parent.logits_batch;
  logits_index = parent.logits_index;
}

void Stream::Restore(std::vector<dsopt_token> tokens, SequenceCache* cache) {
  std::vector<float> logprobs(tokens.size(), kNotComputed);
  cache_.Swap(*cache);
  logits_batch = 0;
  std::lock_guard<std::mutex> lock(mutex_);
  tokens_.swap(tokens);
  logprobs_.swap(logprobs);
}

// Checks what can be checked before any work is queued. Nothing changes unless the generation starts.
Status Stream::StartGeneration(Generation generation, uint64_t order) {
  RETURN_IF_ERROR(NeedIdle("generate"));
  const uint32_t count = static_cast<uint32_t>(tokens_.size());
  if (count == 0)
    return Error(DSOPT_E_INVALID_STATE, "generate: the stream has no tokens; append a prompt first");
  if (count > length_limit_) {
    return Error(DSOPT_E_DEVICE_MEMORY, "generate: the stream has %u tokens, the session's cache holds %u",
                 count, length_limit_);
  }
  // All allocations of the generation, as far as they can be known.
  const uint32_t ahead =
      std::min(generation.max_tokens != 0 ? generation.max_tokens : kReserveTokens, length_limit_ - count);
  const size_t piece_text = MaxText(model_.max_token_bytes());
  StopMatcher stop(generation.stop, piece_text);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    tokens_.reserve(count + ahead);
    logprobs_.reserve(count + ahead);
  }
  cache_.ReserveList(count + ahead);
  characters_.reserve(piece_text);
  bool text_is_empty = true;
  if (const Tokenizer* tokenizer = model_.tokenizer(); tokenizer != nullptr) {
    for (size_t i = 0; i < count && text_is_empty; ++i) text_is_empty = tokenizer->IsControl(tokens_[i]);
  }

  events_.Start(generation.logprobs, generation.top_logprobs);

  generation_ = std::move(generation);  // nothing fails from here on
  stop_ = std::move(stop);
  text_is_empty_ = text_is_empty;
  utf8_.Reset();
  sampled_count_ = 0;
  order_ = order;
  logits_batch = 0;
  cancelled_.store(false, std::memory_order_relaxed);
  // Logits exist only for positions that are computed now: the last one always is, and with SCORE the one
  // before the first new token too.
  if (cache_.tokens() == count || (generation_.score && cache_.tokens() > 0)) cache_.StepBack();
  {
    std::lock_guard<std::mutex> lock(mutex_);
    error_ = Status();
  }
  generating_ = true;
  if (count == length_limit_ && !generation_.prefill_only) Finish(DSOPT_FINISH_LENGTH);  // no room for a token
  return Status();
}

void Stream::PrepareForToken() {
  size_t longest_stop = 0;
  for (const std::string& stop : generation_.stop) longest_stop = std::max(longest_stop, stop.size());
  events_.Reserve(longest_stop + MaxText(model_.max_token_bytes()) + MaxText(0));
  if (tokens_.size() == tokens_.capacity() || logprobs_.size() == logprobs_.capacity()) {
    std::lock_guard<std::mutex> lock(mutex_);
    Grow(&tokens_, tokens_.size() + 1);
    Grow(&logprobs_, logprobs_.size() + 1);
  }
}

bool Stream::EndsGeneration(dsopt_token token) const {
  const Tokenizer* tokenizer = model_.tokenizer();
  if (!generation_.ignore_eos && tokenizer != nullptr && tokenizer->IsEnd(token)) return true;
  const std::vector<dsopt_token>& stops = generation_.stop_tokens;
  return std::find(stops.begin(), stops.end(), token) != stops.end();
}

void Stream::Accept(const SampledToken& sampled) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    tokens_.push_back(sampled.token);
    logprobs_.push_back(sampled.logprob);
  }
  ++sampled_count_;
  events_.PushToken(sampled.token, sampled.logprob, sampled.top_tokens, sampled.top_logprobs);
  if (EndsGeneration(sampled.token)) return Finish(DSOPT_FINISH_EOS);
  if (AddText(sampled.token)) return Finish(DSOPT_FINISH_STOP);
  if (sampled_count_ == generation_.max_tokens || tokens_.size() >= length_limit_) Finish(DSOPT_FINISH_LENGTH);
}

// Token -> bytes -> whole characters -> text that cannot be the beginning of a stop string.
bool Stream::AddText(dsopt_token token) {
  const Tokenizer* tokenizer = model_.tokenizer();
  if (tokenizer == nullptr || tokenizer->IsControl(token)) return false;
  characters_.clear();
  utf8_.Append(tokenizer->TokenBytes(token, text_is_empty_), &characters_);
  text_is_empty_ = false;
  return stop_.Append(characters_, events_.text());
}

// What is still held back becomes text: half a character as U+FFFD, half a stop string as it is.
void Stream::FlushText() {
  characters_.clear();
  utf8_.Flush(&characters_);
  if (!stop_.Append(characters_, events_.text())) stop_.Flush(events_.text());
}

void Stream::SetLogprob(size_t index, float logprob) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (index < logprobs_.size()) logprobs_[index] = logprob;
}

void Stream::Finish(dsopt_finish finish) {
  if (!generating_) return;
  generating_ = false;
  if (released()) return;
  if (finish != DSOPT_FINISH_STOP) FlushText();
  events_.PushEnd(finish, DSOPT_OK);
}

void Stream::Fail(const Status& status) {
  if (!generating_) return;
  Status copy = status;  // may throw, so before anything changes
  generating_ = false;
  FlushText();
  events_.PushEnd(DSOPT_FINISH_ERROR, status.code());
  std::lock_guard<std::mutex> lock(mutex_);
  error_ = std::move(copy);
}

void Stream::Trim() {
  events_.Trim();
  if (generating_) return;
  std::lock_guard<std::mutex> lock(mutex_);
  tokens_.shrink_to_fit();
  logprobs_.shrink_to_fit();
}

size_t Stream::TokenCount() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return tokens_.size();
}

size_t Stream::CopyTokens(size_t first, std::span<dsopt_token> out) const {
  std::lock_guard<std::mutex> lock(mutex_);
  const size_t count = first < tokens_.size() ? std::min(out.size(), tokens_.size() - first) : 0;
  std::copy_n(tokens_.begin() + static_cast<ptrdiff_t>(std::min(first, tokens_.size())), count, out.begin());
  return count;
}

size_t Stream::CopyLogprobs(size_t first, std::span<float> out) const {
  std::lock_guard<std::mutex> lock(mutex_);
  const size_t count = first < logprobs_.size() ? std::min(out.size(), logprobs_.size() - first) : 0;
  std::copy_n(logprobs_.begin() + static_cast<ptrdiff_t>(std::min(first, logprobs_.size())), count,
              out.begin());
  return count;
}

Status Stream::LastError() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return error_;
}

}  // namespace dsopt
