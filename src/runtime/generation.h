// generation.h - what one dsopt_stream_generate asked for, checked and copied. Plain data plus its checks.
#ifndef DSOPT_RUNTIME_GENERATION_H_
#define DSOPT_RUNTIME_GENERATION_H_

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "dsopt/dsopt.h"
#include "spec/model_spec.h"

namespace dsopt {

// Sizes that a session reserves for each of its streams; larger requests are refused.
inline constexpr uint32_t kMaxPenaltyWindow = 1024, kDefaultPenaltyWindow = 64;
inline constexpr uint32_t kMaxBiases = 1024;
inline constexpr uint32_t kMaxStops = 64, kMaxStopBytes = 4096;
inline constexpr uint32_t kMaxStopTokens = 1024;

struct Generation {
  uint32_t max_tokens = 0;  // 0: no limit of its own
  int32_t priority = 0;
  bool prefill_only = false, score = false, ignore_eos = false;
  dsopt_sampling sampling = {};  // seed is never 0, penalty_window is final
  std::vector<std::string> stop;
  std::vector<dsopt_token> stop_tokens;
  std::vector<dsopt_logit_bias> bias;
  dsopt_event_fn on_event = nullptr;
  void* user = nullptr;
  bool logprobs = false;
  uint32_t top_logprobs = 0;

  bool has_penalties() const;
};

// The defaults of a model file.
dsopt_sampling DefaultSampling(const SamplingSpec& spec);

// Ranges of every field; vocab bounds the tokens. Then fills in what 0 means: seed from the OS, penalty window.
Status CompleteGeneration(uint32_t vocab, Generation* generation);

}  // namespace dsopt
#endif  // DSOPT_RUNTIME_GENERATION_H_
