// tokenizer_sentencepiece.cc - sentencepiece's ModelProto, read with a small bounded reader of the protobuf
// wire format: only the fields that decide how text becomes pieces.
#include <bit>
#include <optional>

#include "base/utf8.h"
#include "import/tokenizer_import.h"
#include "import/tokenizer_json_read.h"

namespace dsopt {
namespace {

// One field of a message: number, and its value as the wire type gives it.
struct Field {
  uint32_t number = 0;
  uint32_t wire = 0;       // 0 varint, 1 fixed 64, 2 bytes, 5 fixed 32
  uint64_t value = 0;      // wire 0, 1, 5
  std::string_view bytes;  // wire 2
};

// Walks the fields of a message. [thread-compatible]
class WireReader {
 public:
  explicit WireReader(std::string_view bytes) : rest_(bytes) {}
  bool done() const { return rest_.empty(); }
  bool Next(Field* field) {
    uint64_t tag;
    if (!Varint(&tag) || tag >> 3 == 0 || tag >> 3 > (1u << 29)) return false;
    *field = Field{};
    field->number = static_cast<uint32_t>(tag >> 3);
    field->wire = static_cast<uint32_t>(tag & 7);
    if (field->wire == 0) return Varint(&field->value);
    if (field->wire == 1) return Fixed(8, &field->value);
    if (field->wire == 5) return Fixed(4, &field->value);
    uint64_t length;
    if (field->wire != 2 || !Varint(&length) || length > rest_.size()) return false;
    field->bytes = rest_.substr(0, length);
    rest_.remove_prefix(length);
    return true;
  }

 private:
  bool Varint(uint64_t* value) {
    *value = 0;
    for (uint32_t shift = 0; shift < 64; shift += 7) {
      if (rest_.empty()) return false;
      const auto byte = static_cast<unsigned char>(rest_[0]);
      rest_.remove_prefix(1);
      *value |= uint64_t{byte & 0x7Fu} << shift;
      if (byte < 0x80) return true;
    }
    return false;
  }
  bool Fixed(size_t length, uint64_t* value) {
    if (rest_.size() < length) return false;
    *value = 0;
    for (size_t i = length; i-- > 0;) *value = *value << 8 | static_cast<unsigned char>(rest_[i]);
    rest_.remove_prefix(length);
    return true;
  }
  std::string_view rest_;
};

Status Malformed(const char* what) { return Error(DSOPT_E_CORRUPT, "tokenizer.model: malformed %s", what); }

enum PieceType : uint64_t { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };

Status ReadPiece(std::string_view message, TokenizerSpec* spec) {
  std::string piece;
  float score = 0;
  uint64_t type = kNormal;
  for (WireReader reader(message); !reader.done();) {
    Field f;
    if (!reader.Next(&f)) return Malformed("piece");
    if (f.number == 1 && f.wire == 2) piece = f.bytes;
    if (f.number == 2 && f.wire == 5) score = std::bit_cast<float>(static_cast<uint32_t>(f.value));
    if (f.number == 3 && f.wire == 0) type = f.value;
  }
  const auto id = static_cast<uint32_t>(spec->pieces.size());
  if (id >= 1u << 24) return Malformed("vocabulary: more than 16777216 pieces");
  if (type < kNormal || type > kByte) {
    return Error(DSOPT_E_UNSUPPORTED, "tokenizer.model: piece %u has type %llu, expected 1..6", id,
                 static_cast<unsigned long long>(type));
  }
  uint8_t flags = 0;
  if (type == kUnknown) flags = kPieceUnknown | kPieceControl;
  if (type == kControl) flags = kPieceControl;
  if (type == kUserDefined) flags = kPieceUserDefined;
  if (type == kUnused) flags = kPieceUnused;
  if (type == kByte) flags = kPieceByte;
  if (type == kUnknown && spec->unk < 0) spec->unk = static_cast<int32_t>(id);
  // Control pieces become added tokens, so that a caller who asks for it can write them in a text.
  if ((flags & kPieceControl) != 0 && !piece.empty()) {
    AddedToken token;
    token.id = id;
    token.special = true;
    spec->added.push_back(token);
  }
  spec->pieces.push_back(std::move(piece));
  spec->piece_flags.push_back(flags);
  spec->scores.push_back(score);
  return {};
}

struct TrainerSpec {
  uint64_t model_type = 1;  // 1 unigram, 2 bpe, 3 word, 4 char
  bool byte_fallback = false;
  bool space_suffix = false;
  int64_t bos = 1, eos = 2, pad = -1;
};

Status ReadTrainer(std::string_view message, TrainerSpec* out) {
  for (WireReader reader(message); !reader.done();) {
    Field f;
    if (!reader.Next(&f)) return Malformed("trainer_spec");
    if (f.wire != 0) continue;
    const auto id = static_cast<int64_t>(static_cast<int32_t>(static_cast<uint32_t>(f.value)));
    if (f.number == 3) out->model_type = f.value;
    if (f.number == 24) out->space_suffix = f.value != 0;
    if (f.number == 35) out->byte_fallback = f.value != 0;
    if (f.number == 41) out->bos = id;
    if (f.number == 42) out->eos = id;
    if (f.number == 43) out->pad = id;
  }
  return {};
}

Status ReadNormalizerSpec(std::string_view message, TokenizerSpec* spec) {
  std::string_view name, charsmap, rules;
  for (WireReader reader(message); !reader.done();) {
    Field f;
    if (!reader.Next(&f)) return Malformed("normalizer_spec");
    if (f.number == 1 && f.wire == 2) name = f.bytes;
    if (f.number == 2 && f.wire == 2) charsmap = f.bytes;
    if (f.number == 3 && f.wire == 0) spec->add_dummy_prefix = f.value != 0;
    if (f.number == 4 && f.wire == 0) spec->collapse_spaces = f.value != 0;
    if (f.number == 5 && f.wire == 0) spec->escape_spaces = f.value != 0;
    if (f.number == 6 && f.wire == 2) rules = f.bytes;
  }
  if (!charsmap.empty() || !rules.empty()) {
    return Error(DSOPT_E_UNSUPPORTED,
                 "tokenizer.model: normalizer '%.*s' with a table of %zu bytes, only 'identity' is supported",
                 static_cast<int>(std::min<size_t>(name.size(), 80)), name.data(), charsmap.size());
  }
  return {};
}

int32_t ControlId(const TokenizerSpec& spec, int64_t id) {
  return id >= 0 && static_cast<size_t>(id) < spec.pieces.size() ? static_cast<int32_t>(id) : -1;
}

}  // namespace

Result<TokenizerSpec> ImportSentencePiece(std::string_view bytes) {
  TokenizerSpec spec;
  TrainerSpec trainer;
  // Defaults of normalizer_spec.
  spec.add_dummy_prefix = spec.collapse_spaces = spec.escape_spaces = true;
  for (WireReader reader(bytes); !reader.done();) {
    Field f;
    if (!reader.Next(&f)) return Malformed("model");
    if (f.wire != 2) continue;
    if (f.number == 1) RETURN_IF_ERROR(ReadPiece(f.bytes, &spec));
    if (f.number == 2) RETURN_IF_ERROR(ReadTrainer(f.bytes, &trainer));
    if (f.number == 3) RETURN_IF_ERROR(ReadNormalizerSpec(f.bytes, &spec));
  }
  if (spec.pieces.empty()) return Malformed("model: no pieces");
  if (trainer.model_type != 1 && trainer.model_type != 2) {
    return Error(DSOPT_E_UNSUPPORTED,
                 "tokenizer.model: model type %llu, only unigram (1) and BPE (2) are supported",
                 static_cast<unsigned long long>(trainer.model_type));
  }
  if (trainer.space_suffix) {
    return Error(DSOPT_E_UNSUPPORTED, "tokenizer.model: treat_whitespace_as_suffix is not supported");
  }
  spec.kind = trainer.model_type == 1 ? TokenizerKind::kUnigram : TokenizerKind::kScoreBpe;
  spec.byte_fallback = trainer.byte_fallback;
  spec.fuse_unknown = true;
  spec.strip_leading_space = spec.add_dummy_prefix;
  spec.bos = ControlId(spec, trainer.bos);
  spec.eos = ControlId(spec, trainer.eos);
  spec.pad = ControlId(spec, trainer.pad);
  if (spec.bos >= 0) spec.prefix = {spec.bos};
  FinishEndTokens(&spec);
  return spec;
}

}  // namespace dsopt
