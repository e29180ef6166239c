// hf_config.h - a Hugging Face config.json (transformers 4 and 5) as a ConfigSpec, and generation_config.json
// as sampling defaults. A value this build cannot honour is refused by name, never ignored. Not for: tensors.
#ifndef DSOPT_IMPORT_HF_CONFIG_H_
#define DSOPT_IMPORT_HF_CONFIG_H_

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "spec/model_spec.h"

namespace dsopt {

// LlamaForCausalLM, MistralForCausalLM, MixtralForCausalLM, DeepseekV2ForCausalLM. DSOPT_E_UNSUPPORTED names
// the key and its value; DSOPT_E_CORRUPT when the text is not a JSON object.
Result<ConfigSpec> ParseHfConfig(std::string_view json);

struct HfGeneration {
  SamplingSpec sampling;            // greedy unless do_sample is true
  std::vector<int32_t> end_tokens;  // eos_token_id, one or many
};
Result<HfGeneration> ParseHfGeneration(std::string_view json);

}  // namespace dsopt
#endif  // DSOPT_IMPORT_HF_CONFIG_H_
