// calls_body.cc - the calls around the numbers: filling, pages, wrong moments, no memory.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <functional>

#include "bodies.h"

namespace dsopt::kernel_test {
namespace {

double FillExpected(uint64_t seed, uint64_t i, float mean, float stddev) {
  uint64_t z = seed + i / 2 * 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  z ^= z >> 31;
  const uint32_t h = static_cast<uint32_t>(i % 2 != 0 ? z >> 32 : z);
  const int s = static_cast<int>((h & 255) + (h >> 8 & 255) + (h >> 16 & 255) + (h >> 24));
  const volatile float n = static_cast<float>(s - 510) * 0.0067658754f;
  const volatile float scaled = stddev * n;
  const volatile float value = mean + scaled;
  return static_cast<double>(value);
}

}  // namespace

const ModelShape& SmallShape() {
  static const ModelShape shape{"small", 64, 50, {Block(AttentionShape{2, 1, 32}), Block(MlpShape{40})}};
  return shape;
}

void CheckFill(const Target& target) {
  // Seen through the model: the table is read back as logits of a head that picks columns out.
  INFO(target.Name());
  for (const dsopt_dtype dtype : {DSOPT_F32, DSOPT_BF16, DSOPT_F16}) {
    Random random(11);
    TestDevice device(target);
    ModelShape shape{"fill", 64, 200, {}, dtype};
    TestModel model(&device, shape, &random);
    TestWeight* head = model.weights.back().at("weight");
    const uint64_t seed = random();
    const float mean = 0.25f, stddev = 0.5f;
    REQUIRE(device.api->weight_fill(head->handle, seed, mean, stddev) == DSOPT_OK);
    double sum = 0.0, squares = 0.0;
    for (uint64_t i = 0; i < head->values.size(); ++i) {
      head->values[i] = Rounded(FillExpected(seed, i, mean, stddev), dtype);
      sum += head->values[i];
      squares += head->values[i] * head->values[i];
    }
    const double count = static_cast<double>(head->values.size());
    CHECK(std::fabs(sum / count - 0.25) < 0.05);
    CHECK(std::fabs(std::sqrt(squares / count - 0.0625) - 0.5) < 0.05);
    TestProgram program(&model, {}, &random);
    const std::vector<int32_t> tokens = {3, 77, 150};
    const auto logits = program.Run({{0, tokens}});
    const TestWeight& table = *model.weights[0].at("table");
    const TestWeight& norm = *model.weights.back().at("norm");
    for (size_t r = 0; r < tokens.size(); ++r) {
      const double* x = &table.values[static_cast<size_t>(tokens[r]) * 64];
      double mean_square = 1e-5;
      for (int i = 0; i < 64; ++i) mean_square += x[i] * x[i] / 64;
      for (uint32_t t = 0; t < shape.vocab; ++t) {
        double expected = 0.0;
        for (int i = 0; i < 64; ++i)
          expected += x[i] / std::sqrt(mean_square) * norm.values[i] * head->values[t * 64 + i];
        CAPTURE(dtype, r, t, expected, logits[r][t]);
        REQUIRE(std::fabs(static_cast<double>(logits[r][t]) - expected) < 1e-4);
      }
    }
  }
}

void CheckRepeatedCalls(const Target& target) {
  Random random(Seed() + 6);
  INFO("seed " << Seed() << ", " << target.Name());
  TestDevice device(target);
  const dsopt_backend_api* api = device.api;
  CHECK(std::strlen(api->device_report(device.device)) > 20);
  TestModel model(&device, SmallShape(), &random);
  TestProgram program(&model, {}, &random);
  uint64_t wait = 0;
  std::vector<float> logits(SmallShape().vocab);
  dsopt_batch_result result = {};
  result.struct_size = sizeof(result);
  CHECK(api->program_advance(program.handle, 0, &wait) == DSOPT_E_INVALID_STATE);
  CHECK(api->program_result(program.handle, &result) == DSOPT_E_INVALID_STATE);
  CHECK(api->program_read_logits(program.handle, 0, logits.data()) == DSOPT_E_INVALID_STATE);

  const auto first = program.Run({{0, {1, 2, 3}}});
  CHECK(api->program_read_logits(program.handle, 3, logits.data()) == DSOPT_E_INVALID_ARGUMENT);
  dsopt_batch batch = program.Prepare({{1, {4, 5}}});
  REQUIRE(api->program_begin(program.handle, &batch) == DSOPT_OK);
  CHECK(api->program_begin(program.handle, &batch) == DSOPT_E_INVALID_STATE);
  std::vector<uint8_t> page(program.desc.page_bytes), other(program.desc.page_bytes);
  CHECK(api->program_read_page(program.handle, 0, page.data()) == DSOPT_E_INVALID_STATE);
  CHECK(api->program_write_page(program.handle, 0, page.data()) == DSOPT_E_INVALID_STATE);
  CHECK(api->program_copy_page(program.handle, 1, 0) == DSOPT_E_INVALID_STATE);
  CHECK(api->program_read_logits(program.handle, 0, logits.data()) == DSOPT_E_INVALID_STATE);
  // A GPU may be done by then.
  const dsopt_status step = api->program_advance(program.handle, 1, &wait);
  CHECK((step == DSOPT_PENDING || (step == DSOPT_OK && target.api->name != std::string("cpu"))));
  CHECK(api->program_cancel(program.handle) == DSOPT_OK);
  CHECK(api->program_result(program.handle, &result) == DSOPT_E_INVALID_STATE);
  const auto again = program.Run({{2, {1, 2, 3}}}, true);
  for (int i = 0; i < 3; ++i) CHECK(std::memcmp(first[i].data(), again[i].data(), SmallShape().vocab * 4) == 0);

  for (size_t i = 0; i < page.size(); ++i) page[i] = static_cast<uint8_t>(i * 7);
  CHECK(api->program_write_page(program.handle, 5, page.data()) == DSOPT_OK);
  CHECK(api->program_copy_page(program.handle, 9, 5) == DSOPT_OK);
  CHECK(api->program_copy_page(program.handle, 9, 9) == DSOPT_OK);
  CHECK(api->program_read_page(program.handle, 9, other.data()) == DSOPT_OK);
  CHECK(page == other);
  CHECK(api->program_copy_page(program.handle, 9, program.desc.page_count) == DSOPT_E_INVALID_ARGUMENT);
  CHECK(api->program_write_page(program.handle, program.desc.page_count, page.data()) ==
        DSOPT_E_INVALID_ARGUMENT);

  dsopt_program_memory memory = {};
  memory.struct_size = sizeof(memory);
  REQUIRE(api->program_plan(device.device, &program.desc, &memory) == DSOPT_OK);
  CHECK(memory.cache_bytes == program.desc.page_count * program.desc.page_bytes);
  double rate = 0.0;
  CHECK(api->measure_read(device.device, 16 << 20, &rate) == DSOPT_OK);
  CHECK(rate > 1e7);
}

void CheckFailingAllocator(const Target& target) {
  Random random(Seed() + 8);
  INFO(target.Name());
  TestHost host;
  dsopt_device_options options = {};
  options.struct_size = sizeof(options);
  options.host = host.api();
  options.threads = target.threads;
  options.variant = target.variant.empty() ? nullptr : target.variant.c_str();
  // Tries with the first, second, ... request refused until one passes; each refusal leaves nothing behind.
  // holds: a refused write may leave pieces in the weight, which go with it.
  const auto each = [&](const char* what, const std::function<dsopt_status()>& attempt, int64_t at_least = 1,
                        bool holds = false) {
    for (int64_t request = 0;; ++request) {
      CAPTURE(what, request);
      REQUIRE(request < 1000);
      const int64_t live = host.live();
      host.FailAt(request);
      const dsopt_status status = attempt();
      host.FailAt(-1);
      if (status == DSOPT_OK) {
        CHECK(request >= at_least);
        return;
      }
      REQUIRE(status == DSOPT_E_OUT_OF_MEMORY);
      REQUIRE(host.TakeError().size() > 10);
      REQUIRE((host.live() == live || holds));
    }
  };
  dsopt_be_device* device = nullptr;
  each("device_open", [&] { return target.api->device_open(target.index, &options, &device); });
  dsopt_be_weight* weight = nullptr;
  const dsopt_weight_desc d = PlainDesc(DSOPT_WEIGHT_MATRIX, DSOPT_BF16, 1, 70, 66, "w");
  each("weight_create", [&] { return target.api->weight_create(device, &d, &weight); });
  // The last two need host memory only where the device is the host.
  const int64_t on_host = std::strcmp(target.api->name, "cpu") == 0 ? 1 : 0;
  each(
      "weight_fill", [&] { return target.api->weight_fill(weight, 1, 0.0f, 1.0f); }, on_host);
  target.api->weight_destroy(weight);
  dsopt_weight_desc lossless = d;
  lossless.encoding = DSOPT_ENCODING_LOSSLESS12;
  each("weight_create lossless12", [&] { return target.api->weight_create(device, &lossless, &weight); });
  each(
      "weight_fill lossless12", [&] { return target.api->weight_fill(weight, 1, 0.0f, 1.0f); }, on_host);
  target.api->weight_destroy(weight);
  const int64_t before = host.live();
  REQUIRE(target.api->weight_create(device, &lossless, &weight) == DSOPT_OK);
  std::vector<uint16_t> bits(70 * 66, 0x3f80);  // ones, and some too small for their neighbours
  for (size_t i = 0; i < bits.size(); i += 50) bits[i] = 0x2000;
  each(
      "a part of a run", [&] { return target.api->weight_write(weight, 0, 33, bits.data()); }, on_host);
  each(
      "all other elements", [&] { return target.api->weight_write(weight, 33, bits.size() - 33, &bits[33]); },
      on_host, true);
  target.api->weight_destroy(weight);
  CHECK(host.live() == before);
  each(
      "measure_read",
      [&] {
        double rate;
        return target.api->measure_read(device, 4 << 20, &rate);
      },
      on_host);
  target.api->device_close(device);
  CHECK(host.live() == 0);

  TestDevice other(target);
  TestModel model(&other, SmallShape(), &random);
  const dsopt_program_desc desc = MakeDesc(&model, {});
  for (int64_t request = 0;; ++request) {
    REQUIRE(request < 1000);
    const int64_t live = other.host.live();
    dsopt_be_program* program = nullptr;
    other.host.FailAt(request);
    const dsopt_status status = target.api->program_create(other.device, &desc, &program);
    other.host.FailAt(-1);
    if (status == DSOPT_OK) {
      // A batch allocates nothing.
      const int32_t tokens[] = {1, 2}, positions[] = {0, 1}, seq[] = {0, 0}, page = 3;
      dsopt_sample_row sample = {};
      sample.row = 1;
      sample.temperature = 1.0f;
      sample.top_p = 0.9f;
      dsopt_batch b = {sizeof(b), 2, 1, 1,       tokens,  positions, seq,     &page,  1,
                       0,         0, 0, &sample, nullptr, nullptr,   nullptr, nullptr};
      other.host.FailAt(0);
      REQUIRE(target.api->program_begin(program, &b) == DSOPT_OK);
      uint64_t wait;
      dsopt_status step;
      while ((step = target.api->program_advance(program, UINT64_MAX, &wait)) == DSOPT_PENDING) {
      }
      REQUIRE(step == DSOPT_OK);
      dsopt_batch_result result = {};
      result.struct_size = sizeof(result);
      REQUIRE(target.api->program_result(program, &result) == DSOPT_OK);
      other.host.FailAt(-1);
      target.api->program_destroy(program);
      CHECK(other.host.live() == live);
      return;
    }
    REQUIRE(status == DSOPT_E_OUT_OF_MEMORY);
    REQUIRE(other.host.TakeError().size() > 10);
    REQUIRE(other.host.live() == live);
  }
}

}  // namespace dsopt::kernel_test
