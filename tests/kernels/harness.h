// harness.h - drives any backend table: a host with a hostile allocator, models with random weights, programs
// over scattered cache pages. The bodies of bodies.h use it; the drivers (cpu_test.cc, ...) say which tables
// there are.
#ifndef DSOPT_TESTS_KERNELS_HARNESS_H_
#define DSOPT_TESTS_KERNELS_HARNESS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "dsopt/backend.h"

namespace dsopt::kernel_test {

// New for every run, printed; DSOPT_TEST_SEED repeats one.
uint64_t Seed();
using Random = std::mt19937_64;

// Host api whose memory is filled with NaNs when it is handed out, counted, and refused from the fail_at-th
// request.
class TestHost {
 public:
  TestHost();
  ~TestHost() = default;
  TestHost(const TestHost&) = delete;
  TestHost& operator=(const TestHost&) = delete;

  const dsopt_host_api* api() const { return &api_; }
  std::string TakeError();  // text of the last set_error, then empty
  int64_t live() const { return live_; }
  int64_t requests() const { return requests_; }
  void FailAt(int64_t request);  // counted from now; -1: never

 private:
  static void* Alloc(void* user, size_t size, size_t align);
  static void Free(void* user, void* ptr, size_t size, size_t align);
  dsopt_allocator allocator_;
  dsopt_host_api api_;
  std::string error_;
  int64_t live_ = 0, requests_ = 0, fail_at_ = -1;
};

// A table and how to open its device.
struct Target {
  const dsopt_backend_api* api;
  uint32_t index = 0;
  std::string variant;  // empty: best
  uint32_t threads = 2;
  std::string Name() const { return std::string(api->name) + " " + variant; }
};

class TestDevice {
 public:
  explicit TestDevice(const Target& target);
  ~TestDevice();
  TestDevice(const TestDevice&) = delete;
  TestDevice& operator=(const TestDevice&) = delete;
  const dsopt_backend_api* api;
  TestHost host;
  dsopt_be_device* device = nullptr;
};

// Shapes of a model: only what the blocks need.
struct AttentionShape {
  uint32_t q_heads, kv_heads, head_dim, window = 0;
  bool bias = false;
  uint32_t rope_dim = 0;
  bool interleaved = false;
};
struct MlaShape {
  uint32_t heads, q_rank, latent, nope, rope_dim, v_dim;
};
struct MlpShape {
  uint32_t inner;
  dsopt_activation activation = DSOPT_ACT_SILU;
  bool bias = false;
};
struct MoeShape {
  uint32_t experts, top_k, inner, shared_inner = 0, groups = 0, top_groups = 0;
  bool renormalise = true;
  float route_scale = 1.0f;
  dsopt_activation activation = DSOPT_ACT_SILU;
};
struct BlockShape {
  dsopt_block_kind kind;
  AttentionShape attention{};
  MlaShape mla{};
  MlpShape mlp{};
  MoeShape moe{};
};
BlockShape Block(const AttentionShape& shape);
BlockShape Block(const MlaShape& shape);
BlockShape Block(const MlpShape& shape);
BlockShape Block(const MoeShape& shape);

// How a model's matrices are encoded, those that may be.
struct CodedShape {
  dsopt_encoding encoding = DSOPT_ENCODING_PLAIN;
  uint32_t group_rows = 0, group_cols = 0;
  bool has_offset = false, half_scales = false;
  // PLAIN and LOSSLESS12: bf16 values of which this share is zero, subnormal or very small; 1: anything at all.
  double odd_values = 0.0;
};

struct ModelShape {
  std::string name;
  uint32_t hidden, vocab;
  std::vector<BlockShape> blocks;
  dsopt_dtype dtype = DSOPT_BF16;
  bool tied = false;
  float embed_scale = 0.0f;
  CodedShape coded{};
};

inline dsopt_weight_desc PlainDesc(dsopt_weight_kind kind, dsopt_dtype dtype, uint64_t batch, uint64_t rows,
                                   uint64_t cols, const char* name) {
  dsopt_weight_desc desc = {};
  desc.struct_size = sizeof(desc);
  desc.kind = kind;
  desc.dtype = dtype;
  desc.batch = batch;
  desc.rows = rows;
  desc.cols = cols;
  desc.name = name;
  return desc;
}

// A tensor on the device and its values here, exactly as the device has them.
struct TestWeight {
  dsopt_weight_desc desc;
  std::vector<double> values;
  dsopt_be_weight* handle = nullptr;
  std::vector<uint8_t> codes;          // INT8, FP8, INT4: as weight_write takes them
  std::vector<float> scales, offsets;  // by group
};

// Values of a block by role ("norm", "qkv", ...), for the reference.
using BlockWeights = std::map<std::string, TestWeight*>;

class TestModel {
 public:
  TestModel(TestDevice* device, const ModelShape& shape, Random* random);
  ~TestModel();
  TestModel(const TestModel&) = delete;
  TestModel& operator=(const TestModel&) = delete;

  const ModelShape shape;
  TestDevice* const device;
  std::vector<dsopt_block> blocks;    // EMBED, shape.blocks, HEAD
  std::vector<BlockWeights> weights;  // of each of them
  std::vector<dsopt_rope> ropes;
  uint64_t CacheValues() const { return cache_values_; }  // of one page, all layers

 private:
  TestWeight* Add(size_t block, const char* role, dsopt_weight_kind kind, uint64_t batch, uint64_t rows,
                  uint64_t cols, double mean, double stddev, bool tied = false);
  void AddBlock(size_t index, const BlockShape& block);
  void AddRope(uint32_t dim, bool interleaved);
  Random* random_;
  std::vector<std::unique_ptr<TestWeight>> all_;
  std::vector<std::unique_ptr<std::vector<float>>> frequencies_;
  uint64_t cache_values_ = 0;
};

// Rounds to the dtype, to nearest even.
double Rounded(double value, dsopt_dtype dtype);
// coded.cc: chooses encoding, codes and scales of a weight whose desc has kind and shape; values of about
// stddev.
void MakeCoded(const CodedShape& shape, double stddev, TestWeight* weight, Random* random);
bool MayBeCoded(const dsopt_weight_desc& desc);
// As bf16 bits. value must be exact in it.
uint16_t ToBf16Bits(float value);
// Writes codes and scales in pieces of random size and order.
void WriteCodedInPieces(TestDevice* device, TestWeight* weight, Random* random);

// Writes all values in pieces of random size and order.
void WriteInPieces(TestDevice* device, TestWeight* weight, Random* random);

struct ProgramOptions {
  dsopt_precision precision = DSOPT_PRECISION_REFERENCE;
  dsopt_dtype kv_dtype = DSOPT_F32;
  uint32_t max_rows = 96, max_seqs = 8, max_pages_per_seq = 16, page_count = 64;
  uint32_t max_adjust = 64, max_history = 64;
  uint32_t flags = 0;
  uint32_t host_pages = 0;  // the pages are then larger than they need to be: ids of small ones do not reach far
};

// The layers' cache offsets are set for kv_dtype. The result points into model.
dsopt_program_desc MakeDesc(TestModel* model, const ProgramOptions& options);

// One program and the sequences in it. Pages are handed out in random order.
class TestProgram {
 public:
  TestProgram(TestModel* model, const ProgramOptions& options, Random* random);
  ~TestProgram();
  TestProgram(const TestProgram&) = delete;
  TestProgram& operator=(const TestProgram&) = delete;

  struct Part {
    uint32_t sequence;
    std::vector<int32_t> tokens;
  };  // the next tokens of a sequence
  // Runs one batch; logits of every row, in order. sliced: with a deadline that has always passed.
  std::vector<std::vector<float>> Run(const std::vector<Part>& parts, bool sliced = false);
  // Fills the parts of a batch but sample and the lists.
  dsopt_batch Prepare(const std::vector<Part>& parts);
  void Finish(bool sliced = false);  // advances until done

  // Moves a page of a sequence to another place in the cache.
  void MovePage(uint32_t sequence, size_t index);

  uint32_t Length(uint32_t sequence) const { return sequences_.at(sequence).length; }
  const std::vector<int32_t>& Pages(uint32_t sequence) const { return sequences_.at(sequence).pages; }

  dsopt_be_program* handle = nullptr;
  TestModel* const model;
  dsopt_program_desc desc;

 private:
  struct Sequence {
    uint32_t length = 0;
    std::vector<int32_t> pages;
  };
  std::map<uint32_t, Sequence> sequences_;
  std::vector<int32_t> free_pages_;
  std::vector<int32_t> tokens_, positions_, row_seq_, page_table_;
};

}  // namespace dsopt::kernel_test
#endif  // DSOPT_TESTS_KERNELS_HARNESS_H_
