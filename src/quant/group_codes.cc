#include "quant/group_codes.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/float_types.h"

namespace dsopt {
namespace {

constexpr float kMostHalf = 65504.0f;
constexpr float kMagic = 12582912.0f;  // adding and subtracting it rounds |x| < 2^22 to nearest even
constexpr int kLow = -8, kHigh = 7;
constexpr uint64_t kMostGroup = 128;

float Rounded(float value, float low, float high) {
  return std::min(std::max((value + kMagic) - kMagic, low), high);
}

float Inverse(float scale) { return scale == 0.0f ? 0.0f : 1.0f / scale; }

float Weight(const float* importance, uint64_t i) { return importance == nullptr ? 1.0f : importance[i]; }

double SquaredError(const float* values, const float* importance, uint64_t count, GroupScale group) {
  const float inverse = Inverse(group.scale);
  double sum = 0;
  for (uint64_t i = 0; i < count; ++i) {
    const float code = Rounded((values[i] - group.offset) * inverse, kLow, kHigh);
    const float error = code * group.scale + group.offset - values[i];
    sum += static_cast<double>(Weight(importance, i)) * static_cast<double>(error) * static_cast<double>(error);
  }
  return sum;
}

// Best scale for the codes that `inverse` gives, and how much of the squared values it explains.
GroupScale FitScale(const float* values, const float* importance, uint64_t count, float inverse,
                    double* explained) {
  float value_code = 0, code_code = 0;
  for (uint64_t i = 0; i < count; ++i) {
    const float code = Rounded(values[i] * inverse, kLow, kHigh), weighted = Weight(importance, i) * code;
    value_code += weighted * values[i];
    code_code += weighted * code;
  }
  if (!(code_code > 0)) {
    *explained = 0;
    return {};
  }
  *explained =
      static_cast<double>(value_code) * static_cast<double>(value_code) / static_cast<double>(code_code);
  return {value_code / code_code, 0.0f};
}

// Best scale and offset, by least squares, for the codes that `start` gives.
GroupScale FitLine(const float* values, const float* importance, uint64_t count, GroupScale start) {
  const float inverse = Inverse(start.scale);
  double w = 0, wc = 0, wcc = 0, wv = 0, wcv = 0;
  for (uint64_t i = 0; i < count; ++i) {
    const double weight = static_cast<double>(Weight(importance, i)), value = static_cast<double>(values[i]);
    const double code = static_cast<double>(Rounded((values[i] - start.offset) * inverse, kLow, kHigh));
    w += weight;
    wc += weight * code;
    wcc += weight * code * code;
    wv += weight * value;
    wcv += weight * code * value;
  }
  const double determinant = w * wcc - wc * wc;
  if (!(determinant > 1e-12 * w * wcc)) return start;
  const double scale = (w * wcv - wc * wv) / determinant;
  return {static_cast<float>(scale), static_cast<float>((wv - scale * wc) / w)};
}

GroupScale RoundGroup(GroupScale group, dsopt_dtype scale_type) {
  return {RoundScale(group.scale, scale_type), RoundScale(group.offset, scale_type)};
}

// Keeps the better of two.
class Best {
 public:
  Best(const float* values, const float* importance, uint64_t count, dsopt_dtype scale_type)
      : values_(values), importance_(importance), count_(count), scale_type_(scale_type) {}
  void Offer(GroupScale group) {
    group = RoundGroup(group, scale_type_);
    const double error = SquaredError(values_, importance_, count_, group);
    if (!(error < error_)) return;
    error_ = error;
    best_ = group;
  }
  GroupScale Take() const { return best_; }

 private:
  const float* values_;
  const float* importance_;
  uint64_t count_;
  dsopt_dtype scale_type_;
  double error_ = std::numeric_limits<double>::infinity();
  GroupScale best_;
};

}  // namespace

float RoundScale(float value, dsopt_dtype scale_type) {
  if (scale_type != DSOPT_F16) return value;
  return HalfToFloat(FloatToHalf(std::min(std::max(value, -kMostHalf), kMostHalf)));
}

void CodesOf(const float* values, uint64_t count, GroupScale group, int low, int high, int8_t* codes) {
  const float inverse = Inverse(group.scale), least = static_cast<float>(low), most = static_cast<float>(high);
  for (uint64_t i = 0; i < count; ++i) {
    codes[i] = static_cast<int8_t>(Rounded((values[i] - group.offset) * inverse, least, most));
  }
}

GroupScale CoverGroup(const float* values, uint64_t count, int limit, bool with_offset,
                      dsopt_dtype scale_type) {
  float low = 0, high = 0;
  for (uint64_t i = 0; i < count; ++i) {
    low = i == 0 ? values[i] : std::min(low, values[i]);
    high = i == 0 ? values[i] : std::max(high, values[i]);
  }
  GroupScale group;
  if (with_offset) group.offset = RoundScale(0.5f * low + 0.5f * high, scale_type);
  const float reach = std::max(high - group.offset, group.offset - low);
  group.scale = RoundScale(reach / static_cast<float>(limit), scale_type);
  return group;
}

GroupScale SearchInt4(const float* values, const float* importance, uint64_t count, bool with_offset,
                      dsopt_dtype scale_type) {
  Best best(values, importance, std::min(count, kMostGroup), scale_type);
  best.Offer(CoverGroup(values, count, kHigh, with_offset, scale_type));
  float low = values[0], high = values[0];
  for (uint64_t i = 1; i < count; ++i) {
    low = std::min(low, values[i]);
    high = std::max(high, values[i]);
  }
  if (with_offset) {
    for (int step = 0; step < 8; ++step) {  // the whole range, and ranges that cut off its ends
      const float keep = 1.0f - 0.04f * static_cast<float>(step), width = (high - low) * keep;
      GroupScale group{width / 15.0f, 0.5f * (low + high) + 0.5f * width / 15.0f};
      for (int round = 0; round < 2; ++round) group = FitLine(values, importance, count, group);
      best.Offer(group);
    }
    return best.Take();
  }
  const float most = -low > high ? low : high;  // becomes about -8: codes reach further below zero than above
  if (most == 0.0f) return best.Take();
  double most_explained = 0;
  GroupScale chosen;
  for (int step = -8; step <= 10; ++step) {
    double explained;
    const float inverse = (static_cast<float>(kLow) - 0.12f * static_cast<float>(step)) / most;
    const GroupScale group = FitScale(values, importance, count, inverse, &explained);
    if (!(explained > most_explained)) continue;
    most_explained = explained;
    chosen = group;
  }
  best.Offer(chosen);
  return best.Take();
}

}  // namespace dsopt
