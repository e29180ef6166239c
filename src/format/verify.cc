#include "format/verify.h"

#include <algorithm>
#include <string>

#include "base/checked.h"
#include "base/utf8.h"
#include "format/layout.h"
#include "format/range_check.h"

namespace dsopt {
namespace {

using ull = unsigned long long;

Status VerifyText(const std::string& where, const char* field, const std::string& text, uint64_t min_bytes,
                  uint64_t max_bytes) {
  if (text.size() < min_bytes || text.size() > max_bytes) {
    return Error(DSOPT_E_CORRUPT, "%s: %s has %zu bytes, expected %llu to %llu", where.c_str(), field,
                 text.size(), static_cast<ull>(min_bytes), static_cast<ull>(max_bytes));
  }
  if (!IsValidUtf8(text)) {
    return Error(DSOPT_E_CORRUPT, "%s: the %zu bytes of %s are not valid UTF-8", where.c_str(), text.size(),
                 field);
  }
  return {};
}

Status VerifyIds(const char* what, const std::vector<int32_t>& ids, size_t pieces) {
  RETURN_IF_ERROR(CheckRanges("tokenizer", {IntRange{what, ids.size(), 0, kMaxTokenList}}));
  for (int32_t id : ids) {
    if (id >= 0 && static_cast<size_t>(id) < pieces) continue;
    return Error(DSOPT_E_CORRUPT, "tokenizer: %s has token %d, expected 0 to %zu", what, id, pieces - 1);
  }
  return {};
}

Status VerifySpecialIds(const TokenizerSpec& t) {
  const std::pair<const char*, int32_t> ids[] = {
      {"bos", t.bos}, {"eos", t.eos}, {"unk", t.unk}, {"pad", t.pad}};
  for (const auto& [name, id] : ids) {
    if (id >= -1 && id < static_cast<int64_t>(t.pieces.size())) continue;
    return Error(DSOPT_E_CORRUPT, "tokenizer: %s is token %d, expected -1 to %zu", name, id,
                 t.pieces.size() - 1);
  }
  RETURN_IF_ERROR(VerifyIds("end tokens", t.end_tokens, t.pieces.size()));
  RETURN_IF_ERROR(VerifyIds("prefix", t.prefix, t.pieces.size()));
  return VerifyIds("suffix", t.suffix, t.pieces.size());
}

Status VerifyMergesAndAdded(const TokenizerSpec& t) {
  const size_t pieces = t.pieces.size();
  RETURN_IF_ERROR(CheckRanges("tokenizer", {IntRange{"number of merges", t.merges.size(), 0, kMaxMerges}}));
  for (size_t i = 0; i < t.merges.size(); ++i) {
    const auto& [left, right] = t.merges[i];
    if (left < pieces && right < pieces) continue;
    return Error(DSOPT_E_CORRUPT, "tokenizer: merge %zu joins pieces %u and %u, expected 0 to %zu", i, left,
                 right, pieces - 1);
  }
  for (size_t i = 0; i < t.added.size(); ++i) {
    const uint64_t first = i == 0 ? 0 : uint64_t{t.added[i - 1].id} + 1;
    if (t.added[i].id >= first && t.added[i].id < pieces) continue;
    return Error(DSOPT_E_CORRUPT, "tokenizer: added token %zu has id %u, expected %llu to %zu", i,
                 t.added[i].id, static_cast<ull>(first), pieces - 1);
  }
  return {};
}

bool IsTensorName(const std::string& name) {  // safe in messages, too
  return std::all_of(name.begin(), name.end(), [](char c) { return c > ' ' && c <= '~'; });
}

// The runs of chunks of all tensors are disjoint. Bounds the work of VerifyTensors by the number of chunks.
Status VerifyChunkRuns(const ModelSpec& spec) {
  std::vector<const TensorSpec*> owners;
  for (const TensorSpec& tensor : spec.tensors) {
    if (!RangeFits(tensor.first_chunk, tensor.chunk_count, spec.chunks.size())) {
      return Error(DSOPT_E_CORRUPT, "tensor '%s': chunks %u + %u, the file has %zu", tensor.name.c_str(),
                   tensor.first_chunk, tensor.chunk_count, spec.chunks.size());
    }
    if (tensor.chunk_count > 0) owners.push_back(&tensor);
  }
  std::sort(owners.begin(), owners.end(),
            [](const TensorSpec* a, const TensorSpec* b) { return a->first_chunk < b->first_chunk; });
  for (size_t i = 1; i < owners.size(); ++i) {
    const uint64_t end = uint64_t{owners[i - 1]->first_chunk} + owners[i - 1]->chunk_count;
    if (owners[i]->first_chunk >= end) continue;
    return Error(
        DSOPT_E_CORRUPT, "tensor '%s': starts at chunk %u, expected %llu or later: tensor '%s' ends there",
        owners[i]->name.c_str(), owners[i]->first_chunk, static_cast<ull>(end), owners[i - 1]->name.c_str());
  }
  return {};
}

Status VerifySynthetic(const TensorSpec& tensor) {
  const std::string where = "synthetic tensor '" + tensor.name + "'";
  RETURN_IF_ERROR(CheckRanges(where, {IntRange{"number of chunks", tensor.chunk_count, 0, 0}}));
  RETURN_IF_ERROR(CheckRanges(where, {FloatRange{"mean", tensor.synthetic_mean, -1e6, 1e6},
                                      {"standard deviation", tensor.synthetic_stddev, 0, 1e6}}));
  if (HasScales(tensor.encoding)) return {};  // VerifyEncodings knows the type
  if (tensor.dtype == DSOPT_F32 || tensor.dtype == DSOPT_F16 || tensor.dtype == DSOPT_BF16) return {};
  return Error(DSOPT_E_CORRUPT, "%s: its type is %d, expected f32, f16 or bf16", where.c_str(),
               static_cast<int>(tensor.dtype));
}

// All chunks have chunk_bytes raw bytes except a last, shorter one.
Status VerifyTensorChunks(const ModelSpec& spec, const TensorSpec& tensor) {
  const uint64_t count = (tensor.raw_bytes + spec.chunk_bytes - 1) / spec.chunk_bytes;
  if (tensor.chunk_count != count) {
    return Error(DSOPT_E_CORRUPT, "tensor '%s': %u chunks, its shape needs %llu of %u bytes",
                 tensor.name.c_str(), tensor.chunk_count, static_cast<ull>(count), spec.chunk_bytes);
  }
  uint64_t left = tensor.raw_bytes;
  for (uint32_t i = 0; i < tensor.chunk_count; ++i) {
    const uint64_t expected = std::min<uint64_t>(left, spec.chunk_bytes);
    const uint32_t found = spec.chunks[tensor.first_chunk + i].raw_size;
    if (found != expected) {
      return Error(DSOPT_E_CORRUPT, "tensor '%s': %u raw bytes in its chunk %u, expected %llu from its shape",
                   tensor.name.c_str(), found, i, static_cast<ull>(expected));
    }
    left -= expected;
  }
  return {};
}

Status VerifyCoding(size_t index, const ChunkSpec& chunk) {
  const std::string where = "chunk " + std::to_string(index);
  RETURN_IF_ERROR(CheckRanges(where, {IntRange{"raw size", chunk.raw_size, 1, kMaxChunkBytes},
                                      {"bytes per element", chunk.element_bytes, 1, 8}}));
  if (chunk.codec == Codec::kStored) {
    if (chunk.filter != Filter::kNone) {
      return Error(DSOPT_E_CORRUPT, "%s: stored with filter %u, expected none", where.c_str(),
                   static_cast<unsigned>(chunk.filter));
    }
    if (chunk.stored_checksum != chunk.raw_checksum) {
      return Error(DSOPT_E_CORRUPT, "%s: stored, but its checksums %016llx and %016llx differ", where.c_str(),
                   static_cast<ull>(chunk.stored_checksum), static_cast<ull>(chunk.raw_checksum));
    }
    return CheckRanges(
        where, {IntRange{"stored size of a stored chunk", chunk.stored_size, chunk.raw_size, chunk.raw_size}});
  }
  if (chunk.filter == Filter::kNone) {
    return CheckRanges(where, {IntRange{"stored size", chunk.stored_size, 1, chunk.raw_size}});
  }
  if (chunk.element_bytes != 2 || chunk.raw_size % 2 != 0) {
    return Error(DSOPT_E_CORRUPT, "%s: byte planes of %u bytes in elements of %u, expected whole elements of 2",
                 where.c_str(), chunk.raw_size, chunk.element_bytes);
  }
  return CheckRanges(where, {IntRange{"stored size of byte planes", chunk.stored_size, chunk.raw_size / 2 + 1,
                                      chunk.raw_size}});
}

}  // namespace

Status VerifyTokenizer(const TokenizerSpec& t, uint32_t vocab) {
  if (t.kind == TokenizerKind::kNone) return {};
  const size_t pieces = t.pieces.size();
  RETURN_IF_ERROR(CheckRanges("tokenizer", {IntRange{"number of pieces", pieces, 1, vocab}}));
  uint64_t piece_bytes = 0;
  for (const std::string& piece : t.pieces) piece_bytes += piece.size();
  RETURN_IF_ERROR(CheckRanges("tokenizer", {IntRange{"bytes of all pieces", piece_bytes, 0, kMaxPieceBytes}}));
  if (!t.piece_flags.empty()) {
    RETURN_IF_ERROR(
        CheckRanges("tokenizer", {IntRange{"number of piece flags", t.piece_flags.size(), pieces, pieces}}));
  }
  const bool scored = t.kind == TokenizerKind::kScoreBpe || t.kind == TokenizerKind::kUnigram;
  if (scored || !t.scores.empty()) {
    RETURN_IF_ERROR(CheckRanges("tokenizer", {IntRange{"number of scores", t.scores.size(), pieces, pieces}}));
  }
  for (float score : t.scores)
    RETURN_IF_ERROR(CheckRanges("tokenizer", {FloatRange{"a score", score, -1e30, 1e30}}));
  RETURN_IF_ERROR(CheckRanges(
      "tokenizer", {IntRange{"number of replacements", t.replacements.size(), 0, kMaxReplacements}}));
  for (const auto& [from, to] : t.replacements) {
    RETURN_IF_ERROR(VerifyText("tokenizer replacement", "what it replaces", from, 1, kMaxName));
    RETURN_IF_ERROR(VerifyText("tokenizer replacement", "its text", to, 0, kMaxName));
  }
  RETURN_IF_ERROR(VerifyMergesAndAdded(t));
  return VerifySpecialIds(t);
}

Status VerifyTexts(const ModelSpec& spec) {
  RETURN_IF_ERROR(VerifyText("model", "chat template", spec.chat_template, 0, kMaxTemplate));
  RETURN_IF_ERROR(
      CheckRanges("model", {IntRange{"number of metadata entries", spec.metadata.size(), 0, kMaxMetadata}}));
  for (const auto& [key, value] : spec.metadata) {
    RETURN_IF_ERROR(VerifyText("metadata", "a key", key, 1, kMaxName));
    RETURN_IF_ERROR(VerifyText("metadata '" + key + "'", "its value", value, 0, kMaxValue));
  }
  return {};
}

Result<uint64_t> TensorBytes(const TensorSpec& tensor) {
  const char* name = tensor.name.c_str();
  uint64_t bytes = ElementBytes(tensor.dtype);
  if (bytes == 0)
    return Error(DSOPT_E_CORRUPT, "tensor '%s': type %d has no size", name, static_cast<int>(tensor.dtype));
  if (tensor.shape.empty() || tensor.shape.size() > kMaxDimensions) {
    return Error(DSOPT_E_CORRUPT, "tensor '%s': %zu dimensions, expected 1 to %u", name, tensor.shape.size(),
                 kMaxDimensions);
  }
  for (uint64_t extent : tensor.shape) {
    const std::optional<uint64_t> product = CheckedMul(bytes, extent);
    if (extent == 0) return Error(DSOPT_E_CORRUPT, "tensor '%s': a dimension is 0, expected 1 or more", name);
    if (!product || *product > kMaxTensorBytes) {
      return Error(DSOPT_E_CORRUPT, "tensor '%s': dimension %llu makes it larger than %llu bytes", name,
                   static_cast<ull>(extent), static_cast<ull>(kMaxTensorBytes));
    }
    bytes = *product;
  }
  if (tensor.encoding != DSOPT_ENCODING_INT4) return bytes;
  if (tensor.shape.back() % 2 != 0) {
    return Error(DSOPT_E_CORRUPT, "tensor '%s': int4 rows of %llu elements, expected an even number", name,
                 static_cast<ull>(tensor.shape.back()));
  }
  return bytes / 2;
}

Status VerifyTensorNames(const std::vector<TensorSpec>& tensors) {
  RETURN_IF_ERROR(CheckRanges("model", {IntRange{"number of tensors", tensors.size(), 1, kMaxTensors}}));
  for (size_t i = 0; i < tensors.size(); ++i) {
    const std::string& name = tensors[i].name;
    if (name.empty() || name.size() > kMaxName || !IsTensorName(name)) {
      return Error(DSOPT_E_CORRUPT,
                   "tensor %zu: its name of %zu bytes is not 1 to %u printable ASCII characters", i,
                   name.size(), kMaxName);
    }
    if (i == 0 || tensors[i - 1].name < name) continue;
    return Error(DSOPT_E_CORRUPT, "tensor '%s': comes after '%s', expected ascending names", name.c_str(),
                 tensors[i - 1].name.c_str());
  }
  return {};
}

Status VerifyTensors(const ModelSpec& spec) {
  RETURN_IF_ERROR(
      CheckRanges("model", {IntRange{"bytes per chunk", spec.chunk_bytes, kChunkAlign, kMaxChunkBytes},
                            {"number of chunks", spec.chunks.size(), 0, kMaxChunks}}));
  if (spec.chunk_bytes % kChunkAlign != 0) {
    return Error(DSOPT_E_CORRUPT, "model: bytes per chunk is %u, expected a multiple of %llu", spec.chunk_bytes,
                 static_cast<ull>(kChunkAlign));
  }
  RETURN_IF_ERROR(VerifyChunkRuns(spec));
  for (const TensorSpec& tensor : spec.tensors) {
    RETURN_IF_ERROR(tensor.synthetic ? VerifySynthetic(tensor) : VerifyTensorChunks(spec, tensor));
  }
  return {};
}

Status VerifyChunks(const ModelSpec& spec, uint64_t data_begin, uint64_t file_bytes) {
  uint64_t end = data_begin;
  for (size_t i = 0; i < spec.chunks.size(); ++i) {
    const ChunkSpec& chunk = spec.chunks[i];
    if (chunk.offset < end || !RangeFits(chunk.offset, chunk.stored_size, file_bytes)) {
      return Error(DSOPT_E_CORRUPT, "chunk %zu: bytes %llu + %u, expected between %llu and the end at %llu", i,
                   static_cast<ull>(chunk.offset), chunk.stored_size, static_cast<ull>(end),
                   static_cast<ull>(file_bytes));
    }
    if (chunk.offset % kChunkAlign != 0) {
      return Error(DSOPT_E_CORRUPT, "chunk %zu: starts at %llu, expected a multiple of %llu", i,
                   static_cast<ull>(chunk.offset), static_cast<ull>(kChunkAlign));
    }
    RETURN_IF_ERROR(VerifyCoding(i, chunk));
    end = chunk.offset + chunk.stored_size;
  }
  return {};
}

}  // namespace dsopt
