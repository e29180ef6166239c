// model_spec.h - what a model file says, as plain structs: the vocabulary shared by import (writes it), format
// (stores it) and model (runs it). No logic beyond sizes. Zero means "absent" unless a field says otherwise.
#ifndef DSOPT_SPEC_MODEL_SPEC_H_
#define DSOPT_SPEC_MODEL_SPEC_H_

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "dsopt/backend.h"
#include "dsopt/dsopt.h"
#include "spec/tokenizer_spec.h"

namespace dsopt {

enum class RopeScaling : uint8_t { kNone = 0, kLinear = 1, kLlama3 = 2, kYarn = 3 };

struct RopeSpec {
  float theta = 10000.0f;
  uint32_t dim = 0;              // rotated values per head
  bool interleaved = false;      // pairs (2i, 2i+1) instead of (i, i + dim/2)
  RopeScaling scaling = RopeScaling::kNone;
  float factor = 1.0f;           // linear, llama3, yarn
  uint32_t original_context = 0; // llama3, yarn
  float low_freq_factor = 1.0f, high_freq_factor = 4.0f;  // llama3
  float beta_fast = 32.0f, beta_slow = 1.0f;              // yarn
  float mscale = 0.0f, mscale_all_dim = 0.0f;             // yarn (DeepSeek)
  float attention_factor = 0.0f;                          // yarn; 0: derived from factor or mscale
  bool operator==(const RopeSpec&) const = default;
};

enum class Mixer : uint8_t { kAttention = 0, kMla = 1 };

struct AttentionSpec {
  uint32_t q_heads = 0, kv_heads = 0, head_dim = 0;
  uint32_t window = 0;           // sliding window; 0: none
  bool qkv_bias = false, out_bias = false;
  RopeSpec rope;
  float scale = 0.0f;            // of the scores; 0: derived from the head dimension and rope
  // MLA only (kv_heads = q_heads; head_dim = nope_dim + rope.dim)
  uint32_t q_lora_rank = 0, kv_lora_rank = 0, nope_dim = 0, v_dim = 0;
  bool operator==(const AttentionSpec&) const = default;
};

enum class Activation : uint8_t { kSilu = 1, kGeluTanh = 2 };

struct MoeSpec {
  uint32_t experts = 0;          // 0: a dense layer
  uint32_t top_k = 0, inner = 0; // inner: of one expert
  uint32_t shared_inner = 0;     // all shared experts together
  uint32_t groups = 0, top_groups = 0;  // 0 or 1: no group limit
  bool renormalise = false;
  float route_scale = 1.0f;
  bool operator==(const MoeSpec&) const = default;
};

struct MlpSpec {
  uint32_t inner = 0;            // dense
  Activation activation = Activation::kSilu;
  bool bias = false;
  MoeSpec moe;
  bool operator==(const MlpSpec&) const = default;
};

// One entry per distinct kind of layer: hybrid and sliding-window models need no code of their own.
struct LayerKind {
  Mixer mixer = Mixer::kAttention;
  AttentionSpec attention;
  MlpSpec mlp;
  float norm_eps = 1e-6f;
  float latent_norm_eps = 1e-6f; // MLA
  bool operator==(const LayerKind&) const = default;
};

struct ConfigSpec {
  std::string architecture;      // "llama", "mistral", "mixtral", "deepseek_v2": names src/model/arch/<name>.cc
  uint32_t hidden = 0, vocab = 0, context = 0;
  std::vector<LayerKind> kinds;
  std::vector<uint8_t> layers;   // index into kinds, one per layer
  bool tie_embeddings = false;
  float embedding_scale = 1.0f;
  float final_norm_eps = 1e-6f;
};

struct SamplingSpec {            // the file's defaults; zero: off
  float temperature = 0.0f;
  uint32_t top_k = 0;
  float top_p = 0.0f, min_p = 0.0f;
  float repeat_penalty = 0.0f;
};

// Bytes of one element; 0 for an unknown type.
inline uint32_t ElementBytes(dsopt_dtype dtype) {
  switch (dtype) {
    case DSOPT_F32: case DSOPT_I32: return 4;
    case DSOPT_F16: case DSOPT_BF16: return 2;
    case DSOPT_F8_E4M3: case DSOPT_I8: case DSOPT_U8: return 1;
    default: return 0;
  }
}

struct TensorSpec {
  std::string name;              // canonical name, see src/model/arch/names.h
  dsopt_dtype dtype = DSOPT_DTYPE_DEFAULT;
  std::vector<uint64_t> shape;   // 1 to 4 dimensions, row-major
  uint64_t raw_bytes = 0;        // product of shape times element size; int4: half of it
  uint32_t first_chunk = 0, chunk_count = 0;
  // How the values are coded, as in dsopt_weight_desc. int8, fp8 and int4 have their scales, and offsets, in tensors
  // of their own: see ScalesName. lossless12 is stored as bf16 and says how to keep it in memory.
  dsopt_encoding encoding = DSOPT_ENCODING_PLAIN;
  uint32_t group_rows = 0, group_cols = 0;
  bool has_offset = false;
  // No chunks are stored; element i is mean + stddev * n(seed, i) (see dsopt/backend.h, weight_fill).
  bool synthetic = false;
  uint64_t synthetic_seed = 0;
  float synthetic_mean = 0.0f, synthetic_stddev = 0.0f;
};

// "plain", "lossless12", "int8", "fp8", "int4".
inline const char* EncodingName(dsopt_encoding encoding) {
  switch (encoding) {
    case DSOPT_ENCODING_PLAIN: return "plain";
    case DSOPT_ENCODING_LOSSLESS12: return "lossless12";
    case DSOPT_ENCODING_INT8: return "int8";
    case DSOPT_ENCODING_FP8: return "fp8";
    case DSOPT_ENCODING_INT4: return "int4";
    default: return "unknown";
  }
}
// "[4096, 2048]", for messages.
inline std::string ShapeText(const std::vector<uint64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + "]";
}
// In tensors sorted by name; NULL: none has it.
inline const TensorSpec* FindTensor(const std::vector<TensorSpec>& tensors, const std::string& name) {
  const auto it = std::lower_bound(tensors.begin(), tensors.end(), name,
                                   [](const TensorSpec& tensor, const std::string& n) { return tensor.name < n; });
  return it != tensors.end() && it->name == name ? &*it : nullptr;
}

// int8, fp8 or int4: values are codes with scales.
inline bool HasScales(dsopt_encoding encoding) {
  return encoding == DSOPT_ENCODING_INT8 || encoding == DSOPT_ENCODING_FP8 || encoding == DSOPT_ENCODING_INT4;
}
// Tensors, F32 or F16 (the same for both), of shape ScalesShape.
inline std::string ScalesName(const std::string& tensor) { return tensor + ".scales"; }
inline std::string OffsetsName(const std::string& tensor) { return tensor + ".offsets"; }
// The shape with its last two dimensions divided by the group, rounded up. For two dimensions or more.
inline std::vector<uint64_t> ScalesShape(const TensorSpec& tensor) {
  std::vector<uint64_t> shape = tensor.shape;
  uint64_t& rows = shape[shape.size() - 2];
  uint64_t& cols = shape[shape.size() - 1];
  if (tensor.group_rows > 1) rows = rows / tensor.group_rows + (rows % tensor.group_rows != 0 ? 1 : 0);
  cols = tensor.group_cols == 0 ? 1 : cols / tensor.group_cols + (cols % tensor.group_cols != 0 ? 1 : 0);
  return shape;
}
// Elements in `bytes` of the tensor's data, and the bytes of `elements` (int4: an even number).
inline uint64_t ElementsIn(const TensorSpec& tensor, uint64_t bytes) {
  return tensor.encoding == DSOPT_ENCODING_INT4 ? bytes * 2 : bytes / ElementBytes(tensor.dtype);
}
inline uint64_t BytesOf(const TensorSpec& tensor, uint64_t elements) {
  return tensor.encoding == DSOPT_ENCODING_INT4 ? elements / 2 : elements * ElementBytes(tensor.dtype);
}

enum class Codec : uint8_t { kStored = 0, kZstd = 1 };
enum class Filter : uint8_t { kNone = 0, kBytePlanes = 1 };

struct ChunkSpec {
  uint64_t offset = 0;           // in the file
  uint32_t stored_size = 0, raw_size = 0;
  uint64_t raw_checksum = 0;     // XXH64 of the decoded bytes
  uint64_t stored_checksum = 0;  // XXH64 of the bytes in the file
  Codec codec = Codec::kStored;
  Filter filter = Filter::kNone;
  uint8_t element_bytes = 1;     // of the filter
};

struct ModelSpec {
  uint16_t format_major = 0, format_minor = 0;  // of the file that was read
  ConfigSpec config;
  TokenizerSpec tokenizer;       // kind kNone: the file has none
  std::string chat_template;
  SamplingSpec sampling;
  std::map<std::string, std::string> metadata;  // licence, source, ...
  std::vector<TensorSpec> tensors;              // sorted by name
  std::vector<ChunkSpec> chunks;                // sorted by offset, disjoint
  uint32_t chunk_bytes = 0;      // upper bound of raw_size
  uint64_t file_bytes = 0;
  uint64_t fingerprint = 0;      // of the metadata block: identifies the model in saved streams
};

}  // namespace dsopt
#endif  // DSOPT_SPEC_MODEL_SPEC_H_
