// mixtral.cc - Mixtral: Mistral's attention and a mixture of experts in every layer; the weights of the chosen
// experts are renormalised (arXiv 2401.04088).
#include "model/arch/architecture.h"

namespace dsopt {

static Status CheckMixtral(const ConfigSpec& config) {
  for (size_t i = 0; i < config.kinds.size(); ++i) {
    const LayerKind& kind = config.kinds[i];
    if (kind.mixer != Mixer::kAttention) {
      return Error(DSOPT_E_UNSUPPORTED, "mixtral: layer kind %zu uses latent attention, expected attention", i);
    }
    if (kind.mlp.moe.experts == 0) {
      return Error(DSOPT_E_UNSUPPORTED, "mixtral: layer kind %zu is dense, expected a mixture of experts", i);
    }
    if (kind.mlp.bias) {
      return Error(DSOPT_E_UNSUPPORTED, "mixtral: layer kind %zu has MLP biases, expected none", i);
    }
  }
  return {};
}

const Architecture kMixtral = {"mixtral", CheckMixtral, AttentionLayer};

}  // namespace dsopt
