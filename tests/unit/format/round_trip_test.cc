#include <algorithm>
#include <catch2/catch.hpp>
#include <cstring>
#include <random>

#include "format/chunk_codec.h"
#include "format/filter.h"
#include "format/layout.h"
#include "format/reader.h"
#include "tests/unit/format/spec_builder.h"

namespace dsopt::testing {
namespace {

// The bytes of a tensor as the file gives them back.
std::vector<uint8_t> ReadTensor(const ModelSpec& spec, Source& source, const std::string& name) {
  Result<ChunkReader> reader = ChunkReader::Create(spec, source, DefaultAllocator(), true);
  REQUIRE(reader.ok());
  std::vector<uint8_t> bytes;
  for (const TensorSpec& tensor : spec.tensors) {
    if (tensor.name != name) continue;
    for (uint32_t i = 0; i < tensor.chunk_count; ++i) {
      auto chunk = reader->Read(tensor.first_chunk + i);
      INFO(chunk.status().message());
      REQUIRE(chunk.ok());
      bytes.insert(bytes.end(), chunk->begin(), chunk->end());
    }
  }
  return bytes;
}

void CheckSame(const ModelSpec& wrote, const ModelSpec& read) {
  CHECK(read.config.architecture == wrote.config.architecture);
  CHECK(read.config.hidden == wrote.config.hidden);
  CHECK(read.config.vocab == wrote.config.vocab);
  CHECK(read.config.context == wrote.config.context);
  CHECK(read.config.kinds == wrote.config.kinds);
  CHECK(read.config.layers == wrote.config.layers);
  CHECK(read.config.tie_embeddings == wrote.config.tie_embeddings);
  CHECK(read.config.embedding_scale == wrote.config.embedding_scale);
  CHECK(read.config.final_norm_eps == wrote.config.final_norm_eps);
  CHECK(read.tokenizer == wrote.tokenizer);
  CHECK(read.chat_template == wrote.chat_template);
  CHECK(read.sampling.temperature == wrote.sampling.temperature);
  CHECK(read.sampling.top_k == wrote.sampling.top_k);
  CHECK(read.sampling.top_p == wrote.sampling.top_p);
  CHECK(read.sampling.min_p == wrote.sampling.min_p);
  CHECK(read.sampling.repeat_penalty == wrote.sampling.repeat_penalty);
  CHECK(read.metadata == wrote.metadata);
  REQUIRE(read.tensors.size() == wrote.tensors.size());
  CHECK(read.format_major == kFormatMajor);
}

}  // namespace

TEST_CASE("a file gives back what was written", "[format]") {
  const ModelSpec spec = SmallSpec();
  const auto data = SmallData(spec, 1);
  WriterOptions options;
  options.chunk_bytes = GENERATE(64u, 1024u, 1u << 20);
  options.compress = GENERATE(true, false);
  CAPTURE(options.chunk_bytes, options.compress);
  const std::vector<uint8_t> file = WriteFile(spec, data, options);
  const auto source = MakeMemorySource(file);
  Result<ModelSpec> read = ReadModelSpec(*source, DefaultAllocator());
  INFO(read.status().message());
  REQUIRE(read.ok());
  CheckSame(spec, *read);
  size_t at = 0;
  for (const TensorSpec& tensor : spec.tensors) {
    if (tensor.synthetic) continue;
    CAPTURE(tensor.name);
    CHECK(ReadTensor(*read, *source, tensor.name) == data[at++]);
  }
  for (const TensorSpec& tensor : read->tensors) {
    if (!tensor.synthetic) continue;
    CHECK(tensor.synthetic_seed == 77);
    CHECK(tensor.synthetic_stddev == 0.02f);
    CHECK(tensor.raw_bytes == 64 * 64 * 2);
  }
  if (!options.compress) {
    for (const ChunkSpec& chunk : read->chunks) {
      CHECK(chunk.codec == Codec::kStored);
      CHECK(chunk.offset % kMappedChunkAlign == 0);
    }
  }
}

TEST_CASE("trained-looking bf16 weights are stored in at most 0.75 of their size", "[format]") {
  ModelSpec spec = SmallSpec();
  spec.tensors.resize(1);
  spec.tensors[0].shape = {512, 1024};
  const auto data = SmallData(spec, 2);
  const std::vector<uint8_t> file = WriteFile(spec, data, {});
  const auto source = MakeMemorySource(file);
  Result<ModelSpec> read = ReadModelSpec(*source, DefaultAllocator());
  REQUIRE(read.ok());
  uint64_t stored = 0;
  for (const ChunkSpec& chunk : read->chunks) {
    CHECK(chunk.filter == Filter::kBytePlanes);
    stored += chunk.stored_size;
  }
  CHECK(static_cast<double>(stored) < 0.75 * static_cast<double>(data[0].size()));
  CHECK(ReadTensor(*read, *source, "zeta") == data[0]);
}

TEST_CASE("the byte planes of any 16-bit values join to the same values", "[format]") {
  std::vector<uint8_t> raw(2 * 65536);
  for (uint32_t i = 0; i < 65536; ++i) {
    raw[2 * i] = static_cast<uint8_t>(i);
    raw[2 * i + 1] = static_cast<uint8_t>(i >> 8);
  }
  for (size_t count : {size_t{0}, size_t{1}, size_t{15}, size_t{16}, size_t{17}, size_t{65536}}) {
    std::vector<uint8_t> low(count), high(count), joined(2 * count, 0xAA);
    SplitPlanes(raw.data(), count, low.data(), high.data());
    JoinPlanes(low.data(), high.data(), count, joined.data());
    CHECK(std::equal(joined.begin(), joined.end(), raw.begin()));
  }
  std::vector<uint8_t> low(65536), high(65536);
  SplitPlanes(raw.data(), 65536, low.data(), high.data());
  size_t wrong = 0;
  for (uint32_t i = 0; i < 65536; ++i) {
    uint8_t one_low, one_high;  // not in a vector of sixteen
    SplitPlanes(&raw[2 * i], 1, &one_low, &one_high);
    const uint32_t rotated = (i << 1 | i >> 15) & 0xffff;
    wrong += low[i] != (rotated & 0xff) || high[i] != rotated >> 8 || one_low != low[i] || one_high != high[i];
  }
  CHECK(wrong == 0);
  CHECK(high[0x3f80] == 0x7f);  // the exponent of bf16 1.0
  CHECK(high[0xbf80] == 0x7f);  // and of -1.0
}

TEST_CASE("incompressible chunks are stored as they are", "[format]") {
  const ModelSpec spec = SmallSpec();  // its f32, f16 and i8 tensors are noise
  const std::vector<uint8_t> file = WriteFile(spec, SmallData(spec, 9), {});
  const auto source = MakeMemorySource(file);
  Result<ModelSpec> read = ReadModelSpec(*source, DefaultAllocator());
  REQUIRE(read.ok());
  Result<ChunkReader> reader = ChunkReader::Create(*read, *source, DefaultAllocator(), true);
  REQUIRE(reader.ok());
  for (const TensorSpec& tensor : read->tensors) {
    if (tensor.synthetic || tensor.dtype == DSOPT_BF16) continue;
    CAPTURE(tensor.name);
    const ChunkSpec& chunk = read->chunks[tensor.first_chunk];
    CHECK(chunk.codec == Codec::kStored);
    CHECK(chunk.stored_size == chunk.raw_size);
    auto bytes = reader->Read(tensor.first_chunk);
    REQUIRE(bytes.ok());
    CHECK(bytes->data() == file.data() + chunk.offset);  // in place
  }
}

TEST_CASE("every element type comes back, at sizes around a chunk", "[format]") {
  const dsopt_dtype dtype =
      GENERATE(DSOPT_F32, DSOPT_F16, DSOPT_BF16, DSOPT_F8_E4M3, DSOPT_I8, DSOPT_I32, DSOPT_U8);
  const uint64_t bytes = GENERATE(4, 60, 64, 68, 124, 128, 132, 4096);
  WriterOptions options;
  options.chunk_bytes = 64;
  options.compress = GENERATE(true, false);
  const bool noise = GENERATE(true, false);
  CAPTURE(dtype, bytes, options.compress, noise);
  ModelSpec spec = SmallSpec();
  spec.tensors.resize(1);
  spec.tensors[0].dtype = dtype;
  spec.tensors[0].shape = {bytes / ElementBytes(dtype)};
  auto data = SmallData(spec, 10);
  if (!noise) std::fill(data[0].begin(), data[0].end(), uint8_t{0});
  const std::vector<uint8_t> file = WriteFile(spec, data, options);
  const auto source = MakeMemorySource(file);
  Result<ModelSpec> read = ReadModelSpec(*source, DefaultAllocator());
  REQUIRE(read.ok());
  CHECK(read->chunks.size() == (bytes + 63) / 64);
  CHECK(ReadTensor(*read, *source, "zeta") == data[0]);
}

TEST_CASE("a file of synthetic tensors only has no chunks", "[format]") {
  ModelSpec spec = SmallSpec();
  spec.tensors.erase(spec.tensors.begin(), spec.tensors.end() - 1);
  const std::vector<uint8_t> file = WriteFile(spec, {}, {});
  const auto source = MakeMemorySource(file);
  Result<ModelSpec> read = ReadModelSpec(*source, DefaultAllocator());
  REQUIRE(read.ok());
  CHECK(read->chunks.empty());
  CHECK(read->file_bytes == file.size());
}

TEST_CASE("the fingerprint tells models apart and is that of the content", "[format]") {
  const ModelSpec spec = SmallSpec();
  const auto fingerprint = [&](uint32_t seed, const ModelSpec& model) {
    const std::vector<uint8_t> file = WriteFile(model, SmallData(model, seed), {});
    const auto source = MakeMemorySource(file);
    return ReadModelSpec(*source, DefaultAllocator())->fingerprint;
  };
  CHECK(fingerprint(1, spec) == fingerprint(1, spec));
  CHECK(fingerprint(1, spec) != fingerprint(2, spec));  // other weights: other checksums of chunks
  ModelSpec other = spec;
  other.config.context += 1;
  CHECK(fingerprint(1, spec) != fingerprint(1, other));
}

TEST_CASE("random chunks survive the codec", "[format]") {
  std::mt19937 random(11);
  ChunkEncoder encoder(1);
  Result<ChunkDecoder> decoder = ChunkDecoder::Create(DefaultAllocator(), 5000);
  REQUIRE(decoder.ok());
  for (int round = 0; round < 500; ++round) {
    std::vector<uint8_t> raw(1 + random() % 5000);
    const uint32_t values = 1 + random() % 256, element_bytes = 1u << random() % 3;
    for (uint8_t& byte : raw) byte = static_cast<uint8_t>(random() % values);
    CAPTURE(round, raw.size(), values, element_bytes);
    ChunkSpec chunk;
    Result<std::span<const uint8_t>> stored = encoder.Encode(raw, element_bytes, true, &chunk);
    REQUIRE(stored.ok());
    REQUIRE(chunk.stored_size == stored->size());
    REQUIRE(chunk.stored_checksum == Checksum(*stored));
    std::vector<uint8_t> back(raw.size(), 0xAA);
    REQUIRE(decoder->Decode(chunk, *stored, back).ok());
    REQUIRE(back == raw);
  }
}

TEST_CASE("buffers come from the allocator, all of them before the first chunk", "[format]") {
  struct Counter {
    int alive = 0, calls = 0, fail_at = -1;
  } counter;
  dsopt_allocator allocator = DefaultAllocator();
  allocator.user = &counter;
  allocator.alloc = [](void* user, size_t size, size_t align) -> void* {
    Counter& c = *static_cast<Counter*>(user);
    if (c.calls++ == c.fail_at) return nullptr;
    ++c.alive;
    return DefaultAllocator().alloc(nullptr, size, align);
  };
  allocator.free = [](void* user, void* ptr, size_t size, size_t align) {
    --static_cast<Counter*>(user)->alive;
    DefaultAllocator().free(nullptr, ptr, size, align);
  };
  const std::vector<uint8_t> file = WriteFile(SmallSpec(), SmallData(SmallSpec(), 12), {});
  const auto read_all = [&]() -> Status {
    auto source = MakeMemorySource(file);
    ASSIGN_OR_RETURN(ModelSpec spec, ReadModelSpec(*source, allocator));
    ASSIGN_OR_RETURN(ChunkReader reader, ChunkReader::Create(spec, *source, allocator, true));
    const int before = counter.calls;
    for (uint32_t i = 0; i < spec.chunks.size(); ++i) RETURN_IF_ERROR(reader.Read(i).status());
    CHECK(counter.calls == before);
    return {};
  };
  bool done = false;
  for (int n = 0; !done; ++n) {
    REQUIRE(n < 20);
    counter = {0, 0, n};
    const Status status = read_all();
    done = status.ok();
    CHECK((done || status.code() == DSOPT_E_OUT_OF_MEMORY));
    CHECK(counter.alive == 0);
  }
  CHECK(counter.calls >= 3);
}

}  // namespace dsopt::testing
