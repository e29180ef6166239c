#include "format/verify.h"

#include <cmath>

#include "base/checked.h"
#include "base/utf8.h"
#include "format/layout.h"

namespace dsopt {
namespace {

using ull = unsigned long long;

Status InRange(const char* what, uint64_t value, uint64_t low, uint64_t high) {
  if (value >= low && value <= high) return Status();
  return Error(DSOPT_E_CORRUPT, "%s: %llu, expected %llu to %llu", what, static_cast<ull>(value), static_cast<ull>(low),
               static_cast<ull>(high));
}

Status Finite(const char* what, float value, float low, float high) {
  if (value >= low && value <= high) return Status();  // false for NaN
  return Error(DSOPT_E_CORRUPT, "%s: %g, expected %g to %g", what, static_cast<double>(value), static_cast<double>(low),
               static_cast<double>(high));
}

Status Text(const char* what, const std::string& text) {
  RETURN_IF_ERROR(InRange(what, text.size(), 0, kMaxString));
  if (!IsValidUtf8(text)) return Error(DSOPT_E_CORRUPT, "%s: %zu bytes are not valid UTF-8", what, text.size());
  return Status();
}

Status VerifyRope(const RopeSpec& rope, uint32_t head_dim) {
  RETURN_IF_ERROR(InRange("rope dimension", rope.dim, 2, head_dim));
  if (rope.dim % 2 != 0) return Error(DSOPT_E_CORRUPT, "rope dimension: %u, expected an even number", rope.dim);
  RETURN_IF_ERROR(Finite("rope theta", rope.theta, 1.0f, 1e12f));
  RETURN_IF_ERROR(Finite("rope factor", rope.factor, 1e-3f, 1e6f));
  RETURN_IF_ERROR(InRange("rope original context", rope.original_context, 0, kMaxContext));
  RETURN_IF_ERROR(Finite("rope low_freq_factor", rope.low_freq_factor, 1e-3f, 1e6f));
  RETURN_IF_ERROR(Finite("rope high_freq_factor", rope.high_freq_factor, 1e-3f, 1e6f));
  RETURN_IF_ERROR(Finite("rope beta_fast", rope.beta_fast, 1e-3f, 1e6f));
  RETURN_IF_ERROR(Finite("rope beta_slow", rope.beta_slow, 1e-3f, 1e6f));
  RETURN_IF_ERROR(Finite("rope mscale", rope.mscale, 0.0f, 1e3f));
  RETURN_IF_ERROR(Finite("rope mscale_all_dim", rope.mscale_all_dim, 0.0f, 1e3f));
  RETURN_IF_ERROR(Finite("rope attention_factor", rope.attention_factor, 0.0f, 1e3f));
  const bool scaled = rope.scaling == RopeScaling::kLlama3 || rope.scaling == RopeScaling::kYarn;
  if (scaled && rope.original_context == 0) {
    return Error(DSOPT_E_CORRUPT, "rope original context: 0, expected the context before scaling");
  }
  if (rope.scaling == RopeScaling::kLlama3 && !(rope.high_freq_factor > rope.low_freq_factor)) {
    return Error(DSOPT_E_CORRUPT, "rope high_freq_factor: %g, expected more than low_freq_factor %g",
                 static_cast<double>(rope.high_freq_factor), static_cast<double>(rope.low_freq_factor));
  }
  return Status();
}

Status VerifyAttention(const LayerKind& kind) {
  const AttentionSpec& a = kind.attention;
  RETURN_IF_ERROR(InRange("q_heads", a.q_heads, 1, kMaxHeads));
  RETURN_IF_ERROR(InRange("kv_heads", a.kv_heads, 1, a.q_heads));
  if (a.q_heads % a.kv_heads != 0) {
    return Error(DSOPT_E_CORRUPT, "kv_heads: %u, expected a divisor of q_heads %u", a.kv_heads, a.q_heads);
  }
  RETURN_IF_ERROR(InRange("head_dim", a.head_dim, 1, kMaxHeadDim));
  RETURN_IF_ERROR(InRange("window", a.window, 0, kMaxContext));
  RETURN_IF_ERROR(Finite("attention scale", a.scale, 0.0f, 1e6f));
  RETURN_IF_ERROR(VerifyRope(a.rope, a.head_dim));
  if (kind.mixer == Mixer::kAttention) return Status();
  RETURN_IF_ERROR(InRange("q_lora_rank", a.q_lora_rank, 0, kMaxHidden));
  RETURN_IF_ERROR(InRange("kv_lora_rank", a.kv_lora_rank, 1, kMaxHidden));
  RETURN_IF_ERROR(InRange("nope_dim", a.nope_dim, 1, kMaxHeadDim));
  RETURN_IF_ERROR(InRange("v_dim", a.v_dim, 1, kMaxHeadDim));
  if (a.head_dim != a.nope_dim + a.rope.dim) {
    return Error(DSOPT_E_CORRUPT, "head_dim: %u, expected nope_dim %u + rope dimension %u", a.head_dim, a.nope_dim,
                 a.rope.dim);
  }
  return InRange("kv_heads of latent attention", a.kv_heads, a.q_heads, a.q_heads);
}

Status VerifyMlp(const MlpSpec& mlp) {
  const MoeSpec& moe = mlp.moe;
  if (moe.experts == 0) return InRange("inner", mlp.inner, 1, kMaxInner);
  RETURN_IF_ERROR(InRange("experts", moe.experts, 1, kMaxExperts));
  RETURN_IF_ERROR(InRange("top_k", moe.top_k, 1, moe.experts));
  RETURN_IF_ERROR(InRange("expert inner", moe.inner, 1, kMaxInner));
  RETURN_IF_ERROR(InRange("shared inner", moe.shared_inner, 0, kMaxInner));
  RETURN_IF_ERROR(Finite("route_scale", moe.route_scale, -1e6f, 1e6f));
  RETURN_IF_ERROR(InRange("expert groups", moe.groups, 0, moe.experts));
  if (moe.groups <= 1) return Status();
  if (moe.experts % moe.groups != 0) {
    return Error(DSOPT_E_CORRUPT, "expert groups: %u, expected a divisor of %u experts", moe.groups, moe.experts);
  }
  RETURN_IF_ERROR(InRange("top groups", moe.top_groups, 1, moe.groups));
  return InRange("top_k within the chosen groups", moe.top_k, 1, uint64_t{moe.top_groups} * (moe.experts / moe.groups));
}

// Sets raw_bytes.
Status VerifyTensor(TensorSpec* tensor, const std::vector<ChunkSpec>& chunks, uint32_t chunk_bytes) {
  const char* name = tensor->name.c_str();
  const uint32_t element = ElementBytes(tensor->dtype);
  if (element == 0) return Error(DSOPT_E_CORRUPT, "tensor '%s': type %d has no size", name, static_cast<int>(tensor->dtype));
  if (tensor->shape.empty() || tensor->shape.size() > 4) {
    return Error(DSOPT_E_CORRUPT, "tensor '%s': %zu dimensions, expected 1 to 4", name, tensor->shape.size());
  }
  uint64_t bytes = element;
  for (uint64_t extent : tensor->shape) {
    const auto product = CheckedMul(bytes, extent);
    if (extent == 0 || !product || *product > (uint64_t{1} << 50)) {
      return Error(DSOPT_E_CORRUPT, "tensor '%s': dimension %llu of %zu is out of range", name, static_cast<ull>(extent),
                   tensor->shape.size());
    }
    bytes = *product;
  }
  tensor->raw_bytes = bytes;
  if (!RangeFits(tensor->first_chunk, tensor->chunk_count, chunks.size())) {
    return Error(DSOPT_E_CORRUPT, "tensor '%s': chunks %u + %u, the file has %zu", name, tensor->first_chunk,
                 tensor->chunk_count, chunks.size());
  }
  if (tensor->synthetic) {
    RETURN_IF_ERROR(InRange("chunks of a synthetic tensor", tensor->chunk_count, 0, 0));
    RETURN_IF_ERROR(Finite("synthetic mean", tensor->synthetic_mean, -1e6f, 1e6f));
    return Finite("synthetic stddev", tensor->synthetic_stddev, 0.0f, 1e6f);
  }
  uint64_t stored = 0;
  for (uint32_t i = 0; i < tensor->chunk_count; ++i) {
    const ChunkSpec& chunk = chunks[tensor->first_chunk + i];
    if (chunk.raw_size > chunk_bytes || chunk.raw_size % element != 0) {
      return Error(DSOPT_E_CORRUPT, "tensor '%s': a chunk of %u bytes, expected whole elements and at most %u", name,
                   chunk.raw_size, chunk_bytes);
    }
    stored += chunk.raw_size;  // at most 2^32 chunks of 2^26 bytes
  }
  if (stored != bytes) {
    return Error(DSOPT_E_CORRUPT, "tensor '%s': %llu bytes in its chunks, its shape needs %llu", name,
                 static_cast<ull>(stored), static_cast<ull>(bytes));
  }
  return Status();
}

Status VerifyChunks(const ModelSpec& spec, uint64_t file_bytes, uint64_t first_chunk_offset) {
  uint64_t end = first_chunk_offset;
  for (size_t i = 0; i < spec.chunks.size(); ++i) {
    const ChunkSpec& chunk = spec.chunks[i];
    if (chunk.offset < end || !RangeFits(chunk.offset, chunk.stored_size, file_bytes)) {
      return Error(DSOPT_E_CORRUPT, "chunk %zu: bytes %llu + %u, expected between %llu and the end at %llu", i,
                   static_cast<ull>(chunk.offset), chunk.stored_size, static_cast<ull>(end), static_cast<ull>(file_bytes));
    }
    end = chunk.offset + chunk.stored_size;
    const bool planes = chunk.filter == Filter::kBytePlanes;
    if (chunk.raw_size == 0 || chunk.stored_size == 0 ||
        (chunk.codec == Codec::kStored && (planes || chunk.stored_size != chunk.raw_size)) ||
        (planes && (chunk.element_bytes != 2 || chunk.raw_size % 2 != 0 || chunk.stored_size <= chunk.raw_size / 2))) {
      return Error(DSOPT_E_CORRUPT, "chunk %zu: %u bytes stored, %u raw, %u bytes per element do not fit its encoding", i,
                   chunk.stored_size, chunk.raw_size, chunk.element_bytes);
    }
  }
  return Status();
}

Status VerifyIds(const char* what, const std::vector<int32_t>& ids, size_t pieces) {
  RETURN_IF_ERROR(InRange(what, ids.size(), 0, 1024));
  for (int32_t id : ids) {
    if (id < 0 || static_cast<size_t>(id) >= pieces) {
      return Error(DSOPT_E_CORRUPT, "%s: token %d, expected 0 to %zu", what, id, pieces - 1);
    }
  }
  return Status();
}

}  // namespace

Status VerifyConfig(const ConfigSpec& config) {
  RETURN_IF_ERROR(Text("architecture", config.architecture));
  RETURN_IF_ERROR(InRange("architecture length", config.architecture.size(), 1, 31));
  RETURN_IF_ERROR(InRange("hidden", config.hidden, 1, kMaxHidden));
  RETURN_IF_ERROR(InRange("vocabulary", config.vocab, 1, kMaxVocab));
  RETURN_IF_ERROR(InRange("context", config.context, 1, kMaxContext));
  RETURN_IF_ERROR(InRange("kinds of layers", config.kinds.size(), 1, kMaxKinds));
  RETURN_IF_ERROR(InRange("layers", config.layers.size(), 1, kMaxLayers));
  RETURN_IF_ERROR(Finite("embedding scale", config.embedding_scale, -1e6f, 1e6f));
  RETURN_IF_ERROR(Finite("final norm epsilon", config.final_norm_eps, 0.0f, 1.0f));
  for (uint8_t kind : config.layers) RETURN_IF_ERROR(InRange("kind of a layer", kind, 0, config.kinds.size() - 1));
  for (const LayerKind& kind : config.kinds) {
    RETURN_IF_ERROR(VerifyAttention(kind));
    RETURN_IF_ERROR(VerifyMlp(kind.mlp));
    RETURN_IF_ERROR(Finite("norm epsilon", kind.norm_eps, 0.0f, 1.0f));
    RETURN_IF_ERROR(Finite("latent norm epsilon", kind.latent_norm_eps, 0.0f, 1.0f));
  }
  return Status();
}

Status VerifyTokenizer(const TokenizerSpec& t) {
  if (t.kind == TokenizerKind::kNone) return Status();
  const size_t pieces = t.pieces.size();
  RETURN_IF_ERROR(InRange("tokenizer pieces", pieces, 1, kMaxVocab));
  const bool scored = t.kind == TokenizerKind::kScoreBpe || t.kind == TokenizerKind::kUnigram;
  if (!t.piece_flags.empty()) RETURN_IF_ERROR(InRange("tokenizer piece flags", t.piece_flags.size(), pieces, pieces));
  if (scored || !t.scores.empty()) RETURN_IF_ERROR(InRange("tokenizer scores", t.scores.size(), pieces, pieces));
  for (float score : t.scores) RETURN_IF_ERROR(Finite("tokenizer score", score, -1e30f, 1e30f));
  RETURN_IF_ERROR(InRange("tokenizer merges", t.merges.size(), 0, uint64_t{4} * kMaxVocab));
  for (const auto& [left, right] : t.merges) {
    RETURN_IF_ERROR(InRange("tokenizer merge", left, 0, pieces - 1));
    RETURN_IF_ERROR(InRange("tokenizer merge", right, 0, pieces - 1));
  }
  RETURN_IF_ERROR(InRange("added tokens", t.added.size(), 0, pieces));
  for (size_t i = 0; i < t.added.size(); ++i) {
    RETURN_IF_ERROR(InRange("added token", t.added[i].id, i == 0 ? 0 : t.added[i - 1].id + uint64_t{1}, pieces - 1));
  }
  RETURN_IF_ERROR(InRange("tokenizer replacements", t.replacements.size(), 0, 256));
  for (int32_t id : {t.bos, t.eos, t.unk, t.pad}) {
    if (id < -1 || id >= static_cast<int64_t>(pieces)) {
      return Error(DSOPT_E_CORRUPT, "special token: %d, expected -1 to %zu", id, pieces - 1);
    }
  }
  RETURN_IF_ERROR(VerifyIds("end tokens", t.end_tokens, pieces));
  RETURN_IF_ERROR(VerifyIds("tokenizer prefix", t.prefix, pieces));
  return VerifyIds("tokenizer suffix", t.suffix, pieces);
}

Status VerifyModelSpec(ModelSpec* spec, uint64_t file_bytes, uint64_t first_chunk_offset) {
  RETURN_IF_ERROR(VerifyConfig(spec->config));
  RETURN_IF_ERROR(VerifyTokenizer(spec->tokenizer));
  RETURN_IF_ERROR(Text("chat template", spec->chat_template));
  RETURN_IF_ERROR(InRange("metadata entries", spec->metadata.size(), 0, 4096));
  for (const auto& [key, value] : spec->metadata) {
    RETURN_IF_ERROR(Text("metadata key", key));
    RETURN_IF_ERROR(Text("metadata value", value));
  }
  RETURN_IF_ERROR(Finite("default temperature", spec->sampling.temperature, 0.0f, 1e3f));
  RETURN_IF_ERROR(Finite("default top_p", spec->sampling.top_p, 0.0f, 1.0f));
  RETURN_IF_ERROR(Finite("default min_p", spec->sampling.min_p, 0.0f, 1.0f));
  RETURN_IF_ERROR(Finite("default repeat_penalty", spec->sampling.repeat_penalty, 0.0f, 1e3f));
  RETURN_IF_ERROR(InRange("chunk size", spec->chunk_bytes, 64, kMaxChunkBytes));
  RETURN_IF_ERROR(VerifyChunks(*spec, file_bytes, first_chunk_offset));
  RETURN_IF_ERROR(InRange("tensors", spec->tensors.size(), 1, kMaxTensors));
  for (size_t i = 0; i < spec->tensors.size(); ++i) {
    TensorSpec& tensor = spec->tensors[i];
    RETURN_IF_ERROR(Text("tensor name", tensor.name));
    RETURN_IF_ERROR(InRange("length of a tensor name", tensor.name.size(), 1, 256));
    if (i > 0 && !(spec->tensors[i - 1].name < tensor.name)) {
      return Error(DSOPT_E_CORRUPT, "tensor '%s': expected after '%s'", tensor.name.c_str(),
                   spec->tensors[i - 1].name.c_str());
    }
    RETURN_IF_ERROR(VerifyTensor(&tensor, spec->chunks, spec->chunk_bytes));
  }
  return Status();
}

}  // namespace dsopt
