// metadata_read.cc - flatbuffer to ModelSpec. Tables and strings of a flatbuffer may be shared, so a small
// hostile buffer can describe a huge object: every count and length is checked here before it is copied.
#include <string>
#include <string_view>

#include "dsopt_model_generated.h"
#include "format/metadata.h"
#include "format/metadata_flags.h"
#include "format/range_check.h"
#include "format/verify.h"

namespace dsopt {
namespace {

constexpr uint32_t kMaxTables = kMaxTensors + 5 * kMaxKinds + kMaxMetadata + kMaxReplacements + 16,
                   kMaxDepth = 16;

// Of a vector or string; 0 if it is absent.
template <typename V>
size_t CountOf(const V* vector) {
  return vector == nullptr ? 0 : vector->size();
}

Status CheckCount(const char* what, size_t count, uint64_t max) {
  return CheckRanges("metadata", {IntRange{what, count, 0, max}});
}

// The verifier checks the alignment of a vector's length only, which is 4: elements of 8 bytes may lie anywhere.
// Writers do not align a vector without elements.
template <typename V>
Status CheckAlignment(const char* what, const V* vector, size_t alignment) {
  if (CountOf(vector) == 0 || reinterpret_cast<uintptr_t>(vector->Data()) % alignment == 0) return {};
  return Error(DSOPT_E_CORRUPT, "metadata: the vector of '%s' is not aligned, expected a multiple of %zu bytes", what,
               alignment);
}

template <typename V, typename T>
Status CopyVector(const char* what, const V* in, uint64_t max, std::vector<T>* out) {
  RETURN_IF_ERROR(CheckCount(what, CountOf(in), max));
  RETURN_IF_ERROR(CheckAlignment(what, in, alignof(T)));
  if (in != nullptr) out->assign(in->begin(), in->end());
  return {};
}

// in: a string or a vector of bytes.
template <typename V>
Status CopyText(const char* what, const V* in, uint64_t max, std::string* out) {
  RETURN_IF_ERROR(CheckCount(what, CountOf(in), max));
  if (in != nullptr) out->assign(reinterpret_cast<const char*>(in->Data()), in->size());
  return {};
}

template <typename E>
Status ParseEnum(const char* what, uint8_t value, E first, E last, E* out) {
  if (value < static_cast<unsigned>(first) || value > static_cast<unsigned>(last)) {
    return Error(DSOPT_E_VERSION, "metadata: %s is %u, this library knows %u to %u", what, value,
                 static_cast<unsigned>(first), static_cast<unsigned>(last));
  }
  *out = static_cast<E>(value);
  return {};
}

template <typename T, size_t kCount>
Status ParseFlags(const char* what, uint32_t bits, bool T::*const (&flags)[kCount], T* object) {
  static_assert(kCount < 32);
  if (bits >> kCount != 0) {
    return Error(DSOPT_E_VERSION, "metadata: flags of %s are 0x%x, this library knows %zu bits", what, bits,
                 kCount);
  }
  for (size_t i = 0; i < kCount; ++i) object->*flags[i] = (bits >> i & 1) != 0;
  return {};
}

Status ParseRope(const fb::Rope& in, RopeSpec* rope) {
  RETURN_IF_ERROR(
      ParseEnum("rope.scaling", in.scaling(), RopeScaling::kNone, RopeScaling::kYarn, &rope->scaling));
  rope->theta = in.theta();
  rope->dim = in.dim();
  rope->interleaved = in.interleaved();
  rope->factor = in.factor();
  rope->original_context = in.original_context();
  rope->low_freq_factor = in.low_freq_factor();
  rope->high_freq_factor = in.high_freq_factor();
  rope->beta_fast = in.beta_fast();
  rope->beta_slow = in.beta_slow();
  rope->mscale = in.mscale();
  rope->mscale_all_dim = in.mscale_all_dim();
  rope->attention_factor = in.attention_factor();
  return {};
}

Status ParseAttention(const fb::Attention& in, AttentionSpec* attention) {
  attention->q_heads = in.q_heads();
  attention->kv_heads = in.kv_heads();
  attention->head_dim = in.head_dim();
  attention->window = in.window();
  attention->qkv_bias = in.qkv_bias();
  attention->out_bias = in.out_bias();
  attention->scale = in.scale();
  attention->q_lora_rank = in.q_lora_rank();
  attention->kv_lora_rank = in.kv_lora_rank();
  attention->nope_dim = in.nope_dim();
  attention->v_dim = in.v_dim();
  return ParseRope(*in.rope(), &attention->rope);
}

Status ParseMlp(const fb::Mlp& in, MlpSpec* mlp) {
  RETURN_IF_ERROR(
      ParseEnum("activation", in.activation(), Activation::kSilu, Activation::kGeluTanh, &mlp->activation));
  mlp->inner = in.inner();
  mlp->bias = in.bias();
  const fb::Moe& moe = *in.moe();
  mlp->moe = {moe.experts(), moe.top_k(),      moe.inner(),       moe.shared_inner(),
              moe.groups(),  moe.top_groups(), moe.renormalise(), moe.route_scale()};
  return {};
}

Status ParseConfig(const fb::Config& in, ConfigSpec* config) {
  RETURN_IF_ERROR(
      CopyText("length of architecture", in.architecture(), kMaxArchitecture, &config->architecture));
  config->hidden = in.hidden();
  config->vocab = in.vocab();
  config->context = in.context();
  config->tie_embeddings = in.tie_embeddings();
  config->embedding_scale = in.embedding_scale();
  config->final_norm_eps = in.final_norm_eps();
  RETURN_IF_ERROR(CopyVector("number of layers", in.layers(), kMaxLayers, &config->layers));
  RETURN_IF_ERROR(CheckCount("number of layer kinds", CountOf(in.kinds()), kMaxKinds));
  for (const fb::LayerKind* layer : *in.kinds()) {
    LayerKind& kind = config->kinds.emplace_back();
    RETURN_IF_ERROR(ParseEnum("mixer", layer->mixer(), Mixer::kAttention, Mixer::kMla, &kind.mixer));
    kind.norm_eps = layer->norm_eps();
    kind.latent_norm_eps = layer->latent_norm_eps();
    RETURN_IF_ERROR(ParseAttention(*layer->attention(), &kind.attention));
    RETURN_IF_ERROR(ParseMlp(*layer->mlp(), &kind.mlp));
  }
  return {};
}

// The ends ascend, so the pieces together are no longer than the bytes that the file has.
Status ParsePieces(const fb::Tokenizer& in, TokenizerSpec* out) {
  const size_t bytes = CountOf(in.pieces()), count = CountOf(in.piece_ends());
  RETURN_IF_ERROR(CheckCount("number of pieces", count, kMaxVocab));
  RETURN_IF_ERROR(CheckCount("bytes of all pieces", bytes, kMaxPieceBytes));
  out->pieces.reserve(count);
  uint32_t begin = 0;
  for (size_t i = 0; i < count; ++i) {
    const uint32_t end = in.piece_ends()->Get(static_cast<uint32_t>(i));
    if (end < begin || end > bytes) {
      return Error(DSOPT_E_CORRUPT, "tokenizer: piece %zu ends at byte %u, expected %u to %zu", i, end, begin,
                   bytes);
    }
    const char* data = bytes == 0 ? "" : reinterpret_cast<const char*>(in.pieces()->Data());
    out->pieces.emplace_back(data + begin, end - begin);
    begin = end;
  }
  if (begin == bytes) return {};
  return Error(DSOPT_E_CORRUPT, "tokenizer: the pieces end at byte %u, expected %zu", begin, bytes);
}

Status ParseTokenizer(const fb::Tokenizer& in, TokenizerSpec* out) {
  RETURN_IF_ERROR(
      ParseEnum("tokenizer kind", in.kind(), TokenizerKind::kNone, TokenizerKind::kUnigram, &out->kind));
  RETURN_IF_ERROR(ParseEnum("pre-tokenizer", in.pre_tokenizer(), PreTokenizer::kNone, PreTokenizer::kDeepseekV3,
                            &out->pre_tokenizer));
  RETURN_IF_ERROR(ParseFlags("the tokenizer", in.flags(), kTokenizerFlags, out));
  RETURN_IF_ERROR(ParsePieces(in, out));
  RETURN_IF_ERROR(CopyVector("number of piece flags", in.piece_flags(), kMaxVocab, &out->piece_flags));
  RETURN_IF_ERROR(CopyVector("number of scores", in.scores(), kMaxVocab, &out->scores));
  RETURN_IF_ERROR(CheckCount("number of merges", CountOf(in.merges()), kMaxMerges));
  out->merges.reserve(CountOf(in.merges()));
  for (uint32_t i = 0; i < CountOf(in.merges()); ++i) {
    out->merges.emplace_back(in.merges()->Get(i)->first(), in.merges()->Get(i)->second());
  }
  RETURN_IF_ERROR(CheckCount("number of added tokens", CountOf(in.added()), kMaxVocab));
  for (uint32_t i = 0; i < CountOf(in.added()); ++i) {
    AddedToken& token = out->added.emplace_back();
    token.id = in.added()->Get(i)->first();
    RETURN_IF_ERROR(ParseFlags("an added token", in.added()->Get(i)->second(), kAddedFlags, &token));
  }
  RETURN_IF_ERROR(CheckCount("number of replacements", CountOf(in.replacements()), kMaxReplacements));
  for (uint32_t i = 0; i < CountOf(in.replacements()); ++i) {
    auto& [from, to] = out->replacements.emplace_back();
    RETURN_IF_ERROR(CopyText("length of a replacement", in.replacements()->Get(i)->from(), kMaxName, &from));
    RETURN_IF_ERROR(CopyText("length of a replacement", in.replacements()->Get(i)->to(), kMaxName, &to));
  }
  out->bos = in.bos();
  out->eos = in.eos();
  out->unk = in.unk();
  out->pad = in.pad();
  RETURN_IF_ERROR(CopyVector("number of end tokens", in.end_tokens(), kMaxTokenList, &out->end_tokens));
  RETURN_IF_ERROR(CopyVector("length of prefix", in.prefix(), kMaxTokenList, &out->prefix));
  return CopyVector("length of suffix", in.suffix(), kMaxTokenList, &out->suffix);
}

// Keys ascend, so none is given twice.
Status ParseMetadataEntries(const fb::Model& in, std::map<std::string, std::string>* out) {
  RETURN_IF_ERROR(CheckCount("number of entries", CountOf(in.metadata()), kMaxMetadata));
  for (uint32_t i = 0; i < CountOf(in.metadata()); ++i) {
    std::string key, value;
    RETURN_IF_ERROR(CopyText("length of a key", in.metadata()->Get(i)->key(), kMaxName, &key));
    RETURN_IF_ERROR(CopyText("length of a value", in.metadata()->Get(i)->value(), kMaxValue, &value));
    if (!out->empty() && !(out->rbegin()->first < key)) {
      return Error(DSOPT_E_CORRUPT, "metadata: key %u is not after the one before it, expected ascending keys",
                   i);
    }
    out->emplace_hint(out->end(), std::move(key), std::move(value));
  }
  return {};
}

// Whether the file may have encoded tensors. Refuses every feature that is unknown.
Result<bool> ParseFeatures(const fb::Model& in) {
  bool encodings = false;
  for (size_t i = 0; i < CountOf(in.required_features()); ++i) {
    const char* name = in.required_features()->Get(static_cast<flatbuffers::uoffset_t>(i))->c_str();
    if (std::string_view(name) != kEncodingsFeature) {
      return Error(DSOPT_E_VERSION, "metadata: feature '%.64s' is required, this library knows only '%s'", name,
                   kEncodingsFeature);
    }
    encodings = true;
  }
  return encodings;
}

// encodings: the file may have encoded tensors.
Status ParseTensors(const fb::Model& in, bool encodings, std::vector<TensorSpec>* tensors) {
  RETURN_IF_ERROR(CheckCount("number of tensors", CountOf(in.tensors()), kMaxTensors));
  tensors->reserve(CountOf(in.tensors()));
  for (const fb::Tensor* entry : *in.tensors()) {
    TensorSpec& tensor = tensors->emplace_back();
    RETURN_IF_ERROR(CopyText("length of a tensor name", entry->name(), kMaxName, &tensor.name));
    RETURN_IF_ERROR(ParseEnum("tensor type", entry->dtype(), DSOPT_F32, DSOPT_U8, &tensor.dtype));
    RETURN_IF_ERROR(CopyVector("number of dimensions", entry->shape(), kMaxDimensions, &tensor.shape));
    tensor.first_chunk = entry->first_chunk();
    tensor.chunk_count = entry->chunk_count();
    tensor.synthetic = entry->synthetic();
    tensor.synthetic_seed = entry->synthetic_seed();
    tensor.synthetic_mean = entry->synthetic_mean();
    tensor.synthetic_stddev = entry->synthetic_stddev();
    RETURN_IF_ERROR(ParseEnum("encoding of a tensor", entry->encoding(), DSOPT_ENCODING_PLAIN, DSOPT_ENCODING_INT4,
                              &tensor.encoding));
    if (tensor.encoding != DSOPT_ENCODING_PLAIN && !encodings) {
      return Error(DSOPT_E_CORRUPT, "tensor '%s': encoding %u in a file that does not require '%s'",
                   tensor.name.c_str(), entry->encoding(), kEncodingsFeature);
    }
    tensor.group_rows = entry->group_rows();
    tensor.group_cols = entry->group_cols();
    tensor.has_offset = entry->has_offset();
  }
  RETURN_IF_ERROR(VerifyTensorNames(*tensors));
  for (TensorSpec& tensor : *tensors) {
    ASSIGN_OR_RETURN(tensor.raw_bytes, TensorBytes(tensor));
  }
  RETURN_IF_ERROR(VerifyEncodings(*tensors));
  return {};
}

Status ParseChunks(const fb::Model& in, std::vector<ChunkSpec>* chunks) {
  RETURN_IF_ERROR(CheckCount("number of chunks", CountOf(in.chunks()), kMaxChunks));
  RETURN_IF_ERROR(CheckAlignment("chunks", in.chunks(), alignof(fb::Chunk)));
  chunks->reserve(CountOf(in.chunks()));
  for (const fb::Chunk* entry : *in.chunks()) {
    ChunkSpec& chunk = chunks->emplace_back();
    RETURN_IF_ERROR(ParseEnum("chunk codec", entry->codec(), Codec::kStored, Codec::kZstd, &chunk.codec));
    RETURN_IF_ERROR(
        ParseEnum("chunk filter", entry->filter(), Filter::kNone, Filter::kBytePlanes, &chunk.filter));
    if (entry->flags() != 0 || entry->reserved() != 0) {
      return Error(DSOPT_E_VERSION, "chunk %zu: flags are %u and reserved is %u, this library knows only 0",
                   chunks->size() - 1, entry->flags(), entry->reserved());
    }
    chunk.offset = entry->offset();
    chunk.stored_size = entry->stored_size();
    chunk.raw_size = entry->raw_size();
    chunk.raw_checksum = entry->raw_checksum();
    chunk.stored_checksum = entry->stored_checksum();
    chunk.element_bytes = entry->element_bytes();
  }
  return {};
}

}  // namespace

Result<ModelSpec> ParseMetadata(std::span<const uint8_t> bytes, uint64_t data_begin, uint64_t file_bytes) {
  if (bytes.size() >= FLATBUFFERS_MAX_BUFFER_SIZE) {  // the verifier asserts this
    return Error(DSOPT_E_CORRUPT, "metadata: %zu bytes, expected less than %zu", bytes.size(),
                 static_cast<size_t>(FLATBUFFERS_MAX_BUFFER_SIZE));
  }
  flatbuffers::Verifier verifier(bytes.data(), bytes.size(), kMaxDepth, kMaxTables);
  if (!fb::VerifyModelBuffer(verifier)) {
    return Error(DSOPT_E_CORRUPT, "metadata: %zu bytes are not a valid flatbuffer of type %s", bytes.size(),
                 fb::ModelIdentifier());
  }
  const fb::Model& in = *fb::GetModel(bytes.data());
  ASSIGN_OR_RETURN(const bool encodings, ParseFeatures(in));
  ModelSpec spec;
  spec.chunk_bytes = in.chunk_bytes();
  RETURN_IF_ERROR(ParseConfig(*in.config(), &spec.config));
  if (in.tokenizer() != nullptr) RETURN_IF_ERROR(ParseTokenizer(*in.tokenizer(), &spec.tokenizer));
  RETURN_IF_ERROR(
      CopyText("length of the chat template", in.chat_template(), kMaxTemplate, &spec.chat_template));
  const fb::Sampling& sampling = *in.sampling();
  spec.sampling = {sampling.temperature(), sampling.top_k(), sampling.top_p(), sampling.min_p(),
                   sampling.repeat_penalty()};
  RETURN_IF_ERROR(ParseMetadataEntries(in, &spec.metadata));
  RETURN_IF_ERROR(VerifyConfig(spec.config));
  RETURN_IF_ERROR(VerifySampling(spec.sampling));
  RETURN_IF_ERROR(VerifyTokenizer(spec.tokenizer, spec.config.vocab));
  RETURN_IF_ERROR(VerifyTexts(spec));
  RETURN_IF_ERROR(ParseTensors(in, encodings, &spec.tensors));
  RETURN_IF_ERROR(ParseChunks(in, &spec.chunks));
  RETURN_IF_ERROR(VerifyTensors(spec));
  RETURN_IF_ERROR(VerifyChunks(spec, data_begin, file_bytes));
  return spec;
}

}  // namespace dsopt
