// build.h - turns blocks into phases. The same code runs twice: first to count phases and bytes (pointers are
// then meaningless and nothing is stored), then for good. Not for the time a batch runs.
#ifndef DSOPT_CPU_BUILD_H_
#define DSOPT_CPU_BUILD_H_

#include "program.h"

namespace dsopt_cpu {

class Builder {
 public:
  // program NULL: only count.
  Builder(const dsopt_be_device* device, const dsopt_program_desc& desc, dsopt_be_program* program);

  void BuildAll();

  // Room in a shared buffer for rows of row_bytes.
  uint8_t* Buffer(BufferId id, uint64_t rows, uint64_t row_bytes);
  Phase* Add();  // the next phase, zeroed but for block
  AttentionOp* AddAttention();
  void NeedScratch(uint64_t keys, uint64_t values, uint64_t sums, uint64_t halves) {
    scratch_keys = Max(scratch_keys, keys);
    scratch_values = Max(scratch_values, values);
    scratch_sums = Max(scratch_sums, sums);
    scratch_halves = Max(scratch_halves, halves);
  }

  // How activations that go into `weight` are staged, and the bytes of a row of them.
  Storage Staging(const dsopt_be_weight* weight) const;
  uint64_t StagedBytes(const dsopt_be_weight* weight) const;

  // norm(x) for the rows of the batch (or the logit rows), staged for `consumer`; f32 too when wanted.
  const uint8_t* AddNorm(const dsopt_be_weight* gain, float eps, const dsopt_be_weight* consumer, bool want_f32,
                         RowSet rows);
  // A linear phase from staged input; the caller completes out and epilogue. in_per_row: see LinearOp.
  LinearOp* AddLinear(const dsopt_be_weight* weight, const uint8_t* in, uint64_t in_row_bytes, RowSet rows,
                      bool in_per_row = false);
  LinearOp* AddResidual(const dsopt_be_weight* weight, const uint8_t* in, const dsopt_be_weight* bias,
                        RowSet rows);
  // gate, up and activation, then the input of `down`.
  const uint8_t* AddGated(const dsopt_be_weight* gate_up, const dsopt_be_weight* bias,
                          const dsopt_be_weight* down, dsopt_activation activation, const uint8_t* in,
                          RowSet rows, uint64_t rows_max, bool in_per_row = false);

  void BuildEmbed(const dsopt_embed_block& b);
  void BuildAttention(const dsopt_attention_block& b);
  void BuildMla(const dsopt_mla_block& b);
  void BuildMlp(const dsopt_mlp_block& b);
  void BuildMoe(const dsopt_moe_block& b);
  void BuildHead(const dsopt_head_block& b);
  // Phases of attention proper; op needs everything down to out_head_bytes.
  void AddAttentionPhases(AttentionOp* op);

  const dsopt_program_desc& desc() const { return desc_; }
  uint32_t max_rows() const { return desc_.max_rows; }
  // The kernel that takes activations in fixed point for this weight; NULL: none does.
  CodedFn FixedKernel(const dsopt_be_weight* weight) const;
  // A phase that brings staged f32 rows into fixed point, where it gives the place of a row.
  const uint8_t* AddFixed(const dsopt_be_weight* weight, const uint8_t* in, uint64_t in_row_bytes, RowSet rows,
                          bool in_per_row);

  const Kernels& kernels() const { return *device_->kernels; }
  bool fast() const { return desc_.precision == DSOPT_PRECISION_FAST; }

  // Counts.
  uint64_t buffer_bytes[kBufCount] = {};
  uint32_t phase_count = 0;
  uint32_t attention_count = 0;
  uint64_t scratch_keys = 0, scratch_values = 0, scratch_sums = 0, scratch_halves = 0;  // values
  uint64_t max_slots = 0, max_experts = 0;                                              // MoE

 private:
  const dsopt_be_device* device_;
  const dsopt_program_desc& desc_;
  dsopt_be_program* program_;
  const dsopt_block* block_ = nullptr;
  Phase dummy_phase_;
  AttentionOp dummy_attention_;
};

// linear.cc
uint32_t PrepareLinear(dsopt_be_program* program, const Phase& phase);
void RunLinear(dsopt_be_program* program, const Phase& phase, uint32_t unit, Scratch* scratch);

// Rotates v in place by the row's angles: pairs (i, i + dim/2), or (2i, 2i + 1) when interleaved.
void Rotate(const dsopt_rope& rope, const float* cos_sin, float* v);

}  // namespace dsopt_cpu
#endif  // DSOPT_CPU_BUILD_H_
