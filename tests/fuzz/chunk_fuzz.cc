// One chunk. Even first byte: arbitrary stored bytes with an arbitrary description are decoded. Odd: arbitrary
// raw bytes are encoded and must come back.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "format/chunk_codec.h"

namespace dsopt {
namespace {

constexpr uint32_t kMaxRawBytes = 1u << 20;

ChunkDecoder& Decoder() {
  static Result<ChunkDecoder> decoder = ChunkDecoder::Create(DefaultAllocator(), kMaxRawBytes);
  return *decoder;
}

// codec | filter | raw size, 3 bytes | stored bytes
void Decode(std::span<const uint8_t> input) {
  if (input.size() < 5) return;
  ChunkSpec chunk;
  chunk.codec = static_cast<Codec>(input[0] % 2);
  chunk.filter = static_cast<Filter>(input[1] % 2);
  chunk.element_bytes = 2;
  chunk.raw_size = (input[2] | uint32_t{input[3]} << 8 | uint32_t{input[4]} << 16) % (kMaxRawBytes + 1);
  const std::vector<uint8_t> stored(input.begin() + 5, input.end());  // sanitizers see a read behind it
  chunk.stored_size = static_cast<uint32_t>(stored.size());
  std::vector<uint8_t> raw(chunk.raw_size);
  if (Status status = Decoder().Decode(chunk, stored, raw); !status.ok() && status.code() != DSOPT_E_CORRUPT) {
    std::abort();
  }
}

// level and element size | raw bytes
void RoundTrip(std::span<const uint8_t> input) {
  if (input.size() < 2 || input.size() > kMaxRawBytes) return;
  const uint32_t element_bytes = 1u << input[0] % 3;
  ChunkEncoder encoder(1 + input[0] / 16 % 3);
  ChunkSpec chunk;
  const std::span<const uint8_t> raw = input.subspan(1);
  Result<std::span<const uint8_t>> stored = encoder.Encode(raw, element_bytes, true, &chunk);
  if (!stored.ok() || stored->size() > raw.size()) std::abort();
  std::vector<uint8_t> back(raw.size());
  if (!Decoder().Decode(chunk, *stored, back).ok()) std::abort();
  if (std::memcmp(back.data(), raw.data(), raw.size()) != 0) std::abort();
  if (Checksum(*stored) != chunk.stored_checksum || Checksum(back) != chunk.raw_checksum) std::abort();
}

}  // namespace
}  // namespace dsopt

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  if (data[0] % 2 == 0) {
    dsopt::Decode({data + 1, size - 1});
  } else {
    dsopt::RoundTrip({data + 1, size - 1});
  }
  return 0;
}
