// attention.cc - qkv and attention: which kernels, in which order, with what scratch.
#include "ops/product.h"
#include "shared/defaults.h"

namespace dsopt_cuda {
namespace {

bool IsBf16(const dsopt_tensor* t) { return t->dtype == DSOPT_BF16; }

QkvRowsArgs DescribeRows(const dsopt_qkv_args& a, const float* projected) {
  QkvRowsArgs r{};
  r.qkv = projected;
  r.rows = Extent(a.x, 0);
  r.q_heads = Extent(a.q, 1);
  r.kv_heads = Extent(a.k, 1);
  r.head_dim = Extent(a.q, 2);
  if (a.q_norm != nullptr) r.q_norm = a.q_norm->data, r.q_norm_elem = ElemOf(a.q_norm->dtype);
  if (a.k_norm != nullptr) r.k_norm = a.k_norm->data, r.k_norm_elem = ElemOf(a.k_norm->dtype);
  r.eps = a.eps;
  if (a.rope != nullptr) {
    r.rope = static_cast<const float*>(a.rope->data);
    r.rope_stride = a.rope->stride[0];
    r.rope_rows = Extent(a.rope, 0);
    r.rope_dim = Extent(a.rope, 1);
  }
  r.interleaved = a.interleaved != 0;
  r.positions = a.positions;
  r.slots = a.token_slots;
  r.q = a.q->data;
  r.k = a.k->data;
  r.v = a.v->data;
  r.q_bf16 = IsBf16(a.q);
  r.kv_bf16 = IsBf16(a.k);
  r.q_row = a.q->stride[0];
  r.q_head = a.q->stride[1];
  r.k_outer = a.k->stride[0];
  r.k_head = a.k->stride[1];
  r.v_outer = a.v->stride[0];
  r.v_head = a.v->stride[1];
  if (a.token_slots != nullptr) {
    r.pages = Extent(a.k, 0);
    r.page_tokens = Extent(a.k, 2);
    r.k_token = a.k->stride[2];
    r.v_token = a.v->stride[2];
  }
  return r;
}

// The normalised rows in the arena, or the caller's.
struct QkvInput {
  Input plain;   // without norm
  void* normed;  // with norm: dense, bf16 or f32
  bool half;
};

cudaError_t FillNormed(const OpContext& c, const dsopt_qkv_args& a, const QkvInput& input) {
  if (a.norm == nullptr) return FillInput(c, input.plain);
  NormRowsArgs n{};
  n.x = a.x->data;
  n.x_elem = ElemOf(a.x->dtype);
  n.x_stride = a.x->stride[0];
  n.weight = a.norm->data;
  n.weight_elem = ElemOf(a.norm->dtype);
  n.out = input.normed;
  n.out_elem = input.half ? Elem::kBf16 : Elem::kF32;
  n.out_stride = a.x->shape[1];
  n.rows = a.x->shape[0];
  n.cols = Extent(a.x, 1);
  n.eps = a.eps;
  return NormRows(c.launch, n);
}

}  // namespace

dsopt_status OpQkv(OpContext* c, const dsopt_qkv_args& a) {
  const int rows = Extent(a.x, 0);
  const uint64_t values = static_cast<uint64_t>(a.x->shape[0]) * static_cast<uint64_t>(a.x->shape[1]);
  QkvInput input{};
  input.half = HalfProduct(a.x->dtype, a.weight);
  if (a.norm == nullptr)
    input.plain = PlanInput(c, a.x, input.half);
  else
    input.normed = input.half ? static_cast<void*>(c->arena.Take<uint16_t>(values))
                              : static_cast<void*>(c->arena.Take<float>(values));
  const Vector bias = PlanVector(c, a.bias);
  float* projected =
      c->arena.Take<float>(static_cast<uint64_t>(rows) * static_cast<uint64_t>(a.weight->shape[0]));
  const bool plain = a.norm == nullptr;
  LinearArgs p = ProductOf(a.weight, plain ? input.plain.data : input.normed,
                           plain ? input.plain.stride : a.x->shape[1], input.half, rows, projected);
  p.bias = bias.data;
  c->kernel = ProductName(c->device->limits, p);
  if (c->arena.counting()) return DSOPT_OK;
  const auto run = [&] {
    RETURN_IF_CUDA_ERROR(FillNormed(*c, a, input));
    RETURN_IF_CUDA_ERROR(FillVector(*c, bias));
    RETURN_IF_CUDA_ERROR(RunProduct(c->launch, p, &c->kernel));
    return QkvRows(c->launch, DescribeRows(a, projected));
  };
  return c->device->Check(run(), "launching qkv");
}

namespace {

OpAttentionArgs Describe(const dsopt_attention_args& a) {
  OpAttentionArgs t{};
  const bool paged = a.page_table != nullptr;
  const uint32_t head = paged ? 1 : 2, token = paged ? 2 : 1;
  t.q = a.q->data;
  t.k = a.k->data;
  t.v = a.v->data;
  t.out = a.out->data;
  t.q_row = a.q->stride[0];
  t.q_head = a.q->stride[1];
  t.out_row = a.out->stride[0];
  t.out_head = a.out->stride[1];
  t.k_outer = a.k->stride[0];
  t.k_head = a.k->stride[head];
  t.k_token = a.k->stride[token];
  t.v_outer = a.v->stride[0];
  t.v_head = a.v->stride[head];
  t.v_token = a.v->stride[token];
  t.q_bf16 = IsBf16(a.q);
  t.kv_bf16 = IsBf16(a.k);
  t.out_bf16 = IsBf16(a.out);
  t.causal = (a.flags & DSOPT_ATTENTION_CAUSAL) != 0;
  t.tokens = Extent(a.q, 0);
  t.q_heads = Extent(a.q, 1);
  t.head_dim = Extent(a.q, 2);
  t.kv_heads = Extent(a.k, head);
  t.batch = static_cast<int>(a.batch);
  t.window = static_cast<int>(a.window);
  t.scale = dsopt_shared::ScoreScale(a.scale, static_cast<uint32_t>(t.head_dim));
  t.q_offsets = a.q_offsets;
  t.kv_lengths = a.kv_lengths;
  t.page_table = a.page_table;
  t.pages = paged ? Extent(a.k, 0) : 0;
  t.page_tokens = paged ? Extent(a.k, 2) : 0;
  t.max_pages = static_cast<int>(a.max_pages);
  t.room = paged ? t.max_pages * t.page_tokens : Extent(a.k, 1);
  return t;
}

enum class Variant { kRows, kTiles, kDecode };

bool Aligned(int64_t multiple, std::initializer_list<int64_t> strides) {
  for (const int64_t stride : strides)
    if (stride % multiple != 0) return false;
  return true;
}

Variant Choose(const OpAttentionArgs& t) {
  if (!t.q_bf16 || !t.kv_bf16 || !AttentionSupported(t.head_dim)) return Variant::kRows;
  if (!Aligned(8, {t.q_row, t.q_head, t.k_outer, t.k_head, t.k_token, t.v_outer, t.v_head, t.v_token}) ||
      !Aligned(2, {t.out_row, t.out_head}))
    return Variant::kRows;
  // Mostly single rows over pages as a session keeps them: split over the keys, each row on its own.
  const int64_t row = static_cast<int64_t>(t.q_heads) * t.head_dim,
                page_head = static_cast<int64_t>(kPageTokens) * t.head_dim;
  const bool dense = t.q_row == row && t.q_head == t.head_dim && t.out_row == row && t.out_head == t.head_dim;
  const bool session_pages = t.page_tokens == kPageTokens && t.k_token == t.head_dim &&
                             t.v_token == t.head_dim && t.k_head == page_head && t.v_head == page_head &&
                             t.k_outer == t.v_outer;
  if (t.causal && dense && session_pages && t.tokens < 2 * t.batch && t.tokens <= kMaxGridRows)
    return Variant::kDecode;
  return Variant::kTiles;
}

cudaError_t RunDecode(const OpContext& c, const OpAttentionArgs& t, float* partial) {
  AttentionArgs d{};
  d.q = t.q;
  d.q_bf16 = true;
  d.out = t.out;
  d.out_bf16 = t.out_bf16;
  d.out_layout = RowLayout::Plain(int64_t{t.q_heads} * t.head_dim);
  d.rows = t.tokens;
  d.q_heads = t.q_heads;
  d.kv_heads = t.kv_heads;
  d.q_dim = d.v_dim = t.head_dim;
  d.window = t.window;
  d.scale = t.scale;
  d.cache.base = static_cast<char*>(const_cast<void*>(t.k));
  d.cache.page_bytes = static_cast<uint64_t>(t.k_outer) * 2;
  d.cache.page_table = t.safe_pages;
  d.cache.page_stride = t.max_pages;
  d.cache.positions = t.row_last;
  d.cache.row_seq = t.row_seq;
  d.cache.bf16 = true;
  d.token_stride = t.k_token;
  d.head_stride = t.k_head;
  d.value_offset = (static_cast<const char*>(t.v) - static_cast<const char*>(t.k)) / 2;
  d.decode_rows = t.row_index;
  d.decode_count = t.tokens;
  d.longest_decode = t.room;
  d.partial = partial;
  d.arrived = t.arrived;
  return AttentionDecode(c.launch, d);
}

}  // namespace

dsopt_status OpAttention(OpContext* c, const dsopt_attention_args& a) {
  OpAttentionArgs t = Describe(a);
  const Variant variant = Choose(t);
  const uint64_t tokens = static_cast<uint64_t>(t.tokens);
  t.row_seq = c->arena.Take<int>(tokens);
  t.row_end = c->arena.Take<int>(tokens);
  t.row_last = c->arena.Take<int>(tokens);
  t.row_index = c->arena.Take<int>(tokens);
  if (t.page_tokens != 0) t.safe_pages = c->arena.Take<int>(uint64_t{a.batch} * a.max_pages);
  float* partial = nullptr;
  if (variant == Variant::kTiles) {
    t.max_tiles = t.tokens / kTileQueries + t.batch;
    t.tiles = c->arena.Take<int4>(static_cast<uint64_t>(t.max_tiles));
  }
  if (variant == Variant::kDecode) {
    const uint64_t counters = DecodeCounters(c->device->limits, t.tokens, t.q_heads, t.kv_heads);
    t.counters = static_cast<int64_t>(counters);
    t.arrived = c->arena.Take<uint32_t>(counters);
    partial = c->arena.Take<float>(
        DecodePartialFloats(c->device->limits, t.tokens, t.q_heads, t.kv_heads, t.head_dim));
  }
  const bool ring =
      DecodeRingSupported(c->device->limits, CacheCode::kPlain, t.tokens, t.q_heads, t.kv_heads, t.room);
  c->kernel = variant == Variant::kRows    ? "attention_rows"
              : variant == Variant::kTiles ? "attention_tiles"
              : ring                       ? "attention_decode_ring"
                                           : "attention_decode_paged";
  if (c->arena.counting()) return DSOPT_OK;
  const auto run = [&] {
    RETURN_IF_CUDA_ERROR(PrepareAttention(c->launch, t));
    if (variant == Variant::kRows) return AttentionRows(c->launch, t);
    RETURN_IF_CUDA_ERROR(variant == Variant::kTiles ? AttentionTiles(c->launch, t) : RunDecode(*c, t, partial));
    return BlankRows(c->launch, t);
  };
  return c->device->Check(run(), "launching attention");
}

}  // namespace dsopt_cuda
