// moe.cc - mixture of experts: routing in f32, rows gathered by expert, results added in the order of choice.
#include <cmath>

#include "build.h"

namespace dsopt_cpu {
namespace {

uint32_t PrepareRows(dsopt_be_program* p, const Phase&) { return Rows(p); }

constexpr uint32_t kMaxGroups = 256;  // CheckDesc keeps to it

// Marks in allowed[group] the top_groups groups with the largest maximum of p.
void ChooseGroups(const dsopt_moe_block& b, const float* p, bool* allowed) {
  const uint32_t per_group = b.experts / b.groups;
  float best[kMaxGroups];
  for (uint32_t g = 0; g < b.groups; ++g) {
    best[g] = -1.0f;
    for (uint32_t i = 0; i < per_group; ++i) best[g] = Max(best[g], p[g * per_group + i]);
    allowed[g] = false;
  }
  for (uint32_t n = 0; n < b.top_groups; ++n) {
    uint32_t chosen = b.groups;
    for (uint32_t g = 0; g < b.groups; ++g) {
      if (!allowed[g] && (chosen == b.groups || best[g] > best[chosen])) chosen = g;
    }
    allowed[chosen] = true;
  }
}

// One row: softmax over all experts, then the choice.
void RunRoute(dsopt_be_program* p, const Phase& phase, uint32_t row, Scratch*) {
  const dsopt_moe_block& b = phase.block->u.moe;
  const Kernels& k = *p->device->kernels;
  float* prob = reinterpret_cast<float*>(phase.linear.out + row * phase.linear.out_row_bytes);
  float max;
  k.max(prob, b.experts, &max);
  const float sum = static_cast<float>(k.sum_exp(prob, b.experts, max));
  k.exp_scaled(prob, b.experts, max, 1.0f, prob);
  for (uint32_t e = 0; e < b.experts; ++e) prob[e] /= sum;

  bool allowed[kMaxGroups];
  const bool grouped = b.groups > 1;
  if (grouped) ChooseGroups(b, prob, allowed);
  const uint32_t per_group = grouped ? b.experts / b.groups : b.experts;
  float* weights = p->mixture.weights + uint64_t{row} * b.top_k;
  int32_t* experts = p->mixture.experts + uint64_t{row} * b.top_k;
  float total = 0.0f;
  for (uint32_t n = 0; n < b.top_k; ++n) {
    uint32_t chosen = b.experts;
    for (uint32_t e = 0; e < b.experts; ++e) {
      if (grouped && !allowed[e / per_group]) continue;
      if (prob[e] >= 0.0f && (chosen == b.experts || prob[e] > prob[chosen])) chosen = e;
    }
    if (chosen == b.experts) {  // only if a logit was not a number: any expert, no weight
      experts[n] = 0;
      weights[n] = 0.0f;
      continue;
    }
    experts[n] = static_cast<int32_t>(chosen);
    weights[n] = prob[chosen];
    total += prob[chosen];
    prob[chosen] = -1.0f;
  }
  for (uint32_t n = 0; n < b.top_k; ++n) {
    if (b.renormalise != 0 && total > 0.0f) weights[n] /= total;
    weights[n] *= b.route_scale;
  }
}

// Sorts the (row, choice) slots by expert, rows ascending. All of it happens before the phase has units: none.
uint32_t PrepareSort(dsopt_be_program* p, const Phase& phase) {
  const dsopt_moe_block& b = phase.block->u.moe;
  Mixture& m = p->mixture;
  const uint32_t slots = Rows(p) * b.top_k;
  for (uint32_t e = 0; e <= b.experts; ++e) m.first[e] = 0;
  for (uint32_t s = 0; s < slots; ++s) ++m.first[m.experts[s] + 1];
  for (uint32_t e = 0; e < b.experts; ++e) m.first[e + 1] += m.first[e];
  for (uint32_t e = 0; e < b.experts; ++e) m.unit_first[e] = m.first[e];  // borrowed as the write position
  for (uint32_t s = 0; s < slots; ++s) m.order[m.unit_first[m.experts[s]]++] = s;
  return 0;
}

void RunCombine(dsopt_be_program* p, const Phase& phase, uint32_t row, Scratch*) {
  const dsopt_moe_block& b = phase.block->u.moe;
  for (uint32_t n = 0; n < b.top_k; ++n) {
    const uint64_t slot = uint64_t{row} * b.top_k + n;
    const float* y = reinterpret_cast<const float*>(phase.linear.in + slot * phase.linear.in_row_bytes);
    p->device->kernels->axpy(ResidualRow(p, row), y, p->mixture.weights[slot], p->desc.hidden);
  }
}

}  // namespace

void Builder::BuildMoe(const dsopt_moe_block& b) {
  const uint64_t slots = uint64_t{max_rows()} * b.top_k;
  max_slots = Max(max_slots, slots);
  max_experts = Max<uint64_t>(max_experts, b.experts);
  const uint8_t* h = AddNorm(b.norm, b.norm_eps, b.gate_up, true, RowSet::kBatch);
  const bool half = Staging(b.gate_up) == kBf16;
  const uint8_t* full = half ? Buffer(kBufNorm32, max_rows(), StagedBytes(b.router)) : h;
  LinearOp* router = AddLinear(b.router, full, StagedBytes(b.router), RowSet::kBatch);
  router->out = Buffer(kBufRouter, max_rows(), uint64_t{b.experts} * 4);
  router->out_row_bytes = uint64_t{b.experts} * 4;
  router->epilogue.kind = kStoreSum;
  const LinearOp routed = *router;

  Phase* route = Add();
  route->prepare = PrepareRows;
  route->run = RunRoute;
  route->linear.out = routed.out;
  route->linear.out_row_bytes = routed.out_row_bytes;
  Phase* sort = Add();
  sort->prepare = PrepareSort;

  const uint32_t at = phase_count;
  const uint8_t* inner = AddGated(b.gate_up, nullptr, b.down, b.activation, h, RowSet::kExperts, slots);
  if (program_ != nullptr) program_->phases[at].linear.in_per_row = true;  // AddGated has added it
  LinearOp* down = AddLinear(b.down, inner, StagedBytes(b.down), RowSet::kExperts);
  down->out = Buffer(kBufSlots, slots, uint64_t{desc().hidden} * 4);
  down->out_row_bytes = uint64_t{desc().hidden} * 4;
  down->epilogue.kind = kStoreSum;
  const uint8_t* y = down->out;

  Phase* combine = Add();
  combine->prepare = PrepareRows;
  combine->run = RunCombine;
  combine->linear.in = y;
  combine->linear.in_row_bytes = uint64_t{desc().hidden} * 4;
  if (b.shared_gate_up != nullptr) {
    const uint8_t* shared =
        AddGated(b.shared_gate_up, nullptr, b.shared_down, b.activation, h, RowSet::kBatch, max_rows());
    AddResidual(b.shared_down, shared, nullptr, RowSet::kBatch);
  }
}

}  // namespace dsopt_cpu
