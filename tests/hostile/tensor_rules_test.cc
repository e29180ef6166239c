// The rules of TensorBytes, VerifyTensorNames, VerifyTensors and VerifyChunks.
#include <catch2/catch.hpp>
#include <cmath>

#include "format/verify.h"
#include "tests/hostile/rules.h"

namespace dsopt::testing {
namespace {

constexpr uint64_t kRoom = 64u << 10;  // a place behind the metadata of every file here

ChunkSpec Chunk(uint64_t offset, uint32_t stored_size, uint32_t raw_size, Codec codec,
                Filter filter = Filter::kNone) {
  ChunkSpec chunk;
  chunk.offset = offset;
  chunk.stored_size = stored_size;
  chunk.raw_size = raw_size;
  chunk.codec = codec;
  chunk.filter = filter;
  chunk.element_bytes = 2;
  return chunk;
}

// One stored tensor of two chunks of 64 bytes and one of 2.
void Stored(ModelSpec& spec) {
  spec.chunk_bytes = 64;
  spec.tensors[0].synthetic = false;
  spec.tensors[0].shape = {65};
  spec.tensors[0].chunk_count = 3;
  spec.chunks = {Chunk(kRoom, 64, 64, Codec::kStored), Chunk(kRoom + 64, 64, 64, Codec::kStored),
                 Chunk(kRoom + 128, 2, 2, Codec::kStored)};
}

const Rule kTensorRules[] = {
    {"there are tensors", [](auto& s) { s.tensors.clear(); }, "number of tensors is 0"},
    {"tensors <= 200000", [](auto& s) { s.tensors.assign(200001, s.tensors[0]); },
     "number of tensors is 200001"},
    {"tensor has a name", [](auto& s) { s.tensors[0].name = ""; }, "tensor 0: its name of 0 bytes"},
    {"tensor name is short", [](auto& s) { s.tensors[0].name.assign(257, 'a'); },
     "length of a tensor name is 257"},
    {"tensor name is printable", [](auto& s) { s.tensors[0].name = "a\x1b[2J"; }, "printable ASCII"},
    {"tensor name is ASCII", [](auto& s) { s.tensors[0].name = "\xc3\xa4"; }, "printable ASCII"},
    {"tensor names differ", [](auto& s) { s.tensors.push_back(s.tensors[0]); }, "expected ascending names"},
    {"tensor names ascend",
     [](auto& s) {
       s.tensors.push_back(s.tensors[0]);
       s.tensors[1].name = "a";
     },
     "tensor 'a': comes after 'drawn'"},
    {"tensor type is known", [](auto& s) { s.tensors[0].dtype = static_cast<dsopt_dtype>(8); },
     "tensor type is 8", DSOPT_E_VERSION},
    {"tensor type is given", [](auto& s) { s.tensors[0].dtype = DSOPT_DTYPE_DEFAULT; }, "tensor type is 0",
     DSOPT_E_VERSION},
    {"tensor has dimensions", [](auto& s) { s.tensors[0].shape.clear(); }, "0 dimensions, expected 1 to 4"},
    {"dimensions <= 4",
     [](auto& s) {
       s.tensors[0].shape = {1, 1, 1, 1, 1};
     },
     "number of dimensions is 5"},
    {"dimension > 0",
     [](auto& s) {
       s.tensors[0].shape = {64, 0};
     },
     "a dimension is 0"},
    {"size does not overflow",
     [](auto& s) {
       s.tensors[0].shape = {1ull << 33, 1ull << 33};
     },
     "larger than"},
    {"size does not wrap to little",
     [](auto& s) {
       s.tensors[0].shape = {1ull << 62, 4};
     },
     "larger than"},
    {"size <= 2^50", [](auto& s) { s.tensors[0].shape = {1ull << 50}; }, "larger than 1125899906842624 bytes"},
    {"chunks of a tensor exist", [](auto& s) { s.tensors[0].chunk_count = 3; }, "chunks 0 + 3, the file has 0"},
    {"chunk numbers do not wrap",
     [](auto& s) { s.tensors[0].first_chunk = s.tensors[0].chunk_count = UINT32_MAX; },
     "chunks 4294967295 + 4294967295"},
    {"tensors share no chunks",
     [](auto& s) {
       Stored(s);
       s.tensors.push_back(s.tensors[0]);
       s.tensors[1].name = "other";
       s.tensors[1].first_chunk = 2;
       s.tensors[1].chunk_count = 1;
     },
     "expected 3 or later: tensor 'drawn' ends there"},
    {"synthetic tensor has no chunks",
     [](auto& s) {
       Stored(s);
       s.tensors[0].synthetic = true;
     },
     "synthetic tensor 'drawn': number of chunks is 3"},
    {"synthetic mean is finite", [](auto& s) { s.tensors[0].synthetic_mean = INFINITY; }, "mean is inf"},
    {"synthetic deviation >= 0", [](auto& s) { s.tensors[0].synthetic_stddev = -1; },
     "standard deviation is -1"},
    {"synthetic tensor is of floats", [](auto& s) { s.tensors[0].dtype = DSOPT_I8; },
     "its type is 5, expected f32"},
    {"stored tensor has chunks", [](auto& s) { s.tensors[0].synthetic = false; },
     "0 chunks, its shape needs 1"},
    {"shape fits the number of chunks",
     [](auto& s) {
       Stored(s);
       s.tensors[0].shape = {64};
     },
     "3 chunks, its shape needs 2 of 64 bytes"},
    {"shape fits the sizes of chunks",
     [](auto& s) {
       Stored(s);
       s.tensors[0].shape = {66};
     },
     "2 raw bytes in its chunk 2, expected 4"},
    {"only the last chunk is short",
     [](auto& s) {
       Stored(s);
       s.chunks[0].raw_size = s.chunks[0].stored_size = 62;
     },
     "62 raw bytes in its chunk 0, expected 64"},
    {"chunk size > 0", [](auto& s) { s.chunk_bytes = 0; }, "bytes per chunk is 0"},
    {"chunk size <= 64 MiB", [](auto& s) { s.chunk_bytes = 1u << 31; }, "bytes per chunk is 2147483648"},
    {"chunk size is a multiple of 64", [](auto& s) { s.chunk_bytes = 100; },
     "bytes per chunk is 100, expected a mult"},
    {"chunks <= 1500000", [](auto& s) { s.chunks.resize(1500001); }, "number of chunks is 1500001"},
};

const Rule kChunkRules[] = {
    {"codec is known", [](auto& s) { s.chunks = {Chunk(kRoom, 64, 64, static_cast<Codec>(2))}; },
     "chunk codec is 2", DSOPT_E_VERSION},
    {"filter is known",
     [](auto& s) { s.chunks = {Chunk(kRoom, 64, 64, Codec::kZstd, static_cast<Filter>(2))}; },
     "chunk filter is 2", DSOPT_E_VERSION},
    {"chunk ends inside the file",
     [](auto& s) { s.chunks = {Chunk(kRoom, 1u << 20, 1u << 20, Codec::kStored)}; },
     "chunk 0: bytes 65536 + 1048576"},
    {"chunk starts inside the file", [](auto& s) { s.chunks = {Chunk(1ull << 40, 64, 64, Codec::kStored)}; },
     "chunk 0:"},
    {"chunk does not wrap around",
     [](auto& s) { s.chunks = {Chunk(UINT64_MAX - 63, 128, 128, Codec::kStored)}; },
     "chunk 0: bytes 18446744073709551552"},
    {"chunk is behind the metadata", [](auto& s) { s.chunks = {Chunk(64, 64, 64, Codec::kStored)}; },
     "chunk 0: bytes 64"},
    {"chunks do not overlap",
     [](auto& s) {
       s.chunks = {Chunk(kRoom, 65, 65, Codec::kStored), Chunk(kRoom + 64, 64, 64, Codec::kStored)};
     },
     "chunk 1: bytes 65600 + 64, expected between 65601"},
    {"chunks ascend",
     [](auto& s) {
       s.chunks = {Chunk(kRoom + 64, 64, 64, Codec::kStored), Chunk(kRoom, 64, 64, Codec::kStored)};
     },
     "chunk 1: bytes 65536"},
    {"chunk is aligned", [](auto& s) { s.chunks = {Chunk(kRoom + 32, 64, 64, Codec::kStored)}; },
     "multiple of 64"},
    {"raw size > 0", [](auto& s) { s.chunks = {Chunk(kRoom, 0, 0, Codec::kStored)}; }, "raw size is 0"},
    {"raw size <= 64 MiB", [](auto& s) { s.chunks = {Chunk(kRoom, 64, 1u << 30, Codec::kZstd)}; },
     "raw size is 1073741"},
    {"elements have bytes",
     [](auto& s) {
       s.chunks = {Chunk(kRoom, 64, 64, Codec::kStored)};
       s.chunks[0].element_bytes = 0;
     },
     "bytes per element is 0"},
    {"stored chunk has no filter",
     [](auto& s) { s.chunks = {Chunk(kRoom, 64, 64, Codec::kStored, Filter::kBytePlanes)}; },
     "stored with filter 1"},
    {"stored chunk keeps its size", [](auto& s) { s.chunks = {Chunk(kRoom, 64, 128, Codec::kStored)}; },
     "stored size of a stored chunk is 64, expected 128"},
    {"stored chunk has one checksum",
     [](auto& s) {
       s.chunks = {Chunk(kRoom, 64, 64, Codec::kStored)};
       s.chunks[0].raw_checksum = 1;
     },
     "its checksums 0000000000000000 and 0000000000000001 differ"},
    {"zstd chunk does not grow", [](auto& s) { s.chunks = {Chunk(kRoom, 65, 64, Codec::kZstd)}; },
     "stored size is 65"},
    {"zstd chunk has bytes", [](auto& s) { s.chunks = {Chunk(kRoom, 0, 64, Codec::kZstd)}; },
     "stored size is 0"},
    {"byte planes are of 2 bytes",
     [](auto& s) {
       s.chunks = {Chunk(kRoom, 60, 64, Codec::kZstd, Filter::kBytePlanes)};
       s.chunks[0].element_bytes = 4;
     },
     "in elements of 4, expected whole elements of 2"},
    {"byte planes are of whole elements",
     [](auto& s) { s.chunks = {Chunk(kRoom, 60, 65, Codec::kZstd, Filter::kBytePlanes)}; },
     "byte planes of 65 bytes"},
    {"byte planes have both planes",
     [](auto& s) { s.chunks = {Chunk(kRoom, 32, 64, Codec::kZstd, Filter::kBytePlanes)}; },
     "stored size of byte planes is 32, expected 33 to 64"},
};

}  // namespace

TEST_CASE("tensor rule:", "[hostile]") { CheckRules(kTensorRules); }
TEST_CASE("chunk rule:", "[hostile]") { CheckRules(kChunkRules); }

}  // namespace dsopt::testing
