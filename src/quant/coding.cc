#include "quant/coding.h"

namespace dsopt {
namespace {

uint64_t DivideUp(uint64_t value, uint64_t by) { return value / by + (value % by != 0 ? 1 : 0); }

}  // namespace

dsopt_dtype CodeType(dsopt_encoding encoding) {
  switch (encoding) {
    case DSOPT_ENCODING_LOSSLESS12:
      return DSOPT_BF16;
    case DSOPT_ENCODING_INT8:
      return DSOPT_I8;
    case DSOPT_ENCODING_FP8:
      return DSOPT_F8_E4M3;
    case DSOPT_ENCODING_INT4:
      return DSOPT_U8;
    default:
      return DSOPT_DTYPE_DEFAULT;
  }
}

uint64_t GroupsDown(const Coding& coding, uint64_t rows) {
  return coding.group_rows > 1 ? DivideUp(rows, coding.group_rows) : rows;
}

uint64_t GroupsAcross(const Coding& coding, uint64_t cols) {
  return coding.group_cols == 0 ? 1 : DivideUp(cols, coding.group_cols);
}

uint64_t CodeBytes(const Coding& coding, uint64_t elements) {
  return coding.encoding == DSOPT_ENCODING_INT4 ? elements / 2
                                                : elements * ElementBytes(CodeType(coding.encoding));
}

void UnpackInt4(const uint8_t* bytes, uint64_t count, int8_t* codes) {
  for (uint64_t i = 0; i < count; ++i) {
    codes[2 * i] = static_cast<int8_t>((bytes[i] & 15) - 8);
    codes[2 * i + 1] = static_cast<int8_t>((bytes[i] >> 4) - 8);
  }
}

void SetCoding(const Coding& coding, TensorSpec* tensor) {
  tensor->encoding = coding.encoding;
  if (coding.encoding != DSOPT_ENCODING_PLAIN) tensor->dtype = CodeType(coding.encoding);
  const bool groups = HasScales(coding.encoding);
  tensor->group_rows = groups ? coding.group_rows : 0;
  tensor->group_cols = groups ? coding.group_cols : 0;
  tensor->has_offset = groups && coding.has_offset;
  uint64_t elements = 1;
  for (uint64_t extent : tensor->shape) elements *= extent;
  tensor->raw_bytes = BytesOf(*tensor, elements);
}

std::vector<TensorSpec> CompanionTensors(const TensorSpec& tensor, dsopt_dtype scale_type) {
  std::vector<TensorSpec> companions;
  if (!HasScales(tensor.encoding)) return companions;
  TensorSpec& scales = companions.emplace_back();
  scales.name = ScalesName(tensor.name);
  scales.dtype = scale_type;
  scales.shape = ScalesShape(tensor);
  scales.raw_bytes = ElementBytes(scale_type);
  for (uint64_t extent : scales.shape) scales.raw_bytes *= extent;
  if (tensor.has_offset) {
    TensorSpec offsets = scales;
    offsets.name = OffsetsName(tensor.name);
    companions.push_back(std::move(offsets));
  }
  return companions;
}

}  // namespace dsopt
