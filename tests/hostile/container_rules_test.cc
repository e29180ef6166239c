// The rules of the preamble, of the metadata block before it is parsed, and of the bytes of a chunk.
#include <zstd.h>

#include <catch2/catch.hpp>
#include <cstddef>
#include <cstring>
#include <functional>
#include <memory>

#include "format/chunk_codec.h"
#include "format/layout.h"
#include "format/metadata.h"
#include "format/reader.h"
#include "tests/hostile/rules.h"
#include "tests/unit/format/spec_builder.h"

namespace dsopt::testing {
namespace {

struct PreambleRule {
  const char* name;
  std::function<void(Preamble&)> lie;
  const char* message;
  dsopt_code code = DSOPT_E_CORRUPT;
};

const PreambleRule kPreambleRules[] = {
    {"magic number", [](Preamble& p) { p.magic[7] = '\r'; }, "first 8 bytes"},
    {"major version is not newer", [](Preamble& p) { p.major = 2; }, "format 2.0, this library reads up to 1.x",
     DSOPT_E_VERSION},
    {"major version is not 0", [](Preamble& p) { p.major = 0; }, "preamble of format 0.0"},
    {"no flags", [](Preamble& p) { p.flags = 4; }, "preamble flags 0x4", DSOPT_E_VERSION},
    {"reserved is 0", [](Preamble& p) { p.reserved = 1; }, "reserved 0x1", DSOPT_E_VERSION},
    {"file is not longer", [](Preamble& p) { p.file_bytes -= 1; }, "its preamble says"},
    {"file is not shorter", [](Preamble& p) { p.file_bytes += 1; }, "it was cut or appended to"},
    {"metadata is behind the preamble", [](Preamble& p) { p.meta_offset = 0; }, "metadata at 0"},
    {"metadata is aligned", [](Preamble& p) { p.meta_offset = 65; }, "expected a multiple of 64"},
    {"metadata starts inside the file", [](Preamble& p) { p.meta_offset = uint64_t{1} << 40; },
     "metadata at 10995"},
    {"metadata does not wrap around", [](Preamble& p) { p.meta_offset = UINT64_MAX - 63; },
     "metadata at 18446744073"},
    {"metadata ends inside the file", [](Preamble& p) { p.meta_stored = UINT32_MAX; },
     "metadata at 64 + 4294967295"},
    {"metadata has stored bytes", [](Preamble& p) { p.meta_stored = 0; }, "0 stored, expected 1 to"},
    {"metadata has raw bytes", [](Preamble& p) { p.meta_raw = 0; }, "metadata of 0 bytes"},
    {"metadata <= 64 MiB", [](Preamble& p) { p.meta_raw = (64u << 20) + 1; }, "metadata of 67108865 bytes"},
    {"metadata checksum", [](Preamble& p) { p.meta_checksum ^= 1; }, "the checksum of the metadata is"},
    {"content size of the metadata", [](Preamble& p) { p.meta_raw += 1; }, "bytes of content, expected"},
};

std::vector<uint8_t> Frame(std::span<const uint8_t> bytes, bool with_content_size = true) {
  std::unique_ptr<ZSTD_CCtx, size_t (*)(ZSTD_CCtx*)> context(ZSTD_createCCtx(), ZSTD_freeCCtx);
  ZSTD_CCtx_setParameter(context.get(), ZSTD_c_contentSizeFlag, with_content_size ? 1 : 0);
  std::vector<uint8_t> frame(ZSTD_compressBound(bytes.size()));
  frame.resize(ZSTD_compress2(context.get(), frame.data(), frame.size(), bytes.data(), bytes.size()));
  return frame;
}

std::string Message(const Status& status) { return std::string(status.message()); }

}  // namespace

TEST_CASE("preamble rule:", "[hostile]") {
  for (const PreambleRule& rule : kPreambleRules) {
    DYNAMIC_SECTION(rule.name) {
      std::vector<uint8_t> file = RawFile(HonestSpec(), 0);
      Preamble preamble;
      std::memcpy(&preamble, file.data(), sizeof preamble);
      rule.lie(preamble);
      std::memcpy(file.data(), &preamble, sizeof preamble);
      FixPreamble(&file);
      const Status status = OpenBytes(file);
      CHECK_THAT(Message(status), Catch::Contains(rule.message));
      CHECK(status.code() == rule.code);
    }
  }
}

TEST_CASE("preamble rule: checksum", "[hostile]") {
  std::vector<uint8_t> file = RawFile(HonestSpec(), 0);
  file[offsetof(Preamble, minor)] ^= 1;
  const Status status = OpenBytes(file);
  CHECK(status.code() == DSOPT_E_CORRUPT);
  CHECK_THAT(Message(status), Catch::Contains("preamble of format 1.1 with checksum"));
}

TEST_CASE("preamble rule: a file has 64 bytes", "[hostile]") {
  const std::vector<uint8_t> file = RawFile(HonestSpec(), 0);
  CHECK_THAT(Message(OpenBytes(std::span(file).first(63))),
             Catch::Contains("63 bytes, a .dsopt file has at least 64"));
  CHECK(OpenBytes({}).code() == DSOPT_E_CORRUPT);
}

TEST_CASE("a newer minor version opens and is reported", "[hostile]") {
  std::vector<uint8_t> file = RawFile(HonestSpec(), 0);
  const uint16_t minor = 513;
  std::memcpy(file.data() + offsetof(Preamble, minor), &minor, sizeof minor);
  FixPreamble(&file);
  const auto source = MakeMemorySource(file);
  Result<ModelSpec> spec = ReadModelSpec(*source, DefaultAllocator());
  REQUIRE(spec.ok());
  CHECK(spec->format_major == 1);
  CHECK(spec->format_minor == 513);
}

TEST_CASE("metadata frame rule: a zstd frame of today", "[hostile]") {
  const std::vector<uint8_t> metadata = SerializeMetadata(HonestSpec());
  std::vector<uint8_t> frame = Frame(metadata);
  frame[0] = 0x27;  // the number of zstd 0.7
  CHECK_THAT(Message(OpenBytes(WrapFrame(frame, metadata.size(), 0))), Catch::Contains("are not a zstd frame"));
  const std::vector<uint8_t> tiny = {0x28, 0xb5};
  CHECK_THAT(Message(OpenBytes(WrapFrame(tiny, metadata.size(), 0))),
             Catch::Contains("2 bytes are not a zstd frame"));
}

TEST_CASE("metadata frame rule: the content size is in the header", "[hostile]") {
  const std::vector<uint8_t> metadata = SerializeMetadata(HonestSpec());
  const Status status = OpenBytes(WrapFrame(Frame(metadata, false), metadata.size(), 0));
  CHECK(status.code() == DSOPT_E_CORRUPT);
  CHECK_THAT(Message(status), Catch::Contains("lacks its content size"));
}

TEST_CASE("metadata frame rule: the content size is true", "[hostile]") {
  const std::vector<uint8_t> metadata = SerializeMetadata(HonestSpec());
  std::vector<uint8_t> frame = Frame(metadata);
  frame.resize(frame.size() - 4);
  const Status status = OpenBytes(WrapFrame(frame, metadata.size(), 0));
  CHECK(status.code() == DSOPT_E_CORRUPT);
  CHECK_THAT(Message(status), Catch::Contains("metadata: zstd: "));
}

namespace {

// A file of one bf16 tensor of one chunk, compressed as byte planes; `change` may alter the chunk's entry and
// bytes.
Status ReadChanged(const std::function<void(ChunkSpec&, std::vector<uint8_t>&)>& change, bool verify) {
  const std::vector<uint8_t> zeros(1024);
  ModelSpec spec = HonestSpec();
  spec.tensors[0].synthetic = false;
  spec.tensors[0].shape = {512};
  spec.tensors[0].chunk_count = 1;
  spec.chunks.resize(1);
  ChunkEncoder encoder(1);
  Result<std::span<const uint8_t>> encoded = encoder.Encode(zeros, 2, true, &spec.chunks[0]);
  REQUIRE(encoded.ok());
  std::vector<uint8_t> stored(encoded->begin(), encoded->end());
  change(spec.chunks[0], stored);
  spec.chunks[0].offset = 64u << 10;
  const std::vector<uint8_t> probe = RawFile(spec, 0);
  REQUIRE(probe.size() < spec.chunks[0].offset);
  std::vector<uint8_t> file = RawFile(spec, spec.chunks[0].offset - probe.size() + stored.size());
  std::copy(stored.begin(), stored.end(), file.end() - static_cast<ptrdiff_t>(stored.size()));
  const auto source = MakeMemorySource(file);
  return OpenAndReadAll(*source, verify);
}

}  // namespace

TEST_CASE("an honest chunk of byte planes decodes", "[hostile]") {
  const Status status = ReadChanged([](ChunkSpec&, std::vector<uint8_t>&) {}, true);
  INFO(Message(status));
  CHECK(status.ok());
}

TEST_CASE("chunk data rule: the checksum of the stored bytes comes before the decoder", "[hostile]") {
  const Status status =
      ReadChanged([](ChunkSpec&, std::vector<uint8_t>& stored) { stored[520] ^= 0xff; }, false);
  CHECK(status.code() == DSOPT_E_CORRUPT);
  CHECK_THAT(Message(status), Catch::Contains("memory: chunk 0 at 65536: the checksum of its"));
}

TEST_CASE("chunk data rule: the checksum of the decoded bytes, when verifying", "[hostile]") {
  const auto change = [](ChunkSpec& chunk, std::vector<uint8_t>& stored) {
    stored[0] ^= 1;
    chunk.stored_checksum = Checksum(stored);
  };
  const Status status = ReadChanged(change, true);
  CHECK(status.code() == DSOPT_E_CORRUPT);
  CHECK_THAT(Message(status), Catch::Contains("decoded bytes is"));
  CHECK(ReadChanged(change, false).ok());
}

TEST_CASE("chunk data rule: the frame decodes", "[hostile]") {
  const Status status = ReadChanged(
      [](ChunkSpec& chunk, std::vector<uint8_t>& stored) {
        for (size_t i = 512 + 8; i < stored.size(); ++i) stored[i] = 0xff;
        chunk.stored_checksum = Checksum(stored);
      },
      false);
  CHECK(status.code() == DSOPT_E_CORRUPT);
  CHECK_THAT(Message(status), Catch::Contains("chunk 0 at 65536: zstd: "));
}

TEST_CASE("chunk data rule: the frame holds the chunk and no more", "[hostile]") {
  const Status status = ReadChanged(
      [](ChunkSpec& chunk, std::vector<uint8_t>& stored) {
        const std::vector<uint8_t> frame = Frame(std::vector<uint8_t>(513));
        stored.resize(512);
        stored.insert(stored.end(), frame.begin(), frame.end());
        chunk.stored_size = static_cast<uint32_t>(stored.size());
        chunk.stored_checksum = Checksum(stored);
      },
      false);
  CHECK(status.code() == DSOPT_E_CORRUPT);
  CHECK_THAT(Message(status), Catch::Contains("513 bytes of content, expected 512"));
}

}  // namespace dsopt::testing
