// The four families through the CPU backend's table: from file bytes to logits.
#include <catch2/catch.hpp>
#include <cmath>
#include <memory>
#include <vector>

#include "base/clock.h"
#include "device/device.h"
#include "format/writer.h"
#include "model/loader.h"
#include "tests/tiny_model.h"

namespace dsopt {
namespace {

using testing::TinyFamily;
using testing::TinyModelBytes;
using testing::TinySpec;

constexpr uint32_t kRows = 70;  // more than a page
constexpr uint32_t kPages = 2;

std::unique_ptr<Backends> OpenBackends() {
  BackendOptions options;
  options.allocator = DefaultAllocator();
  options.cpu_threads = 2;
  options.scan = false;
  Result<std::unique_ptr<Backends>> backends = Backends::Create(options);
  INFO(std::string(backends.status().message()));
  REQUIRE(backends.ok());
  return *std::move(backends);
}

std::shared_ptr<Model> Load(Backends& backends, const std::vector<uint8_t>& file) {
  std::unique_ptr<Source> source = MakeMemorySource(file);
  Result<std::shared_ptr<Model>> model = Model::FromSource(*source, DefaultAllocator(), Logger());
  INFO(std::string(model.status().message()));
  REQUIRE(model.ok());
  Result<std::shared_ptr<Device>> device = backends.Open("cpu", (*model)->raw_weight_bytes());
  REQUIRE(device.ok());
  Result<std::unique_ptr<ModelLoader>> loader =
      ModelLoader::Create(*model, std::move(source), *device, DefaultAllocator(), LoadOptions());
  INFO(std::string(loader.status().message()));
  REQUIRE(loader.ok());
  bool done = false;
  const Status status = (*loader)->Step(UINT64_MAX, &done, nullptr);
  INFO(std::string(status.message()));
  REQUIRE(done);
  return *std::move(model);
}

// A program of one sequence.
class Program {
 public:
  Program(const Model& model, dsopt_precision precision) : model_(model), api_(model.device()->api()) {
    Result<std::unique_ptr<const ProgramPlan>> plan = model.Plan(DSOPT_DTYPE_DEFAULT, precision);
    REQUIRE(plan.ok());
    dsopt_program_desc desc = {};
    desc.struct_size = sizeof(desc);
    (*plan)->Fill(&desc);
    desc.max_rows = kRows;
    desc.max_seqs = 1;
    desc.max_logit_rows = 1;
    desc.max_pages_per_seq = kPages;
    desc.page_count = kPages;
    const Status status =
        BackendStatus(api_.program_create(model.device()->handle(), &desc, &program_), "program_create");
    INFO(std::string(status.message()));
    REQUIRE(status.ok());
  }
  ~Program() { api_.program_destroy(program_); }

  // Appends tokens at their positions; the logits of the last one.
  std::vector<float> Run(const std::vector<int32_t>& tokens, int32_t first) {
    const auto rows = static_cast<uint32_t>(tokens.size());
    std::vector<int32_t> positions(rows), row_seq(rows, 0);
    for (uint32_t i = 0; i < rows; ++i) positions[i] = first + static_cast<int32_t>(i);
    const int32_t pages[kPages] = {1, 0};
    dsopt_sample_row sample = {};
    sample.row = static_cast<int32_t>(rows) - 1;
    dsopt_batch batch = {};
    batch.struct_size = sizeof(batch);
    batch.rows = rows;
    batch.seqs = 1;
    batch.logit_rows = 1;
    batch.tokens = tokens.data();
    batch.positions = positions.data();
    batch.row_seq = row_seq.data();
    batch.page_table = pages;
    batch.page_table_stride = kPages;
    batch.sample = &sample;
    REQUIRE(api_.program_begin(program_, &batch) == DSOPT_OK);
    uint64_t wait_us = 0;
    REQUIRE(api_.program_advance(program_, UINT64_MAX, &wait_us) == DSOPT_OK);
    std::vector<float> logits(model_.config().vocab);
    REQUIRE(api_.program_read_logits(program_, 0, logits.data()) == DSOPT_OK);
    return logits;
  }

 private:
  const Model& model_;
  const dsopt_backend_api& api_;
  dsopt_be_program* program_ = nullptr;
};

std::vector<int32_t> Tokens() {
  std::vector<int32_t> tokens;
  for (uint32_t i = 0; i < kRows; ++i) tokens.push_back(static_cast<int32_t>((i * 37 + 11) % 256));
  return tokens;
}

double LargestDifference(const std::vector<float>& a, const std::vector<float>& b) {
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(double{a[i]} - double{b[i]}));
  return largest;
}

double LargestMagnitude(const std::vector<float>& values) {
  return LargestDifference(values, std::vector<float>(values.size()));
}

TEST_CASE("a batch gives every family the logits that single tokens give", "[model]") {
  const std::unique_ptr<Backends> backends = OpenBackends();
  for (TinyFamily family : testing::kTinyFamilies) {
    const std::shared_ptr<Model> model = Load(*backends, TinyModelBytes({.family = family}));
    CAPTURE(model->config().architecture);
    CHECK(model->weight_bytes() > 0);
    const std::vector<int32_t> tokens = Tokens();
    Program whole(*model, DSOPT_PRECISION_REFERENCE), single(*model, DSOPT_PRECISION_REFERENCE);
    const std::vector<float> expected = whole.Run(tokens, 0);
    std::vector<float> logits;
    for (uint32_t i = 0; i < kRows; ++i) logits = single.Run({tokens[i]}, static_cast<int32_t>(i));
    CHECK(LargestMagnitude(expected) > 0.1);
    CHECK(LargestMagnitude(expected) < 1000);
    CHECK(LargestDifference(expected, logits) < 1e-3);
    Program fast(*model, DSOPT_PRECISION_FAST);
    CHECK(LargestDifference(expected, fast.Run(tokens, 0)) < 0.1 * LargestMagnitude(expected));
  }
}

TEST_CASE("the context changes the logits of every family", "[model]") {
  const std::unique_ptr<Backends> backends = OpenBackends();
  for (TinyFamily family : testing::kTinyFamilies) {
    const std::shared_ptr<Model> model = Load(*backends, TinyModelBytes({.family = family}));
    CAPTURE(model->config().architecture);
    Program program(*model, DSOPT_PRECISION_REFERENCE);
    std::vector<int32_t> tokens = Tokens();
    const std::vector<float> before = program.Run(tokens, 0);
    tokens[kRows - 20] ^= 1;
    CHECK(LargestDifference(before, program.Run(tokens, 0)) > 1e-4);
  }
}

TEST_CASE("a model of synthetic weights runs and repeats", "[model]") {
  const std::unique_ptr<Backends> backends = OpenBackends();
  for (TinyFamily family : testing::kTinyFamilies) {
    ModelSpec spec = TinySpec({.family = family});
    for (TensorSpec& tensor : spec.tensors) {
      tensor.synthetic = true;
      tensor.synthetic_seed = 5 + tensor.raw_bytes;
      tensor.synthetic_mean = tensor.shape.size() == 1 ? 1.0f : 0.0f;
      tensor.synthetic_stddev = tensor.shape.size() == 1 ? 0.0f : 0.1f;
    }
    Result<Writer> writer = Writer::Create("", std::move(spec), WriterOptions());
    REQUIRE(writer.ok());
    REQUIRE(writer->Finish().ok());
    const std::vector<uint8_t> file = writer->TakeBytes();
    const std::shared_ptr<Model> first = Load(*backends, file), second = Load(*backends, file);
    CAPTURE(first->config().architecture);
    const std::vector<float> logits = Program(*first, DSOPT_PRECISION_FAST).Run(Tokens(), 0);
    CHECK(LargestMagnitude(logits) > 0.01);
    CHECK(std::isfinite(LargestMagnitude(logits)));
    CHECK(Program(*second, DSOPT_PRECISION_FAST).Run(Tokens(), 0) == logits);
  }
}

}  // namespace
}  // namespace dsopt
