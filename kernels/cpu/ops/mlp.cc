// mlp.cc - linear, gated MLP and mixture of experts over the caller's weights.
#include <cstring>

#include "ops/op.h"
#include "route.h"
#include "shared/defaults.h"

namespace dsopt_cpu {
namespace {

Product ProductOf(const dsopt_tensor* weight, uint64_t outputs, uint64_t inputs) {
  Product p = {};
  p.weight = Bytes(weight);
  p.storage = StorageOf(weight->dtype);
  p.outputs = outputs;
  p.inputs = inputs;
  p.matrices = 1;
  p.in_div = 1;
  return p;
}

void StoreTo(Product* p, const dsopt_tensor* out) {
  p->out = Bytes(out);
  p->out_storage = StorageOf(out->dtype);
  p->out_row_bytes = Pitch(out, 0);
}

// Both products of gated MLPs: x to an intermediate in the arena, that to p[1].out, which the caller sets.
struct Gated {
  StagedRows x;
  uint8_t* middle;
  Product up, down;
};

// rows: of the intermediate. gate_up, down: the last two dimensions count.
Gated PlanGated(OpContext* c, const dsopt_tensor* x, const dsopt_tensor* gate_up, const dsopt_tensor* down,
                dsopt_activation activation, uint64_t rows) {
  const uint32_t last = down->ndim - 1;
  const uint64_t hidden = Extent(x, 1), inner = Extent(down, last);
  Gated g = {};
  g.x = PlanRows(c, x, HalfProducts(*c, x->dtype, gate_up->dtype));
  const bool half = HalfProducts(*c, x->dtype, down->dtype);
  g.middle = c->arena.Take<uint8_t>(rows * RowBytes(inner, half));
  g.up = ProductOf(gate_up, 2 * inner, hidden);
  g.up.gate = true;
  g.up.activation = activation;
  g.up.in = g.x.rows;
  g.up.out = g.middle;
  g.up.out_storage = half ? kBf16 : kF32;
  g.up.out_row_bytes = RowBytes(inner, half);
  g.up.rows = rows;
  g.down = ProductOf(down, hidden, inner);
  g.down.in = {g.middle, g.up.out_row_bytes, half};
  g.down.rows = rows;
  return g;
}

}  // namespace

dsopt_status OpLinear(OpContext* c, const dsopt_linear_args& a) {
  const StagedRows x = PlanRows(c, a.x, HalfProducts(*c, a.x->dtype, a.weight->dtype));
  const ProductScratch scratch = PlanProducts(c, 1);
  if (c->arena.counting()) return DSOPT_OK;
  FillRows(*c, a.x, x);
  Product p = ProductOf(a.weight, Extent(a.weight, 0), Extent(a.weight, 1));
  p.activation = a.activation;
  p.bias = a.bias;
  p.in = x.rows;
  p.rows = Extent(a.x, 0);
  StoreTo(&p, a.out);
  RunProduct(*c, p, scratch);
  return DSOPT_OK;
}

dsopt_status OpGatedMlp(OpContext* c, const dsopt_gated_mlp_args& a) {
  Gated g = PlanGated(c, a.x, a.gate_up, a.down, a.activation, Extent(a.x, 0));
  const ProductScratch scratch = PlanProducts(c, 1);
  if (c->arena.counting()) return DSOPT_OK;
  FillRows(*c, a.x, g.x);
  RunProduct(*c, g.up, scratch);
  StoreTo(&g.down, a.out);
  RunProduct(*c, g.down, scratch);
  return DSOPT_OK;
}

namespace {

// Everything of a mixture that lies in the arena.
struct Mixture {
  uint64_t tokens, hidden, experts, slots;
  Gated chosen, shared;
  StagedRows router_rows;  // f32, whatever the weights
  float* logits;           // [tokens, experts]
  int32_t* ids;            // [slots]
  float* weights;          // [slots]
  uint32_t *order, *first, *cursor;
  float *y, *shared_y;  // [slots, hidden], [tokens, hidden]
  float* sums;          // [threads, hidden]
  ProductScratch scratch;
};

Mixture PlanMixture(OpContext* c, const dsopt_moe_args& a) {
  Mixture m = {};
  m.tokens = Extent(a.x, 0);
  m.hidden = Extent(a.x, 1);
  m.experts = Extent(a.down, 0);
  m.slots = m.tokens * a.top_k;
  m.chosen = PlanGated(c, a.x, a.gate_up, a.down, a.activation, m.slots);
  m.y = c->arena.Take<float>(m.slots * m.hidden);
  if (a.shared_down != nullptr) {
    m.shared = PlanGated(c, a.x, a.shared_gate_up, a.shared_down, a.activation, m.tokens);
    m.shared_y = c->arena.Take<float>(m.tokens * m.hidden);
  }
  if (a.router != nullptr) {
    m.router_rows = PlanRows(c, a.x, false);
    m.logits = c->arena.Take<float>(m.tokens * m.experts);
    m.ids = c->arena.Take<int32_t>(m.slots);
    m.weights = c->arena.Take<float>(m.slots);
  }
  m.order = c->arena.Take<uint32_t>(m.slots);
  m.first = c->arena.Take<uint32_t>(m.experts + 1);
  m.cursor = c->arena.Take<uint32_t>(m.experts);
  m.sums = c->arena.Take<float>(c->threads() * m.hidden);
  m.scratch = PlanProducts(c, m.experts);
  return m;
}

void Route(const OpContext& c, const dsopt_moe_args& a, const Mixture& m) {
  FillRows(c, a.x, m.router_rows);
  Product p = ProductOf(a.router, m.experts, m.hidden);
  p.in = m.router_rows.rows;
  p.rows = m.tokens;
  p.out = reinterpret_cast<uint8_t*>(m.logits);
  p.out_row_bytes = m.experts * sizeof(float);
  RunProduct(c, p, m.scratch);
  const RouteRule rule = {
      static_cast<uint32_t>(m.experts),       a.top_k, a.groups, a.top_groups, a.renormalise != 0,
      dsopt_shared::ScaleOrOne(a.route_scale)};
  ForEach(c, m.tokens, [&](uint64_t row, uint32_t) {
    RouteRow(c.k, rule, m.logits + row * m.experts, m.ids + row * a.top_k, m.weights + row * a.top_k);
  });
  if (a.expert_ids != nullptr) std::memcpy(a.expert_ids->data, m.ids, m.slots * sizeof(int32_t));
  if (a.expert_weights != nullptr) std::memcpy(a.expert_weights->data, m.weights, m.slots * sizeof(float));
}

}  // namespace

dsopt_status OpMoe(OpContext* c, const dsopt_moe_args& a) {
  Mixture m = PlanMixture(c, a);
  if (c->arena.counting()) return DSOPT_OK;
  if (a.router != nullptr) {
    Route(*c, a, m);
  } else {
    m.ids = static_cast<int32_t*>(a.expert_ids->data);
    m.weights = static_cast<float*>(a.expert_weights->data);
  }
  SortSlots(m.ids, static_cast<uint32_t>(m.slots), static_cast<uint32_t>(m.experts), m.order, m.first,
            m.cursor);
  FillRows(*c, a.x, m.chosen.x);
  for (Product* p : {&m.chosen.up, &m.chosen.down}) {
    p->matrices = m.experts;
    p->order = m.order;
    p->first = m.first;
  }
  m.chosen.up.in_div = a.top_k;
  RunProduct(*c, m.chosen.up, m.scratch);
  m.chosen.down.out = reinterpret_cast<uint8_t*>(m.y);
  m.chosen.down.out_row_bytes = m.hidden * sizeof(float);
  RunProduct(*c, m.chosen.down, m.scratch);
  if (a.shared_down != nullptr) {
    FillRows(*c, a.x, m.shared.x);
    RunProduct(*c, m.shared.up, m.scratch);
    m.shared.down.out = reinterpret_cast<uint8_t*>(m.shared_y);
    m.shared.down.out_row_bytes = m.hidden * sizeof(float);
    RunProduct(*c, m.shared.down, m.scratch);
  }
  const uint32_t hidden = static_cast<uint32_t>(m.hidden);
  ForEach(*c, m.tokens, [&](uint64_t row, uint32_t slot) {
    float* sum = m.sums + slot * m.hidden;
    std::memset(sum, 0, m.hidden * sizeof(float));
    for (uint64_t s = row * a.top_k; s < (row + 1) * a.top_k; ++s) {
      c->k.axpy(sum, m.y + s * m.hidden, m.weights[s], hidden);
    }
    if (a.shared_down != nullptr) c->k.axpy(sum, m.shared_y + row * m.hidden, 1.0f, hidden);
    c->k.convert(sum, hidden, StorageOf(a.out->dtype), Bytes(a.out) + row * Pitch(a.out, 0));
  });
  return DSOPT_OK;
}

}  // namespace dsopt_cpu
