// What only a flatbuffer can say and a ModelSpec cannot: unknown features and bits, broken structure, shared
// parts.
#include <catch2/catch.hpp>
#include <functional>

#include "dsopt_model_generated.h"
#include "format/metadata.h"
#include "tests/hostile/rules.h"
#include "tests/unit/format/spec_builder.h"

namespace dsopt::testing {
namespace {

std::vector<uint8_t> Bytes(const flatbuffers::FlatBufferBuilder& builder) {
  return {builder.GetBufferPointer(), builder.GetBufferPointer() + builder.GetSize()};
}

// The honest metadata as objects, changed, as a file.
std::vector<uint8_t> Changed(const std::function<void(fb::ModelT&)>& change) {
  const std::vector<uint8_t> honest = SerializeMetadata(HonestSpec());
  fb::ModelT model;
  fb::GetModel(honest.data())->UnPackTo(&model);
  change(model);
  flatbuffers::FlatBufferBuilder builder;
  builder.ForceDefaults(true);
  fb::FinishModelBuffer(builder, fb::Model::Pack(builder, &model));
  return WrapMetadata(Bytes(builder), 0);
}

struct MetadataRule {
  const char* name;
  std::function<void(fb::ModelT&)> lie;
  const char* message;
  dsopt_code code = DSOPT_E_CORRUPT;
};

void AddKey(fb::ModelT& model, const char* key) {
  model.metadata.push_back(std::make_unique<fb::KeyValueT>());
  model.metadata.back()->key = key;
}

const MetadataRule kRules[] = {
    {"no unknown feature is required", [](auto& m) { m.required_features = {"encodings", "sparse weights"}; },
     "feature 'sparse weights' is required, this library knows only 'encodings'", DSOPT_E_VERSION},
    {"encodings require their feature", [](auto& m) { m.tensors[0]->encoding = 1; },
     "tensor 'drawn': encoding 1 in a file that does not require 'encodings'"},
    {"chunk flags are 0", [](auto& m) { m.chunks = {fb::Chunk(65536, 0, 0, 64, 64, 0, 0, 1, 1, 0)}; },
     "flags are 1", DSOPT_E_VERSION},
    {"chunk reserve is 0", [](auto& m) { m.chunks = {fb::Chunk(65536, 0, 0, 64, 64, 0, 0, 1, 0, 7)}; },
     "reserved is 7", DSOPT_E_VERSION},
    {"bits of the tokenizer are known", [](auto& m) { m.tokenizer->flags = 1u << 15; },
     "flags of the tokenizer are 0x8000", DSOPT_E_VERSION},
    {"bits of an added token are known", [](auto& m) { m.tokenizer->added[0] = fb::Pair(257, 32); },
     "flags of an added token are 0x20", DSOPT_E_VERSION},
    {"piece ends ascend", [](auto& m) { m.tokenizer->piece_ends[7] = 3; },
     "piece 7 ends at byte 3, expected 7 to"},
    {"piece ends are inside", [](auto& m) { m.tokenizer->piece_ends[259] = UINT32_MAX; },
     "piece 259 ends at byte 4294"},
    {"pieces use all bytes", [](auto& m) { m.tokenizer->pieces.push_back(0); }, "the pieces end at byte"},
    {"pieces have bytes", [](auto& m) { m.tokenizer->pieces.clear(); },
     "piece 0 ends at byte 1, expected 0 to 0"},
    {"metadata keys ascend", [](auto& m) { AddKey(m, "aaa"); }, "expected ascending keys"},
    {"metadata keys differ", [](auto& m) { AddKey(m, "source"); }, "expected ascending keys"},
};

}  // namespace

TEST_CASE("metadata rule:", "[hostile]") {
  CHECK(OpenBytes(Changed([](fb::ModelT&) {})).ok());
  for (const MetadataRule& rule : kRules) {
    DYNAMIC_SECTION(rule.name) {
      const Status status = OpenBytes(Changed(rule.lie));
      CHECK_THAT(std::string(status.message()), Catch::Contains(rule.message));
      CHECK(status.code() == rule.code);
    }
  }
}

TEST_CASE("metadata rule: a flatbuffer of this type", "[hostile]") {
  std::vector<uint8_t> metadata = SerializeMetadata(HonestSpec());
  metadata[4] = 'X';  // the identifier
  CHECK_THAT(std::string(OpenBytes(WrapMetadata(metadata, 0)).message()),
             Catch::Contains("not a valid flatbuffer"));
  const std::vector<uint8_t> zeros(100);
  CHECK(OpenBytes(WrapMetadata(zeros, 0)).code() == DSOPT_E_CORRUPT);
}

TEST_CASE("metadata rule: required parts are there", "[hostile]") {
  flatbuffers::FlatBufferBuilder builder;
  const auto start = builder.StartTable();
  const flatbuffers::Offset<fb::Model> model(builder.EndTable(start));
  fb::FinishModelBuffer(builder, model);
  CHECK_THAT(std::string(OpenBytes(WrapMetadata(Bytes(builder), 0)).message()),
             Catch::Contains("not a valid flatbuffer"));
}

TEST_CASE("metadata rule: parts that are shared are not copied before they are measured", "[hostile]") {
  // 100000 tensors share a name of 32 MiB: 3 TB of copies from a file of less than 512 KiB.
  const std::vector<uint8_t> honest = SerializeMetadata(HonestSpec());
  fb::ModelT objects;
  fb::GetModel(honest.data())->UnPackTo(&objects);
  flatbuffers::FlatBufferBuilder builder;
  const auto name = builder.CreateString(std::string(32u << 20, 'a'));
  const uint64_t shape_value = 1;
  const auto shape = builder.CreateVector(&shape_value, 1);
  fb::TensorBuilder tensor_builder(builder);
  tensor_builder.add_name(name);
  tensor_builder.add_shape(shape);
  const auto tensor = tensor_builder.Finish();
  const auto tensors = builder.CreateVector(std::vector<flatbuffers::Offset<fb::Tensor>>(100000, tensor));
  const auto chunks = builder.CreateVectorOfStructs(std::vector<fb::Chunk>());
  const auto config = fb::Config::Pack(builder, objects.config.get());
  const auto sampling = fb::Sampling::Pack(builder, objects.sampling.get());
  fb::ModelBuilder model(builder);
  model.add_config(config);
  model.add_sampling(sampling);
  model.add_tensors(tensors);
  model.add_chunks(chunks);
  fb::FinishModelBuffer(builder, model.Finish());
  const std::vector<uint8_t> file = WrapMetadata(Bytes(builder), 0);
  CHECK(file.size() < (512u << 10));
  CHECK_THAT(std::string(OpenBytes(file).message()), Catch::Contains("length of a tensor name is 33554432"));
}

}  // namespace dsopt::testing
