// Damaged quantised checkpoints: every cut and many changed bytes give a model or a typed error, and leave
// nothing.
#include <catch2/catch.hpp>
#include <random>

#include "import/convert.h"
#include "tests/quantised/models.h"
#include "tests/unit/import/checkpoint_writer.h"

namespace dsopt {
namespace {

bool Typed(const Status& status) {
  return status.code() == DSOPT_E_CORRUPT || status.code() == DSOPT_E_UNSUPPORTED ||
         status.code() == DSOPT_E_INVALID_ARGUMENT;
}

size_t CountFiles(const std::filesystem::path& folder) {
  size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder)) ++count;
  return count;
}

// Converts `bytes` written as `path`; failures must be typed and leave no output.
bool ConvertsOrFails(const std::filesystem::path& path, const std::string& bytes,
                     const std::filesystem::path& input, const std::filesystem::path& output) {
  test::WriteText(path, bytes);
  const size_t files = CountFiles(path.parent_path());
  const Result<ConvertSummary> summary = Convert(input, output, {});
  if (summary.ok()) {
    std::filesystem::remove(output);
    return true;
  }
  INFO(std::string(summary.status().message()));
  CHECK(Typed(summary.status()));
  CHECK(summary.status().message().find('\n') == std::string_view::npos);
  CHECK(CountFiles(path.parent_path()) == files);
  return false;
}

testing::GgufModel SmallGguf() {
  testing::GgufModelOptions options;
  options.layers = 1;
  options.type = [](const std::string& suffix) { return suffix == "attn.v" ? "Q6_K" : "Q4_K"; };
  return testing::MakeGgufModel(options);
}

TEST_CASE("a GGUF file cut anywhere or with changed bytes converts or gives a typed error", "[import]") {
  const testing::GgufModel model = SmallGguf();
  const std::string good(model.files[0].begin(), model.files[0].end());
  test::TempFolder folder;
  const std::filesystem::path input = folder.path() / "m.gguf", output = folder.path() / "out.dsopt";
  REQUIRE(ConvertsOrFails(input, good, input, output));
  std::mt19937 random(3);
  constexpr size_t kHeader = 16000;  // about what comes before the data
  REQUIRE(good.size() > 3 * kHeader);
  size_t refused = 0;
  for (int i = 0; i < 150; ++i) {
    CAPTURE(i);
    const size_t cut = random() % (i % 3 == 0 ? good.size() : kHeader);
    CHECK_FALSE(ConvertsOrFails(input, good.substr(0, cut), input, output));
    std::string bytes = good;
    for (int k = 0; k < 3; ++k) bytes[random() % kHeader] ^= static_cast<char>(1u << random() % 8);
    refused += ConvertsOrFails(input, bytes, input, output) ? 0 : 1;
  }
  CHECK(refused > 30);
}

TEST_CASE("damaged GPTQ, AWQ and fp8 checkpoints convert or give a typed error", "[import]") {
  for (const testing::HfFormat format :
       {testing::HfFormat::kGptq, testing::HfFormat::kAwq, testing::HfFormat::kFp8Blocks}) {
    test::TempFolder folder;
    testing::WriteHfModel({format, {}, 1}, folder.path());
    const std::filesystem::path file = folder.path() / "model.safetensors",
                                config = folder.path() / "config.json", output = folder.path() / "out.dsopt";
    const std::string good = test::ReadBytes(file), good_config = test::ReadBytes(config);
    const size_t header = 8 + static_cast<uint8_t>(good[0]) + 256 * static_cast<uint8_t>(good[1]);
    std::mt19937 random(4);
    size_t refused = 0;
    for (int i = 0; i < 60; ++i) {
      CAPTURE(static_cast<int>(format), i);
      CHECK_FALSE(ConvertsOrFails(file, good.substr(0, random() % good.size()), folder.path(), output));
      std::string bytes = good;
      bytes[random() % header] ^= static_cast<char>(1u << random() % 8);
      refused += ConvertsOrFails(file, bytes, folder.path(), output) ? 0 : 1;
      test::WriteText(file, good);
      bytes = good_config;
      bytes[random() % bytes.size()] ^= static_cast<char>(1u << random() % 8);
      refused += ConvertsOrFails(config, bytes, folder.path(), output) ? 0 : 1;
      test::WriteText(config, good_config);
    }
    CHECK(refused > 60);
  }
}

TEST_CASE("quantised checkpoints with parts that do not fit name the part", "[import]") {
  const auto message = [](const testing::HfModelOptions& options, const std::string& from,
                          const std::string& to) {
    test::TempFolder folder;
    testing::WriteHfModel(options, folder.path());
    for (const char* name : {"config.json", "model.safetensors"}) {
      std::string text = test::ReadBytes(folder.path() / name);
      for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
        text.replace(at, from.size(), to);
      }
      test::WriteText(folder.path() / name, text);
    }
    const Status status = Convert(folder.path(), folder.path() / "out.dsopt", {}).status();
    CHECK(Typed(status));
    return std::string(status.message());
  };
  const testing::HfModelOptions gptq = {testing::HfFormat::kGptq, {}, 1},
                                fp8 = {testing::HfFormat::kFp8Rows, {}, 1};
  CHECK_THAT(message(gptq, "q_proj.scales", "q_proj.scalez"),
             Catch::Contains("q_proj.scales") && Catch::Contains("missing"));
  CHECK_THAT(message(gptq, "k_proj.qzeros", "k_proj.qzeroz"), Catch::Contains("k_proj.qzeros"));
  CHECK_THAT(message(gptq, "\"group_size\":32", "\"group_size\":64"), Catch::Contains("has shape"));
  CHECK_THAT(message(gptq, "\"bits\":4", "\"bits\":8"),
             Catch::Contains("qweight") && Catch::Contains("has shape"));
  CHECK_THAT(message(fp8, "q_proj.weight_scale", "q_proj.weight_skale"),
             Catch::Contains("q_proj.weight_scale"));
  CHECK_THAT(message(fp8, "compressed-tensors", "compressed_tensors"), Catch::Contains("quant_method"));
}

TEST_CASE("an index of groups that leaves the groups is refused", "[import]") {
  test::TempFolder folder;
  testing::WriteHfModel({testing::HfFormat::kGptq, {.act_order = true}, 1}, folder.path());
  std::string bytes = test::ReadBytes(folder.path() / "model.safetensors");
  const size_t name = bytes.find("k_proj.g_idx"), offsets = bytes.find("data_offsets", name);
  const size_t header = 8 + static_cast<uint8_t>(bytes[0]) + 256 * static_cast<uint8_t>(bytes[1]);
  const size_t begin = std::stoul(bytes.substr(bytes.find('[', offsets) + 1));
  bytes[header + begin] = 100;
  test::WriteText(folder.path() / "model.safetensors", bytes);
  const Status status = Convert(folder.path(), folder.path() / "out.dsopt", {}).status();
  CHECK(status.code() == DSOPT_E_CORRUPT);
  CHECK_THAT(std::string(status.message()), Catch::Contains("g_idx") && Catch::Contains("100"));
}

}  // namespace
}  // namespace dsopt
