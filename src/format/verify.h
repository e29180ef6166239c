// verify.h - what the flatbuffers verifier cannot know: every number of a ModelSpec that came from outside.
#ifndef DSOPT_FORMAT_VERIFY_H_
#define DSOPT_FORMAT_VERIFY_H_

#include <cstdint>

#include "base/status.h"
#include "spec/model_spec.h"

namespace dsopt {

// Limits on what a file may say. They bound every later allocation.
inline constexpr uint32_t kMaxLayers = 1024, kMaxHidden = 65536, kMaxVocab = 1u << 21, kMaxExperts = 4096;
inline constexpr uint32_t kMaxHeads = 4096, kMaxHeadDim = 1024, kMaxInner = 1u << 20, kMaxContext = 1u << 24;
inline constexpr uint32_t kMaxTensors = 200000, kMaxKinds = 256, kMaxString = 1u << 20;

// DSOPT_E_CORRUPT naming the thing, what was found and what was expected. Sets raw_bytes of the tensors.
Status VerifyModelSpec(ModelSpec* spec, uint64_t file_bytes, uint64_t first_chunk_offset);
// The parts, for writers: the configuration and the tokenizer alone.
Status VerifyConfig(const ConfigSpec& config);
Status VerifyTokenizer(const TokenizerSpec& tokenizer);

}  // namespace dsopt
#endif  // DSOPT_FORMAT_VERIFY_H_
