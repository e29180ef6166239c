#include "quant/encode.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "quant/fp8.h"
#include "quant/group_codes.h"
#include "quant/pieces.h"

namespace dsopt {
namespace {

constexpr int kMostInt8 = 127, kMostInt4 = 7;
constexpr uint64_t kMostPiece = 256;  // columns that are coded at a time

// One band of the matrix while it is being encoded.
class BandEncoder {
 public:
  BandEncoder(const Coding& coding, const float* values, uint64_t rows, uint64_t cols,
              const EncodeOptions& options, CodedRows* out)
      : coding_(coding),
        values_(values),
        rows_(rows),
        cols_(cols),
        across_(GroupsAcross(coding, cols)),
        group_rows_(std::max(coding.group_rows, 1u)),
        group_cols_(coding.group_cols == 0 ? cols : coding.group_cols),
        options_(options),
        out_(out) {}

  // Groups [first, last) counted downwards.
  void Encode(uint64_t first, uint64_t last) {
    std::vector<float> row(std::min(group_cols_, cols_));
    for (uint64_t down = first; down < last; ++down) {
      for (uint64_t across = 0; across < across_; ++across) EncodeGroup(down, across, row.data());
    }
  }

 private:
  // `row`: room for a row of the group, with what is not finite as 0.
  const float* Finite(const float* values, uint64_t count, float* row) const {
    bool finite = true;
    for (uint64_t i = 0; i < count; ++i) finite = finite && std::isfinite(values[i]);
    if (finite) return values;
    for (uint64_t i = 0; i < count; ++i) row[i] = std::isfinite(values[i]) ? values[i] : 0.0f;
    return row;
  }

  void EncodeGroup(uint64_t down, uint64_t across, float* room) {
    const uint64_t row = down * group_rows_, col = across * group_cols_;
    const uint64_t rows = std::min<uint64_t>(group_rows_, rows_ - row),
                   cols = std::min(group_cols_, cols_ - col);
    GroupScale group;
    const float* first = Finite(values_ + row * cols_ + col, cols, room);
    switch (coding_.encoding) {
      case DSOPT_ENCODING_INT8:
        group = CoverGroup(first, cols, kMostInt8, coding_.has_offset, coding_.scale_type);
        break;
      case DSOPT_ENCODING_INT4:
        group = options_.search
                    ? SearchInt4(first, options_.importance == nullptr ? nullptr : options_.importance + col,
                                 cols, coding_.has_offset, coding_.scale_type)
                    : CoverGroup(first, cols, kMostInt4, coding_.has_offset, coding_.scale_type);
        break;
      default: {
        float most = 0.0f;
        for (uint64_t r = 0; r < rows; ++r) {
          const float* line = Finite(values_ + (row + r) * cols_ + col, cols, room);
          for (uint64_t c = 0; c < cols; ++c) most = std::max(most, std::fabs(line[c]));
        }
        group.scale = RoundScale(most / kMostFp8, coding_.scale_type);
      }
    }
    const uint64_t index = down * across_ + across;
    out_->scales[index] = group.scale;
    if (coding_.has_offset) out_->offsets[index] = group.offset;
    for (uint64_t r = 0; r < rows; ++r) {
      Write(Finite(values_ + (row + r) * cols_ + col, cols, room), cols, group, (row + r) * cols_ + col);
    }
  }

  // Codes of `count` values at element `at` of the band.
  void Write(const float* values, uint64_t count, GroupScale group, uint64_t at) {
    if (coding_.encoding == DSOPT_ENCODING_FP8) {
      const float inverse = group.scale == 0.0f ? 0.0f : 1.0f / group.scale;
      for (uint64_t i = 0; i < count; ++i) out_->codes[at + i] = FloatToFp8(values[i] * inverse);
      return;
    }
    const bool half = coding_.encoding == DSOPT_ENCODING_INT4;
    int8_t codes[kMostPiece];
    for (uint64_t first = 0; first < count; first += kMostPiece) {
      const uint64_t piece = std::min(kMostPiece, count - first);
      CodesOf(values + first, piece, group, half ? -8 : -kMostInt8, half ? kMostInt4 : kMostInt8, codes);
      if (!half) {
        std::memcpy(&out_->codes[at + first], codes, piece);
        continue;
      }
      for (uint64_t i = 0; i < piece; i += 2) {
        const int low = codes[i] + 8, high = codes[i + 1] + 8;
        out_->codes[(at + first + i) / 2] = static_cast<uint8_t>(low | high << 4);
      }
    }
  }

  const Coding& coding_;
  const float* values_;
  const uint64_t rows_, cols_, across_, group_rows_, group_cols_;
  const EncodeOptions& options_;
  CodedRows* out_;
};

}  // namespace

void EncodeRows(const Coding& coding, const float* values, uint64_t rows, uint64_t cols,
                const EncodeOptions& options, CodedRows* out) {
  const uint64_t down = GroupsDown(coding, rows), groups = down * GroupsAcross(coding, cols);
  out->codes.resize(CodeBytes(coding, rows * cols));
  out->scales.resize(groups);
  out->offsets.resize(coding.has_offset ? groups : 0);
  BandEncoder encoder(coding, values, rows, cols, options, out);
  InPieces(down, options.threads, [&encoder](uint64_t first, uint64_t last) { encoder.Encode(first, last); });
}

void DecodeRows(const Coding& coding, const uint8_t* codes, const float* scales, const float* offsets,
                uint64_t rows, uint64_t cols, float* values) {
  const uint64_t across = GroupsAcross(coding, cols), group_rows = std::max(coding.group_rows, 1u);
  const uint64_t group_cols = coding.group_cols == 0 ? cols : coding.group_cols;
  for (uint64_t r = 0; r < rows; ++r) {
    for (uint64_t c = 0; c < cols; ++c) {
      const uint64_t at = r * cols + c, group = r / group_rows * across + c / group_cols;
      float code;
      if (coding.encoding == DSOPT_ENCODING_INT4) {
        code = static_cast<float>(static_cast<int>(codes[at / 2] >> (at % 2 * 4) & 15) - 8);
      } else if (coding.encoding == DSOPT_ENCODING_INT8) {
        code = static_cast<float>(static_cast<int8_t>(codes[at]));
      } else {
        code = Fp8ToFloat(codes[at]);
      }
      values[at] = code * scales[group] + (offsets != nullptr ? offsets[group] : 0.0f);
    }
  }
}

}  // namespace dsopt
