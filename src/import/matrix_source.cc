#include "import/matrix_source.h"

#include "base/float_types.h"
#include "quant/fp8.h"

namespace dsopt {

Status MatrixSource::ReadCodes(uint64_t, uint64_t, int8_t*) {
  return Error(DSOPT_E_INTERNAL, "tensor '%s' of type %s has no codes", name().c_str(), type_.c_str());
}

Status MatrixSource::ReadScales(uint64_t, uint64_t, float*, float*) {
  return Error(DSOPT_E_INTERNAL, "tensor '%s' of type %s has no scales", name().c_str(), type_.c_str());
}

Status EncodedSource::ReadValues(uint64_t first, uint64_t count, dsopt_dtype to, uint8_t* dst) {
  const Coding& coding = stored();
  const uint64_t group_rows = coding.group_rows > 1 ? coding.group_rows : 1,
                 groups = GroupsAcross(coding, cols());
  const uint64_t group_cols = coding.group_cols == 0 ? cols() : coding.group_cols;
  std::vector<int8_t> codes(cols());
  std::vector<float> scales(groups), offsets(groups), values(cols());
  uint64_t scaled = UINT64_MAX;  // the row of the grid whose scales are here
  for (uint64_t row = first; row < first + count; ++row) {
    RETURN_IF_ERROR(ReadCodes(row, 1, codes.data()));
    if (row / group_rows != scaled) {
      scaled = row / group_rows;
      RETURN_IF_ERROR(ReadScales(scaled, 1, scales.data(), offsets.data()));
    }
    for (uint64_t col = 0; col < cols(); ++col) {
      const float code = coding.encoding == DSOPT_ENCODING_FP8 ? Fp8ToFloat(static_cast<uint8_t>(codes[col]))
                                                               : static_cast<float>(codes[col]);
      values[col] = code * scales[col / group_cols] + (coding.has_offset ? offsets[col / group_cols] : 0.0f);
    }
    ConvertElements(DSOPT_F32, values.data(), to, dst + (row - first) * cols() * ElementBytes(to), cols());
  }
  return {};
}

}  // namespace dsopt
