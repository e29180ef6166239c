// verify.h - what the flatbuffers verifier cannot know: whether the numbers of a ModelSpec make sense together.
// Used on what a reader has parsed and on what a writer is given, so that no writer makes a file its reader
// refuses. One function per group of rules. All fail with DSOPT_E_CORRUPT naming the thing, what was found and
// expected.
#ifndef DSOPT_FORMAT_VERIFY_H_
#define DSOPT_FORMAT_VERIFY_H_

#include <cstdint>
#include <vector>

#include "base/status.h"
#include "spec/model_spec.h"

namespace dsopt {

// Limits on what a file may say. metadata_read.cc applies the counts before it copies, so they bound its
// memory.
inline constexpr uint32_t kMaxLayers = 1024, kMaxKinds = 256, kMaxHidden = 65536, kMaxVocab = 1u << 21;
inline constexpr uint32_t kMaxHeads = 4096, kMaxHeadDim = 1024, kMaxInner = 1u << 20, kMaxContext = 1u << 24;
inline constexpr uint32_t kMaxExperts = 4096;
inline constexpr uint32_t kMaxTensors = 200000, kMaxDimensions = 4, kMaxChunks = 1500000;
inline constexpr uint64_t kMaxTensorBytes = uint64_t{1} << 50;
inline constexpr uint32_t kMaxMerges = 2 * kMaxVocab, kMaxReplacements = 256, kMaxTokenList = 1024;
inline constexpr uint32_t kMaxPieceBytes = 32u << 20;
inline constexpr uint32_t kMaxName = 256, kMaxArchitecture = 31, kMaxTemplate = 1u << 20, kMaxValue = 64u << 10;
inline constexpr uint32_t kMaxMetadata = 1024;

Status VerifyConfig(const ConfigSpec& config);
Status VerifySampling(const SamplingSpec& sampling);
// vocab: of the configuration; ids of pieces are rows of the embedding.
Status VerifyTokenizer(const TokenizerSpec& tokenizer, uint32_t vocab);
// Chat template and metadata.
Status VerifyTexts(const ModelSpec& spec);
Status VerifyTensorNames(const std::vector<TensorSpec>& tensors);
// Product of the shape times the size of an element, half of that for int4; refuses types, dimensions and products
// out of range.
Result<uint64_t> TensorBytes(const TensorSpec& tensor);
// Which chunks, of which raw sizes, belong to which tensor. raw_bytes must be set.
Status VerifyTensors(const ModelSpec& spec);
// Type, shape and groups of encoded tensors, and that their scales and offsets are there. Names must be sorted.
Status VerifyEncodings(const std::vector<TensorSpec>& tensors);
// Where the chunks lie and how they are encoded: inside [data_begin, file_bytes), sorted, disjoint.
Status VerifyChunks(const ModelSpec& spec, uint64_t data_begin, uint64_t file_bytes);

}  // namespace dsopt
#endif  // DSOPT_FORMAT_VERIFY_H_
