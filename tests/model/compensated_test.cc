// compensated_test.cc - rounding that makes up for its errors, of whole models: all families, what it leaves to
// rounding to nearest, threads, failures.
#include "tools/compensated.h"

#include <catch2/catch.hpp>
#include <cmath>

#include "support.h"
#include "tests/tiny_model.h"

namespace dsopt::testing {
namespace {

using tools::CompensatedOptions;
using tools::CompensatedReport;

// A text of words that differ in how often they come.
std::string Text() {
  static const char* const kWords[] = {"the ", "robot ",    "went ", "to ",
                                       "a ",   "kitchen, ", "and ",  "cup of tea.\n"};
  std::string text;
  uint32_t state = 5;
  while (text.size() < 4000) {
    state = state * 1664525u + 1013904223u;
    text += kWords[(state >> 29) & (state >> 26) & 7u];
  }
  return text;
}

CompensatedOptions Small(uint32_t threads = 1) {
  CompensatedOptions options;
  options.text = Text();
  options.windows = {32, 64};
  options.threads = threads;
  return options;
}

// coder NULL: to nearest.
Status ConvertTiny(TinyFamily family, const WeightsRequest& weights, const CompensatedOptions* coder,
                   const std::string& out, CompensatedReport* report) {
  const std::string in = TemporaryPath("compensated_in.dsopt");
  WriteFile(in, TinyModelBytes({.family = family}));
  ConvertOptions options;
  options.weights = weights;
  if (coder != nullptr) {
    options.coder = [&](const ModelSpec& spec, std::vector<TensorSource>* tensors) {
      return tools::CompensatedCoder(*coder, spec, tensors, report);
    };
  }
  return Convert(in, out, options).status();
}

std::vector<float> LogitsOf(const LoadedFile& file) {
  const std::string text = Text();
  std::vector<float> all;
  for (size_t count = 8; count <= 48; count += 8) {
    const SessionPtr session = NewSession(file, DSOPT_PRECISION_REFERENCE, 1, 64);
    const StreamPtr stream = NewStream(session);
    Tokens tokens = {file.info.bos};
    for (size_t i = 0; i < count; ++i) tokens.push_back(static_cast<unsigned char>(text[60 * count + i]));
    Append(stream, tokens);
    Start(stream, 1);
    Finish(session, stream);
    for (float logit : Logits(stream, file.info.vocab_size)) all.push_back(logit);
  }
  return all;
}

double SquaredError(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double error = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    sum += error * error;
  }
  return sum;
}

TEST_CASE("the logits of a model with compensated rounding are less off than with rounding to nearest",
          "[compensated]") {
  const TinyFamily family = GENERATE(from_range(std::begin(kTinyFamilies), std::end(kTinyFamilies)));
  const std::string plain = TemporaryPath("plain.dsopt"), near = TemporaryPath("near.dsopt"),
                    coded = TemporaryPath("coded.dsopt");
  WriteFile(plain, TinyModelBytes({.family = family}));
  const std::vector<float> expected = LogitsOf(OpenFile(plain));
  const CompensatedOptions options = Small();
  for (const WeightsRequest& weights : {WeightsRequest{DSOPT_ENCODING_FP8}, WeightsRequest{DSOPT_ENCODING_INT8},
                                        WeightsRequest{DSOPT_ENCODING_INT4, 32, true}}) {
    CAPTURE(static_cast<int>(family), EncodingName(weights.encoding));
    CompensatedReport report;
    REQUIRE(ConvertTiny(family, weights, nullptr, near, nullptr).ok());
    const Status status = ConvertTiny(family, weights, &options, coded, &report);
    INFO(std::string(status.message()));
    REQUIRE(status.ok());
    CHECK(report.rows_compensated > report.rows * 8 / 10);
    CHECK(report.rows_compensated <= report.rows);
    CHECK(report.error < 0.9 * static_cast<double>(report.rows));
    CHECK(report.seconds > 0);
    const double nearest_error = SquaredError(LogitsOf(OpenFile(near)), expected),
                 error = SquaredError(LogitsOf(OpenFile(coded)), expected);
    CAPTURE(error, nearest_error, report.error / static_cast<double>(report.rows));
    CHECK(error < nearest_error);
  }
}

TEST_CASE("compensated files are the same for every number of threads", "[compensated]") {
  const TinyFamily family = GENERATE(TinyFamily::kLlama, TinyFamily::kMixtral);
  std::string files[2];
  for (uint32_t i = 0; i < 2; ++i) {
    const CompensatedOptions options = Small(1 + 2 * i);
    CompensatedReport report;
    const std::string path = TemporaryPath("threads.dsopt");
    REQUIRE(ConvertTiny(family, {DSOPT_ENCODING_INT4, 64, false}, &options, path, &report).ok());
    files[i] = ReadFile(path);
  }
  CHECK(files[0] == files[1]);
}

TEST_CASE("compensated rounding fails as a whole: too little text, cancelled", "[compensated]") {
  CompensatedReport report;
  CompensatedOptions options = Small();
  const std::string path = TemporaryPath("never.dsopt");
  options.text = "short";
  CHECK(ConvertTiny(TinyFamily::kLlama, {DSOPT_ENCODING_FP8}, &options, path, &report).code() ==
        DSOPT_E_INVALID_ARGUMENT);
  options = Small();
  const std::atomic<bool> cancel = true;
  options.cancel = &cancel;
  CHECK(ConvertTiny(TinyFamily::kMixtral, {DSOPT_ENCODING_FP8}, &options, path, &report).code() ==
        DSOPT_E_CANCELLED);
  CHECK_FALSE(std::filesystem::exists(path));
}

}  // namespace
}  // namespace dsopt::testing
