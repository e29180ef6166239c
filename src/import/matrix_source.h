// matrix_source.h - one tensor of a checkpoint, however it is stored: read by rows as floats, or as the codes
// and scales that it was quantised to. Importers make sources; convert.cc reads them. Holds no data.
#ifndef DSOPT_IMPORT_MATRIX_SOURCE_H_
#define DSOPT_IMPORT_MATRIX_SOURCE_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "quant/coding.h"
#include "spec/model_spec.h"

namespace dsopt {

// What holds a tensor without loss: a coding with scales, or plain floats.
struct MatrixForm : Coding {
  dsopt_dtype dtype = DSOPT_BF16;  // of plain floats: F32, F16 or BF16
  bool operator==(const MatrixForm&) const = default;
};

// [thread-compatible] The checkpoint must outlive its sources.
class MatrixSource {
 public:
  MatrixSource(std::string name, std::string type, std::vector<uint64_t> shape)
      : type_(std::move(type)), name_(std::move(name)), shape_(std::move(shape)) {}
  virtual ~MatrixSource() = default;

  const std::string& name() const { return name_; }              // in the checkpoint
  const std::vector<uint64_t>& shape() const { return shape_; }  // one dimension or two
  const std::string& type() const { return type_; }  // as people call it: "BF16", "Q4_K", "gptq 4 bits"
  uint64_t rows() const { return shape_.size() == 1 ? 1 : shape_[0]; }
  uint64_t cols() const { return shape_.back(); }
  const MatrixForm& form() const { return form_; }

  // Rows [first, first + count) as F32, F16 or BF16, rounded to nearest where `to` cannot hold a value.
  virtual Status ReadValues(uint64_t first, uint64_t count, dsopt_dtype to, uint8_t* dst) = 0;
  // Of encoded forms. One byte per element: INT8 the code, INT4 the code - 8 (-8 .. 7), FP8 the bits.
  virtual Status ReadCodes(uint64_t first, uint64_t count, int8_t* dst);
  // Rows of the grid of groups, [count, GroupsAcross]. Offsets are written where form().has_offset.
  virtual Status ReadScales(uint64_t first, uint64_t count, float* scales, float* offsets);

 protected:
  std::string type_;
  MatrixForm form_;

 private:
  const std::string name_;
  const std::vector<uint64_t> shape_;
};

// A source that has codes: values are code * scale + offset, in float32.
class EncodedSource : public MatrixSource {
 public:
  using MatrixSource::MatrixSource;
  Status ReadValues(uint64_t first, uint64_t count, dsopt_dtype to, uint8_t* dst) override;
  Status ReadCodes(uint64_t first, uint64_t count, int8_t* dst) override = 0;
  Status ReadScales(uint64_t first, uint64_t count, float* scales, float* offsets) override = 0;

 protected:
  // What ReadCodes and ReadScales give: also where form() is plain because no encoding takes all of the codes.
  virtual const Coding& stored() const { return form_; }
};

}  // namespace dsopt
#endif  // DSOPT_IMPORT_MATRIX_SOURCE_H_
