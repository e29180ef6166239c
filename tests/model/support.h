// support.h - what the model tests share: checkpoints of ../shared/data converted once per process, goldens, and
// dsopt.h with failures as exceptions. Everything throws std::runtime_error: a failure is the test's failure.
#ifndef DSOPT_TESTS_MODEL_SUPPORT_H_
#define DSOPT_TESTS_MODEL_SUPPORT_H_

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "dsopt/dsopt.h"
#include "tools/client.h"

namespace dsopt::testing {

using tools::ModelPtr;
using tools::RuntimePtr;
using tools::SessionPtr;
using tools::StreamPtr;

using Tokens = std::vector<dsopt_token>;

// ../shared/data next to the repository; its presence is asked with HaveData.
std::filesystem::path DataFolder();
bool HaveData();
// Prints "skipped: ..." once per file that is absent; true when everything is there.
bool HaveOrSkip(const std::filesystem::path& path);

inline constexpr const char* kCheckpoints[] = {"llama-12m", "mistral-10m", "mixtral-13m", "deepseek-v2-14m",
                                               "tinystories-656k"};
std::filesystem::path CheckpointFolder(const std::string& name);
// The checkpoint as a .dsopt file in a temporary folder that is removed when the process ends.
std::string ConvertedCheckpoint(const std::string& name);
// A file name in that folder.
std::string TemporaryPath(const std::string& name);

std::string ReadFile(const std::filesystem::path& path);
void WriteFile(const std::string& path, std::span<const uint8_t> bytes);
nlohmann::json ReadJson(const std::filesystem::path& path);
std::vector<float> Floats(std::string_view bytes);

// Logits of a golden: rows x vocab.
struct GoldenLogits {
  size_t rows = 0, vocab = 0;
  std::vector<float> values;
};

struct GoldenPrompt {
  Tokens ids;        // of the prompt
  Tokens greedy;     // that follow
  GoldenLogits logits;  // one row per prompt position, the first logits.rows of them
};
// All prompts of a checkpoint's golden, whichever of the two layouts it has.
std::vector<GoldenPrompt> ReadGolden(const std::string& checkpoint);

// Largest deviation of the row, relative to the golden row's largest magnitude.
double RowError(std::span<const float> found, std::span<const float> golden);

void Check(dsopt_status status);

// A loaded model and its runtime.
struct LoadedFile {
  RuntimePtr runtime;
  ModelPtr model;
  dsopt_model_info info = {};
};
LoadedFile OpenFile(const std::string& path);

SessionPtr NewSession(const LoadedFile& file, dsopt_precision precision, uint32_t streams, uint32_t tokens);
StreamPtr NewStream(const SessionPtr& session);
void Append(const StreamPtr& stream, std::span<const dsopt_token> tokens);

// Queues `count` tokens that end tokens do not end. temperature 0: greedy; else seed 42.
void Start(const StreamPtr& stream, uint32_t count, float temperature = 0.0f);
// Polls with this budget until nothing generates, and checks the stream's status.
void Finish(const SessionPtr& session, const StreamPtr& stream, uint64_t budget_us = 1000000);
// Brings the appended tokens into the cache.
void Prefill(const SessionPtr& session, const StreamPtr& stream);
// The stream's tokens from `first` on.
Tokens TokensFrom(const StreamPtr& stream, size_t first);
// Appends, generates and returns the new tokens of a fresh stream.
Tokens Continue(const SessionPtr& session, std::span<const dsopt_token> prompt, uint32_t count,
                float temperature = 0.0f, uint64_t budget_us = 1000000);
std::vector<float> Logits(const StreamPtr& stream, uint32_t vocab);

// The ids of a text of ../shared/data/text as the goldens' perplexity uses it: text-mode line ends, 400000 characters,
// control tokens parsed, no begin token.
Tokens PerplexityIds(const LoadedFile& file, const std::string& text_name);

}  // namespace dsopt::testing
#endif  // DSOPT_TESTS_MODEL_SUPPORT_H_
