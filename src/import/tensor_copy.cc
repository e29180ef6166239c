#include "import/tensor_copy.h"

#include <algorithm>
#include <utility>

#include "base/float_types.h"

namespace dsopt {
namespace {

constexpr uint64_t kBufferElements = 1u << 20;

// Rows of `cols` elements in a buffer.
uint64_t RowsAtOnce(uint64_t cols) { return std::max(kBufferElements / cols, uint64_t{1}); }

}  // namespace

void DeclareTensors(const TensorSource& source, std::vector<TensorSpec>* tensors) {
  tensors->push_back(source.spec);
  for (TensorSpec& companion : CompanionTensors(source.spec, source.scale_type)) {
    tensors->push_back(std::move(companion));
  }
}

TensorCopier::TensorCopier(Writer& writer, const CopyOptions& options, uint64_t total_bytes)
    : writer_(writer), options_(options), total_bytes_(total_bytes) {}

Status TensorCopier::Copy(const TensorSource& source) {
  const bool encoded = HasScales(source.spec.encoding);
  for (const auto& piece : source.pieces) {
    RETURN_IF_ERROR(encoded ? CopyCodes(source, piece.get()) : CopyValues(source, piece.get()));
  }
  for (const bool offsets : {false, true}) {
    if (!encoded || (offsets && !source.spec.has_offset)) continue;
    for (const auto& piece : source.pieces) RETURN_IF_ERROR(CopyScales(source, piece.get(), offsets));
  }
  return {};
}

Status TensorCopier::Append(std::span<const uint8_t> bytes) {
  RETURN_IF_ERROR(writer_.Append(bytes));
  done_bytes_ += bytes.size();
  if (options_.progress) options_.progress(done_bytes_, total_bytes_);
  if (options_.cancel == nullptr || !options_.cancel->load(std::memory_order_relaxed)) return {};
  return Error(DSOPT_E_CANCELLED, "cancelled after %llu of %llu bytes",
               static_cast<unsigned long long>(done_bytes_), static_cast<unsigned long long>(total_bytes_));
}

Status TensorCopier::CopyValues(const TensorSource& source, MatrixSource* piece) {
  const uint64_t step = RowsAtOnce(piece->cols()), row_bytes = piece->cols() * ElementBytes(source.spec.dtype);
  for (uint64_t row = 0; row < piece->rows(); row += step) {
    const uint64_t rows = std::min(step, piece->rows() - row);
    bytes_.resize(rows * row_bytes);
    RETURN_IF_ERROR(piece->ReadValues(row, rows, source.spec.dtype, bytes_.data()));
    RETURN_IF_ERROR(Append(bytes_));
  }
  return {};
}

Status TensorCopier::CopyCodes(const TensorSource& source, MatrixSource* piece) {
  const dsopt_encoding encoding = source.spec.encoding;
  const uint64_t step = RowsAtOnce(piece->cols());
  for (uint64_t row = 0; row < piece->rows(); row += step) {
    const uint64_t rows = std::min(step, piece->rows() - row);
    codes_.resize(rows * piece->cols());
    RETURN_IF_ERROR(piece->ReadCodes(row, rows, codes_.data()));
    if (encoding == DSOPT_ENCODING_INT8 && std::find(codes_.begin(), codes_.end(), -128) != codes_.end()) {
      return Error(
          DSOPT_E_UNSUPPORTED,
          "tensor '%s' has a code of -128, expected -127 to 127: it can be converted to bf16, f16 or f32",
          piece->name().c_str());
    }
    const auto* codes = reinterpret_cast<const uint8_t*>(codes_.data());
    if (encoding != DSOPT_ENCODING_INT4) {
      RETURN_IF_ERROR(Append({codes, codes_.size()}));
      continue;
    }
    bytes_.resize(codes_.size() / 2);
    for (size_t i = 0; i < bytes_.size(); ++i) {
      bytes_[i] = static_cast<uint8_t>((codes_[2 * i] + 8) | (codes_[2 * i + 1] + 8) << 4);
    }
    RETURN_IF_ERROR(Append(bytes_));
  }
  return {};
}

Status TensorCopier::CopyScales(const TensorSource& source, MatrixSource* piece, bool offsets) {
  const TensorSpec& spec = source.spec;
  const MatrixForm& form = piece->form();
  const uint64_t cols = piece->cols(), file_groups = GroupsAcross(form, cols),
                 rows = GroupsDown(form, piece->rows());
  MatrixForm target = form;
  target.group_cols = spec.group_cols;  // divides form.group_cols
  const uint64_t groups = GroupsAcross(target, cols);
  const uint64_t repeats = form.group_cols == 0 ? groups : form.group_cols / std::max(spec.group_cols, 1u);
  const uint64_t step = RowsAtOnce(groups);
  for (uint64_t row = 0; row < rows; row += step) {
    const uint64_t count = std::min(step, rows - row);
    scales_.resize(count * file_groups);
    offsets_.assign(count * file_groups, 0.0f);
    RETURN_IF_ERROR(piece->ReadScales(row, count, scales_.data(), offsets_.data()));
    const std::vector<float>& from = offsets ? offsets_ : scales_;
    grid_.resize(count * groups);
    for (uint64_t i = 0; i < grid_.size(); ++i) {
      grid_[i] = from[i / groups * file_groups + i % groups / repeats];
    }
    bytes_.resize(grid_.size() * ElementBytes(source.scale_type));
    ConvertElements(DSOPT_F32, grid_.data(), source.scale_type, bytes_.data(), grid_.size());
    RETURN_IF_ERROR(Append(bytes_));
  }
  return {};
}

}  // namespace dsopt
