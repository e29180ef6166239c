// Quantised models as files: every tensor of the converted file, decoded, equals the float32 values that the
// checkpoint means.
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <fstream>

#include "base/float_types.h"
#include "base/memory.h"
#include "import/convert.h"
#include "tests/quantised/models.h"
#include "tests/unit/import/checkpoint_writer.h"
#include "tests/unit/import/converted_file.h"

namespace dsopt {
namespace {

using test::Converted;
using testing::CanonicalValues;
using testing::GgufModel;
using testing::GgufModelOptions;
using testing::HfFormat;
using testing::HfModelOptions;
using testing::QuantisedFamily;
using testing::QuantisedModel;

// Values of encoded and F32 tensors agree to float32 rounding, those of bf16 and f16 to half a unit.
void CheckValues(Converted* file, const CanonicalValues& expected) {
  for (const auto& [name, values] : expected) {
    CAPTURE(name);
    const TensorSpec& tensor = file->Find(name);
    const std::vector<float> found = file->Decoded(name);
    REQUIRE(found.size() == values.size());
    float most = 0;
    for (float value : values) most = std::max(most, std::abs(value));
    size_t wrong = 0;
    for (size_t i = 0; i < values.size(); ++i) {
      const float unit = tensor.dtype == DSOPT_BF16  ? std::abs(values[i]) / 256
                         : tensor.dtype == DSOPT_F16 ? std::abs(values[i]) / 2048
                                                     : 2e-7f * most;
      if (!(std::abs(found[i] - values[i]) <= unit)) ++wrong;
    }
    CHECK(wrong == 0);
  }
}

std::string Form(const Converted& file, const std::string& name) {
  const TensorSpec& tensor = file.Find(name);
  if (tensor.encoding == DSOPT_ENCODING_PLAIN) return TypeName(tensor.dtype);
  return Format("%s/%ux%u%s", EncodingName(tensor.encoding), tensor.group_rows, tensor.group_cols,
                tensor.has_offset ? "+" : "");
}

ConvertSummary ConvertOrFail(const std::filesystem::path& input, const std::filesystem::path& output,
                             dsopt_dtype dtype = DSOPT_DTYPE_DEFAULT) {
  ConvertOptions options;
  options.dtype = dtype;
  Result<ConvertSummary> summary = Convert(input, output, options);
  INFO(std::string(summary.status().message()));
  REQUIRE(summary.ok());
  return *std::move(summary);
}

// Converts as it is and to f32, checks all values, and gives the first.
Converted CheckGguf(const test::TempFolder& folder, const GgufModel& model) {
  const std::filesystem::path input = folder.path() / "model.gguf", output = folder.path() / "out.dsopt",
                              floats = folder.path() / "f32.dsopt";
  test::WriteText(input, {model.files[0].begin(), model.files[0].end()});
  CHECK(ConvertOrFail(input, output).ignored.empty());
  ConvertOrFail(input, floats, DSOPT_F32);
  Converted plain(floats);
  CheckValues(&plain, model.values);
  CHECK(plain.spec().config.kinds == model.config.kinds);
  Converted converted(output);
  CheckValues(&converted, model.values);
  return converted;
}

TEST_CASE("every GGUF type becomes the encoding that holds it exactly", "[import]") {
  struct Case {
    const char *type, *form;
    dsopt_dtype scales;
  };
  const Case cases[] = {
      {"F32", "f32", DSOPT_F32},         {"F16", "f16", DSOPT_F32},         {"BF16", "bf16", DSOPT_F32},
      {"Q8_0", "int8/0x32", DSOPT_F16},  {"Q4_0", "int4/0x32", DSOPT_F16},  {"Q4_1", "int4/0x32+", DSOPT_F32},
      {"Q5_0", "int8/0x32", DSOPT_F16},  {"Q5_1", "int8/0x32+", DSOPT_F16}, {"Q4_K", "int4/0x32+", DSOPT_F32},
      {"Q5_K", "int8/0x32+", DSOPT_F32}, {"Q6_K", "int8/0x16", DSOPT_F32}};
  for (const Case& c : cases) {
    CAPTURE(c.type);
    GgufModelOptions options;
    options.layers = 1;
    options.type = [&](const std::string&) { return c.type; };
    test::TempFolder folder;
    const Converted file = CheckGguf(folder, testing::MakeGgufModel(options));
    for (const char* name : {"embed", "layers.0.attn.q", "layers.0.mlp.down", "head"}) {
      CHECK(Form(file, name) == c.form);
      if (HasScales(file.Find(name).encoding)) CHECK(file.Find(ScalesName(name)).dtype == c.scales);
    }
    CHECK(Form(file, "layers.0.attn.norm") == "f32");
  }
}

TEST_CASE("GGUF tensors of one weight share the encoding that holds them all, and the summary says so",
          "[import]") {
  GgufModelOptions options;
  options.biases = true;
  options.tied = true;
  options.type = [](const std::string& suffix) {  // as llama.cpp mixes them in Q4_K_M
    if (suffix == "attn.v" || suffix == "mlp.down" || suffix == "embed") return "Q6_K";
    if (suffix == "mlp.gate") return "Q8_0";
    if (suffix == "mlp.up") return "F16";
    return "Q4_K";
  };
  test::TempFolder folder;
  const GgufModel model = testing::MakeGgufModel(options);
  const Converted file = CheckGguf(folder, model);
  for (const char* name : {"layers.1.attn.q", "layers.1.attn.k", "layers.1.attn.v"}) {
    CHECK(Form(file, name) == "int8/0x16+");
  }
  CHECK(Form(file, "layers.1.attn.o") == "int4/0x32+");
  CHECK(Form(file, "layers.1.mlp.down") == "int8/0x16");
  CHECK(Form(file, "layers.1.mlp.gate") == "bf16");
  CHECK(Form(file, "layers.1.mlp.up") == "f16");
  CHECK(file.spec().config.tie_embeddings);
  const ConvertSummary summary = ConvertOrFail(folder.path() / "model.gguf", folder.path() / "again.dsopt");
  const auto has = [&](const FormSummary& row) {
    return std::find(summary.forms.begin(), summary.forms.end(), row) != summary.forms.end();
  };
  CHECK(has({"Q4_K beside Q6_K", "int8, groups of 16, offsets", 4, 2 * (256 + 128) * 256}));
  CHECK(has({"Q8_0 beside F16", "bf16", 2, 2 * 512 * 256}));
}

TEST_CASE("a GGUF vocabulary, template and licence come along", "[import]") {
  test::TempFolder folder;
  const Converted file = CheckGguf(folder, testing::MakeGgufModel({}));
  const ModelSpec& spec = file.spec();
  CHECK(spec.tokenizer.kind == TokenizerKind::kScoreBpe);
  CHECK(spec.tokenizer.bos == 1);
  CHECK(spec.tokenizer.eos == 2);
  CHECK(spec.tokenizer.prefix == std::vector<int32_t>{1});
  REQUIRE(spec.tokenizer.pieces.size() == 269);
  CHECK(spec.tokenizer.pieces[267] == "<|eot_id|>");
  CHECK(spec.tokenizer.end_tokens == std::vector<int32_t>{2, 267});  // the second by its name
  REQUIRE(spec.tokenizer.added.size() == 5);
  CHECK(spec.tokenizer.added[4].id == 268);
  CHECK_FALSE(spec.tokenizer.added[4].special);
  CHECK(spec.chat_template.starts_with("{{ bos_token }}"));
  CHECK(spec.metadata.at("license") == "mit");
  CHECK(spec.metadata.at("source") == "model.gguf");
}

TEST_CASE("GGUF files of every family and of older layouts keep their values", "[import]") {
  GgufModelOptions options;
  SECTION("Mistral, a window") { options.family = QuantisedFamily::kMistral; }
  SECTION("version 2") { options.version = 2; }
  SECTION("Mixtral, experts in one tensor") { options.family = QuantisedFamily::kMixtral; }
  SECTION("Mixtral, a tensor per expert") {
    options.family = QuantisedFamily::kMixtral;
    options.split_experts = true;
  }
  SECTION("DeepSeek-V2, kv_b whole") { options.family = QuantisedFamily::kDeepseekV2; }
  SECTION("DeepSeek-V2, kv_b in two halves") {
    options.family = QuantisedFamily::kDeepseekV2;
    options.latent_halves = true;
  }
  test::TempFolder folder;
  const GgufModel model = testing::MakeGgufModel(options);
  const Converted file = CheckGguf(folder, model);
  CHECK(file.spec().config.architecture == model.config.architecture);
  CHECK(file.spec().config.layers == model.config.layers);
  if (options.family == QuantisedFamily::kDeepseekV2) {
    CHECK(Form(file, "layers.1.attn.kv_b") == "bf16");
    CHECK(Form(file, "layers.1.moe.gate") == "int8/0x32");
    CHECK(Form(file, "layers.1.moe.router") == "f32");
  }
}

TEST_CASE("a GGUF model in several files is read from the first", "[import]") {
  test::TempFolder folder;
  GgufModelOptions options;
  options.files = 2;
  const GgufModel model = testing::MakeGgufModel(options);
  const std::filesystem::path first = folder.path() / "m-00001-of-00002.gguf",
                              second = folder.path() / "m-00002-of-00002.gguf";
  test::WriteText(first, {model.files[0].begin(), model.files[0].end()});
  test::WriteText(second, {model.files[1].begin(), model.files[1].end()});
  ConvertOrFail(first, folder.path() / "out.dsopt");
  Converted file(folder.path() / "out.dsopt");
  CheckValues(&file, model.values);
  const Status wrong = Convert(second, folder.path() / "wrong.dsopt", {}).status();
  CHECK(wrong.code() == DSOPT_E_UNSUPPORTED);
  CHECK_THAT(std::string(wrong.message()), Catch::Contains("2 of 2"));
  std::filesystem::remove(second);
  CHECK_FALSE(Convert(first, folder.path() / "wrong.dsopt", {}).ok());
}

TEST_CASE("GPTQ, AWQ, fp8 and int8 checkpoints keep their values", "[import]") {
  struct Case {
    const char* what;
    HfModelOptions options;
    const char* form;
  };
  const auto linear = [](HfFormat format, testing::LinearOptions options) {
    return HfModelOptions{format, options, 1};
  };
  const Case cases[] = {
      {"gptq", linear(HfFormat::kGptq, {.group_size = 32}), "int4/0x32+"},
      {"gptq symmetric", linear(HfFormat::kGptq, {.group_size = 128, .symmetric = true}), "int4/0x128"},
      {"gptq v2", linear(HfFormat::kGptqV2, {.group_size = 64}), "int4/0x64+"},
      {"gptq groups of 256", linear(HfFormat::kGptq, {.group_size = 256}), "int4/0x128+"},
      {"gptq groups of 16", linear(HfFormat::kGptq, {.group_size = 16}), "int8/0x16+"},
      {"gptq groups of 8", linear(HfFormat::kGptq, {.group_size = 8}), "bf16"},
      {"gptq act-order", linear(HfFormat::kGptq, {.group_size = 32, .act_order = true}), "bf16"},
      {"gptq 8 bits", linear(HfFormat::kGptq, {.bits = 8, .group_size = 64}), "int8/0x64+"},
      {"gptq 8 bits symmetric", linear(HfFormat::kGptqV2, {.bits = 8, .group_size = 32, .symmetric = true}),
       "int8/0x32"},
      {"gptq 8 bits, all 256 codes", linear(HfFormat::kGptq, {.bits = 8, .group_size = 64, .all_codes = true}),
       "bf16"},
      {"awq", linear(HfFormat::kAwq, {.group_size = 128}), "int4/0x128+"},
      {"awq symmetric", linear(HfFormat::kAwq, {.group_size = 32, .symmetric = true}), "int4/0x32"},
      {"fp8 tensor", {HfFormat::kFp8Tensor, {}, 1}, "fp8/0x0"},
      {"fp8 rows", {HfFormat::kFp8Rows, {}, 1}, "fp8/0x0"},
      {"fp8 blocks", {HfFormat::kFp8Blocks, {}, 1}, "fp8/128x128"},
      {"int8 rows", {HfFormat::kInt8Rows, {}, 1}, "int8/0x0"},
      {"int8 rows, all 256 codes", linear(HfFormat::kInt8Rows, {.all_codes = true}), "bf16"}};
  for (const Case& c : cases) {
    CAPTURE(c.what);
    test::TempFolder folder;
    const QuantisedModel model = testing::WriteHfModel(c.options, folder.path());
    const ConvertSummary summary = ConvertOrFail(folder.path(), folder.path() / "out.dsopt");
    CHECK(summary.ignored.empty());
    Converted file(folder.path() / "out.dsopt");
    for (const char* name : {"layers.0.attn.q", "layers.0.attn.v", "layers.0.mlp.down"}) {
      CHECK(Form(file, name) == c.form);
    }
    CHECK(Form(file, "embed") == "bf16");
    CheckValues(&file, model.values);
    ConvertOrFail(folder.path(), folder.path() / "f32.dsopt", DSOPT_F32);
    Converted plain(folder.path() / "f32.dsopt");
    CheckValues(&plain, model.values);
  }
}

}  // namespace
}  // namespace dsopt
