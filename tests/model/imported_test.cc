// imported_test.cc - quantised models imported as they are: their logits are those of a float32 model of the
// same values.
#include <catch2/catch.hpp>
#include <cmath>
#include <fstream>

#include "import/convert.h"
#include "support.h"
#include "tests/quantised/models.h"
#include "tests/unit/import/checkpoint_writer.h"

namespace dsopt::testing {
namespace {

// Deviation of a logit relative to its row's largest. Where all is held exactly, sums only differ in their
// order; where bf16 stands in, each weight is off by up to 1 / 512.
constexpr double kExact = 2e-5, kBf16 = 2e-2;

const Tokens kPrompt = {1, 40, 265, 7, 99, 280, 12, 12, 264, 180, 3, 77, 210, 31, 5, 261};

std::vector<float> PromptLogits(const std::string& path) {
  const LoadedFile file = OpenFile(path);
  const SessionPtr session = NewSession(file, DSOPT_PRECISION_REFERENCE, 1, 64);
  const StreamPtr stream = NewStream(session);
  Append(stream, kPrompt);
  Prefill(session, stream);
  return Logits(stream, file.info.vocab_size);
}

std::vector<float> FloatLogits(const QuantisedModel& model) {
  const std::string path = TemporaryPath("floats.dsopt");
  WriteFile(path, FloatModelBytes(model));
  return PromptLogits(path);
}

std::vector<float> ImportedLogits(const std::filesystem::path& input, dsopt_dtype dtype) {
  const std::string path = TemporaryPath("imported.dsopt");
  ConvertOptions options;
  options.dtype = dtype;
  const Result<ConvertSummary> summary = Convert(input, path, options);
  INFO(std::string(summary.status().message()));
  REQUIRE(summary.ok());
  return PromptLogits(path);
}

void CheckLogits(const QuantisedModel& model, const std::filesystem::path& input, double tolerance) {
  const std::vector<float> expected = FloatLogits(model);
  double most = 0, spread = 0;
  for (float logit : expected) most = std::max(most, std::abs(static_cast<double>(logit)));
  for (float logit : expected) spread += std::abs(static_cast<double>(logit)) / most;
  REQUIRE(most > 0);
  REQUIRE(spread > 10);  // not one logit above all others, which would hide the rest
  CHECK(RowError(ImportedLogits(input, DSOPT_F32), expected) <= kExact);
  CHECK(RowError(ImportedLogits(input, DSOPT_DTYPE_DEFAULT), expected) <= tolerance);
}

void CheckGguf(const GgufModelOptions& options, double tolerance) {
  const GgufModel model = MakeGgufModel(options);
  const std::string input = TemporaryPath("model.gguf");
  WriteFile(input, model.files[0]);
  CheckLogits(model, input, tolerance);
}

TEST_CASE("a GGUF model of every type has the logits of its values", "[model]") {
  const std::string type =
      GENERATE(as<std::string>(), "F32", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K");
  CAPTURE(type);
  GgufModelOptions options;
  options.type = [&](const std::string&) { return type; };
  CheckGguf(options, kExact);
}

TEST_CASE("a GGUF model that mixes types as Q4_K_M does has the logits of its values", "[model]") {
  GgufModelOptions options;
  options.biases = true;
  options.type = [](const std::string& suffix) {
    return suffix == "attn.v" || suffix == "mlp.down" || suffix == "head" ? "Q6_K" : "Q4_K";
  };
  CheckGguf(options, kExact);
}

TEST_CASE("GGUF models of every family have the logits of their values", "[model]") {
  GgufModelOptions options;
  double tolerance = kExact;
  SECTION("Mistral") { options.family = QuantisedFamily::kMistral; }
  SECTION("Mixtral") { options.family = QuantisedFamily::kMixtral; }
  SECTION("DeepSeek-V2, whose kv_b becomes bf16") {
    options.family = QuantisedFamily::kDeepseekV2;
    options.latent_halves = true;
    tolerance = kBf16;
  }
  CheckGguf(options, tolerance);
}

TEST_CASE("GPTQ, AWQ, fp8 and int8 models have the logits of their values", "[model]") {
  HfModelOptions options;
  double tolerance = kExact;
  SECTION("GPTQ") { options.format = HfFormat::kGptq; }
  SECTION("GPTQ 8 bits") {
    options.format = HfFormat::kGptqV2;
    options.linear.bits = 8;
  }
  SECTION("GPTQ in the order of activations, which becomes bf16") {
    options.linear.act_order = true;
    tolerance = kBf16;
  }
  SECTION("AWQ") { options = {HfFormat::kAwq, {.group_size = 128}}; }
  SECTION("fp8, a scale per matrix") { options.format = HfFormat::kFp8Tensor; }
  SECTION("fp8, a scale per row") { options.format = HfFormat::kFp8Rows; }
  SECTION("fp8, blocks") { options.format = HfFormat::kFp8Blocks; }
  SECTION("int8") { options.format = HfFormat::kInt8Rows; }
  test::TempFolder folder;
  CheckLogits(WriteHfModel(options, folder.path()), folder.path(), tolerance);
}

TEST_CASE("the published GGUF of stories260k continues like its golden", "[model]") {
  const std::filesystem::path input = CheckpointFolder("stories260k") / "stories260K.gguf";
  if (!HaveOrSkip(input)) return;
  const std::string path = TemporaryPath("stories.dsopt");
  REQUIRE(Convert(input, path, {}).ok());
  const LoadedFile file = OpenFile(path);
  const SessionPtr session = NewSession(file, DSOPT_PRECISION_REFERENCE, 1, 512);
  const nlohmann::json golden = ReadJson(CheckpointFolder("stories260k") / "golden.json");
  const Tokens ids = golden.at("ids").get<Tokens>();
  const std::string bytes = ReadFile(CheckpointFolder("stories260k") / "golden_logits_f32.bin");
  const std::vector<float> logits = Floats(bytes);
  const size_t vocab = file.info.vocab_size;
  double worst = 0;
  for (size_t row = 0; row < logits.size() / vocab; ++row) {
    const StreamPtr stream = NewStream(session);
    Append(stream, std::span(ids).first(row + 1));
    Prefill(session, stream);
    worst = std::max(
        worst, RowError(Logits(stream, file.info.vocab_size), std::span(logits).subspan(row * vocab, vocab)));
  }
  CHECK(worst <= 1e-5);
}

}  // namespace
}  // namespace dsopt::testing
