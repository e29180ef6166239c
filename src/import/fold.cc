#include "import/fold.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

#include "base/float_types.h"
#include "quant/encode.h"

namespace dsopt {
namespace {

constexpr uint64_t kSampleRows = 192;  // of each piece, in the search
constexpr int kSteps = 10;             // of the exponent

TensorSource* Find(std::vector<TensorSource>* tensors, const std::string& name) {
  const auto it = std::find_if(tensors->begin(), tensors->end(),
                               [&name](const TensorSource& tensor) { return tensor.spec.name == name; });
  return it == tensors->end() ? nullptr : &*it;
}

// Another source with its columns multiplied.
class ScaledSource : public MatrixSource {
 public:
  ScaledSource(std::unique_ptr<MatrixSource> from, std::vector<float> scale)
      : MatrixSource(from->name(), from->type(), from->shape()),
        from_(std::move(from)),
        scale_(std::move(scale)) {
    form_.dtype = DSOPT_F32;
  }
  Status ReadValues(uint64_t first, uint64_t count, dsopt_dtype to, uint8_t* dst) override {
    values_.resize(count * cols());
    RETURN_IF_ERROR(from_->ReadValues(first, count, DSOPT_F32, reinterpret_cast<uint8_t*>(values_.data())));
    for (size_t i = 0; i < values_.size(); ++i) values_[i] *= scale_[i % scale_.size()];
    ConvertElements(DSOPT_F32, values_.data(), to, dst, values_.size());
    return {};
  }

 private:
  std::unique_ptr<MatrixSource> from_;
  const std::vector<float> scale_;
  std::vector<float> values_;
};

void Scale(const std::vector<float>& scale, bool exact, TensorSource* tensor) {
  for (auto& piece : tensor->pieces) piece = std::make_unique<ScaledSource>(std::move(piece), scale);
  if (!exact) return;
  tensor->spec.encoding = DSOPT_ENCODING_PLAIN;
  tensor->spec.dtype = DSOPT_F32;
}

// Some rows of a matrix, and what their columns weigh.
struct Sample {
  Coding coding;
  uint64_t rows = 0, cols = 0;
  std::vector<float> values;
};

Result<std::vector<Sample>> TakeSamples(const RecodeOptions& options, const FoldGroup& group,
                                        std::vector<TensorSource>* tensors) {
  std::vector<Sample> samples;
  for (const std::string& name : group.consumers) {
    TensorSource* tensor = Find(tensors, name);
    const std::optional<Coding> coding = ChooseCoding(options.weights, name, tensor->spec.shape);
    if (!coding || !HasScales(coding->encoding)) continue;
    if (coding->encoding == DSOPT_ENCODING_FP8) continue;  // its steps grow with the value: larger is not finer
    for (const auto& piece : tensor->pieces) {
      Sample& sample = samples.emplace_back();
      sample.coding = *coding;
      sample.cols = piece->cols();
      sample.rows = std::min(kSampleRows, piece->rows());
      sample.values.resize(sample.rows * sample.cols);
      RETURN_IF_ERROR(
          piece->ReadValues(0, sample.rows, DSOPT_F32, reinterpret_cast<uint8_t*>(sample.values.data())));
    }
  }
  return samples;
}

// magnitude ^ exponent, scaled to a geometric mean of 1 and kept within a thousandfold.
std::vector<float> ScaleOf(const ChannelStats& stats, double exponent) {
  std::vector<float> scale(stats.mean_magnitude.size(), 1.0f);
  if (exponent == 0.0) return scale;
  double logs = 0;
  for (size_t i = 0; i < scale.size(); ++i) {
    const double log = exponent * std::log(std::max(static_cast<double>(stats.mean_magnitude[i]), 1e-6));
    scale[i] = static_cast<float>(log);
    logs += log;
  }
  const double mean = logs / static_cast<double>(scale.size());
  for (float& value : scale) {
    value = static_cast<float>(std::exp(std::min(std::max(static_cast<double>(value) - mean, -3.5), 3.5)));
  }
  return scale;
}

// Squared error of the products when the columns are multiplied by scale before they are coded.
double ProductError(const RecodeOptions& options, const std::vector<Sample>& samples, const ChannelStats& stats,
                    const std::vector<float>& scale) {
  std::vector<float> importance(scale.size()), scaled, decoded;
  for (size_t i = 0; i < scale.size(); ++i) importance[i] = stats.mean_square[i] / (scale[i] * scale[i]);
  double error = 0;
  CodedRows coded;
  for (const Sample& sample : samples) {
    scaled.resize(sample.values.size());
    decoded.resize(sample.values.size());
    for (size_t i = 0; i < scaled.size(); ++i) scaled[i] = sample.values[i] * scale[i % sample.cols];
    EncodeRows(sample.coding, scaled.data(), sample.rows, sample.cols,
               {options.search, importance.data(), options.threads}, &coded);
    DecodeRows(sample.coding, coded.codes.data(), coded.scales.data(),
               sample.coding.has_offset ? coded.offsets.data() : nullptr, sample.rows, sample.cols,
               decoded.data());
    for (size_t i = 0; i < scaled.size(); ++i) {
      const double off = static_cast<double>(decoded[i]) - static_cast<double>(scaled[i]);
      error += off * off * static_cast<double>(importance[i % sample.cols]);
    }
  }
  return error;
}

}  // namespace

std::vector<FoldGroup> ListFoldGroups(const std::vector<TensorSource>& tensors) {
  // Per layer: norm, and what sees it. The latent norm feeds only per-head products, which are not coded.
  static const std::pair<const char*, std::vector<const char*>> kGroups[] = {
      {"attn.norm", {"attn.q", "attn.k", "attn.v", "attn.q_a", "attn.kv_a"}},
      {"attn.q_a_norm", {"attn.q_b"}},
      {"mlp.norm",
       {"mlp.gate", "mlp.up", "moe.router", "moe.gate", "moe.up", "moe.shared.gate", "moe.shared.up"}}};
  std::map<std::string, bool> present;
  for (const TensorSource& tensor : tensors) present[tensor.spec.name] = true;
  std::vector<FoldGroup> groups;
  const auto add = [&](const std::string& prefix, const char* norm, const std::vector<const char*>& consumers) {
    if (present.count(prefix + norm) == 0) return false;
    FoldGroup group{prefix + norm, {}};
    for (const char* consumer : consumers) {
      if (present.count(prefix + consumer) != 0) group.consumers.push_back(prefix + consumer);
    }
    if (!group.consumers.empty()) groups.push_back(std::move(group));
    return true;
  };
  for (uint32_t layer = 0;; ++layer) {
    const std::string prefix = "layers." + std::to_string(layer) + ".";
    bool any = false;
    for (const auto& [norm, consumers] : kGroups) any = add(prefix, norm, consumers) || any;
    if (!any) break;
  }
  add("", "final_norm", {"head"});
  return groups;
}

Status FoldScale(const FoldGroup& group, const std::vector<float>& scale, std::vector<TensorSource>* tensors) {
  TensorSource* norm = Find(tensors, group.norm);
  if (norm == nullptr || norm->spec.shape.back() != scale.size()) {
    return Error(DSOPT_E_INTERNAL, "norm '%s' has no %zu channels to scale", group.norm.c_str(), scale.size());
  }
  std::vector<float> inverse(scale.size());
  for (size_t i = 0; i < scale.size(); ++i) inverse[i] = 1.0f / scale[i];
  Scale(inverse, true, norm);
  for (const std::string& name : group.consumers) {
    TensorSource* tensor = Find(tensors, name);
    if (tensor == nullptr || tensor->spec.shape.back() != scale.size()) {
      return Error(DSOPT_E_INTERNAL, "tensor '%s' has no %zu columns to scale", name.c_str(), scale.size());
    }
    Scale(scale, tensor->weight.empty(), tensor);
  }
  return {};
}

Status FoldCalibration(const RecodeOptions& options, Calibration* calibration,
                       std::vector<TensorSource>* tensors) {
  for (const FoldGroup& group : ListFoldGroups(*tensors)) {
    const auto found = calibration->find(group.consumers[0]);
    if (found == calibration->end()) continue;
    const ChannelStats stats = found->second;
    ASSIGN_OR_RETURN(const std::vector<Sample> samples, TakeSamples(options, group, tensors));
    if (samples.empty()) continue;
    int best = 0;
    double least = 0;
    for (int step = 0; step < kSteps; ++step) {
      const double error = ProductError(options, samples, stats, ScaleOf(stats, 0.1 * step));
      if (step == 0 || error < least) {
        best = step;
        least = error;
      }
    }
    if (best == 0) continue;
    const std::vector<float> scale = ScaleOf(stats, 0.1 * best);
    RETURN_IF_ERROR(FoldScale(group, scale, tensors));
    for (const std::string& name : group.consumers) {
      const auto own = calibration->find(name);
      if (own == calibration->end()) continue;
      for (size_t i = 0; i < scale.size(); ++i) {
        own->second.mean_magnitude[i] /= scale[i];
        own->second.mean_square[i] /= scale[i] * scale[i];
      }
    }
  }
  return {};
}

}  // namespace dsopt
