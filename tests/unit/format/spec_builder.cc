#include "tests/unit/format/spec_builder.h"

#include <zstd.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <random>
#include <stdexcept>

#include "format/chunk_codec.h"
#include "format/layout.h"
#include "format/metadata.h"
#include "format/reader.h"

namespace dsopt::testing {
namespace {

void Check(const Status& status) {
  if (!status.ok()) throw std::runtime_error(std::string(status.message()));
}

TensorSpec Tensor(const char* name, dsopt_dtype dtype, std::vector<uint64_t> shape) {
  TensorSpec tensor;
  tensor.name = name;
  tensor.dtype = dtype;
  tensor.shape = std::move(shape);
  return tensor;
}

}  // namespace

ModelSpec SmallSpec() {
  ModelSpec spec;
  ConfigSpec& config = spec.config;
  config.architecture = "deepseek_v2";
  config.hidden = 64;
  config.vocab = 300;
  config.context = 2048;
  LayerKind dense, mixture;
  dense.attention.q_heads = 4;
  dense.attention.kv_heads = 2;
  dense.attention.head_dim = 16;
  dense.attention.window = 128;
  dense.attention.qkv_bias = true;
  dense.attention.rope.dim = 16;
  dense.attention.rope.scaling = RopeScaling::kLlama3;
  dense.attention.rope.factor = 8.0f;
  dense.attention.rope.original_context = 512;
  dense.mlp.inner = 96;
  mixture = dense;
  mixture.mixer = Mixer::kMla;
  mixture.attention.kv_heads = 4;
  mixture.attention.head_dim = 24;
  mixture.attention.nope_dim = 16;
  mixture.attention.v_dim = 16;
  mixture.attention.kv_lora_rank = 32;
  mixture.attention.q_lora_rank = 8;
  mixture.attention.rope.dim = 8;
  mixture.attention.rope.interleaved = true;
  mixture.attention.rope.scaling = RopeScaling::kYarn;
  mixture.attention.rope.mscale = 0.7f;
  mixture.mlp.inner = 0;
  mixture.mlp.activation = Activation::kGeluTanh;
  mixture.mlp.moe = {8, 3, 32, 64, 4, 2, true, 2.5f};
  config.kinds = {dense, mixture};
  config.layers = {0, 1, 1};
  config.tie_embeddings = true;
  config.embedding_scale = 1.5f;
  TokenizerSpec& t = spec.tokenizer;
  t.kind = TokenizerKind::kByteBpe;
  t.pre_tokenizer = PreTokenizer::kLlama3;
  for (int i = 0; i < 256; ++i) t.pieces.push_back(std::string(1, static_cast<char>(i)));
  t.pieces.insert(t.pieces.end(), {"ab", "<s>", "</s>", std::string("\0\xff", 2)});
  t.piece_flags.assign(t.pieces.size(), 0);
  t.piece_flags[257] = kPieceControl;
  t.merges = {{97, 98}};
  t.ignore_merges = t.nfc = t.strip_leading_space = true;
  t.added = {{257, true, false, true, false, false}, {258, true, true, false, true, true}};
  t.replacements = {{" ", "\xE2\x96\x81"}};
  t.bos = 257;
  t.eos = 258;
  t.end_tokens = {258, 3};
  t.prefix = {257};
  t.suffix = {258};
  spec.chat_template = "{{ messages }}";
  spec.sampling = {0.7f, 40, 0.9f, 0.05f, 1.1f};
  spec.metadata = {{"license", "MIT"}, {"source", "tests \xE2\x82\xAC"}};
  spec.tensors = {Tensor("zeta", DSOPT_BF16, {37, 64}), Tensor("alpha", DSOPT_F32, {5, 7, 3}),
                  Tensor("one", DSOPT_F32, {1}),        Tensor("half", DSOPT_F16, {999}),
                  Tensor("bytes", DSOPT_I8, {130}),     Tensor("drawn", DSOPT_BF16, {64, 64})};
  spec.tensors.back().synthetic = true;
  spec.tensors.back().synthetic_seed = 77;
  spec.tensors.back().synthetic_stddev = 0.02f;
  return spec;
}

std::vector<std::vector<uint8_t>> SmallData(const ModelSpec& spec, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, 0.02f);
  std::vector<std::vector<uint8_t>> data;
  for (const TensorSpec& tensor : spec.tensors) {
    if (tensor.synthetic) continue;
    uint64_t count = 1;
    for (uint64_t extent : tensor.shape) count *= extent;
    std::vector<uint8_t> bytes(BytesOf(tensor, count));
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(random());
    if (tensor.dtype == DSOPT_BF16) {
      for (size_t i = 0; i < count; ++i) {
        const float value = normal(random);
        std::memcpy(bytes.data() + 2 * i, reinterpret_cast<const uint8_t*>(&value) + 2, 2);
      }
    }
    data.push_back(std::move(bytes));
  }
  return data;
}

std::vector<uint8_t> WriteFile(const ModelSpec& spec, const std::vector<std::vector<uint8_t>>& data,
                               const WriterOptions& options) {
  Result<Writer> writer = Writer::Create("", spec, options);
  Check(writer.status());
  for (const std::vector<uint8_t>& bytes : data) Check(writer->Append(bytes));
  Check(writer->Finish());
  return writer->TakeBytes();
}

std::vector<uint8_t> RawFile(const ModelSpec& spec, size_t payload_bytes) {
  return WrapMetadata(SerializeMetadata(spec), payload_bytes);
}

std::vector<uint8_t> WrapMetadata(std::span<const uint8_t> metadata, size_t payload_bytes) {
  std::vector<uint8_t> frame(ZSTD_compressBound(metadata.size()));
  frame.resize(ZSTD_compress(frame.data(), frame.size(), metadata.data(), metadata.size(), 1));
  return WrapFrame(frame, metadata.size(), payload_bytes);
}

std::vector<uint8_t> WrapFrame(std::span<const uint8_t> frame, size_t meta_raw, size_t payload_bytes) {
  std::vector<uint8_t> file(sizeof(Preamble) + frame.size() + payload_bytes);
  std::copy(frame.begin(), frame.end(), file.begin() + sizeof(Preamble));
  Preamble preamble = {};
  std::memcpy(preamble.magic, kMagic, sizeof kMagic);
  preamble.major = kFormatMajor;
  preamble.meta_offset = sizeof(Preamble);
  preamble.meta_stored = static_cast<uint32_t>(frame.size());
  preamble.meta_raw = static_cast<uint32_t>(meta_raw);
  preamble.meta_checksum = Checksum(frame);
  preamble.file_bytes = file.size();
  std::memcpy(file.data(), &preamble, sizeof preamble);
  FixPreamble(&file);
  return file;
}

Status OpenAndReadAll(Source& source, bool verify) {
  Result<ModelSpec> spec = ReadModelSpec(source, DefaultAllocator());
  if (!spec.ok()) return spec.status();
  Result<ChunkReader> reader = ChunkReader::Create(*spec, source, DefaultAllocator(), verify);
  if (!reader.ok()) return reader.status();
  for (uint32_t i = 0; i < spec->chunks.size(); ++i) {
    if (auto chunk = reader->Read(i); !chunk.ok()) return chunk.status();
  }
  return {};
}

Status OpenBytes(std::span<const uint8_t> file) {
  const auto source = MakeMemorySource(file);
  return OpenAndReadAll(*source, true);
}

void FixPreamble(std::vector<uint8_t>* file) {
  constexpr size_t kAt = offsetof(Preamble, preamble_checksum);
  const uint64_t checksum = Checksum(std::span<const uint8_t>(*file).first(kAt));
  std::memcpy(file->data() + kAt, &checksum, sizeof checksum);
}

}  // namespace dsopt::testing
