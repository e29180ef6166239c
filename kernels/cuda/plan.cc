// plan.cc - checks a program description (shared/check.h) and sizes everything it will ever need. Allocates nothing.
#include <algorithm>
#include <cstring>

#include "program.h"
#include "shared/cache_layout.h"

namespace dsopt_cuda {
namespace {

constexpr uint64_t kMostBytes = uint64_t{1} << 60;

uint64_t Align(uint64_t bytes) { return (bytes + 255) & ~uint64_t{255}; }

// Hands out aligned pieces; base null: only counts.
class Bump {
 public:
  explicit Bump(char* base) : base_(base) {}
  template <typename T>
  void Take(T** out, uint64_t count, uint64_t element_bytes) {
    *out = base_ != nullptr ? reinterpret_cast<T*>(base_ + used_) : nullptr;
    used_ += Align(count * element_bytes);
  }
  uint64_t used() const { return used_; }

 private:
  char* base_;
  uint64_t used_ = 0;
};

// A matrix the tensor-core kernels take: bf16, rows of whole 16-byte vectors on both sides.
bool FastMatrix(const Limits& limits, const dsopt_be_weight* w) {
  if (w == nullptr) return true;
  const bool taken =
      w->elem == Elem::kBf16 || (w->elem == Elem::kPacked && PackedSupported(limits, w->packed.layout));
  return taken && w->layout.cols % 8 == 0;
}

bool FastBlock(const Limits& limits, const dsopt_block& block) {
  switch (block.kind) {
    case DSOPT_BLOCK_ATTENTION:
      return FastMatrix(limits, block.u.attention.qkv) && FastMatrix(limits, block.u.attention.out);
    case DSOPT_BLOCK_MLA: {
      const dsopt_mla_block& m = block.u.mla;
      return FastMatrix(limits, m.down) && FastMatrix(limits, m.q_up) && m.v_up->elem == Elem::kBf16 &&
             m.latent % 8 == 0 && FastMatrix(limits, m.out) && m.k_up->elem == Elem::kBf16 && m.nope % 8 == 0 &&
             m.rope_dim % 8 == 0;
    }
    case DSOPT_BLOCK_MLP:
      return FastMatrix(limits, block.u.mlp.gate_up) && FastMatrix(limits, block.u.mlp.down);
    case DSOPT_BLOCK_MOE: {
      const dsopt_moe_block& m = block.u.moe;
      return FastMatrix(limits, m.gate_up) && FastMatrix(limits, m.down) &&
             FastMatrix(limits, m.shared_gate_up) && FastMatrix(limits, m.shared_down);
    }
    case DSOPT_BLOCK_HEAD:
      return FastMatrix(limits, block.u.head.weight);
    default:
      return true;
  }
}

bool IsPacked(const dsopt_be_weight* w) { return w != nullptr && w->elem == Elem::kPacked; }

bool HasPacked(const dsopt_program_desc& d) {
  for (uint32_t i = 0; i < d.block_count; ++i) {
    const dsopt_block& b = d.blocks[i];
    const bool packed =
        (b.kind == DSOPT_BLOCK_EMBED && IsPacked(b.u.embed.table)) ||
        (b.kind == DSOPT_BLOCK_ATTENTION && (IsPacked(b.u.attention.qkv) || IsPacked(b.u.attention.out))) ||
        (b.kind == DSOPT_BLOCK_MLA &&
         (IsPacked(b.u.mla.down) || IsPacked(b.u.mla.q_up) || IsPacked(b.u.mla.out))) ||
        (b.kind == DSOPT_BLOCK_MLP && (IsPacked(b.u.mlp.gate_up) || IsPacked(b.u.mlp.down))) ||
        (b.kind == DSOPT_BLOCK_MOE && (IsPacked(b.u.moe.gate_up) || IsPacked(b.u.moe.down) ||
                                       IsPacked(b.u.moe.shared_gate_up) || IsPacked(b.u.moe.shared_down))) ||
        (b.kind == DSOPT_BLOCK_HEAD && IsPacked(b.u.head.weight));
    if (packed) return true;
  }
  return false;
}

dsopt_shared::WeightFacts FactsOfWeight(const dsopt_be_weight* w) {
  return {w->device, w->kind, w->layout.batch, w->layout.rows, w->layout.cols, w->tied, w->name};
}

dsopt_shared::DescLimits LimitsOfKernels() {
  dsopt_shared::DescLimits limits;
  limits.vocab = 1u << 20;
  limits.head_dim = 1024;
  limits.latent = 1024;
  limits.experts = 1024;
  limits.rope_needed = true;
  return limits;
}

}  // namespace

uint64_t LayerBytes(const dsopt_program_desc& d, const dsopt_block& block) {
  if (block.kind == DSOPT_BLOCK_ATTENTION)
    return d.page_tokens * 2 * uint64_t{block.u.attention.kv_heads} *
           dsopt_shared::CacheVectorBytes(d.kv_dtype, block.u.attention.head_dim);
  if (block.kind == DSOPT_BLOCK_MLA)
    return d.page_tokens * (dsopt_shared::CacheVectorBytes(d.kv_dtype, block.u.mla.latent) +
                            dsopt_shared::CacheVectorBytes(d.kv_dtype, block.u.mla.rope_dim));
  return 0;
}

InputLayout LayOutInput(const InputCounts& c) {
  InputLayout l{};
  uint64_t at = 0;
  const auto take = [&](uint64_t count, uint64_t bytes) {
    const uint64_t here = at;
    at += (count * bytes + 63) & ~uint64_t{63};
    return here;
  };
  l.tokens = take(c.rows, 4);
  l.positions = take(c.rows, 4);
  l.row_seq = take(c.rows, 4);
  l.logit_rows = take(c.logit_rows, 4);
  l.sample = take(c.logit_rows, sizeof(dsopt_sample_row));
  l.adjust_tokens = take(c.adjust, 4);
  l.adjust_bias = take(c.adjust, 4);
  l.history_tokens = take(c.history, 4);
  l.history_counts = take(c.history, 4);
  l.decode_rows = take(c.decode_rows, 4);
  l.tiles = take(c.tiles, sizeof(int4));
  l.page_table = take(c.seqs * c.pages, 4);
  l.end = at;
  return l;
}

bool FastAttention(const dsopt_program_desc& desc, const dsopt_attention_block& block, bool fast) {
  return fast && desc.kv_dtype != DSOPT_F32 && AttentionSupported(static_cast<int>(block.head_dim));
}

bool FastMla(const Limits& limits, const dsopt_program_desc& desc, const dsopt_mla_block& block, bool fast) {
  return fast && desc.kv_dtype != DSOPT_F32 &&
         MlaSupported(limits, static_cast<int>(block.heads), static_cast<int>(block.latent),
                      static_cast<int>(block.rope_dim));
}

uint64_t LayOutBlock(const Limits& limits, const dsopt_program_desc& d, const dsopt_block& block, bool fast,
                     char* base, BlockBuffers* out) {
  (void)limits;
  Bump bump(base);
  BlockBuffers b;
  const uint64_t rows = d.max_rows, element = fast ? 2 : 4;
  // Elements of `count` rows that may also stand as a row image.
  const auto either = [](uint64_t count, uint64_t columns) {
    const int few = static_cast<int>(std::min<uint64_t>(count, kSkinnyRows));
    return std::max(count * columns, static_cast<uint64_t>(ImageElements(few, static_cast<int>(columns), kPackedPitch)));
  };
  switch (block.kind) {
    case DSOPT_BLOCK_ATTENTION: {
      const dsopt_attention_block& k = block.u.attention;
      const uint64_t q = uint64_t{k.q_heads} * k.head_dim;
      bump.Take(&b.h, either(rows, d.hidden), element);
      bump.Take(&b.a, rows * (q + 2 * uint64_t{k.kv_heads} * k.head_dim), 4);
      bump.Take(&b.q, rows * q, FastAttention(d, k, fast) ? 2 : 4);
      bump.Take(&b.attended, either(rows, q), element);
      break;
    }
    case DSOPT_BLOCK_MLA: {
      const dsopt_mla_block& k = block.u.mla;
      const uint64_t q = uint64_t{k.heads} * (k.nope + k.rope_dim);
      bump.Take(&b.h, either(rows, d.hidden), element);
      bump.Take(&b.a, rows * ((k.q_rank != 0 ? k.q_rank : q) + k.latent + k.rope_dim), 4);
      if (k.q_rank != 0) {
        bump.Take(&b.q_low, either(rows, k.q_rank), element);
        bump.Take(&b.q, rows * q, 4);
      }
      bump.Take(&b.q_nope, rows * k.heads * k.nope, element);
      bump.Take(&b.q_cat, rows * k.heads * (k.latent + k.rope_dim), element);
      bump.Take(&b.context, rows * k.heads * k.latent, element);
      bump.Take(&b.attended, rows * k.heads * k.v_dim, element);
      break;
    }
    case DSOPT_BLOCK_MLP:
      bump.Take(&b.h, either(rows, d.hidden), element);
      bump.Take(&b.mid, either(rows, block.u.mlp.inner), element);
      if (fast) bump.Take(&b.wide, rows * 2 * block.u.mlp.inner, 2);
      break;
    case DSOPT_BLOCK_MOE: {
      const dsopt_moe_block& k = block.u.moe;
      const uint64_t slots = rows * k.top_k;
      bump.Take(&b.h, either(rows, d.hidden), element);
      bump.Take(&b.h32, rows * d.hidden, 4);
      bump.Take(&b.mid, slots * k.inner + rows * k.shared_inner, element);
      if (fast) bump.Take(&b.wide, rows * 2 * k.shared_inner, 2);
      bump.Take(&b.y, slots * d.hidden, 4);
      bump.Take(&b.route_logits, rows * k.experts, 4);
      bump.Take(&b.slot_expert, slots, 4);
      bump.Take(&b.slot_weight, slots, 4);
      bump.Take(&b.sorted_slots, slots, 4);
      b.max_tiles = static_cast<int>(slots / kGroupRows + k.experts);
      bump.Take(&b.tiles, static_cast<uint64_t>(b.max_tiles), sizeof(int4));
      break;
    }
    case DSOPT_BLOCK_HEAD:
      bump.Take(&b.h, either(d.max_logit_rows, d.hidden), element);
      break;
    default:
      break;
  }
  *out = b;
  return bump.used();
}

uint64_t LayOutBatch(const BatchShape& shape, char* base, BatchBuffers* out) {
  const DenseShape& m = shape.model;
  Bump bump(base);
  BatchBuffers b;
  const uint64_t layers = static_cast<uint64_t>(m.layers), rows = kBatchRows;
  const int q = m.q_heads * m.head_dim, head_dim = m.head_dim;
  // No image of the step is larger than one of this pitch.
  const auto image = [](int columns) { return static_cast<uint64_t>(ImageElements(kBatchRows, columns, kPackedPitch)); };
  bump.Take(&b.layers, layers, sizeof(BatchLayer));
  if (m.packing == Packing::kNone) bump.Take(&b.maps, layers * kBatchMatrices * kBatchMaps, kTensorMapBytes);
  bump.Take(&b.counters, BatchCounterWords(m), 4);
  bump.Take(&b.h, image(m.hidden), 2);
  bump.Take(&b.attended, image(q), 2);
  bump.Take(&b.mid, image(m.inner), 2);
  bump.Take(&b.qkv, rows * static_cast<uint64_t>(q + 2 * m.kv_heads * head_dim), 4);
  bump.Take(&b.squares, BatchSquares(m), 4);
  bump.Take(&b.rotations, rows * static_cast<uint64_t>(head_dim / 2), sizeof(float2));
  *out = b;
  return bump.used();
}

dsopt_status MakePlan(const dsopt_be_device& device, const dsopt_program_desc& d, ProgramPlan* plan) {
  DSOPT_CUDA_RETURN_IF_ERROR(
      dsopt_shared::CheckProgram(device.host, &device, FactsOfWeight, LimitsOfKernels(), d));
  ProgramPlan p;
  p.fast = d.precision == DSOPT_PRECISION_FAST;
  for (uint32_t i = 0; i < d.block_count; ++i) p.fast = p.fast && FastBlock(device.limits, d.blocks[i]);
  uint64_t branch = 0, partial = 0, counters = 1, rope_floats = 0;
  if (p.fast && (HasPacked(d) || PlainFits(device.limits))) {
    partial = PackedPartialFloats(device.limits);
    counters = PackedCounters(device.limits);
  }
  for (uint32_t i = 0; i < d.block_count; ++i) {
    const dsopt_block& block = d.blocks[i];
    BlockBuffers unused;
    branch = std::max(branch, LayOutBlock(device.limits, d, block, p.fast, nullptr, &unused));
    if (block.kind == DSOPT_BLOCK_ATTENTION && FastAttention(d, block.u.attention, p.fast)) {
      const int q = static_cast<int>(block.u.attention.q_heads),
                kv = static_cast<int>(block.u.attention.kv_heads);
      const int rows = static_cast<int>(d.max_rows);
      partial = std::max(partial, DecodePartialFloats(device.limits, rows, q, kv,
                                                      static_cast<int>(block.u.attention.head_dim)));
      counters = std::max(counters, DecodeCounters(device.limits, rows, q, kv));
    }
    if (p.fast && d.host_pages != 0 && d.max_rows > kDecodeRows)
      p.staged_bytes = std::max(p.staged_bytes, LayerBytes(d, block) * d.max_pages_per_seq);
    if (block.kind == DSOPT_BLOCK_MLA) {
      partial = std::max(partial, MlaPartialFloats(device.limits, static_cast<int>(block.u.mla.heads),
                                                   static_cast<int>(block.u.mla.latent)));
      counters = std::max(counters, MlaCounters(device.limits));
    }
  }
  for (uint32_t i = 0; i < d.rope_count; ++i) rope_floats += (d.ropes[i].dim / 2 + 63) / 64 * 64;
  p.max_work_tiles = 2 * (uint64_t{d.max_rows} / kPrefillRows + d.max_seqs + d.max_rows);
  const InputCounts most = {d.max_rows,    d.max_seqs, d.max_logit_rows, d.max_adjust,
                            d.max_history, d.max_rows, p.max_work_tiles, d.max_pages_per_seq};
  p.input_bytes = LayOutInput(most).end;
  PlanPersistent(device.limits, d, p.fast, &p.persistent);
  uint64_t at = 0;
  const auto take = [&](uint64_t bytes) {
    const uint64_t here = at;
    at += Align(bytes);
    return here;
  };
  p.x = take(uint64_t{d.max_rows} * d.hidden * 4);
  p.branch = take(branch);
  p.logits = take(uint64_t{d.max_logit_rows} * d.vocab * 4);
  p.saved = take((uint64_t{d.max_adjust} + d.max_history) * 4);
  p.stats = take(uint64_t{d.max_logit_rows} * kSampleParts * sizeof(float4));
  p.partial = take(partial * 4);
  p.arrived_bytes = counters * 4;
  p.arrived = take(p.arrived_bytes);
  p.input = take(p.input_bytes);
  p.ropes = take(rope_floats * 4);
  p.library = device.cublas_lt != nullptr && p.fast ? take(uint64_t{32} << 20) : 0;
  p.unpacked = p.fast && HasPacked(d) && d.max_rows > kSkinnyRows ? take(kUnpackedBytes) : 0;
  p.staged = take(p.staged_bytes);
  p.staged_places = p.staged_bytes != 0 ? take(d.max_pages_per_seq * uint64_t{4}) : 0;
  if (p.persistent.kind != PersistentKind::kNone) {
    p.persistent.layers = take(p.persistent.layer_bytes);
    p.persistent.counters = take(p.persistent.counter_words * 4);
    p.persistent.activations = take(2 * p.persistent.activation_floats * 4);
    p.persistent.partial = take(p.persistent.partial_floats * 4);
    p.persistent.marked_bytes = at - p.persistent.activations;
  }
  if (p.persistent.batch_rows != 0) p.persistent.batch_buffers = take(p.persistent.batch_bytes);
  p.workspace_bytes = at;
  uint64_t all_pages = 0;
  if (__builtin_mul_overflow(uint64_t{d.page_count}, d.page_bytes, &all_pages) || all_pages > kMostBytes ||
      p.workspace_bytes > kMostBytes || p.input_bytes > kMostBytes)
    return Fail(device.host, DSOPT_E_INVALID_ARGUMENT,
                "program: %u pages of %llu bytes and %u rows need more than 2^60 bytes", d.page_count,
                static_cast<unsigned long long>(d.page_bytes), d.max_rows);
  p.host_cache_bytes = d.host_pages * d.page_bytes;
  p.cache_bytes = all_pages - p.host_cache_bytes;
  p.result_bytes = Align(std::max(d.max_logit_rows, 1u) * uint64_t{8 + 8 * DSOPT_MAX_TOP_LOGPROBS});
  p.host_bytes = p.input_bytes + p.result_bytes + d.page_count * uint64_t{8} +
                 d.block_count * (sizeof(dsopt_block) + sizeof(BlockBuffers)) + d.rope_count * sizeof(RopeArgs) +
                 kReplayStates * sizeof(ReplayState);
  *plan = p;
  return DSOPT_OK;
}

}  // namespace dsopt_cuda
