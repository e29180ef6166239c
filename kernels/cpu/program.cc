// program.cc - planning, creating and destroying a program; starting a batch; results and pages.
#include "program.h"

#include <cstring>
#include <new>

#include "build.h"

namespace dsopt_cpu {

using dsopt_shared::CheckBatch;
using dsopt_shared::FillStruct;
using dsopt_shared::WeightFacts;

namespace {

// Hands out aligned arrays of one allocation. With base NULL it only adds up (saturating).
class Arena {
 public:
  explicit Arena(uint8_t* base) : base_(base) {}
  template <typename T>
  T* Take(uint64_t count) {
    uint64_t bytes;
    if (__builtin_mul_overflow(count, sizeof(T), &bytes) || bytes > kLimit - used_) {
      used_ = kLimit;
      return nullptr;
    }
    T* at = base_ != nullptr ? reinterpret_cast<T*>(base_ + used_) : nullptr;
    used_ = Min(kLimit, RoundUp(used_ + bytes, 64));
    return at;
  }
  uint64_t used() const { return used_; }

 private:
  static constexpr uint64_t kLimit = uint64_t{1} << 62;
  uint8_t* base_;
  uint64_t used_ = 0;
};

// Small things: this struct, tables, copies of the batch, results.
void LayOutHost(const dsopt_program_desc& d, const Builder& b, Arena* arena, dsopt_be_program* p) {
  dsopt_be_program unused = {};
  if (p == nullptr) p = &unused;
  dsopt_block* blocks = arena->Take<dsopt_block>(d.block_count);
  dsopt_rope* ropes = arena->Take<dsopt_rope>(d.rope_count);
  p->desc.blocks = blocks;
  p->desc.ropes = ropes;
  p->rope_first = arena->Take<uint64_t>(d.rope_count);
  uint64_t rope_floats = 0;
  for (uint32_t i = 0; i < d.rope_count; ++i) {
    float* freq = arena->Take<float>(d.ropes[i].dim / 2);
    if (ropes == nullptr) {
      rope_floats += uint64_t{d.ropes[i].dim} * d.max_rows;
      continue;
    }
    ropes[i] = d.ropes[i];
    ropes[i].inv_freq = freq;
    std::memcpy(freq, d.ropes[i].inv_freq, d.ropes[i].dim / 2 * sizeof(float));
    p->rope_first[i] = rope_floats;
    rope_floats += uint64_t{d.ropes[i].dim} * d.max_rows;
  }
  if (blocks != nullptr) std::memcpy(blocks, d.blocks, d.block_count * sizeof(dsopt_block));
  p->phases = arena->Take<Phase>(b.phase_count);
  p->attentions = arena->Take<AttentionOp>(b.attention_count);
  p->tokens = arena->Take<int32_t>(d.max_rows);
  p->positions = arena->Take<int32_t>(d.max_rows);
  p->row_seq = arena->Take<int32_t>(d.max_rows);
  p->page_table = arena->Take<int32_t>(uint64_t{d.max_seqs} * d.max_pages_per_seq);
  p->sample = arena->Take<dsopt_sample_row>(d.max_logit_rows);
  p->adjust_tokens = arena->Take<int32_t>(d.max_adjust);
  p->adjust_bias = arena->Take<float>(d.max_adjust);
  p->history_tokens = arena->Take<int32_t>(d.max_history);
  p->history_counts = arena->Take<uint32_t>(d.max_history);
  p->seq_first_row = arena->Take<uint32_t>(d.max_seqs + uint64_t{1});
  p->seq_first_unit = arena->Take<uint32_t>(d.max_seqs + uint64_t{1});
  p->pages.stamps = arena->Take<uint32_t>(d.page_count);
  p->pages.seqs = arena->Take<uint32_t>(d.page_count);
  p->result_tokens = arena->Take<int32_t>(d.max_logit_rows);
  p->result_logprobs = arena->Take<float>(d.max_logit_rows);
  p->result_top_tokens = arena->Take<int32_t>(uint64_t{d.max_logit_rows} * DSOPT_MAX_TOP_LOGPROBS);
  p->result_top_logprobs = arena->Take<float>(uint64_t{d.max_logit_rows} * DSOPT_MAX_TOP_LOGPROBS);
  p->mixture.weights = arena->Take<float>(b.max_slots);
  p->mixture.experts = arena->Take<int32_t>(b.max_slots);
  p->mixture.order = arena->Take<uint32_t>(b.max_slots);
  p->mixture.first = arena->Take<uint32_t>(b.max_experts + 1);
  p->mixture.unit_first = arena->Take<uint32_t>(b.max_experts + 1);
}

// Large things: buffers, per-thread scratch, rotary angles.
void LayOutWorkspace(const dsopt_program_desc& d, const Builder& b, uint32_t threads, Arena* arena,
                     dsopt_be_program* p) {
  for (uint32_t i = 0; i < kBufCount; ++i) {
    uint8_t* at = arena->Take<uint8_t>(b.buffer_bytes[i]);
    if (p != nullptr) p->buffers[i] = at;
  }
  uint64_t rope_floats = 0;
  for (uint32_t i = 0; i < d.rope_count; ++i) rope_floats += uint64_t{d.ropes[i].dim} * d.max_rows;
  float* rope_table = arena->Take<float>(rope_floats);
  Scratch* scratch = arena->Take<Scratch>(threads);
  if (p != nullptr) {
    p->rope_table = rope_table;
    p->scratch = scratch;
  }
  for (uint32_t t = 0; t < threads; ++t) {
    Scratch s = {};
    s.acc = arena->Take<float>(kMicroRows * kTileRows);
    s.keys = arena->Take<float>(b.scratch_keys);
    s.values = arena->Take<float>(b.scratch_values);
    s.scores = arena->Take<float>(kMaxUnitRows * kSpanTokens);
    s.sums = arena->Take<float>(b.scratch_sums);
    s.halves = arena->Take<uint16_t>(b.scratch_halves);
    s.probs = arena->Take<float>(d.vocab);
    s.logits = arena->Take<float>(d.vocab);
    s.typical = arena->Take<float>(d.vocab);
    s.ids = arena->Take<int32_t>(d.vocab);
    s.order = arena->Take<int32_t>(d.vocab);
    if (scratch != nullptr) scratch[t] = s;
  }
}

struct Plan {
  uint64_t cache_bytes, workspace_bytes, host_bytes;
};

dsopt_status MakePlan(dsopt_be_device* device, const dsopt_program_desc& d, const Builder& b, Plan* plan) {
  Arena host(nullptr), workspace(nullptr);
  host.Take<dsopt_be_program>(1);
  LayOutHost(d, b, &host, nullptr);
  LayOutWorkspace(d, b, device->pool->threads(), &workspace, nullptr);
  plan->host_bytes = host.used();
  plan->workspace_bytes = workspace.used();
  if (__builtin_mul_overflow(uint64_t{d.page_count}, d.page_bytes, &plan->cache_bytes) ||
      plan->cache_bytes > (uint64_t{1} << 60) || plan->workspace_bytes > (uint64_t{1} << 60) ||
      plan->host_bytes > (uint64_t{1} << 60)) {
    return Fail(device->host, DSOPT_E_INVALID_ARGUMENT,
                "program: %u pages of %llu bytes and %u rows need more than 2^60 bytes", d.page_count,
                static_cast<unsigned long long>(d.page_bytes), d.max_rows);
  }
  return DSOPT_OK;
}

WeightFacts FactsOfWeight(const dsopt_be_weight* w) {
  return {w->device, w->kind, w->batch, w->rows, w->cols, w->tied != 0, w->name};
}

// The rules of all backends, and ours.
dsopt_status CheckDesc(dsopt_be_device* device, const dsopt_program_desc& d) {
  const dsopt_status status = dsopt_shared::CheckProgram(*device->host, device, FactsOfWeight, {}, d);
  if (status != DSOPT_OK) return status;
  if (d.host_pages != 0) {
    return Fail(device->host, DSOPT_E_UNSUPPORTED, "program: host_pages is %u: the CPU's memory is the host's",
                d.host_pages);
  }
  for (uint32_t i = 0; i < d.block_count; ++i) {
    const dsopt_moe_block& b = d.blocks[i].u.moe;
    if (d.blocks[i].kind != DSOPT_BLOCK_MOE || b.shared_gate_up == nullptr) continue;
    if (b.shared_gate_up->storage != b.gate_up->storage) {
      return Fail(device->host, DSOPT_E_UNSUPPORTED,
                  "program: block %u: gate_up and shared_gate_up have different dtypes", i);
    }
  }
  return DSOPT_OK;
}

uint32_t NeededWindow(const dsopt_program_desc& d) {
  uint32_t window = 1;  // without attention no page is read
  for (uint32_t i = 0; i < d.block_count; ++i) {
    if (d.blocks[i].kind == DSOPT_BLOCK_MLA) return 0;
    if (d.blocks[i].kind != DSOPT_BLOCK_ATTENTION) continue;
    if (d.blocks[i].u.attention.window == 0) return 0;
    window = Max(window, d.blocks[i].u.attention.window);
  }
  return window;
}

dsopt_status AllocateProgram(dsopt_be_device* device, const dsopt_program_desc& d, const Builder& sizes,
                             const Plan& plan, dsopt_be_program** out) {
  Memory memory;
  dsopt_status status = Allocate(device->host, plan.host_bytes, "program", &memory);
  if (status != DSOPT_OK) return status;
  std::memset(memory.data, 0, memory.bytes);
  Arena arena(memory.data);
  dsopt_be_program* p = new (arena.Take<dsopt_be_program>(1)) dsopt_be_program{};
  p->device = device;
  p->memory = memory;
  p->desc = d;
  LayOutHost(d, sizes, &arena, p);
  status = Allocate(device->host, plan.cache_bytes, "program: KV cache", &p->cache);
  if (status == DSOPT_OK)
    status = Allocate(device->host, plan.workspace_bytes, "program: workspace", &p->workspace);
  if (status != DSOPT_OK) {
    ProgramDestroy(p);
    return status;
  }
  Arena workspace(p->workspace.data);
  LayOutWorkspace(d, sizes, device->pool->threads(), &workspace, p);
  *out = p;
  return DSOPT_OK;
}

dsopt_status CheckPage(const dsopt_be_program* p, uint32_t page, const void* memory, const char* what) {
  if (p->state == dsopt_be_program::kRunning) {
    return Fail(p->device->host, DSOPT_E_INVALID_STATE, "%s: a batch is in flight", what);
  }
  if (page >= p->desc.page_count || memory == nullptr) {
    return Fail(p->device->host, DSOPT_E_INVALID_ARGUMENT, "%s: page %u of %u%s", what, page,
                p->desc.page_count, memory == nullptr ? ", memory is NULL" : "");
  }
  return DSOPT_OK;
}

uint8_t* PageData(dsopt_be_program* p, uint32_t page) { return p->cache.data + page * p->desc.page_bytes; }

}  // namespace

dsopt_status ProgramPlan(dsopt_be_device* device, const dsopt_program_desc* desc,
                         dsopt_program_memory* memory) {
  dsopt_program_desc d;
  if (!CopyStruct(desc, &d) || memory == nullptr || memory->struct_size < sizeof(uint32_t)) {
    return Fail(device->host, DSOPT_E_INVALID_ARGUMENT, "program_plan: a struct is NULL or has no size");
  }
  dsopt_status status = CheckDesc(device, d);
  if (status != DSOPT_OK) return status;
  Builder sizes(device, d, nullptr);
  sizes.BuildAll();
  Plan plan;
  status = MakePlan(device, d, sizes, &plan);
  if (status != DSOPT_OK) return status;
  FillStruct(dsopt_program_memory{0, 0, plan.cache_bytes, plan.workspace_bytes, plan.host_bytes, 0}, memory);
  return DSOPT_OK;
}

dsopt_status ProgramCreate(dsopt_be_device* device, const dsopt_program_desc* desc, dsopt_be_program** out) {
  dsopt_program_desc d;
  if (!CopyStruct(desc, &d) || out == nullptr) {
    return Fail(device->host, DSOPT_E_INVALID_ARGUMENT,
                "program_create: a pointer is NULL or the struct has no size");
  }
  *out = nullptr;
  dsopt_status status = CheckDesc(device, d);
  if (status != DSOPT_OK) return status;
  Builder sizes(device, d, nullptr);
  sizes.BuildAll();
  Plan plan;
  status = MakePlan(device, d, sizes, &plan);
  if (status != DSOPT_OK) return status;
  const uint64_t charge = plan.cache_bytes + plan.workspace_bytes;
  status = Charge(device, charge, "program");
  if (status != DSOPT_OK) return status;
  dsopt_be_program* p = nullptr;
  status = AllocateProgram(device, d, sizes, plan, &p);
  if (status != DSOPT_OK) {
    Refund(device, charge);
    return status;
  }
  p->charged = charge;
  // The descriptor keeps pointing at this program's copies.
  const dsopt_block* blocks = p->desc.blocks;
  const dsopt_rope* ropes = p->desc.ropes;
  p->desc = d;
  p->desc.blocks = blocks;
  p->desc.ropes = ropes;
  p->has_rope = d.rope_count != 0;
  p->needed_window = NeededWindow(d);
  Builder builder(device, p->desc, p);
  builder.BuildAll();
  p->phase_count = builder.phase_count;
  *out = p;
  return DSOPT_OK;
}

void ProgramDestroy(dsopt_be_program* p) {
  if (p == nullptr) return;
  dsopt_be_device* device = p->device;
  Refund(device, p->charged);
  Release(device->host, &p->workspace);
  Release(device->host, &p->cache);
  Memory memory = p->memory;
  p->~dsopt_be_program();
  Release(device->host, &memory);
}

dsopt_status ProgramBegin(dsopt_be_program* p, const dsopt_batch* batch) {
  dsopt_batch b;
  if (p->state == dsopt_be_program::kRunning) {
    return Fail(p->device->host, DSOPT_E_INVALID_STATE,
                "program_begin: the previous batch is neither finished nor cancelled");
  }
  if (!CopyStruct(batch, &b)) {
    return Fail(p->device->host, DSOPT_E_INVALID_ARGUMENT, "program_begin: the batch is NULL or has no size");
  }
  const dsopt_status status = CheckBatch(*p->device->host, p->desc, p->needed_window, &p->pages, b);
  if (status != DSOPT_OK) return status;
  p->batch = b;
  std::memcpy(p->tokens, b.tokens, b.rows * sizeof(*b.tokens));
  std::memcpy(p->positions, b.positions, b.rows * sizeof(*b.positions));
  std::memcpy(p->row_seq, b.row_seq, b.rows * sizeof(*b.row_seq));
  const uint32_t stride = p->desc.max_pages_per_seq;
  for (uint32_t s = 0; s < b.seqs; ++s) {
    std::memcpy(p->page_table + uint64_t{s} * stride, b.page_table + uint64_t{s} * b.page_table_stride,
                Min(stride, b.page_table_stride) * sizeof(int32_t));
  }
  for (uint32_t i = 0; i < b.logit_rows; ++i) p->sample[i] = b.sample[i];
  for (uint32_t i = 0; i < b.adjust_count; ++i) {
    p->adjust_tokens[i] = b.adjust_tokens[i];
    p->adjust_bias[i] = b.adjust_bias[i];
  }
  for (uint32_t i = 0; i < b.history_count; ++i) {
    p->history_tokens[i] = b.history_tokens[i];
    p->history_counts[i] = b.history_counts[i];
  }
  for (uint32_t r = b.rows; r-- > 0;) p->seq_first_row[b.row_seq[r]] = r;
  p->seq_first_row[b.seqs] = b.rows;
  StartPhases(p);
  p->state = dsopt_be_program::kRunning;
  return DSOPT_OK;
}

dsopt_status ProgramResult(dsopt_be_program* p, dsopt_batch_result* result) {
  if (p->state != dsopt_be_program::kFinished) {
    return Fail(p->device->host, DSOPT_E_INVALID_STATE, "program_result: no batch is finished");
  }
  const dsopt_batch_result full = {0,
                                   p->batch.logit_rows,
                                   p->result_tokens,
                                   p->result_logprobs,
                                   p->result_top_tokens,
                                   p->result_top_logprobs,
                                   p->busy_ns,
                                   0,
                                   0};
  if (!FillStruct(full, result)) {
    return Fail(p->device->host, DSOPT_E_INVALID_ARGUMENT, "program_result: the result is NULL or has no size");
  }
  return DSOPT_OK;
}

dsopt_status ProgramCancel(dsopt_be_program* p) {
  p->state = dsopt_be_program::kIdle;
  return DSOPT_OK;
}

dsopt_status ProgramReadLogits(dsopt_be_program* p, uint32_t index, float* dst) {
  if (p->state != dsopt_be_program::kFinished) {
    return Fail(p->device->host, DSOPT_E_INVALID_STATE, "program_read_logits: no batch is finished");
  }
  if (index >= p->batch.logit_rows || dst == nullptr) {
    return Fail(p->device->host, DSOPT_E_INVALID_ARGUMENT, "program_read_logits: entry %u of %u%s", index,
                p->batch.logit_rows, dst == nullptr ? ", dst is NULL" : "");
  }
  const float* logits =
      reinterpret_cast<const float*>(p->buffers[kBufLogits]) + uint64_t{index} * p->desc.vocab;
  std::memcpy(dst, logits, p->desc.vocab * sizeof(float));
  return DSOPT_OK;
}

dsopt_status ProgramCopyPage(dsopt_be_program* p, uint32_t dst_page, uint32_t src_page) {
  dsopt_status status = CheckPage(p, dst_page, p, "program_copy_page");
  if (status == DSOPT_OK) status = CheckPage(p, src_page, p, "program_copy_page");
  if (status == DSOPT_OK) std::memmove(PageData(p, dst_page), PageData(p, src_page), p->desc.page_bytes);
  return status;
}

dsopt_status ProgramReadPage(dsopt_be_program* p, uint32_t page, void* dst) {
  const dsopt_status status = CheckPage(p, page, dst, "program_read_page");
  if (status == DSOPT_OK) std::memcpy(dst, PageData(p, page), p->desc.page_bytes);
  return status;
}

dsopt_status ProgramWritePage(dsopt_be_program* p, uint32_t page, const void* src) {
  const dsopt_status status = CheckPage(p, page, src, "program_write_page");
  if (status == DSOPT_OK) std::memcpy(PageData(p, page), src, p->desc.page_bytes);
  return status;
}

}  // namespace dsopt_cpu
