// perplexity_test.cc - perplexity of the trained checkpoints as the goldens define it, with the code of `dsopt
// perplexity`. One text per model here, in both precisions; all_goldens.sh runs all texts. In reference precision
// 0.02 % are allowed, of which the goldens' rounded rotary frequencies take up to 0.015 %; exact_golden_test.cc allows
// 0.001 % without that difference.
#include "needs_data.h"

#include <cmath>

#include <catch2/catch.hpp>

#include "support.h"
#include "tools/perplexity.h"

namespace dsopt::testing {
namespace {

struct Case {
  const char* checkpoint;
  const char* text;
};
constexpr Case kCases[] = {{"llama-12m", "books_heldout_1MB.txt"},
                           {"mistral-10m", "code_python_heldout.txt"},
                           {"mixtral-13m", "wikitext-2-valid.txt"},
                           {"deepseek-v2-14m", "code_python_heldout.txt"}};

double Measure(const LoadedFile& file, const char* text, const nlohmann::json& golden, dsopt_precision precision) {
  const Tokens ids = PerplexityIds(file, text);
  const Tokens first = golden.at("first_ids");
  REQUIRE(Tokens(ids.begin(), ids.begin() + static_cast<ptrdiff_t>(first.size())) == first);
  const SessionPtr session = NewSession(file, precision, 1, 513);
  const auto result = tools::Perplexity(session.get(), ids, file.info.bos, {512, 64}, nullptr);
  if (!result.ok()) FAIL(std::string(result.status().message()));
  REQUIRE(result->windows == 64);
  REQUIRE(result->tokens == golden.at("tokens").get<uint64_t>());
  return result->perplexity;
}

TEST_CASE("perplexity is the golden one", "[model]") {
  const size_t index = GENERATE(range(size_t{0}, std::size(kCases)));
  const auto [precision, tolerance] =
      GENERATE(table<dsopt_precision, double>({{DSOPT_PRECISION_REFERENCE, 2e-4}, {DSOPT_PRECISION_FAST, 1e-3}}));
  const Case& test = kCases[index];
  if (!HaveOrSkip(CheckpointFolder(test.checkpoint))) return;
  const nlohmann::json golden =
      ReadJson(CheckpointFolder(test.checkpoint) / "golden.json").at("perplexity").at(test.text);
  const LoadedFile file = OpenFile(ConvertedCheckpoint(test.checkpoint));
  const double found = Measure(file, test.text, golden, precision);
  const double expected = golden.at("value");
  CAPTURE(test.checkpoint, test.text, precision, found, expected);
  WARN(test.checkpoint << (precision == DSOPT_PRECISION_FAST ? " fast " : " reference ") << test.text << ": " << found
                       << ", golden " << expected);
  REQUIRE(std::abs(found / expected - 1) <= tolerance);
}

}  // namespace
}  // namespace dsopt::testing
