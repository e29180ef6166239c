// verify_encoding.cc - the rules for tensors whose values are coded: see dsopt_encoding and TensorSpec.
#include <string>

#include "format/range_check.h"
#include "format/verify.h"

namespace dsopt {
namespace {

using ull = unsigned long long;

struct Coding {
  dsopt_dtype dtype;
  const char* dtype_name;
  bool offsets;  // may have them
};

// By dsopt_encoding.
constexpr Coding kCodings[] = {{DSOPT_DTYPE_DEFAULT, "any", false},
                               {DSOPT_BF16, "bf16", false},
                               {DSOPT_I8, "i8", true},
                               {DSOPT_F8_E4M3, "f8_e4m3", false},
                               {DSOPT_U8, "u8", true}};

std::string Where(const TensorSpec& tensor) {
  return std::string(EncodingName(tensor.encoding)) + " tensor '" + tensor.name + "'";
}

Status WrongGroups(const TensorSpec& tensor, const char* expected) {
  return Error(DSOPT_E_CORRUPT, "%s: groups of %u rows and %u columns, expected %s", Where(tensor).c_str(),
               tensor.group_rows, tensor.group_cols, expected);
}

Status VerifyGroups(const TensorSpec& tensor) {
  const uint32_t rows = tensor.group_rows, cols = tensor.group_cols;
  switch (tensor.encoding) {
    case DSOPT_ENCODING_INT8:
      if (rows <= 1 && cols % 16 == 0) return {};
      return WrongGroups(tensor, "1 row and a multiple of 16 columns");
    case DSOPT_ENCODING_FP8:
      if ((rows <= 1 && cols == 0) || (rows == 128 && cols == 128)) return {};
      return WrongGroups(tensor, "a whole row, or 128 and 128");
    case DSOPT_ENCODING_INT4:
      if (rows <= 1 && (cols == 32 || cols == 64 || cols == 128)) return {};
      return WrongGroups(tensor, "1 row and 32, 64 or 128 columns");
    default:
      return rows == 0 && cols == 0 ? Status() : WrongGroups(tensor, "none");
  }
}

Status VerifyCoding(const TensorSpec& tensor) {
  const Coding& coding = kCodings[tensor.encoding];
  RETURN_IF_ERROR(VerifyGroups(tensor));
  if (tensor.has_offset && !coding.offsets) {
    return Error(DSOPT_E_CORRUPT, "%s: has offsets, expected none", Where(tensor).c_str());
  }
  if (tensor.encoding == DSOPT_ENCODING_PLAIN) return {};
  if (tensor.dtype != coding.dtype) {
    return Error(DSOPT_E_CORRUPT, "%s: its type is %d, expected %s", Where(tensor).c_str(),
                 static_cast<int>(tensor.dtype), coding.dtype_name);
  }
  return CheckRanges(Where(tensor), {IntRange{"number of dimensions", tensor.shape.size(), 2, 3}});
}

// The scales or offsets of an encoded tensor.
Result<const TensorSpec*> FindCompanion(const std::vector<TensorSpec>& tensors, const TensorSpec& codes,
                                        const std::string& name) {
  const TensorSpec* it = FindTensor(tensors, name);
  if (it == nullptr) {
    return Error(DSOPT_E_CORRUPT, "%s: tensor '%s' is missing", Where(codes).c_str(), name.c_str());
  }
  if (it->encoding != DSOPT_ENCODING_PLAIN || it->synthetic ||
      (it->dtype != DSOPT_F32 && it->dtype != DSOPT_F16)) {
    return Error(DSOPT_E_CORRUPT, "tensor '%s': type %d%s, expected stored f32 or f16", name.c_str(),
                 static_cast<int>(it->dtype), it->synthetic ? ", synthetic" : "");
  }
  if (it->shape != ScalesShape(codes)) {
    uint64_t found = 1, expected = 1;  // neither overflows: TensorBytes has passed both tensors
    for (uint64_t extent : it->shape) found *= extent;
    for (uint64_t extent : ScalesShape(codes)) expected *= extent;
    return Error(DSOPT_E_CORRUPT,
                 "tensor '%s': %llu elements in %zu dimensions, expected %llu in %zu from '%s'", name.c_str(),
                 static_cast<ull>(found), it->shape.size(), static_cast<ull>(expected), codes.shape.size(),
                 codes.name.c_str());
  }
  return &*it;
}

}  // namespace

Status VerifyEncodings(const std::vector<TensorSpec>& tensors) {
  for (const TensorSpec& tensor : tensors) {
    RETURN_IF_ERROR(VerifyCoding(tensor));
    if (!HasScales(tensor.encoding) || tensor.synthetic) continue;
    ASSIGN_OR_RETURN(const TensorSpec* scales, FindCompanion(tensors, tensor, ScalesName(tensor.name)));
    if (!tensor.has_offset) continue;
    ASSIGN_OR_RETURN(const TensorSpec* offsets, FindCompanion(tensors, tensor, OffsetsName(tensor.name)));
    if (scales->dtype == offsets->dtype) continue;
    return Error(DSOPT_E_CORRUPT, "tensor '%s': type %d, expected that of '%s', %d", offsets->name.c_str(),
                 static_cast<int>(offsets->dtype), scales->name.c_str(), static_cast<int>(scales->dtype));
  }
  return {};
}

}  // namespace dsopt
