// hf_packed.cc - weights of GPTQ and AWQ: codes of 4 or 8 bits in 32-bit words, [inputs, outputs], and for each
// group of inputs a scale and a zero: value = (code - zero) * scale. Read in stripes of outputs, transposed.
#include <algorithm>
#include <utility>

#include "base/float_types.h"
#include "import/hf_matrix.h"

namespace dsopt {
namespace {

constexpr uint64_t kStripeBytes = 32u << 20;  // of codes
// AWQ (gemm): output i of a word's eight is in nibble kAwqNibble[i].
constexpr uint8_t kAwqNibble[8] = {0, 4, 1, 5, 2, 6, 3, 7};

struct Entries {
  const SafetensorsEntry *codes = nullptr, *zeros = nullptr, *scales = nullptr;
  const SafetensorsEntry* group_index = nullptr;  // GPTQ; may be absent
};

class PackedMatrix : public MatrixSource {
 public:
  PackedMatrix(const SafetensorsCheckpoint& checkpoint, const HfQuantization& quantization,
               const Entries& entries, const std::string& base, const std::vector<uint64_t>& shape)
      : MatrixSource(base + ".qweight", "", shape),
        checkpoint_(checkpoint),
        quantization_(quantization),
        entries_(entries),
        group_size_(quantization.group_size == 0 ? cols() : quantization.group_size),
        groups_(entries.scales->shape[0]) {}

  // Which form holds it: reads zeros, the index of groups and, of 8 bits, all codes.
  Status Choose() {
    type_ = Format("%s %u bits", IsAwq() ? "awq" : "gptq", quantization_.bits);
    form_.scale_type = entries_.scales->dtype == DSOPT_F16 ? DSOPT_F16 : DSOPT_F32;
    ASSIGN_OR_RETURN(const std::vector<uint8_t> zeros, ReadZeros());
    form_.has_offset =
        std::any_of(zeros.begin(), zeros.end(), [this](uint8_t zero) { return zero != Middle(); });
    if (form_.has_offset) form_.scale_type = DSOPT_F32;
    ASSIGN_OR_RETURN(const bool in_order, ReadGroupIndex());
    if (!in_order) {  // no encoding has groups of scattered inputs
      type_ += " act-order";
      return {};
    }
    if (quantization_.bits == 8) {
      form_.group_cols = static_cast<uint32_t>(group_size_ == cols() ? 0 : group_size_);
      ASSIGN_OR_RETURN(const bool least, UsesLeastCode());
      if (least) type_ += " with code 0";
      if (group_size_ % 16 == 0 && !least) form_.encoding = DSOPT_ENCODING_INT8;
      return {};
    }
    for (uint32_t group : {128u, 64u, 32u}) {
      const bool whole_rows = group_size_ == cols() && (cols() >= group || group == 32);  // any group is right
      if (group_size_ % group != 0 && !whole_rows) continue;
      form_.encoding = DSOPT_ENCODING_INT4;
      form_.group_cols = group;
      return {};
    }
    if (group_size_ % 16 != 0) return {};
    form_.encoding = DSOPT_ENCODING_INT8;
    form_.group_cols = 16;
    return {};
  }

  Status ReadCodes(uint64_t first, uint64_t count, int8_t* dst) override {
    for (uint64_t row = first; row < first + count; ++row) {
      if (row < stripe_first_ || row >= stripe_first_ + stripe_.size() / cols())
        RETURN_IF_ERROR(ReadStripe(row));
      const int8_t* from = stripe_.data() + (row - stripe_first_) * cols();
      std::copy(from, from + cols(), dst + (row - first) * cols());
    }
    if (first + count == rows()) stripe_ = {};
    return {};
  }

  Status ReadScales(uint64_t first, uint64_t count, float* scales, float* offsets) override {
    RETURN_IF_ERROR(LoadScales());
    const uint64_t per_row = GroupsAcross(form_, cols());
    const uint64_t group_cols = form_.group_cols == 0 ? cols() : form_.group_cols;
    for (uint64_t i = 0; i < count * per_row; ++i) {
      const uint64_t at = i % per_row * group_cols / group_size_ * rows() + first + i / per_row;
      scales[i] = scales_[at];
      if (form_.has_offset) offsets[i] = static_cast<float>(Middle() - zeros_[at]) * scales_[at];
    }
    if (first + count == rows()) scales_ = {};
    return {};
  }

  Status ReadValues(uint64_t first, uint64_t count, dsopt_dtype to, uint8_t* dst) override {
    std::vector<int8_t> codes(cols());
    std::vector<float> values(cols());
    for (uint64_t row = first; row < first + count; ++row) {
      RETURN_IF_ERROR(LoadScales());
      RETURN_IF_ERROR(ReadCodes(row, 1, codes.data()));
      for (uint64_t col = 0; col < cols(); ++col) {
        const uint64_t at = (group_index_.empty() ? col / group_size_ : group_index_[col]) * rows() + row;
        values[col] = static_cast<float>(codes[col] + Middle() - zeros_[at]) * scales_[at];
      }
      ConvertElements(DSOPT_F32, values.data(), to, dst + (row - first) * cols() * ElementBytes(to), cols());
    }
    if (first + count == rows()) scales_ = {};
    return {};
  }

 private:
  int Middle() const { return quantization_.bits == 4 ? 8 : 128; }
  uint64_t PerWord() const { return 32 / quantization_.bits; }
  bool IsAwq() const { return quantization_.method == HfMethod::kAwq; }
  // Code i of a word of outputs; of AWQ, of output i.
  uint8_t CodeOf(uint32_t word, uint64_t i) const {
    if (IsAwq()) i = kAwqNibble[i];
    return static_cast<uint8_t>(word >> (quantization_.bits * i) & ((1u << quantization_.bits) - 1));
  }

  Result<std::vector<uint32_t>> ReadWords(const SafetensorsEntry& entry, uint64_t first, uint64_t count) const {
    std::vector<uint32_t> words(count);
    RETURN_IF_ERROR(checkpoint_.Read(entry, first * 4, {reinterpret_cast<uint8_t*>(words.data()), count * 4}));
    return words;
  }

  // [groups, outputs]
  Result<std::vector<uint8_t>> ReadZeros() const {
    ASSIGN_OR_RETURN(const std::vector<uint32_t> words,
                     ReadWords(*entries_.zeros, 0, entries_.zeros->bytes / 4));
    std::vector<uint8_t> zeros(groups_ * rows());
    const auto mask = static_cast<uint8_t>((1u << quantization_.bits) - 1);
    for (uint64_t i = 0; i < zeros.size(); ++i) {
      zeros[i] = CodeOf(words[i / PerWord()], i % PerWord());
      if (quantization_.zero_minus_one) zeros[i] = static_cast<uint8_t>(zeros[i] + 1) & mask;
    }
    return zeros;
  }

  Status LoadScales() {
    if (!scales_.empty()) return {};
    ASSIGN_OR_RETURN(zeros_, ReadZeros());
    ASSIGN_OR_RETURN(scales_, ReadFloats(checkpoint_, *entries_.scales));
    return {};
  }

  // False: keeps the index, because groups are not runs of inputs.
  Result<bool> ReadGroupIndex() {
    if (entries_.group_index == nullptr) return true;
    ASSIGN_OR_RETURN(std::vector<uint32_t> index, ReadWords(*entries_.group_index, 0, cols()));
    bool in_order = true;
    for (uint64_t col = 0; col < cols(); ++col) {
      if (index[col] >= groups_) {
        return Error(DSOPT_E_CORRUPT, "checkpoint: tensor '%s': element %llu is %d, expected 0 to %llu",
                     entries_.group_index->name.c_str(), static_cast<unsigned long long>(col),
                     static_cast<int>(index[col]), static_cast<unsigned long long>(groups_ - 1));
      }
      in_order = in_order && index[col] == col / group_size_;
    }
    if (!in_order) group_index_ = std::move(index);
    return in_order;
  }

  // The one of 256 codes that int8 lacks.
  Result<bool> UsesLeastCode() const {
    const uint64_t total = entries_.codes->bytes / 4;
    for (uint64_t at = 0; at < total; at += kStripeBytes / 4) {
      const uint64_t count = std::min<uint64_t>(kStripeBytes / 4, total - at);
      ASSIGN_OR_RETURN(const std::vector<uint32_t> words, ReadWords(*entries_.codes, at, count));
      for (uint32_t word : words) {
        if ((word & 0xff) == 0 || (word & 0xff00) == 0 || (word & 0xff0000) == 0 || word >> 24 == 0)
          return true;
      }
    }
    return false;
  }

  // Codes of outputs from `row` on, transposed: as many as fit.
  Status ReadStripe(uint64_t row) {
    const uint64_t across = IsAwq() ? PerWord() : 1;  // outputs in a word
    const uint64_t down = IsAwq() ? 1 : PerWord();    // inputs in a word
    stripe_first_ = row / across * across;
    const uint64_t outputs =
        std::min(std::max(kStripeBytes / cols() / across, uint64_t{1}) * across, rows() - stripe_first_);
    stripe_.assign(outputs * cols(), 0);
    for (uint64_t line = 0; line < cols() / down; ++line) {
      ASSIGN_OR_RETURN(const std::vector<uint32_t> words,
                       ReadWords(*entries_.codes, (line * rows() + stripe_first_) / across, outputs / across));
      for (uint64_t output = 0; output < outputs; ++output) {
        const uint32_t word = words[output / across];
        for (uint64_t i = 0; i < down; ++i) {
          const int code = CodeOf(word, IsAwq() ? output % across : i) - Middle();
          stripe_[output * cols() + line * down + i] = static_cast<int8_t>(code);
        }
      }
    }
    return {};
  }

  const SafetensorsCheckpoint& checkpoint_;
  const HfQuantization quantization_;
  const Entries entries_;
  const uint64_t group_size_, groups_;
  std::vector<uint32_t> group_index_;  // of inputs; empty: group_size_ after group_size_
  uint64_t stripe_first_ = 0;
  std::vector<int8_t> stripe_;  // [outputs, inputs], less the middle; freed after the last row
  std::vector<float> scales_;   // [groups, outputs], and zeros_ beside: freed after the last row
  std::vector<uint8_t> zeros_;
};

}  // namespace

Result<std::unique_ptr<MatrixSource>> OpenPackedMatrix(const SafetensorsCheckpoint& checkpoint,
                                                       const HfQuantization& quantization,
                                                       const std::string& base,
                                                       const std::vector<uint64_t>& shape, UsedEntries* used) {
  const bool awq = quantization.method == HfMethod::kAwq;
  const uint64_t outputs = shape[0], inputs = shape.back(), per_word = 32 / quantization.bits;
  const uint64_t group_size = quantization.group_size == 0 ? inputs : quantization.group_size;
  if (shape.size() != 2 || outputs % per_word != 0 || (!awq && inputs % per_word != 0)) {
    return Error(DSOPT_E_UNSUPPORTED,
                 "checkpoint: tensor '%s.qweight' stands for shape %s, expected multiples of %llu",
                 base.c_str(), ShapeText(shape).c_str(), static_cast<unsigned long long>(per_word));
  }
  const uint64_t groups = inputs / group_size + (inputs % group_size != 0 ? 1 : 0);
  const std::vector<uint64_t> packed = {awq ? inputs : inputs / per_word, awq ? outputs / per_word : outputs};
  Entries entries;
  ASSIGN_OR_RETURN(entries.codes, RequireEntry(checkpoint, base + ".qweight", packed, {"I32"}, used));
  ASSIGN_OR_RETURN(entries.zeros,
                   RequireEntry(checkpoint, base + ".qzeros", {groups, outputs / per_word}, {"I32"}, used));
  ASSIGN_OR_RETURN(entries.scales,
                   RequireEntry(checkpoint, base + ".scales", {groups, outputs}, {"F16", "BF16", "F32"}, used));
  if (!awq && checkpoint.Find(base + ".g_idx") != nullptr) {
    ASSIGN_OR_RETURN(entries.group_index, RequireEntry(checkpoint, base + ".g_idx", {inputs}, {"I32"}, used));
  }
  auto source = std::make_unique<PackedMatrix>(checkpoint, quantization, entries, base, shape);
  RETURN_IF_ERROR(source->Choose());
  return std::unique_ptr<MatrixSource>(std::move(source));
}

}  // namespace dsopt
