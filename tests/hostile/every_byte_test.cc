// No byte of a file can change, and no part of it can be missing, without an error of the right kind.
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstring>

#include "format/layout.h"
#include "format/metadata.h"
#include "format/reader.h"
#include "tests/hostile/rules.h"
#include "tests/unit/format/spec_builder.h"

namespace dsopt::testing {
namespace {

// True where a byte means something: the rest is padding.
std::vector<bool> UsedBytes(const std::vector<uint8_t>& file) {
  const auto source = MakeMemorySource(file);
  Result<ModelSpec> spec = ReadModelSpec(*source, DefaultAllocator());
  REQUIRE(spec.ok());
  std::vector<bool> used(file.size(), false);
  for (const ChunkSpec& chunk : spec->chunks) {
    for (uint64_t i = 0; i < chunk.stored_size; ++i) used[chunk.offset + i] = true;
  }
  Preamble preamble;
  std::memcpy(&preamble, file.data(), sizeof preamble);
  for (size_t i = 0; i < sizeof preamble + preamble.meta_stored; ++i) used[i] = true;
  return used;
}

}  // namespace

TEST_CASE("every changed byte is found, or is padding", "[hostile]") {
  WriterOptions options;
  options.compress = GENERATE(true, false);
  const uint8_t change = GENERATE(uint8_t{0x01}, uint8_t{0xff});
  std::vector<uint8_t> file = WriteFile(SmallSpec(), SmallData(SmallSpec(), 5), options);
  const std::vector<bool> used = UsedBytes(file);
  size_t wrong = 0;
  for (size_t i = 0; i < file.size(); ++i) {
    file[i] ^= change;
    const Status status = OpenBytes(file);
    const bool typed = status.code() == DSOPT_E_CORRUPT || status.code() == DSOPT_E_VERSION;
    if (used[i] ? !typed : !status.ok()) {
      UNSCOPED_INFO("byte " << i << ": " << std::string(status.message()));
      ++wrong;
    }
    file[i] ^= change;
  }
  CHECK(wrong == 0);
  CHECK(OpenBytes(file).ok());
}

TEST_CASE("every prefix of a file is refused as corrupt", "[hostile]") {
  const std::vector<uint8_t> file = WriteFile(SmallSpec(), SmallData(SmallSpec(), 6), {});
  size_t wrong = 0;
  for (size_t bytes = 0; bytes < file.size(); ++bytes) {
    // A copy of its own, so that a sanitizer sees a read behind it.
    const std::vector<uint8_t> prefix(file.begin(), file.begin() + static_cast<ptrdiff_t>(bytes));
    if (OpenBytes(prefix).code() == DSOPT_E_CORRUPT) continue;
    UNSCOPED_INFO("prefix of " << bytes);
    ++wrong;
  }
  CHECK(wrong == 0);
}

TEST_CASE("no changed byte of the metadata crashes the parser when the checksums match", "[hostile]") {
  // As an attacker would: the flatbuffer is changed and wrapped with right checksums. It may even be valid.
  const std::vector<uint8_t> honest = SerializeMetadata(HonestSpec());
  size_t refused = 0;
  for (size_t i = 0; i < honest.size(); ++i) {
    for (uint8_t change : {uint8_t{0x01}, uint8_t{0x80}, uint8_t{0xff}}) {
      std::vector<uint8_t> metadata = honest;
      metadata[i] ^= change;
      const Status status = OpenBytes(WrapMetadata(metadata, 0));
      if (status.ok()) continue;
      ++refused;
      const bool typed = status.code() == DSOPT_E_CORRUPT || status.code() == DSOPT_E_VERSION;
      if (!typed) FAIL("byte " << i << ": " << std::string(status.message()));
    }
  }
  CHECK(refused > honest.size());
}

}  // namespace dsopt::testing
