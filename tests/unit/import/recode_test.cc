// convert --weights: which tensor gets which encoding, that codes are those of the values, and .dsopt files as
// input.
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <numeric>

#include "format/writer.h"
#include "import/convert.h"
#include "tests/tiny_model.h"
#include "tests/unit/import/checkpoint_writer.h"
#include "tests/unit/import/converted_file.h"

namespace dsopt {
namespace {

using test::Converted;
using testing::TinyFamily;
using testing::TinyModelBytes;

void WriteBytes(const std::filesystem::path& path, const std::vector<uint8_t>& bytes) {
  test::WriteText(path, {bytes.begin(), bytes.end()});
}

Result<ConvertSummary> Recoded(const std::filesystem::path& input, const std::filesystem::path& output,
                               const WeightsRequest& weights, uint32_t threads = 1) {
  ConvertOptions options;
  options.weights = weights;
  options.threads = threads;
  return Convert(input, output, options);
}

bool StaysPlain(const std::string& name, const TensorSpec& tensor) {
  return tensor.shape.size() == 1 || name.find("router") != std::string::npos ||
         name.find("kv_b") != std::string::npos;
}

TEST_CASE("every tensor gets the encoding of its kind, and its codes are those of its values", "[import]") {
  const WeightsRequest requests[] = {{DSOPT_ENCODING_INT8, 0, false},
                                     {DSOPT_ENCODING_INT8, 32, true},
                                     {DSOPT_ENCODING_FP8, 0, false},
                                     {DSOPT_ENCODING_INT4, 32, true},
                                     {DSOPT_ENCODING_INT4, 0, false}};
  for (TinyFamily family : testing::kTinyFamilies) {
    test::TempFolder folder;
    WriteBytes(folder.path() / "in.dsopt", TinyModelBytes({.family = family}));
    Converted plain(folder.path() / "in.dsopt");
    for (const WeightsRequest& request : requests) {
      CAPTURE(plain.spec().config.architecture, EncodingName(request.encoding), request.group);
      Result<ConvertSummary> summary =
          Recoded(folder.path() / "in.dsopt", folder.path() / "out.dsopt", request, 2);
      INFO(std::string(summary.status().message()));
      REQUIRE(summary.ok());
      Converted coded(folder.path() / "out.dsopt");
      for (const TensorSpec& tensor : plain.spec().tensors) {
        CAPTURE(tensor.name);
        const TensorSpec& out = coded.Find(tensor.name);
        if (StaysPlain(tensor.name, tensor)) {
          CHECK(out.encoding == DSOPT_ENCODING_PLAIN);
          CHECK(coded.Bytes(tensor.name) == plain.Bytes(tensor.name));
          continue;
        }
        const bool ends = tensor.name == "head" || tensor.name == "embed";
        const bool low = request.encoding == DSOPT_ENCODING_INT4 || request.encoding == DSOPT_ENCODING_FP8;
        const bool eight = low && ends;
        REQUIRE(out.encoding == (eight ? DSOPT_ENCODING_INT8 : request.encoding));
        if (request.encoding == DSOPT_ENCODING_INT4 && !ends) {
          CHECK(out.group_cols == (request.group == 0 ? 64 : request.group));
          CHECK(coded.Find(ScalesName(tensor.name)).dtype == DSOPT_F16);
        }
        const Coding coding{out.encoding, out.group_rows, out.group_cols, out.has_offset,
                            coded.Find(ScalesName(tensor.name)).dtype};
        const std::vector<float> values = plain.Floats(tensor.name);
        CodedRows expected;
        EncodeRows(coding, values.data(), values.size() / tensor.shape.back(), tensor.shape.back(), {},
                   &expected);
        CHECK(coded.Bytes(tensor.name) == expected.codes);
        CHECK(coded.Floats(ScalesName(tensor.name)) == expected.scales);
        if (out.has_offset) CHECK(coded.Floats(OffsetsName(tensor.name)) == expected.offsets);
      }
      double from = 0, to = 0;
      uint64_t tensors = 0;
      for (const PolicyRow& row : summary->policy) {
        from += row.from_bytes;
        to += row.to_bytes;
        tensors += row.tensors;
      }
      CHECK(from == static_cast<double>(
                        std::accumulate(plain.spec().tensors.begin(), plain.spec().tensors.end(), uint64_t{0},
                                        [](uint64_t sum, const TensorSpec& t) { return sum + t.raw_bytes; })));
      CHECK(to == static_cast<double>(summary->raw_bytes));
      CHECK(tensors == plain.spec().tensors.size());
    }
  }
}

// A tiny Llama of which one matrix has exponents that 12 bits cannot say.
std::vector<uint8_t> WithWildMatrix(const char* name) {
  ModelSpec spec = testing::TinySpec({});
  std::vector<uint8_t> data;
  uint32_t state = 1;
  for (const TensorSpec& tensor : spec.tensors) {
    uint64_t count = 1;
    for (uint64_t extent : tensor.shape) count *= extent;
    for (uint64_t i = 0; i < count; ++i) {
      state = state * 1664525u + 1013904223u;
      const int exponent =
          tensor.name == name ? static_cast<int>(state >> 25) - 64 : static_cast<int>(state >> 30);
      const float value = std::ldexp(1.0f + static_cast<float>(state >> 8 & 0x7f) / 128, exponent);
      const size_t at = data.size();
      data.resize(at + ElementBytes(tensor.dtype));
      ConvertElements(DSOPT_F32, &value, tensor.dtype, &data[at], 1);
    }
  }
  Result<Writer> writer = Writer::Create("", std::move(spec), {});
  REQUIRE(writer.ok());
  REQUIRE(writer->Append(data).ok());
  REQUIRE(writer->Finish().ok());
  return writer->TakeBytes();
}

TEST_CASE("lossless12 keeps every bit, and is chosen for whole weights where it is smaller", "[import]") {
  test::TempFolder folder;
  const std::filesystem::path in = folder.path() / "in.dsopt", out = folder.path() / "out.dsopt";
  WriteBytes(in, WithWildMatrix("layers.1.attn.k"));
  REQUIRE(Recoded(in, out, {DSOPT_ENCODING_LOSSLESS12}).ok());
  Converted before(in), after(out);
  for (const TensorSpec& tensor : before.spec().tensors) {
    CAPTURE(tensor.name);
    CHECK(after.Bytes(tensor.name) == before.Bytes(tensor.name));
    const bool beside = tensor.name == "layers.1.attn.q" || tensor.name == "layers.1.attn.k" ||
                        tensor.name == "layers.1.attn.v";
    const bool expected = !StaysPlain(tensor.name, tensor) && !beside;
    CHECK(after.Find(tensor.name).encoding == (expected ? DSOPT_ENCODING_LOSSLESS12 : DSOPT_ENCODING_PLAIN));
  }
  // Kept by another conversion, and undone by --weights bf16.
  ConvertOptions keep;
  REQUIRE(Convert(out, in, keep).ok());
  CHECK(Converted(in).Find("head").encoding == DSOPT_ENCODING_LOSSLESS12);
  keep.weights = WeightsRequest{};
  keep.dtype = DSOPT_BF16;
  REQUIRE(Convert(out, in, keep).ok());
  CHECK(Converted(in).Find("head").encoding == DSOPT_ENCODING_PLAIN);
}

TEST_CASE("lossless12 of weights that are not bf16 changes nothing", "[import]") {
  test::TempFolder folder;
  WriteBytes(folder.path() / "in.dsopt", TinyModelBytes({.dtype = DSOPT_F16}));
  REQUIRE(Recoded(folder.path() / "in.dsopt", folder.path() / "out.dsopt", {DSOPT_ENCODING_LOSSLESS12}).ok());
  const Converted after(folder.path() / "out.dsopt");
  for (const TensorSpec& tensor : after.spec().tensors) CHECK(tensor.encoding == DSOPT_ENCODING_PLAIN);
}

TEST_CASE("a .dsopt file converted as it is stays what it is", "[import]") {
  for (TinyFamily family : testing::kTinyFamilies) {
    test::TempFolder folder;
    const std::filesystem::path in = folder.path() / "in.dsopt", coded = folder.path() / "int4.dsopt",
                                again = folder.path() / "again.dsopt";
    WriteBytes(in, TinyModelBytes({.family = family}));
    REQUIRE(Recoded(in, coded, {DSOPT_ENCODING_INT4, 32, true}).ok());
    for (const std::filesystem::path& path : {in, coded}) {
      const Result<ConvertSummary> summary = Convert(path, again, ConvertOptions());
      INFO(std::string(summary.status().message()));
      REQUIRE(summary.ok());
      Converted before(path), after(again);
      CHECK(after.spec().config.kinds == before.spec().config.kinds);
      CHECK(after.spec().chat_template == before.spec().chat_template);
      CHECK(after.spec().tokenizer.pieces == before.spec().tokenizer.pieces);
      REQUIRE(after.spec().tensors.size() == before.spec().tensors.size());
      for (const TensorSpec& tensor : before.spec().tensors) {
        CAPTURE(tensor.name);
        const TensorSpec& found = after.Find(tensor.name);
        CHECK(found.dtype == tensor.dtype);
        CHECK(found.encoding == tensor.encoding);
        CHECK(found.group_cols == tensor.group_cols);
        CHECK(after.Bytes(tensor.name) == before.Bytes(tensor.name));
      }
    }
  }
}

TEST_CASE("coded weights are encoded anew from the values they stand for", "[import]") {
  test::TempFolder folder;
  const std::filesystem::path in = folder.path() / "in.dsopt", eight = folder.path() / "8.dsopt",
                              four = folder.path() / "4.dsopt";
  WriteBytes(in, TinyModelBytes());
  REQUIRE(Recoded(in, eight, {DSOPT_ENCODING_INT8}).ok());
  REQUIRE(Recoded(eight, four, {DSOPT_ENCODING_INT4, 32, false}).ok());
  Converted from(eight), to(four);
  const std::vector<float> values = from.Decoded("layers.0.mlp.down");
  const uint64_t cols = from.Find("layers.0.mlp.down").shape[1];
  CodedRows expected;
  EncodeRows({DSOPT_ENCODING_INT4, 0, 32, false, DSOPT_F16}, values.data(), values.size() / cols, cols, {},
             &expected);
  CHECK(to.Bytes("layers.0.mlp.down") == expected.codes);
}

TEST_CASE("requests that make no sense, and files without values, are refused and leave nothing", "[import]") {
  test::TempFolder folder;
  const std::filesystem::path in = folder.path() / "in.dsopt", out = folder.path() / "out.dsopt";
  WriteBytes(in, TinyModelBytes());
  const auto refused = [&](const WeightsRequest& weights, dsopt_code code) {
    const Status status = Recoded(in, out, weights).status();
    CHECK(status.code() == code);
    CHECK_FALSE(std::filesystem::exists(out));
    return std::string(status.message());
  };
  CHECK_THAT(refused({DSOPT_ENCODING_INT4, 48, false}, DSOPT_E_INVALID_ARGUMENT),
             Catch::Contains("groups of 48"));
  CHECK_THAT(refused({DSOPT_ENCODING_INT8, 24, false}, DSOPT_E_INVALID_ARGUMENT),
             Catch::Contains("groups of 24"));
  CHECK_THAT(refused({DSOPT_ENCODING_FP8, 0, true}, DSOPT_E_INVALID_ARGUMENT),
             Catch::Contains("fp8 with offsets"));
  CHECK_THAT(refused({DSOPT_ENCODING_LOSSLESS12, 64, false}, DSOPT_E_INVALID_ARGUMENT),
             Catch::Contains("lossless12"));
  ModelSpec random = testing::TinySpec({});
  for (TensorSpec& tensor : random.tensors) tensor.synthetic = true;
  Result<Writer> writer = Writer::Create(in.string(), random, {});
  REQUIRE(writer.ok());
  REQUIRE(writer->Finish().ok());
  CHECK_THAT(refused({DSOPT_ENCODING_INT8}, DSOPT_E_UNSUPPORTED), Catch::Contains("random numbers"));
}

}  // namespace
}  // namespace dsopt
