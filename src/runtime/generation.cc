#include "runtime/generation.h"

#include <sys/random.h>

#include <cmath>

#include "base/clock.h"
#include "base/utf8.h"
#include "dsopt/backend.h"

namespace dsopt {
namespace {

Status CheckRange(const char* name, float value, float low, float high) {
  if (value >= low && value <= high) return Status();  // false for NaN
  return Error(DSOPT_E_INVALID_ARGUMENT, "sampling.%s: %g, expected %g to %g", name, static_cast<double>(value),
               static_cast<double>(low), static_cast<double>(high));
}

Status CheckSampling(const dsopt_sampling& s) {
  constexpr float kLarge = 1e6f;
  RETURN_IF_ERROR(CheckRange("temperature", s.temperature, 0, kLarge));
  RETURN_IF_ERROR(CheckRange("top_p", s.top_p, 0, 1));
  RETURN_IF_ERROR(CheckRange("min_p", s.min_p, 0, 1));
  RETURN_IF_ERROR(CheckRange("typical_p", s.typical_p, 0, 1));
  RETURN_IF_ERROR(CheckRange("top_n_sigma", s.top_n_sigma, 0, kLarge));
  RETURN_IF_ERROR(CheckRange("repeat_penalty", s.repeat_penalty, 0, kLarge));
  RETURN_IF_ERROR(CheckRange("presence_penalty", s.presence_penalty, -kLarge, kLarge));
  RETURN_IF_ERROR(CheckRange("frequency_penalty", s.frequency_penalty, -kLarge, kLarge));
  if (s.penalty_window > kMaxPenaltyWindow) {
    return Error(DSOPT_E_INVALID_ARGUMENT, "sampling.penalty_window: %u, expected at most %u", s.penalty_window,
                 kMaxPenaltyWindow);
  }
  return Status();
}

Status CheckCount(const char* name, size_t count, size_t limit) {
  if (count <= limit) return Status();
  return Error(DSOPT_E_INVALID_ARGUMENT, "%s: %zu, expected at most %zu", name, count, limit);
}

Status CheckToken(const char* name, dsopt_token token, uint32_t vocab) {
  if (token >= 0 && static_cast<uint32_t>(token) < vocab) return Status();
  return Error(DSOPT_E_INVALID_ARGUMENT, "%s: token %d, expected 0 to %u", name, token, vocab - 1);
}

uint64_t RandomSeed() {
  uint64_t seed = 0;
  // Only a kernel without entropy fails here; the time then has to do.
  if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) != sizeof seed || seed == 0) seed = NowNs() | 1;
  return seed;
}

}  // namespace

bool Generation::has_penalties() const {
  return (sampling.repeat_penalty != 0 && sampling.repeat_penalty != 1) || sampling.presence_penalty != 0 ||
         sampling.frequency_penalty != 0;
}

dsopt_sampling DefaultSampling(const SamplingSpec& spec) {
  dsopt_sampling sampling = {};
  sampling.struct_size = sizeof sampling;
  sampling.temperature = spec.temperature;
  sampling.top_k = spec.top_k;
  sampling.top_p = spec.top_p;
  sampling.min_p = spec.min_p;
  sampling.repeat_penalty = spec.repeat_penalty;
  return sampling;
}

Status CompleteGeneration(uint32_t vocab, Generation* g) {
  RETURN_IF_ERROR(CheckSampling(g->sampling));
  RETURN_IF_ERROR(CheckCount("stop_count", g->stop.size(), kMaxStops));
  RETURN_IF_ERROR(CheckCount("stop_token_count", g->stop_tokens.size(), kMaxStopTokens));
  RETURN_IF_ERROR(CheckCount("bias_count", g->bias.size(), kMaxBiases));
  RETURN_IF_ERROR(CheckCount("top_logprobs", g->top_logprobs, DSOPT_MAX_TOP_LOGPROBS));
  for (const std::string& stop : g->stop) {
    RETURN_IF_ERROR(CheckCount("bytes of a stop string", stop.size(), kMaxStopBytes));
    if (!IsValidUtf8(stop)) return Error(DSOPT_E_INVALID_ARGUMENT, "stop: a stop string is not valid UTF-8");
  }
  for (dsopt_token token : g->stop_tokens) RETURN_IF_ERROR(CheckToken("stop_tokens", token, vocab));
  for (const dsopt_logit_bias& bias : g->bias) {
    RETURN_IF_ERROR(CheckToken("bias", bias.token, vocab));
    if (std::isnan(bias.bias) || bias.bias > 1e30f) {
      return Error(DSOPT_E_INVALID_ARGUMENT, "bias: %g for token %d, expected a number up to 1e30",
                   static_cast<double>(bias.bias), bias.token);
    }
  }
  if (g->sampling.seed == 0) g->sampling.seed = RandomSeed();
  if (g->sampling.penalty_window == 0) g->sampling.penalty_window = kDefaultPenaltyWindow;
  return Status();
}

}  // namespace dsopt
