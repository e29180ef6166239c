#include "format/metadata.h"

#include <algorithm>
#include <memory>

#include "dsopt_model_generated.h"
#include "format/verify.h"

namespace dsopt {
namespace {

constexpr uint32_t kMaxTables = 1000000, kMaxDepth = 16;

// Booleans of TokenizerSpec by bit number; only append.
bool TokenizerSpec::* const kTokenizerFlags[] = {
    &TokenizerSpec::merges_by_id,      &TokenizerSpec::ignore_merges,     &TokenizerSpec::byte_fallback,
    &TokenizerSpec::fuse_unknown,      &TokenizerSpec::strip_left,        &TokenizerSpec::strip_right,
    &TokenizerSpec::nfc,               &TokenizerSpec::nfkc,              &TokenizerSpec::add_dummy_prefix,
    &TokenizerSpec::prefix_first_only, &TokenizerSpec::prefix_unless_space, &TokenizerSpec::escape_spaces,
    &TokenizerSpec::collapse_spaces,   &TokenizerSpec::add_prefix_space,  &TokenizerSpec::strip_leading_space,
};
bool AddedToken::* const kAddedFlags[] = {&AddedToken::special, &AddedToken::lstrip, &AddedToken::rstrip,
                                          &AddedToken::single_word, &AddedToken::normalized};

template <typename T, size_t kCount>
uint32_t PackFlags(const T& object, bool T::* const (&flags)[kCount]) {
  uint32_t bits = 0;
  for (size_t i = 0; i < kCount; ++i) bits |= object.*flags[i] ? 1u << i : 0u;
  return bits;
}

template <typename T, size_t kCount>
Status UnpackFlags(uint32_t bits, bool T::* const (&flags)[kCount], const char* what, T* object) {
  if (bits >> kCount != 0) return Error(DSOPT_E_VERSION, "%s: flags 0x%x, this version knows %zu bits", what, bits, kCount);
  for (size_t i = 0; i < kCount; ++i) object->*flags[i] = (bits >> i & 1) != 0;
  return Status();
}

// ---- to the flatbuffer ----------------------------------------------------------------------------------

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
  return tensor;
}

// ---- from the flatbuffer: no judgement here, that is verify.h; only enumerations and flags are refused ---------

template <typename E>
Status UnpackEnum(uint8_t value, uint8_t last, const char* what, E* out) {
  if (value > last) return Error(DSOPT_E_VERSION, "%s: value %u, this version knows 0 to %u", what, value, last);
  *out = static_cast<E>(value);
  return Status();
}

Status UnpackKind(const fb::LayerKindT& in, LayerKind* kind) {
  RETURN_IF_ERROR(UnpackEnum(in.mixer, static_cast<uint8_t>(Mixer::kMla), "layer mixer", &kind->mixer));
  kind->norm_eps = in.norm_eps;
  kind->latent_norm_eps = in.latent_norm_eps;
  const fb::AttentionT& a = *in.attention;
  AttentionSpec& attention = kind->attention;
  attention.q_heads = a.q_heads;
  attention.kv_heads = a.kv_heads;
  attention.head_dim = a.head_dim;
  attention.window = a.window;
  attention.qkv_bias = a.qkv_bias;
  attention.out_bias = a.out_bias;
  attention.scale = a.scale;
  attention.q_lora_rank = a.q_lora_rank;
  attention.kv_lora_rank = a.kv_lora_rank;
  attention.nope_dim = a.nope_dim;
  attention.v_dim = a.v_dim;
  const fb::RopeT& r = *a.rope;
  RopeSpec& rope = attention.rope;
  RETURN_IF_ERROR(UnpackEnum(r.scaling, static_cast<uint8_t>(RopeScaling::kYarn), "rope scaling", &rope.scaling));
  rope.theta = r.theta;
  rope.dim = r.dim;
  rope.interleaved = r.interleaved;
  rope.factor = r.factor;
  rope.original_context = r.original_context;
  rope.low_freq_factor = r.low_freq_factor;
  rope.high_freq_factor = r.high_freq_factor;
  rope.beta_fast = r.beta_fast;
  rope.beta_slow = r.beta_slow;
  rope.mscale = r.mscale;
  rope.mscale_all_dim = r.mscale_all_dim;
  rope.attention_factor = r.attention_factor;
  const fb::MlpT& m = *in.mlp;
  MlpSpec& mlp = kind->mlp;
  mlp.inner = m.inner;
  if (m.activation == 0) return Error(DSOPT_E_VERSION, "activation: value 0, this version knows 1 to 2");
  RETURN_IF_ERROR(UnpackEnum(m.activation, static_cast<uint8_t>(Activation::kGeluTanh), "activation", &mlp.activation));
  mlp.bias = m.bias;
  mlp.moe = {m.moe->experts, m.moe->top_k,      m.moe->inner,       m.moe->shared_inner,
             m.moe->groups,  m.moe->top_groups, m.moe->renormalise, m.moe->route_scale};
  return Status();
}

Status UnpackConfig(const fb::ConfigT& in, ConfigSpec* config) {
  config->architecture = in.architecture;
  config->hidden = in.hidden;
  config->vocab = in.vocab;
  config->context = in.context;
  config->layers = in.layers;
  config->tie_embeddings = in.tie_embeddings;
  config->embedding_scale = in.embedding_scale;
  config->final_norm_eps = in.final_norm_eps;
  for (const auto& kind : in.kinds) RETURN_IF_ERROR(UnpackKind(*kind, &config->kinds.emplace_back()));
  return Status();
}

Status UnpackTokenizer(const fb::TokenizerT& in, TokenizerSpec* out) {
  RETURN_IF_ERROR(UnpackEnum(in.kind, static_cast<uint8_t>(TokenizerKind::kUnigram), "tokenizer kind", &out->kind));
  RETURN_IF_ERROR(UnpackEnum(in.pre_tokenizer, static_cast<uint8_t>(PreTokenizer::kDeepseekV3), "pre-tokenizer",
                             &out->pre_tokenizer));
  RETURN_IF_ERROR(UnpackFlags(in.flags, kTokenizerFlags, "tokenizer", out));
  out->pieces.reserve(in.piece_ends.size());
  uint32_t begin = 0;
  for (uint32_t end : in.piece_ends) {
    if (end < begin || end > in.pieces.size()) {
      return Error(DSOPT_E_CORRUPT, "tokenizer piece %zu: ends at byte %u, expected %u to %zu", out->pieces.size(), end,
                   begin, in.pieces.size());
    }
    out->pieces.emplace_back(in.pieces.begin() + begin, in.pieces.begin() + end);
    begin = end;
  }
  out->piece_flags = in.piece_flags;
  out->scores = in.scores;
  out->merges.reserve(in.merges.size());
  for (const fb::Pair& merge : in.merges) out->merges.emplace_back(merge.first(), merge.second());
  for (const fb::Pair& pair : in.added) {
    AddedToken token;
    token.id = pair.first();
    RETURN_IF_ERROR(UnpackFlags(pair.second(), kAddedFlags, "added token", &token));
    out->added.push_back(token);
  }
  for (const auto& replacement : in.replacements) {
    out->replacements.emplace_back(std::string(replacement->from.begin(), replacement->from.end()),
                                   std::string(replacement->to.begin(), replacement->to.end()));
  }
  out->bos = in.bos;
  out->eos = in.eos;
  out->unk = in.unk;
  out->pad = in.pad;
  out->end_tokens = in.end_tokens;
  out->prefix = in.prefix;
  out->suffix = in.suffix;
  return Status();
}

Status UnpackTensors(const fb::ModelT& in, ModelSpec* spec) {
  spec->tensors.reserve(in.tensors.size());
  for (const auto& t : in.tensors) {
    TensorSpec tensor;
    tensor.name = t->name;
    RETURN_IF_ERROR(UnpackEnum(t->dtype, static_cast<uint8_t>(DSOPT_U8), "tensor type", &tensor.dtype));
    tensor.shape = t->shape;
    tensor.first_chunk = t->first_chunk;
    tensor.chunk_count = t->chunk_count;
    tensor.synthetic = t->synthetic;
    tensor.synthetic_seed = t->synthetic_seed;
    tensor.synthetic_mean = t->synthetic_mean;
    tensor.synthetic_stddev = t->synthetic_stddev;
    spec->tensors.push_back(std::move(tensor));
  }
  spec->chunks.reserve(in.chunks.size());
  for (const fb::Chunk& c : in.chunks) {
    ChunkSpec chunk;
    chunk.offset = c.offset();
    chunk.stored_size = c.stored_size();
    chunk.raw_size = c.raw_size();
    chunk.raw_checksum = c.raw_checksum();
    chunk.stored_checksum = c.stored_checksum();
    RETURN_IF_ERROR(UnpackEnum(c.codec(), static_cast<uint8_t>(Codec::kZstd), "chunk codec", &chunk.codec));
    RETURN_IF_ERROR(UnpackEnum(c.filter(), static_cast<uint8_t>(Filter::kBytePlanes), "chunk filter", &chunk.filter));
    if (c.flags() != 0 || c.reserved() != 0) {
      return Error(DSOPT_E_VERSION, "chunk %zu: flags %u and reserved %u, expected 0", spec->chunks.size(), c.flags(),
                   c.reserved());
    }
    chunk.element_bytes = c.element_bytes();
    spec->chunks.push_back(chunk);
  }
  return Status();
}

}  // namespace

Result<std::vector<uint8_t>> SerializeMetadata(const ModelSpec& spec) {
  fb::ModelT model;
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
  std::vector<const TensorSpec*> tensors;
  for (const TensorSpec& tensor : spec.tensors) tensors.push_back(&tensor);
  std::sort(tensors.begin(), tensors.end(),
            [](const TensorSpec* a, const TensorSpec* b) { return a->name < b->name; });
  for (const TensorSpec* tensor : tensors) model.tensors.push_back(PackTensor(*tensor));
  for (const ChunkSpec& c : spec.chunks) {
    model.chunks.emplace_back(c.offset, c.raw_checksum, c.stored_checksum, c.stored_size, c.raw_size,
                              static_cast<uint8_t>(c.codec), static_cast<uint8_t>(c.filter), c.element_bytes, uint8_t{0}, 0u);
  }
  flatbuffers::FlatBufferBuilder builder(1 << 16);
  builder.ForceDefaults(true);  // so that the size does not depend on the values
  fb::FinishModelBuffer(builder, fb::Model::Pack(builder, &model));
  return std::vector<uint8_t>(builder.GetBufferPointer(), builder.GetBufferPointer() + builder.GetSize());
}

Result<ModelSpec> ParseMetadata(std::span<const uint8_t> bytes, uint64_t file_bytes, uint64_t first_chunk_offset) {
  if (bytes.size() >= FLATBUFFERS_MAX_BUFFER_SIZE) {  // the verifier asserts this
    return Error(DSOPT_E_CORRUPT, "metadata: %zu bytes, at most %zu are possible", bytes.size(),
                 static_cast<size_t>(FLATBUFFERS_MAX_BUFFER_SIZE));
  }
  flatbuffers::Verifier verifier(bytes.data(), bytes.size(), kMaxDepth, kMaxTables);
  if (!fb::VerifyModelBuffer(verifier)) {
    return Error(DSOPT_E_CORRUPT, "metadata: %zu bytes are not a valid flatbuffer of type DSO1", bytes.size());
  }
  fb::ModelT in;
  fb::GetModel(bytes.data())->UnPackTo(&in);
  for (const std::string& feature : in.required_features) {
    return Error(DSOPT_E_VERSION, "the file requires feature '%.64s', which this version does not know", feature.c_str());
  }
  ModelSpec spec;
  spec.chunk_bytes = in.chunk_bytes;
  RETURN_IF_ERROR(UnpackConfig(*in.config, &spec.config));
  if (in.tokenizer != nullptr) RETURN_IF_ERROR(UnpackTokenizer(*in.tokenizer, &spec.tokenizer));
  spec.chat_template = in.chat_template;
  spec.sampling = {in.sampling->temperature, in.sampling->top_k, in.sampling->top_p, in.sampling->min_p,
                   in.sampling->repeat_penalty};
  for (const auto& entry : in.metadata) spec.metadata[entry->key] = entry->value;
  RETURN_IF_ERROR(UnpackTensors(in, &spec));
  RETURN_IF_ERROR(VerifyModelSpec(&spec, file_bytes, first_chunk_offset));
  return spec;
}

}  // namespace dsopt
