// calibrate_test.cc - activation-aware scaling changes nothing in exact arithmetic; calibration sees the inputs
// that the runtime computes, and makes int4 better where channels differ.
#include "tools/calibrate.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <random>

#include "import/dsopt_checkpoint.h"
#include "import/fold.h"
#include "import/tensor_copy.h"
#include "support.h"
#include "tests/tiny_model.h"

namespace dsopt::testing {
namespace {

const Tokens kPrompt = {'t', 'h', 'e', ' ', 'r', 'o', 'b', 'o', 't', '\n'};

// The tensors of a tiny model as f32 sources.
struct Sources {
  std::unique_ptr<DsoptCheckpoint> checkpoint;
  ModelSpec spec;  // without tensors
  CheckpointMap map;
};

Sources OpenSources(TinyFamily family) {
  const std::string path = TemporaryPath("calibrate_in.dsopt");
  WriteFile(path, TinyModelBytes({.family = family}));
  Sources sources;
  Result<std::unique_ptr<DsoptCheckpoint>> checkpoint = DsoptCheckpoint::Open(path);
  REQUIRE(checkpoint.ok());
  sources.checkpoint = *std::move(checkpoint);
  sources.spec = sources.checkpoint->spec();
  sources.spec.tensors.clear();
  sources.spec.chunks.clear();
  Result<CheckpointMap> map = MapDsopt(sources.checkpoint.get(), DSOPT_F32);
  REQUIRE(map.ok());
  sources.map = *std::move(map);
  return sources;
}

LoadedFile Write(const Sources& sources, const char* name) {
  ModelSpec spec = sources.spec;
  for (const TensorSource& source : sources.map.tensors) DeclareTensors(source, &spec.tensors);
  const std::string path = TemporaryPath(name);
  Result<Writer> writer = Writer::Create(path, std::move(spec), {});
  INFO(std::string(writer.status().message()));
  REQUIRE(writer.ok());
  const CopyOptions copy;
  TensorCopier copier(*writer, copy, 0);
  for (const TensorSource& source : sources.map.tensors) REQUIRE(copier.Copy(source).ok());
  REQUIRE(writer->Finish().ok());
  return OpenFile(path);
}

std::vector<float> LogitsAfter(const LoadedFile& file, std::span<const dsopt_token> tokens) {
  const SessionPtr session = NewSession(file, DSOPT_PRECISION_REFERENCE, 1, 64);
  const StreamPtr stream = NewStream(session);
  Append(stream, tokens);
  Start(stream, 1);
  Finish(session, stream);
  return Logits(stream, file.info.vocab_size);
}

// Scales of one group, powers of two or anything around 1.
std::vector<float> RandomScale(size_t count, bool powers, std::mt19937* random) {
  std::vector<float> scale(count);
  for (float& value : scale) {
    value = powers ? std::ldexp(1.0f, static_cast<int>((*random)() % 7) - 3)
                   : std::exp(static_cast<float>((*random)() % 1000) / 500.0f - 1.0f);
  }
  return scale;
}

TEST_CASE("a folded model computes the same: to the bit with powers of two, to rounding with other scales",
          "[calibrate]") {
  const TinyFamily family = GENERATE(from_range(std::begin(kTinyFamilies), std::end(kTinyFamilies)));
  const std::vector<float> expected = LogitsAfter(Write(OpenSources(family), "plain.dsopt"), kPrompt);
  float most = 0;
  for (float logit : expected) most = std::max(most, std::fabs(logit));
  for (const bool powers : {true, false}) {
    std::mt19937 random(3);
    Sources sources = OpenSources(family);
    const std::vector<FoldGroup> groups = ListFoldGroups(sources.map.tensors);
    CHECK(groups.size() >= sources.spec.config.layers.size() * 2);
    for (const FoldGroup& group : groups) {
      size_t width = 0;
      for (const TensorSource& tensor : sources.map.tensors) {
        if (tensor.spec.name == group.norm) width = tensor.spec.shape[0];
      }
      REQUIRE(FoldScale(group, RandomScale(width, powers, &random), &sources.map.tensors).ok());
    }
    const std::vector<float> found = LogitsAfter(Write(sources, "folded.dsopt"), kPrompt);
    CAPTURE(sources.spec.config.architecture, powers);
    if (powers) CHECK(found == expected);
    for (size_t i = 0; i < expected.size(); ++i) REQUIRE(std::fabs(found[i] - expected[i]) <= 2e-5f * most);
  }
}

// A head that shows its input: the first outputs are the channels.
class Identity : public MatrixSource {
 public:
  Identity(uint64_t rows, uint64_t cols) : MatrixSource("identity", "F32", {rows, cols}) {
    form_.dtype = DSOPT_F32;
  }
  Status ReadValues(uint64_t first, uint64_t count, dsopt_dtype, uint8_t* dst) override {
    auto* values = reinterpret_cast<float*>(dst);
    for (uint64_t i = 0; i < count * cols(); ++i) values[i] = first + i / cols() == i % cols() ? 1.0f : 0.0f;
    return {};
  }
};

TEST_CASE("calibration computes what the runtime computes", "[calibrate]") {
  const TinyFamily family = GENERATE(from_range(std::begin(kTinyFamilies), std::end(kTinyFamilies)));
  Sources sources = OpenSources(family);
  const uint64_t hidden = sources.spec.config.hidden, vocab = sources.spec.config.vocab;
  if (sources.spec.config.tie_embeddings) {
    sources.spec.config.tie_embeddings = false;
    TensorSource& head = sources.map.tensors.emplace_back();
    head.spec.name = "head";
    head.spec.dtype = DSOPT_F32;
    head.spec.shape = {vocab, hidden};
  }
  for (TensorSource& tensor : sources.map.tensors) {
    if (tensor.spec.name != "head") continue;
    tensor.pieces.clear();
    tensor.pieces.push_back(std::make_unique<Identity>(vocab, hidden));
  }
  const std::string text = "the robot went to the kitchen and came back with a cup of tea";
  const Result<Calibration> found = tools::Calibrate({text, {1, 40}}, sources.spec, &sources.map.tensors);
  INFO(std::string(found.status().message()));
  REQUIRE(found.ok());
  const LoadedFile file = Write(sources, "identity.dsopt");
  std::vector<double> magnitude(hidden, 0.0);
  Tokens tokens = {file.info.bos};
  for (char c : text) tokens.push_back(static_cast<unsigned char>(c));
  tokens.resize(40);
  for (size_t count = 1; count <= tokens.size(); ++count) {
    const std::vector<float> logits = LogitsAfter(file, std::span(tokens).first(count));
    for (size_t c = 0; c < hidden; ++c) magnitude[c] += std::fabs(static_cast<double>(logits[c])) / 40;
  }
  const ChannelStats& stats = found->at("head");
  for (size_t c = 0; c < hidden; ++c) {
    CAPTURE(sources.spec.config.architecture, c, stats.mean_magnitude[c], magnitude[c]);
    REQUIRE(std::fabs(static_cast<double>(stats.mean_magnitude[c]) - magnitude[c]) <=
            1e-3 * magnitude[c] + 1e-4);
  }
}

TEST_CASE("where channels differ much, calibration makes int4 weights better", "[calibrate]") {
  Sources sources = OpenSources(TinyFamily::kLlama);
  Calibration calibration;
  std::mt19937 random(8);
  for (const FoldGroup& group : ListFoldGroups(sources.map.tensors)) {
    for (const std::string& name : group.consumers) {
      ChannelStats& stats = calibration[name];
      for (int c = 0; c < 64; ++c) {
        const float magnitude = c % 8 == 0 ? 20.0f : 0.1f;
        stats.mean_magnitude.push_back(magnitude);
        stats.mean_square.push_back(1.5f * magnitude * magnitude);
      }
    }
  }
  RecodeOptions options;
  options.weights = {DSOPT_ENCODING_INT4, 64, false};
  REQUIRE(FoldCalibration(options, &calibration, &sources.map.tensors).ok());
  const ChannelStats& after = calibration.at("layers.0.attn.q");
  const float ratio = after.mean_magnitude[0] / after.mean_magnitude[1];
  CAPTURE(ratio);
  CHECK(ratio < 100.0f);  // 200 before: loud channels were made larger in the matrix
  CHECK(after.mean_square[0] == Approx(1.5f * after.mean_magnitude[0] * after.mean_magnitude[0]).epsilon(1e-4));
}

TEST_CASE("calibration without a tokenizer or with too little text is refused", "[calibrate]") {
  Sources sources = OpenSources(TinyFamily::kLlama);
  const Status little = tools::Calibrate({"short", {1, 40}}, sources.spec, &sources.map.tensors).status();
  CHECK(little.code() == DSOPT_E_INVALID_ARGUMENT);
  CHECK_THAT(std::string(little.message()), Catch::Contains("5 tokens") && Catch::Contains("39"));
  sources.spec.tokenizer = {};
  CHECK(tools::Calibrate({"short", {1, 2}}, sources.spec, &sources.map.tensors).status().code() ==
        DSOPT_E_INVALID_ARGUMENT);
}

}  // namespace
}  // namespace dsopt::testing
