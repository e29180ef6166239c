// attention_block.cc - grouped-query attention as phases: projection, rotation and appending to the cache,
// attention proper (attention.cc), output.
#include "build.h"
#include "shared/defaults.h"

namespace dsopt_cpu {
namespace {

uint32_t PrepareRows(dsopt_be_program* p, const Phase&) { return Rows(p); }

void RunAppend(dsopt_be_program* p, const Phase& phase, uint32_t row, Scratch*) {
  const dsopt_attention_block& b = phase.block->u.attention;
  const AttentionOp& op = *phase.attention;
  float* q = const_cast<float*>(op.q) + row * op.q_row_floats;
  float* k = q + uint64_t{b.q_heads} * b.head_dim;
  const float* v = k + uint64_t{b.kv_heads} * b.head_dim;
  const float scale = dsopt_shared::ScoreScale(b.scale, b.head_dim);
  const dsopt_rope* rope = p->has_rope ? &p->desc.ropes[b.rope] : nullptr;
  const float* angles = rope != nullptr ? RopeRow(p, b.rope, row) : nullptr;
  for (uint32_t h = 0; h < b.q_heads; ++h) {
    float* head = q + uint64_t{h} * b.head_dim;
    if (rope != nullptr) Rotate(*rope, angles, head);
    for (uint32_t i = 0; i < b.head_dim; ++i) head[i] *= scale;
  }
  const uint32_t position = static_cast<uint32_t>(p->positions[row]);
  uint8_t* page = CachePage(p, static_cast<uint32_t>(p->row_seq[row]), position / kPageTokens, b.cache_offset);
  const Storage storage = KvStorage(p);
  const uint64_t token_bytes = b.head_dim * StorageBytes(storage);
  const uint32_t slot = position % kPageTokens;
  for (uint32_t h = 0; h < b.kv_heads; ++h) {
    float* head = k + uint64_t{h} * b.head_dim;
    const float* value = v + uint64_t{h} * b.head_dim;
    if (rope != nullptr) Rotate(*rope, angles, head);
    if (op.code != kPlainCache) {
      EncodeVector(op.code, head, op.keys[0], h, slot, page);
      EncodeVector(op.code, value, op.coded_values, h, slot, page);
      continue;
    }
    uint8_t* dst = page + h * op.cache_head_bytes + slot * token_bytes;
    p->device->kernels->convert(head, b.head_dim, storage, dst);
    p->device->kernels->convert(value, b.head_dim, storage, dst + op.value_offset);
  }
}

}  // namespace

void Builder::BuildAttention(const dsopt_attention_block& b) {
  const uint64_t wide = (b.q_heads + 2 * uint64_t{b.kv_heads}) * b.head_dim;
  const uint64_t value_bytes = desc().kv_dtype == DSOPT_BF16 ? 2 : 4;
  const uint8_t* h = AddNorm(b.norm, b.norm_eps, b.qkv, false, RowSet::kBatch);
  LinearOp* qkv = AddLinear(b.qkv, h, StagedBytes(b.qkv), RowSet::kBatch);
  qkv->out = Buffer(kBufProjected, max_rows(), wide * 4);
  qkv->out_row_bytes = wide * 4;
  qkv->epilogue.kind = kStoreSum;
  qkv->epilogue.out = kF32;
  qkv->epilogue.bias = Values(b.qkv_bias);

  AttentionOp* op = AddAttention();
  op->q = reinterpret_cast<const float*>(Buffer(kBufProjected, max_rows(), wide * 4));
  op->q_row_floats = wide;
  op->q_head_floats = b.head_dim;
  op->heads = b.q_heads;
  op->group = b.q_heads / b.kv_heads;
  op->kd = op->vd = op->token_values = b.head_dim;
  op->window = b.window;
  op->cache_offset = b.cache_offset;
  op->cache_head_bytes = uint64_t{kPageTokens} * b.head_dim * value_bytes;
  op->value_offset = b.kv_heads * op->cache_head_bytes;
  op->code = CacheCodeOf(desc().kv_dtype);
  if (op->code != kPlainCache) {
    const uint64_t code_bytes = uint64_t{b.kv_heads} * kPageTokens * CacheCodeBytes(op->code, b.head_dim);
    const uint64_t word_bytes = uint64_t{b.kv_heads} * kPageTokens * CacheWordBytes(op->code, b.head_dim);
    op->keys[0] = PlaceHeads(op->code, b.head_dim, 0, 2 * code_bytes);
    op->coded_values = PlaceHeads(op->code, b.head_dim, code_bytes, 2 * code_bytes + word_bytes);
  }
  op->out_storage = Staging(b.out);
  op->out_row_bytes = StagedBytes(b.out);
  op->out_head_bytes = b.head_dim * StorageBytes(op->out_storage);
  op->out = Buffer(kBufMixed, max_rows(), op->out_row_bytes);

  Phase* append = Add();
  append->prepare = PrepareRows;
  append->run = RunAppend;
  append->attention = op;
  AddAttentionPhases(op);
  AddResidual(b.out, op->out, b.out_bias, RowSet::kBatch);
}

}  // namespace dsopt_cpu
