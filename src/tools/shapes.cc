#include "tools/shapes.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "format/writer.h"
#include "spec/cache_spec.h"

namespace dsopt::tools {
namespace {

// One line of the table. Attention: kv_heads > 0. Latent attention: latent > 0.
struct Shape {
  const char* name;
  const char* architecture;
  uint32_t layers, hidden, inner, vocab, context;
  bool tied;
  uint32_t q_heads, kv_heads, head_dim, window;
  float rope_theta;
  uint32_t experts, top_k, expert_inner, shared_inner, groups, top_groups, dense_layers;
  float route_scale;
  bool renormalise;
  uint32_t q_rank, latent, nope, rope_dim, v_dim;
  float norm_eps;
};

// From the config.json of the models of these names.
constexpr Shape kShapes[] = {
    {"tinyllama-1.1b", "llama", 22, 2048, 5632, 32000, 2048, false, 32, 4, 64, 0, 1e4f,
     0, 0, 0, 0, 0, 0, 0, 1, false, 0, 0, 0, 0, 0, 1e-5f},
    {"llama-3.2-1b", "llama", 16, 2048, 8192, 128256, 131072, true, 32, 8, 64, 0, 5e5f,
     0, 0, 0, 0, 0, 0, 0, 1, false, 0, 0, 0, 0, 0, 1e-5f},
    {"llama-3-8b", "llama", 32, 4096, 14336, 128256, 8192, false, 32, 8, 128, 0, 5e5f,
     0, 0, 0, 0, 0, 0, 0, 1, false, 0, 0, 0, 0, 0, 1e-5f},
    {"llama-3-70b", "llama", 80, 8192, 28672, 128256, 8192, false, 64, 8, 128, 0, 5e5f,
     0, 0, 0, 0, 0, 0, 0, 1, false, 0, 0, 0, 0, 0, 1e-5f},
    {"mistral-7b", "mistral", 32, 4096, 14336, 32000, 32768, false, 32, 8, 128, 4096, 1e4f,
     0, 0, 0, 0, 0, 0, 0, 1, false, 0, 0, 0, 0, 0, 1e-5f},
    {"mixtral-8x7b", "mixtral", 32, 4096, 0, 32000, 32768, false, 32, 8, 128, 0, 1e6f,
     8, 2, 14336, 0, 0, 0, 0, 1, true, 0, 0, 0, 0, 0, 1e-5f},
    {"deepseek-v2-lite", "deepseek_v2", 27, 2048, 10944, 102400, 163840, false, 16, 16, 192, 0, 1e4f,
     64, 6, 1408, 2 * 1408, 1, 1, 1, 1, false, 0, 512, 128, 64, 128, 1e-6f},
    {"deepseek-v2", "deepseek_v2", 60, 5120, 12288, 102400, 163840, false, 128, 128, 192, 0, 1e4f,
     160, 6, 1536, 2 * 1536, 8, 3, 1, 16, false, 1536, 512, 128, 64, 128, 1e-6f},
};

AttentionSpec MakeAttention(const Shape& shape) {
  AttentionSpec spec;
  spec.q_heads = shape.q_heads;
  spec.kv_heads = shape.kv_heads;
  spec.head_dim = shape.head_dim;
  spec.window = shape.window;
  spec.rope.theta = shape.rope_theta;
  spec.rope.dim = shape.latent > 0 ? shape.rope_dim : shape.head_dim;
  if (shape.latent == 0) return spec;
  spec.q_lora_rank = shape.q_rank;
  spec.kv_lora_rank = shape.latent;
  spec.nope_dim = shape.nope;
  spec.v_dim = shape.v_dim;
  spec.rope.interleaved = true;
  spec.rope.scaling = RopeScaling::kYarn;
  spec.rope.factor = 40.0f;
  spec.rope.original_context = 4096;
  spec.rope.mscale = spec.rope.mscale_all_dim = 0.707f;
  return spec;
}

MoeSpec MakeMixture(const Shape& shape) {
  MoeSpec spec;
  spec.experts = shape.experts;
  spec.top_k = shape.top_k;
  spec.inner = shape.expert_inner;
  spec.shared_inner = shape.shared_inner;
  spec.groups = shape.groups;
  spec.top_groups = shape.top_groups;
  spec.renormalise = shape.renormalise;
  spec.route_scale = shape.route_scale;
  return spec;
}

ConfigSpec MakeConfig(const Shape& shape, uint32_t layers) {
  ConfigSpec config;
  config.architecture = shape.architecture;
  config.hidden = shape.hidden;
  config.vocab = shape.vocab;
  config.context = shape.context;
  config.tie_embeddings = shape.tied;
  config.final_norm_eps = shape.norm_eps;
  LayerKind dense;
  dense.mixer = shape.latent > 0 ? Mixer::kMla : Mixer::kAttention;
  dense.attention = MakeAttention(shape);
  dense.norm_eps = dense.latent_norm_eps = shape.norm_eps;
  dense.mlp.inner = shape.inner;
  const bool has_dense = shape.experts == 0 || shape.dense_layers > 0;
  if (has_dense) config.kinds.push_back(dense);
  if (shape.experts > 0) {
    LayerKind mixture = dense;
    mixture.mlp.inner = 0;
    mixture.mlp.moe = MakeMixture(shape);
    config.kinds.push_back(mixture);
  }
  for (uint32_t i = 0; i < layers; ++i) {
    config.layers.push_back(shape.experts > 0 && has_dense && i >= shape.dense_layers ? 1 : 0);
  }
  return config;
}

// Lists the tensors of a configuration under their canonical names (src/model/names.h).
class TensorList {
 public:
  TensorList(ModelSpec* spec, dsopt_dtype dtype) : spec_(spec), dtype_(dtype) {}

  // Rows of about unit length: activations keep their size from layer to layer.
  void Matrix(const std::string& name, std::vector<uint64_t> shape) {
    const float stddev = 1.0f / std::sqrt(static_cast<float>(shape.back()));
    Add(name, std::move(shape), 0.0f, stddev);
  }
  void Gain(const std::string& name, uint64_t length) { Add(name, {length}, 1.0f, 0.0f); }
  void Embedding(uint64_t vocab, uint64_t hidden, bool tied) {
    Add("embed", {vocab, hidden}, 0.0f, tied ? 1.0f / std::sqrt(static_cast<float>(hidden)) : 1.0f);
  }

  void Mixer(const std::string& at, const LayerKind& kind) {
    const uint64_t hidden = spec_->config.hidden;
    const AttentionSpec& a = kind.attention;
    Gain(at + "norm", hidden);
    if (kind.mixer == Mixer::kAttention) {
      Matrix(at + "q", {uint64_t{a.q_heads} * a.head_dim, hidden});
      Matrix(at + "k", {uint64_t{a.kv_heads} * a.head_dim, hidden});
      Matrix(at + "v", {uint64_t{a.kv_heads} * a.head_dim, hidden});
      Matrix(at + "o", {hidden, uint64_t{a.q_heads} * a.head_dim});
      return;
    }
    const uint64_t heads = a.q_heads;
    if (a.q_lora_rank > 0) {
      Matrix(at + "q_a", {a.q_lora_rank, hidden});
      Gain(at + "q_a_norm", a.q_lora_rank);
      Matrix(at + "q_b", {heads * a.head_dim, a.q_lora_rank});
    } else {
      Matrix(at + "q", {heads * a.head_dim, hidden});
    }
    Matrix(at + "kv_a", {uint64_t{a.kv_lora_rank} + a.rope.dim, hidden});
    Gain(at + "kv_a_norm", a.kv_lora_rank);
    Matrix(at + "kv_b", {heads * (a.nope_dim + a.v_dim), a.kv_lora_rank});
    Matrix(at + "o", {hidden, heads * a.v_dim});
  }

  void Mlp(const std::string& layer, const MlpSpec& mlp) {
    const uint64_t hidden = spec_->config.hidden;
    const MoeSpec& moe = mlp.moe;
    Gain(layer + "mlp.norm", hidden);
    if (moe.experts == 0) {
      Matrix(layer + "mlp.gate", {mlp.inner, hidden});
      Matrix(layer + "mlp.up", {mlp.inner, hidden});
      Matrix(layer + "mlp.down", {hidden, mlp.inner});
      return;
    }
    Matrix(layer + "moe.router", {moe.experts, hidden});
    Matrix(layer + "moe.gate", {moe.experts, moe.inner, hidden});
    Matrix(layer + "moe.up", {moe.experts, moe.inner, hidden});
    Matrix(layer + "moe.down", {moe.experts, hidden, moe.inner});
    if (moe.shared_inner == 0) return;
    Matrix(layer + "moe.shared.gate", {moe.shared_inner, hidden});
    Matrix(layer + "moe.shared.up", {moe.shared_inner, hidden});
    Matrix(layer + "moe.shared.down", {hidden, moe.shared_inner});
  }

 private:
  void Add(const std::string& name, std::vector<uint64_t> shape, float mean, float stddev) {
    TensorSpec tensor;
    tensor.name = name;
    tensor.dtype = dtype_;
    tensor.raw_bytes = ElementBytes(dtype_);
    for (uint64_t extent : shape) tensor.raw_bytes *= extent;
    tensor.shape = std::move(shape);
    tensor.synthetic = true;
    tensor.synthetic_seed = spec_->tensors.size() + 1;
    tensor.synthetic_mean = mean;
    tensor.synthetic_stddev = stddev;
    spec_->tensors.push_back(std::move(tensor));
  }

  ModelSpec* spec_;
  dsopt_dtype dtype_;
};

bool IsExpert(const TensorSpec& tensor) { return tensor.shape.size() == 3; }

// Scales of synthetic tensors are the backend's own: counted as f16 of int4, else f32.
double BytesInMemory(const TensorSpec& tensor) {
  if (tensor.encoding == DSOPT_ENCODING_LOSSLESS12) return static_cast<double>(tensor.raw_bytes) * (12.0625 / 16);
  auto bytes = static_cast<double>(tensor.raw_bytes);
  const dsopt_dtype scale_type = tensor.encoding == DSOPT_ENCODING_INT4 ? DSOPT_F16 : DSOPT_F32;
  for (const TensorSpec& companion : CompanionTensors(tensor, scale_type)) {
    bytes += static_cast<double>(companion.raw_bytes);
  }
  return bytes;
}

}  // namespace

std::vector<std::string> ShapeNames() {
  std::vector<std::string> names;
  for (const Shape& shape : kShapes) names.push_back(shape.name);
  return names;
}

Result<ModelSpec> MakeShape(std::string_view name, uint32_t layers, dsopt_dtype dtype) {
  const Shape* shape = nullptr;
  std::string known;
  for (const Shape& candidate : kShapes) {
    if (candidate.name == name) shape = &candidate;
    known += std::string(known.empty() ? "" : ", ") + candidate.name;
  }
  if (shape == nullptr) {
    return Error(DSOPT_E_NOT_FOUND, "shape '%s' is unknown, expected one of %s", std::string(name).c_str(),
                 known.c_str());
  }
  if (layers > shape->layers) {
    return Error(DSOPT_E_INVALID_ARGUMENT, "shape '%s' with %u layers: it has %u", shape->name, layers, shape->layers);
  }
  ModelSpec spec;
  spec.config = MakeConfig(*shape, layers == 0 ? shape->layers : layers);
  spec.metadata["source"] = std::string("random weights of the shape ") + shape->name;
  TensorList list(&spec, dtype);
  list.Embedding(shape->vocab, shape->hidden, shape->tied);
  for (size_t i = 0; i < spec.config.layers.size(); ++i) {
    const LayerKind& kind = spec.config.kinds[spec.config.layers[i]];
    const std::string layer = "layers." + std::to_string(i) + ".";
    list.Mixer(layer + "attn.", kind);
    list.Mlp(layer, kind.mlp);
  }
  list.Gain("final_norm", shape->hidden);
  if (!shape->tied) list.Matrix("head", {shape->vocab, shape->hidden});
  return spec;
}

void EncodeShape(const WeightsRequest& weights, ModelSpec* spec) {
  for (TensorSpec& tensor : spec->tensors) {
    if (const std::optional<Coding> coding = ChooseCoding(weights, tensor.name, tensor.shape)) SetCoding(*coding, &tensor);
  }
}

Result<std::vector<uint8_t>> ShapeFile(const ModelSpec& spec) {
  ASSIGN_OR_RETURN(Writer writer, Writer::Create("", spec, WriterOptions()));
  RETURN_IF_ERROR(writer.Finish());
  return writer.TakeBytes();
}

uint64_t WeightBytes(const ModelSpec& spec) {
  double bytes = 0;
  for (const TensorSpec& tensor : spec.tensors) bytes += BytesInMemory(tensor);
  return static_cast<uint64_t>(bytes);
}

double StepWeightBytes(const ModelSpec& spec, uint32_t batch) {
  const MoeSpec* moe = nullptr;
  for (const LayerKind& kind : spec.config.kinds) {
    if (kind.mlp.moe.experts > 0) moe = &kind.mlp.moe;
  }
  const double touched =
      moe == nullptr ? 0 : 1 - std::pow(1 - static_cast<double>(moe->top_k) / moe->experts, batch);
  double bytes = 0;
  for (const TensorSpec& tensor : spec.tensors) {
    double share = IsExpert(tensor) ? touched : 1;
    if (tensor.name == "embed" && !spec.config.tie_embeddings) {
      share = std::min(1.0, static_cast<double>(batch) / spec.config.vocab);
    }
    bytes += share * BytesInMemory(tensor);
  }
  return bytes;
}

double StepCacheBytes(const ModelSpec& spec, uint32_t context, dsopt_dtype kv_dtype) {
  double bytes = 0;
  for (uint8_t index : spec.config.layers) {
    const LayerKind& kind = spec.config.kinds[index];
    const AttentionSpec& a = kind.attention;
    const uint32_t seen = a.window > 0 ? std::min(context, a.window) : context;
    bytes += static_cast<double>(LayerTokenBytes(kind, kv_dtype)) * seen;
  }
  return bytes;
}

}  // namespace dsopt::tools
