// architecture.h - what one model family is: the rules of its configuration and the blocks of a layer. A family
// is added by its file in this folder, a line in registry.cc and a mapping in src/import.
#ifndef DSOPT_MODEL_ARCH_ARCHITECTURE_H_
#define DSOPT_MODEL_ARCH_ARCHITECTURE_H_

#include <string_view>

#include "base/status.h"
#include "model/blocks.h"
#include "spec/model_spec.h"

namespace dsopt {

struct Architecture {
  const char* name;  // ConfigSpec::architecture
  // What the family does not know. config has passed CheckConfig. DSOPT_E_UNSUPPORTED.
  Status (*check)(const ConfigSpec& config);
  // Appends the blocks of one layer.
  void (*layer)(const LayerKind& kind, BlockBuilder* blocks);
};

// DSOPT_E_UNSUPPORTED names what is known.
Result<const Architecture*> FindArchitecture(std::string_view name);

extern const Architecture kLlama, kMistral, kMixtral, kDeepseekV2;

// Shared by families: every layer must be attention with a dense MLP.
Status CheckDenseAttention(const ConfigSpec& config);
// Attention, then a dense MLP or a mixture, as the layer's kind says.
void AttentionLayer(const LayerKind& kind, BlockBuilder* blocks);

}  // namespace dsopt
#endif  // DSOPT_MODEL_ARCH_ARCHITECTURE_H_
