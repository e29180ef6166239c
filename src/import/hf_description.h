// hf_description.h - everything that a Hugging Face folder says about its model besides the tensors.
#ifndef DSOPT_IMPORT_HF_DESCRIPTION_H_
#define DSOPT_IMPORT_HF_DESCRIPTION_H_

#include <filesystem>
#include <string>

#include "base/status.h"
#include "import/hf_quantization.h"
#include "spec/model_spec.h"

namespace dsopt {

struct HfDescription {
  ModelSpec spec;  // without tensors
  HfQuantization quantization;
};

// license: metadata; empty: what the folder's README or LICENSE says. A folder without a tokenizer gives a
// model that works on token ids only.
Result<HfDescription> ReadHfDescription(const std::filesystem::path& folder, const std::string& license);

// Sets "generator" and, where they are not empty, "source" and "license"; what is not UTF-8 is replaced by a
// remark.
void FillMetadata(const std::string& source, const std::string& license, ModelSpec* spec);

}  // namespace dsopt
#endif  // DSOPT_IMPORT_HF_DESCRIPTION_H_
