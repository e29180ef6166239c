#include "tests/tiny_model.h"

#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>

#include "format/writer.h"
#include "model/names.h"

namespace dsopt::testing {
namespace {

constexpr uint32_t kHidden = 64, kHeads = 4, kKvHeads = 2, kHeadDim = 16, kInner = 96;
constexpr uint32_t kExperts = 4, kExpertInner = 32;
constexpr uint32_t kQueryRank = 32, kLatent = 32, kNope = 16, kRope = 8, kValue = 16;

TokenizerSpec ByteTokenizer() {
  TokenizerSpec spec;
  spec.kind = TokenizerKind::kByteBpe;
  spec.pieces.resize(kTinyVocab);
  spec.piece_flags.resize(kTinyVocab, 0);
  for (uint32_t id = 0; id < 256; ++id) spec.pieces[id] = std::string(1, static_cast<char>(id));
  const char* names[] = {"<|bos|>", "<|eos|>", "<|pad|>", "<|eot|>"};
  for (uint32_t id = 256; id < kTinyVocab; ++id) {
    spec.pieces[id] = id - 256 < 4 ? names[id - 256] : "<|extra_" + std::to_string(id) + "|>";
    spec.piece_flags[id] = kPieceControl;
    AddedToken added;
    added.id = id;
    added.special = true;
    spec.added.push_back(added);
  }
  spec.bos = kTinyBos;
  spec.eos = kTinyEos;
  spec.pad = kTinyPad;
  spec.end_tokens = {kTinyEos, kTinyEndOfTurn};
  spec.prefix = {kTinyBos};
  return spec;
}

AttentionSpec Attention(const TinyOptions& options) {
  AttentionSpec spec;
  spec.q_heads = kHeads;
  spec.kv_heads = kKvHeads;
  spec.head_dim = kHeadDim;
  spec.rope.dim = kHeadDim;
  if (options.family == TinyFamily::kMistral) spec.window = kTinyWindow;
  if (options.family == TinyFamily::kDeepseekV2) {
    spec.kv_heads = kHeads;
    spec.head_dim = kNope + kRope;
    spec.rope.dim = kRope;
    spec.rope.interleaved = true;
    spec.q_lora_rank = kQueryRank;
    spec.kv_lora_rank = kLatent;
    spec.nope_dim = kNope;
    spec.v_dim = kValue;
  }
  return spec;
}

MoeSpec Mixture(TinyFamily family) {
  MoeSpec spec;
  spec.experts = kExperts;
  spec.top_k = 2;
  spec.inner = kExpertInner;
  if (family == TinyFamily::kMixtral) {
    spec.renormalise = true;
  } else {
    spec.shared_inner = kExpertInner;
    spec.groups = 2;
    spec.top_groups = 1;
    spec.route_scale = 2.0f;
  }
  return spec;
}

const char* Architecture(TinyFamily family) {
  switch (family) {
    case TinyFamily::kLlama:
      return "llama";
    case TinyFamily::kMistral:
      return "mistral";
    case TinyFamily::kMixtral:
      return "mixtral";
    case TinyFamily::kDeepseekV2:
      return "deepseek_v2";
  }
  return "";
}

// Collects tensors in the order in which their bytes are written.
class TensorList {
 public:
  TensorList(ModelSpec* spec, dsopt_dtype dtype) : spec_(spec), dtype_(dtype) {}
  void Matrix(const std::string& name, std::vector<uint64_t> shape) { Add(name, dtype_, std::move(shape)); }
  void Vector(const std::string& name, uint64_t length) { Add(name, DSOPT_F32, {length}); }

 private:
  void Add(const std::string& name, dsopt_dtype dtype, std::vector<uint64_t> shape) {
    TensorSpec tensor;
    tensor.name = name;
    tensor.dtype = dtype;
    tensor.raw_bytes = ElementBytes(dtype);
    for (uint64_t extent : shape) tensor.raw_bytes *= extent;
    tensor.shape = std::move(shape);
    spec_->tensors.push_back(std::move(tensor));
  }
  ModelSpec* spec_;
  dsopt_dtype dtype_;
};

void AddLayer(const LayerKind& kind, uint32_t layer, TensorList* list) {
  const auto name = [layer](const char* suffix) { return LayerName(layer, suffix); };
  list->Vector(name("attn.norm"), kHidden);
  if (kind.mixer == Mixer::kMla) {
    list->Matrix(name("attn.q_a"), {kQueryRank, kHidden});
    list->Vector(name("attn.q_a_norm"), kQueryRank);
    list->Matrix(name("attn.q_b"), {kHeads * (kNope + kRope), kQueryRank});
    list->Matrix(name("attn.kv_a"), {kLatent + kRope, kHidden});
    list->Vector(name("attn.kv_a_norm"), kLatent);
    list->Matrix(name("attn.kv_b"), {kHeads * (kNope + kValue), kLatent});
    list->Matrix(name("attn.o"), {kHidden, kHeads * kValue});
  } else {
    list->Matrix(name("attn.q"), {kHeads * kHeadDim, kHidden});
    list->Matrix(name("attn.k"), {kKvHeads * kHeadDim, kHidden});
    list->Matrix(name("attn.v"), {kKvHeads * kHeadDim, kHidden});
    list->Matrix(name("attn.o"), {kHidden, kHeads * kHeadDim});
  }
  list->Vector(name("mlp.norm"), kHidden);
  const MoeSpec& moe = kind.mlp.moe;
  if (moe.experts == 0) {
    list->Matrix(name("mlp.gate"), {kInner, kHidden});
    list->Matrix(name("mlp.up"), {kInner, kHidden});
    list->Matrix(name("mlp.down"), {kHidden, kInner});
    return;
  }
  list->Matrix(name("moe.router"), {moe.experts, kHidden});
  list->Matrix(name("moe.gate"), {moe.experts, moe.inner, kHidden});
  list->Matrix(name("moe.up"), {moe.experts, moe.inner, kHidden});
  list->Matrix(name("moe.down"), {moe.experts, kHidden, moe.inner});
  if (moe.shared_inner > 0) {
    list->Matrix(name("moe.shared.gate"), {moe.shared_inner, kHidden});
    list->Matrix(name("moe.shared.up"), {moe.shared_inner, kHidden});
    list->Matrix(name("moe.shared.down"), {kHidden, moe.shared_inner});
  }
}

// Approximately normal numbers: the sum of four uniform ones.
class Noise {
 public:
  explicit Noise(uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15u + 1) {}
  float Next() {
    double sum = 0;
    for (int i = 0; i < 4; ++i) {
      state_ ^= state_ << 13, state_ ^= state_ >> 7, state_ ^= state_ << 17;
      sum += static_cast<double>(state_ >> 11) * 0x1.0p-53 - 0.5;
    }
    return static_cast<float>(sum * 1.7320508);
  }

 private:
  uint64_t state_;
};

uint16_t ToBf16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return static_cast<uint16_t>((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
}

// |value| < 65504 and not subnormal after rounding, else 0: enough for weights.
uint16_t ToF16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const uint32_t sign = bits >> 16 & 0x8000u;
  const int32_t exponent = static_cast<int32_t>(bits >> 23 & 0xFFu) - 127 + 15;
  if (exponent <= 0) return static_cast<uint16_t>(sign);
  return static_cast<uint16_t>(sign | static_cast<uint32_t>(exponent) << 10 | (bits >> 13 & 0x3FFu));
}

std::vector<uint8_t> TensorBytes(const TensorSpec& tensor, Noise* noise) {
  std::vector<uint8_t> bytes(tensor.raw_bytes);
  const bool is_vector = tensor.shape.size() == 1;
  // Rows of unit length keep activations near 1; embeddings are as large as what they are added to.
  const float stddev = tensor.name == "embed" ? 1.0f
                       : is_vector            ? 0.1f
                                              : 1.0f / std::sqrt(static_cast<float>(tensor.shape.back()));
  const float mean = is_vector ? 1.0f : 0.0f;
  const uint32_t element_bytes = ElementBytes(tensor.dtype);
  for (uint64_t i = 0; i < tensor.raw_bytes / element_bytes; ++i) {
    const float value = mean + stddev * noise->Next();
    uint16_t half = 0;
    if (tensor.dtype == DSOPT_F32) {
      std::memcpy(&bytes[i * 4], &value, 4);
      continue;
    }
    half = tensor.dtype == DSOPT_BF16 ? ToBf16(value) : ToF16(value);
    std::memcpy(&bytes[i * 2], &half, 2);
  }
  return bytes;
}

void Check(const Status& status) {
  if (!status.ok()) throw std::runtime_error("tiny model: " + std::string(status.message()));
}

}  // namespace

ModelSpec TinySpec(const TinyOptions& options) {
  ModelSpec spec;
  ConfigSpec& config = spec.config;
  config.architecture = Architecture(options.family);
  config.hidden = kHidden;
  config.vocab = kTinyVocab;
  config.context = options.context;
  config.tie_embeddings = options.family == TinyFamily::kMistral;
  LayerKind kind;
  kind.mixer = options.family == TinyFamily::kDeepseekV2 ? Mixer::kMla : Mixer::kAttention;
  kind.attention = Attention(options);
  kind.mlp.inner = kInner;
  LayerKind mixture = kind;
  mixture.mlp.inner = 0;
  mixture.mlp.moe = Mixture(options.family);
  const bool moe = options.family == TinyFamily::kMixtral;
  const bool dense_first = options.family == TinyFamily::kDeepseekV2;
  if (!moe) config.kinds.push_back(kind);
  if (moe || dense_first) config.kinds.push_back(mixture);
  for (uint32_t i = 0; i < options.layers; ++i) config.layers.push_back(dense_first && i > 0 ? 1 : 0);

  spec.tokenizer = ByteTokenizer();
  if (options.chat_template) {
    spec.chat_template =
        "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|eot|>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}";
  }
  spec.metadata["license"] = "none: random numbers";

  TensorList list(&spec, options.dtype);
  list.Matrix("embed", {kTinyVocab, kHidden});
  for (uint32_t i = 0; i < options.layers; ++i) AddLayer(config.kinds[config.layers[i]], i, &list);
  list.Vector("final_norm", kHidden);
  if (!config.tie_embeddings) list.Matrix("head", {kTinyVocab, kHidden});
  return spec;
}

std::vector<uint8_t> TinyModelBytes(const TinyOptions& options) {
  ModelSpec spec = TinySpec(options);
  const std::vector<TensorSpec> tensors = spec.tensors;
  WriterOptions writer_options;
  writer_options.chunk_bytes = 16u << 10;  // several chunks per tensor
  writer_options.compress = options.compress;
  Result<Writer> writer = Writer::Create("", std::move(spec), writer_options);
  Check(writer.status());
  Noise noise(options.seed);
  for (const TensorSpec& tensor : tensors) Check(writer->Append(TensorBytes(tensor, &noise)));
  Check(writer->Finish());
  return writer->TakeBytes();
}

}  // namespace dsopt::testing
