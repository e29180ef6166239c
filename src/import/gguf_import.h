// gguf_import.h - a GGUF file as a model: its configuration, vocabulary and texts, and which of its tensors
// make up each canonical tensor (model/names.h). Reads no weights: see convert.h.
#ifndef DSOPT_IMPORT_GGUF_IMPORT_H_
#define DSOPT_IMPORT_GGUF_IMPORT_H_

#include <string>

#include "base/status.h"
#include "import/gguf_checkpoint.h"
#include "import/tensor_source.h"
#include "spec/model_spec.h"

namespace dsopt {

// Architectures "llama" (also Mistral and Mixtral) and "deepseek2". A key whose value this build cannot honour
// is DSOPT_E_UNSUPPORTED and named.
Result<ConfigSpec> ParseGgufConfig(const GgufCheckpoint& checkpoint);

// Everything but the tensors. license: metadata; empty: what the file says.
Result<ModelSpec> DescribeGguf(const GgufCheckpoint& checkpoint, const std::string& license);

// dtype as in ChooseForms. Missing tensors and wrong shapes are DSOPT_E_CORRUPT. The checkpoint must outlive
// the map.
Result<CheckpointMap> MapGguf(const GgufCheckpoint& checkpoint, dsopt_dtype dtype, const ConfigSpec& config);

}  // namespace dsopt
#endif  // DSOPT_IMPORT_GGUF_IMPORT_H_
