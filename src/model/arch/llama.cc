// llama.cc - Llama 2 and 3: grouped-query attention with rotary positions over all keys, a gated SiLU MLP, RMS
// norms before each of them (arXiv 2302.13971, 2407.21783).
#include "model/arch/architecture.h"

namespace dsopt {

Status CheckDenseAttention(const ConfigSpec& config) {
  const char* name = config.architecture.c_str();
  for (size_t i = 0; i < config.kinds.size(); ++i) {
    const LayerKind& kind = config.kinds[i];
    if (kind.mixer != Mixer::kAttention) {
      return Error(DSOPT_E_UNSUPPORTED, "%s: layer kind %zu uses latent attention, expected attention", name,
                   i);
    }
    if (kind.mlp.moe.experts != 0) {
      return Error(DSOPT_E_UNSUPPORTED, "%s: layer kind %zu has %u experts, expected a dense layer", name, i,
                   kind.mlp.moe.experts);
    }
  }
  return {};
}

void AttentionLayer(const LayerKind& kind, BlockBuilder* blocks) {
  blocks->Attention(kind);
  if (kind.mlp.moe.experts != 0) {
    blocks->Moe(kind);
  } else {
    blocks->Mlp(kind);
  }
}

static Status CheckLlama(const ConfigSpec& config) {
  RETURN_IF_ERROR(CheckDenseAttention(config));
  for (size_t i = 0; i < config.kinds.size(); ++i) {
    if (config.kinds[i].attention.window == 0) continue;
    return Error(DSOPT_E_UNSUPPORTED, "llama: layer kind %zu has a window of %u positions, expected none", i,
                 config.kinds[i].attention.window);
  }
  return {};
}

const Architecture kLlama = {"llama", CheckLlama, AttentionLayer};

}  // namespace dsopt
