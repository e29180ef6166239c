// cmd_run.cc - dsopt run: generates text from a prompt and streams it to standard output.
#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <limits>

#include "absl/strings/numbers.h"
#include "base/clock.h"
#include "tools/client.h"
#include "tools/output.h"

namespace dsopt::tools {
namespace {

constexpr uint64_t kWaitUs = 50000;  // how long Ctrl-C may go unnoticed

std::atomic<bool> interrupted{false};
static_assert(std::atomic<bool>::is_always_lock_free);  // set by a signal handler

void OnInterrupt(int) { interrupted.store(true); }

// The second Ctrl-C ends the process as usual.
void CatchInterrupt() {
  struct sigaction action = {};
  action.sa_handler = OnInterrupt;
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  sigaction(SIGINT, &action, nullptr);
}

struct Request {
  std::string model;
  PromptOptions prompt;
  EngineOptions engine;
  uint32_t max_tokens = 256;
  std::optional<float> temperature, top_p, min_p, typical_p, top_n_sigma;
  std::optional<float> repeat_penalty, presence_penalty, frequency_penalty;
  uint32_t top_k = 0, penalty_window = 0, logprobs = 0;
  uint64_t seed = 0;
  std::vector<std::string> stop, ban_words, bias_words;
  std::vector<dsopt_logit_bias> bias;
  std::optional<std::string> system;
  bool chat = false, raw = false, special = false, ignore_eos = false, json = false;

  void Declare(Options* options);
  Status Check();
  // False: the defaults of the model file.
  bool Sampling(dsopt_sampling* out) const;
};

void Request::Declare(Options* options) {
  options->Positional("FILE", &model, "a .dsopt file");
  prompt.Declare(options);
  options->Value("max-tokens,n", "N", &max_tokens, "generate at most N tokens; 0: until the end (default 256)");
  options->Flag("chat", &chat, "format TEXT as one user message with the model's chat template");
  options->Value("system", "TEXT", &system, "with --chat: a system message before it");
  options->Flag("special", &special, "let text such as <|eot|> become control tokens; implied by --chat");
  options->Flag("raw", &raw, "add no begin token");
  options->Flag("no-bos", &raw, "same as --raw");
  options->Value("temperature", "T", &temperature, "0: greedy. Without any sampling option the file's defaults hold");
  options->Value("top-k", "K", &top_k, "keep the K most probable tokens");
  options->Value("top-p", "P", &top_p, "keep the most probable tokens with mass P");
  options->Value("min-p", "P", &min_p, "keep tokens with at least P times the best probability");
  options->Value("typical-p", "P", &typical_p, "locally typical sampling with mass P");
  options->Value("top-n-sigma", "N", &top_n_sigma, "keep logits within N standard deviations of the best");
  options->Value("repeat-penalty", "X", &repeat_penalty, "divide logits of recent tokens; 1: off");
  options->Value("presence-penalty", "X", &presence_penalty, "subtract from logits of recent tokens");
  options->Value("frequency-penalty", "X", &frequency_penalty, "subtract per occurrence of a recent token");
  options->Value("penalty-window", "N", &penalty_window, "tokens the penalties look back (default 64)");
  options->Value("seed", "N", &seed, "the same seed gives the same text; 0: random");
  options->List("stop", "TEXT", &stop, "end before this text; repeatable");
  options->List("ban", "ID", &ban_words, "never produce this token; repeatable");
  options->List("logit-bias", "ID=X", &bias_words, "add X to the logit of this token; repeatable");
  options->Flag("ignore-eos", &ignore_eos, "end tokens do not end the text");
  options->Value("logprobs", "N", &logprobs, "with --json: log probabilities of each token and of the N best, 0 to 20");
  engine.Declare(options);
  options->Flag("json", &json, "print one JSON object: text, token_ids, finish, ttft_ms, decode_tok_s, ...");
  options->Check([this]() { return Check(); });
}

Status Request::Check() {
  const auto bad = [](const char* what, const std::string& word) {
    return Error(DSOPT_E_INVALID_ARGUMENT, "option '%s': '%s' is not a token id%s", what, word.c_str(),
                 what[2] == 'l' ? " and a number, as in 13=-2.5" : "");
  };
  for (const std::string& word : ban_words) {
    dsopt_logit_bias entry = {0, -std::numeric_limits<float>::infinity()};
    if (!absl::SimpleAtoi(word, &entry.token)) return bad("--ban", word);
    bias.push_back(entry);
  }
  for (const std::string& word : bias_words) {
    const size_t equals = word.find('=');
    dsopt_logit_bias entry = {};
    if (equals == std::string::npos || !absl::SimpleAtoi(word.substr(0, equals), &entry.token) ||
        !absl::SimpleAtof(word.substr(equals + 1), &entry.bias)) {
      return bad("--logit-bias", word);
    }
    bias.push_back(entry);
  }
  if (system.has_value() && !chat) return Error(DSOPT_E_INVALID_ARGUMENT, "--system needs --chat");
  if (logprobs > 20) return Error(DSOPT_E_INVALID_ARGUMENT, "--logprobs is %u, expected 0 to 20", logprobs);
  const bool draws = top_k != 0 || top_p || min_p || typical_p || top_n_sigma || seed != 0;
  if (draws && !temperature) {
    return Error(DSOPT_E_INVALID_ARGUMENT, "--top-k, --top-p, --min-p, --typical-p, --top-n-sigma and --seed need "
                 "--temperature: without it the model file's own sampling holds");
  }
  return {};
}

bool Request::Sampling(dsopt_sampling* out) const {
  *out = {};
  out->struct_size = sizeof *out;
  out->top_k = top_k;
  out->temperature = temperature.value_or(0.0f);
  out->top_p = top_p.value_or(0.0f);
  out->min_p = min_p.value_or(0.0f);
  out->typical_p = typical_p.value_or(0.0f);
  out->top_n_sigma = top_n_sigma.value_or(0.0f);
  out->repeat_penalty = repeat_penalty.value_or(0.0f);
  out->presence_penalty = presence_penalty.value_or(0.0f);
  out->frequency_penalty = frequency_penalty.value_or(0.0f);
  out->penalty_window = penalty_window;
  out->seed = seed;
  return temperature || repeat_penalty || presence_penalty || frequency_penalty;
}

// What came out. Times are since dsopt_stream_generate; 0: no token.
struct Outcome {
  std::string text;
  std::vector<dsopt_token> ids;
  Json logprobs = Json::array();
  dsopt_finish finish = DSOPT_FINISH_NONE;
  size_t prompt_tokens = 0;
  size_t first_event_tokens = 0;
  uint64_t start_ns = 0, first_ns = 0, last_ns = 0;

  double ttft_ms() const { return first_ns == 0 ? 0 : static_cast<double>(first_ns - start_ns) * 1e-6; }
  double decode_tok_s() const {
    if (last_ns <= first_ns) return 0;
    return static_cast<double>(ids.size() - first_event_tokens) / (static_cast<double>(last_ns - first_ns) * 1e-9);
  }
};

const char* FinishName(dsopt_finish finish) {
  switch (finish) {
    case DSOPT_FINISH_EOS: return "eos";
    case DSOPT_FINISH_STOP: return "stop";
    case DSOPT_FINISH_LENGTH: return "length";
    case DSOPT_FINISH_CANCELLED: return "cancelled";
    case DSOPT_FINISH_ERROR: return "error";
    default: return "none";
  }
}

void TakeLogprobs(const dsopt_event& event, Outcome* outcome) {
  if (event.logprobs == nullptr) return;
  for (size_t i = 0; i < event.token_count; ++i) {
    Json entry = {{"id", event.tokens[i]}, {"logprob", event.logprobs[i]}};
    if (event.top_count > 0) {
      Json top = Json::array();
      for (size_t k = i * event.top_count; k < (i + 1) * event.top_count; ++k) {
        top.push_back({{"id", event.top_tokens[k]}, {"logprob", event.top_logprobs[k]}});
      }
      entry["top"] = std::move(top);
    }
    outcome->logprobs.push_back(std::move(entry));
  }
}

Status TakeEvent(const dsopt_event& event, bool print, Outcome* outcome) {
  if (event.token_count > 0) {
    outcome->last_ns = NowNs();
    if (outcome->first_ns == 0) {
      outcome->first_ns = outcome->last_ns;
      outcome->first_event_tokens = event.token_count;
    }
    outcome->ids.insert(outcome->ids.end(), event.tokens, event.tokens + event.token_count);
    TakeLogprobs(event, outcome);
  }
  const std::string_view text(event.text_len > 0 ? event.text : "", event.text_len);
  outcome->text += text;
  if (event.kind == DSOPT_EVENT_DONE) outcome->finish = event.finish;
  if (event.kind == DSOPT_EVENT_ERROR) outcome->finish = DSOPT_FINISH_ERROR;
  return print && !text.empty() ? Print(text) : Status();
}

// Until the generation has ended. A Ctrl-C cancels the stream and goes on to its last event.
Status Pump(dsopt_session* session, dsopt_stream* stream, bool print, Outcome* outcome) {
  bool cancelled = false;
  while (outcome->finish == DSOPT_FINISH_NONE) {
    if (interrupted.load() && !cancelled) {
      dsopt_stream_cancel(stream);
      cancelled = true;
    }
    dsopt_event event = {};
    event.struct_size = sizeof event;
    const dsopt_status status = dsopt_stream_read(stream, &event);
    if (status == DSOPT_PENDING) {
      const dsopt_status waited = dsopt_session_wait(session, kWaitUs);
      if (waited != DSOPT_E_TIMEOUT) RETURN_IF_ERROR(FromApi(waited));
      continue;
    }
    RETURN_IF_ERROR(FromApi(status));
    RETURN_IF_ERROR(TakeEvent(event, print, outcome));
  }
  if (outcome->finish != DSOPT_FINISH_ERROR) return {};
  return Finish(session, stream);  // carries the stream's error
}

Result<std::string> ChatText(const dsopt_model* model, const Request& request, const std::string& user) {
  std::vector<dsopt_message> messages;
  if (request.system) messages.push_back({"system", request.system->data(), request.system->size()});
  messages.push_back({"user", user.data(), user.size()});
  std::string text(user.size() + 4096, '\0');
  for (;;) {
    size_t length = 0;
    const dsopt_status status = dsopt_chat_format(model, messages.data(), messages.size(), DSOPT_CHAT_ADD_PROMPT,
                                                  text.data(), text.size(), &length);
    if (status == DSOPT_E_BUFFER_TOO_SMALL && length >= text.size()) {
      text.resize(length + 1);
      continue;
    }
    RETURN_IF_ERROR(FromApi(status));
    text.resize(length);
    return text;
  }
}

Status StartGeneration(const Request& request, dsopt_stream* stream) {
  dsopt_sampling sampling;
  std::vector<const char*> stops;
  for (const std::string& stop : request.stop) stops.push_back(stop.c_str());
  dsopt_generate_options generate = {};
  generate.struct_size = sizeof generate;
  generate.flags = request.ignore_eos ? DSOPT_GENERATE_IGNORE_EOS : 0u;
  generate.max_tokens = request.max_tokens;
  if (request.Sampling(&sampling)) generate.sampling = &sampling;
  generate.stop = stops.data();
  generate.stop_count = stops.size();
  generate.bias = request.bias.data();
  generate.bias_count = request.bias.size();
  generate.logprobs = request.logprobs > 0 ? 1 : 0;
  generate.top_logprobs = request.logprobs;
  return FromApi(dsopt_stream_generate(stream, &generate));
}

void PrintStatistics(const Request& request, const Outcome& outcome, const dsopt_model_info& info) {
  if (!request.json) {
    std::fprintf(stderr, "%zu prompt tokens, first token after %.1f ms, %zu tokens, %.1f tokens/s, end: %s, on %s\n",
                 outcome.prompt_tokens, outcome.ttft_ms(), outcome.ids.size(), outcome.decode_tok_s(),
                 FinishName(outcome.finish), info.device);
    return;
  }
  Json object = {{"text", outcome.text},
                 {"token_ids", outcome.ids},
                 {"finish", FinishName(outcome.finish)},
                 {"prompt_tokens", outcome.prompt_tokens},
                 {"ttft_ms", outcome.ttft_ms()},
                 {"decode_tok_s", outcome.decode_tok_s()},
                 {"device", info.device},
                 {"precision", request.engine.precision}};
  if (request.logprobs > 0) object["logprobs"] = outcome.logprobs;
  PrintJson(object);
}

Status Generate(const Request& request, Outcome* outcome) {
  ASSIGN_OR_RETURN(std::string text, request.prompt.Read());
  ASSIGN_OR_RETURN(const RuntimePtr runtime, OpenRuntime(request.engine));
  ASSIGN_OR_RETURN(const ModelPtr model, OpenModel(runtime.get(), request.model, request.engine));
  ASSIGN_OR_RETURN(const dsopt_model_info info, ModelInfo(model.get()));
  uint32_t flags = request.special ? DSOPT_TOKENIZE_PARSE_SPECIAL : 0u;
  if (request.chat) {
    ASSIGN_OR_RETURN(text, ChatText(model.get(), request, text));
    flags = DSOPT_TOKENIZE_PARSE_SPECIAL;  // the template writes its own begin token
  } else if (!request.raw) {
    flags |= DSOPT_TOKENIZE_ADD_BOS;
  }
  ASSIGN_OR_RETURN(const std::vector<dsopt_token> prompt, Tokenize(model.get(), text, flags));
  if (prompt.empty()) return Error(DSOPT_E_INVALID_ARGUMENT, "the prompt has no tokens, expected at least one");
  const uint64_t wanted = prompt.size() + (request.max_tokens != 0 ? request.max_tokens : info.context_length);
  ASSIGN_OR_RETURN(const SessionPtr session,
                   OpenSession(model.get(), request.engine, 1,
                               static_cast<uint32_t>(std::min<uint64_t>(wanted, info.context_length))));
  ASSIGN_OR_RETURN(const StreamPtr stream, OpenStream(session.get()));
  outcome->prompt_tokens = prompt.size();
  CatchInterrupt();
  outcome->start_ns = NowNs();
  RETURN_IF_ERROR(FromApi(dsopt_stream_append_tokens(stream.get(), prompt.data(), prompt.size())));
  RETURN_IF_ERROR(StartGeneration(request, stream.get()));
  RETURN_IF_ERROR(Pump(session.get(), stream.get(), !request.json, outcome));
  if (!request.json) RETURN_IF_ERROR(Print("\n"));
  PrintStatistics(request, *outcome, info);
  return {};
}

}  // namespace

int CmdRun(const Arguments& arguments) {
  Request request;
  Options options("run", "FILE -p TEXT [options]",
                  "Streams the continuation of TEXT to standard output; statistics go to standard error.\n"
                  "Ctrl-C ends the text and still prints the statistics.");
  request.Declare(&options);
  if (std::optional<int> code = options.Parse(arguments)) return *code;
  Outcome outcome;
  const Status status = Generate(request, &outcome);
  if (!status.ok()) return Fail("run", status);
  return outcome.finish == DSOPT_FINISH_CANCELLED ? kExitInterrupted : kExitOk;
}

}  // namespace dsopt::tools
