// deepseek_v2.cc - DeepSeek-V2: multi-head latent attention; the first layers dense, the others a mixture with
// shared experts, optionally limited to groups of experts (arXiv 2405.04434).
#include "model/arch/architecture.h"

namespace dsopt {

static Status CheckDeepseekV2(const ConfigSpec& config) {
  for (size_t i = 0; i < config.kinds.size(); ++i) {
    const LayerKind& kind = config.kinds[i];
    if (kind.mixer != Mixer::kMla) {
      return Error(DSOPT_E_UNSUPPORTED, "deepseek_v2: layer kind %zu uses attention, expected latent attention",
                   i);
    }
    if (kind.attention.window != 0) {
      return Error(DSOPT_E_UNSUPPORTED,
                   "deepseek_v2: layer kind %zu has a window of %u positions, expected none", i,
                   kind.attention.window);
    }
    if (kind.attention.q_lora_rank == 0 && kind.attention.qkv_bias) {
      return Error(DSOPT_E_UNSUPPORTED, "deepseek_v2: layer kind %zu has biases without q_lora_rank", i);
    }
    if (kind.mlp.bias && kind.mlp.moe.experts != 0) {
      return Error(DSOPT_E_UNSUPPORTED, "deepseek_v2: layer kind %zu has expert biases, expected none", i);
    }
  }
  return {};
}

static void DeepseekV2Layer(const LayerKind& kind, BlockBuilder* blocks) {
  blocks->Mla(kind);
  if (kind.mlp.moe.experts != 0) {
    blocks->Moe(kind);
  } else {
    blocks->Mlp(kind);
  }
}

const Architecture kDeepseekV2 = {"deepseek_v2", CheckDeepseekV2, DeepseekV2Layer};

}  // namespace dsopt
