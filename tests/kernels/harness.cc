// harness.cc - see harness.h.
#include "harness.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cache_image.h"

namespace dsopt::kernel_test {

uint64_t Seed() {
  static const uint64_t seed = [] {
    const char* given = std::getenv("DSOPT_TEST_SEED");
    const uint64_t value = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
    std::printf("DSOPT_TEST_SEED=%llu\n", static_cast<unsigned long long>(value));
    return value;
  }();
  return seed;
}

TestHost::TestHost() {
  allocator_ = {sizeof(allocator_), 0, this, Alloc, Free};
  api_ = {};
  api_.struct_size = sizeof(api_);
  api_.core_abi = DSOPT_BACKEND_ABI;
  api_.context = this;
  api_.allocator = &allocator_;
  api_.log = [](void*, dsopt_log_level, const char*, const char*) {};
  api_.set_error = [](void* context, const char* message) {
    static_cast<TestHost*>(context)->error_ = message;
  };
}

std::string TestHost::TakeError() { return std::exchange(error_, std::string()); }

void TestHost::FailAt(int64_t request) { fail_at_ = request < 0 ? -1 : requests_ + request; }

void* TestHost::Alloc(void* user, size_t size, size_t align) {
  TestHost* self = static_cast<TestHost*>(user);
  if (self->fail_at_ >= 0 && self->requests_ >= self->fail_at_) return nullptr;
  ++self->requests_;
  const size_t rounded = (size + align - 1) / align * align;
  void* memory = std::aligned_alloc(align, std::max(rounded, align));
  if (memory == nullptr) return nullptr;
  std::memset(memory, 0xff, size);
  ++self->live_;
  return memory;
}

void TestHost::Free(void* user, void* ptr, size_t, size_t) {
  --static_cast<TestHost*>(user)->live_;
  std::free(ptr);
}

TestDevice::TestDevice(const Target& target) : api(target.api) {
  dsopt_device_options options = {};
  options.struct_size = sizeof(options);
  options.threads = target.threads;
  options.variant = target.variant.empty() ? nullptr : target.variant.c_str();
  options.host = host.api();
  REQUIRE(api->device_open(target.index, &options, &device) == DSOPT_OK);
}

TestDevice::~TestDevice() {
  api->device_close(device);
  CHECK(host.live() == 0);
}

BlockShape Block(const AttentionShape& shape) { return {DSOPT_BLOCK_ATTENTION, shape, {}, {}, {}}; }
BlockShape Block(const MlaShape& shape) { return {DSOPT_BLOCK_MLA, {}, shape, {}, {}}; }
BlockShape Block(const MlpShape& shape) { return {DSOPT_BLOCK_MLP, {}, {}, shape, {}}; }
BlockShape Block(const MoeShape& shape) { return {DSOPT_BLOCK_MOE, {}, {}, {}, shape}; }

uint16_t ToBf16Bits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

double Rounded(double value, dsopt_dtype dtype) {
  const float single = static_cast<float>(value);
  if (dtype == DSOPT_BF16) {
    const uint32_t bits = static_cast<uint32_t>(ToBf16Bits(single)) << 16;
    float back;
    std::memcpy(&back, &bits, 4);
    return static_cast<double>(back);
  }
  if (dtype == DSOPT_F16) {  // the compiler's own conversion, not the backend's
    const int exponent = std::max(std::ilogb(single), -14);
    return single == 0.0f ? 0.0
                          : std::nearbyint(std::ldexp(static_cast<double>(single), 10 - exponent)) *
                                std::ldexp(1.0, exponent - 10);
  }
  return static_cast<double>(single);
}

namespace {

// A value that is exact in dtype, as its bytes.
void Encode(double value, dsopt_dtype dtype, uint8_t* dst) {
  const float single = static_cast<float>(value);
  if (dtype == DSOPT_F32) {
    std::memcpy(dst, &single, 4);
  } else if (dtype == DSOPT_BF16) {
    const uint16_t bits = ToBf16Bits(single);
    std::memcpy(dst, &bits, 2);
  } else {
    const double magnitude = std::fabs(value);
    uint16_t bits = 0;
    if (magnitude >= std::ldexp(1.0, -14)) {
      const int exponent = std::ilogb(magnitude);
      bits = static_cast<uint16_t>(((exponent + 15) << 10) +
                                   static_cast<int>(std::ldexp(magnitude, 10 - exponent)) - 1024);
    } else {
      bits = static_cast<uint16_t>(std::ldexp(magnitude, 24));
    }
    if (std::signbit(value)) bits = static_cast<uint16_t>(bits | 0x8000);
    std::memcpy(dst, &bits, 2);
  }
}

}  // namespace

void WriteInPieces(TestDevice* device, TestWeight* weight, Random* random) {
  const uint64_t count = weight->values.size();
  const uint64_t bytes = weight->desc.dtype == DSOPT_F32 ? 4 : 2;
  // Element k of the source lies 2 bytes into a buffer, so that nothing is aligned by luck.
  std::vector<uint8_t> source(count * bytes + 2);
  for (uint64_t i = 0; i < count; ++i) Encode(weight->values[i], weight->desc.dtype, &source[2 + i * bytes]);
  std::vector<std::pair<uint64_t, uint64_t>> pieces;
  for (uint64_t first = 0; first < count;) {
    const uint64_t most = (*random)() % 2 == 0 ? 64 * weight->desc.cols : 3 * weight->desc.cols / 2 + 1;
    const uint64_t length = std::min(count - first, 1 + (*random)() % most);
    pieces.emplace_back(first, length);
    first += length;
  }
  std::shuffle(pieces.begin(), pieces.end(), *random);
  for (const auto& [first, length] : pieces) {
    REQUIRE(device->api->weight_write(weight->handle, first, length, &source[2 + first * bytes]) == DSOPT_OK);
  }
}

TestModel::TestModel(TestDevice* d, const ModelShape& s, Random* random)
    : shape(s), device(d), random_(random) {
  blocks.resize(shape.blocks.size() + 2);
  weights.resize(blocks.size());
  const size_t last = blocks.size() - 1;
  blocks[0].kind = DSOPT_BLOCK_EMBED;
  TestWeight* table =
      Add(0, "table", DSOPT_WEIGHT_EMBEDDING, 1, shape.vocab, shape.hidden, 0.0, 1.0, shape.tied);
  blocks[0].u.embed = {table->handle, shape.embed_scale, 0};
  for (size_t i = 0; i < shape.blocks.size(); ++i) AddBlock(i + 1, shape.blocks[i]);
  blocks[last].kind = DSOPT_BLOCK_HEAD;
  TestWeight* norm = Add(last, "norm", DSOPT_WEIGHT_VECTOR, 1, 1, shape.hidden, 1.0, 0.2);
  TestWeight* head = table;
  if (!shape.tied) {
    head = Add(last, "weight", DSOPT_WEIGHT_MATRIX, 1, shape.vocab, shape.hidden, 0.0,
               1.0 / std::sqrt(shape.hidden));
  }
  weights[last]["weight"] = head;
  blocks[last].u.head = {norm->handle, head->handle, 1e-5f, 0};
  for (uint32_t i = 0; i < blocks.size(); ++i) blocks[i].layer = i;
  REQUIRE(device->api->weight_finish(device->device) == DSOPT_OK);
}

TestModel::~TestModel() {
  for (auto& weight : all_) device->api->weight_destroy(weight->handle);
}

TestWeight* TestModel::Add(size_t block, const char* role, dsopt_weight_kind kind, uint64_t batch,
                           uint64_t rows, uint64_t cols, double mean, double stddev, bool tied) {
  all_.push_back(std::make_unique<TestWeight>());
  TestWeight* w = all_.back().get();
  w->desc = PlainDesc(kind, shape.dtype, batch, rows, cols, role);
  w->desc.tied = tied ? 1 : 0;
  if (shape.coded.encoding != DSOPT_ENCODING_PLAIN || shape.coded.odd_values != 0.0) {
    if (MayBeCoded(w->desc)) {
      MakeCoded(shape.coded, stddev, w, random_);
      CAPTURE(role, batch, rows, cols);
      const dsopt_status status = device->api->weight_create(device->device, &w->desc, &w->handle);
      INFO(device->host.TakeError());
      REQUIRE(status == DSOPT_OK);
      WriteCodedInPieces(device, w, random_);
      weights[block][role] = w;
      return w;
    }
  }
  w->values.resize(batch * rows * cols);
  std::normal_distribution<double> normal(mean, stddev);
  for (double& value : w->values) value = Rounded(normal(*random_), shape.dtype);
  CAPTURE(role, batch, rows, cols);
  REQUIRE(device->api->weight_create(device->device, &w->desc, &w->handle) == DSOPT_OK);
  WriteInPieces(device, w, random_);
  weights[block][role] = w;
  return w;
}

void TestModel::AddRope(uint32_t dim, bool interleaved) {
  frequencies_.push_back(std::make_unique<std::vector<float>>(dim / 2));
  std::vector<float>& f = *frequencies_.back();
  for (uint32_t i = 0; i < dim / 2; ++i) f[i] = static_cast<float>(std::pow(10000.0, -2.0 * i / dim));
  ropes.push_back({dim, interleaved ? 1u : 0u, 1.0f, 0, f.data()});
}

void TestModel::AddBlock(size_t index, const BlockShape& block) {
  const uint64_t h = shape.hidden;
  dsopt_block& out = blocks[index];
  out.kind = block.kind;
  const auto vector = [&](const char* role, uint64_t count, double mean, double stddev) {
    return Add(index, role, DSOPT_WEIGHT_VECTOR, 1, 1, count, mean, stddev)->handle;
  };
  const auto matrix = [&](const char* role, dsopt_weight_kind kind, uint64_t batch, uint64_t rows,
                          uint64_t cols) {
    const double inputs = static_cast<double>(kind == DSOPT_WEIGHT_TRANSPOSED ? rows : cols);
    return Add(index, role, kind, batch, rows, cols, 0.0, 1.0 / std::sqrt(inputs))->handle;
  };
  const dsopt_be_weight* norm = vector("norm", h, 1.0, 0.2);
  if (block.kind == DSOPT_BLOCK_ATTENTION) {
    const AttentionShape& a = block.attention;
    const uint64_t wide = uint64_t{a.q_heads + 2 * a.kv_heads} * a.head_dim;
    dsopt_attention_block b = {};
    b.norm = norm;
    b.qkv = matrix("qkv", DSOPT_WEIGHT_MATRIX, 1, wide, h);
    b.qkv_bias = a.bias ? vector("qkv_bias", wide, 0.0, 0.5) : nullptr;
    b.out = matrix("out", DSOPT_WEIGHT_MATRIX, 1, h, uint64_t{a.q_heads} * a.head_dim);
    b.out_bias = a.bias ? vector("out_bias", h, 0.0, 0.5) : nullptr;
    b.q_heads = a.q_heads;
    b.kv_heads = a.kv_heads;
    b.head_dim = a.head_dim;
    b.window = a.window;
    b.rope = static_cast<uint32_t>(ropes.size());
    b.norm_eps = 1e-5f;
    b.cache_offset = cache_values_;  // in values; MakeDesc turns it into bytes
    AddRope(a.rope_dim != 0 ? a.rope_dim : a.head_dim, a.interleaved);
    cache_values_ += uint64_t{64} * 2 * a.kv_heads * a.head_dim;
    out.u.attention = b;
  } else if (block.kind == DSOPT_BLOCK_MLA) {
    const MlaShape& a = block.mla;
    const uint64_t q = uint64_t{a.heads} * (a.nope + a.rope_dim);
    dsopt_mla_block b = {};
    b.norm = norm;
    b.down = matrix("down", DSOPT_WEIGHT_MATRIX, 1, (a.q_rank != 0 ? a.q_rank : q) + a.latent + a.rope_dim, h);
    if (a.q_rank != 0) {
      b.q_norm = vector("q_norm", a.q_rank, 1.0, 0.2);
      b.q_up = matrix("q_up", DSOPT_WEIGHT_MATRIX, 1, q, a.q_rank);
    }
    b.latent_norm = vector("latent_norm", a.latent, 1.0, 0.2);
    b.k_up = matrix("k_up", DSOPT_WEIGHT_TRANSPOSED, a.heads, a.nope, a.latent);
    b.v_up = matrix("v_up", DSOPT_WEIGHT_MATRIX, a.heads, a.v_dim, a.latent);
    b.out = matrix("out", DSOPT_WEIGHT_MATRIX, 1, h, uint64_t{a.heads} * a.v_dim);
    b.heads = a.heads;
    b.q_rank = a.q_rank;
    b.latent = a.latent;
    b.nope = a.nope;
    b.rope_dim = a.rope_dim;
    b.v_dim = a.v_dim;
    b.rope = static_cast<uint32_t>(ropes.size());
    b.scale = 1.0f / std::sqrt(static_cast<float>(a.nope + a.rope_dim));
    b.norm_eps = 1e-5f;
    b.latent_eps = 1e-6f;
    b.cache_offset = cache_values_;
    AddRope(a.rope_dim, true);
    cache_values_ += uint64_t{64} * (a.latent + a.rope_dim);
    out.u.mla = b;
  } else if (block.kind == DSOPT_BLOCK_MLP) {
    const MlpShape& m = block.mlp;
    dsopt_mlp_block b = {};
    b.norm = norm;
    b.gate_up = matrix("gate_up", DSOPT_WEIGHT_GATE_UP, 1, uint64_t{2} * m.inner, h);
    b.gate_up_bias = m.bias ? vector("gate_up_bias", uint64_t{2} * m.inner, 0.0, 0.5) : nullptr;
    b.down = matrix("down", DSOPT_WEIGHT_MATRIX, 1, h, m.inner);
    b.down_bias = m.bias ? vector("down_bias", h, 0.0, 0.5) : nullptr;
    b.inner = m.inner;
    b.activation = m.activation;
    b.norm_eps = 1e-5f;
    out.u.mlp = b;
  } else {
    const MoeShape& m = block.moe;
    dsopt_moe_block b = {};
    b.norm = norm;
    b.router = matrix("router", DSOPT_WEIGHT_ROUTER, 1, m.experts, h);
    b.gate_up = matrix("gate_up", DSOPT_WEIGHT_GATE_UP, m.experts, uint64_t{2} * m.inner, h);
    b.down = matrix("down", DSOPT_WEIGHT_EXPERTS, m.experts, h, m.inner);
    if (m.shared_inner != 0) {
      b.shared_gate_up = matrix("shared_gate_up", DSOPT_WEIGHT_GATE_UP, 1, uint64_t{2} * m.shared_inner, h);
      b.shared_down = matrix("shared_down", DSOPT_WEIGHT_MATRIX, 1, h, m.shared_inner);
    }
    b.experts = m.experts;
    b.top_k = m.top_k;
    b.inner = m.inner;
    b.shared_inner = m.shared_inner;
    b.groups = m.groups;
    b.top_groups = m.top_groups;
    b.renormalise = m.renormalise ? 1 : 0;
    b.activation = m.activation;
    b.route_scale = m.route_scale;
    b.norm_eps = 1e-5f;
    out.u.moe = b;
  }
}

// From pages of so many bytes 2^31 of them reach across all addresses of 47 bits.
constexpr uint64_t kReachedBytes = 64 << 10;

dsopt_program_desc MakeDesc(TestModel* model, const ProgramOptions& o) {
  uint64_t offset = 0;
  for (size_t i = 0; i < model->shape.blocks.size(); ++i) {
    const BlockShape& shape = model->shape.blocks[i];
    dsopt_block& block = model->blocks[i + 1];
    if (block.kind == DSOPT_BLOCK_ATTENTION) {
      block.u.attention.cache_offset = offset;
      offset += 64 * 2 * shape.attention.kv_heads * CacheVectorBytes(o.kv_dtype, shape.attention.head_dim);
    } else if (block.kind == DSOPT_BLOCK_MLA) {
      block.u.mla.cache_offset = offset;
      offset += 64 * (CacheVectorBytes(o.kv_dtype, shape.mla.latent) +
                      CacheVectorBytes(o.kv_dtype, shape.mla.rope_dim));
    }
  }
  dsopt_program_desc d = {};
  d.struct_size = sizeof(d);
  d.precision = static_cast<uint32_t>(o.precision);
  d.blocks = model->blocks.data();
  d.block_count = static_cast<uint32_t>(model->blocks.size());
  d.rope_count = static_cast<uint32_t>(model->ropes.size());
  d.ropes = model->ropes.data();
  d.hidden = model->shape.hidden;
  d.vocab = model->shape.vocab;
  d.max_rows = o.max_rows;
  d.max_seqs = o.max_seqs;
  d.max_logit_rows = o.max_rows;
  d.max_pages_per_seq = o.max_pages_per_seq;
  d.page_tokens = 64;
  d.page_count = o.page_count;
  d.page_bytes = std::max<uint64_t>((offset + 255) / 256 * 256, o.host_pages != 0 ? kReachedBytes + 256 : 256);
  d.host_pages = o.host_pages;
  d.flags = o.flags;
  d.kv_dtype = o.kv_dtype;
  d.max_adjust = o.max_adjust;
  d.max_history = o.max_history;
  return d;
}

TestProgram::TestProgram(TestModel* m, const ProgramOptions& options, Random* random)
    : model(m), desc(MakeDesc(m, options)) {
  const dsopt_status status = m->device->api->program_create(m->device->device, &desc, &handle);
  INFO(m->device->host.TakeError());
  REQUIRE(status == DSOPT_OK);
  for (uint32_t i = 0; i < desc.page_count; ++i) free_pages_.push_back(static_cast<int32_t>(i));
  std::shuffle(free_pages_.begin(), free_pages_.end(), *random);
  // Pages start as NaNs on every backend.
  const std::vector<uint8_t> poison(desc.page_bytes, 0xff);
  for (uint32_t i = 0; i < desc.page_count; ++i) {
    REQUIRE(m->device->api->program_write_page(handle, i, poison.data()) == DSOPT_OK);
  }
}

TestProgram::~TestProgram() { model->device->api->program_destroy(handle); }

dsopt_batch TestProgram::Prepare(const std::vector<Part>& parts) {
  tokens_.clear();
  positions_.clear();
  row_seq_.clear();
  page_table_.assign(parts.size() * desc.max_pages_per_seq, -1);
  for (size_t s = 0; s < parts.size(); ++s) {
    Sequence& sequence = sequences_[parts[s].sequence];
    for (const int32_t token : parts[s].tokens) {
      tokens_.push_back(token);
      positions_.push_back(static_cast<int32_t>(sequence.length));
      row_seq_.push_back(static_cast<int32_t>(s));
      if (sequence.length++ % 64 == 0) {
        REQUIRE(!free_pages_.empty());
        sequence.pages.push_back(free_pages_.back());
        free_pages_.pop_back();
      }
    }
    std::copy(sequence.pages.begin(), sequence.pages.end(), page_table_.begin() + s * desc.max_pages_per_seq);
  }
  dsopt_batch batch = {};
  batch.struct_size = sizeof(batch);
  batch.rows = static_cast<uint32_t>(tokens_.size());
  batch.seqs = static_cast<uint32_t>(parts.size());
  batch.tokens = tokens_.data();
  batch.positions = positions_.data();
  batch.row_seq = row_seq_.data();
  batch.page_table = page_table_.data();
  batch.page_table_stride = desc.max_pages_per_seq;
  return batch;
}

void TestProgram::Finish(bool sliced) {
  const dsopt_backend_api* api = model->device->api;
  uint64_t calls = 0;
  while (true) {
    uint64_t wait_us = 0;
    const dsopt_status status = api->program_advance(handle, sliced ? 1 : UINT64_MAX, &wait_us);
    if (status == DSOPT_OK) return;
    if (status != DSOPT_PENDING) FAIL(model->device->host.TakeError());
    REQUIRE(++calls < 100000000);
  }
}

void TestProgram::MovePage(uint32_t sequence, size_t index) {
  REQUIRE(!free_pages_.empty());
  int32_t& page = sequences_.at(sequence).pages.at(index);
  const int32_t to = free_pages_.back();
  REQUIRE(model->device->api->program_copy_page(handle, static_cast<uint32_t>(to),
                                                static_cast<uint32_t>(page)) == DSOPT_OK);
  free_pages_.back() = page;
  page = to;
  // Whoever still reads the old page sees NaNs.
  const std::vector<uint8_t> poison(desc.page_bytes, 0xff);
  REQUIRE(model->device->api->program_write_page(handle, static_cast<uint32_t>(free_pages_.back()),
                                                 poison.data()) == DSOPT_OK);
}

std::vector<std::vector<float>> TestProgram::Run(const std::vector<Part>& parts, bool sliced) {
  const dsopt_backend_api* api = model->device->api;
  dsopt_batch batch = Prepare(parts);
  std::vector<dsopt_sample_row> sample(batch.rows);
  for (uint32_t r = 0; r < batch.rows; ++r) sample[r].row = static_cast<int32_t>(r);
  batch.sample = sample.data();
  batch.logit_rows = batch.rows;
  const dsopt_status status = api->program_begin(handle, &batch);
  INFO(model->device->host.TakeError());
  REQUIRE(status == DSOPT_OK);
  Finish(sliced);
  std::vector<std::vector<float>> logits(batch.rows, std::vector<float>(desc.vocab));
  for (uint32_t r = 0; r < batch.rows; ++r) {
    REQUIRE(api->program_read_logits(handle, r, logits[r].data()) == DSOPT_OK);
  }
  return logits;
}

}  // namespace dsopt::kernel_test
