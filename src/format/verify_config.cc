#include <string>

#include "format/range_check.h"
#include "format/verify.h"

namespace dsopt {
namespace {

Status VerifyRope(const std::string& where, const RopeSpec& rope, uint32_t head_dim) {
  RETURN_IF_ERROR(CheckRanges(where, {IntRange{"rope.dim", rope.dim, 2, head_dim},
                                      {"rope.original_context", rope.original_context, 0, kMaxContext}}));
  if (rope.dim % 2 != 0) {
    return Error(DSOPT_E_CORRUPT, "%s: rope.dim is %u, expected an even number", where.c_str(), rope.dim);
  }
  RETURN_IF_ERROR(CheckRanges(where, {FloatRange{"rope.theta", rope.theta, 1, 1e12},
                                      {"rope.factor", rope.factor, 1e-3, 1e6},
                                      {"rope.low_freq_factor", rope.low_freq_factor, 1e-3, 1e6},
                                      {"rope.high_freq_factor", rope.high_freq_factor, 1e-3, 1e6},
                                      {"rope.beta_fast", rope.beta_fast, 1e-3, 1e6},
                                      {"rope.beta_slow", rope.beta_slow, 1e-3, 1e6},
                                      {"rope.mscale", rope.mscale, 0, 1e3},
                                      {"rope.mscale_all_dim", rope.mscale_all_dim, 0, 1e3},
                                      {"rope.attention_factor", rope.attention_factor, 0, 1e3}}));
  if (rope.scaling != RopeScaling::kLlama3 && rope.scaling != RopeScaling::kYarn) return {};
  RETURN_IF_ERROR(CheckRanges(where, {IntRange{"rope.original_context of llama3 or yarn scaling",
                                               rope.original_context, 1, kMaxContext}}));
  if (rope.scaling == RopeScaling::kLlama3 && !(rope.high_freq_factor > rope.low_freq_factor)) {
    return Error(DSOPT_E_CORRUPT, "%s: rope.high_freq_factor is %g, expected more than low_freq_factor %g",
                 where.c_str(), static_cast<double>(rope.high_freq_factor),
                 static_cast<double>(rope.low_freq_factor));
  }
  return {};
}

Status VerifyAttention(const std::string& where, const LayerKind& kind) {
  const AttentionSpec& a = kind.attention;
  RETURN_IF_ERROR(CheckRanges(where, {IntRange{"q_heads", a.q_heads, 1, kMaxHeads},
                                      {"kv_heads", a.kv_heads, 1, a.q_heads},
                                      {"head_dim", a.head_dim, 1, kMaxHeadDim},
                                      {"window", a.window, 0, kMaxContext}}));
  if (a.q_heads % a.kv_heads != 0) {
    return Error(DSOPT_E_CORRUPT, "%s: kv_heads is %u, expected a divisor of q_heads %u", where.c_str(),
                 a.kv_heads, a.q_heads);
  }
  RETURN_IF_ERROR(CheckRanges(where, {FloatRange{"scale", a.scale, 0, 1e6}}));
  return VerifyRope(where, a.rope, a.head_dim);
}

Status VerifyLatentAttention(const std::string& where, const AttentionSpec& a) {
  RETURN_IF_ERROR(CheckRanges(where, {IntRange{"q_lora_rank", a.q_lora_rank, 0, kMaxHidden},
                                      {"kv_lora_rank", a.kv_lora_rank, 1, kMaxHidden},
                                      {"nope_dim", a.nope_dim, 1, kMaxHeadDim},
                                      {"v_dim", a.v_dim, 1, kMaxHeadDim},
                                      {"kv_heads of latent attention", a.kv_heads, a.q_heads, a.q_heads}}));
  if (a.head_dim == a.nope_dim + a.rope.dim) return {};
  return Error(DSOPT_E_CORRUPT, "%s: head_dim is %u, expected nope_dim %u + rope.dim %u", where.c_str(),
               a.head_dim, a.nope_dim, a.rope.dim);
}

Status VerifyMoe(const std::string& where, const MoeSpec& moe) {
  RETURN_IF_ERROR(CheckRanges(where, {IntRange{"experts", moe.experts, 1, kMaxExperts},
                                      {"top_k", moe.top_k, 1, moe.experts},
                                      {"inner of an expert", moe.inner, 1, kMaxInner},
                                      {"shared_inner", moe.shared_inner, 0, kMaxInner},
                                      {"groups", moe.groups, 0, moe.experts}}));
  RETURN_IF_ERROR(CheckRanges(where, {FloatRange{"route_scale", moe.route_scale, -1e6, 1e6}}));
  if (moe.groups <= 1) return {};
  if (moe.experts % moe.groups != 0) {
    return Error(DSOPT_E_CORRUPT, "%s: groups is %u, expected a divisor of %u experts", where.c_str(),
                 moe.groups, moe.experts);
  }
  RETURN_IF_ERROR(CheckRanges(where, {IntRange{"top_groups", moe.top_groups, 1, moe.groups}}));
  const uint64_t reachable = uint64_t{moe.top_groups} * (moe.experts / moe.groups);
  return CheckRanges(where, {IntRange{"top_k within the chosen groups", moe.top_k, 1, reachable}});
}

Status VerifyKind(const std::string& where, const LayerKind& kind) {
  RETURN_IF_ERROR(VerifyAttention(where, kind));
  if (kind.mixer == Mixer::kMla) RETURN_IF_ERROR(VerifyLatentAttention(where, kind.attention));
  RETURN_IF_ERROR(kind.mlp.moe.experts != 0
                      ? VerifyMoe(where, kind.mlp.moe)
                      : CheckRanges(where, {IntRange{"inner", kind.mlp.inner, 1, kMaxInner}}));
  return CheckRanges(
      where, {FloatRange{"norm_eps", kind.norm_eps, 0, 1}, {"latent_norm_eps", kind.latent_norm_eps, 0, 1}});
}

bool IsArchitectureName(const std::string& name) {
  for (char c : name) {
    if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '_') return false;
  }
  return true;
}

}  // namespace

Status VerifyConfig(const ConfigSpec& config) {
  const std::string where = "configuration";
  RETURN_IF_ERROR(
      CheckRanges(where, {IntRange{"length of architecture", config.architecture.size(), 1, kMaxArchitecture},
                          {"hidden", config.hidden, 1, kMaxHidden},
                          {"vocab", config.vocab, 1, kMaxVocab},
                          {"context", config.context, 1, kMaxContext},
                          {"number of layer kinds", config.kinds.size(), 1, kMaxKinds},
                          {"number of layers", config.layers.size(), 1, kMaxLayers}}));
  if (!IsArchitectureName(config.architecture)) {
    return Error(DSOPT_E_CORRUPT, "configuration: architecture has other characters than a-z, 0-9 and _");
  }
  RETURN_IF_ERROR(CheckRanges(where, {FloatRange{"embedding_scale", config.embedding_scale, -1e6, 1e6},
                                      {"final_norm_eps", config.final_norm_eps, 0, 1}}));
  for (size_t i = 0; i < config.layers.size(); ++i) {
    if (config.layers[i] < config.kinds.size()) continue;
    return Error(DSOPT_E_CORRUPT, "layer %zu: its kind is %u, expected 0 to %zu", i, config.layers[i],
                 config.kinds.size() - 1);
  }
  for (size_t i = 0; i < config.kinds.size(); ++i) {
    RETURN_IF_ERROR(VerifyKind("layer kind " + std::to_string(i), config.kinds[i]));
  }
  return {};
}

Status VerifySampling(const SamplingSpec& sampling) {
  return CheckRanges("sampling defaults", {FloatRange{"temperature", sampling.temperature, 0, 1e3},
                                           {"top_p", sampling.top_p, 0, 1},
                                           {"min_p", sampling.min_p, 0, 1},
                                           {"repeat_penalty", sampling.repeat_penalty, 0, 1e3}});
}

}  // namespace dsopt
