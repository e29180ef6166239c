#include "base/versioned.h"
#include "ops/operators.h"

namespace dsopt {
namespace {

constexpr int64_t kMaxHistory = 1024;
constexpr float kLarge = 1e6f;

struct Range {
  const char* name;
  float dsopt_sampling::*member;
  float low, high;
};
constexpr Range kRanges[] = {
    {"temperature", &dsopt_sampling::temperature, 0, kLarge},
    {"top_p", &dsopt_sampling::top_p, 0, 1},
    {"min_p", &dsopt_sampling::min_p, 0, 1},
    {"typical_p", &dsopt_sampling::typical_p, 0, 1},
    {"top_n_sigma", &dsopt_sampling::top_n_sigma, 0, kLarge},
    {"repeat_penalty", &dsopt_sampling::repeat_penalty, 0, kLarge},
    {"presence_penalty", &dsopt_sampling::presence_penalty, -kLarge, kLarge},
    {"frequency_penalty", &dsopt_sampling::frequency_penalty, -kLarge, kLarge},
};

// Element i lies i times the caller's struct_size behind the first; all are of one version.
Status CheckParams(const Operands& operands, const dsopt_sample_args& a, int64_t rows) {
  if (a.params == nullptr) return operands.Wrong("params", "NULL, expected an array");
  if (a.params_count != 1 && a.params_count != rows) {
    return operands.Wrong("params_count", "%u, expected 1 or %lld: the rows of logits", a.params_count,
                          static_cast<long long>(rows));
  }
  const uint64_t bytes = a.params->struct_size;
  for (uint32_t i = 0; i < a.params_count; ++i) {
    const auto* given =
        reinterpret_cast<const dsopt_sampling*>(reinterpret_cast<const unsigned char*>(a.params) + i * bytes);
    dsopt_sampling s;
    RETURN_IF_ERROR(ReadStruct(given, "params", &s));
    if (given->struct_size != bytes) {
      return operands.Wrong("params", "[%u].struct_size is %u, expected %llu as in the first", i,
                            given->struct_size, static_cast<unsigned long long>(bytes));
    }
    for (const Range& range : kRanges) {
      const float value = s.*range.member;
      if (value >= range.low && value <= range.high) continue;  // false for NaN
      return operands.Wrong("params", "[%u].%s is %g, expected %g to %g", i, range.name,
                            static_cast<double>(value), static_cast<double>(range.low),
                            static_cast<double>(range.high));
    }
  }
  return Status();
}

}  // namespace

Status CheckSample(const void* args, Operands* operands, OpArgs* out) {
  dsopt_sample_args& a = out->sample;
  RETURN_IF_ERROR(ReadStruct(static_cast<const dsopt_sample_args*>(args), "args", &a));
  RETURN_IF_ERROR(
      operands->Required("logits", a.logits, {kActivationTypes, {kAnyExtent, kAnyExtent}}, &a.logits));
  const int64_t rows = a.logits->shape[0];
  RETURN_IF_ERROR(CheckParams(*operands, a, rows));
  RETURN_IF_ERROR(operands->Array("counters", a.counters, static_cast<uint64_t>(rows), 8));
  RETURN_IF_ERROR(operands->Optional("history", a.history,
                                     {kIndexType, {rows, kAnyExtent}, Access::kRead, true}, &a.history));
  if ((a.history == nullptr) != (a.history_counts == nullptr)) {
    return operands->Wrong("history_counts", "%s, expected it with history",
                           a.history == nullptr ? "set" : "NULL");
  }
  if (a.history != nullptr) {
    const int64_t length = a.history->shape[1];
    if (length > kMaxHistory) {
      return operands->Unsupported("history", "%lld tokens of a row, expected at most %lld",
                                   static_cast<long long>(length), static_cast<long long>(kMaxHistory));
    }
    RETURN_IF_ERROR(operands->Required("history_counts", a.history_counts,
                                       {kIndexType, {rows, length}, Access::kRead, true}, &a.history_counts));
  }
  RETURN_IF_ERROR(
      operands->Required("tokens", a.tokens, {kIndexType, {rows}, Access::kWrite, true}, &a.tokens));
  return operands->Optional("logprobs", a.logprobs, {kFloatType, {rows}, Access::kWrite, true}, &a.logprobs);
}

Status CheckSampleValues(const OpArgs& args, const Operands& operands) {
  const dsopt_sample_args& a = args.sample;
  if (a.history == nullptr) return Status();
  const auto* tokens = static_cast<const int32_t*>(a.history->data);
  const auto* counts = static_cast<const int32_t*>(a.history_counts->data);
  const int64_t length = a.history->shape[1], vocab = a.logits->shape[1];
  for (int64_t i = 0; i < a.logits->shape[0] * length; ++i) {
    const auto row = static_cast<long long>(i / length), at = static_cast<long long>(i % length);
    if (tokens[i] < -1 || tokens[i] >= vocab) {
      return operands.Wrong("history", "[%lld, %lld] is %d, expected -1 to %lld", row, at, tokens[i],
                            static_cast<long long>(vocab - 1));
    }
    if (counts[i] < 0) {
      return operands.Wrong("history_counts", "[%lld, %lld] is %d, expected 0 or more", row, at, counts[i]);
    }
  }
  return Status();
}

}  // namespace dsopt
