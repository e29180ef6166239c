// The safetensors reader: what it accepts, what it refuses and how it says so.
#include "import/safetensors.h"

#include <catch2/catch.hpp>

#include "tests/unit/import/checkpoint_writer.h"

namespace dsopt {
namespace {

using test::Bf16Tensor;
using test::F32Tensor;
using test::SafetensorsBytes;
using test::TempFolder;
using test::WriteText;

std::span<const uint8_t> Bytes(const std::string& text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

Result<SafetensorsHeader> ReadHeader(const std::string& file) {
  std::unique_ptr<Source> source = MakeMemorySource(Bytes(file));
  uint64_t data_offset = 0;
  return ReadSafetensorsHeader(*source, &data_offset);
}

void CheckRefused(const std::string& json, uint64_t data_bytes, const std::string& word) {
  CAPTURE(json);
  Result<SafetensorsHeader> header = ParseSafetensorsHeader(json, data_bytes);
  REQUIRE_FALSE(header.ok());
  CHECK(header.status().code() == DSOPT_E_CORRUPT);
  CHECK_THAT(std::string(header.status().message()), Catch::Contains(word));
}

TEST_CASE("a safetensors header gives names, types, shapes and ranges", "[import]") {
  const std::string file =
      SafetensorsBytes({F32Tensor("b", {2, 3}, 0), Bf16Tensor("a", {4}, 1)}, {{"format", "pt"}, {"x", "y"}});
  Result<SafetensorsHeader> header = ReadHeader(file);
  REQUIRE(header.ok());
  REQUIRE(header->tensors.size() == 2);
  CHECK(header->tensors[0].name == "a");
  CHECK(header->tensors[0].dtype == DSOPT_BF16);
  CHECK(header->tensors[0].offset == 24);
  CHECK(header->tensors[0].bytes == 8);
  CHECK(header->tensors[1].name == "b");
  CHECK(header->tensors[1].shape == std::vector<uint64_t>{2, 3});
  CHECK(header->metadata.at("x") == "y");
}

TEST_CASE("a safetensors header may end with spaces, and a file may have no tensors", "[import]") {
  CHECK(ParseSafetensorsHeader("{}     ", 0).ok());
  CHECK(ParseSafetensorsHeader(R"({"a":{"dtype":"I64","shape":[],"data_offsets":[0,8]}}  )", 8).ok());
  CHECK(ParseSafetensorsHeader(R"({"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}})", 0).ok());
}

TEST_CASE("a malformed safetensors header is refused by what is wrong with it", "[import]") {
  CheckRefused("", 0, "JSON");
  CheckRefused("[]", 0, "array");
  CheckRefused("{", 0, "JSON");
  CheckRefused(R"({"a":1})", 0, "number");
  CheckRefused(R"({"a":{"dtype":"F32","shape":[1]}})", 4, "data_offsets");
  CheckRefused(R"({"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}})", 4, "dtype");
  CheckRefused(R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4, "negative");
  CheckRefused(R"({"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}})", 4, "whole");
  CheckRefused(R"({"a":{"dtype":"F32","shape":[[1]],"data_offsets":[0,4]}})", 4, "array");
  CheckRefused(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}})", 4, "number");
  CheckRefused(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", 4, "descend");
  CheckRefused(R"({"a":{"dtype":"F32","shape":[1],"shape":[1],"data_offsets":[0,4]}})", 4, "repeated");
  CheckRefused(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"more":1}})", 4, "unknown");
  CheckRefused(R"({"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}})", 4, "number");
  CheckRefused(R"({"__metadata__":{"a":1}})", 0, "number");
  CheckRefused(R"({"a":null})", 0, "null");
}

TEST_CASE("safetensors sizes must agree with shapes and cover the data exactly", "[import]") {
  const auto entry = [](const char* name, uint64_t begin, uint64_t end, const char* shape) {
    return "\"" + std::string(name) + "\":{\"dtype\":\"F32\",\"shape\":" + shape + ",\"data_offsets\":[" +
           std::to_string(begin) + "," + std::to_string(end) + "]}";
  };
  CHECK(ParseSafetensorsHeader("{" + entry("a", 0, 8, "[2]") + "," + entry("b", 8, 12, "[1]") + "}", 12).ok());
  CheckRefused("{" + entry("a", 0, 8, "[3]") + "}", 8, "has 8 bytes, expected 12");
  CheckRefused("{" + entry("a", 0, 8, "[2]") + "}", 4, "fit in 4");
  CheckRefused("{" + entry("a", 0, 8, "[2]") + "}", 12, "the file has 12");
  CheckRefused("{" + entry("a", 0, 8, "[2]") + "," + entry("b", 4, 12, "[2]") + "}", 12,
               "expected to start at 8");
  CheckRefused("{" + entry("a", 0, 8, "[2]") + "," + entry("b", 12, 16, "[1]") + "}", 16,
               "expected to start at 8");
  CheckRefused("{" + entry("a", 0, 8, "[2]") + "," + entry("a", 8, 16, "[2]") + "}", 16, "twice");
  CheckRefused("{" + entry("a", 0, 8, "[4294967296,4294967296,4294967296]") + "}", 8, "2^64");
  CheckRefused("{" + entry("a", 0, 8, "[18446744073709551615,2]") + "}", 8, "2^64");
  CheckRefused("{" + entry("a", 18446744073709551608u, 18446744073709551612u, "[1]") + "}", 8, "start at 0");
}

TEST_CASE("a safetensors file whose header does not fit is refused before it is read", "[import]") {
  for (uint64_t length : {uint64_t{3}, uint64_t{99'999'999}, uint64_t{1} << 40, UINT64_MAX}) {
    std::string file(10, ' ');
    for (size_t i = 0; i < 8; ++i) file[i] = static_cast<char>(length >> (8 * i));
    Result<SafetensorsHeader> header = ReadHeader(file);
    CAPTURE(length);
    REQUIRE_FALSE(header.ok());
    CHECK(header.status().code() == DSOPT_E_CORRUPT);
  }
  CHECK(ReadHeader("short").status().code() == DSOPT_E_CORRUPT);
}

TEST_CASE("a safetensors file with any byte changed is read or refused, never misread out of range",
          "[import]") {
  const std::string good = SafetensorsBytes({F32Tensor("b", {2, 3}, 0), Bf16Tensor("a", {4}, 1)}, {{"k", "v"}});
  const uint64_t header_end = good.size() - 32;
  for (size_t at = 0; at < header_end; ++at) {
    for (int value = 0; value < 256; ++value) {
      std::string file = good;
      file[at] = static_cast<char>(value);
      Result<SafetensorsHeader> header = ReadHeader(file);
      if (!header.ok()) {
        REQUIRE(header.status().code() == DSOPT_E_CORRUPT);
        continue;
      }
      uint64_t bytes = 0;
      for (const SafetensorsEntry& entry : header->tensors) {
        REQUIRE(entry.offset + entry.bytes <= good.size());
        bytes += entry.bytes;
      }
      REQUIRE(bytes <= 32);
    }
  }
  for (size_t length = 0; length < good.size(); ++length)
    REQUIRE_FALSE(ReadHeader(good.substr(0, length)).ok());
}

TEST_CASE("deeply nested safetensors JSON is refused at the first level that does not belong", "[import]") {
  CheckRefused("{\"a\":" + std::string(1'000'000, '['), 0, "array");
  CheckRefused(R"({"a":{"dtype":"F32","shape":)" + std::string(1'000'000, '['), 0, "array");
}

TEST_CASE("a sharded checkpoint finds every tensor in its file", "[import]") {
  TempFolder folder;
  WriteText(folder.path() / "one.safetensors", SafetensorsBytes({F32Tensor("a", {2}, 5)}));
  WriteText(folder.path() / "two.safetensors", SafetensorsBytes({F32Tensor("b", {3}, 7)}, {{"c", "a"}}));
  const std::filesystem::path index = folder.path() / "model.safetensors.index.json";
  WriteText(index, R"({"metadata":{},"weight_map":{"a":"one.safetensors","b":"two.safetensors"}})");
  Result<SafetensorsCheckpoint> checkpoint = SafetensorsCheckpoint::Open(folder.path());
  REQUIRE(checkpoint.ok());
  REQUIRE(checkpoint->Find("b") != nullptr);
  CHECK(checkpoint->Find("c") == checkpoint->Find("a"));
  CHECK(checkpoint->Find("d") == nullptr);
  float values[2] = {};
  REQUIRE(checkpoint->Read(*checkpoint->Find("b"), 4, {reinterpret_cast<uint8_t*>(values), 8}).ok());
  CHECK(values[0] == 8.0f);
  CHECK(values[1] == 9.0f);
  CHECK_FALSE(checkpoint->Read(*checkpoint->Find("b"), 8, {reinterpret_cast<uint8_t*>(values), 8}).ok());

  for (const char* map :
       {R"({"weight_map":{"a":"../one.safetensors"}})", R"({"weight_map":{"a":"x/one.safetensors"}})",
        R"({"weight_map":{"a":".."}})", R"({"weight_map":{"a":3}})", R"({"weight_map":[]})", "{}", "[",
        R"({"weight_map":{"z":"one.safetensors"}})"}) {
    CAPTURE(map);
    WriteText(index, map);
    CHECK(SafetensorsCheckpoint::Open(folder.path()).status().code() == DSOPT_E_CORRUPT);
  }
  WriteText(index, R"({"weight_map":{"a":"absent.safetensors"}})");
  CHECK_FALSE(SafetensorsCheckpoint::Open(folder.path()).ok());
}

TEST_CASE("a folder without safetensors is not found", "[import]") {
  TempFolder folder;
  CHECK(SafetensorsCheckpoint::Open(folder.path()).status().code() == DSOPT_E_NOT_FOUND);
}

}  // namespace
}  // namespace dsopt
