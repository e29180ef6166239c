#include "runtime/event_queue.h"

#include <algorithm>
#include <utility>

namespace dsopt {
namespace {

constexpr size_t kStartTokens = 64, kStartTextBytes = 1024;

// Like reserve, but doubles, so that a growing container is not copied each time.
template <typename Container>
void Grow(Container* container, size_t wanted) {
  if (wanted > container->capacity()) container->reserve(std::max(wanted, 2 * container->capacity()));
}

}  // namespace

void EventQueue::Chunk::Clear() {
  text.clear();
  tokens.clear();
  top_tokens.clear();
  logprobs.clear();
  top_logprobs.clear();
}

void EventQueue::Chunk::Reserve(size_t token_count, size_t text_bytes, bool with_logprobs, uint32_t top_count) {
  Grow(&text, text.size() + text_bytes);
  Grow(&tokens, tokens.size() + token_count);
  if (with_logprobs) Grow(&logprobs, logprobs.size() + token_count);
  Grow(&top_tokens, top_tokens.size() + token_count * top_count);
  Grow(&top_logprobs, top_logprobs.size() + token_count * top_count);
}

size_t EventQueue::Chunk::capacity_bytes() const {
  return text.capacity() + (tokens.capacity() + top_tokens.capacity()) * sizeof(dsopt_token) +
         (logprobs.capacity() + top_logprobs.capacity()) * sizeof(float);
}

void EventQueue::Start(bool logprobs, uint32_t top_count) {
  const bool with_logprobs = logprobs || top_count > 0;
  for (Chunk* chunk : {&pending_, &delivered_}) {  // may throw, so before anything changes
    chunk->Reserve(kStartTokens, kStartTextBytes, with_logprobs, top_count);
  }
  pending_.Clear();
  delivered_.Clear();
  logprobs_ = with_logprobs;
  top_count_ = top_count;
  end_pending_ = false;
}

void EventQueue::Reserve(size_t text_bytes) {
  pending_.Reserve(1, text_bytes, logprobs_, top_count_);
  delivered_.Reserve(1, text_bytes, logprobs_, top_count_);  // becomes pending_ with the next Read
}

void EventQueue::PushToken(dsopt_token token, float logprob, const dsopt_token* top_tokens,
                           const float* top_logprobs) {
  pending_.tokens.push_back(token);
  if (logprobs_) pending_.logprobs.push_back(logprob);
  pending_.top_tokens.insert(pending_.top_tokens.end(), top_tokens, top_tokens + top_count_);
  pending_.top_logprobs.insert(pending_.top_logprobs.end(), top_logprobs, top_logprobs + top_count_);
}

void EventQueue::PushEnd(dsopt_finish finish, dsopt_code status) {
  end_pending_ = true;
  finish_ = finish;
  status_ = status;
}

bool EventQueue::Read(dsopt_event* event) {
  *event = {};
  event->struct_size = sizeof *event;
  if (!pending_.empty()) {
    delivered_.Clear();
    std::swap(pending_, delivered_);
    event->kind = DSOPT_EVENT_TEXT;
  } else if (end_pending_) {
    delivered_.Clear();
    end_pending_ = false;
    event->kind = status_ == DSOPT_OK ? DSOPT_EVENT_DONE : DSOPT_EVENT_ERROR;
    event->finish = finish_;
    event->status = status_;
  } else {
    return false;
  }
  const Chunk& chunk = delivered_;
  event->text = chunk.text.c_str();
  event->text_len = chunk.text.size();
  event->tokens = chunk.tokens.data();
  event->token_count = chunk.tokens.size();
  if (logprobs_) event->logprobs = chunk.logprobs.data();
  if (top_count_ > 0) {
    event->top_tokens = chunk.top_tokens.data();
    event->top_logprobs = chunk.top_logprobs.data();
    event->top_count = top_count_;
  }
  return true;
}

void EventQueue::Trim() {
  delivered_ = Chunk();
  pending_.text.shrink_to_fit();
  pending_.tokens.shrink_to_fit();
  pending_.top_tokens.shrink_to_fit();
  pending_.logprobs.shrink_to_fit();
  pending_.top_logprobs.shrink_to_fit();
}

}  // namespace dsopt
