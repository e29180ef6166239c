// mla.cc - multi-head latent attention, always absorbed: scores and mixing happen in the latent space, so
// prefill and decode do the same arithmetic and the cache holds latent + rope values per position, nothing per
// head.
#include <cstring>

#include "build.h"

namespace dsopt_cpu {
namespace {

uint32_t PrepareRows(dsopt_be_program* p, const Phase&) { return Rows(p); }

// Per row: the query's low-rank part normalised for q_up, the latent normalised and appended with its rotated
// key. norm.out: staged q (NULL: no q_rank); linear.out: the output of down.
void RunLatent(dsopt_be_program* p, const Phase& phase, uint32_t row, Scratch*) {
  const dsopt_mla_block& b = phase.block->u.mla;
  const Kernels& k = *p->device->kernels;
  float* a = reinterpret_cast<float*>(phase.linear.out + row * phase.linear.out_row_bytes);
  const uint32_t q_part = b.q_rank != 0 ? b.q_rank : b.heads * (b.nope + b.rope_dim);
  if (b.q_rank != 0) {
    uint8_t* staged = phase.norm.out + row * phase.norm.out_row_bytes;
    const bool half = phase.norm.staging == kBf16;
    k.rms_norm(a, Values(b.q_norm), b.latent_eps, b.q_rank, static_cast<uint32_t>(RoundUp(b.q_rank, 2)),
               half ? nullptr : reinterpret_cast<float*>(staged),
               half ? reinterpret_cast<uint16_t*>(staged) : nullptr);
  }
  float* latent = a + q_part;
  k.rms_norm(latent, Values(b.latent_norm), b.latent_eps, b.latent, b.latent, latent, nullptr);
  Rotate(p->desc.ropes[b.rope], RopeRow(p, b.rope, row), latent + b.latent);
  const uint32_t position = static_cast<uint32_t>(p->positions[row]);
  uint8_t* page = CachePage(p, static_cast<uint32_t>(p->row_seq[row]), position / kPageTokens, b.cache_offset);
  const AttentionOp& op = *phase.attention;
  if (op.code != kPlainCache) {
    EncodeVector(op.code, latent, op.keys[0], 0, position % kPageTokens, page);
    EncodeVector(op.code, latent + b.latent, op.keys[1], 0, position % kPageTokens, page);
    return;
  }
  const Storage storage = KvStorage(p);
  const uint32_t values = b.latent + b.rope_dim;
  k.convert(latent, values, storage,
            page + (position % kPageTokens) * uint64_t{values} * StorageBytes(storage));
}

// Per row: scaled q_nope staged for the key up-projection, scaled and rotated q_pe into the absorbed query.
// linear.in: q rows; norm.out: staged nope; linear.out: absorbed queries.
void RunSplit(dsopt_be_program* p, const Phase& phase, uint32_t row, Scratch*) {
  const dsopt_mla_block& b = phase.block->u.mla;
  const float* q = reinterpret_cast<const float*>(phase.linear.in + row * phase.linear.in_row_bytes);
  uint8_t* nope = phase.norm.out + row * phase.norm.out_row_bytes;
  float* absorbed = reinterpret_cast<float*>(phase.linear.out + row * phase.linear.out_row_bytes);
  const uint64_t nope_bytes = phase.norm.out_row_bytes / b.heads;
  const float* angles = RopeRow(p, b.rope, row);
  for (uint32_t h = 0; h < b.heads; ++h) {
    float* head = const_cast<float*>(q) + uint64_t{h} * (b.nope + b.rope_dim);
    for (uint32_t i = 0; i < b.nope + b.rope_dim; ++i) head[i] *= b.scale;
    p->device->kernels->convert(head, b.nope, phase.norm.staging, nope + h * nope_bytes);
    float* pe = absorbed + uint64_t{h} * (b.latent + b.rope_dim) + b.latent;
    std::memcpy(pe, head + b.nope, b.rope_dim * sizeof(float));
    Rotate(p->desc.ropes[b.rope], angles, pe);
  }
}

// Latent and rotated part of a position lie side by side, codes and words alike.
void PlaceLatent(const dsopt_mla_block& b, AttentionOp* op) {
  const uint32_t code_bytes = CacheCodeBytes(op->code, b.latent),
                 word_bytes = CacheWordBytes(op->code, b.latent);
  const uint64_t code_stride = uint64_t{code_bytes} + CacheCodeBytes(op->code, b.rope_dim);
  const uint64_t word_stride = uint64_t{word_bytes} + CacheWordBytes(op->code, b.rope_dim);
  const uint64_t words = kPageTokens * code_stride;
  op->keys[0] = {b.latent, 0, words, code_stride, word_stride, 0, 0};
  op->keys[1] = {b.rope_dim, code_bytes, words + word_bytes, code_stride, word_stride, 0, 0};
  op->coded_values = op->keys[0];
}

}  // namespace

void Builder::BuildMla(const dsopt_mla_block& b) {
  const uint64_t rows = max_rows();
  const uint64_t q_values = uint64_t{b.heads} * (b.nope + b.rope_dim);
  const uint64_t key_values = uint64_t{b.latent} + b.rope_dim;
  const uint64_t down_bytes = ((b.q_rank != 0 ? b.q_rank : q_values) + key_values) * 4;

  const uint8_t* h = AddNorm(b.norm, b.norm_eps, b.down, false, RowSet::kBatch);
  LinearOp* down = AddLinear(b.down, h, StagedBytes(b.down), RowSet::kBatch);
  down->out = Buffer(kBufProjected, rows, down_bytes);
  down->out_row_bytes = down_bytes;
  down->epilogue.kind = kStoreSum;
  down->epilogue.bias = Values(b.down_bias);
  uint8_t* const a = down->out;

  AttentionOp* op = AddAttention();
  Phase* latent = Add();
  latent->attention = op;
  latent->prepare = PrepareRows;
  latent->run = RunLatent;
  latent->linear.out = a;
  latent->linear.out_row_bytes = down_bytes;
  const uint8_t* q = a;
  uint64_t q_row_bytes = down_bytes;
  if (b.q_rank != 0) {
    latent->norm.staging = Staging(b.q_up);
    latent->norm.out = Buffer(kBufNorm, rows, StagedBytes(b.q_up));
    latent->norm.out_row_bytes = StagedBytes(b.q_up);
    LinearOp* up = AddLinear(b.q_up, latent->norm.out, StagedBytes(b.q_up), RowSet::kBatch);
    up->out = Buffer(kBufQuery, rows, q_values * 4);
    up->out_row_bytes = q_values * 4;
    up->epilogue.kind = kStoreSum;
    q = up->out;
    q_row_bytes = q_values * 4;
  }

  const uint64_t nope_bytes = b.heads * StagedBytes(b.k_up);
  const uint64_t absorbed_bytes = b.heads * key_values * 4;
  uint8_t* const nope = Buffer(kBufNope, rows, nope_bytes);
  uint8_t* const absorbed = Buffer(kBufAbsorbed, rows, absorbed_bytes);
  Phase* split = Add();
  split->prepare = PrepareRows;
  split->run = RunSplit;
  split->linear.in = q;
  split->linear.in_row_bytes = q_row_bytes;
  split->linear.out = absorbed;
  split->linear.out_row_bytes = absorbed_bytes;
  split->norm.staging = Staging(b.k_up);
  split->norm.out = nope;
  split->norm.out_row_bytes = nope_bytes;
  LinearOp* absorb = AddLinear(b.k_up, nope, nope_bytes, RowSet::kBatch);
  absorb->in_matrix_bytes = StagedBytes(b.k_up);
  absorb->out = absorbed;
  absorb->out_row_bytes = absorbed_bytes;
  absorb->out_matrix_bytes = key_values * 4;
  absorb->epilogue.kind = kStoreSum;

  op->q = reinterpret_cast<const float*>(absorbed);
  op->q_row_floats = b.heads * key_values;
  op->q_head_floats = key_values;
  op->heads = op->group = b.heads;
  op->kd = op->token_values = static_cast<uint32_t>(key_values);
  op->vd = b.latent;
  op->cache_offset = b.cache_offset;
  op->code = CacheCodeOf(desc().kv_dtype);
  if (op->code != kPlainCache) PlaceLatent(b, op);
  op->out_storage = Staging(b.v_up);
  op->out_head_bytes = StagedBytes(b.v_up);
  op->out_row_bytes = b.heads * op->out_head_bytes;
  op->out = Buffer(kBufMixed, rows, op->out_row_bytes);
  AddAttentionPhases(op);

  LinearOp* values = AddLinear(b.v_up, op->out, op->out_row_bytes, RowSet::kBatch);
  values->in_matrix_bytes = op->out_head_bytes;
  values->out = Buffer(kBufInner, rows, StagedBytes(b.out));
  values->out_row_bytes = StagedBytes(b.out);
  values->epilogue.kind = kStoreSum;
  values->epilogue.out = Staging(b.out);
  values->out_matrix_bytes = b.v_dim * StorageBytes(values->epilogue.out);
  AddResidual(b.out, values->out, b.out_bias, RowSet::kBatch);
}

}  // namespace dsopt_cpu
