// qkv.cc - the way into attention: norm, projection, head norms, rotation, and k and v to their places.
#include <cstring>

#include "build.h"
#include "ops/op.h"

namespace dsopt_cpu {
namespace {

// The input of the projection: normalised, or the caller's rows.
StagedRows PlanInput(OpContext* c, const dsopt_qkv_args& a, bool half) {
  if (a.norm == nullptr) return PlanRows(c, a.x, half);
  const uint64_t row_bytes = RowBytes(Extent(a.x, 1), half);
  uint8_t* copy = c->arena.Take<uint8_t>(Extent(a.x, 0) * row_bytes);
  return {{copy, row_bytes, half}, copy};
}

void FillInput(const OpContext& c, const dsopt_qkv_args& a, const StagedRows& staged, const float* gain,
               float* wide) {
  if (a.norm == nullptr) return FillRows(c, a.x, staged);
  const uint32_t hidden = static_cast<uint32_t>(Extent(a.x, 1)),
                 padded = static_cast<uint32_t>(RoundUp(hidden, 2));
  ForEach(c, Extent(a.x, 0), [&](uint64_t row, uint32_t slot) {
    float* x = wide + slot * uint64_t{padded};
    Widen(Bytes(a.x) + row * Pitch(a.x, 0), StorageOf(a.x->dtype), hidden, x);
    uint8_t* to = staged.copy + row * staged.rows.row_bytes;
    const bool half = staged.rows.half;
    c.k.rms_norm(x, gain, a.eps, hidden, padded, half ? nullptr : reinterpret_cast<float*>(to),
                 half ? reinterpret_cast<uint16_t*>(to) : nullptr);
  });
}

struct Heads {
  const float *q_norm, *k_norm;  // NULL: none
  dsopt_rope rope;               // dim 0: none
};

// One head of one token, in place: norm, rotation, then stored.
void FinishHead(const OpContext& c, const dsopt_qkv_args& a, const Heads& heads, const float* gain, bool rotate,
                uint64_t token, float* head, const dsopt_tensor* out, uint8_t* to) {
  const uint32_t head_dim = static_cast<uint32_t>(Extent(a.q, 2));
  if (gain != nullptr) c.k.rms_norm(head, gain, a.eps, head_dim, head_dim, head, nullptr);
  if (rotate && heads.rope.dim != 0) {
    Rotate(
        heads.rope,
        static_cast<const float*>(a.rope->data) + static_cast<int64_t>(a.positions[token]) * a.rope->stride[0],
        head);
  }
  c.k.convert(head, head_dim, StorageOf(out->dtype), to);
}

void FinishToken(const OpContext& c, const dsopt_qkv_args& a, const Heads& heads, uint64_t token, float* row) {
  const uint64_t q_heads = Extent(a.q, 1), kv_heads = Extent(a.k, 1), head_dim = Extent(a.q, 2);
  for (uint64_t h = 0; h < q_heads; ++h) {
    FinishHead(c, a, heads, heads.q_norm, true, token, row + h * head_dim, a.q,
               Bytes(a.q) + token * Pitch(a.q, 0) + h * Pitch(a.q, 1));
  }
  for (uint32_t which = 0; which < 2; ++which) {
    const dsopt_tensor* out = which == 0 ? a.k : a.v;
    uint8_t* base = Bytes(out) + token * Pitch(out, 0);
    if (a.token_slots != nullptr) {
      if (a.token_slots[token] < 0) continue;
      const uint64_t slot = static_cast<uint64_t>(a.token_slots[token]), places = Extent(out, 2);
      base = Bytes(out) + slot / places * Pitch(out, 0) + slot % places * Pitch(out, 2);
    }
    for (uint64_t h = 0; h < kv_heads; ++h) {
      FinishHead(c, a, heads, which == 0 ? heads.k_norm : nullptr, which == 0, token,
                 row + (q_heads + which * kv_heads + h) * head_dim, out, base + h * Pitch(out, 1));
    }
  }
}

}  // namespace

dsopt_status OpQkv(OpContext* c, const dsopt_qkv_args& a) {
  const uint64_t tokens = Extent(a.x, 0), hidden = Extent(a.x, 1), outputs = Extent(a.weight, 0);
  const StagedRows input = PlanInput(c, a, HalfProducts(*c, a.x->dtype, a.weight->dtype));
  const float* gain = StageVector(c, a.norm);
  Heads heads = {StageVector(c, a.q_norm), StageVector(c, a.k_norm), {}};
  float* wide = c->arena.Take<float>(c->threads() * RoundUp(hidden, 2));
  float* projected = c->arena.Take<float>(tokens * outputs);
  const ProductScratch scratch = PlanProducts(c, 1);
  if (c->arena.counting()) return DSOPT_OK;
  if (a.rope != nullptr) {
    heads.rope.dim = static_cast<uint32_t>(Extent(a.rope, 1));
    heads.rope.interleaved = a.interleaved;
  }
  FillInput(*c, a, input, gain, wide);
  Product p = {};
  p.weight = Bytes(a.weight);
  p.storage = StorageOf(a.weight->dtype);
  p.outputs = outputs;
  p.inputs = hidden;
  p.matrices = 1;
  p.in_div = 1;
  p.bias = a.bias;
  p.in = input.rows;
  p.rows = tokens;
  p.out = reinterpret_cast<uint8_t*>(projected);
  p.out_storage = kF32;
  p.out_row_bytes = outputs * sizeof(float);
  RunProduct(*c, p, scratch);
  ForEach(*c, tokens,
          [&](uint64_t token, uint32_t) { FinishToken(*c, a, heads, token, projected + token * outputs); });
  return DSOPT_OK;
}

}  // namespace dsopt_cpu
