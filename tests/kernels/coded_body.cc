// coded_body.cc - weights of fewer bits: every encoding in every kind of weight against the reference;
// LOSSLESS12 to the bit against bf16; filling; refusals.
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>

#include "bodies.h"

namespace dsopt::kernel_test {
namespace {

// The kinds that take an encoding, in sizes that fit neither groups nor tiles.
std::vector<ModelShape> Shapes(const CodedShape& coded, uint32_t odd) {
  std::vector<ModelShape> shapes = {
      {"attention and mlp",
       130 + odd,
       171,
       {Block(AttentionShape{4, 2, 34, 0, true}), Block(MlpShape{166 + odd, DSOPT_ACT_SILU, true})}},
      {"tied", 322 + odd, 140, {Block(MlpShape{34 + odd})}, DSOPT_BF16, true, 1.5f},
      {"latent attention", 96, 70, {Block(MlaShape{3, 40, 72, 34, 16, 30})}},
      {"mixture with shared expert", 70 + odd, 66, {Block(MoeShape{6, 3, 40 + odd, 44 + odd})}},
  };
  for (ModelShape& shape : shapes) {
    shape.coded = coded;
    static const char* const names[] = {"plain ", "lossless12 ", "int8 ", "fp8 ", "int4 "};
    shape.name = names[coded.encoding] + std::to_string(coded.group_cols) +
                 (coded.has_offset ? " offsets, " : ", ") + shape.name;
  }
  return shapes;
}

std::vector<std::vector<float>> Logits(TestDevice* device, const ModelShape& shape,
                                       const ProgramOptions& options, uint64_t seed) {
  Random random(seed);
  TestModel model(device, shape, &random);
  TestProgram program(&model, options, &random);
  std::vector<int32_t> tokens;
  for (int i = 0; i < 20; ++i) tokens.push_back(static_cast<int32_t>(random() % shape.vocab));
  return program.Run({{0, tokens}, {1, {7}}});
}

void RequireSameBits(const std::vector<std::vector<float>>& a, const std::vector<std::vector<float>>& b) {
  REQUIRE(a.size() == b.size());
  for (size_t row = 0; row < a.size(); ++row) {
    for (size_t t = 0; t < a[row].size(); ++t) {
      CAPTURE(row, t, a[row][t], b[row][t]);
      REQUIRE(std::memcmp(&a[row][t], &b[row][t], sizeof(float)) == 0);
    }
  }
}

}  // namespace

std::vector<ModelShape> CodedShapes() {
  const std::pair<CodedShape, uint32_t> codings[] = {
      {{DSOPT_ENCODING_INT8, 0, 0, false, false}, 1},
      {{DSOPT_ENCODING_INT8, 1, 48, true, true}, 1},
      {{DSOPT_ENCODING_FP8, 0, 0, false, false}, 1},
      {{DSOPT_ENCODING_FP8, 128, 128, false, false}, 0},
      {{DSOPT_ENCODING_INT4, 0, 32, false, true}, 0},
      {{DSOPT_ENCODING_INT4, 1, 64, true, true}, 0},
      {{DSOPT_ENCODING_INT4, 1, 128, true, false}, 0},
      {{DSOPT_ENCODING_INT4, 0, 128, false, false}, 0},
      {{DSOPT_ENCODING_LOSSLESS12, 0, 0, false, false, 0.01}, 1}};
  std::vector<ModelShape> all;
  for (const auto& [coding, odd] : codings) {
    for (ModelShape& shape : Shapes(coding, odd)) all.push_back(std::move(shape));
  }
  return all;
}

void CheckLosslessBits(const Target& target) {
  const uint64_t seed = Seed() + 20;
  for (const double odd_values : {0.002, 0.05, 1.0}) {  // the last is kept as bf16
    for (ModelShape shape : Shapes({DSOPT_ENCODING_LOSSLESS12, 0, 0, false, false, odd_values}, 1)) {
      ModelShape plain = shape;
      plain.coded.encoding = DSOPT_ENCODING_PLAIN;
      INFO("seed " << Seed() << ", " << target.Name() << ", " << shape.name << ", odd values " << odd_values);
      TestDevice device(target);
      for (const dsopt_precision precision : {DSOPT_PRECISION_REFERENCE, DSOPT_PRECISION_FAST}) {
        ProgramOptions options;
        options.precision = precision;
        RequireSameBits(Logits(&device, shape, options, seed), Logits(&device, plain, options, seed));
      }
    }
  }
}

namespace {

// Fills the head of a model without blocks and gives logits of a few tokens.
std::vector<std::vector<float>> FilledHead(TestDevice* device, const CodedShape& coded, float mean,
                                           float stddev) {
  Random random(5);
  ModelShape shape{"fill", 256, 300, {}};
  TestModel model(device, shape, &random);
  TestWeight head;
  head.desc = PlainDesc(DSOPT_WEIGHT_MATRIX, DSOPT_BF16, 1, shape.vocab, shape.hidden, "head");
  if (coded.encoding != DSOPT_ENCODING_PLAIN) MakeCoded(coded, 1.0, &head, &random);
  REQUIRE(device->api->weight_create(device->device, &head.desc, &head.handle) == DSOPT_OK);
  REQUIRE(device->api->weight_fill(head.handle, 99, mean, stddev) == DSOPT_OK);
  model.blocks.back().u.head.weight = head.handle;
  std::vector<std::vector<float>> logits;
  {
    Random same(6);
    TestProgram program(&model, {}, &same);
    logits = program.Run({{0, {3, 77, 150}}});
  }
  device->api->weight_destroy(head.handle);
  return logits;
}

}  // namespace

void CheckCodedFill(const Target& target) {
  INFO(target.Name());
  TestDevice device(target);
  const struct {
    CodedShape coded;
    double error;  // of a weight, relative to its deviation: half a step, evenly spread
  } cases[] = {{{DSOPT_ENCODING_LOSSLESS12, 0, 0, false, false}, 0.0},
               {{DSOPT_ENCODING_INT8, 0, 0, false, false}, 3.45 / 127 / std::sqrt(12)},
               {{DSOPT_ENCODING_FP8, 128, 128, false, false}, 0.04},
               {{DSOPT_ENCODING_INT4, 0, 64, false, true}, 3.45 / 7 / std::sqrt(12)},
               {{DSOPT_ENCODING_INT4, 0, 32, true, true}, 3.45 / 7 / std::sqrt(12)}};
  for (const auto& [coded, error] : cases) {
    CAPTURE(coded.encoding, coded.has_offset);
    const float mean = coded.has_offset ? 0.25f : 0.0f;
    const auto expected = FilledHead(&device, {}, mean, 0.02f), found = FilledHead(&device, coded, mean, 0.02f);
    double errors = 0, squares = 0;
    for (size_t r = 0; r < found.size(); ++r) {
      double average = 0;  // what a mean other than 0 adds to all logits of a row
      for (float logit : expected[r])
        average += static_cast<double>(logit) / static_cast<double>(expected[r].size());
      for (size_t t = 0; t < found[r].size(); ++t) {
        errors += std::pow(static_cast<double>(found[r][t]) - static_cast<double>(expected[r][t]), 2);
        squares += std::pow(static_cast<double>(expected[r][t]) - average, 2);
      }
    }
    CHECK(std::sqrt(errors / squares) <= 1.3 * error);
    if (error == 0.0) RequireSameBits(found, expected);
  }
}

void CheckLosslessRetries(const Target& target) {
  INFO("seed " << Seed() << ", " << target.Name());
  for (const double odd_values : {0.01, 1.0}) {  // the last is kept as bf16
    CAPTURE(odd_values);
    TestDevice device(target);
    Random random(Seed() + 21);
    ModelShape shape{"retries", 258, 130, {}};
    shape.coded = {DSOPT_ENCODING_PLAIN, 0, 0, false, false, odd_values};
    TestModel model(&device, shape, &random);
    const auto logits = [&](dsopt_be_weight* head) {
      model.blocks.back().u.head.weight = head;
      Random same(6);
      TestProgram program(&model, {}, &same);
      return program.Run({{0, {3, 77, 129}}});
    };
    TestWeight plain, packed;
    plain.desc = PlainDesc(DSOPT_WEIGHT_MATRIX, DSOPT_BF16, 1, shape.vocab, shape.hidden, "head");
    MakeCoded(shape.coded, 1.0, &plain, &random);
    std::vector<uint16_t> bits;
    for (double value : plain.values) bits.push_back(ToBf16Bits(static_cast<float>(value)));
    packed.desc = plain.desc;
    packed.desc.encoding = DSOPT_ENCODING_LOSSLESS12;
    REQUIRE(device.api->weight_create(device.device, &plain.desc, &plain.handle) == DSOPT_OK);
    REQUIRE(device.api->weight_write(plain.handle, 0, bits.size(), bits.data()) == DSOPT_OK);
    REQUIRE(device.api->weight_create(device.device, &packed.desc, &packed.handle) == DSOPT_OK);
    int failures = 0;
    for (const auto& [first, last] :
         {std::pair<size_t, size_t>{0, 33}, {100, 5000}, {33, 100}, {5000, bits.size()}}) {
      dsopt_status status = DSOPT_E_OUT_OF_MEMORY;
      for (int64_t request = 0; status != DSOPT_OK; ++request) {
        REQUIRE(request < 100);
        device.host.FailAt(request);
        status = device.api->weight_write(packed.handle, first, last - first, &bits[first]);
        device.host.FailAt(-1);
        REQUIRE((status == DSOPT_OK || status == DSOPT_E_OUT_OF_MEMORY));
        failures += status != DSOPT_OK;
      }
    }
    if (std::strcmp(target.api->name, "cpu") == 0) CHECK(failures >= 3);
    RequireSameBits(logits(packed.handle), logits(plain.handle));
    // Nothing comes twice.
    if (odd_values < 1.0) {
      CHECK(device.api->weight_write(packed.handle, 0, 1, bits.data()) == DSOPT_E_INVALID_STATE);
      CHECK(device.api->weight_fill(packed.handle, 1, 0.0f, 1.0f) == DSOPT_E_INVALID_STATE);
      CHECK_THAT(device.host.TakeError(), Catch::Contains("head"));
      RequireSameBits(logits(packed.handle), logits(plain.handle));
    }
    device.api->weight_destroy(packed.handle);
    device.api->weight_destroy(plain.handle);
  }
}

void CheckCodedCalls(const Target& target) {
  INFO(target.Name());
  TestDevice device(target);
  const dsopt_backend_api* api = device.api;
  const auto desc = [](dsopt_encoding encoding, dsopt_dtype dtype, uint32_t group_rows, uint32_t group_cols) {
    dsopt_weight_desc d = PlainDesc(DSOPT_WEIGHT_MATRIX, dtype, 1, 256, 256, "coded");
    d.encoding = encoding;
    d.group_rows = group_rows;
    d.group_cols = group_cols;
    return d;
  };
  const auto refused = [&](dsopt_weight_desc d, dsopt_status expected, const char* what) {
    CAPTURE(what);
    uint64_t bytes = 0;
    dsopt_be_weight* weight = nullptr;
    CHECK(api->weight_bytes(device.device, &d, &bytes) == expected);
    CHECK_THAT(device.host.TakeError(), Catch::Contains("coded"));
    CHECK(api->weight_create(device.device, &d, &weight) == expected);
    CHECK(weight == nullptr);
  };
  const dsopt_status wrong = DSOPT_E_INVALID_ARGUMENT, never = DSOPT_E_UNSUPPORTED;
  refused(desc(DSOPT_ENCODING_LOSSLESS12, DSOPT_F16, 0, 0), wrong, "lossless12 of f16");
  refused(desc(DSOPT_ENCODING_INT8, DSOPT_U8, 0, 0), wrong, "int8 of u8");
  refused(desc(DSOPT_ENCODING_INT8, DSOPT_I8, 0, 24), wrong, "int8 in groups of 24");
  refused(desc(DSOPT_ENCODING_FP8, DSOPT_F8_E4M3, 1, 128), wrong, "fp8 in slices of rows");
  refused(desc(DSOPT_ENCODING_INT4, DSOPT_U8, 0, 0), wrong, "int4 rows");
  refused(desc(DSOPT_ENCODING_INT4, DSOPT_I8, 0, 32), wrong, "int4 of i8");
  refused(desc(static_cast<dsopt_encoding>(5), DSOPT_U8, 0, 32), never, "unknown encoding");
  dsopt_weight_desc d = desc(DSOPT_ENCODING_INT4, DSOPT_U8, 0, 32);
  d.cols = 255;
  refused(d, wrong, "int4 rows of an odd length");
  d = desc(DSOPT_ENCODING_FP8, DSOPT_F8_E4M3, 0, 0);
  d.has_offset = 1;
  refused(d, wrong, "fp8 with offsets");
  for (const dsopt_weight_kind kind : {DSOPT_WEIGHT_ROUTER, DSOPT_WEIGHT_TRANSPOSED}) {
    d = desc(DSOPT_ENCODING_INT8, DSOPT_I8, 0, 0);
    d.kind = kind;
    refused(d, never, "kind");
  }
  d = desc(DSOPT_ENCODING_INT8, DSOPT_I8, 0, 0);
  d.batch = 4;
  refused(d, never, "a matrix per head");

  const float scales[4] = {1, 1, 1, 1};
  const uint8_t bytes[64] = {};
  const auto write_refused = [&](dsopt_status status, const char* what) {
    CAPTURE(what);
    CHECK(status == wrong);
    CHECK_THAT(device.host.TakeError(), Catch::Contains("coded"));
  };
  d = desc(DSOPT_ENCODING_INT4, DSOPT_U8, 0, 128);
  d.has_offset = 1;
  dsopt_be_weight* weight = nullptr;
  REQUIRE(api->weight_create(device.device, &d, &weight) == DSOPT_OK);
  write_refused(api->weight_write(weight, 1, 2, bytes), "int4 from an odd element");
  write_refused(api->weight_write(weight, 0, 3, bytes), "an odd number of int4");
  write_refused(api->weight_write(weight, 256 * 256, 2, bytes), "behind the end");
  write_refused(api->weight_write_scales(weight, 0, 4, scales, nullptr), "no offsets");
  write_refused(api->weight_write_scales(weight, 0, 4, nullptr, scales), "no scales");
  write_refused(api->weight_write_scales(weight, 510, 4, scales, scales), "scales behind the end");
  write_refused(api->weight_write_scales(weight, UINT64_MAX, 2, scales, scales), "scales that wrap around");
  CHECK(api->weight_write_scales(weight, 508, 4, scales, scales) == DSOPT_OK);
  api->weight_destroy(weight);
  d = PlainDesc(DSOPT_WEIGHT_MATRIX, DSOPT_BF16, 1, 8, 8, "not coded");
  REQUIRE(api->weight_create(device.device, &d, &weight) == DSOPT_OK);
  write_refused(api->weight_write_scales(weight, 0, 1, scales, nullptr), "scales of a plain weight");
  api->weight_destroy(weight);
}

void CheckCodedBytes(const Target& target) {
  TestDevice device(target);
  const auto bits = [&](dsopt_encoding encoding, dsopt_dtype dtype, uint32_t group_cols,
                        dsopt_dtype scale_dtype) {
    dsopt_weight_desc d = PlainDesc(DSOPT_WEIGHT_MATRIX, dtype, 1, 2048, 2048, "w");
    d.encoding = encoding;
    d.group_cols = group_cols;
    d.scale_dtype = scale_dtype;
    uint64_t bytes = 0;
    REQUIRE(device.api->weight_bytes(device.device, &d, &bytes) == DSOPT_OK);
    return static_cast<double>(bytes) * 8 / (2048.0 * 2048.0);
  };
  CHECK(bits(DSOPT_ENCODING_LOSSLESS12, DSOPT_BF16, 0, DSOPT_F32) < 12.2);
  CHECK(bits(DSOPT_ENCODING_INT8, DSOPT_I8, 0, DSOPT_F32) < 8.1);
  CHECK(bits(DSOPT_ENCODING_FP8, DSOPT_F8_E4M3, 0, DSOPT_F32) < 8.1);
  CHECK(bits(DSOPT_ENCODING_INT4, DSOPT_U8, 128, DSOPT_F16) < 4.2);
  CHECK(bits(DSOPT_ENCODING_INT4, DSOPT_U8, 32, DSOPT_F16) < 4.6);
}

}  // namespace dsopt::kernel_test
