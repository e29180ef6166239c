#include "model/decoder.h"

namespace dsopt {

// The map of the model. Every block but the first and the last adds its result to the residual row x:
//
//   x = embed[token]
//   for each layer:   x += attention(x) | mla(x);   x += mlp(x) | moe(x)
//   logits = head(x)
Recording RecordDecoder(const Architecture& architecture, const ConfigSpec& config, const PageLayout& pages,
                        const std::vector<Weight>* weights) {
  BlockBuilder blocks(config, pages, weights);
  blocks.Embed();
  for (uint32_t layer = 0; layer < config.layers.size(); ++layer) {
    blocks.BeginLayer(layer);
    architecture.layer(config.kinds[config.layers[layer]], &blocks);
  }
  blocks.Head();
  return blocks.Take();
}

}  // namespace dsopt
