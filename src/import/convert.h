// convert.h - a Hugging Face folder, a GGUF file or another .dsopt file becomes a .dsopt file, in bounded memory. Not
// for: command lines, terminals.
#ifndef DSOPT_IMPORT_CONVERT_H_
#define DSOPT_IMPORT_CONVERT_H_

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "dsopt/dsopt.h"
#include "format/writer.h"
#include "import/recode.h"
#include "import/tensor_source.h"

namespace dsopt {

// Another way to codes than row by row while they are read.
class TensorCoder {
 public:
  virtual ~TensorCoder() = default;
  // Comes for every tensor before it is written, in their order. May replace its pieces by others with as many
  // rows, in the form that spec and scale_type say.
  virtual Status Prepare(TensorSource* tensor) = 0;
};

struct ConvertOptions {
  WriterOptions writer;
  // Of matrices: F32, F16, BF16; DEFAULT keeps what the checkpoint has, see ChooseForms.
  dsopt_dtype dtype = DSOPT_DTYPE_DEFAULT;
  // Encodings by tensor kind: see policy.h. Without it weights keep the form of `dtype`.
  std::optional<WeightsRequest> weights;
  uint32_t threads = 1;                       // that quantise
  // With weights: gives what the inputs of matrices look like. spec is without tensors.
  std::function<Result<Calibration>(const ModelSpec& spec, std::vector<TensorSource>* tensors)> calibrate;
  // With weights, after calibrate: spec, then without tensors, is gone when the coder is used.
  std::function<Result<std::unique_ptr<TensorCoder>>(const ModelSpec& spec, std::vector<TensorSource>* tensors)>
      coder;
  std::string license;                        // metadata; empty: what the checkpoint says
  const std::atomic<bool>* cancel = nullptr;  // read between buffers; set: DSOPT_E_CANCELLED
  std::function<void(uint64_t done_bytes, uint64_t total_bytes)> progress;  // of tensor data, after each buffer
};

struct ConvertSummary {
  std::string architecture;
  bool has_tokenizer = false;
  uint64_t tensors = 0, parameters = 0;  // without scales and offsets
  std::vector<FormSummary> forms;
  std::vector<PolicyRow> policy;  // where weights were asked for
  uint64_t raw_bytes = 0;  // of all tensors, as written before compression
  uint64_t file_bytes = 0;
  std::vector<std::string> ignored;  // tensors of the checkpoint that are not needed
};

// On failure nothing is left at `output`; a file that was there before stays.
Result<ConvertSummary> ConvertHfFolder(const std::filesystem::path& folder, const std::filesystem::path& output,
                                       const ConvertOptions& options);
// file: of a model in several files, the first.
Result<ConvertSummary> ConvertGguf(const std::filesystem::path& file, const std::filesystem::path& output,
                                   const ConvertOptions& options);
// License and other metadata stay those of the file, unless options have a license.
Result<ConvertSummary> ConvertDsopt(const std::filesystem::path& file, const std::filesystem::path& output,
                                    const ConvertOptions& options);
// A folder: ConvertHfFolder. A file: ConvertDsopt or ConvertGguf, by its first bytes.
Result<ConvertSummary> Convert(const std::filesystem::path& input, const std::filesystem::path& output,
                               const ConvertOptions& options);

}  // namespace dsopt
#endif  // DSOPT_IMPORT_CONVERT_H_
