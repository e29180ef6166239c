// dsopt_checkpoint.h - a .dsopt file as input of convert: its description, and its tensors as sources.
#ifndef DSOPT_IMPORT_DSOPT_CHECKPOINT_H_
#define DSOPT_IMPORT_DSOPT_CHECKPOINT_H_

#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/status.h"
#include "format/reader.h"
#include "format/source.h"
#include "import/tensor_source.h"
#include "spec/model_spec.h"

namespace dsopt {

// Whether a file starts as a .dsopt file does. False also when it cannot be read.
bool IsDsoptFile(const std::filesystem::path& file);

// [thread-compatible]
class DsoptCheckpoint {
 public:
  static Result<std::unique_ptr<DsoptCheckpoint>> Open(const std::filesystem::path& file);
  const ModelSpec& spec() const { return spec_; }
  // Bytes [offset, offset + dst.size()) of a tensor's data.
  Status Read(const TensorSpec& tensor, uint64_t offset, std::span<uint8_t> dst);
  const TensorSpec* Find(const std::string& name) const;

 private:
  std::unique_ptr<Source> source_;
  ModelSpec spec_;
  std::optional<ChunkReader> reader_;
  uint64_t held_chunk_ = UINT64_MAX;
  std::span<const uint8_t> held_;
};

// dtype as in ChooseForms. Missing tensors and wrong shapes are DSOPT_E_CORRUPT, random (synthetic) ones
// DSOPT_E_UNSUPPORTED. The checkpoint must outlive the map.
Result<CheckpointMap> MapDsopt(DsoptCheckpoint* checkpoint, dsopt_dtype dtype);

}  // namespace dsopt
#endif  // DSOPT_IMPORT_DSOPT_CHECKPOINT_H_
