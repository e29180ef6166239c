// hf_scaled.cc - weights of fp8 or int8 in their own shape, and beside them their scales: "weight_scale_inv"
// (blocks) or "weight_scale" (all, rows or blocks). Both names mean a factor.
#include <algorithm>

#include "base/float_types.h"
#include "import/hf_matrix.h"

namespace dsopt {
namespace {

constexpr uint64_t kReadBytes = 1u << 20;

class ScaledMatrix : public EncodedSource {
 public:
  ScaledMatrix(const SafetensorsCheckpoint& checkpoint, const SafetensorsEntry& weight,
               const SafetensorsEntry& scale, std::string type)
      : EncodedSource(weight.name, std::move(type), weight.shape),
        checkpoint_(checkpoint),
        weight_(weight),
        scale_(scale) {}

  // int8 codes of -128, which the encoding lacks, make the form plain.
  Status Choose(const HfQuantization& quantization) {
    RETURN_IF_ERROR(FindGrid(quantization));
    static_cast<Coding&>(form_) = stored_;
    if (stored_.encoding != DSOPT_ENCODING_INT8) return {};
    ASSIGN_OR_RETURN(const bool least, UsesLeastCode());
    if (!least) return {};
    form_.encoding = DSOPT_ENCODING_PLAIN;
    type_ += " with code -128";
    return {};
  }

  Status ReadCodes(uint64_t first, uint64_t count, int8_t* dst) override {
    return checkpoint_.Read(weight_, first * cols(), {reinterpret_cast<uint8_t*>(dst), count * cols()});
  }

  Status ReadScales(uint64_t first, uint64_t count, float* scales, float*) override {
    const uint64_t per_row = GroupsAcross(stored_, cols()), bytes = ElementBytes(scale_.dtype);
    const uint64_t wanted = one_scale_ ? 1 : count * per_row;
    std::vector<uint8_t> in_file(wanted * bytes);
    RETURN_IF_ERROR(checkpoint_.Read(scale_, one_scale_ ? 0 : first * per_row * bytes, in_file));
    ConvertElements(scale_.dtype, in_file.data(), DSOPT_F32, scales, wanted);
    if (one_scale_) std::fill(scales, scales + count * per_row, scales[0]);
    return {};
  }

 protected:
  const Coding& stored() const override { return stored_; }

 private:
  // Which elements have which scale, by the number of scales.
  Status FindGrid(const HfQuantization& quantization) {
    const uint64_t elements = scale_.bytes / ElementBytes(scale_.dtype);
    const bool fp8 = weight_.dtype == DSOPT_F8_E4M3;
    stored_.encoding = fp8 ? DSOPT_ENCODING_FP8 : DSOPT_ENCODING_INT8;
    stored_.scale_type = scale_.dtype == DSOPT_F16 ? DSOPT_F16 : DSOPT_F32;
    one_scale_ = elements == 1;
    if (one_scale_ || scale_.shape == std::vector<uint64_t>{rows()} ||
        scale_.shape == std::vector<uint64_t>{rows(), 1}) {
      return {};
    }
    Coding blocks = stored_;
    blocks.group_rows = quantization.block_rows;
    blocks.group_cols = quantization.block_cols;
    const std::vector<uint64_t> grid = {GroupsDown(blocks, rows()), GroupsAcross(blocks, cols())};
    if (fp8 && quantization.block_rows != 0 && scale_.shape == grid) {
      stored_ = blocks;
      return {};
    }
    return Error(DSOPT_E_CORRUPT,
                 "checkpoint: tensor '%s' has shape %s, expected one scale, one for each of %llu rows%s",
                 scale_.name.c_str(), ShapeText(scale_.shape).c_str(),
                 static_cast<unsigned long long>(rows()),
                 fp8 && quantization.block_rows != 0 ? (" or " + ShapeText(grid)).c_str() : "");
  }

  Result<bool> UsesLeastCode() const {
    std::vector<uint8_t> codes(std::min(kReadBytes, weight_.bytes));
    for (uint64_t at = 0; at < weight_.bytes; at += codes.size()) {
      const std::span<uint8_t> part(codes.data(), std::min<uint64_t>(codes.size(), weight_.bytes - at));
      RETURN_IF_ERROR(checkpoint_.Read(weight_, at, part));
      if (std::find(part.begin(), part.end(), uint8_t{0x80}) != part.end()) return true;
    }
    return false;
  }

  const SafetensorsCheckpoint& checkpoint_;
  const SafetensorsEntry& weight_;
  const SafetensorsEntry& scale_;
  Coding stored_;
  bool one_scale_ = false;  // for the whole matrix
};

}  // namespace

Result<std::unique_ptr<MatrixSource>> OpenScaledMatrix(const SafetensorsCheckpoint& checkpoint,
                                                       const HfQuantization& quantization,
                                                       const SafetensorsEntry& weight,
                                                       const std::vector<uint64_t>& shape, UsedEntries* used) {
  RETURN_IF_ERROR(RequireEntry(checkpoint, weight.name, shape, {"F8_E4M3", "I8"}, used).status());
  std::string scale_name = weight.name + "_scale_inv";
  if (checkpoint.Find(scale_name) == nullptr) scale_name = weight.name + "_scale";
  const SafetensorsEntry* scale = checkpoint.Find(scale_name);
  if (scale == nullptr) {
    return Error(DSOPT_E_CORRUPT, "checkpoint: tensor '%s' is of type %s, but '%s' is missing",
                 weight.name.c_str(), weight.dtype_name.c_str(), scale_name.c_str());
  }
  RETURN_IF_ERROR(RequireEntry(checkpoint, scale_name, scale->shape, {"F32", "F16", "BF16"}, used).status());
  // Scales of activations are for kernels that quantise those, too.
  const std::string base = weight.name.substr(0, weight.name.rfind('.'));
  for (const char* other : {".input_scale", ".input_scale_ub", ".weight_zero_point"}) {
    if (const SafetensorsEntry* entry = checkpoint.Find(base + other)) used->insert(entry);
  }
  auto source =
      std::make_unique<ScaledMatrix>(checkpoint, weight, *scale, weight.dtype == DSOPT_I8 ? "int8" : "fp8");
  RETURN_IF_ERROR(source->Choose(quantization));
  return std::unique_ptr<MatrixSource>(std::move(source));
}

}  // namespace dsopt
