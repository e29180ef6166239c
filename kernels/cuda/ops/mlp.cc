// mlp.cc - rmsnorm, linear, gated MLP and mixture of experts: which kernels, in which order, with what scratch.
#include "ops/product.h"
#include "shared/defaults.h"

namespace dsopt_cuda {
namespace {

// Up to so many slots a mixture's experts are read slot by slot; beyond, slots are sorted and share the reads.
constexpr int kUnsortedSlots = 16;

// A gated MLP: x to wide (f32), to middle, to f32 rows or, where that fits, straight to the output.
struct Gated {
  const dsopt_tensor *gate_up, *down;
  Input x;
  float* wide;   // [rows, 2 inner]
  void* middle;  // [rows, inner], bf16 or f32
  bool middle_half;
  int rows, inner;
  bool gelu;
};

Gated PlanGated(OpContext* c, const dsopt_tensor* x, const dsopt_tensor* gate_up, const dsopt_tensor* down,
                dsopt_activation activation, int rows) {
  Gated g{};
  g.gate_up = gate_up;
  g.down = down;
  g.rows = rows;
  g.inner = Extent(down, down->ndim - 1);
  g.gelu = activation == DSOPT_ACT_GELU_TANH;
  g.x = PlanInput(c, x, HalfProduct(x->dtype, gate_up));
  g.middle_half = HalfProduct(x->dtype, down);
  const uint64_t values = static_cast<uint64_t>(rows) * static_cast<uint64_t>(g.inner);
  g.wide = c->arena.Take<float>(2 * values);
  g.middle = g.middle_half ? static_cast<void*>(c->arena.Take<uint16_t>(values))
                           : static_cast<void*>(c->arena.Take<float>(values));
  return g;
}

// Slots of a mixture, as LinearArgs wants them.
struct Slots {
  const int* expert;
  int top_k;
  const int* sorted;  // null: slot by slot
  const int4* tiles;
  int max_tiles;
};

void AddSlots(LinearArgs* a, const Slots& slots, int in_div) {
  a->slot_expert = slots.expert;
  a->in_div = in_div;
  if (!a->bf16) return;  // the f32 kernel reads slot by slot
  a->sorted_slots = slots.sorted;
  a->tiles = slots.tiles;
  a->max_tiles = slots.max_tiles;
}

// Up to the input of `down`. slots null: no mixture.
cudaError_t RunUp(const OpContext& c, const Gated& g, const Slots* slots, const char** name) {
  LinearArgs up = ProductOf(g.gate_up, g.x.data, g.x.stride, g.x.half, g.rows, g.wide);
  if (slots != nullptr) AddSlots(&up, *slots, slots->top_k);
  RETURN_IF_CUDA_ERROR(RunProduct(c.launch, up, name));
  return GateRows(c.launch, g.wide, g.rows, g.inner, g.gelu, g.middle_half, g.middle);
}

LinearArgs DownOf(const Gated& g, void* out) {
  return ProductOf(g.down, g.middle, g.inner, g.middle_half, g.rows, out);
}

}  // namespace

dsopt_status OpRmsNorm(OpContext* c, const dsopt_rmsnorm_args& a) {
  c->kernel = "norm_rows";
  if (c->arena.counting()) return DSOPT_OK;
  NormRowsArgs n{};
  n.x = a.x->data;
  n.x_elem = ElemOf(a.x->dtype);
  n.x_stride = a.x->stride[0];
  if (a.residual != nullptr) {
    n.residual = a.residual->data;
    n.residual_elem = ElemOf(a.residual->dtype);
    n.residual_stride = a.residual->stride[0];
  }
  n.weight = a.weight->data;
  n.weight_elem = ElemOf(a.weight->dtype);
  n.out = a.out->data;
  n.out_elem = ElemOf(a.out->dtype);
  n.out_stride = a.out->stride[0];
  n.rows = a.x->shape[0];
  n.cols = Extent(a.x, 1);
  n.eps = a.eps;
  return c->device->Check(NormRows(c->launch, n), "launching rmsnorm");
}

dsopt_status OpLinear(OpContext* c, const dsopt_linear_args& a) {
  const int rows = Extent(a.x, 0);
  const Input x = PlanInput(c, a.x, HalfProduct(a.x->dtype, a.weight));
  const Vector bias = PlanVector(c, a.bias);
  const bool direct = StoresDirectly(a.out, x.half, a.activation);
  float* wide =
      direct ? nullptr
             : c->arena.Take<float>(static_cast<uint64_t>(rows) * static_cast<uint64_t>(a.out->shape[1]));
  LinearArgs p = ProductOf(a.weight, x.data, x.stride, x.half, rows, wide);
  p.bias = bias.data;
  if (direct) {
    p.out = a.out->data;
    p.out_row_stride = a.out->stride[0];
    p.out_f32 = a.out->dtype == DSOPT_F32;
  }
  c->kernel = ProductName(c->device->limits, p);
  if (c->arena.counting()) return DSOPT_OK;
  const auto run = [&] {
    RETURN_IF_CUDA_ERROR(FillInput(*c, x));
    RETURN_IF_CUDA_ERROR(FillVector(*c, bias));
    RETURN_IF_CUDA_ERROR(RunProduct(c->launch, p, &c->kernel));
    return direct ? cudaSuccess : StoreRows(*c, wide, a.out, a.activation);
  };
  return c->device->Check(run(), "launching linear");
}

dsopt_status OpGatedMlp(OpContext* c, const dsopt_gated_mlp_args& a) {
  const int rows = Extent(a.x, 0);
  const Gated g = PlanGated(c, a.x, a.gate_up, a.down, a.activation, rows);
  const bool direct = StoresDirectly(a.out, g.middle_half, DSOPT_ACT_NONE);
  float* y = direct
                 ? nullptr
                 : c->arena.Take<float>(static_cast<uint64_t>(rows) * static_cast<uint64_t>(a.out->shape[1]));
  LinearArgs down = DownOf(g, y);
  if (direct) {
    down.out = a.out->data;
    down.out_row_stride = a.out->stride[0];
    down.out_f32 = a.out->dtype == DSOPT_F32;
  }
  c->kernel = ProductName(c->device->limits, down);
  if (c->arena.counting()) return DSOPT_OK;
  const auto run = [&] {
    RETURN_IF_CUDA_ERROR(FillInput(*c, g.x));
    RETURN_IF_CUDA_ERROR(RunUp(*c, g, nullptr, &c->kernel));
    RETURN_IF_CUDA_ERROR(RunProduct(c->launch, down, &c->kernel));
    return direct ? cudaSuccess : StoreRows(*c, y, a.out, DSOPT_ACT_NONE);
  };
  return c->device->Check(run(), "launching a gated MLP");
}

namespace {

struct Mixture {
  int tokens, hidden, experts, top_k, slots;
  Gated chosen, shared;
  Input router_x;
  const float* router;  // f32
  float* router_copy;   // null: the caller's serves
  float* logits;
  int* ids;
  float* weights;
  bool sorted;
  int *order, max_tiles;
  int4* tiles;
  float *y, *sum;  // [slots, hidden], [tokens, hidden]
};

Mixture PlanMixture(OpContext* c, const dsopt_moe_args& a) {
  Mixture m{};
  m.tokens = Extent(a.x, 0);
  m.hidden = Extent(a.x, 1);
  m.experts = Extent(a.down, 0);
  m.top_k = static_cast<int>(a.top_k);
  m.slots = m.tokens * m.top_k;
  const uint64_t tokens = static_cast<uint64_t>(m.tokens), hidden = static_cast<uint64_t>(m.hidden),
                 experts = static_cast<uint64_t>(m.experts), slots = static_cast<uint64_t>(m.slots);
  m.chosen = PlanGated(c, a.x, a.gate_up, a.down, a.activation, m.slots);
  if (a.shared_down != nullptr)
    m.shared = PlanGated(c, a.x, a.shared_gate_up, a.shared_down, a.activation, m.tokens);
  if (a.router != nullptr) {
    m.router_x = PlanInput(c, a.x, false);
    m.router_copy = a.router->dtype == DSOPT_F32 ? nullptr : c->arena.Take<float>(experts * hidden);
    m.router = m.router_copy != nullptr ? m.router_copy : static_cast<const float*>(a.router->data);
    m.logits = c->arena.Take<float>(tokens * experts);
  }
  const bool callers = a.router != nullptr && a.expert_ids != nullptr && a.expert_weights != nullptr;
  m.ids = callers ? static_cast<int*>(a.expert_ids->data) : c->arena.Take<int>(slots);
  m.weights = callers ? static_cast<float*>(a.expert_weights->data) : c->arena.Take<float>(slots);
  m.sorted = (m.chosen.x.half || m.chosen.middle_half) && m.slots > kUnsortedSlots;
  m.max_tiles = m.slots / kGroupRows + m.experts;
  if (m.sorted) {
    m.order = c->arena.Take<int>(slots);
    m.tiles = c->arena.Take<int4>(static_cast<uint64_t>(m.max_tiles));
  }
  m.y = c->arena.Take<float>(slots * hidden);
  m.sum = c->arena.Take<float>(tokens * hidden);
  return m;
}

// The route kernel reads dense rows.
Input DenseRows(OpContext* c, const dsopt_tensor* x, Input input) {
  if (input.copy != nullptr || input.stride == x->shape[1]) return input;
  input.copy = c->arena.Take<float>(static_cast<uint64_t>(x->shape[0]) * static_cast<uint64_t>(x->shape[1]));
  input.data = input.copy;
  input.stride = x->shape[1];
  return input;
}

cudaError_t RunRouter(const OpContext& c, const dsopt_moe_args& a, const Mixture& m) {
  if (a.router == nullptr)
    return KeepChoice(c.launch, static_cast<const int*>(a.expert_ids->data),
                      static_cast<const float*>(a.expert_weights->data), m.slots, m.experts, m.ids, m.weights);
  RETURN_IF_CUDA_ERROR(FillInput(c, m.router_x));
  if (m.router_copy != nullptr)
    RETURN_IF_CUDA_ERROR(
        ConvertRows(c.launch, {a.router->data, ElemOf(a.router->dtype), m.hidden, m.router_copy, Elem::kF32,
                               m.hidden, m.experts, m.hidden, DSOPT_ACT_NONE}));
  RouteArgs route{};
  route.h = static_cast<const float*>(m.router_x.data);
  route.router = m.router;
  route.rows = m.tokens;
  route.hidden = m.hidden;
  route.experts = m.experts;
  route.top_k = m.top_k;
  route.groups = static_cast<int>(a.groups);
  route.top_groups = static_cast<int>(a.top_groups);
  route.renormalise = a.renormalise != 0;
  route.route_scale = dsopt_shared::ScaleOrOne(a.route_scale);
  route.logits = m.logits;
  route.slot_expert = m.ids;
  route.slot_weight = m.weights;
  RETURN_IF_CUDA_ERROR(Route(c.launch, route));
  // One of the two is wanted: copied out of the scratch.
  if (a.expert_ids != nullptr && a.expert_ids->data != m.ids)
    return cudaMemcpyAsync(a.expert_ids->data, m.ids, static_cast<size_t>(m.slots) * sizeof(int),
                           cudaMemcpyDefault, c.launch.stream);
  if (a.expert_weights != nullptr && a.expert_weights->data != m.weights)
    return cudaMemcpyAsync(a.expert_weights->data, m.weights, static_cast<size_t>(m.slots) * sizeof(float),
                           cudaMemcpyDefault, c.launch.stream);
  return cudaSuccess;
}

cudaError_t RunMixture(OpContext* c, const dsopt_moe_args& a, const Mixture& m) {
  RETURN_IF_CUDA_ERROR(RunRouter(*c, a, m));
  if (m.sorted)
    RETURN_IF_CUDA_ERROR(MoeSort(c->launch, m.ids, m.slots, m.experts, m.order, m.tiles, m.max_tiles));
  const Slots slots = {m.ids, m.top_k, m.order, m.tiles, m.max_tiles};
  RETURN_IF_CUDA_ERROR(FillInput(*c, m.chosen.x));
  RETURN_IF_CUDA_ERROR(RunUp(*c, m.chosen, &slots, &c->kernel));
  LinearArgs down = DownOf(m.chosen, m.y);
  AddSlots(&down, slots, 1);
  RETURN_IF_CUDA_ERROR(RunProduct(c->launch, down, &c->kernel));
  RETURN_IF_CUDA_ERROR(
      cudaMemsetAsync(m.sum, 0, static_cast<size_t>(m.tokens) * static_cast<size_t>(m.hidden) * sizeof(float),
                      c->launch.stream));
  RETURN_IF_CUDA_ERROR(MoeCombine(c->launch, m.y, m.weights, m.tokens, m.hidden, m.top_k, m.sum));
  if (a.shared_down != nullptr) {
    const char* ignored;
    RETURN_IF_CUDA_ERROR(FillInput(*c, m.shared.x));
    RETURN_IF_CUDA_ERROR(RunUp(*c, m.shared, nullptr, &ignored));
    LinearArgs shared = DownOf(m.shared, m.sum);
    shared.epilogue = Epilogue::kAdd;
    RETURN_IF_CUDA_ERROR(RunProduct(c->launch, shared, &ignored));
  }
  return StoreRows(*c, m.sum, a.out, DSOPT_ACT_NONE);
}

}  // namespace

dsopt_status OpMoe(OpContext* c, const dsopt_moe_args& a) {
  Mixture m = PlanMixture(c, a);
  if (a.router != nullptr) m.router_x = DenseRows(c, a.x, m.router_x);
  const bool by_slot = !m.chosen.x.half || !m.chosen.middle_half;
  if (m.tokens > kMaxGridRows || (by_slot && m.slots > kMaxGridRows))
    return Fail(c->device->host, DSOPT_E_UNSUPPORTED,
                "cuda: a mixture of %d tokens with %d experts each, at most %d %s expected at once", m.tokens,
                m.top_k, kMaxGridRows,
                by_slot ? "(token, expert) pairs (not all operands are BF16 rows of 16 bytes)" : "tokens");
  c->kernel = !m.chosen.middle_half ? "linear_reference"
              : m.sorted            ? "linear_tiles"
                                    : "linear_gemv, linear_skinny";
  if (c->arena.counting()) return DSOPT_OK;
  return c->device->Check(RunMixture(c, a, m), "launching a mixture");
}

}  // namespace dsopt_cuda
