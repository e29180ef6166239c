// Models with coded weights: which encodings a weight may have, and that codes, scales and offsets arrive once,
// each where its rows are.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cstring>
#include <functional>
#include <map>
#include <random>

#include "base/float_types.h"
#include "format/writer.h"
#include "model/loader.h"
#include "tests/tiny_model.h"
#include "tests/unit/model/fake_device.h"

namespace dsopt {
namespace {

using test::Fake;
using test::FakeWeight;
using test::MakeFakeDevice;
using testing::TinyFamily;
using testing::TinySpec;

struct Coding {
  dsopt_encoding encoding;
  uint32_t group_rows, group_cols;
  bool has_offset;
  dsopt_dtype scale_type;
};

// A file, and the bytes of each of its tensors.
struct CodedFile {
  std::vector<uint8_t> bytes;
  std::map<std::string, std::vector<uint8_t>> tensors;
};

using Choice = std::function<bool(const TensorSpec&)>;

bool IsMatrix(const TensorSpec& tensor) {
  return tensor.shape.size() > 1 && tensor.name.find("router") == std::string::npos &&
         tensor.name.find("kv_b") == std::string::npos;
}

dsopt_dtype CodeType(dsopt_encoding encoding) {
  return encoding == DSOPT_ENCODING_INT8   ? DSOPT_I8
         : encoding == DSOPT_ENCODING_FP8  ? DSOPT_F8_E4M3
         : encoding == DSOPT_ENCODING_INT4 ? DSOPT_U8
                                           : DSOPT_BF16;
}

TensorSpec ScalesOf(const TensorSpec& tensor, const std::string& name, dsopt_dtype type) {
  TensorSpec scales;
  scales.name = name;
  scales.dtype = type;
  scales.shape = ScalesShape(tensor);
  return scales;
}

// Random codes for the chosen tensors of a tiny model, in chunks of an odd number of rows.
CodedFile MakeCodedFile(TinyFamily family, const Coding& coding, const Choice& chosen) {
  ModelSpec spec = TinySpec({.family = family});
  std::vector<TensorSpec> tensors;
  for (TensorSpec& tensor : spec.tensors) {
    if (!chosen(tensor)) {
      tensors.push_back(tensor);
      continue;
    }
    tensor.encoding = coding.encoding;
    tensor.dtype = CodeType(coding.encoding);
    tensor.group_rows = coding.group_rows;
    tensor.group_cols = coding.group_cols;
    tensor.has_offset = coding.has_offset;
    tensors.push_back(tensor);
    if (HasScales(coding.encoding)) {
      tensors.push_back(ScalesOf(tensor, ScalesName(tensor.name), coding.scale_type));
      if (coding.has_offset) tensors.push_back(ScalesOf(tensor, OffsetsName(tensor.name), coding.scale_type));
    }
  }
  spec.tensors = tensors;
  CodedFile file;
  std::mt19937 random(5);
  WriterOptions options;
  options.chunk_bytes = 64 * 3;
  Result<Writer> writer = Writer::Create("", spec, options);
  INFO(std::string(writer.status().message()));
  REQUIRE(writer.ok());
  for (const TensorSpec& tensor : tensors) {
    uint64_t elements = 1;
    for (uint64_t extent : tensor.shape) elements *= extent;
    std::vector<uint8_t>& bytes = file.tensors[tensor.name];
    bytes.resize(BytesOf(tensor, elements));
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
    if (tensor.encoding == DSOPT_ENCODING_PLAIN && tensor.dtype == DSOPT_F32) {  // no NaN: floats are compared
      for (uint64_t i = 0; i < elements; ++i) bytes[4 * i + 3] = static_cast<uint8_t>(bytes[4 * i + 3] & 0x3f);
    } else if (tensor.encoding == DSOPT_ENCODING_PLAIN && ElementBytes(tensor.dtype) == 2) {
      for (uint64_t i = 0; i < elements; ++i) bytes[2 * i + 1] = static_cast<uint8_t>(bytes[2 * i + 1] & 0x3f);
    }
    REQUIRE(writer->Append(bytes).ok());
  }
  REQUIRE(writer->Finish().ok());
  file.bytes = writer->TakeBytes();
  return file;
}

Status Load(const std::vector<uint8_t>& file, bool knows_scales = true) {
  std::shared_ptr<Device> device = MakeFakeDevice(knows_scales);
  std::unique_ptr<Source> source = MakeMemorySource(file);
  Result<std::shared_ptr<Model>> model = Model::FromSource(*source, DefaultAllocator(), Logger());
  RETURN_IF_ERROR(model.status());
  Result<std::unique_ptr<ModelLoader>> loader =
      ModelLoader::Create(*model, std::move(source), device, DefaultAllocator(), LoadOptions());
  RETURN_IF_ERROR(loader.status());
  bool done = false;
  while (!done) RETURN_IF_ERROR((*loader)->Step(0, &done, nullptr));
  return {};
}

std::vector<float> Floats(const std::vector<uint8_t>& bytes, dsopt_dtype type) {
  std::vector<float> values(bytes.size() / ElementBytes(type));
  ConvertElements(type, bytes.data(), DSOPT_F32, values.data(), values.size());
  return values;
}

template <typename T>
std::vector<T> Joined(const std::vector<std::vector<T>>& parts) {
  std::vector<T> all;
  for (const std::vector<T>& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

// Of every expert the rows of gate, then those of up.
template <typename T>
std::vector<T> Woven(const std::vector<T>& gate, const std::vector<T>& up, size_t experts) {
  std::vector<std::vector<T>> parts;
  const auto slice = [experts](const std::vector<T>& all, size_t e) {
    const auto size = static_cast<ptrdiff_t>(all.size() / experts);
    const auto at = all.begin() + static_cast<ptrdiff_t>(e) * size;
    return std::vector<T>(at, at + size);
  };
  for (size_t e = 0; e < experts; ++e) {
    parts.push_back(slice(gate, e));
    parts.push_back(slice(up, e));
  }
  return Joined(parts);
}

TEST_CASE("codes, scales and offsets arrive once, and a fused weight's scales follow its rows", "[model]") {
  const Coding codings[] = {{DSOPT_ENCODING_INT4, 1, 32, true, DSOPT_F16},
                            {DSOPT_ENCODING_INT4, 0, 64, false, DSOPT_F32},
                            {DSOPT_ENCODING_INT8, 0, 0, false, DSOPT_F32},
                            {DSOPT_ENCODING_INT8, 1, 48, true, DSOPT_F32},
                            {DSOPT_ENCODING_FP8, 0, 0, false, DSOPT_F16}};
  for (TinyFamily family : testing::kTinyFamilies) {
    for (const Coding& coding : codings) {
      CodedFile file = MakeCodedFile(family, coding, IsMatrix);
      const Status status = Load(file.bytes);
      INFO(std::string(status.message()));
      CAPTURE(family, coding.encoding, coding.group_cols);
      REQUIRE(status.ok());
      for (const auto& [name, weight] : Fake().weights) {
        CAPTURE(name);
        CHECK(std::count(weight.writes.begin(), weight.writes.end(), 1) == std::ssize(weight.writes));
        CHECK(std::count(weight.scale_writes.begin(), weight.scale_writes.end(), 1) ==
              std::ssize(weight.scale_writes));
      }
      const auto scales = [&](const std::string& name) {
        return Floats(file.tensors[name + ".scales"], coding.scale_type);
      };
      const auto offsets = [&](const std::string& name) {
        return Floats(file.tensors[name + ".offsets"], coding.scale_type);
      };
      const FakeWeight& out = Fake().weights["layers.1.attn.o"];
      CHECK(out.desc.encoding == coding.encoding);
      CHECK(out.desc.group_rows == 1);
      CHECK(out.desc.group_cols == coding.group_cols);
      CHECK(out.desc.has_offset == (coding.has_offset ? 1u : 0u));
      CHECK(out.desc.scale_dtype == coding.scale_type);
      CHECK(out.bytes == file.tensors["layers.1.attn.o"]);
      CHECK(out.scales == scales("layers.1.attn.o"));
      if (coding.has_offset) CHECK(out.offsets == offsets("layers.1.attn.o"));
      const std::string layer = "layers.1.";
      if (family == TinyFamily::kLlama) {
        const FakeWeight& qkv = Fake().weights[layer + "attn.qkv"];
        CHECK(qkv.bytes == Joined<uint8_t>({file.tensors[layer + "attn.q"], file.tensors[layer + "attn.k"],
                                            file.tensors[layer + "attn.v"]}));
        CHECK(qkv.scales ==
              Joined<float>({scales(layer + "attn.q"), scales(layer + "attn.k"), scales(layer + "attn.v")}));
        if (coding.has_offset) {
          CHECK(qkv.offsets == Joined<float>({offsets(layer + "attn.q"), offsets(layer + "attn.k"),
                                              offsets(layer + "attn.v")}));
        }
      }
      if (family == TinyFamily::kMixtral) {
        const FakeWeight& gate_up = Fake().weights[layer + "moe.gate_up"];
        const size_t experts = gate_up.desc.batch;
        CHECK(gate_up.bytes ==
              Woven(file.tensors[layer + "moe.gate"], file.tensors[layer + "moe.up"], experts));
        CHECK(gate_up.scales == Woven(scales(layer + "moe.gate"), scales(layer + "moe.up"), experts));
      }
    }
  }
}

TEST_CASE("blocks of 128 x 128 scales reach single matrices, and are refused where parts do not meet at one",
          "[model]") {
  const Coding blocks{DSOPT_ENCODING_FP8, 128, 128, false, DSOPT_F32};
  CodedFile file =
      MakeCodedFile(TinyFamily::kLlama, blocks, [](const TensorSpec& t) { return t.name == "head"; });
  REQUIRE(Load(file.bytes).ok());
  CHECK(Fake().weights["head"].desc.group_rows == 128);
  CHECK(Fake().weights["head"].scales.size() == 3);  // 272 rows of 64
  CHECK(Fake().weights["head"].scales == Floats(file.tensors["head.scales"], DSOPT_F32));
  file = MakeCodedFile(TinyFamily::kLlama, blocks,
                       [](const TensorSpec& t) { return t.name.find("attn.") == 9 && IsMatrix(t); });
  const Status status = Load(file.bytes);
  CHECK(status.code() == DSOPT_E_UNSUPPORTED);
  CHECK_THAT(std::string(status.message()),
             Catch::Contains("'layers.0.attn.k' starts at row 64") && Catch::Contains("multiple of its 128"));
}

TEST_CASE("a weight that cannot be encoded, or whose parts are encoded differently, is refused", "[model]") {
  const Coding int8{DSOPT_ENCODING_INT8, 0, 0, false, DSOPT_F32};
  const auto only = [&](TinyFamily family, const char* name) {
    const CodedFile file = MakeCodedFile(family, int8, [name](const TensorSpec& t) { return t.name == name; });
    const Status status = Load(file.bytes);
    CHECK(status.code() == DSOPT_E_UNSUPPORTED);
    CHECK(Fake().weights.empty());
    return std::string(status.message());
  };
  CHECK_THAT(only(TinyFamily::kLlama, "layers.0.attn.k"), Catch::Contains("'layers.0.attn.q' (plain") &&
                                                              Catch::Contains("'layers.0.attn.k' (int8") &&
                                                              Catch::Contains("must be encoded alike"));
  CHECK_THAT(
      only(TinyFamily::kMixtral, "layers.0.moe.router"),
      Catch::Contains("'layers.0.moe.router' is int8") && Catch::Contains("takes only f32, f16 or bf16"));
  CHECK_THAT(only(TinyFamily::kDeepseekV2, "layers.0.attn.kv_b"), Catch::Contains("'layers.0.attn.k_up'"));
}

TEST_CASE(
    "lossless12 is a wish: parts of one weight that disagree stay plain, and so do weights of other kinds",
    "[model]") {
  const Coding lossless{DSOPT_ENCODING_LOSSLESS12, 0, 0, false, DSOPT_F32};
  CodedFile file = MakeCodedFile(TinyFamily::kDeepseekV2, lossless, [](const TensorSpec& t) {
    return t.dtype == DSOPT_BF16 && t.shape.size() > 1 && t.name != "layers.0.attn.kv_a";
  });
  REQUIRE(Load(file.bytes).ok());
  CHECK(Fake().weights["head"].desc.encoding == DSOPT_ENCODING_LOSSLESS12);
  CHECK(Fake().weights["head"].bytes == file.tensors["head"]);
  CHECK(Fake().weights["layers.1.attn.down"].desc.encoding == DSOPT_ENCODING_LOSSLESS12);
  CHECK(Fake().weights["layers.0.attn.down"].desc.encoding == DSOPT_ENCODING_PLAIN);
  CHECK(Fake().weights["layers.0.attn.k_up"].desc.encoding == DSOPT_ENCODING_PLAIN);
}

TEST_CASE("a backend without weight_write_scales refuses coded weights before it allocates one", "[model]") {
  const CodedFile file =
      MakeCodedFile(TinyFamily::kLlama, {DSOPT_ENCODING_INT8, 0, 0, false, DSOPT_F32}, IsMatrix);
  const Status status = Load(file.bytes, false);
  CHECK(status.code() == DSOPT_E_UNSUPPORTED);
  CHECK_THAT(std::string(status.message()), Catch::Contains("scales") && Catch::Contains("fake"));
  CHECK(Fake().weights.empty());
}

}  // namespace
}  // namespace dsopt
