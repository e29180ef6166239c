#include "mind.h"

namespace {

constexpr uint32_t kMaxTokens = 200;  // of one plan; the longest in the model's tests has 124

constexpr const char* kBackground[] = {"put the blue book on the shelf in the living room",
                                       "turn off all the lights and lock the front door",
                                       "get the green potion out of the chest and give it to the wizard",
                                       "walk forward 3 meters, turn left and then wait for 10 seconds",
                                       "press the green button, wait five seconds and press the red button",
                                       "Carry the suitcase to the guest room and leave it next to the bed"};

dsopt_runtime_options RuntimeOptions(const MindOptions& options) {
  dsopt_runtime_options raw{};
  raw.cpu_threads = options.threads;
  raw.cpu_variant = options.cpu_variant.empty() ? nullptr : options.cpu_variant.c_str();
  return raw;
}

dsopt_session_options SessionOptions() {
  dsopt_session_options raw{};
  raw.max_streams = 2;
  raw.max_tokens = 1024;
  return raw;
}

}  // namespace

Mind::Mind(const MindOptions& options)
    : options_(options),
      runtime_(RuntimeOptions(options)),
      model_(runtime_, options.model),
      session_(model_, SessionOptions()),
      plan_(session_.NewStream()),
      background_(session_.NewStream()) {
  if (options_.busy) Begin(&background_, kBackground[0], -1);
}

void Mind::Begin(dsopt::Stream* stream, const std::string& command, int32_t priority) {
  const dsopt::Message message{"user", command};
  stream->Rewind(0);
  stream->Append(model_.FormatChat({&message, 1}), DSOPT_TOKENIZE_PARSE_SPECIAL);
  dsopt_sampling greedy{};
  stream->Generate({.max_tokens = kMaxTokens, .priority = priority, .sampling = greedy});
}

void Mind::Ask(const std::string& command) {
  reader_.Reset();
  text_.clear();
  error_.clear();
  Begin(&plan_, command, 1);
  thinking_ = true;
}

void Mind::ReadPlan(std::vector<Action>* actions) {
  while (const auto event = plan_.Read()) {
    tokens_ += event->token_count;
    if (event->kind == DSOPT_EVENT_TEXT) {
      text_.append(event->text, event->text_len);
      if (error_.empty() && !reader_.Add({event->text, event->text_len}, actions)) {
        error_ = reader_.error();
        plan_.Cancel();
      }
      continue;
    }
    thinking_ = false;
    if (event->kind == DSOPT_EVENT_ERROR) error_ = dsopt_status_name(event->status);
    if (error_.empty() && !reader_.complete()) error_ = "the plan ends in the middle";
  }
}

void Mind::ReadBackground() {
  while (const auto event = background_.Read()) {
    tokens_ += event->token_count;
    if (event->kind == DSOPT_EVENT_TEXT) continue;
    if (event->kind == DSOPT_EVENT_DONE) ++background_answers_;
    Begin(&background_, kBackground[background_answers_ % std::size(kBackground)], -1);
    return;
  }
}

void Mind::Poll(std::chrono::nanoseconds budget, std::vector<Action>* actions) {
  session_.Poll(budget);
  if (thinking_) ReadPlan(actions);
  if (options_.busy) ReadBackground();
}
