#include "runtime/saved_stream.h"

#include <xxhash.h>

#include <catch2/catch.hpp>
#include <cstring>

namespace dsopt {
namespace {

const SavedIdentity kIdentity = {0xABCDEF, 256, 8, DSOPT_BF16, 100, 50};

std::vector<uint8_t> Saved(const std::vector<dsopt_token>& tokens, uint32_t cached) {
  std::vector<uint8_t> buffer(
      LayoutSaved(static_cast<uint32_t>(tokens.size()), (cached + 7) / 8, 256).total_bytes, 0x55);
  SealSaved(kIdentity, tokens, cached, buffer);
  return buffer;
}

// Recomputes the checksum, so that a test reaches the check behind it.
void Reseal(std::vector<uint8_t>* buffer) {
  SavedHeader header;
  std::memcpy(&header, buffer->data(), sizeof header);
  header.checksum = 0;
  const uint64_t head = XXH64(&header, sizeof header, 0);
  header.checksum = XXH64(buffer->data() + sizeof header, buffer->size() - sizeof header, head);
  std::memcpy(buffer->data(), &header, sizeof header);
}

template <typename Change>
dsopt_code CodeAfter(Change change, bool reseal = true) {
  std::vector<uint8_t> buffer = Saved({1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, 9);
  SavedHeader header;
  std::memcpy(&header, buffer.data(), sizeof header);
  change(&header);
  std::memcpy(buffer.data(), &header, sizeof header);
  if (reseal) Reseal(&buffer);
  return ParseSaved(kIdentity, buffer).status().code();
}

TEST_CASE("a saved stream reads back", "[save]") {
  const std::vector<uint8_t> buffer = Saved({1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, 9);
  const Result<SavedStream> saved = ParseSaved(kIdentity, buffer);
  REQUIRE(saved.ok());
  CHECK(saved->tokens == std::vector<dsopt_token>{1, 2, 3, 4, 5, 6, 7, 8, 9, 10});
  CHECK(saved->cached_tokens == 9);
  CHECK(saved->pages.size() == 512);
  CHECK(saved->pages[0] == 0x55);
}

TEST_CASE("an empty stream saves and reads back", "[save]") {
  const Result<SavedStream> saved = ParseSaved(kIdentity, Saved({}, 0));
  REQUIRE(saved.ok());
  CHECK(saved->tokens.empty());
  CHECK(saved->pages.empty());
}

TEST_CASE("every flipped byte of a saved stream is noticed", "[save]") {
  const std::vector<uint8_t> good = Saved({1, 2, 3}, 3);
  for (size_t i = 0; i < good.size(); ++i) {
    std::vector<uint8_t> bad = good;
    bad[i] ^= 0x40;
    const Status status = ParseSaved(kIdentity, bad).status();
    CAPTURE(i);
    REQUIRE((status.code() == DSOPT_E_CORRUPT || status.code() == DSOPT_E_VERSION));
  }
}

TEST_CASE("every length but the right one is refused", "[save]") {
  std::vector<uint8_t> buffer = Saved({1, 2, 3}, 3);
  for (size_t length = 0; length < buffer.size(); ++length) {
    REQUIRE(ParseSaved(kIdentity, {buffer.data(), length}).status().code() == DSOPT_E_CORRUPT);
  }
  buffer.push_back(0);
  CHECK(ParseSaved(kIdentity, buffer).status().code() == DSOPT_E_CORRUPT);
}

TEST_CASE("fields with a right checksum and wrong values are refused by kind", "[save]") {
  CHECK(CodeAfter([](SavedHeader*) {}) == DSOPT_OK);
  CHECK(CodeAfter([](SavedHeader* h) { h->fingerprint = 1; }) == DSOPT_E_UNSUPPORTED);
  CHECK(CodeAfter([](SavedHeader* h) { h->kv_dtype = DSOPT_F32; }) == DSOPT_E_UNSUPPORTED);
  CHECK(CodeAfter([](SavedHeader* h) { h->page_tokens = 0; }) == DSOPT_E_UNSUPPORTED);
  CHECK(CodeAfter([](SavedHeader* h) { h->page_bytes = 1; }) == DSOPT_E_UNSUPPORTED);
  CHECK(CodeAfter([](SavedHeader* h) { h->token_count = 51; }) == DSOPT_E_CORRUPT);
  CHECK(CodeAfter([](SavedHeader* h) { h->token_count = 0xFFFFFFFF; }) == DSOPT_E_CORRUPT);
  CHECK(CodeAfter([](SavedHeader* h) { h->cached_tokens = 11; }) == DSOPT_E_CORRUPT);
  CHECK(CodeAfter([](SavedHeader* h) { h->cached_tokens = 1; }) == DSOPT_E_CORRUPT);
  CHECK(CodeAfter([](SavedHeader* h) { h->version = 2; }) == DSOPT_E_VERSION);
  CHECK(CodeAfter([](SavedHeader* h) { h->version = 0; }) == DSOPT_E_CORRUPT);
}

TEST_CASE("a token outside of the vocabulary is refused", "[save]") {
  CHECK(ParseSaved(kIdentity, Saved({1, 100}, 2)).status().code() == DSOPT_E_CORRUPT);
  CHECK(ParseSaved(kIdentity, Saved({1, -1}, 2)).status().code() == DSOPT_E_CORRUPT);
}

}  // namespace
}  // namespace dsopt
