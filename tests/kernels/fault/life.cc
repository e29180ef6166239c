// life.cc - see life.h.
#include "life.h"

#include <cstdlib>
#include <cstring>

namespace dsopt::fault {
namespace {

constexpr uint32_t kPages = 4, kRows = 48, kDecodeSteps = 4;
constexpr float kEps = 1e-5f;

}  // namespace

Host::Host() {
  allocator_.struct_size = sizeof(allocator_);
  allocator_.user = this;
  allocator_.alloc = [](void* user, size_t size, size_t align) -> void* {
    void* memory = std::aligned_alloc(align, (size + align - 1) / align * align);
    if (memory != nullptr) ++static_cast<Host*>(user)->live;
    return memory;
  };
  allocator_.free = [](void* user, void* memory, size_t, size_t) {
    --static_cast<Host*>(user)->live;
    std::free(memory);
  };
  api_.struct_size = sizeof(api_);
  api_.core_abi = DSOPT_BACKEND_ABI;
  api_.context = this;
  api_.allocator = &allocator_;
  api_.log = [](void*, dsopt_log_level, const char*, const char*) {};
  api_.set_error = [](void* context, const char* text) { static_cast<Host*>(context)->message = text; };
}

Life::Life(const dsopt_backend_api* api, Kind kind) : api_(api), kind_(kind) {
  weights_.reserve(64);
  blocks_.reserve(16);
  if (kind == Kind::kPersistent)
    DescribePersistent();
  else
    DescribeBlocks();
  frequencies_.assign(64, 0.5f);
}

void Life::Close() {
  api_->program_destroy(program_);
  for (Weight& weight : weights_) api_->weight_destroy(weight.handle);
  api_->device_close(device_);
  program_ = nullptr;
  device_ = nullptr;
  weights_.clear();
}

bool Life::Did(const std::string& what, dsopt_status result) {
  status = result;
  step = what;
  return result == DSOPT_OK;
}

// ---- the model --------------------------------------------------------------------------------------

// Describes a weight and says where a block of blocks_ wants it.
#define DSOPT_LINK(place, ...)                          \
  do {                                                  \
    AddWeight(__VA_ARGS__);                             \
    links_.emplace_back(&(place), weights_.size() - 1); \
  } while (false)

void Life::AddWeight(dsopt_weight_kind kind, uint64_t batch, uint64_t rows, uint64_t cols,
                     dsopt_encoding encoding) {
  dsopt_weight_desc d = {};
  d.struct_size = sizeof(d);
  d.kind = kind;
  d.dtype = DSOPT_BF16;
  d.batch = batch;
  d.rows = rows;
  d.cols = cols;
  d.name = "w";
  d.encoding = encoding;
  if (encoding == DSOPT_ENCODING_INT8) d.dtype = DSOPT_I8;
  if (encoding == DSOPT_ENCODING_INT4) {
    d.dtype = DSOPT_U8;
    d.group_cols = 32;
  }
  weights_.push_back({d, nullptr, false});
}

void Life::DescribeBlocks() {
  hidden_ = 128;
  vocab_ = 96;
  blocks_.assign(6, dsopt_block{});
  blocks_[0].kind = DSOPT_BLOCK_EMBED;
  DSOPT_LINK(blocks_[0].u.embed.table, DSOPT_WEIGHT_EMBEDDING, 1, vocab_, hidden_);

  blocks_[1].kind = DSOPT_BLOCK_ATTENTION;
  dsopt_attention_block& a = blocks_[1].u.attention;
  a.q_heads = 2;
  a.kv_heads = 1;
  a.head_dim = 64;
  a.norm_eps = kEps;
  DSOPT_LINK(a.norm, DSOPT_WEIGHT_VECTOR, 1, 1, hidden_);
  DSOPT_LINK(a.qkv, DSOPT_WEIGHT_MATRIX, 1, 256, hidden_, DSOPT_ENCODING_LOSSLESS12);
  DSOPT_LINK(a.out, DSOPT_WEIGHT_MATRIX, 1, hidden_, 128, DSOPT_ENCODING_INT8);
  page_values_ = 64 * 2 * 64;

  blocks_[2].kind = DSOPT_BLOCK_MLP;
  dsopt_mlp_block& m = blocks_[2].u.mlp;
  m.inner = 64;
  m.activation = DSOPT_ACT_SILU;
  m.norm_eps = kEps;
  DSOPT_LINK(m.norm, DSOPT_WEIGHT_VECTOR, 1, 1, hidden_);
  DSOPT_LINK(m.gate_up, DSOPT_WEIGHT_GATE_UP, 1, 128, hidden_);
  DSOPT_LINK(m.down, DSOPT_WEIGHT_MATRIX, 1, hidden_, 64, DSOPT_ENCODING_INT4);

  blocks_[3].kind = DSOPT_BLOCK_MLA;
  dsopt_mla_block& l = blocks_[3].u.mla;
  l.heads = 2;
  l.latent = 64;
  l.nope = 32;
  l.rope_dim = 16;
  l.v_dim = 32;
  l.rope = 1;
  l.scale = 0.125f;
  l.norm_eps = l.latent_eps = kEps;
  l.cache_offset = page_values_ * 2;
  DSOPT_LINK(l.norm, DSOPT_WEIGHT_VECTOR, 1, 1, hidden_);
  DSOPT_LINK(l.down, DSOPT_WEIGHT_MATRIX, 1, 2 * 48 + 64 + 16, hidden_);
  DSOPT_LINK(l.latent_norm, DSOPT_WEIGHT_VECTOR, 1, 1, 64);
  DSOPT_LINK(l.k_up, DSOPT_WEIGHT_TRANSPOSED, 2, 32, 64);
  DSOPT_LINK(l.v_up, DSOPT_WEIGHT_MATRIX, 2, 32, 64);
  DSOPT_LINK(l.out, DSOPT_WEIGHT_MATRIX, 1, hidden_, 64);
  page_values_ += 64 * 80;

  blocks_[4].kind = DSOPT_BLOCK_MOE;
  dsopt_moe_block& e = blocks_[4].u.moe;
  e.experts = 4;
  e.top_k = 2;
  e.inner = 64;
  e.activation = DSOPT_ACT_SILU;
  e.route_scale = 1.0f;
  e.norm_eps = kEps;
  DSOPT_LINK(e.norm, DSOPT_WEIGHT_VECTOR, 1, 1, hidden_);
  DSOPT_LINK(e.router, DSOPT_WEIGHT_ROUTER, 1, 4, hidden_);
  DSOPT_LINK(e.gate_up, DSOPT_WEIGHT_GATE_UP, 4, 128, hidden_);
  DSOPT_LINK(e.down, DSOPT_WEIGHT_EXPERTS, 4, hidden_, 64);

  blocks_[5].kind = DSOPT_BLOCK_HEAD;
  blocks_[5].u.head.norm_eps = kEps;
  DSOPT_LINK(blocks_[5].u.head.norm, DSOPT_WEIGHT_VECTOR, 1, 1, hidden_);
  DSOPT_LINK(blocks_[5].u.head.weight, DSOPT_WEIGHT_MATRIX, 1, vocab_, hidden_);
}

void Life::DescribePersistent() {
  hidden_ = 2048;
  vocab_ = 256;
  blocks_.assign(4, dsopt_block{});
  blocks_[0].kind = DSOPT_BLOCK_EMBED;
  DSOPT_LINK(blocks_[0].u.embed.table, DSOPT_WEIGHT_EMBEDDING, 1, vocab_, hidden_);
  blocks_[1].kind = DSOPT_BLOCK_ATTENTION;
  dsopt_attention_block& a = blocks_[1].u.attention;
  a.q_heads = 32;
  a.kv_heads = 8;
  a.head_dim = 64;
  a.norm_eps = kEps;
  DSOPT_LINK(a.norm, DSOPT_WEIGHT_VECTOR, 1, 1, hidden_);
  DSOPT_LINK(a.qkv, DSOPT_WEIGHT_MATRIX, 1, 48 * 64, hidden_);
  DSOPT_LINK(a.out, DSOPT_WEIGHT_MATRIX, 1, hidden_, 2048);
  page_values_ = 64 * 16 * 64;
  blocks_[2].kind = DSOPT_BLOCK_MLP;
  dsopt_mlp_block& m = blocks_[2].u.mlp;
  m.inner = 8192;
  m.activation = DSOPT_ACT_SILU;
  m.norm_eps = kEps;
  DSOPT_LINK(m.norm, DSOPT_WEIGHT_VECTOR, 1, 1, hidden_);
  DSOPT_LINK(m.gate_up, DSOPT_WEIGHT_GATE_UP, 1, 16384, hidden_);
  DSOPT_LINK(m.down, DSOPT_WEIGHT_MATRIX, 1, hidden_, 8192);
  blocks_[3].kind = DSOPT_BLOCK_HEAD;
  blocks_[3].u.head.norm_eps = kEps;
  DSOPT_LINK(blocks_[3].u.head.norm, DSOPT_WEIGHT_VECTOR, 1, 1, hidden_);
  DSOPT_LINK(blocks_[3].u.head.weight, DSOPT_WEIGHT_MATRIX, 1, vocab_, hidden_);
}
#undef DSOPT_LINK

// ---- its life ---------------------------------------------------------------------------------------

// Zeros: what is computed does not matter here.
bool Life::Write(Weight* weight) {
  const dsopt_weight_desc& d = weight->desc;
  if (kind_ == Kind::kPersistent) return Did("weight_fill", api_->weight_fill(weight->handle, 1, 0.0f, 0.01f));
  const uint64_t count = d.batch * d.rows * d.cols;
  const std::vector<uint16_t> zeros(count, 0);
  // In two pieces, the first ending inside a row.
  const uint64_t cut = count / 3 / 2 * 2;
  if (!Did("weight_write", api_->weight_write(weight->handle, 0, cut, zeros.data()))) return false;
  if (!Did("weight_write", api_->weight_write(weight->handle, cut, count - cut, zeros.data()))) return false;
  if (d.encoding != DSOPT_ENCODING_INT8 && d.encoding != DSOPT_ENCODING_INT4) return true;
  const uint64_t groups = d.encoding == DSOPT_ENCODING_INT8 ? d.rows : d.rows * (d.cols / 32);
  const std::vector<float> scales(groups, 1.0f);
  return Did("weight_write_scales",
             api_->weight_write_scales(weight->handle, 0, groups, scales.data(), nullptr));
}

bool Life::Open() {
  if (device_ == nullptr) {
    dsopt_device_options options = {};
    options.struct_size = sizeof(options);
    options.host = host.api();
    if (!Did("device_open", api_->device_open(0, &options, &device_))) return false;
  }
  for (Weight& weight : weights_) {
    if (weight.written) continue;
    // Every element is written once: a weight whose writing failed starts anew.
    api_->weight_destroy(weight.handle);
    weight.handle = nullptr;
    if (!Did("weight_create", api_->weight_create(device_, &weight.desc, &weight.handle))) return false;
    if (!Write(&weight)) return false;
    weight.written = true;
  }
  if (!Did("weight_finish", api_->weight_finish(device_))) return false;
  return program_ != nullptr || CreateProgram();
}

bool Life::CreateProgram() {
  for (const auto& [place, index] : links_) *place = weights_[index].handle;
  const dsopt_rope ropes[] = {{64, 0, 1.0f, 0, frequencies_.data()}, {16, 1, 1.0f, 0, frequencies_.data()}};
  dsopt_program_desc d = {};
  d.struct_size = sizeof(d);
  d.precision = DSOPT_PRECISION_FAST;
  d.blocks = blocks_.data();
  d.block_count = static_cast<uint32_t>(blocks_.size());
  d.rope_count = 2;
  d.ropes = ropes;
  d.hidden = hidden_;
  d.vocab = vocab_;
  d.max_rows = kRows;
  d.max_seqs = 2;
  d.max_logit_rows = 2;
  d.max_pages_per_seq = 2;
  d.page_tokens = 64;
  d.page_count = kPages;
  d.page_bytes = page_bytes_ = page_values_ * 2;
  if (kind_ == Kind::kHostPages) {
    d.host_pages = 2;
    d.page_bytes = page_bytes_ = (64 << 10) + 256;  // so large that a page id reaches them from anywhere
  }
  d.kv_dtype = DSOPT_BF16;
  d.slice_us = kind_ == Kind::kSliced ? 1 : 0;
  return Did("program_create", api_->program_create(device_, &d, &program_));
}

// Rows at positions [first, first + rows) of one sequence, its last row sampled.
bool Life::Batch(const char* what, uint32_t first, uint32_t rows) {
  std::vector<int32_t> ids(rows, 7), positions(rows), seqs(rows, 0);
  for (uint32_t i = 0; i < rows; ++i) positions[i] = static_cast<int32_t>(first + i);
  const int32_t pages[] = {2, 3};
  dsopt_sample_row sample = {};
  sample.row = static_cast<int32_t>(rows - 1);
  dsopt_batch b = {};
  b.struct_size = sizeof(b);
  b.rows = rows;
  b.seqs = b.logit_rows = 1;
  b.tokens = ids.data();
  b.positions = positions.data();
  b.row_seq = seqs.data();
  b.page_table = pages;
  b.page_table_stride = 2;
  b.sample = &sample;
  if (!Did(std::string(what) + ": program_begin", api_->program_begin(program_, &b))) return false;
  uint64_t wait = 0;
  dsopt_status result = DSOPT_PENDING;
  for (const int end = polls + 50000000; result == DSOPT_PENDING; ++polls) {
    if (polls > end) return Did(std::string(what) + ": it never ends", DSOPT_E_TIMEOUT);
    result = api_->program_advance(program_, UINT64_MAX, &wait);
  }
  if (!Did(std::string(what) + ": program_advance", result)) return false;
  dsopt_batch_result out = {};
  out.struct_size = sizeof(out);
  if (!Did(std::string(what) + ": program_result", api_->program_result(program_, &out))) return false;
  tokens.push_back(out.tokens[0]);
  replayed += out.replayed;
  return true;
}

bool Life::Work() {
  std::vector<uint8_t> page(page_bytes_, 0), back(page_bytes_, 1);
  for (size_t i = 0; i < page.size(); i += 2) page[i] = static_cast<uint8_t>(i / 2 % 251);
  if (!Did("program_write_page", api_->program_write_page(program_, 0, page.data())) ||
      !Did("program_copy_page", api_->program_copy_page(program_, 2, 0)) ||
      !Did("program_copy_page", api_->program_copy_page(program_, 3, 2)) ||
      !Did("program_copy_page", api_->program_copy_page(program_, 1, 3)) ||
      !Did("program_read_page", api_->program_read_page(program_, 1, back.data())))
    return false;
  if (page != back) return Did("the page that was copied is another", DSOPT_E_INTERNAL);
  if (!Batch("prefill", 0, 40)) return false;
  std::vector<float> logits(vocab_);
  if (!Did("program_read_logits", api_->program_read_logits(program_, 0, logits.data()))) return false;
  for (uint32_t i = 0; i < kDecodeSteps; ++i)
    if (!Batch("decode", 40 + i, 1)) return false;
  return Did("program_cancel", api_->program_cancel(program_));
}

}  // namespace dsopt::fault
