// exact_golden_test.cc - logits and perplexity of the four trained checkpoints against goldens to float accuracy. The goldens' own
// run kept the rotary frequencies rounded to bfloat16 (transformers reproduces them to 1e-6 so, and differs from them
// as dsopt does otherwise), so this program wraps MakeRopeTable (see CMakeLists.txt) and rounds as they did.
// What users get, without rounding, is compared in golden_test.cc.
#include "needs_data.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include <catch2/catch.hpp>

#include "model/config.h"
#include "support.h"
#include "tools/perplexity.h"

namespace dsopt {

RopeTable UnroundedRopeTable(const RopeSpec& rope) asm("__real__ZN5dsopt13MakeRopeTableERKNS_8RopeSpecE");
RopeTable RoundedRopeTable(const RopeSpec& rope) asm("__wrap__ZN5dsopt13MakeRopeTableERKNS_8RopeSpecE");

static uint64_t rounded_tables = 0;

RopeTable RoundedRopeTable(const RopeSpec& rope) {
  RopeTable table = UnroundedRopeTable(rope);
  for (float& frequency : table.inv_freq) {
    const uint32_t bits = std::bit_cast<uint32_t>(frequency);
    frequency = std::bit_cast<float>((bits + 0x7FFFu + (bits >> 16 & 1u)) & 0xFFFF0000u);
  }
  ++rounded_tables;
  return table;
}

namespace testing {
namespace {

TEST_CASE("with the goldens' frequencies every logit is the golden one to float accuracy", "[model]") {
  const std::string name = GENERATE(as<std::string>(), "llama-12m", "mistral-10m", "mixtral-13m", "deepseek-v2-14m");
  if (!HaveOrSkip(CheckpointFolder(name))) return;
  const LoadedFile file = OpenFile(ConvertedCheckpoint(name));
  const uint64_t before = rounded_tables;
  const SessionPtr session = NewSession(file, DSOPT_PRECISION_REFERENCE, 1, 256);
  REQUIRE(rounded_tables > before);  // the wrapper is in use
  double worst = 0;
  for (const GoldenPrompt& prompt : ReadGolden(name)) {
    for (size_t row = 0; row < prompt.ids.size(); ++row) {
      const StreamPtr stream = NewStream(session);
      Append(stream, std::span(prompt.ids).first(row + 1));
      Prefill(session, stream);
      const auto golden = std::span(prompt.logits.values).subspan(row * prompt.logits.vocab, prompt.logits.vocab);
      worst = std::max(worst, RowError(Logits(stream, file.info.vocab_size), golden));
      CAPTURE(name, row, prompt.ids);
      REQUIRE(worst <= 1e-5);
    }
  }
  WARN(name << ": largest deviation of a logit " << worst << " of its row's largest");
}

// Hidden: takes minutes. ctest runs model_exact_perplexity, all_goldens.sh every text.
void CheckPerplexity(const std::string& name, const std::string& text_name) {
  if (!HaveOrSkip(CheckpointFolder(name))) return;
  const nlohmann::json golden = ReadJson(CheckpointFolder(name) / "golden.json").at("perplexity").at(text_name);
  const LoadedFile file = OpenFile(ConvertedCheckpoint(name));
  const SessionPtr session = NewSession(file, DSOPT_PRECISION_REFERENCE, 1, 513);
  const auto result = tools::Perplexity(session.get(), PerplexityIds(file, text_name), file.info.bos, {512, 64}, nullptr);
  if (!result.ok()) FAIL(std::string(result.status().message()));
  const double expected = golden.at("value");
  CAPTURE(name, text_name, result->perplexity, expected);
  WARN(name << " " << text_name << ": " << result->perplexity << ", golden " << expected);
  REQUIRE(result->tokens == golden.at("tokens").get<uint64_t>());
  REQUIRE(std::abs(result->perplexity / expected - 1) <= 1e-5);
}

TEST_CASE("with the goldens' frequencies perplexity is the golden one to float accuracy", "[.][perplexity]") {
  using Case = std::pair<const char*, const char*>;
  const auto [name, text] = GENERATE(Case{"llama-12m", "code_python_heldout.txt"},
                                     Case{"mistral-10m", "wikitext-2-valid.txt"},
                                     Case{"mixtral-13m", "books_heldout_1MB.txt"},
                                     Case{"deepseek-v2-14m", "wikitext-2-valid.txt"});
  CheckPerplexity(name, text);
}

TEST_CASE("with the goldens' frequencies perplexity is the golden one on every text", "[.][every-text]") {
  const std::string name = GENERATE(as<std::string>(), "llama-12m", "mistral-10m", "mixtral-13m", "deepseek-v2-14m");
  for (const char* text : {"wikitext-2-valid.txt", "books_heldout_1MB.txt", "code_python_heldout.txt"}) {
    CheckPerplexity(name, text);
  }
}

}  // namespace
}  // namespace testing
}  // namespace dsopt
