#include "import/recode.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <utility>

#include "format/verify.h"
#include "quant/encode.h"
#include "quant/lossless12.h"

namespace dsopt {
namespace {

constexpr uint64_t kBufferElements = 1u << 20;

// Quantises the rows of another source. Codes have to be read before their scales, which are kept.
class QuantisingSource : public MatrixSource {
 public:
  QuantisingSource(std::unique_ptr<MatrixSource> from, const Coding& coding, const EncodeOptions& options)
      : MatrixSource(from->name(), from->type(), from->shape()), from_(std::move(from)), options_(options) {
    static_cast<Coding&>(form_) = coding;
  }

  Status ReadValues(uint64_t first, uint64_t count, dsopt_dtype to, uint8_t* dst) override {
    return from_->ReadValues(first, count, to, dst);
  }
  Status ReadCodes(uint64_t first, uint64_t count, int8_t* dst) override {
    values_.resize(count * cols());
    RETURN_IF_ERROR(from_->ReadValues(first, count, DSOPT_F32, reinterpret_cast<uint8_t*>(values_.data())));
    EncodeRows(form_, values_.data(), count, cols(), options_, &coded_);
    const uint64_t groups = GroupsAcross(form_, cols());
    if (scales_.empty()) {
      scales_.resize(rows() * groups);
      if (form_.has_offset) offsets_.resize(rows() * groups);
    }
    std::copy(coded_.scales.begin(), coded_.scales.end(),
              scales_.begin() + static_cast<ptrdiff_t>(first * groups));
    std::copy(coded_.offsets.begin(), coded_.offsets.end(),
              offsets_.begin() + static_cast<ptrdiff_t>(form_.has_offset ? first * groups : 0));
    if (form_.encoding != DSOPT_ENCODING_INT4) {
      std::memcpy(dst, coded_.codes.data(), coded_.codes.size());
      return {};
    }
    UnpackInt4(coded_.codes.data(), coded_.codes.size(), dst);
    return {};
  }
  Status ReadScales(uint64_t first, uint64_t count, float* scales, float* offsets) override {
    const uint64_t groups = GroupsAcross(form_, cols());
    std::copy_n(scales_.begin() + static_cast<ptrdiff_t>(first * groups), count * groups, scales);
    if (form_.has_offset) {
      std::copy_n(offsets_.begin() + static_cast<ptrdiff_t>(first * groups), count * groups, offsets);
    }
    return {};
  }

 private:
  std::unique_ptr<MatrixSource> from_;
  const EncodeOptions options_;
  std::vector<float> scales_, offsets_, values_;
  CodedRows coded_;
};

double Elements(const TensorSource& tensor) {
  double elements = 1;
  for (uint64_t extent : tensor.spec.shape) elements *= static_cast<double>(extent);
  return elements;
}

double FormBytes(const MatrixForm& form, double elements, double rows, uint64_t cols) {
  if (form.encoding == DSOPT_ENCODING_PLAIN) return elements * ElementBytes(form.dtype);
  const double code = form.encoding == DSOPT_ENCODING_INT4 ? 0.5 : 1.0, scale = ElementBytes(form.scale_type);
  const double groups = rows / std::max(form.group_rows, 1u) * static_cast<double>(GroupsAcross(form, cols));
  return elements * code + groups * scale * (form.has_offset ? 2 : 1);
}

double SourceBytes(const TensorSource& tensor) {
  double bytes = 0;
  for (const auto& piece : tensor.pieces) {
    const auto rows = static_cast<double>(piece->rows());
    bytes += FormBytes(piece->form(), rows * static_cast<double>(piece->cols()), rows, piece->cols());
  }
  return bytes;
}

double TargetBytes(const TensorSource& tensor, double bits_per_weight) {
  if (tensor.spec.encoding == DSOPT_ENCODING_LOSSLESS12) return Elements(tensor) * bits_per_weight / 8;
  double bytes = 0;
  if (const Result<uint64_t> own = TensorBytes(tensor.spec); own.ok()) bytes += static_cast<double>(*own);
  for (const TensorSpec& companion : CompanionTensors(tensor.spec, tensor.scale_type)) {
    bytes += static_cast<double>(companion.raw_bytes);
  }
  return bytes;
}

Status CheckCancel(const RecodeOptions& options) {
  if (options.cancel == nullptr || !options.cancel->load(std::memory_order_relaxed)) return {};
  return Error(DSOPT_E_CANCELLED, "cancelled while weights were counted");
}

Status Count(const RecodeOptions& options, const TensorSource& tensor, Lossless12Counter* counter) {
  std::vector<uint16_t> bits;
  for (const auto& piece : tensor.pieces) {
    const uint64_t cols = piece->cols(), step = std::max(kBufferElements / cols, uint64_t{1});
    for (uint64_t first = 0; first < piece->rows(); first += step) {
      RETURN_IF_ERROR(CheckCancel(options));
      const uint64_t rows = std::min(step, piece->rows() - first);
      bits.resize(rows * cols);
      RETURN_IF_ERROR(piece->ReadValues(first, rows, DSOPT_BF16, reinterpret_cast<uint8_t*>(bits.data())));
      for (uint64_t row = 0; row < rows; ++row) counter->AddRow(&bits[row * cols], cols);
    }
  }
  return {};
}

class Recoder {
 public:
  Recoder(const RecodeOptions& options, std::vector<TensorSource>* tensors)
      : options_(options), tensors_(*tensors) {}

  Result<std::vector<PolicyRow>> Run() {
    if (options_.weights.encoding == DSOPT_ENCODING_LOSSLESS12) RETURN_IF_ERROR(CountWeights());
    for (TensorSource& tensor : tensors_) {
      const double from_bytes = SourceBytes(tensor);
      Apply(&tensor);
      AddRow(tensor, from_bytes);
    }
    return std::move(rows_);
  }

 private:
  bool IsCandidate(const TensorSource& tensor) const {
    return !tensor.weight.empty() &&
           ChooseCoding(options_.weights, tensor.spec.name, tensor.spec.shape).has_value();
  }

  // Per weight; a tensor that is not bf16 rules its whole weight out.
  Status CountWeights() {
    for (const TensorSource& tensor : tensors_) {
      if (!IsCandidate(tensor)) continue;
      if (tensor.spec.encoding != DSOPT_ENCODING_PLAIN && tensor.spec.encoding != DSOPT_ENCODING_LOSSLESS12)
        continue;
      Counted& counted = counted_[tensor.weight];
      if (tensor.spec.dtype != DSOPT_BF16) counted.all_bf16 = false;
      if (counted.all_bf16) RETURN_IF_ERROR(Count(options_, tensor, &counted.counter));
    }
    return {};
  }

  void Apply(TensorSource* tensor) {
    const bool plain = options_.weights.encoding == DSOPT_ENCODING_PLAIN;
    if (plain && tensor->spec.encoding == DSOPT_ENCODING_LOSSLESS12)
      tensor->spec.encoding = DSOPT_ENCODING_PLAIN;
    if (!IsCandidate(*tensor)) return;
    const Coding coding = *ChooseCoding(options_.weights, tensor->spec.name, tensor->spec.shape);
    if (coding.encoding == DSOPT_ENCODING_LOSSLESS12) {
      const auto counted = counted_.find(tensor->weight);
      if (counted == counted_.end() || !counted->second.all_bf16) return;
      const bool worth = counted->second.counter.WorthIt();
      tensor->spec.encoding = worth ? DSOPT_ENCODING_LOSSLESS12 : DSOPT_ENCODING_PLAIN;
      return;
    }
    EncodeOptions encode{options_.search, nullptr, options_.threads};
    if (options_.calibration != nullptr) {
      const auto found = options_.calibration->find(tensor->spec.name);
      if (found != options_.calibration->end()) encode.importance = found->second.mean_square.data();
    }
    SetCoding(coding, &tensor->spec);
    tensor->scale_type = coding.scale_type;
    for (auto& piece : tensor->pieces)
      piece = std::make_unique<QuantisingSource>(std::move(piece), coding, encode);
  }

  void AddRow(const TensorSource& tensor, double from_bytes) {
    const TensorKind kind = KindOf(tensor.spec.name, tensor.spec.shape);
    const std::string to = FormText(tensor.spec);
    auto row = std::find_if(rows_.begin(), rows_.end(),
                            [&](const PolicyRow& r) { return r.kind == kind && r.to == to; });
    if (row == rows_.end()) row = rows_.insert(rows_.end(), {kind, to, 0, 0, 0, 0});
    ++row->tensors;
    row->parameters += static_cast<uint64_t>(Elements(tensor));
    row->from_bytes += from_bytes;
    const auto counted = counted_.find(tensor.weight);
    row->to_bytes +=
        TargetBytes(tensor, counted == counted_.end() ? 16 : counted->second.counter.BitsPerWeight());
  }

  struct Counted {
    bool all_bf16 = true;
    Lossless12Counter counter;
  };
  const RecodeOptions& options_;
  std::vector<TensorSource>& tensors_;
  std::map<std::string, Counted> counted_;  // by weight
  std::vector<PolicyRow> rows_;
};

}  // namespace

Result<std::vector<PolicyRow>> Recode(const RecodeOptions& options, std::vector<TensorSource>* tensors) {
  RETURN_IF_ERROR(CheckRequest(options.weights));
  return Recoder(options, tensors).Run();
}

}  // namespace dsopt
