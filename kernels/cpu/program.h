// program.h - a session's blocks as a list of phases, its cache, its workspace and the batch in flight.
//
// A phase is a number of independent units of work (at most about 100 us each). Threads claim units one by one
// (schedule.cc); the thread that finishes the last unit prepares the next phase. What a unit computes for a row
// depends on that row alone, never on how units were cut: see isa/kernels.h.
#ifndef DSOPT_CPU_PROGRAM_H_
#define DSOPT_CPU_PROGRAM_H_

#include <atomic>

#include "cache_codes.h"
#include "common.h"
#include "device.h"
#include "weight.h"

namespace dsopt_cpu {

struct Phase;
struct Scratch;

// Which rows a linear phase works on.
enum class RowSet : uint8_t { kBatch, kLogits, kExperts };

// out[row] (epilogue) W in[row], for every matrix of W.
struct LinearOp {
  const dsopt_be_weight* weight;
  LinearFn function;  // of a plain weight
  CodedFn coded;      // of a coded one
  RowSet rows;
  bool in_per_row;    // kExperts: the input is one per row, not one per (row, choice)
  const uint8_t* in;  // f32, bf16 or fixed point, as function wants
  uint64_t in_row_bytes, in_matrix_bytes;
  uint8_t* out;
  uint64_t out_row_bytes, out_matrix_bytes;
  Epilogue epilogue;  // columns and bias pointers are those of the whole matrix
};

// Staged rmsnorm of the residual rows.
struct NormOp {
  RowSet rows;
  const float* gain;
  float eps;
  Storage staging;
  uint8_t* out;
  uint64_t out_row_bytes;
  uint8_t* full;  // also in f32; NULL: not wanted
  uint64_t full_row_bytes;
};

// Rows of f32 in fixed point, for a coded linear phase.
struct FixedOp {
  RowSet rows;
  bool in_per_row;  // as in LinearOp
  uint32_t count;   // values of a row
  const uint8_t* in;
  uint64_t in_row_bytes;
  uint8_t* out;
};

// Causal attention over the cache, grouped heads. MLA: one cache head whose values are the first vd of its
// keys.
struct AttentionOp {
  const float* q;  // scaled and rotated
  uint64_t q_row_floats, q_head_floats;
  uint32_t heads, group;  // query heads; how many of them share one cache head
  uint32_t kd, vd, vd_padded;
  uint32_t window;
  bool half;                                // bf16 products of queries, keys, probabilities and values
  uint32_t token_values;                    // of one position in a page of one cache head
  uint64_t cache_offset;                    // of the layer inside a page
  uint64_t cache_head_bytes, value_offset;  // of a plain cache; value_offset: from keys to values of a page
  CacheCode code;
  CodedPlace keys[2];  // of a coded cache; MLA: latent, rotated part. Unused: values 0
  CodedPlace coded_values;
  uint8_t* out;  // [rows, heads, vd]
  Storage out_storage;
  uint64_t out_row_bytes, out_head_bytes;
  uint32_t unit_heads, unit_rows;  // heads of a group and rows of a sequence in one unit
  uint32_t partials;               // how many (row, head, span) results the buffers hold
  float* state;                    // [rows, heads] x (m, l, o[vd])
  float* parts;                    // [partials] x (m, l, o[vd])
};

// Counts for the current phase, made by its prepare.
struct Geometry {
  uint64_t rows, row_step, row_blocks;
  uint64_t tile_step, tile_groups;
  uint32_t first_span, span_count;  // of this wave
  uint32_t head_blocks, group_blocks;
};

struct Phase {
  // Number of units; 0 skips the phase.
  uint32_t (*prepare)(dsopt_be_program* program, const Phase& phase);
  void (*run)(dsopt_be_program* program, const Phase& phase, uint32_t unit, Scratch* scratch);
  bool (*again)(dsopt_be_program* program, const Phase& phase);  // NULL: no. True: go back `back` phases
  uint32_t back;
  const dsopt_block* block;
  const AttentionOp* attention;
  LinearOp linear;
  NormOp norm;
  FixedOp fixed;
};

// Of one thread.
struct Scratch {
  float* acc;        // [kMicroRows, 64]
  float* keys;       // a page of transposed keys
  float* values;     // a page of values
  float* scores;     // [unit rows, span]
  float* sums;       // [unit rows, vd_padded]
  uint16_t* halves;  // [unit rows, max(kd, span)] queries, then probabilities, in bf16
  float* probs;      // [vocab]
  float* logits;     // [vocab] adjusted copy
  float* typical;    // [vocab]
  int32_t* ids;      // [vocab]
  int32_t* order;    // [vocab]
};

constexpr uint32_t kMaxUnitRows = 64;  // (row, head) pairs in one unit of attention

// Buffers of the workspace; blocks share them.
enum BufferId : uint32_t {
  kBufX,
  kBufNorm,
  kBufNorm32,
  kBufFixed,
  kBufProjected,
  kBufQuery,
  kBufNope,
  kBufAbsorbed,
  kBufMixed,
  kBufInner,
  kBufSlots,
  kBufState,
  kBufParts,
  kBufRouter,
  kBufLogits,
  kBufCount
};

struct Mixture {         // routing of the current MoE block
  float* weights;        // [rows, top_k]
  int32_t* experts;      // [rows, top_k]
  uint32_t* order;       // (row, choice) slots sorted by expert
  uint32_t* first;       // [experts + 1] into order
  uint32_t* unit_first;  // [experts + 1]
};

}  // namespace dsopt_cpu

struct dsopt_be_program {
  using Memory = dsopt_cpu::Memory;
  dsopt_be_device* device;
  dsopt_program_desc desc;  // with pointers into this program's memory
  bool has_rope;
  Memory memory;  // this struct and the arrays below
  Memory cache;
  Memory workspace;
  uint64_t charged;

  dsopt_cpu::Phase* phases;
  uint32_t phase_count;
  dsopt_cpu::AttentionOp* attentions;
  dsopt_cpu::Scratch* scratch;  // [threads]
  uint8_t* buffers[dsopt_cpu::kBufCount];
  float* rope_table;     // [ropes][rows] x (cos[dim / 2], sin[dim / 2])
  uint64_t* rope_first;  // [ropes] floats into rope_table
  dsopt_cpu::Mixture mixture;
  uint32_t needed_window;  // positions back that some layer may still read; 0: all

  // The batch: copies.
  dsopt_batch batch;
  int32_t* tokens;
  int32_t* positions;
  int32_t* row_seq;
  int32_t* page_table;  // [seqs, max_pages_per_seq]
  dsopt_sample_row* sample;
  int32_t* adjust_tokens;
  float* adjust_bias;
  int32_t* history_tokens;
  uint32_t* history_counts;
  uint32_t* seq_first_row;   // [seqs + 1]
  uint32_t* seq_first_unit;  // [seqs + 1] row groups of the current attention phase
  dsopt_shared::PageWriters pages;

  // Results.
  int32_t* result_tokens;
  float* result_logprobs;
  int32_t* result_top_tokens;
  float* result_top_logprobs;
  uint64_t busy_ns;

  // Progress.
  enum State : uint32_t { kIdle, kRunning, kFinished } state;
  dsopt_cpu::Geometry geometry;
  uint32_t phase_index;
  uint64_t deadline_ns;
  alignas(64) std::atomic<uint64_t> next;  // phase sequence number << 32 | next unit
  std::atomic<uint32_t> units;
  std::atomic<bool> finished;
  alignas(64) std::atomic<uint32_t> done;
};

namespace dsopt_cpu {

dsopt_status ProgramPlan(dsopt_be_device* device, const dsopt_program_desc* desc, dsopt_program_memory* memory);
dsopt_status ProgramCreate(dsopt_be_device* device, const dsopt_program_desc* desc, dsopt_be_program** out);
void ProgramDestroy(dsopt_be_program* program);
dsopt_status ProgramBegin(dsopt_be_program* program, const dsopt_batch* batch);
dsopt_status ProgramAdvance(dsopt_be_program* program, uint64_t deadline_ns, uint64_t* wait_us);
dsopt_status ProgramResult(dsopt_be_program* program, dsopt_batch_result* result);
dsopt_status ProgramCancel(dsopt_be_program* program);
dsopt_status ProgramReadLogits(dsopt_be_program* program, uint32_t index, float* dst);
dsopt_status ProgramCopyPage(dsopt_be_program* program, uint32_t dst_page, uint32_t src_page);
dsopt_status ProgramReadPage(dsopt_be_program* program, uint32_t page, void* dst);
dsopt_status ProgramWritePage(dsopt_be_program* program, uint32_t page, const void* src);

// check_desc.cc, check_batch.cc: nothing past these calls has to doubt a number.

void StartPhases(dsopt_be_program* program);  // schedule.cc: the first phase of a new batch

inline uint32_t Rows(const dsopt_be_program* p) { return p->batch.rows; }
inline float* ResidualRow(const dsopt_be_program* p, uint32_t row) {
  return reinterpret_cast<float*>(p->buffers[kBufX]) + uint64_t{row} * p->desc.hidden;
}
inline const float* Values(const dsopt_be_weight* vector) {
  return vector != nullptr ? reinterpret_cast<const float*>(vector->data) : nullptr;
}
// Of a plain cache.
inline Storage KvStorage(const dsopt_be_program* p) { return p->desc.kv_dtype == DSOPT_BF16 ? kBf16 : kF32; }
// Start of a layer's part of the page that holds `position` of sequence `seq`.
inline uint8_t* CachePage(const dsopt_be_program* p, uint32_t seq, uint32_t page_index, uint64_t cache_offset) {
  const int32_t page = p->page_table[uint64_t{seq} * p->desc.max_pages_per_seq + page_index];
  return p->cache.data + static_cast<uint64_t>(page) * p->desc.page_bytes + cache_offset;
}
// cos[dim / 2] then sin[dim / 2] of a row.
inline const float* RopeRow(const dsopt_be_program* p, uint32_t rope, uint32_t row) {
  return p->rope_table + p->rope_first[rope] + uint64_t{row} * p->desc.ropes[rope].dim;
}

}  // namespace dsopt_cpu
#endif  // DSOPT_CPU_PROGRAM_H_
