// gguf_matrix.cc - tensors of a GGUF file as sources: plain floats, quantised blocks, and the halves of kv_b
// joined.
#include <algorithm>
#include <utility>

#include "base/float_types.h"
#include "import/gguf_checkpoint.h"
#include "import/gguf_quants.h"

namespace dsopt {
namespace {

constexpr uint64_t kReadBytes = 1u << 20;

// Rows of a tensor as they are in the file, in the order that is wanted.
class RowReader {
 public:
  RowReader(const GgufCheckpoint& checkpoint, const GgufTensor& tensor, uint64_t cols, uint64_t head_rows)
      : checkpoint_(checkpoint),
        tensor_(tensor),
        row_bytes_(cols / tensor.block->elements * tensor.block->bytes),
        head_rows_(head_rows) {}

  uint64_t row_bytes() const { return row_bytes_; }
  // As many rows from `first` on, at most `most`, as fit into the buffer, at least one.
  uint64_t RowsAtOnce(uint64_t most) const {
    return std::min(most, std::max(kReadBytes / row_bytes_, uint64_t{1}));
  }
  // Valid until the next call.
  Result<const uint8_t*> Read(uint64_t first, uint64_t count) {
    buffer_.resize(count * row_bytes_);
    if (head_rows_ == 0) {
      RETURN_IF_ERROR(checkpoint_.Read(tensor_, first * row_bytes_, buffer_));
      return buffer_.data();
    }
    for (uint64_t row = first; row < first + count; ++row) {
      const uint64_t head = row / head_rows_, half = head_rows_ / 2, in_head = row % head_rows_;
      const uint64_t in_file = head * head_rows_ + 2 * (in_head % half) + in_head / half;
      const std::span<uint8_t> dst(buffer_.data() + (row - first) * row_bytes_, row_bytes_);
      RETURN_IF_ERROR(checkpoint_.Read(tensor_, in_file * row_bytes_, dst));
    }
    return buffer_.data();
  }

 private:
  const GgufCheckpoint& checkpoint_;
  const GgufTensor& tensor_;
  const uint64_t row_bytes_, head_rows_;
  std::vector<uint8_t> buffer_;
};

class PlainGguf : public MatrixSource {
 public:
  PlainGguf(const GgufTensor& tensor, std::vector<uint64_t> shape, dsopt_dtype dtype, RowReader reader)
      : MatrixSource(tensor.name, tensor.block->name, std::move(shape)), reader_(std::move(reader)) {
    form_.dtype = dtype;
  }
  Status ReadValues(uint64_t first, uint64_t count, dsopt_dtype to, uint8_t* dst) override {
    for (uint64_t done = 0; done < count;) {
      const uint64_t rows = reader_.RowsAtOnce(count - done);
      ASSIGN_OR_RETURN(const uint8_t* bytes, reader_.Read(first + done, rows));
      ConvertElements(form_.dtype, bytes, to, dst + done * cols() * ElementBytes(to), rows * cols());
      done += rows;
    }
    return {};
  }

 private:
  RowReader reader_;
};

class QuantisedGguf : public EncodedSource {
 public:
  QuantisedGguf(const GgufTensor& tensor, std::vector<uint64_t> shape, const GgufQuant& quant, RowReader reader)
      : EncodedSource(tensor.name, tensor.block->name, std::move(shape)),
        quant_(quant),
        block_(*tensor.block),
        reader_(std::move(reader)) {
    form_ = quant.form;
  }
  Status ReadCodes(uint64_t first, uint64_t count, int8_t* dst) override {
    return ForEachBlock(first, count, [&](const uint8_t* block, uint64_t index) {
      quant_.codes(block, dst + index * block_.elements);
    });
  }
  Status ReadScales(uint64_t first, uint64_t count, float* scales, float* offsets) override {
    const uint64_t groups = block_.elements / form_.group_cols;
    return ForEachBlock(first, count, [&](const uint8_t* block, uint64_t index) {
      quant_.scales(block, scales + index * groups, offsets + index * groups);
    });
  }

 private:
  template <typename Visit>
  Status ForEachBlock(uint64_t first, uint64_t count, Visit visit) {
    uint64_t index = 0;
    for (uint64_t done = 0; done < count;) {
      const uint64_t rows = reader_.RowsAtOnce(count - done);
      ASSIGN_OR_RETURN(const uint8_t* bytes, reader_.Read(first + done, rows));
      for (uint64_t at = 0; at < rows * reader_.row_bytes(); at += block_.bytes) visit(bytes + at, index++);
      done += rows;
    }
    return {};
  }

  const GgufQuant& quant_;
  const GgufBlock& block_;
  RowReader reader_;
};

class LatentUp : public MatrixSource {
 public:
  LatentUp(std::unique_ptr<MatrixSource> k_b, std::unique_ptr<MatrixSource> v_b, uint64_t heads)
      : MatrixSource(k_b->name(), k_b->type(), {heads * k_b->cols() + v_b->rows(), v_b->cols()}),
        k_b_(std::move(k_b)),
        v_b_(std::move(v_b)),
        head_rows_(rows() / heads) {
    form_.dtype = WiderFloatType(k_b_->form().dtype, v_b_->form().dtype);
  }

  Status ReadValues(uint64_t first, uint64_t count, dsopt_dtype to, uint8_t* dst) override {
    const uint64_t nope = k_b_->cols(), latent = cols(), row_bytes = latent * ElementBytes(to);
    std::vector<float> values(latent);
    for (uint64_t row = first; row < first + count; ++row, dst += row_bytes) {
      const uint64_t head = row / head_rows_, in_head = row % head_rows_;
      if (in_head >= nope) {
        RETURN_IF_ERROR(v_b_->ReadValues(head * (head_rows_ - nope) + in_head - nope, 1, to, dst));
        continue;
      }
      if (head != head_) {
        keys_.resize(latent * nope);
        RETURN_IF_ERROR(
            k_b_->ReadValues(head * latent, latent, DSOPT_F32, reinterpret_cast<uint8_t*>(keys_.data())));
        head_ = head;
      }
      for (uint64_t i = 0; i < latent; ++i) values[i] = keys_[i * nope + in_head];
      ConvertElements(DSOPT_F32, values.data(), to, dst, latent);
    }
    return {};
  }

 private:
  const std::unique_ptr<MatrixSource> k_b_, v_b_;
  const uint64_t head_rows_;
  uint64_t head_ = UINT64_MAX;  // whose keys_ [latent, nope] are here
  std::vector<float> keys_;
};

dsopt_dtype PlainType(const GgufBlock& block) {
  const std::string_view name = block.name;
  return name == "F32"    ? DSOPT_F32
         : name == "F16"  ? DSOPT_F16
         : name == "BF16" ? DSOPT_BF16
                          : DSOPT_DTYPE_DEFAULT;
}

}  // namespace

Result<std::unique_ptr<MatrixSource>> OpenGgufMatrix(const GgufCheckpoint& checkpoint, const GgufTensor& tensor,
                                                     const std::vector<uint64_t>& shape, uint64_t head_rows) {
  if (shape.back() % tensor.block->elements != 0) {
    return Error(DSOPT_E_UNSUPPORTED, "gguf: tensor '%s' has type %s, expected one without blocks of %u",
                 tensor.name.c_str(), tensor.block->name, tensor.block->elements);
  }
  RowReader reader(checkpoint, tensor, shape.back(), head_rows);
  if (const dsopt_dtype dtype = PlainType(*tensor.block); dtype != DSOPT_DTYPE_DEFAULT) {
    return std::unique_ptr<MatrixSource>(std::make_unique<PlainGguf>(tensor, shape, dtype, std::move(reader)));
  }
  if (const GgufQuant* quant = FindGgufQuant(tensor.block->type)) {
    return std::unique_ptr<MatrixSource>(
        std::make_unique<QuantisedGguf>(tensor, shape, *quant, std::move(reader)));
  }
  return Error(
      DSOPT_E_UNSUPPORTED,
      "gguf: tensor '%s' has type %s, expected F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K or "
      "Q6_K",
      tensor.name.c_str(), tensor.block->name);
}

std::unique_ptr<MatrixSource> JoinLatentUp(std::unique_ptr<MatrixSource> k_b, std::unique_ptr<MatrixSource> v_b,
                                           uint64_t heads) {
  return std::make_unique<LatentUp>(std::move(k_b), std::move(v_b), heads);
}

}  // namespace dsopt
