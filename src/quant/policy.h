// policy.h - which tensor of a model gets which encoding. Routers, norms, biases and the per-head products of
// latent attention stay as they are; embedding and head get 8 bits where the rest gets 4.
#ifndef DSOPT_QUANT_POLICY_H_
#define DSOPT_QUANT_POLICY_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "quant/coding.h"

namespace dsopt {

// What is asked for a whole model.
struct WeightsRequest {
  dsopt_encoding encoding = DSOPT_ENCODING_PLAIN;  // of most matrices; PLAIN: no matrix is encoded
  uint32_t group = 0;                              // columns; 0: int4 64, others a whole row
  bool offsets = false;                            // int4 and int8
};

// DSOPT_E_INVALID_ARGUMENT where group or offsets do not go with the encoding.
Status CheckRequest(const WeightsRequest& request);
// "bf16", "lossless12", "int8", "fp8", "int4"; nullopt: another word.
std::optional<dsopt_encoding> EncodingOf(std::string_view word);

enum class TensorKind { kEmbedding, kHead, kMatrix, kMixture, kOther };
// By its canonical name (model/names.h) and shape.
TensorKind KindOf(const std::string& name, const std::vector<uint64_t>& shape);
// "embedding", "head", "attention and mlp", "experts", "norms, biases, routers, latent k/v up".
const char* KindName(TensorKind kind);

// nullopt: it stays as it is.
std::optional<Coding> ChooseCoding(const WeightsRequest& request, const std::string& name,
                                   const std::vector<uint64_t>& shape);

}  // namespace dsopt
#endif  // DSOPT_QUANT_POLICY_H_
