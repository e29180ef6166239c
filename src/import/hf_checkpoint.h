// hf_checkpoint.h - which tensors of a Hugging Face checkpoint make up each canonical tensor (model/names.h).
// Reads no data: see convert.h.
#ifndef DSOPT_IMPORT_HF_CHECKPOINT_H_
#define DSOPT_IMPORT_HF_CHECKPOINT_H_

#include "base/status.h"
#include "import/hf_quantization.h"
#include "import/safetensors.h"
#include "import/tensor_source.h"
#include "spec/model_spec.h"

namespace dsopt {

// dtype as in ChooseForms. Missing tensors and wrong shapes are DSOPT_E_CORRUPT. An output matrix that the
// checkpoint lists as an alias of the embedding sets config->tie_embeddings. The checkpoint must outlive the
// map.
Result<CheckpointMap> MapHfCheckpoint(const SafetensorsCheckpoint& checkpoint,
                                      const HfQuantization& quantization, dsopt_dtype dtype,
                                      ConfigSpec* config);

}  // namespace dsopt
#endif  // DSOPT_IMPORT_HF_CHECKPOINT_H_
