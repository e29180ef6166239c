#include "import/gguf_rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace dsopt {
namespace {

// What Llama 3's scaling divides the frequency of pair i by.
double FactorOf(const RopeSpec& rope, uint32_t i) {
  const double base = std::pow(static_cast<double>(rope.theta), -2.0 * i / rope.dim);
  const double turns = rope.original_context * base / (2 * std::numbers::pi);
  const double keep =
      std::clamp((turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor), 0.0, 1.0);
  return 1 / ((1 - keep) / rope.factor + keep);
}

bool Fits(const RopeSpec& rope, const std::vector<float>& factors) {
  for (uint32_t i = 0; i < factors.size(); ++i) {
    const double expected = FactorOf(rope, i);
    if (!(std::abs(factors[i] - expected) <= 1e-3 * expected)) return false;
  }
  return true;
}

// The file keeps the factors that Llama 3's scaling gives and not its parameters, of which only the factor and
// the original context differ between models.
Status FitLlama3(const GgufTensor& tensor, const std::vector<float>& factors, RopeSpec* rope) {
  if (std::all_of(factors.begin(), factors.end(), [](float factor) { return factor == 1.0f; })) return {};
  RopeSpec fit = *rope;
  fit.scaling = RopeScaling::kLlama3;
  fit.factor = factors.back();
  if (fit.factor > 1 && std::isfinite(fit.factor)) {
    for (fit.original_context = 1024; fit.original_context <= 1u << 20; fit.original_context *= 2) {
      if (!Fits(fit, factors)) continue;
      *rope = fit;
      return {};
    }
  }
  return Error(
      DSOPT_E_UNSUPPORTED,
      "gguf: tensor '%s' has factors from %g to %g, expected those of Llama 3's scaling from a context of a "
      "power of two",
      tensor.name.c_str(), static_cast<double>(factors.front()), static_cast<double>(factors.back()));
}

Status ParseFactors(const GgufCheckpoint& checkpoint, const GgufTensor& tensor, RopeSpec* rope) {
  if (tensor.shape != std::vector<uint64_t>{rope->dim / 2} || rope->dim < 2) {
    return Error(DSOPT_E_CORRUPT, "gguf: tensor '%s' has not the shape of %u pairs", tensor.name.c_str(),
                 rope->dim / 2);
  }
  std::vector<float> factors(rope->dim / 2);
  ASSIGN_OR_RETURN(auto source, OpenGgufMatrix(checkpoint, tensor, tensor.shape, 0));
  RETURN_IF_ERROR(source->ReadValues(0, 1, DSOPT_F32, reinterpret_cast<uint8_t*>(factors.data())));
  return FitLlama3(tensor, factors, rope);
}

Status ParseYarn(const GgufKeys& keys, uint32_t context, RopeSpec* rope) {
  rope->scaling = RopeScaling::kYarn;
  ASSIGN_OR_RETURN(rope->original_context, keys.Uint("rope.scaling.original_context_length", context));
  ASSIGN_OR_RETURN(rope->beta_fast, keys.Float("rope.scaling.yarn_beta_fast", 32));
  ASSIGN_OR_RETURN(rope->beta_slow, keys.Float("rope.scaling.yarn_beta_slow", 1));
  ASSIGN_OR_RETURN(const float extrapolation, keys.Float("rope.scaling.yarn_ext_factor", 1));
  if (extrapolation != 1 && extrapolation != -1) return keys.Unsupported("rope.scaling.yarn_ext_factor", "1");
  ASSIGN_OR_RETURN(const float old_name, keys.Float("rope.scaling.attn_factor", 1));
  ASSIGN_OR_RETURN(const float factor, keys.Float("rope.scaling.yarn_attn_factor", old_name));
  // On top of what yarn itself does, which is what 0 stands for.
  if (factor != 1) rope->attention_factor = factor * (0.1f * std::log(rope->factor) + 1);
  return {};
}

}  // namespace

Status ParseGgufRope(const GgufCheckpoint& checkpoint, const GgufKeys& keys, uint32_t context, RopeSpec* rope) {
  ASSIGN_OR_RETURN(rope->theta, keys.Float("rope.freq_base", 10000));
  ASSIGN_OR_RETURN(const float old_factor, keys.Float("rope.scale_linear", 1));
  ASSIGN_OR_RETURN(rope->factor, keys.Float("rope.scaling.factor", old_factor));
  if (rope->factor == 0) rope->factor = 1;
  ASSIGN_OR_RETURN(const std::string type, keys.String("rope.scaling.type", "linear"));
  if (type == "yarn") {
    RETURN_IF_ERROR(ParseYarn(keys, context, rope));
  } else if (type == "linear") {
    if (rope->factor != 1) rope->scaling = RopeScaling::kLinear;
  } else if (type != "none") {
    return keys.Unsupported("rope.scaling.type", "none, linear or yarn");
  }
  if (rope->scaling == RopeScaling::kNone) rope->factor = 1;
  for (const char* name : {"rope_freqs.weight", "rope_factors_long.weight"}) {
    const GgufTensor* factors = checkpoint.Find(name);
    if (factors == nullptr) continue;
    if (rope->scaling != RopeScaling::kNone)
      return keys.Unsupported("rope.scaling.type", "none beside rope factors");
    RETURN_IF_ERROR(ParseFactors(checkpoint, *factors, rope));
  }
  return {};
}

}  // namespace dsopt
