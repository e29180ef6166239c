#include "import/convert.h"

#include <utility>

#include "format/verify.h"
#include "import/dsopt_checkpoint.h"
#include "import/fold.h"
#include "import/gguf_import.h"
#include "import/hf_checkpoint.h"
#include "import/hf_description.h"
#include "import/safetensors.h"
#include "import/tensor_copy.h"

namespace dsopt {
namespace {

// Writes the model that spec, still without tensors, and map describe.
Result<ConvertSummary> Write(ModelSpec spec, CheckpointMap map, const std::filesystem::path& output,
                             const ConvertOptions& options) {
  ConvertSummary summary;
  std::unique_ptr<TensorCoder> coder;
  Calibration calibration;
  summary.architecture = spec.config.architecture;
  summary.has_tokenizer = spec.tokenizer.kind != TokenizerKind::kNone;
  summary.ignored = std::move(map.ignored);
  if (options.weights) {
    RecodeOptions recode;
    recode.weights = *options.weights;
    recode.threads = options.threads;
    recode.cancel = options.cancel;
    if (options.calibrate) {
      ASSIGN_OR_RETURN(calibration, options.calibrate(spec, &map.tensors));
      RETURN_IF_ERROR(FoldCalibration(recode, &calibration, &map.tensors));
      recode.calibration = &calibration;
    }
    ASSIGN_OR_RETURN(summary.policy, Recode(recode, &map.tensors));
    if (options.coder) {
      ASSIGN_OR_RETURN(coder, options.coder(spec, &map.tensors));
    }
  }
  summary.forms = SummariseForms(map.tensors);
  for (const FormSummary& form : summary.forms) {
    summary.parameters += form.parameters;
    summary.tensors += form.tensors;
  }
  for (const TensorSource& source : map.tensors) DeclareTensors(source, &spec.tensors);
  for (const TensorSpec& tensor : spec.tensors) {
    ASSIGN_OR_RETURN(const uint64_t bytes, TensorBytes(tensor));
    summary.raw_bytes += bytes;
  }
  ASSIGN_OR_RETURN(Writer writer, Writer::Create(output.string(), std::move(spec), options.writer));
  const CopyOptions copy = {options.cancel, options.progress};
  TensorCopier copier(writer, copy, summary.raw_bytes);
  for (TensorSource& source : map.tensors) {
    if (coder != nullptr) RETURN_IF_ERROR(coder->Prepare(&source));
    RETURN_IF_ERROR(copier.Copy(source));
    source.pieces.clear();  // and what they have read ahead or kept
  }
  RETURN_IF_ERROR(writer.Finish());
  std::error_code error;
  summary.file_bytes = std::filesystem::file_size(output, error);
  return summary;
}

}  // namespace

Result<ConvertSummary> ConvertHfFolder(const std::filesystem::path& folder, const std::filesystem::path& output,
                                       const ConvertOptions& options) {
  ASSIGN_OR_RETURN(HfDescription description, ReadHfDescription(folder, options.license));
  ASSIGN_OR_RETURN(const SafetensorsCheckpoint checkpoint, SafetensorsCheckpoint::Open(folder));
  ASSIGN_OR_RETURN(CheckpointMap map, MapHfCheckpoint(checkpoint, description.quantization, options.dtype,
                                                      &description.spec.config));
  return Write(std::move(description.spec), std::move(map), output, options);
}

Result<ConvertSummary> ConvertGguf(const std::filesystem::path& file, const std::filesystem::path& output,
                                   const ConvertOptions& options) {
  ASSIGN_OR_RETURN(const GgufCheckpoint checkpoint, GgufCheckpoint::Open(file));
  ASSIGN_OR_RETURN(ModelSpec spec, DescribeGguf(checkpoint, options.license));
  ASSIGN_OR_RETURN(CheckpointMap map, MapGguf(checkpoint, options.dtype, spec.config));
  return Write(std::move(spec), std::move(map), output, options);
}

Result<ConvertSummary> ConvertDsopt(const std::filesystem::path& file, const std::filesystem::path& output,
                                    const ConvertOptions& options) {
  ASSIGN_OR_RETURN(const std::unique_ptr<DsoptCheckpoint> checkpoint, DsoptCheckpoint::Open(file));
  ASSIGN_OR_RETURN(CheckpointMap map, MapDsopt(checkpoint.get(), options.dtype));
  ModelSpec spec = checkpoint->spec();
  spec.tensors.clear();
  spec.chunks.clear();
  FillMetadata("", options.license, &spec);
  return Write(std::move(spec), std::move(map), output, options);
}

Result<ConvertSummary> Convert(const std::filesystem::path& input, const std::filesystem::path& output,
                               const ConvertOptions& options) {
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(input, error);
  if (!std::filesystem::exists(status)) {
    return Error(DSOPT_E_NOT_FOUND, "%s: no such folder or file", input.c_str());
  }
  if (std::filesystem::is_directory(status)) return ConvertHfFolder(input, output, options);
  return IsDsoptFile(input) ? ConvertDsopt(input, output, options) : ConvertGguf(input, output, options);
}

}  // namespace dsopt
