// tiny_model.h - small random models as .dsopt files in memory, for tests of everything above the file format.
// Two layers, hidden 64, a tokenizer of single bytes and a few special tokens. Not trained: greedy text is
// arbitrary but reproducible.
#ifndef DSOPT_TESTS_TINY_MODEL_H_
#define DSOPT_TESTS_TINY_MODEL_H_

#include <cstdint>
#include <vector>

#include "dsopt/dsopt.h"
#include "spec/model_spec.h"

namespace dsopt::testing {

enum class TinyFamily { kLlama, kMistral, kMixtral, kDeepseekV2 };
inline constexpr TinyFamily kTinyFamilies[] = {TinyFamily::kLlama, TinyFamily::kMistral, TinyFamily::kMixtral,
                                               TinyFamily::kDeepseekV2};

// Ids 0 .. 255 are the bytes. All pieces from 256 on are control tokens.
inline constexpr int32_t kTinyBos = 256, kTinyEos = 257, kTinyPad = 258, kTinyEndOfTurn = 259;
inline constexpr uint32_t kTinyVocab = 272;
inline constexpr uint32_t kTinyContext = 1024;
inline constexpr uint32_t kTinyWindow = 32;  // kMistral

struct TinyOptions {
  TinyFamily family = TinyFamily::kLlama;
  uint64_t seed = 1;
  dsopt_dtype dtype = DSOPT_BF16;  // of the matrices; F32, F16 or BF16
  uint32_t context = kTinyContext;
  uint32_t layers = 2;
  bool compress = true;
  bool chat_template = true;
};

// The description without tensor bytes: tensors have names, types and shapes.
ModelSpec TinySpec(const TinyOptions& options);
// A whole file. Throws std::runtime_error when the writer fails: a test's bug.
std::vector<uint8_t> TinyModelBytes(const TinyOptions& options = {});

}  // namespace dsopt::testing
#endif  // DSOPT_TESTS_TINY_MODEL_H_
