// quality_test.cc - the trained checkpoints with encoded weights: lossless12 gives the perplexity of bf16 to
// the last bit, the others stay near it. A few windows: tests/bench/weights_quality.sh measures more.
#include "needs_data.h"

#include <cmath>

#include <catch2/catch.hpp>

#include "import/convert.h"
#include "support.h"
#include "tools/perplexity.h"

namespace dsopt::testing {
namespace {

double Measure(const std::string& path) {
  const LoadedFile file = OpenFile(path);
  const SessionPtr session = NewSession(file, DSOPT_PRECISION_FAST, 1, 129);
  const auto result = tools::Perplexity(session.get(), PerplexityIds(file, "wikitext-2-valid.txt"),
                                        file.info.bos, {128, 4}, nullptr);
  if (!result.ok()) FAIL(std::string(result.status().message()));
  return result->perplexity;
}

std::string Encoded(const std::string& checkpoint, const WeightsRequest& weights) {
  const std::string path = TemporaryPath("quality.dsopt");
  ConvertOptions options;
  options.weights = weights;
  const Result<ConvertSummary> summary = Convert(ConvertedCheckpoint(checkpoint), path, options);
  INFO(std::string(summary.status().message()));
  REQUIRE(summary.ok());
  return path;
}

TEST_CASE("encoded checkpoints: lossless12 is bf16 to the bit, 8 bits are near it, 4 bits not far", "[model]") {
  const std::string checkpoint = GENERATE("llama-12m", "mistral-10m", "mixtral-13m", "deepseek-v2-14m");
  if (!HaveOrSkip(CheckpointFolder(checkpoint))) return;
  const double plain = Measure(ConvertedCheckpoint(checkpoint));
  CAPTURE(checkpoint, plain);
  CHECK(Measure(Encoded(checkpoint, {DSOPT_ENCODING_LOSSLESS12})) == plain);
  // So few tokens move by chance: bounds are wider than those of the table.
  CHECK(std::fabs(Measure(Encoded(checkpoint, {DSOPT_ENCODING_INT8})) / plain - 1) < 0.01);
  CHECK(std::fabs(Measure(Encoded(checkpoint, {DSOPT_ENCODING_FP8})) / plain - 1) < 0.02);
  CHECK(std::fabs(Measure(Encoded(checkpoint, {DSOPT_ENCODING_INT4, 32, true})) / plain - 1) < 0.08);
}

}  // namespace
}  // namespace dsopt::testing
