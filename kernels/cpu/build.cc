// build.cc - the shared part of building phases: buffers, norms, fixed point, products, gated projections. A block each:
// attention.cc, mla.cc, mlp.cc, moe.cc, head.cc, embed.cc.
#include "build.h"

namespace dsopt_cpu {

Builder::Builder(const dsopt_be_device* device, const dsopt_program_desc& desc, dsopt_be_program* program)
    : device_(device), desc_(desc), program_(program) {}

void Builder::BuildAll() {
  Buffer(kBufX, max_rows(), uint64_t{desc_.hidden} * 4);
  for (uint32_t i = 0; i < desc_.block_count; ++i) {
    block_ = &desc_.blocks[i];
    switch (block_->kind) {
      case DSOPT_BLOCK_EMBED:
        BuildEmbed(block_->u.embed);
        break;
      case DSOPT_BLOCK_ATTENTION:
        BuildAttention(block_->u.attention);
        break;
      case DSOPT_BLOCK_MLA:
        BuildMla(block_->u.mla);
        break;
      case DSOPT_BLOCK_MLP:
        BuildMlp(block_->u.mlp);
        break;
      case DSOPT_BLOCK_MOE:
        BuildMoe(block_->u.moe);
        break;
      case DSOPT_BLOCK_HEAD:
        BuildHead(block_->u.head);
        break;
      default:
        break;  // CheckDesc has refused it
    }
  }
}

uint8_t* Builder::Buffer(BufferId id, uint64_t rows, uint64_t row_bytes) {
  buffer_bytes[id] = Max(buffer_bytes[id], RoundUp(rows * row_bytes + 256, 64));
  return program_ != nullptr ? program_->buffers[id] : nullptr;
}

Phase* Builder::Add() {
  Phase* phase = program_ != nullptr ? &program_->phases[phase_count] : &dummy_phase_;
  *phase = Phase{};
  phase->block = block_;
  ++phase_count;
  return phase;
}

AttentionOp* Builder::AddAttention() {
  AttentionOp* op = program_ != nullptr ? &program_->attentions[attention_count] : &dummy_attention_;
  *op = AttentionOp{};
  ++attention_count;
  return op;
}

CodedFn Builder::FixedKernel(const dsopt_be_weight* weight) const {
  if (!fast() || !weight->coded.on || weight->coded.group_cols > kFixedInputs) return nullptr;
  return kernels().coded_fixed[weight->coded.code];
}

Storage Builder::Staging(const dsopt_be_weight* weight) const {
  if (!fast()) return kF32;
  if (FixedKernel(weight) != nullptr) return kF32;
  if (weight->coded.on) return kernels().coded_bf16[weight->coded.code] != nullptr ? kBf16 : kF32;
  return kernels().linear_bf16 != nullptr && weight->storage == kBf16 ? kBf16 : kF32;
}

uint64_t Builder::StagedBytes(const dsopt_be_weight* weight) const {
  return RoundUp(RoundUp(weight->inputs, 2) * StorageBytes(Staging(weight)), 64);
}

namespace {

constexpr uint32_t kNormRows = 4;  // rows of one unit

uint32_t NormRows(const dsopt_be_program* p, const NormOp& op) {
  return op.rows == RowSet::kLogits ? p->batch.logit_rows : Rows(p);
}

uint32_t PrepareNorm(dsopt_be_program* p, const Phase& phase) {
  return static_cast<uint32_t>(DivUp(NormRows(p, phase.norm), kNormRows));
}

void RunNorm(dsopt_be_program* p, const Phase& phase, uint32_t unit, Scratch*) {
  const NormOp& op = phase.norm;
  const uint32_t last = Min((unit + 1) * kNormRows, NormRows(p, op));
  const uint32_t hidden = p->desc.hidden, padded = static_cast<uint32_t>(RoundUp(hidden, 2));
  for (uint32_t i = unit * kNormRows; i < last; ++i) {
    const uint32_t row = op.rows == RowSet::kLogits ? static_cast<uint32_t>(p->sample[i].row) : i;
    uint8_t* staged = op.out + i * op.out_row_bytes;
    uint8_t* full = op.full != nullptr ? op.full + i * op.full_row_bytes : nullptr;
    if (op.staging == kF32) {
      full = staged;
      staged = nullptr;
    }
    p->device->kernels->rms_norm(ResidualRow(p, row), op.gain, op.eps, hidden, padded,
                                 reinterpret_cast<float*>(full), reinterpret_cast<uint16_t*>(staged));
  }
}

}  // namespace

const uint8_t* Builder::AddNorm(const dsopt_be_weight* gain, float eps, const dsopt_be_weight* consumer,
                                bool want_f32, RowSet rows) {
  const uint64_t count = rows == RowSet::kLogits ? desc_.max_logit_rows : max_rows();
  Phase* phase = Add();
  phase->prepare = PrepareNorm;
  phase->run = RunNorm;
  NormOp& op = phase->norm;
  op.rows = rows;
  op.gain = Values(gain);
  op.eps = eps;
  op.staging = Staging(consumer);
  op.out = Buffer(kBufNorm, count, StagedBytes(consumer));
  op.out_row_bytes = StagedBytes(consumer);
  if (want_f32 && op.staging != kF32) {
    op.full_row_bytes = RoundUp(RoundUp(desc_.hidden, 2) * 4, 64);
    op.full = Buffer(kBufNorm32, count, op.full_row_bytes);
  }
  return op.out;
}

namespace {

uint32_t PrepareFixed(dsopt_be_program* p, const Phase& phase) {
  const FixedOp& op = phase.fixed;
  if (op.rows == RowSet::kLogits) return p->batch.logit_rows;
  return op.rows == RowSet::kExperts && !op.in_per_row ? Rows(p) * phase.block->u.moe.top_k : Rows(p);
}

void RunFixed(dsopt_be_program* p, const Phase& phase, uint32_t row, Scratch*) {
  const FixedOp& op = phase.fixed;
  p->device->kernels->to_fixed(reinterpret_cast<const float*>(op.in + row * op.in_row_bytes), op.count,
                               op.out + row * FixedBytes(op.count));
}

}  // namespace

const uint8_t* Builder::AddFixed(const dsopt_be_weight* weight, const uint8_t* in, uint64_t in_row_bytes,
                                 RowSet rows, bool in_per_row) {
  uint64_t count = rows == RowSet::kLogits ? desc_.max_logit_rows : max_rows();
  if (rows == RowSet::kExperts && !in_per_row) count *= block_->u.moe.top_k;
  Phase* phase = Add();
  phase->prepare = PrepareFixed;
  phase->run = RunFixed;
  phase->fixed = {rows, in_per_row, static_cast<uint32_t>(weight->inputs), in, in_row_bytes, nullptr};
  phase->fixed.out = Buffer(kBufFixed, count, FixedBytes(weight->inputs));
  return phase->fixed.out;
}

LinearOp* Builder::AddLinear(const dsopt_be_weight* weight, const uint8_t* in, uint64_t in_row_bytes,
                             RowSet rows, bool in_per_row) {
  const CodedFn fixed = FixedKernel(weight);
  if (fixed != nullptr) {
    in = AddFixed(weight, in, in_row_bytes, rows, in_per_row);
    in_row_bytes = FixedBytes(weight->inputs);
  }
  Phase* phase = Add();
  phase->prepare = PrepareLinear;
  phase->run = RunLinear;
  LinearOp* op = &phase->linear;
  op->weight = weight;
  const bool half = Staging(weight) == kBf16;
  if (fixed != nullptr) {
    op->coded = fixed;
  } else if (weight->coded.on) {
    op->coded = half ? kernels().coded_bf16[weight->coded.code] : kernels().coded[weight->coded.code];
  } else {
    op->function = half ? kernels().linear_bf16 : kernels().linear[weight->storage];
  }
  op->rows = rows;
  op->in_per_row = in_per_row;
  op->in = in;
  op->in_row_bytes = in_row_bytes;
  op->epilogue.columns = static_cast<uint32_t>(weight->outputs);
  return op;
}

LinearOp* Builder::AddResidual(const dsopt_be_weight* weight, const uint8_t* in, const dsopt_be_weight* bias,
                               RowSet rows) {
  LinearOp* op = AddLinear(weight, in, StagedBytes(weight), rows);
  op->out = Buffer(kBufX, max_rows(), uint64_t{desc_.hidden} * 4);
  op->out_row_bytes = uint64_t{desc_.hidden} * 4;
  op->epilogue.kind = kAddSum;
  op->epilogue.out = kF32;
  op->epilogue.bias = Values(bias);
  return op;
}

const uint8_t* Builder::AddGated(const dsopt_be_weight* gate_up, const dsopt_be_weight* bias,
                                 const dsopt_be_weight* down, dsopt_activation activation, const uint8_t* in,
                                 RowSet rows, uint64_t rows_max, bool in_per_row) {
  LinearOp* op = AddLinear(gate_up, in, StagedBytes(gate_up), rows, in_per_row);
  op->out = Buffer(kBufInner, rows_max, StagedBytes(down));
  op->out_row_bytes = StagedBytes(down);
  op->epilogue.kind = kGate;
  op->epilogue.out = Staging(down);
  op->epilogue.gelu = activation == DSOPT_ACT_GELU_TANH;
  op->epilogue.columns = static_cast<uint32_t>(RoundUp(down->inputs, 2));
  op->epilogue.bias = Values(bias);
  op->epilogue.bias_up = bias != nullptr ? Values(bias) + down->inputs : nullptr;
  return op->out;
}

}  // namespace dsopt_cpu
