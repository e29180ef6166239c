#include "tools/compensated.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <utility>

#include "base/clock.h"
#include "quant/compensate.h"

namespace dsopt::tools {
namespace {

using Floats = std::vector<float>;

constexpr uint64_t kBandTokens = 2048;    // whose moments are summed at a time
constexpr uint64_t kHeldOutParts = 8;     // the last of them is held out
constexpr uint64_t kMostHeldOut = 1024;   // rows
constexpr uint64_t kTokensPerColumn = 2;  // of an expert, below which all tokens count as well

// A coded tensor in memory.
class CodedTensor : public EncodedSource {
 public:
  CodedTensor(const std::string& name, std::vector<uint64_t> shape, const Coding& coding, CodedRows rows)
      : EncodedSource(name, EncodingName(coding.encoding), std::move(shape)), rows_(std::move(rows)) {
    static_cast<Coding&>(form_) = coding;
  }
  Status ReadCodes(uint64_t first, uint64_t count, int8_t* dst) override {
    const uint8_t* codes = rows_.codes.data() + CodeBytes(form_, first * cols());
    const uint64_t bytes = CodeBytes(form_, count * cols());
    if (form_.encoding == DSOPT_ENCODING_INT4) {
      UnpackInt4(codes, bytes, dst);
    } else {
      std::copy_n(codes, bytes, reinterpret_cast<uint8_t*>(dst));
    }
    return {};
  }
  Status ReadScales(uint64_t first, uint64_t count, float* scales, float* offsets) override {
    const uint64_t groups = GroupsAcross(form_, cols());
    std::copy_n(&rows_.scales[first * groups], count * groups, scales);
    if (form_.has_offset) std::copy_n(&rows_.offsets[first * groups], count * groups, offsets);
    return {};
  }

 private:
  const CodedRows rows_;
};

// What matrices with the same inputs are rounded with.
struct Inputs {
  std::vector<MomentBlock> moments;
  uint64_t rows = 0;  // in moments
};

class Coder : public TensorCoder, public InputListener {
 public:
  Coder(const CompensatedOptions& options, const ModelSpec& spec, std::vector<TensorSource>* tensors,
        CompensatedReport* report)
      : options_(options), spec_(spec.config), tensors_(*tensors), report_(*report) {}

  Status Start(const TokenizerSpec& tokenizer) {
    const uint64_t start_ns = NowNs();
    ASSIGN_OR_RETURN(const std::vector<int32_t> tokens,
                     TokenWindows(options_.text, options_.windows, tokenizer));
    ASSIGN_OR_RETURN(model_, FloatModel::Create(spec_, &tensors_, options_.windows.window));
    RETURN_IF_ERROR(model_->Embed(tokens));
    report_.seconds += static_cast<double>(NowNs() - start_ns) * 1e-9;
    return {};
  }

  Status Prepare(TensorSource* tensor) override {
    const uint64_t start_ns = NowNs();
    RETURN_IF_ERROR(RunUpTo(tensor->spec.name));
    report_.seconds += static_cast<double>(NowNs() - start_ns) * 1e-9;
    const auto found = coded_.find(tensor->spec.name);
    if (found == coded_.end()) return {};
    const std::vector<uint64_t>& shape = tensor->spec.shape;
    uint64_t rows = 1;
    for (size_t i = 0; i + 1 < shape.size(); ++i) rows *= shape[i];
    auto coded = std::make_unique<CodedTensor>(tensor->spec.name, std::vector<uint64_t>{rows, shape.back()},
                                               CodingOf(*tensor), std::move(found->second));
    coded_.erase(found);
    tensor->pieces.clear();
    tensor->pieces.push_back(std::move(coded));
    return {};
  }

  Status OnInputs(const std::vector<std::string>& names, uint64_t expert, const Floats& inputs,
                  uint64_t rows) override {
    std::vector<TensorSource*> wanted;
    for (const std::string& name : names) {
      TensorSource* tensor = Find(name);
      if (tensor != nullptr && HasScales(tensor->spec.encoding)) wanted.push_back(tensor);
    }
    const uint64_t cols = inputs.size() / rows;
    const bool router = names[0].find("moe.router") != std::string::npos;
    if (wanted.empty() && !router) return {};
    const uint64_t held = rows / kHeldOutParts;
    Inputs seen;
    RETURN_IF_ERROR(Sum(inputs, rows - held, cols, &seen));
    if (router) {
      all_tokens_ = std::move(seen);
      return {};
    }
    if (ReadsRouterInputs(*wanted[0]) && seen.rows < kTokensPerColumn * cols) {
      AddAllTokens(kTokensPerColumn * cols - seen.rows, &seen);
    }
    std::vector<Feedback> feedback;
    Floats importance(cols);
    for (MomentBlock& block : seen.moments) {
      for (uint64_t c = 0; c < block.cols; ++c)
        importance[block.first + c] = block.sums[c * block.cols + c] / static_cast<float>(seen.rows);
      std::optional<Feedback> own = Feedback::Create(block, options_.threads);
      block.sums = {};
      if (own) feedback.push_back(*std::move(own));
    }
    const Floats held_out = Sample(inputs, rows - held, rows, cols);
    for (TensorSource* tensor : wanted) {
      RETURN_IF_ERROR(CheckCancel());
      RETURN_IF_ERROR(Encode(tensor, expert, feedback, importance, held_out));
    }
    return {};
  }

  void OnMatrix(const std::string& name, uint64_t expert, Floats* values) override {
    const auto found = coded_.find(name);
    if (found == coded_.end()) return;
    TensorSource* tensor = Find(name);
    const Coding coding = CodingOf(*tensor);
    const uint64_t cols = tensor->spec.shape.back(), rows = values->size() / cols, first = expert * rows,
                   groups = GroupsAcross(coding, cols);
    const CodedRows& coded = found->second;
    DecodeRows(coding, coded.codes.data() + CodeBytes(coding, first * cols), &coded.scales[first * groups],
               coding.has_offset ? &coded.offsets[first * groups] : nullptr, rows, cols, values->data());
  }

 private:
  static Coding CodingOf(const TensorSource& tensor) {
    const TensorSpec& spec = tensor.spec;
    return {spec.encoding, spec.group_rows, spec.group_cols, spec.has_offset, tensor.scale_type};
  }
  Status CheckCancel() const {
    if (options_.cancel == nullptr || !options_.cancel->load(std::memory_order_relaxed)) return {};
    return Error(DSOPT_E_CANCELLED, "cancelled while weights were rounded");
  }
  TensorSource* Find(const std::string& name) {
    for (TensorSource& tensor : tensors_) {
      if (tensor.spec.name == name) return &tensor;
    }
    return nullptr;
  }

  static bool ReadsRouterInputs(const TensorSource& tensor) {
    return tensor.spec.shape.size() > 2 && tensor.spec.name.find("moe.down") == std::string::npos;
  }

  // Tensors come in the order of layers.
  Status RunUpTo(const std::string& name) {
    if (name == "final_norm" && next_layer_ == spec_.layers.size()) {
      ++next_layer_;
      if (!spec_.tie_embeddings) return model_->Finish(this);  // else the table is written already
    }
    if (name.rfind("layers.", 0) != 0) return {};
    const auto layer = static_cast<uint32_t>(std::strtoul(name.c_str() + 7, nullptr, 10));
    for (; next_layer_ <= layer && next_layer_ < spec_.layers.size(); ++next_layer_) {
      RETURN_IF_ERROR(model_->RunLayer(next_layer_, this));
    }
    return {};
  }

  // X^T X of the first rows.
  Status Sum(const Floats& inputs, uint64_t rows, uint64_t cols, Inputs* seen) {
    seen->moments = MakeMomentBlocks(cols);
    seen->rows = rows;
    for (MomentBlock& block : seen->moments) {
      for (uint64_t first = 0; first < rows; first += kBandTokens) {
        const uint64_t tokens = std::min(kBandTokens, rows - first);
        Floats across(block.cols * tokens);
        for (uint64_t t = 0; t < tokens; ++t) {
          const float* row = &inputs[(first + t) * cols + block.first];
          for (uint64_t c = 0; c < block.cols; ++c) across[c * tokens + t] = row[c];
        }
        ASSIGN_OR_RETURN(const Floats sums, model_->ops()->Linear(across, across, block.cols, tokens));
        for (size_t i = 0; i < sums.size(); ++i) block.sums[i] += sums[i];
      }
    }
    return {};
  }

  // As if `tokens` of all tokens had been seen as well.
  void AddAllTokens(uint64_t tokens, Inputs* seen) const {
    const float by = static_cast<float>(tokens) / static_cast<float>(all_tokens_.rows);
    for (size_t b = 0; b < seen->moments.size(); ++b) {
      for (size_t i = 0; i < seen->moments[b].sums.size(); ++i)
        seen->moments[b].sums[i] += by * all_tokens_.moments[b].sums[i];
    }
    seen->rows += tokens;
  }

  static Floats Sample(const Floats& inputs, uint64_t first, uint64_t last, uint64_t cols) {
    const uint64_t count = std::min(last - first, kMostHeldOut);
    Floats rows(count * cols);
    for (uint64_t i = 0; i < count; ++i) {
      const uint64_t from = first + (last - first) * i / count;
      std::copy_n(&inputs[from * cols], cols, &rows[i * cols]);
    }
    return rows;
  }

  Status Encode(TensorSource* tensor, uint64_t expert, const std::vector<Feedback>& feedback,
                const Floats& importance, const Floats& held_out) {
    const std::vector<uint64_t>& shape = tensor->spec.shape;
    const uint64_t experts = shape.size() > 2 ? shape[0] : 1, rows = shape[shape.size() - 2],
                   cols = shape.back();
    const Coding coding = CodingOf(*tensor);
    const uint64_t groups = GroupsAcross(coding, cols);
    CodedRows& all = coded_[tensor->spec.name];
    const EncodeOptions encode{true, importance.data(), options_.threads};
    if (all.codes.empty()) {
      all.codes.resize(CodeBytes(coding, experts * rows * cols));
      all.scales.resize(experts * rows * groups);
      all.offsets.resize(coding.has_offset ? all.scales.size() : 0);
      for (uint64_t e = 0; e < experts && experts > 1; ++e) {  // those that no token chooses stay so
        ASSIGN_OR_RETURN(const Floats values, model_->Read(tensor->spec.name, e, experts));
        EncodeRows(coding, values.data(), rows, cols, {true, nullptr, options_.threads}, &part_);
        Put(coding, e * rows, cols, &all);
      }
    }
    ASSIGN_OR_RETURN(const Floats values, model_->Read(tensor->spec.name, expert, experts));
    const CompensateResult result =
        EncodeCompensated(coding, values.data(), rows, cols, encode,
                          {&feedback, held_out.data(), held_out.size() / cols}, &part_);
    Put(coding, expert * rows, cols, &all);
    report_.rows += rows;
    report_.rows_compensated += result.rows_compensated;
    report_.error +=
        static_cast<double>(rows) * (result.nearest_error > 0 ? result.error / result.nearest_error : 1.0);
    return {};
  }

  // part_ becomes the rows from `first` on.
  void Put(const Coding& coding, uint64_t first, uint64_t cols, CodedRows* all) const {
    const uint64_t groups = GroupsAcross(coding, cols);
    std::copy(part_.codes.begin(), part_.codes.end(), all->codes.data() + CodeBytes(coding, first * cols));
    std::copy(part_.scales.begin(), part_.scales.end(), all->scales.data() + first * groups);
    std::copy(part_.offsets.begin(), part_.offsets.end(), all->offsets.data() + first * groups);
  }

  const CompensatedOptions options_;
  const ConfigSpec spec_;
  std::vector<TensorSource>& tensors_;
  CompensatedReport& report_;
  std::unique_ptr<FloatModel> model_;
  uint32_t next_layer_ = 0;
  Inputs all_tokens_;                       // of the router of the layer at work
  std::map<std::string, CodedRows> coded_;  // until they are written
  CodedRows part_;
};

}  // namespace

Result<std::unique_ptr<TensorCoder>> CompensatedCoder(const CompensatedOptions& options, const ModelSpec& spec,
                                                      std::vector<TensorSource>* tensors,
                                                      CompensatedReport* report) {
  auto coder = std::make_unique<Coder>(options, spec, tensors, report);
  RETURN_IF_ERROR(coder->Start(spec.tokenizer));
  return std::unique_ptr<TensorCoder>(std::move(coder));
}

}  // namespace dsopt::tools
