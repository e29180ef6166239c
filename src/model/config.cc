#include "model/config.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace dsopt {
namespace {

constexpr uint64_t kPageAlign = 256;  // of a layer inside a page, and of a page

struct Range {
  const char* field;
  uint64_t value, low, high;
};

Status CheckRanges(const char* where, size_t index, std::initializer_list<Range> ranges) {
  for (const Range& range : ranges) {
    if (range.value >= range.low && range.value <= range.high) continue;
    return Error(DSOPT_E_CORRUPT, "configuration: %s %zu: %s is %llu, expected %llu to %llu", where, index,
                 range.field, static_cast<unsigned long long>(range.value),
                 static_cast<unsigned long long>(range.low), static_cast<unsigned long long>(range.high));
  }
  return {};
}

Status CheckPositive(size_t kind, const char* field, float value, bool zero_allowed) {
  if (std::isfinite(value) && (value > 0 || (zero_allowed && value == 0))) return {};
  return Error(DSOPT_E_CORRUPT, "configuration: layer kind %zu: %s is %g, expected a %s number", kind, field,
               static_cast<double>(value), zero_allowed ? "finite, not negative" : "finite, positive");
}

Status CheckRope(size_t index, const RopeSpec& rope, uint32_t limit) {
  RETURN_IF_ERROR(CheckRanges("layer kind", index, {{"rope.dim", rope.dim, 2, limit}}));
  if (rope.dim % 2 != 0) {
    return Error(DSOPT_E_CORRUPT, "configuration: layer kind %zu: rope.dim is %u, expected an even number",
                 index, rope.dim);
  }
  RETURN_IF_ERROR(CheckPositive(index, "rope.theta", rope.theta, false));
  if (rope.scaling == RopeScaling::kNone) return {};
  RETURN_IF_ERROR(CheckPositive(index, "rope.factor", rope.factor, false));
  if (rope.scaling == RopeScaling::kLinear) return {};
  RETURN_IF_ERROR(
      CheckRanges("layer kind", index, {{"rope.original_context", rope.original_context, 1, 1u << 30}}));
  if (rope.scaling == RopeScaling::kLlama3) {
    RETURN_IF_ERROR(CheckPositive(index, "rope.low_freq_factor", rope.low_freq_factor, false));
    RETURN_IF_ERROR(CheckPositive(index, "rope.high_freq_factor", rope.high_freq_factor, false));
    if (rope.high_freq_factor > rope.low_freq_factor) return {};
    return Error(DSOPT_E_CORRUPT,
                 "configuration: layer kind %zu: rope.high_freq_factor is %g, expected more than %g", index,
                 static_cast<double>(rope.high_freq_factor), static_cast<double>(rope.low_freq_factor));
  }
  if (rope.theta == 1.0f) {
    return Error(DSOPT_E_CORRUPT,
                 "configuration: layer kind %zu: rope.theta is 1, expected another value for yarn", index);
  }
  RETURN_IF_ERROR(CheckPositive(index, "rope.beta_fast", rope.beta_fast, false));
  RETURN_IF_ERROR(CheckPositive(index, "rope.beta_slow", rope.beta_slow, false));
  RETURN_IF_ERROR(CheckPositive(index, "rope.mscale", rope.mscale, true));
  RETURN_IF_ERROR(CheckPositive(index, "rope.mscale_all_dim", rope.mscale_all_dim, true));
  return CheckPositive(index, "rope.attention_factor", rope.attention_factor, true);
}

Status CheckAttention(size_t index, const AttentionSpec& attention, Mixer mixer) {
  RETURN_IF_ERROR(CheckRanges("layer kind", index,
                              {{"q_heads", attention.q_heads, 1, 65536},
                               {"kv_heads", attention.kv_heads, 1, attention.q_heads},
                               {"head_dim", attention.head_dim, 1, 4096},
                               {"window", attention.window, 0, 1u << 30}}));
  RETURN_IF_ERROR(CheckPositive(index, "score scale", attention.scale, true));
  if (attention.q_heads % attention.kv_heads != 0) {
    return Error(DSOPT_E_CORRUPT, "configuration: layer kind %zu: q_heads %u is not a multiple of kv_heads %u",
                 index, attention.q_heads, attention.kv_heads);
  }
  RETURN_IF_ERROR(CheckRope(index, attention.rope, attention.head_dim));
  if (mixer == Mixer::kAttention) return {};
  RETURN_IF_ERROR(CheckRanges("layer kind", index,
                              {{"kv_lora_rank", attention.kv_lora_rank, 1, 65536},
                               {"q_lora_rank", attention.q_lora_rank, 0, 65536},
                               {"nope_dim", attention.nope_dim, 1, 4096},
                               {"v_dim", attention.v_dim, 1, 4096},
                               {"kv_heads", attention.kv_heads, attention.q_heads, attention.q_heads}}));
  if (attention.head_dim != attention.nope_dim + attention.rope.dim) {
    return Error(DSOPT_E_CORRUPT,
                 "configuration: layer kind %zu: head_dim is %u, expected nope_dim %u + rope.dim %u", index,
                 attention.head_dim, attention.nope_dim, attention.rope.dim);
  }
  return {};
}

Status CheckMlp(size_t index, const MlpSpec& mlp) {
  const MoeSpec& moe = mlp.moe;
  if (mlp.activation != Activation::kSilu && mlp.activation != Activation::kGeluTanh) {
    return Error(DSOPT_E_CORRUPT, "configuration: layer kind %zu: activation is %u, expected 1 or 2", index,
                 static_cast<unsigned>(mlp.activation));
  }
  if (moe.experts == 0) return CheckRanges("layer kind", index, {{"inner", mlp.inner, 1, 1u << 22}});
  RETURN_IF_ERROR(CheckRanges("layer kind", index,
                              {{"experts", moe.experts, 1, 65536},
                               {"top_k", moe.top_k, 1, moe.experts},
                               {"expert inner", moe.inner, 1, 1u << 22},
                               {"shared_inner", moe.shared_inner, 0, 1u << 22},
                               {"groups", moe.groups, 0, moe.experts}}));
  RETURN_IF_ERROR(CheckPositive(index, "route_scale", moe.route_scale, false));
  if (moe.groups <= 1) return {};
  RETURN_IF_ERROR(CheckRanges("layer kind", index, {{"top_groups", moe.top_groups, 1, moe.groups}}));
  if (moe.experts % moe.groups != 0 || moe.top_k > moe.experts / moe.groups * moe.top_groups) {
    return Error(
        DSOPT_E_CORRUPT,
        "configuration: layer kind %zu: %u experts in %u groups, top %u groups, cannot give %u experts", index,
        moe.experts, moe.groups, moe.top_groups, moe.top_k);
  }
  return {};
}

double YarnDimension(const RopeSpec& rope, double rotations) {
  return rope.dim * std::log(rope.original_context / (rotations * 2 * std::numbers::pi)) /
         (2 * std::log(static_cast<double>(rope.theta)));
}

}  // namespace

Status CheckConfig(const ConfigSpec& config) {
  RETURN_IF_ERROR(CheckRanges("model", 0,
                              {{"hidden", config.hidden, 1, 1u << 17},
                               {"vocab", config.vocab, 1, 1u << 24},
                               {"context", config.context, 1, 1u << 30},
                               {"layers", config.layers.size(), 1, 4096},
                               {"layer kinds", config.kinds.size(), 1, 256}}));
  for (size_t i = 0; i < config.layers.size(); ++i) {
    RETURN_IF_ERROR(CheckRanges("layer", i, {{"kind", config.layers[i], 0, config.kinds.size() - 1}}));
  }
  for (size_t i = 0; i < config.kinds.size(); ++i) {
    const LayerKind& kind = config.kinds[i];
    if (kind.mixer != Mixer::kAttention && kind.mixer != Mixer::kMla) {
      return Error(DSOPT_E_CORRUPT, "configuration: layer kind %zu: mixer is %u, expected 0 or 1", i,
                   static_cast<unsigned>(kind.mixer));
    }
    RETURN_IF_ERROR(CheckAttention(i, kind.attention, kind.mixer));
    RETURN_IF_ERROR(CheckMlp(i, kind.mlp));
    RETURN_IF_ERROR(CheckPositive(i, "norm_eps", kind.norm_eps, true));
    RETURN_IF_ERROR(CheckPositive(i, "latent_norm_eps", kind.latent_norm_eps, true));
  }
  if (!std::isfinite(config.embedding_scale) || !std::isfinite(config.final_norm_eps) ||
      config.final_norm_eps < 0) {
    return Error(DSOPT_E_CORRUPT,
                 "configuration: embedding_scale is %g and final_norm_eps %g, expected finite numbers",
                 static_cast<double>(config.embedding_scale), static_cast<double>(config.final_norm_eps));
  }
  return {};
}

float YarnMscale(float factor, float mscale) {
  return factor <= 1.0f ? 1.0f : static_cast<float>(0.1 * mscale * std::log(static_cast<double>(factor)) + 1.0);
}

RopeTable MakeRopeTable(const RopeSpec& rope) {
  RopeTable table;
  table.spec = rope;
  const uint32_t pairs = rope.dim / 2;
  double low = 0, high = 0;
  if (rope.scaling == RopeScaling::kYarn) {
    low = std::max(std::floor(YarnDimension(rope, rope.beta_fast)), 0.0);
    high = std::min(std::ceil(YarnDimension(rope, rope.beta_slow)), rope.dim - 1.0);
    if (low == high) high += 0.001;
    const float numerator = rope.mscale > 0 ? rope.mscale : 1.0f;
    table.scale = rope.attention_factor > 0
                      ? rope.attention_factor
                      : YarnMscale(rope.factor, numerator) / YarnMscale(rope.factor, rope.mscale_all_dim);
  }
  table.inv_freq.resize(pairs);
  for (uint32_t i = 0; i < pairs; ++i) {
    const double base = std::pow(static_cast<double>(rope.theta), -2.0 * i / rope.dim);
    double value = base;
    if (rope.scaling == RopeScaling::kLinear) value = base / rope.factor;
    if (rope.scaling == RopeScaling::kLlama3) {
      // Long waves are stretched, short ones kept, those between are blended.
      const double turns = rope.original_context * base / (2 * std::numbers::pi);
      const double keep =
          std::clamp((turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor), 0.0, 1.0);
      value = (1 - keep) * base / rope.factor + keep * base;
    }
    if (rope.scaling == RopeScaling::kYarn) {
      const double stretch = std::clamp((i - low) / (high - low), 0.0, 1.0);
      value = stretch * base / rope.factor + (1 - stretch) * base;
    }
    table.inv_freq[i] = static_cast<float>(value);
  }
  return table;
}

float ScoreScale(const LayerKind& kind) {
  const AttentionSpec& attention = kind.attention;
  if (attention.scale > 0) return attention.scale;
  double scale = 1.0 / std::sqrt(static_cast<double>(attention.head_dim));
  if (kind.mixer == Mixer::kMla && attention.rope.scaling == RopeScaling::kYarn) {
    const double mscale = YarnMscale(attention.rope.factor, attention.rope.mscale_all_dim);
    scale *= mscale * mscale;
  }
  return static_cast<float>(scale);
}

uint64_t LayerPageBytes(const LayerKind& kind, dsopt_dtype kv_dtype) {
  return LayerTokenBytes(kind, kv_dtype) * kPageTokens;
}

PageLayout MakePageLayout(const ConfigSpec& config, dsopt_dtype kv_dtype) {
  PageLayout layout;
  layout.layer_offsets.reserve(config.layers.size());
  for (uint8_t kind : config.layers) {
    layout.layer_offsets.push_back(layout.page_bytes);
    const uint64_t bytes = LayerPageBytes(config.kinds[kind], kv_dtype);
    layout.page_bytes += (bytes + kPageAlign - 1) / kPageAlign * kPageAlign;
  }
  return layout;
}

}  // namespace dsopt
