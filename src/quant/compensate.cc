#include "quant/compensate.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "quant/fp8.h"
#include "quant/group_codes.h"
#include "quant/pieces.h"

namespace dsopt {
namespace {

constexpr int kPasses = 2;  // over all columns, once each is rounded

// A number for each of the rows that read the factors together. In vectors of the compiler's: as an array of
// floats the sums below do not stay in registers.
constexpr uint64_t kTile = 32, kQuads = kTile / 4;
struct Lanes {
  typedef float Quad __attribute__((vector_size(16)));
  Quad quads[kQuads] = {};

  float operator[](uint64_t row) const { return quads[row / 4][row % 4]; }
  void Set(uint64_t row, float value) { quads[row / 4][row % 4] = value; }
};

// sum + a times b.
Lanes TileDot(const float* a, const Lanes* b, uint64_t count, const Lanes& start) {
  Lanes sum = start;
  for (uint64_t i = 0; i < count; ++i) {
    for (uint64_t q = 0; q < kQuads; ++q) sum.quads[q] += a[i] * b[i].quads[q];
  }
  return sum;
}

const float* Fp8Values() {
  static const std::array<float, 256> values = [] {
    std::array<float, 256> table;
    for (size_t bits = 0; bits < table.size(); ++bits) table[bits] = Fp8ToFloat(static_cast<uint8_t>(bits));
    return table;
  }();
  return values.data();
}

// Codes of one encoding, one value at a time: a byte as CodedRows has it, int4 the half of one.
class Rounder {
 public:
  explicit Rounder(dsopt_encoding encoding)
      : fp8_(encoding == DSOPT_ENCODING_FP8),
        half_(encoding == DSOPT_ENCODING_INT4),
        low_(half_ ? -8.0f : -127.0f),
        high_(half_ ? 7.0f : 127.0f),
        table_(Fp8Values()) {}

  uint8_t Code(float value, GroupScale group) const {
    const float inverse = 1.0f / group.scale;
    if (!std::isfinite(inverse)) return half_ ? 8 : 0;
    if (fp8_) return FloatToFp8(value * inverse);
    const float code = std::min(std::max(std::nearbyint((value - group.offset) * inverse), low_), high_);
    return static_cast<uint8_t>(static_cast<int>(code) + (half_ ? 8 : 0));
  }
  float Value(uint8_t code, GroupScale group) const {
    const float number = fp8_    ? table_[code]
                         : half_ ? static_cast<float>(code) - 8.0f
                                 : static_cast<float>(static_cast<int8_t>(code));
    return number * group.scale + group.offset;
  }

 private:
  const bool fp8_, half_;
  const float low_, high_;
  const float* table_;
};

// Rows [first, first + kTile) of a matrix, of one thread.
class Tile {
 public:
  Tile(const Coding& coding, const float* values, uint64_t rows, uint64_t cols, const EncodeOptions& options,
       const CompensateOptions& compensate, CodedRows* out)
      : coding_(coding),
        values_(values),
        rows_(rows),
        cols_(cols),
        across_(GroupsAcross(coding, cols)),
        group_cols_(coding.group_cols == 0 ? cols : coding.group_cols),
        options_(options),
        compensate_(compensate),
        rounder_(coding.encoding),
        out_(*out),
        weights_(cols),
        near_(cols),
        off_(cols),
        ordered_(cols),
        codes_(cols) {}

  void Encode(uint64_t first, CompensateResult* result) {
    first_ = first;
    count_ = std::min(kTile, rows_ - first);
    Load();
    groups_.resize(across_ * kTile);
    for (uint64_t r = 0; r < count_; ++r) ChooseGroups(r);
    for (const Feedback& feedback : *compensate_.feedback) Round(feedback);
    std::array<double, kTile> near_error, error;
    Products(near_, &near_error);
    Products(off_, &error);
    for (uint64_t r = 0; r < count_; ++r) {
      const bool better = compensate_.held_out_rows == 0 || error[r] < near_error[r];
      if (better) Store(r);
      result->rows_compensated += better ? 1 : 0;
      result->nearest_error += near_error[r];
      result->error += better ? error[r] : near_error[r];
    }
  }

 private:
  GroupScale GroupAt(uint64_t row, uint64_t group) const {
    const uint64_t at = (first_ + row) * across_ + group;
    return {out_.scales[at], coding_.has_offset ? out_.offsets[at] : 0.0f};
  }
  uint8_t CodeAt(uint64_t row, uint64_t col) const {
    const uint64_t at = (first_ + row) * cols_ + col;
    if (coding_.encoding != DSOPT_ENCODING_INT4) return out_.codes[at];
    return out_.codes[at / 2] >> (at % 2 * 4) & 15;
  }

  // Values, and codes to nearest with their errors.
  void Load() {
    for (uint64_t r = 0; r < kTile; ++r) {
      for (uint64_t c = 0; c < cols_; ++c) {
        const float value = r < count_ ? values_[(first_ + r) * cols_ + c] : 0.0f;
        weights_[c].Set(r, std::isfinite(value) ? value : 0.0f);
        near_[c].Set(r, 0.0f);
        codes_[c][r] = 0;
        if (r >= count_) continue;
        codes_[c][r] = CodeAt(r, c);
        near_[c].Set(r, weights_[c][r] - rounder_.Value(codes_[c][r], GroupAt(r, c / group_cols_)));
      }
    }
    off_ = near_;
  }

  // Weighted squared error of row r rounded to nearest.
  double RowError(uint64_t r, uint64_t first, uint64_t last, GroupScale group) const {
    double error = 0;
    for (uint64_t c = first; c < last; ++c) {
      const float value = weights_[c][r], off = value - rounder_.Value(rounder_.Code(value, group), group);
      const float weight = options_.importance == nullptr ? 1.0f : options_.importance[c];
      error += static_cast<double>(off * off * weight);
    }
    return error;
  }

  // The scales of EncodeRows; where those only cover a group, the best of some around them. fp8: what counts is
  // where values lie between powers of two, so an octave.
  void ChooseGroups(uint64_t r) {
    const bool fp8 = coding_.encoding == DSOPT_ENCODING_FP8;
    for (uint64_t g = 0; g < across_; ++g) {
      const GroupScale cover = GroupAt(r, g);
      GroupScale best = cover;
      if (!coding_.has_offset && coding_.encoding != DSOPT_ENCODING_INT4) {
        const uint64_t first = g * group_cols_, last = std::min(first + group_cols_, cols_);
        double least = RowError(r, first, last, cover);
        for (int step = 1; step < (fp8 ? 16 : 6); ++step) {
          const float by =
              fp8 ? std::exp2(static_cast<float>(step) / 16) : 1.0f - 0.03f * static_cast<float>(step);
          const GroupScale group{RoundScale(cover.scale * by, coding_.scale_type), 0.0f};
          const double error = RowError(r, first, last, group);
          if (!(error < least)) continue;
          least = error;
          best = group;
        }
      }
      groups_[g * kTile + r] = best;
    }
    for (uint64_t c = 0; c < cols_; ++c) RoundTo(weights_[c][r], c, r);
  }

  void RoundTo(float wanted, uint64_t col, uint64_t r) {
    const GroupScale group = groups_[col / group_cols_ * kTile + r];
    codes_[col][r] = rounder_.Code(wanted, group);
    off_[col].Set(r, weights_[col][r] - rounder_.Value(codes_[col][r], group));
  }

  void Round(const Feedback& feedback) {
    const uint64_t n = feedback.cols;
    const auto round = [&](uint64_t k, const float* factors, uint64_t count) {
      const uint64_t col = feedback.first + feedback.order[k];
      const Lanes wanted = TileDot(factors + k * n, ordered_.data(), count, weights_[col]);
      for (uint64_t r = 0; r < count_; ++r) RoundTo(wanted[r], col, r);
      ordered_[k] = off_[col];
    };
    for (uint64_t k = 0; k < n; ++k) round(k, feedback.factors.data(), k);
    for (int pass = 0; pass < kPasses; ++pass) {
      for (uint64_t k = 0; k < n; ++k) round(k, feedback.ratios.data(), n);
    }
  }

  void Products(const std::vector<Lanes>& off, std::array<double, kTile>* errors) const {
    errors->fill(0.0);
    for (uint64_t t = 0; t < compensate_.held_out_rows; ++t) {
      const Lanes product = TileDot(compensate_.held_out + t * cols_, off.data(), cols_, {});
      for (uint64_t r = 0; r < kTile; ++r) {
        (*errors)[r] += static_cast<double>(product[r]) * static_cast<double>(product[r]);
      }
    }
  }

  void Store(uint64_t r) {
    for (uint64_t g = 0; g < across_; ++g) {
      const uint64_t at = (first_ + r) * across_ + g;
      out_.scales[at] = groups_[g * kTile + r].scale;
    }
    uint8_t* codes = &out_.codes[CodeBytes(coding_, (first_ + r) * cols_)];
    if (coding_.encoding != DSOPT_ENCODING_INT4) {
      for (uint64_t c = 0; c < cols_; ++c) codes[c] = codes_[c][r];
      return;
    }
    for (uint64_t c = 0; c < cols_; c += 2)
      codes[c / 2] = static_cast<uint8_t>(codes_[c][r] | codes_[c + 1][r] << 4);
  }

  const Coding& coding_;
  const float* values_;
  const uint64_t rows_, cols_, across_, group_cols_;
  const EncodeOptions& options_;
  const CompensateOptions& compensate_;
  const Rounder rounder_;
  CodedRows& out_;
  uint64_t first_ = 0, count_ = 0;
  std::vector<Lanes> weights_, near_, off_;  // by column; errors of both codings
  std::vector<Lanes> ordered_;               // errors in the order of a block
  std::vector<std::array<uint8_t, kTile>> codes_;
  std::vector<GroupScale> groups_;  // [groups, kTile]
};

}  // namespace

CompensateResult EncodeCompensated(const Coding& coding, const float* values, uint64_t rows, uint64_t cols,
                                   const EncodeOptions& options, const CompensateOptions& compensate,
                                   CodedRows* out) {
  EncodeRows(coding, values, rows, cols, options, out);
  if (coding.group_rows > 1 || compensate.feedback == nullptr) return {};
  const uint64_t tiles = (rows + kTile - 1) / kTile;
  std::vector<CompensateResult> results(tiles);  // added up in their order
  InPieces(tiles, options.threads, [&](uint64_t first, uint64_t last) {
    Tile tile(coding, values, rows, cols, options, compensate, out);
    for (uint64_t i = first; i < last; ++i) tile.Encode(i * kTile, &results[i]);
  });
  CompensateResult result;
  for (const CompensateResult& part : results) {
    result.rows_compensated += part.rows_compensated;
    result.nearest_error += part.nearest_error;
    result.error += part.error;
  }
  return result;
}

}  // namespace dsopt
