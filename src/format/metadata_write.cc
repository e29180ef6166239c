// metadata_write.cc - ModelSpec to flatbuffer. Judges nothing: writers call verify.h before.
#include <memory>

#include "dsopt_model_generated.h"
#include "format/metadata.h"
#include "format/metadata_flags.h"

namespace dsopt {
namespace {

template <typename T, size_t kCount>
uint32_t PackFlags(const T& object, bool T::*const (&flags)[kCount]) {
  uint32_t bits = 0;
  for (size_t i = 0; i < kCount; ++i) bits |= object.*flags[i] ? 1u << i : 0u;
  return bits;
}

std::unique_ptr<fb::RopeT> PackRope(const RopeSpec& spec) {
  auto rope = std::make_unique<fb::RopeT>();
  rope->theta = spec.theta;
  rope->dim = spec.dim;
  rope->interleaved = spec.interleaved;
  rope->scaling = static_cast<uint8_t>(spec.scaling);
  rope->factor = spec.factor;
  rope->original_context = spec.original_context;
  rope->low_freq_factor = spec.low_freq_factor;
  rope->high_freq_factor = spec.high_freq_factor;
  rope->beta_fast = spec.beta_fast;
  rope->beta_slow = spec.beta_slow;
  rope->mscale = spec.mscale;
  rope->mscale_all_dim = spec.mscale_all_dim;
  rope->attention_factor = spec.attention_factor;
  return rope;
}

std::unique_ptr<fb::AttentionT> PackAttention(const AttentionSpec& spec) {
  auto attention = std::make_unique<fb::AttentionT>();
  attention->q_heads = spec.q_heads;
  attention->kv_heads = spec.kv_heads;
  attention->head_dim = spec.head_dim;
  attention->window = spec.window;
  attention->qkv_bias = spec.qkv_bias;
  attention->out_bias = spec.out_bias;
  attention->rope = PackRope(spec.rope);
  attention->scale = spec.scale;
  attention->q_lora_rank = spec.q_lora_rank;
  attention->kv_lora_rank = spec.kv_lora_rank;
  attention->nope_dim = spec.nope_dim;
  attention->v_dim = spec.v_dim;
  return attention;
}

std::unique_ptr<fb::MlpT> PackMlp(const MlpSpec& spec) {
  auto mlp = std::make_unique<fb::MlpT>();
  mlp->inner = spec.inner;
  mlp->activation = static_cast<uint8_t>(spec.activation);
  mlp->bias = spec.bias;
  mlp->moe = std::make_unique<fb::MoeT>();
  mlp->moe->experts = spec.moe.experts;
  mlp->moe->top_k = spec.moe.top_k;
  mlp->moe->inner = spec.moe.inner;
  mlp->moe->shared_inner = spec.moe.shared_inner;
  mlp->moe->groups = spec.moe.groups;
  mlp->moe->top_groups = spec.moe.top_groups;
  mlp->moe->renormalise = spec.moe.renormalise;
  mlp->moe->route_scale = spec.moe.route_scale;
  return mlp;
}

std::unique_ptr<fb::ConfigT> PackConfig(const ConfigSpec& spec) {
  auto config = std::make_unique<fb::ConfigT>();
  config->architecture = spec.architecture;
  config->hidden = spec.hidden;
  config->vocab = spec.vocab;
  config->context = spec.context;
  config->layers = spec.layers;
  config->tie_embeddings = spec.tie_embeddings;
  config->embedding_scale = spec.embedding_scale;
  config->final_norm_eps = spec.final_norm_eps;
  for (const LayerKind& kind : spec.kinds) {
    auto out = std::make_unique<fb::LayerKindT>();
    out->mixer = static_cast<uint8_t>(kind.mixer);
    out->attention = PackAttention(kind.attention);
    out->mlp = PackMlp(kind.mlp);
    out->norm_eps = kind.norm_eps;
    out->latent_norm_eps = kind.latent_norm_eps;
    config->kinds.push_back(std::move(out));
  }
  return config;
}

std::unique_ptr<fb::TokenizerT> PackTokenizer(const TokenizerSpec& spec) {
  auto out = std::make_unique<fb::TokenizerT>();
  out->kind = static_cast<uint8_t>(spec.kind);
  out->pre_tokenizer = static_cast<uint8_t>(spec.pre_tokenizer);
  for (const std::string& piece : spec.pieces) {
    out->pieces.insert(out->pieces.end(), piece.begin(), piece.end());
    out->piece_ends.push_back(static_cast<uint32_t>(out->pieces.size()));
  }
  out->piece_flags = spec.piece_flags;
  out->scores = spec.scores;
  for (const auto& [left, right] : spec.merges) out->merges.emplace_back(left, right);
  out->flags = PackFlags(spec, kTokenizerFlags);
  for (const AddedToken& token : spec.added) out->added.emplace_back(token.id, PackFlags(token, kAddedFlags));
  for (const auto& [from, to] : spec.replacements) {
    auto replacement = std::make_unique<fb::ReplacementT>();
    replacement->from.assign(from.begin(), from.end());
    replacement->to.assign(to.begin(), to.end());
    out->replacements.push_back(std::move(replacement));
  }
  out->bos = spec.bos;
  out->eos = spec.eos;
  out->unk = spec.unk;
  out->pad = spec.pad;
  out->end_tokens = spec.end_tokens;
  out->prefix = spec.prefix;
  out->suffix = spec.suffix;
  return out;
}

std::unique_ptr<fb::TensorT> PackTensor(const TensorSpec& spec) {
  auto tensor = std::make_unique<fb::TensorT>();
  tensor->name = spec.name;
  tensor->dtype = static_cast<uint8_t>(spec.dtype);
  tensor->shape = spec.shape;
  tensor->first_chunk = spec.first_chunk;
  tensor->chunk_count = spec.chunk_count;
  tensor->synthetic = spec.synthetic;
  tensor->synthetic_seed = spec.synthetic_seed;
  tensor->synthetic_mean = spec.synthetic_mean;
  tensor->synthetic_stddev = spec.synthetic_stddev;
  tensor->encoding = static_cast<uint8_t>(spec.encoding);
  tensor->group_rows = spec.group_rows;
  tensor->group_cols = spec.group_cols;
  tensor->has_offset = spec.has_offset;
  return tensor;
}

}  // namespace

std::vector<uint8_t> SerializeMetadata(const ModelSpec& spec) {
  fb::ModelT model;
  for (const TensorSpec& tensor : spec.tensors) {
    if (tensor.encoding == DSOPT_ENCODING_PLAIN) continue;
    model.required_features.push_back(kEncodingsFeature);
    break;
  }
  model.chunk_bytes = spec.chunk_bytes;
  model.config = PackConfig(spec.config);
  if (spec.tokenizer.kind != TokenizerKind::kNone) model.tokenizer = PackTokenizer(spec.tokenizer);
  model.chat_template = spec.chat_template;
  model.sampling = std::make_unique<fb::SamplingT>();
  model.sampling->temperature = spec.sampling.temperature;
  model.sampling->top_k = spec.sampling.top_k;
  model.sampling->top_p = spec.sampling.top_p;
  model.sampling->min_p = spec.sampling.min_p;
  model.sampling->repeat_penalty = spec.sampling.repeat_penalty;
  for (const auto& [key, value] : spec.metadata) {
    auto entry = std::make_unique<fb::KeyValueT>();
    entry->key = key;
    entry->value = value;
    model.metadata.push_back(std::move(entry));
  }
  for (const TensorSpec& tensor : spec.tensors) model.tensors.push_back(PackTensor(tensor));
  for (const ChunkSpec& c : spec.chunks) {
    model.chunks.emplace_back(c.offset, c.raw_checksum, c.stored_checksum, c.stored_size, c.raw_size,
                              static_cast<uint8_t>(c.codec), static_cast<uint8_t>(c.filter), c.element_bytes,
                              uint8_t{0}, 0u);
  }
  flatbuffers::FlatBufferBuilder builder(1 << 16);
  builder.ForceDefaults(true);  // so that the size does not depend on the values
  fb::FinishModelBuffer(builder, fb::Model::Pack(builder, &model));
  return std::vector<uint8_t>(builder.GetBufferPointer(), builder.GetBufferPointer() + builder.GetSize());
}

}  // namespace dsopt
