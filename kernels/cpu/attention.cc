// attention.cc - attention over the paged cache: the phases that grouped-query attention and MLA share.
//
// A row sees its positions in spans of 256 at absolute multiples. Each span gives a partial (m, l, o); partials
// are merged in ascending order. Which partials are computed side by side (a wave) depends on the batch; what
// they contain and the order of merging does not.
#include <cmath>
#include <cstring>

#include "build.h"
#include "rows.h"

namespace dsopt_cpu {
namespace {

// ---- partial results ----

// First position that a row sees.
uint32_t FirstSeen(uint32_t position, uint32_t window) {
  return window != 0 && position + 1 > window ? position + 1 - window : 0;
}

float* Part(const AttentionOp& op, const Geometry& g, uint64_t row, uint64_t head, uint32_t span) {
  const uint64_t index = (row * op.heads + head) * g.span_count + (span - g.first_span);
  return op.parts + index * (2 + op.vd_padded);
}

void SetWave(dsopt_be_program* p, const AttentionOp& op, uint32_t first_span) {
  uint32_t last = 0;
  for (uint32_t r = 0; r < Rows(p); ++r)
    last = Max(last, static_cast<uint32_t>(p->positions[r]) / kSpanTokens + 1);
  const uint32_t room = Max<uint32_t>(op.partials / (Rows(p) * op.heads), 1);
  p->geometry.first_span = first_span;
  p->geometry.span_count = Min(last - first_span, room);
}

uint32_t FirstSpan(const dsopt_be_program* p, const AttentionOp& op) {
  uint32_t first = UINT32_MAX;
  for (uint32_t r = 0; r < Rows(p); ++r) {
    first = Min(first, FirstSeen(static_cast<uint32_t>(p->positions[r]), op.window) / kSpanTokens);
  }
  return first;
}

uint32_t PreparePartials(dsopt_be_program* p, const Phase& phase) {
  const AttentionOp& op = *phase.attention;
  Geometry& g = p->geometry;
  // A first wave follows an ordinary phase, which leaves span_count 0.
  SetWave(p, op, g.span_count == 0 ? FirstSpan(p, op) : g.first_span + g.span_count);
  uint32_t blocks = 0;
  for (uint32_t s = 0; s < p->batch.seqs; ++s) {
    p->seq_first_unit[s] = blocks;
    blocks += static_cast<uint32_t>(DivUp(p->seq_first_row[s + 1] - p->seq_first_row[s], op.unit_rows));
  }
  p->seq_first_unit[p->batch.seqs] = blocks;
  g.group_blocks = static_cast<uint32_t>(DivUp(op.group, op.unit_heads));
  g.head_blocks = op.heads / op.group * g.group_blocks;
  return blocks * g.head_blocks * g.span_count;
}

// The (row, head) pairs of one unit and the part of a span that at least one of them sees.
struct UnitRows {
  uint32_t seq, first_row, rows, first_head, heads;
  uint32_t first, last;  // positions
};

// False: no row of the unit sees the span.
bool CutUnit(const dsopt_be_program* p, const AttentionOp& op, uint32_t unit, uint32_t span, UnitRows* u) {
  const Geometry& g = p->geometry;
  const uint32_t head_block = unit % g.head_blocks, block = unit / g.head_blocks;
  uint32_t low = 0, high = p->batch.seqs;
  while (high - low > 1) {
    const uint32_t middle = (low + high) / 2;
    if (p->seq_first_unit[middle] <= block) {
      low = middle;
    } else {
      high = middle;
    }
  }
  u->seq = low;
  u->first_row = p->seq_first_row[low] + (block - p->seq_first_unit[low]) * op.unit_rows;
  u->rows = Min(op.unit_rows, p->seq_first_row[low + 1] - u->first_row);
  const uint32_t in_group = head_block % g.group_blocks * op.unit_heads;
  u->first_head = head_block / g.group_blocks * op.group + in_group;
  u->heads = Min(op.unit_heads, op.group - in_group);
  const uint32_t first_position = static_cast<uint32_t>(p->positions[u->first_row]);
  u->first = Max(FirstSeen(first_position, op.window), span * kSpanTokens);
  u->last = Min(first_position + u->rows, (span + 1) * kSpanTokens);
  return u->first < u->last;
}

// Rows of activations (queries or probabilities) against one 64-wide tile of keys or values.
void Multiply(const Kernels& k, bool half, const void* tile, uint32_t depth, const void* const* in,
              uint32_t count, float* acc, uint32_t ld, uint32_t flags) {
  MultiplyRows(k, half ? k.linear_bf16 : k.linear[kF32], tile, half ? depth / 2 : depth, in, count, acc, ld,
               flags);
}

// One unit of a span while it is computed. Pages [first_page, last_page); `in` are the unit's (row, head)
// pairs.
struct SpanWork {
  const dsopt_be_program* program;
  const AttentionOp* op;
  const Kernels* k;
  Scratch* scratch;
  UnitRows u;
  uint32_t span, base, first_page, last_page, count;
  uint64_t cache_head;
  const void* in[kMaxUnitRows];
};

// The layer's part of a page.
const uint8_t* LayerPage(const SpanWork& w, uint32_t page) {
  return CachePage(w.program, w.u.seq, page, w.op->cache_offset);
}
// Of a plain cache: the keys of the unit's head.
const uint8_t* PageKeys(const SpanWork& w, uint32_t page) {
  return LayerPage(w, page) + w.cache_head * w.op->cache_head_bytes;
}

// A page of keys into scratch->keys, as Multiply takes them.
void LoadKeys(const SpanWork& w, uint32_t page) {
  const AttentionOp& op = *w.op;
  float* to = w.scratch->keys;
  if (op.code != kPlainCache) {
    for (const CodedPlace& place : op.keys) {
      if (place.values == 0) break;
      w.k->load_coded_keys[op.code](VectorsOf(place, op.code, LayerPage(w, page), w.cache_head), to);
      to += uint64_t{place.values} * kPageTokens;
    }
  } else if (op.half) {
    const uint8_t* keys = PageKeys(w, page);
    const size_t stride = size_t{op.token_values} * 2;
    for (uint32_t t = 0; t < kPageTokens; t += 16) {
      w.k->pack16(reinterpret_cast<const uint32_t*>(keys + t * stride), stride, op.kd / 2,
                  reinterpret_cast<uint32_t*>(to) + t);
    }
  } else {
    w.k->load_keys(PageKeys(w, page), KvStorage(w.program), op.token_values, op.kd, to);
  }
}

// Positions [first, last) of a page of values into scratch->values, likewise.
void LoadValues(const SpanWork& w, uint32_t page, uint32_t first, uint32_t last) {
  const AttentionOp& op = *w.op;
  float* to = w.scratch->values;
  if (op.code != kPlainCache) {
    const CodedVectors values = VectorsOf(op.coded_values, op.code, LayerPage(w, page), w.cache_head);
    return w.k->load_coded_values[op.code](values, first, last, to);
  }
  const uint8_t* values = PageKeys(w, page) + op.value_offset;
  if (op.half) {
    w.k->pair_values(reinterpret_cast<const uint16_t*>(values), op.token_values, op.vd, first, last,
                     reinterpret_cast<uint32_t*>(to));
  } else {
    w.k->load_values(values, KvStorage(w.program), op.token_values, op.vd, first, last, to);
  }
}

void ComputeScores(SpanWork* w) {
  const AttentionOp& op = *w->op;
  for (uint32_t i = 0; i < w->count; ++i) {
    const float* q = op.q + (w->u.first_row + i / w->u.heads) * op.q_row_floats +
                     (w->u.first_head + i % w->u.heads) * op.q_head_floats;
    w->in[i] = q;
    if (!op.half) continue;
    uint16_t* half = w->scratch->halves + uint64_t{i} * op.kd;
    w->k->convert(q, op.kd, kBf16, half);
    w->in[i] = half;
  }
  for (uint32_t page = w->first_page; page < w->last_page; ++page) {
    LoadKeys(*w, page);
    Multiply(*w->k, op.half, w->scratch->keys, op.kd, w->in, w->count,
             w->scratch->scores + (page * kPageTokens - w->base), kSpanTokens, 0);
  }
}

// Scores to probabilities; (m, l) of each pair into its partial.
void ComputeProbabilities(SpanWork* w) {
  const AttentionOp& op = *w->op;
  const uint32_t end = w->last_page * kPageTokens - w->base;
  for (uint32_t i = 0; i < w->count; ++i) {
    const uint64_t row = w->u.first_row + i / w->u.heads;
    const uint32_t position = static_cast<uint32_t>(w->program->positions[row]);
    const uint32_t first = Max(FirstSeen(position, op.window), w->base),
                   last = Min(position + 1, w->base + kSpanTokens);
    float* s = w->scratch->scores + uint64_t{i} * kSpanTokens;
    w->in[i] = s;
    if (first >= last) {  // this row sees nothing here: its partial is not merged, but its sums are computed
      std::memset(s, 0, end * sizeof(float));
    } else {
      float* part = Part(op, w->program->geometry, row, w->u.first_head + i % w->u.heads, w->span);
      w->k->softmax_span(s, first - w->base, last - w->base, end, &part[0], &part[1]);
    }
    if (!op.half) continue;
    uint16_t* half = w->scratch->halves + uint64_t{i} * kSpanTokens;
    w->k->convert(s, end, kBf16, half);
    w->in[i] = half;
  }
}

void ComputeSums(SpanWork* w) {
  const AttentionOp& op = *w->op;
  const uint64_t value_bytes = op.half ? 2 : 4;
  for (uint32_t page = w->first_page; page < w->last_page; ++page) {
    const uint32_t start = page * kPageTokens;
    const uint32_t first = w->u.first > start ? w->u.first - start : 0,
                   last = Min(w->u.last - start, kPageTokens);
    LoadValues(*w, page, first, last);
    const void* probabilities[kMaxUnitRows];
    for (uint32_t i = 0; i < w->count; ++i) {
      probabilities[i] = static_cast<const uint8_t*>(w->in[i]) + (start - w->base) * value_bytes;
    }
    for (uint32_t c = 0; c < op.vd_padded; c += 64) {
      const uint8_t* tile =
          reinterpret_cast<const uint8_t*>(w->scratch->values) + c * kPageTokens * value_bytes;
      Multiply(*w->k, op.half, tile, kPageTokens, probabilities, w->count, w->scratch->sums + c, op.vd_padded,
               page == w->first_page ? 0u : kAccumulate);
    }
  }
}

void RunPartials(dsopt_be_program* p, const Phase& phase, uint32_t unit, Scratch* scratch) {
  const AttentionOp& op = *phase.attention;
  const Geometry& g = p->geometry;
  SpanWork w;
  w.program = p;
  w.op = &op;
  w.k = p->device->kernels;
  w.scratch = scratch;
  w.span = g.first_span + unit % g.span_count;
  if (!CutUnit(p, op, unit / g.span_count, w.span, &w.u)) return;
  w.base = w.span * kSpanTokens;
  w.first_page = w.u.first / kPageTokens;
  w.last_page = (w.u.last - 1) / kPageTokens + 1;
  w.count = w.u.rows * w.u.heads;
  w.cache_head = w.u.first_head / op.group;
  ComputeScores(&w);
  ComputeProbabilities(&w);
  ComputeSums(&w);
  for (uint32_t i = 0; i < w.count; ++i) {
    float* part = Part(op, g, w.u.first_row + i / w.u.heads, w.u.first_head + i % w.u.heads, w.span);
    std::memcpy(part + 2, scratch->sums + uint64_t{i} * op.vd_padded, op.vd * sizeof(float));
  }
}

// ---- merging ----

constexpr uint32_t kMergeHeads = 16;

uint32_t PrepareMerge(dsopt_be_program* p, const Phase& phase) {
  return static_cast<uint32_t>(DivUp(uint64_t{Rows(p)} * phase.attention->heads, kMergeHeads));
}

bool LastWave(const dsopt_be_program* p) {
  const Geometry& g = p->geometry;
  for (uint32_t r = 0; r < Rows(p); ++r) {
    if (static_cast<uint32_t>(p->positions[r]) / kSpanTokens >= g.first_span + g.span_count) return false;
  }
  return true;
}

void RunMerge(dsopt_be_program* p, const Phase& phase, uint32_t unit, Scratch*) {
  const AttentionOp& op = *phase.attention;
  const Geometry& g = p->geometry;
  const Kernels& k = *p->device->kernels;
  const uint64_t last = Min(uint64_t{unit + 1} * kMergeHeads, uint64_t{Rows(p)} * op.heads);
  for (uint64_t i = uint64_t{unit} * kMergeHeads; i < last; ++i) {
    const uint64_t row = i / op.heads, head = i % op.heads;
    const uint32_t position = static_cast<uint32_t>(p->positions[row]);
    const uint32_t first_seen = FirstSeen(position, op.window) / kSpanTokens;
    float* state = op.state + i * (2 + op.vd_padded);
    const uint32_t end = Min(position / kSpanTokens + 1, g.first_span + g.span_count);
    for (uint32_t span = Max(first_seen, g.first_span); span < end; ++span) {
      const float* part = Part(op, g, row, head, span);
      if (span == first_seen) {
        std::memcpy(state, part, (2 + op.vd) * sizeof(float));
      } else {
        k.merge(state, state + 2, part, part + 2, op.vd);
      }
    }
    if (position / kSpanTokens < g.first_span + g.span_count && end > g.first_span) {
      k.finish(state + 2, state[1], op.vd, op.out_storage,
               op.out + row * op.out_row_bytes + head * op.out_head_bytes);
    }
  }
}

bool AgainMerge(dsopt_be_program* p, const Phase&) {
  if (!LastWave(p)) return true;
  p->geometry.span_count = 0;
  return false;
}

}  // namespace

void Builder::AddAttentionPhases(AttentionOp* op) {
  op->half = fast() && desc_.kv_dtype == DSOPT_BF16 && kernels().linear_bf16 != nullptr;
  op->vd_padded = static_cast<uint32_t>(RoundUp(op->vd, 64));
  const uint64_t pair_flops = uint64_t{kSpanTokens} * (op->kd + op->vd) * 2;  // one row, one head, one span
  const uint64_t pairs =
      Min<uint64_t>(Max<uint64_t>(kernels().unit_flops / pair_flops, kMicroRows), kMaxUnitRows);
  op->unit_heads = static_cast<uint32_t>(Min<uint64_t>(op->group, pairs));
  op->unit_rows = static_cast<uint32_t>(Max<uint64_t>(1, pairs / op->unit_heads));
  const uint64_t entry_bytes = (2 + uint64_t{op->vd_padded}) * 4;
  op->partials = static_cast<uint32_t>(Max<uint64_t>(max_rows(), 32) * op->heads);
  op->state = reinterpret_cast<float*>(Buffer(kBufState, uint64_t{max_rows()} * op->heads, entry_bytes));
  op->parts = reinterpret_cast<float*>(Buffer(kBufParts, op->partials, entry_bytes));
  NeedScratch(uint64_t{op->kd} * kPageTokens, uint64_t{op->vd_padded} * kPageTokens,
              uint64_t{kMaxUnitRows} * op->vd_padded, uint64_t{kMaxUnitRows} * Max(op->kd, kSpanTokens));
  Phase* phase = Add();
  phase->prepare = PreparePartials;
  phase->run = RunPartials;
  phase->attention = op;
  phase = Add();
  phase->prepare = PrepareMerge;
  phase->run = RunMerge;
  phase->again = AgainMerge;
  phase->back = 1;
  phase->attention = op;
}

}  // namespace dsopt_cpu
