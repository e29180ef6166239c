// moe.cc - mixture of experts: routing in f32, rows gathered by expert, results added in the order of choice.
#include "build.h"
#include "route.h"

namespace dsopt_cpu {
namespace {

uint32_t PrepareRows(dsopt_be_program* p, const Phase&) { return Rows(p); }

// One row: softmax over all experts, then the choice.
void RunRoute(dsopt_be_program* p, const Phase& phase, uint32_t row, Scratch*) {
  const dsopt_moe_block& b = phase.block->u.moe;
  const RouteRule rule = {b.experts, b.top_k, b.groups, b.top_groups, b.renormalise != 0, b.route_scale};
  RouteRow(*p->device->kernels, rule,
           reinterpret_cast<float*>(phase.linear.out + row * phase.linear.out_row_bytes),
           p->mixture.experts + uint64_t{row} * b.top_k, p->mixture.weights + uint64_t{row} * b.top_k);
}

// All of it happens before the phase has units: none.
uint32_t PrepareSort(dsopt_be_program* p, const Phase& phase) {
  const dsopt_moe_block& b = phase.block->u.moe;
  const Mixture& m = p->mixture;
  SortSlots(m.experts, Rows(p) * b.top_k, b.experts, m.order, m.first, m.unit_first);
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
  // Experts that are shared may be staged otherwise than those that are not; the router takes f32.
  const bool shared_half = b.shared_gate_up != nullptr && Staging(b.shared_gate_up) == kBf16;
  const dsopt_be_weight* consumer = shared_half ? b.shared_gate_up : b.gate_up;
  const uint8_t* h = AddNorm(b.norm, b.norm_eps, consumer, true, RowSet::kBatch);
  const uint8_t* full = Staging(consumer) == kBf16 ? Buffer(kBufNorm32, max_rows(), StagedBytes(b.router)) : h;
  const auto input_of = [&](const dsopt_be_weight* weight) { return Staging(weight) == kBf16 ? h : full; };
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

  const uint8_t* inner =
      AddGated(b.gate_up, nullptr, b.down, b.activation, input_of(b.gate_up), RowSet::kExperts, slots, true);
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
    const uint8_t* shared = AddGated(b.shared_gate_up, nullptr, b.shared_down, b.activation,
                                     input_of(b.shared_gate_up), RowSet::kBatch, max_rows());
    AddResidual(b.shared_down, shared, nullptr, RowSet::kBatch);
  }
}

}  // namespace dsopt_cpu
