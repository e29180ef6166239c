#include "import/matrix_source.h"

#include <algorithm>

#include "base/float_types.h"
#include "quant/fp8.h"

namespace dsopt {
namespace {

constexpr uint64_t kBandElements = 1u << 20;  // read at a time: codes and scales may lie far apart in the file

}  // namespace

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
  const uint64_t step = std::max(kBandElements / cols(), uint64_t{1}), end = first + count;
  std::vector<int8_t> codes;
  std::vector<float> scales, offsets, values(cols());
  for (uint64_t band = first; band < end; band += step) {
    const uint64_t rows = std::min(step, end - band), grid = band / group_rows;
    const uint64_t grid_rows = (band + rows - 1) / group_rows + 1 - grid;
    codes.resize(rows * cols());
    scales.resize(grid_rows * groups);
    offsets.resize(grid_rows * groups);
    RETURN_IF_ERROR(ReadCodes(band, rows, codes.data()));
    RETURN_IF_ERROR(ReadScales(grid, grid_rows, scales.data(), offsets.data()));
    for (uint64_t row = band; row < band + rows; ++row) {
      const int8_t* row_codes = &codes[(row - band) * cols()];
      const uint64_t row_scales = (row / group_rows - grid) * groups;
      for (uint64_t col = 0; col < cols(); ++col) {
        const uint64_t group = row_scales + col / group_cols;
        const float code = coding.encoding == DSOPT_ENCODING_FP8
                               ? Fp8ToFloat(static_cast<uint8_t>(row_codes[col]))
                               : static_cast<float>(row_codes[col]);
        values[col] = code * scales[group] + (coding.has_offset ? offsets[group] : 0.0f);
      }
      ConvertElements(DSOPT_F32, values.data(), to, dst + (row - first) * cols() * ElementBytes(to), cols());
    }
  }
  return {};
}

}  // namespace dsopt
