// hf_matrix.h - a parameter of a Hugging Face checkpoint as a MatrixSource, whichever way it is stored: plain
// floats (hf_matrix.cc), fp8 or int8 with scales beside (hf_scaled.cc), words of packed codes (hf_packed.cc).
#ifndef DSOPT_IMPORT_HF_MATRIX_H_
#define DSOPT_IMPORT_HF_MATRIX_H_

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/status.h"
#include "import/hf_quantization.h"
#include "import/matrix_source.h"
#include "import/safetensors.h"

namespace dsopt {

using UsedEntries = std::set<const SafetensorsEntry*>;

// The parameter called `name`, "....weight" or "....bias", which must have this shape [outputs, inputs] or
// [count]. Adds the checkpoint's tensors that it reads to *used. Reads scales and zeros where they decide on
// the form, but no weights, except to see whether codes of 8 bits use all 256 values. DSOPT_E_CORRUPT: missing
// or of another shape; DSOPT_E_UNSUPPORTED: of another type. The checkpoint must outlive the source.
Result<std::unique_ptr<MatrixSource>> OpenHfMatrix(const SafetensorsCheckpoint& checkpoint,
                                                   const HfQuantization& quantization, const std::string& name,
                                                   const std::vector<uint64_t>& shape, UsedEntries* used);

// The two below are parts of it.
Result<std::unique_ptr<MatrixSource>> OpenScaledMatrix(const SafetensorsCheckpoint& checkpoint,
                                                       const HfQuantization& quantization,
                                                       const SafetensorsEntry& weight,
                                                       const std::vector<uint64_t>& shape, UsedEntries* used);
// base: the name without ".weight"; base.qweight is there.
Result<std::unique_ptr<MatrixSource>> OpenPackedMatrix(const SafetensorsCheckpoint& checkpoint,
                                                       const HfQuantization& quantization,
                                                       const std::string& base,
                                                       const std::vector<uint64_t>& shape, UsedEntries* used);

// DSOPT_E_CORRUPT unless the tensor is there with this shape, DSOPT_E_UNSUPPORTED unless it has a type of the
// list
// ("F32, F16 or BF16"; the safetensors names). Adds it to *used.
Result<const SafetensorsEntry*> RequireEntry(const SafetensorsCheckpoint& checkpoint, const std::string& name,
                                             const std::vector<uint64_t>& shape,
                                             std::initializer_list<const char*> types, UsedEntries* used);
// All elements of a tensor of floats.
Result<std::vector<float>> ReadFloats(const SafetensorsCheckpoint& checkpoint, const SafetensorsEntry& entry);

}  // namespace dsopt
#endif  // DSOPT_IMPORT_HF_MATRIX_H_
