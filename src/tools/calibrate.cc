#include "tools/calibrate.h"

#include <cmath>
#include <map>
#include <utility>

namespace dsopt::tools {
namespace {

class Statistics : public InputListener {
 public:
  Status OnInputs(const std::vector<std::string>& names, uint64_t, const std::vector<float>& inputs,
                  uint64_t rows) override {
    for (const std::string& name : names) Note(name, inputs, rows);
    return {};
  }
  Calibration Take() { return std::move(calibration_); }

 private:
  void Note(const std::string& name, const std::vector<float>& inputs, uint64_t rows) {
    const uint64_t cols = inputs.size() / rows;
    ChannelStats& stats = calibration_[name];
    double& seen = seen_[name];
    stats.mean_magnitude.resize(cols);
    stats.mean_square.resize(cols);
    const double total = seen + static_cast<double>(rows);
    for (uint64_t c = 0; c < cols; ++c) {
      double magnitude = 0, square = 0;
      for (uint64_t r = 0; r < rows; ++r) {
        const double value = static_cast<double>(inputs[r * cols + c]);
        magnitude += std::fabs(value);
        square += value * value;
      }
      stats.mean_magnitude[c] =
          static_cast<float>((static_cast<double>(stats.mean_magnitude[c]) * seen + magnitude) / total);
      stats.mean_square[c] =
          static_cast<float>((static_cast<double>(stats.mean_square[c]) * seen + square) / total);
    }
    seen = total;
  }

  Calibration calibration_;
  std::map<std::string, double> seen_;  // rows in calibration_
};

}  // namespace

Result<Calibration> Calibrate(const CalibrateOptions& options, const ModelSpec& spec,
                              std::vector<TensorSource>* tensors) {
  ASSIGN_OR_RETURN(const std::vector<int32_t> tokens,
                   TokenWindows(options.text, options.windows, spec.tokenizer));
  ASSIGN_OR_RETURN(const std::unique_ptr<FloatModel> model,
                   FloatModel::Create(spec.config, tensors, options.windows.window));
  Statistics statistics;
  RETURN_IF_ERROR(model->Embed(tokens));
  for (uint32_t layer = 0; layer < spec.config.layers.size(); ++layer) {
    RETURN_IF_ERROR(model->RunLayer(layer, &statistics));
  }
  RETURN_IF_ERROR(model->Finish(&statistics));
  return statistics.Take();
}

}  // namespace dsopt::tools
