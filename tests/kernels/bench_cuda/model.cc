// model.cc - shapes of real models, and their blocks over random weights that are made on the device.
#include <cmath>

#include "bench.h"

namespace dsopt::bench {

const std::vector<Shape>& Shapes() {
  static const std::vector<Shape> shapes = {
      {"mistral-7b", 4096, 32, 32000, 32, 8, 128, 0, 0, 0, 0, 0, 0, 0, 14336, 32, 0, 0, 0, 0, 0, 0, false},
      {"llama-3.2-1b", 2048, 16, 128256, 32, 8, 64, 0, 0, 0, 0, 0, 0, 0, 8192, 16, 0, 0, 0, 0, 0, 0, true},
      {"llama-3-8b", 4096, 32, 128256, 32, 8, 128, 0, 0, 0, 0, 0, 0, 0, 14336, 32, 0, 0, 0, 0, 0, 0, false},
      {"llama-3-70b", 8192, 80, 128256, 64, 8, 128, 0, 0, 0, 0, 0, 0, 0, 28672, 80, 0, 0, 0, 0, 0, 0, false},
      {"mixtral-8x7b", 4096, 32, 32000, 32, 8, 128, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 2, 14336, 0, 0, 0, false},
      {"deepseek-v2-lite",
       2048,
       27,
       102400,
       0,
       0,
       0,
       0,
       16,
       0,
       512,
       128,
       64,
       128,
       10944,
       1,
       64,
       6,
       1408,
       2816,
       0,
       0,
       false},
      {"deepseek-v2-12",
       5120,
       12,
       102400,
       0,
       0,
       0,
       0,
       128,
       1536,
       512,
       128,
       64,
       128,
       12288,
       1,
       160,
       6,
       1536,
       3072,
       8,
       3,
       false},
      {"deepseek-v2", 5120,  60, 102400, 0, 0,    0,    0, 128, 1536, 512, 128, 64,
       128,           12288, 1,  160,    6, 1536, 3072, 8, 3,   false},
      {"odd-dense", 1040, 2, 4099, 6, 2, 128, 50, 0, 0, 0, 0, 0, 0, 2056, 2, 0, 0, 0, 0, 0, 0, false},
      {"demo-110m", 768, 12, 32000, 12, 12, 64, 0, 0, 0, 0, 0, 0, 0, 2048, 12, 0, 0, 0, 0, 0, 0, true},
  };
  return shapes;
}

namespace {

// What `dsopt convert` makes by default: int8 and fp8 by row, int4 in groups; see Add for the head.
void Encode(dsopt_weight_desc* d, dsopt_encoding encoding, uint32_t group) {
  d->encoding = encoding;
  if (encoding == DSOPT_ENCODING_INT8) d->dtype = DSOPT_I8;
  if (encoding == DSOPT_ENCODING_FP8) d->dtype = DSOPT_F8_E4M3;
  if (encoding == DSOPT_ENCODING_INT4) {
    d->dtype = DSOPT_U8;
    d->group_cols = group;
  }
}

}  // namespace

Model::~Model() {
  for (dsopt_be_weight* w : weights) g_api->weight_destroy(w);
}

const dsopt_be_weight* Model::Add(dsopt_weight_kind kind, uint64_t batch, uint64_t rows, uint64_t cols,
                                  double used) {
  dsopt_weight_desc d = {};
  d.struct_size = sizeof(d);
  d.kind = kind;
  d.dtype = DSOPT_BF16;
  d.batch = batch;
  d.rows = rows;
  d.cols = cols;
  d.name = "bench";
  d.tied = kind == DSOPT_WEIGHT_EMBEDDING && shape.tied ? 1 : 0;
  const bool matrix = (kind == DSOPT_WEIGHT_MATRIX && batch == 1) || kind == DSOPT_WEIGHT_GATE_UP ||
                      kind == DSOPT_WEIGHT_EXPERTS || (kind == DSOPT_WEIGHT_EMBEDDING && used > 0);
  const bool few_bits = encoding.kind == DSOPT_ENCODING_INT4 || encoding.kind == DSOPT_ENCODING_FP8;
  if (matrix)
    Encode(&d, rows == shape.vocab && few_bits ? DSOPT_ENCODING_INT8 : encoding.kind, encoding.group);
  dsopt_be_weight* w = nullptr;
  Must(g_api->weight_create(g_device, &d, &w), "weight_create");
  const bool vector = kind == DSOPT_WEIGHT_VECTOR;
  const float inputs = static_cast<float>(kind == DSOPT_WEIGHT_TRANSPOSED ? rows : cols);
  const float deviation = vector ? 0.1f : kind == DSOPT_WEIGHT_EMBEDDING ? 1.0f : 1.0f / std::sqrt(inputs);
  Must(g_api->weight_fill(w, seed++, vector ? 1.0f : 0.0f, deviation), "weight_fill");
  uint64_t bytes = 0;
  Must(g_api->weight_bytes(g_device, &d, &bytes), "weight_bytes");
  step_bytes += static_cast<double>(bytes) * used;
  plain_bytes +=
      static_cast<double>(d.encoding == DSOPT_ENCODING_PLAIN ? bytes : batch * rows * cols * 2) * used;
  total_bytes += static_cast<double>(bytes);
  weights.push_back(w);
  return w;
}

void Model::Build(uint32_t layers) {
  shape.layers = layers;
  const uint32_t h = shape.hidden;
  dsopt_block b = {};
  b.kind = DSOPT_BLOCK_EMBED;
  const dsopt_be_weight* table = Add(DSOPT_WEIGHT_EMBEDDING, 1, shape.vocab, h, shape.tied ? 1.0 : 0.0);
  b.u.embed = {table, 0.0f, 0};
  blocks.push_back(b);
  for (uint32_t l = 0; l < layers; ++l) {
    if (shape.q_heads != 0)
      AddAttention(l);
    else
      AddMla(l);
    if (l < shape.dense_layers)
      AddMlp(l);
    else if (shape.experts != 0)
      AddMoe(l);
  }
  b = {};
  b.kind = DSOPT_BLOCK_HEAD;
  b.u.head.norm = Add(DSOPT_WEIGHT_VECTOR, 1, 1, h);
  b.u.head.weight = shape.tied ? table : Add(DSOPT_WEIGHT_MATRIX, 1, shape.vocab, h);
  b.u.head.norm_eps = 1e-5f;
  blocks.push_back(b);
  const uint32_t dim = shape.q_heads != 0 ? shape.head_dim : shape.rope_dim;
  for (uint32_t i = 0; i < dim / 2; ++i)
    frequencies.push_back(std::pow(500000.0f, -2.0f * static_cast<float>(i) / static_cast<float>(dim)));
  rope = {dim, shape.q_heads != 0 ? 0u : 1u, 1.0f, 0, frequencies.data()};
  Must(g_api->weight_finish(g_device), "weight_finish");
}

void Model::AddAttention(uint32_t layer) {
  dsopt_block b = {};
  b.kind = DSOPT_BLOCK_ATTENTION;
  b.layer = layer;
  dsopt_attention_block& a = b.u.attention;
  a.norm = Add(DSOPT_WEIGHT_VECTOR, 1, 1, shape.hidden);
  a.qkv = Add(DSOPT_WEIGHT_MATRIX, 1, (shape.q_heads + 2 * shape.kv_heads) * shape.head_dim, shape.hidden);
  a.out = Add(DSOPT_WEIGHT_MATRIX, 1, shape.hidden, shape.q_heads * shape.head_dim);
  a.q_heads = shape.q_heads;
  a.kv_heads = shape.kv_heads;
  a.head_dim = shape.head_dim;
  a.window = shape.window;
  a.norm_eps = 1e-5f;
  a.cache_offset = cache_values;  // in values; MakeProgram turns it into bytes
  cache_values += uint64_t{128} * shape.kv_heads * shape.head_dim;
  blocks.push_back(b);
}

void Model::AddMla(uint32_t layer) {
  dsopt_block b = {};
  b.kind = DSOPT_BLOCK_MLA;
  b.layer = layer;
  dsopt_mla_block& m = b.u.mla;
  const uint32_t q = shape.heads * (shape.nope + shape.rope_dim);
  m.norm = Add(DSOPT_WEIGHT_VECTOR, 1, 1, shape.hidden);
  m.down = Add(DSOPT_WEIGHT_MATRIX, 1, (shape.q_rank != 0 ? shape.q_rank : q) + shape.latent + shape.rope_dim,
               shape.hidden);
  if (shape.q_rank != 0) {
    m.q_norm = Add(DSOPT_WEIGHT_VECTOR, 1, 1, shape.q_rank);
    m.q_up = Add(DSOPT_WEIGHT_MATRIX, 1, q, shape.q_rank);
  }
  m.latent_norm = Add(DSOPT_WEIGHT_VECTOR, 1, 1, shape.latent);
  m.k_up = Add(DSOPT_WEIGHT_TRANSPOSED, shape.heads, shape.nope, shape.latent);
  m.v_up = Add(DSOPT_WEIGHT_MATRIX, shape.heads, shape.v_dim, shape.latent);
  m.out = Add(DSOPT_WEIGHT_MATRIX, 1, shape.hidden, shape.heads * shape.v_dim);
  m.heads = shape.heads;
  m.q_rank = shape.q_rank;
  m.latent = shape.latent;
  m.nope = shape.nope;
  m.rope_dim = shape.rope_dim;
  m.v_dim = shape.v_dim;
  m.scale = 1.0f / std::sqrt(static_cast<float>(shape.nope + shape.rope_dim));
  m.norm_eps = 1e-6f;
  m.latent_eps = 1e-6f;
  m.cache_offset = cache_values;
  cache_values += uint64_t{64} * (shape.latent + shape.rope_dim);
  blocks.push_back(b);
}

void Model::AddMlp(uint32_t layer) {
  dsopt_block b = {};
  b.kind = DSOPT_BLOCK_MLP;
  b.layer = layer;
  dsopt_mlp_block& m = b.u.mlp;
  m.norm = Add(DSOPT_WEIGHT_VECTOR, 1, 1, shape.hidden);
  m.gate_up = Add(DSOPT_WEIGHT_GATE_UP, 1, 2 * shape.inner, shape.hidden);
  m.down = Add(DSOPT_WEIGHT_MATRIX, 1, shape.hidden, shape.inner);
  m.inner = shape.inner;
  m.activation = DSOPT_ACT_SILU;
  m.norm_eps = 1e-5f;
  blocks.push_back(b);
}

void Model::AddMoe(uint32_t layer) {
  dsopt_block b = {};
  b.kind = DSOPT_BLOCK_MOE;
  b.layer = layer;
  dsopt_moe_block& m = b.u.moe;
  const double used = static_cast<double>(shape.top_k) / shape.experts;
  m.norm = Add(DSOPT_WEIGHT_VECTOR, 1, 1, shape.hidden);
  m.router = Add(DSOPT_WEIGHT_ROUTER, 1, shape.experts, shape.hidden);
  m.gate_up = Add(DSOPT_WEIGHT_GATE_UP, shape.experts, 2 * shape.expert_inner, shape.hidden, used);
  m.down = Add(DSOPT_WEIGHT_EXPERTS, shape.experts, shape.hidden, shape.expert_inner, used);
  if (shape.shared_inner != 0) {
    m.shared_gate_up = Add(DSOPT_WEIGHT_GATE_UP, 1, 2 * shape.shared_inner, shape.hidden);
    m.shared_down = Add(DSOPT_WEIGHT_MATRIX, 1, shape.hidden, shape.shared_inner);
  }
  m.experts = shape.experts;
  m.top_k = shape.top_k;
  m.inner = shape.expert_inner;
  m.shared_inner = shape.shared_inner;
  m.groups = shape.groups;
  m.top_groups = shape.top_groups;
  m.renormalise = shape.groups == 0 ? 1 : 0;
  m.activation = DSOPT_ACT_SILU;
  m.route_scale = 1.0f;
  m.norm_eps = 1e-5f;
  blocks.push_back(b);
}

}  // namespace dsopt::bench
