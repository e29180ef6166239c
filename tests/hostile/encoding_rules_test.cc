// The rules of VerifyEncodings.
#include <algorithm>
#include <catch2/catch.hpp>

#include "format/reader.h"
#include "format/verify.h"
#include "tests/hostile/rules.h"
#include "tests/unit/format/spec_builder.h"

namespace dsopt::testing {
namespace {

// Adds an int4 matrix of 64 x 256 with offsets, in groups of 128, or another encoding of the same shape. All
// stored in a chunk each; "codes", "codes.offsets", "codes.scales" come before "drawn".
void AddCoded(ModelSpec& s, dsopt_encoding encoding = DSOPT_ENCODING_INT4) {
  TensorSpec codes;
  codes.name = "codes";
  codes.encoding = encoding;
  codes.dtype = encoding == DSOPT_ENCODING_INT4   ? DSOPT_U8
                : encoding == DSOPT_ENCODING_INT8 ? DSOPT_I8
                : encoding == DSOPT_ENCODING_FP8  ? DSOPT_F8_E4M3
                                                  : DSOPT_BF16;
  codes.shape = {64, 256};
  codes.group_cols = encoding == DSOPT_ENCODING_LOSSLESS12 ? 0 : 128;
  codes.group_rows = encoding == DSOPT_ENCODING_FP8 ? 128 : 0;
  codes.has_offset = encoding == DSOPT_ENCODING_INT4 || encoding == DSOPT_ENCODING_INT8;
  TensorSpec scales;
  scales.name = "codes.scales";
  scales.dtype = DSOPT_F16;
  scales.shape = ScalesShape(codes);
  TensorSpec offsets = scales;
  offsets.name = "codes.offsets";
  s.tensors.insert(s.tensors.begin(), {codes, offsets, scales});
  uint64_t at = 64u << 10;
  for (uint32_t i = 0; i < 3; ++i) {
    TensorSpec& tensor = s.tensors[i];
    tensor.first_chunk = i;
    tensor.chunk_count = 1;
    tensor.raw_bytes = BytesOf(tensor, tensor.shape[0] * tensor.shape[1]);
    ChunkSpec chunk;
    chunk.offset = at;
    chunk.raw_size = chunk.stored_size = static_cast<uint32_t>(tensor.raw_bytes);
    s.chunks.push_back(chunk);
    at += (chunk.raw_size + 63) / 64 * 64;
  }
}

TensorSpec& Codes(ModelSpec& s, dsopt_encoding encoding = DSOPT_ENCODING_INT4) {
  AddCoded(s, encoding);
  return s.tensors[0];
}
TensorSpec& Offsets(ModelSpec& s) {
  AddCoded(s);
  return s.tensors[1];
}
TensorSpec& Scales(ModelSpec& s) {
  AddCoded(s);
  return s.tensors[2];
}

const Rule kRules[] = {
    {"encoding is known", [](auto& s) { Codes(s).encoding = static_cast<dsopt_encoding>(5); },
     "encoding of a tensor is 5, this library knows 0 to 4", DSOPT_E_VERSION},
    {"plain tensor has no groups", [](auto& s) { s.tensors[0].group_cols = 16; },
     "plain tensor 'drawn': groups of 0 rows and 16 columns, expected none"},
    {"plain tensor has no offsets", [](auto& s) { s.tensors[0].has_offset = true; },
     "plain tensor 'drawn': has offsets"},
    {"lossless12 is bf16", [](auto& s) { Codes(s, DSOPT_ENCODING_LOSSLESS12).dtype = DSOPT_F16; },
     "lossless12 tensor 'codes': its type is 2, expected bf16"},
    {"lossless12 has no groups", [](auto& s) { Codes(s, DSOPT_ENCODING_LOSSLESS12).group_rows = 1; },
     "lossless12 tensor 'codes': groups of 1 rows"},
    {"int8 is of i8", [](auto& s) { Codes(s, DSOPT_ENCODING_INT8).dtype = DSOPT_U8; },
     "int8 tensor 'codes': its type is 7, expected i8"},
    {"int8 groups are multiples of 16", [](auto& s) { Codes(s, DSOPT_ENCODING_INT8).group_cols = 24; },
     "groups of 0 rows and 24 columns, expected 1 row and a multiple of 16 columns"},
    {"int8 groups are of one row", [](auto& s) { Codes(s, DSOPT_ENCODING_INT8).group_rows = 2; },
     "groups of 2 rows and 128 columns"},
    {"fp8 is of f8_e4m3", [](auto& s) { Codes(s, DSOPT_ENCODING_FP8).dtype = DSOPT_I8; },
     "fp8 tensor 'codes': its type is 5, expected f8_e4m3"},
    {"fp8 groups are rows or blocks", [](auto& s) { Codes(s, DSOPT_ENCODING_FP8).group_cols = 64; },
     "groups of 128 rows and 64 columns, expected a whole row, or 128 and 128"},
    {"fp8 groups are not slices of rows", [](auto& s) { Codes(s, DSOPT_ENCODING_FP8).group_rows = 1; },
     "groups of 1 rows and 128 columns, expected a whole row"},
    {"fp8 has no offsets", [](auto& s) { Codes(s, DSOPT_ENCODING_FP8).has_offset = true; },
     "fp8 tensor 'codes': has offsets, expected none"},
    {"int4 is of u8", [](auto& s) { Codes(s).dtype = DSOPT_I8; },
     "int4 tensor 'codes': its type is 5, expected u8"},
    {"int4 groups are 32, 64 or 128", [](auto& s) { Codes(s).group_cols = 16; },
     "groups of 0 rows and 16 columns, expected 1 row and 32, 64 or 128 columns"},
    {"int4 groups are not whole rows", [](auto& s) { Codes(s).group_cols = 0; },
     "groups of 0 rows and 0 columns"},
    {"int4 rows are even",
     [](auto& s) {
       Codes(s).shape = {64, 255};
     },
     "tensor 'codes': int4 rows of 255 elements, expected an even number"},
    {"encoded tensor has rows", [](auto& s) { Codes(s).shape = {16384}; },
     "int4 tensor 'codes': number of dimensions is 1, expected 2 to 3"},
    {"encoded tensor has at most 3 dimensions",
     [](auto& s) {
       Codes(s).shape = {1, 1, 64, 256};
     },
     "number of dimensions is 4"},
    {"int4 takes half a byte",
     [](auto& s) {
       AddCoded(s);
       s.chunks[0].raw_size = s.chunks[0].stored_size = 16384;
     },
     "16384 raw bytes in its chunk 0, expected 8192"},
    {"scales are there", [](auto& s) { Scales(s).name = "codes.scalex"; },
     "int4 tensor 'codes': tensor 'codes.scales' is missing"},
    {"offsets are there", [](auto& s) { Offsets(s).name = "codes.offsett"; },
     "int4 tensor 'codes': tensor 'codes.offsets' is missing"},
    {"scales are of floats", [](auto& s) { Scales(s).dtype = DSOPT_BF16; },
     "tensor 'codes.scales': type 3, expected stored f32 or f16"},
    {"scales are stored", [](auto& s) { Scales(s).synthetic = true; }, "type 2, synthetic, expected stored"},
    {"scales are not encoded",
     [](auto& s) {
       TensorSpec& scales = Scales(s);
       scales.dtype = DSOPT_BF16;
       scales.encoding = DSOPT_ENCODING_LOSSLESS12;
     },
     "tensor 'codes.scales': type 3"},
    {"one scale per group",
     [](auto& s) {
       Scales(s).shape = {64, 1};
     },
     "tensor 'codes.scales': 64 elements in 2 dimensions, expected 128 in 2 from 'codes'"},
    {"scales have the tensor's dimensions", [](auto& s) { Scales(s).shape = {128}; },
     "tensor 'codes.scales': 128 elements in 1 dimensions, expected 128 in 2"},
    {"one offset per group",
     [](auto& s) {
       Offsets(s).shape = {2, 64};
     },
     "tensor 'codes.offsets': 128 elements in 2"},
    {"offsets have the type of the scales",
     [](auto& s) {
       AddCoded(s);
       s.tensors[1].dtype = DSOPT_F32;
     },
     "tensor 'codes.offsets': type 1, expected that of 'codes.scales', 2"},
};

}  // namespace

TEST_CASE("encoding rule:", "[hostile]") { CheckRules(kRules); }

TEST_CASE("encoded tensors that keep the rules are accepted", "[hostile]") {
  for (const dsopt_encoding encoding :
       {DSOPT_ENCODING_LOSSLESS12, DSOPT_ENCODING_INT8, DSOPT_ENCODING_FP8, DSOPT_ENCODING_INT4}) {
    ModelSpec spec = HonestSpec();
    AddCoded(spec, encoding);
    const std::vector<uint8_t> file = RawFile(spec, 128u << 10);
    const Result<ModelSpec> read = ReadModelSpec(*MakeMemorySource(file), DefaultAllocator());
    INFO(std::string(read.status().message()));
    REQUIRE(read.ok());
    CHECK(read->tensors[0].encoding == encoding);
    CHECK(read->tensors[0].group_rows == spec.tensors[0].group_rows);
    CHECK(read->tensors[0].group_cols == spec.tensors[0].group_cols);
    CHECK(read->tensors[0].has_offset == spec.tensors[0].has_offset);
    CHECK(read->tensors[0].raw_bytes == spec.tensors[0].raw_bytes);
  }
  ModelSpec synthetic = HonestSpec();  // needs no scales
  synthetic.tensors[0].encoding = DSOPT_ENCODING_INT4;
  synthetic.tensors[0].dtype = DSOPT_U8;
  synthetic.tensors[0].group_cols = 64;
  CHECK(OpenBytes(RawFile(synthetic, 128u << 10)).ok());
}

}  // namespace dsopt::testing
