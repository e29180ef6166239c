// names.h - canonical tensor names of a .dsopt file. Importers map checkpoints onto these; src/model reads
// them.
//
//   embed [vocab, hidden]        head [vocab, hidden] (absent when tied)      final_norm [hidden]
//   layers.N.attn.norm [hidden]
//   attention:  layers.N.attn.{q [q_heads head_dim, hidden], k, v [kv_heads head_dim, hidden],
//               o [hidden, q_heads head_dim]}, biases layers.N.attn.{q,k,v,o}.bias
//   MLA:        layers.N.attn.q [heads (nope+rope), hidden]                        without q_lora_rank, or
//               layers.N.attn.q_a [q_rank, hidden], q_a_norm [q_rank], q_b [heads (nope+rope), q_rank]
//               layers.N.attn.kv_a [latent + rope, hidden], kv_a_norm [latent],
//               kv_b [heads (nope + v), latent], o [hidden, heads v]; biases q_a.bias, kv_a.bias, o.bias
//   layers.N.mlp.norm [hidden]
//   dense:      layers.N.mlp.{gate, up [inner, hidden], down [hidden, inner]}, biases .bias
//   mixture:    layers.N.moe.router [experts, hidden], layers.N.moe.{gate, up [experts, inner, hidden],
//               down [experts, hidden, inner]}, layers.N.moe.shared.{gate, up, down}
#ifndef DSOPT_MODEL_NAMES_H_
#define DSOPT_MODEL_NAMES_H_

#include <cstdint>
#include <string>

namespace dsopt {

// "layers.3." + suffix
inline std::string LayerName(uint32_t layer, const char* suffix) {
  return "layers." + std::to_string(layer) + "." + suffix;
}

}  // namespace dsopt
#endif  // DSOPT_MODEL_NAMES_H_
