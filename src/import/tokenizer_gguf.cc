// tokenizer_gguf.cc - the vocabulary in a GGUF file's metadata. Reads the key/value section only; the source's
// size bounds every length before anything is allocated.
#include <cstring>
#include <optional>
#include <unordered_map>

#include "base/checked.h"
#include "base/utf8.h"
#include "import/tokenizer_import.h"
#include "import/tokenizer_json_read.h"

namespace dsopt {
namespace {

enum ValueType : uint32_t {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kF64,
  kTypeCount
};

// Bytes of a scalar; 0 for strings, arrays and unknown types.
uint64_t ScalarBytes(uint32_t type) {
  static constexpr uint8_t kBytes[kTypeCount] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  return type < kTypeCount ? kBytes[type] : 0;
}

// Reads little-endian values through a window of the source. [thread-compatible]
class GgufReader {
 public:
  explicit GgufReader(Source* source) : source_(source) {}

  template <typename T>
  Status Scalar(T* out) {
    uint8_t bytes[sizeof(T)];
    RETURN_IF_ERROR(Bytes(bytes, sizeof(T)));
    std::memcpy(out, bytes, sizeof(T));
    return {};
  }
  Status String(std::string* out) {
    uint64_t length;
    RETURN_IF_ERROR(Scalar(&length));
    if (length > kMaxString || length > Left()) {
      return Error(DSOPT_E_CORRUPT, "%s: string of %llu bytes at %llu", source_->name().c_str(),
                   static_cast<unsigned long long>(length), static_cast<unsigned long long>(position_));
    }
    out->resize(length);
    return Bytes(reinterpret_cast<uint8_t*>(out->data()), length);
  }
  Status Skip(uint64_t length) {
    if (length > Left()) return Truncated();
    position_ += length;
    return {};
  }
  uint64_t Left() const { return source_->size() - position_; }
  Status Truncated() const {
    return Error(DSOPT_E_CORRUPT, "%s: the metadata ends after %llu bytes", source_->name().c_str(),
                 static_cast<unsigned long long>(source_->size()));
  }
  const std::string& name() const { return source_->name(); }

 private:
  static constexpr uint64_t kMaxString = uint64_t{16} << 20, kWindowBytes = 1 << 16;

  Status Bytes(uint8_t* out, uint64_t length) {
    if (length > Left()) return Truncated();
    while (length > 0) {
      if (position_ < window_begin_ || position_ >= window_begin_ + window_.size()) {
        window_.resize(std::min(kWindowBytes, Left()));
        window_begin_ = position_;
        RETURN_IF_ERROR(source_->ReadAt(position_, window_));
      }
      const uint64_t offset = position_ - window_begin_;
      const uint64_t count = std::min<uint64_t>(length, window_.size() - offset);
      std::memcpy(out, window_.data() + offset, count);
      out += count;
      length -= count;
      position_ += count;
    }
    return {};
  }

  Source* source_;
  uint64_t position_ = 0, window_begin_ = 0;
  std::vector<uint8_t> window_;
};

// What the tokenizer needs of the metadata.
struct Metadata {
  std::unordered_map<std::string, std::string> strings;
  std::unordered_map<std::string, int64_t> integers;
  std::vector<std::string> tokens, merges;
  std::vector<float> scores;
  std::vector<int32_t> types;
};

bool Wanted(const std::string& key) { return key.starts_with("tokenizer."); }

Status SkipValue(GgufReader* reader, uint32_t type) {
  if (const uint64_t bytes = ScalarBytes(type); bytes > 0) return reader->Skip(bytes);
  if (type == kString) {
    uint64_t length;
    RETURN_IF_ERROR(reader->Scalar(&length));
    return reader->Skip(length);
  }
  if (type != kArray) return Error(DSOPT_E_CORRUPT, "%s: metadata type %u", reader->name().c_str(), type);
  uint32_t element;
  uint64_t count;
  RETURN_IF_ERROR(reader->Scalar(&element));
  RETURN_IF_ERROR(reader->Scalar(&count));
  if (element == kString) {
    if (count > reader->Left() / 8) return reader->Truncated();
    for (uint64_t i = 0; i < count; ++i) RETURN_IF_ERROR(SkipValue(reader, kString));
    return {};
  }
  const std::optional<uint64_t> bytes = CheckedMul(count, ScalarBytes(element));
  if (ScalarBytes(element) == 0 || !bytes) {
    return Error(DSOPT_E_CORRUPT, "%s: array of type %u", reader->name().c_str(), element);
  }
  return reader->Skip(*bytes);
}

Result<int64_t> ReadInteger(GgufReader* reader, uint32_t type) {
  uint64_t raw = 0;
  const auto read = [&](auto value) -> Status {
    RETURN_IF_ERROR(reader->Scalar(&value));
    raw = static_cast<uint64_t>(value);
    return {};
  };
  Status status;
  switch (type) {
    case kU8:
    case kBool:
      status = read(uint8_t{});
      break;
    case kI8:
      status = read(int8_t{});
      break;
    case kU16:
      status = read(uint16_t{});
      break;
    case kI16:
      status = read(int16_t{});
      break;
    case kU32:
      status = read(uint32_t{});
      break;
    case kI32:
      status = read(int32_t{});
      break;
    default:
      status = read(uint64_t{});
      break;
  }
  if (!status.ok()) return status;
  return static_cast<int64_t>(raw);
}

template <typename T>
Status ReadNumbers(GgufReader* reader, uint64_t count, std::vector<T>* out) {
  if (count > reader->Left() / sizeof(T)) return reader->Truncated();
  out->resize(count);
  for (T& value : *out) RETURN_IF_ERROR(reader->Scalar(&value));
  return {};
}

Status ReadTokenizerArray(GgufReader* reader, const std::string& key, Metadata* out) {
  uint32_t element;
  uint64_t count;
  RETURN_IF_ERROR(reader->Scalar(&element));
  RETURN_IF_ERROR(reader->Scalar(&count));
  if (count > 1u << 24) {
    return Error(DSOPT_E_CORRUPT, "%s: %s has %llu elements, at most 16777216 are read", reader->name().c_str(),
                 key.c_str(), static_cast<unsigned long long>(count));
  }
  std::vector<std::string>* strings = key == "tokenizer.ggml.tokens"   ? &out->tokens
                                      : key == "tokenizer.ggml.merges" ? &out->merges
                                                                       : nullptr;
  if (strings != nullptr && element == kString) {
    if (count > reader->Left() / 8) return reader->Truncated();
    strings->clear();
    for (uint64_t i = 0; i < count; ++i) {
      strings->emplace_back();
      RETURN_IF_ERROR(reader->String(&strings->back()));
    }
    return {};
  }
  if (key == "tokenizer.ggml.scores" && element == kF32) return ReadNumbers(reader, count, &out->scores);
  if (key == "tokenizer.ggml.token_type" && (element == kI32 || element == kU32)) {
    return ReadNumbers(reader, count, &out->types);
  }
  if (element == kString) {
    for (uint64_t i = 0; i < count; ++i) RETURN_IF_ERROR(SkipValue(reader, kString));
    return {};
  }
  if (ScalarBytes(element) == 0)
    return Error(DSOPT_E_CORRUPT, "%s: array of type %u", reader->name().c_str(), element);
  return reader->Skip(count * ScalarBytes(element));
}

Status ReadMetadata(Source& source, Metadata* out) {
  GgufReader reader(&source);
  uint32_t magic, version;
  uint64_t tensors, pairs;
  RETURN_IF_ERROR(reader.Scalar(&magic));
  RETURN_IF_ERROR(reader.Scalar(&version));
  if (magic != 0x46554747) return Error(DSOPT_E_CORRUPT, "%s: no GGUF file", source.name().c_str());
  if (version != 2 && version != 3) {
    return Error(DSOPT_E_UNSUPPORTED, "%s: GGUF version %u, expected 2 or 3", source.name().c_str(), version);
  }
  RETURN_IF_ERROR(reader.Scalar(&tensors));
  RETURN_IF_ERROR(reader.Scalar(&pairs));
  if (pairs > reader.Left() / 12) return reader.Truncated();  // a pair has at least a length and a type
  for (uint64_t i = 0; i < pairs; ++i) {
    std::string key;
    uint32_t type;
    RETURN_IF_ERROR(reader.String(&key));
    RETURN_IF_ERROR(reader.Scalar(&type));
    if (!Wanted(key)) {
      RETURN_IF_ERROR(SkipValue(&reader, type));
    } else if (type == kString) {
      RETURN_IF_ERROR(reader.String(&out->strings[key]));
    } else if (type == kArray) {
      RETURN_IF_ERROR(ReadTokenizerArray(&reader, key, out));
    } else if (ScalarBytes(type) > 0 && type != kF32 && type != kF64) {
      ASSIGN_OR_RETURN(out->integers[key], ReadInteger(&reader, type));
    } else {
      RETURN_IF_ERROR(SkipValue(&reader, type));
    }
  }
  return {};
}

// -1 for an absent id and for those that writers put where there is none.
int32_t IdOf(const Metadata& data, const char* name) {
  const auto it = data.integers.find(std::string("tokenizer.ggml.") + name);
  if (it == data.integers.end() || it->second < 0) return -1;
  return static_cast<uint64_t>(it->second) < data.tokens.size() ? static_cast<int32_t>(it->second) : -1;
}

bool FlagOf(const Metadata& data, const char* name, bool missing) {
  const auto it = data.integers.find(std::string("tokenizer.ggml.") + name);
  return it == data.integers.end() ? missing : it->second != 0;
}

Result<PreTokenizer> PreTokenizerByName(const Metadata& data) {
  const auto it = data.strings.find("tokenizer.ggml.pre");
  const std::string name = it == data.strings.end() ? "(absent)" : it->second;
  if (name == "gpt-2") return PreTokenizer::kGpt2;
  if (name == "llama-bpe" || name == "llama3" || name == "llama-v3") return PreTokenizer::kLlama3;
  if (name == "deepseek-llm") return PreTokenizer::kDeepseekLlm;
  if (name == "deepseek-coder") return PreTokenizer::kDeepseekCoder;
  if (name == "deepseek-v3") return PreTokenizer::kDeepseekV3;
  if (name == "qwen2" || name == "deepseek-r1-qwen") return PreTokenizer::kQwen2;
  return Error(DSOPT_E_UNSUPPORTED, "gguf: tokenizer.ggml.pre '%.80s' is not supported", name.c_str());
}

// Types 1..6: normal, unknown, control, user-defined, unused, byte.
Status ApplyTypes(const Metadata& data, bool byte_level, TokenizerSpec* spec) {
  if (!data.types.empty() && data.types.size() != data.tokens.size()) {
    return Error(DSOPT_E_CORRUPT, "gguf: %zu token types, expected %zu", data.types.size(), data.tokens.size());
  }
  spec->piece_flags.assign(spec->pieces.size(), 0);
  for (size_t id = 0; id < data.types.size(); ++id) {
    const int32_t type = data.types[id];
    uint8_t& flags = spec->piece_flags[id];
    if (type == 2) flags = kPieceUnknown | kPieceControl;
    if (type == 3) flags = kPieceControl;
    if (type == 5) flags = kPieceUnused;
    if (type == 6) flags = kPieceByte;
    if ((type == 2 || type == 3 || type == 4) && !spec->pieces[id].empty()) {
      AddedToken token;
      token.id = static_cast<uint32_t>(id);
      token.special = type != 4;
      spec->added.push_back(token);
    } else if (byte_level) {
      if (std::optional<std::string> bytes = DecodePrintableBytes(spec->pieces[id])) {
        spec->pieces[id] = std::move(*bytes);
      }
    }
  }
  return {};
}

Status ApplyMerges(const Metadata& data, TokenizerSpec* spec) {
  std::unordered_map<std::string_view, uint32_t> ids;
  ids.reserve(data.tokens.size());
  for (uint32_t id = 0; id < data.tokens.size(); ++id) ids.emplace(data.tokens[id], id);
  spec->merges.reserve(data.merges.size());
  for (const std::string& merge : data.merges) {
    const std::string_view text = merge;
    const size_t space = text.find(' ', 1);
    const auto a = space == std::string_view::npos ? ids.end() : ids.find(text.substr(0, space));
    const auto b = space == std::string_view::npos ? ids.end() : ids.find(text.substr(space + 1));
    if (a == ids.end() || b == ids.end()) {
      return Error(DSOPT_E_CORRUPT, "gguf: merge %zu '%.80s' does not name two tokens", spec->merges.size(),
                   merge.c_str());
    }
    spec->merges.emplace_back(a->second, b->second);
  }
  return {};
}

}  // namespace

Result<TokenizerSpec> ImportGgufVocab(Source& source) {
  Metadata data;
  RETURN_IF_ERROR(ReadMetadata(source, &data));
  const std::string model = data.strings["tokenizer.ggml.model"];
  const bool byte_level = model == "gpt2";
  if (!byte_level && model != "llama") {
    return Error(DSOPT_E_UNSUPPORTED, "gguf: tokenizer.ggml.model '%.80s', expected 'llama' or 'gpt2'",
                 model.c_str());
  }
  TokenizerSpec spec;
  spec.pieces = data.tokens;
  spec.kind = byte_level ? TokenizerKind::kByteBpe : TokenizerKind::kScoreBpe;
  spec.bos = IdOf(data, "bos_token_id");
  spec.eos = IdOf(data, "eos_token_id");
  spec.unk = IdOf(data, "unknown_token_id");
  spec.pad = IdOf(data, "padding_token_id");
  RETURN_IF_ERROR(ApplyTypes(data, byte_level, &spec));
  if (byte_level) {
    ASSIGN_OR_RETURN(spec.pre_tokenizer, PreTokenizerByName(data));
    spec.nfc = spec.pre_tokenizer == PreTokenizer::kQwen2;
    spec.ignore_merges = spec.pre_tokenizer == PreTokenizer::kLlama3;
    spec.add_prefix_space = FlagOf(data, "add_space_prefix", false);
    RETURN_IF_ERROR(ApplyMerges(data, &spec));
  } else {
    spec.scores = std::move(data.scores);
    spec.byte_fallback = spec.escape_spaces = spec.fuse_unknown = true;
    spec.add_dummy_prefix = spec.strip_leading_space = FlagOf(data, "add_space_prefix", true);
    spec.collapse_spaces = FlagOf(data, "remove_extra_whitespaces", false);
  }
  if (FlagOf(data, "add_bos_token", !byte_level) && spec.bos >= 0) spec.prefix = {spec.bos};
  if (FlagOf(data, "add_eos_token", false) && spec.eos >= 0) spec.suffix = {spec.eos};
  for (const char* name : {"eot_token_id", "eom_token_id"}) {
    if (const int32_t id = IdOf(data, name); id >= 0) spec.end_tokens.push_back(id);
  }
  FinishEndTokens(&spec);
  return spec;
}

Result<std::string> ImportGgufChatTemplate(Source& source) {
  Metadata data;
  RETURN_IF_ERROR(ReadMetadata(source, &data));
  const auto it = data.strings.find("tokenizer.chat_template");
  if (it == data.strings.end()) return Error(DSOPT_E_NOT_FOUND, "%s: no chat template", source.name().c_str());
  return it->second;
}

}  // namespace dsopt
