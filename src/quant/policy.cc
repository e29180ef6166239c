#include "quant/policy.h"

namespace dsopt {
namespace {

constexpr uint32_t kInt4Group = 64;

bool EndsWith(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

Coding RowCoding(dsopt_encoding encoding) { return {encoding, 0, 0, false, DSOPT_F32}; }

}  // namespace

std::optional<dsopt_encoding> EncodingOf(std::string_view word) {
  if (word == "bf16") return DSOPT_ENCODING_PLAIN;
  for (const dsopt_encoding encoding :
       {DSOPT_ENCODING_LOSSLESS12, DSOPT_ENCODING_INT8, DSOPT_ENCODING_FP8, DSOPT_ENCODING_INT4}) {
    if (word == EncodingName(encoding)) return encoding;
  }
  return std::nullopt;
}

Status CheckRequest(const WeightsRequest& request) {
  const char* name = EncodingName(request.encoding);
  const bool int4 = request.encoding == DSOPT_ENCODING_INT4, int8 = request.encoding == DSOPT_ENCODING_INT8;
  if (request.offsets && !int4 && !int8) {
    return Error(DSOPT_E_INVALID_ARGUMENT, "weights %s with offsets, expected int8 or int4", name);
  }
  const uint32_t group = request.group;
  if (group == 0 || (int4 && (group == 32 || group == 64 || group == 128)) || (int8 && group % 16 == 0))
    return {};
  return Error(DSOPT_E_INVALID_ARGUMENT,
               "weights %s in groups of %u, expected 32, 64 or 128 of int4, or a multiple of 16 of int8", name,
               group);
}

TensorKind KindOf(const std::string& name, const std::vector<uint64_t>& shape) {
  if (shape.size() < 2 || EndsWith(name, "router") || EndsWith(name, "kv_b")) return TensorKind::kOther;
  if (name == "embed") return TensorKind::kEmbedding;
  if (name == "head") return TensorKind::kHead;
  return shape.size() > 2 ? TensorKind::kMixture : TensorKind::kMatrix;
}

const char* KindName(TensorKind kind) {
  switch (kind) {
    case TensorKind::kEmbedding:
      return "embedding";
    case TensorKind::kHead:
      return "head";
    case TensorKind::kMatrix:
      return "attention and mlp";
    case TensorKind::kMixture:
      return "experts";
    default:
      return "norms, biases, routers, latent k/v up";
  }
}

std::optional<Coding> ChooseCoding(const WeightsRequest& request, const std::string& name,
                                   const std::vector<uint64_t>& shape) {
  const TensorKind kind = KindOf(name, shape);
  if (kind == TensorKind::kOther || request.encoding == DSOPT_ENCODING_PLAIN) return std::nullopt;
  const bool ends = kind == TensorKind::kEmbedding || kind == TensorKind::kHead;
  switch (request.encoding) {
    case DSOPT_ENCODING_FP8:  // int8 rows have a third of its error
      return RowCoding(ends ? DSOPT_ENCODING_INT8 : DSOPT_ENCODING_FP8);
    case DSOPT_ENCODING_INT8:
      return Coding{DSOPT_ENCODING_INT8, 0, request.group, request.offsets, DSOPT_F32};
    case DSOPT_ENCODING_INT4: {
      if (ends || shape.back() % 2 != 0) return RowCoding(DSOPT_ENCODING_INT8);
      return Coding{DSOPT_ENCODING_INT4, 0, request.group == 0 ? kInt4Group : request.group, request.offsets,
                    DSOPT_F16};
    }
    default:
      return RowCoding(request.encoding);
  }
}

}  // namespace dsopt
