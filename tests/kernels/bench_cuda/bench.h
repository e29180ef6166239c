// bench.h - what the measurements of bench_cuda_blocks share: shapes, models with random weights made on the
// device, programs over scattered pages. Everything goes through the backend table; a failing call ends the
// program.
#ifndef DSOPT_TESTS_KERNELS_BENCH_CUDA_BENCH_H_
#define DSOPT_TESTS_KERNELS_BENCH_CUDA_BENCH_H_

#include <cstdint>
#include <string>
#include <vector>

#include "dsopt/backend.h"

namespace dsopt::bench {

double Now();  // seconds, monotonic
void Must(dsopt_status status, const char* what);

struct Shape {
  const char* name;
  uint32_t hidden, layers, vocab;
  uint32_t q_heads, kv_heads, head_dim, window;           // attention; q_heads 0: latent attention
  uint32_t heads, q_rank, latent, nope, rope_dim, v_dim;  // latent
  uint32_t inner, dense_layers;                           // dense feed-forward, of the first dense_layers
  uint32_t experts, top_k, expert_inner, shared_inner, groups, top_groups;
  bool tied;
};
// Without dense layers and experts a layer is its attention alone.
const std::vector<Shape>& Shapes();

extern const dsopt_backend_api* g_api;
extern dsopt_be_device* g_device;
extern double g_read_ceiling;    // bytes per second; 0: not measured
extern uint32_t g_host_percent;  // of the pages of every program, those in host memory
extern uint32_t g_program_flags;  // of every program

// How a model's matrices are kept; group: columns per scale of int4.
struct Encoding {
  dsopt_encoding kind = DSOPT_ENCODING_PLAIN;
  uint32_t group = 128;
};

struct Model {
  Shape shape;
  std::vector<dsopt_block> blocks;
  std::vector<dsopt_be_weight*> weights;
  std::vector<float> frequencies;
  dsopt_rope rope{};
  uint64_t seed = 1;
  double step_bytes = 0;  // weights one row needs: active experts only
  double total_bytes = 0;
  double plain_bytes = 0;     // the same if all were bf16
  uint64_t cache_values = 0;  // of a page
  Encoding encoding;

  explicit Model(const Shape& s, const Encoding& e = {}) : shape(s), encoding(e) {}
  ~Model();
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;
  void Build(uint32_t layers);

 private:
  // used: share of it that one row needs.
  const dsopt_be_weight* Add(dsopt_weight_kind kind, uint64_t batch, uint64_t rows, uint64_t cols,
                             double used = 1.0);
  void AddAttention(uint32_t layer);
  void AddMla(uint32_t layer);
  void AddMlp(uint32_t layer);
  void AddMoe(uint32_t layer);
};

// A program over a model. Sequence s owns pages [s * per_seq, (s + 1) * per_seq), in a scattered order.
struct Program {
  Model* model;
  dsopt_be_program* handle = nullptr;
  std::vector<dsopt_block> blocks;
  std::vector<int32_t> pages;
  uint32_t seqs, per_seq, max_rows;
  uint64_t page_bytes;
  dsopt_dtype kv_dtype;
  double device_ms = 0;
  double started = 0;  // when the batch was begun
  uint32_t replayed = 0;  // batches so far that were one graph

  // tokens: room of each sequence. slice_us: longest device work submitted at once; 0: no limit.
  Program(Model* m, dsopt_precision precision, dsopt_dtype kv, uint32_t sequences, uint32_t tokens,
          uint32_t rows, uint32_t logit_rows, uint32_t slice_us = 0);
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  // Random cache contents: one page made here, copied to all.
  void FillCache();
  // Random cache contents, few pages alike; positions of every sequence from `known` on hold NaN.
  void FillCache(uint32_t known);
  // Starts `rows` rows of each of `count` sequences from `position` on; logits are wanted of the last `wanted`
  // of all.
  void Begin(uint32_t count, uint32_t position, uint32_t rows, const std::vector<int32_t>& tokens,
             uint32_t wanted);
  bool Poll();  // true: the batch is done, device_ms is set
  // Begin and Poll until it is done. Returns wall seconds.
  double Run(uint32_t count, uint32_t position, uint32_t rows, const std::vector<int32_t>& tokens,
             uint32_t wanted);
  std::vector<float> Logits(uint32_t index);
};

// Bytes of `values` cached values of a shape: whole heads or, latent, whole positions.
uint64_t CacheBytes(dsopt_dtype kv, uint64_t values, const Shape& shape);
const char* CacheName(dsopt_dtype kv);
std::vector<int32_t> Tokens(uint32_t count, uint32_t vocab, uint32_t seed);
double RelativeError(const std::vector<float>& a, const std::vector<float>& b);
double Median(std::vector<double> v);

// check.cc: two layers of a shape, fast against f32; decode over a given cache, one row (persistent where there
// is a kernel) against two rows and, not too far out, against f32. encodings.cc: encoded products against
// float64. False: wrong.
bool Check(const Shape& shape, const Encoding& encoding = {});
bool CheckCache(const Shape& shape, const Encoding& encoding, dsopt_dtype kv);
bool CheckEncodings();
// timing.cc
void Decode(Model* model, dsopt_dtype kv, uint32_t sequences, uint32_t context, const char* what, int steps);
void Prefill(Model* model, dsopt_dtype kv, uint32_t total, uint32_t chunk);
// jitter.cc
void Jitter(Model* model);
void Beside(Model* model);
void Replays(Model* model);
// attention.cc
void DecodeAttention(uint32_t context, dsopt_dtype kv);
void PrefillAttention(uint32_t rows, uint32_t head_dim, dsopt_dtype kv);
void LatentAttention(uint32_t context, dsopt_dtype kv);

}  // namespace dsopt::bench
#endif  // DSOPT_TESTS_KERNELS_BENCH_CUDA_BENCH_H_
