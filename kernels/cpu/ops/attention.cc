// attention.cc - attention over contiguous keys and values or over pages of any size, causal or not.
//
// A unit is some rows of a sequence and the query heads of one KV head. It walks over its keys in spans of 256,
// as
// ../attention.cc does, and merges the spans' partial softmaxes as it goes.
#include <cmath>
#include <cstring>

#include "ops/op.h"
#include "rows.h"
#include "shared/defaults.h"

namespace dsopt_cpu {
namespace {

constexpr uint32_t kMaxPairs = 64;  // (row, head) pairs of one unit

// Per thread.
struct Scratch {
  float* q;              // [pairs, head_dim], scaled
  uint16_t* q_half;      // the same in bf16
  uint8_t* gathered;     // a tile of keys or values where they do not lie in one piece
  float* keys;           // a tile, transposed
  float* values;         // a tile
  float* scores;         // [pairs, span]
  uint16_t* probs_half;  // [pairs, span]
  float* sums;           // [pairs, padded]
  float* state;          // [pairs] x (m, l, o[padded])
};

struct Attention {
  const OpContext& c;
  const dsopt_attention_args& a;
  uint32_t head_dim = 0, padded = 0, q_heads = 0, kv_heads = 0, group = 0, tokens = 0;
  bool paged = false, causal = false, half = false;
  uint32_t page_tokens = 0, room = 0;  // places of a page; most keys of a sequence
  uint64_t outer_pitch[2] = {}, head_pitch[2] = {},
           token_pitch[2] = {};  // bytes, of k and v; outer: sequence or page
  float scale = 0.0f;
  uint32_t unit_heads = 0, unit_rows = 0, head_blocks = 0;
  uint32_t* unit_first = nullptr;  // [batch + 1] row blocks
};

struct Unit {
  uint32_t seq, first_row, rows;  // rows of q
  uint32_t first_key, last_key;   // that at least one of the rows sees
  uint32_t kv_head, first_head, heads;
  int64_t visible;  // keys that first_row sees (causal): row i of the unit sees i more
  uint32_t keys;    // of the sequence
};

uint32_t QueryStart(const Attention& t, uint32_t seq) {
  if (t.a.q_offsets != nullptr) return static_cast<uint32_t>(t.a.q_offsets[seq]);
  return seq * (t.tokens / t.a.batch);
}
uint32_t Keys(const Attention& t, uint32_t seq) {
  return t.a.kv_lengths != nullptr ? static_cast<uint32_t>(t.a.kv_lengths[seq]) : t.room;
}

// Keys [first, last) that row `row` of the unit sees.
void Seen(const Attention& t, const Unit& u, uint32_t row, uint32_t* first, uint32_t* last) {
  *first = 0;
  *last = u.keys;
  if (!t.causal) return;
  *last = static_cast<uint32_t>(Max<int64_t>(u.visible + row, 0));
  if (t.a.window != 0 && *last > t.a.window) *first = *last - t.a.window;
}

// First byte of a key (which 0) or value (1).
const uint8_t* Place(const Attention& t, const Unit& u, uint32_t which, uint32_t key) {
  const uint8_t* base = Bytes(which == 0 ? t.a.k : t.a.v) + u.kv_head * t.head_pitch[which];
  const uint64_t pitch = t.outer_pitch[which];
  if (!t.paged) return base + u.seq * pitch + key * t.token_pitch[which];
  const int32_t page = t.a.page_table[uint64_t{u.seq} * t.a.max_pages + key / t.page_tokens];
  return base + static_cast<uint64_t>(page) * pitch + key % t.page_tokens * t.token_pitch[which];
}

struct Tile {
  const uint8_t* data;
  uint32_t stride;  // values between tokens
};

// 64 tokens from `start` on, all readable: where they lie, or copied with zeros behind `keys`.
Tile FindTile(const Attention& t, const Unit& u, uint32_t which, uint32_t start, uint8_t* gathered) {
  const uint64_t bytes = StorageBytes(StorageOf(t.a.k->dtype));
  const bool whole = t.paged ? t.page_tokens % kPageTokens == 0 : start + kPageTokens <= t.room;
  if (whole) return {Place(t, u, which, start), static_cast<uint32_t>(t.token_pitch[which] / bytes)};
  const uint64_t row = t.head_dim * bytes;
  for (uint32_t i = 0; i < kPageTokens; ++i) {
    if (start + i < u.keys) {
      std::memcpy(gathered + i * row, Place(t, u, which, start + i), row);
    } else {
      std::memset(gathered + i * row, 0, row);
    }
  }
  return {gathered, t.head_dim};
}

void LoadQueries(const Attention& t, const Unit& u, const Scratch& s, const void** in) {
  const dsopt_tensor* q = t.a.q;
  for (uint32_t i = 0; i < u.rows * u.heads; ++i) {
    const uint64_t row = u.first_row + i / u.heads, head = u.first_head + i % u.heads;
    float* to = s.q + uint64_t{i} * t.head_dim;
    Widen(Bytes(q) + row * Pitch(q, 0) + head * Pitch(q, 1), StorageOf(q->dtype), t.head_dim, to);
    for (uint32_t d = 0; d < t.head_dim; ++d) to[d] *= t.scale;
    in[i] = to;
    if (!t.half) continue;
    uint16_t* half = s.q_half + uint64_t{i} * t.head_dim;
    t.c.k.convert(to, t.head_dim, kBf16, half);
    in[i] = half;
  }
}

// Scores of the span's keys, tile by tile.
void ComputeScores(const Attention& t, const Unit& u, const Scratch& s, uint32_t base, uint32_t first,
                   uint32_t last, const void* const* in) {
  const Kernels& k = t.c.k;
  for (uint32_t start = first / kPageTokens * kPageTokens; start < last; start += kPageTokens) {
    const Tile tile = FindTile(t, u, 0, start, s.gathered);
    if (t.half) {
      const size_t stride = size_t{tile.stride} * 2;
      for (uint32_t i = 0; i < kPageTokens; i += 16) {
        k.pack16(reinterpret_cast<const uint32_t*>(tile.data + i * stride), stride, t.head_dim / 2,
                 reinterpret_cast<uint32_t*>(s.keys) + i);
      }
    } else {
      k.load_keys(tile.data, StorageOf(t.a.k->dtype), tile.stride, t.head_dim, s.keys);
    }
    MultiplyRows(k, t.half ? k.linear_bf16 : k.linear[kF32], s.keys, t.half ? t.head_dim / 2 : t.head_dim, in,
                 u.rows * u.heads, s.scores + (start - base), kSpanTokens, 0);
  }
}

// Scores to probabilities; (m, l) of each pair. A pair that sees nothing here gets l = 0.
void ComputeProbabilities(const Attention& t, const Unit& u, const Scratch& s, uint32_t base, uint32_t end,
                          float (*ml)[2], const void** in) {
  for (uint32_t i = 0; i < u.rows * u.heads; ++i) {
    uint32_t first, last;
    Seen(t, u, i / u.heads, &first, &last);
    first = Max(first, base);
    last = Min(last, base + kSpanTokens);
    float* scores = s.scores + uint64_t{i} * kSpanTokens;
    in[i] = scores;
    if (first >= last) {
      std::memset(scores, 0, (end - base) * sizeof(float));
      ml[i][0] = -INFINITY;
      ml[i][1] = 0.0f;
    } else {
      t.c.k.softmax_span(scores, first - base, last - base, end - base, &ml[i][0], &ml[i][1]);
    }
    if (!t.half) continue;
    uint16_t* half = s.probs_half + uint64_t{i} * kSpanTokens;
    t.c.k.convert(scores, end - base, kBf16, half);
    in[i] = half;
  }
}

// sums = probabilities times values.
void ComputeSums(const Attention& t, const Unit& u, const Scratch& s, uint32_t base, uint32_t first,
                 uint32_t last, const void* const* in) {
  const Kernels& k = t.c.k;
  const uint64_t value_bytes = t.half ? 2 : 4;
  const uint32_t begin = first / kPageTokens * kPageTokens, count = u.rows * u.heads;
  for (uint32_t start = begin; start < last; start += kPageTokens) {
    const Tile tile = FindTile(t, u, 1, start, s.gathered);
    const uint32_t from = first > start ? first - start : 0, to = Min(last - start, kPageTokens);
    if (t.half) {
      k.pair_values(reinterpret_cast<const uint16_t*>(tile.data), tile.stride, t.head_dim, from, to,
                    reinterpret_cast<uint32_t*>(s.values));
    } else {
      k.load_values(tile.data, StorageOf(t.a.v->dtype), tile.stride, t.head_dim, from, to, s.values);
    }
    const void* probabilities[kMaxPairs];
    for (uint32_t i = 0; i < count; ++i) {
      probabilities[i] = static_cast<const uint8_t*>(in[i]) + (start - base) * value_bytes;
    }
    for (uint32_t column = 0; column < t.padded; column += 64) {
      const uint8_t* values = reinterpret_cast<const uint8_t*>(s.values) + column * kPageTokens * value_bytes;
      MultiplyRows(k, t.half ? k.linear_bf16 : k.linear[kF32], values, t.half ? kPageTokens / 2 : kPageTokens,
                   probabilities, count, s.sums + column, t.padded, start == begin ? 0u : kAccumulate);
    }
  }
}

void RunUnit(const Attention& t, const Unit& u, const Scratch& s) {
  const uint32_t count = u.rows * u.heads, entry = 2 + t.padded;
  const void* queries[kMaxPairs];
  LoadQueries(t, u, s, queries);
  for (uint32_t i = 0; i < count; ++i) s.state[i * entry + 1] = 0.0f;
  for (uint32_t base = u.first_key / kSpanTokens * kSpanTokens; base < u.last_key; base += kSpanTokens) {
    const uint32_t first = Max(u.first_key, base), last = Min(u.last_key, base + kSpanTokens);
    const uint32_t end = static_cast<uint32_t>(RoundUp(last, kPageTokens));
    ComputeScores(t, u, s, base, first, last, queries);
    float ml[kMaxPairs][2];
    const void* probabilities[kMaxPairs];
    ComputeProbabilities(t, u, s, base, end, ml, probabilities);
    ComputeSums(t, u, s, base, first, last, probabilities);
    for (uint32_t i = 0; i < count; ++i) {
      float* state = s.state + uint64_t{i} * entry;
      const float* part = s.sums + uint64_t{i} * t.padded;
      if (ml[i][1] == 0.0f) continue;
      if (state[1] == 0.0f) {
        std::memcpy(state, ml[i], sizeof(ml[i]));
        std::memcpy(state + 2, part, t.head_dim * sizeof(float));
      } else {
        t.c.k.merge(state, state + 2, ml[i], part, t.head_dim);
      }
    }
  }
  const dsopt_tensor* out = t.a.out;
  for (uint32_t i = 0; i < count; ++i) {
    float* state = s.state + uint64_t{i} * entry;
    if (state[1] == 0.0f) {  // saw no key
      std::memset(state + 2, 0, t.head_dim * sizeof(float));
      state[1] = 1.0f;
    }
    uint8_t* to =
        Bytes(out) + (u.first_row + i / u.heads) * Pitch(out, 0) + (u.first_head + i % u.heads) * Pitch(out, 1);
    t.c.k.finish(state + 2, state[1], t.head_dim, StorageOf(out->dtype), to);
  }
}

// Rows and heads of one unit, and the keys that they see.
Unit CutUnit(const Attention& t, uint32_t index) {
  const uint32_t head_block = index % t.head_blocks, block = index / t.head_blocks;
  uint32_t low = 0, high = t.a.batch;
  while (high - low > 1) {
    const uint32_t middle = (low + high) / 2;
    (t.unit_first[middle] <= block ? low : high) = middle;
  }
  Unit u = {};
  u.seq = low;
  const uint32_t start = QueryStart(t, low), end = QueryStart(t, low + 1);
  u.first_row = start + (block - t.unit_first[low]) * t.unit_rows;
  u.rows = Min(t.unit_rows, end - u.first_row);
  const uint32_t group_blocks = t.head_blocks / t.kv_heads;
  const uint32_t in_group = head_block % group_blocks * t.unit_heads;
  u.kv_head = head_block / group_blocks;
  u.first_head = u.kv_head * t.group + in_group;
  u.heads = Min(t.unit_heads, t.group - in_group);
  u.keys = Keys(t, low);
  u.visible = int64_t{u.keys} - end + u.first_row + 1;
  uint32_t ignored;
  Seen(t, u, 0, &u.first_key, &ignored);
  Seen(t, u, u.rows - 1, &ignored, &u.last_key);
  return u;
}

Attention Describe(const OpContext& c, const dsopt_attention_args& a) {
  Attention t = {c, a};
  t.tokens = static_cast<uint32_t>(Extent(a.q, 0));
  t.q_heads = static_cast<uint32_t>(Extent(a.q, 1));
  t.head_dim = static_cast<uint32_t>(Extent(a.q, 2));
  t.padded = static_cast<uint32_t>(RoundUp(t.head_dim, 64));
  t.paged = a.page_table != nullptr;
  t.causal = (a.flags & DSOPT_ATTENTION_CAUSAL) != 0;
  t.half = HalfProducts(c, a.q->dtype, a.k->dtype) && t.head_dim % 2 == 0;
  const uint32_t head_at = t.paged ? 1 : 2, token_at = t.paged ? 2 : 1;
  t.kv_heads = static_cast<uint32_t>(Extent(a.k, head_at));
  t.group = t.q_heads / t.kv_heads;
  t.page_tokens = t.paged ? static_cast<uint32_t>(Extent(a.k, 2)) : 1;
  t.room = t.paged ? a.max_pages * t.page_tokens : static_cast<uint32_t>(Extent(a.k, 1));
  for (uint32_t i = 0; i < 2; ++i) {
    const dsopt_tensor* tensor = i == 0 ? a.k : a.v;
    t.outer_pitch[i] = Pitch(tensor, 0);
    t.head_pitch[i] = Pitch(tensor, head_at);
    t.token_pitch[i] = Pitch(tensor, token_at);
  }
  t.scale = dsopt_shared::ScoreScale(a.scale, t.head_dim);
  t.unit_heads = Min(t.group, kMaxPairs);
  t.unit_rows = kMaxPairs / t.unit_heads;
  t.head_blocks = t.kv_heads * static_cast<uint32_t>(DivUp(t.group, t.unit_heads));
  return t;
}

Scratch TakeScratch(Arena* arena, const Attention& t) {
  Scratch s;
  s.q = arena->Take<float>(uint64_t{kMaxPairs} * t.head_dim);
  s.q_half = arena->Take<uint16_t>(uint64_t{kMaxPairs} * t.head_dim);
  s.gathered = arena->Take<uint8_t>(uint64_t{kPageTokens} * t.head_dim * 4);
  s.keys = arena->Take<float>(uint64_t{kPageTokens} * t.head_dim);
  s.values = arena->Take<float>(uint64_t{kPageTokens} * t.padded);
  s.scores = arena->Take<float>(uint64_t{kMaxPairs} * kSpanTokens);
  s.probs_half = arena->Take<uint16_t>(uint64_t{kMaxPairs} * kSpanTokens);
  s.sums = arena->Take<float>(uint64_t{kMaxPairs} * t.padded);
  s.state = arena->Take<float>(uint64_t{kMaxPairs} * (2 + t.padded));
  return s;
}

// Rows behind the last sequence.
void ZeroRest(const Attention& t) {
  const dsopt_tensor* out = t.a.out;
  const uint64_t bytes = t.head_dim * StorageBytes(StorageOf(out->dtype));
  for (uint64_t row = QueryStart(t, t.a.batch); row < t.tokens; ++row) {
    for (uint64_t head = 0; head < t.q_heads; ++head) {
      std::memset(Bytes(out) + row * Pitch(out, 0) + head * Pitch(out, 1), 0, bytes);
    }
  }
}

}  // namespace

dsopt_status OpAttention(OpContext* c, const dsopt_attention_args& a) {
  Attention t = Describe(*c, a);
  t.unit_first = c->arena.Take<uint32_t>(uint64_t{a.batch} + 1);
  Scratch* scratch = c->arena.Take<Scratch>(c->threads());
  const bool counting = c->arena.counting();
  for (uint32_t i = 0; i < c->threads(); ++i) {
    const Scratch s = TakeScratch(&c->arena, t);
    if (!counting) scratch[i] = s;
  }
  if (counting) return DSOPT_OK;
  uint32_t blocks = 0;
  for (uint32_t b = 0; b < a.batch; ++b) {
    t.unit_first[b] = blocks;
    blocks += static_cast<uint32_t>(DivUp(QueryStart(t, b + 1) - QueryStart(t, b), t.unit_rows));
  }
  t.unit_first[a.batch] = blocks;
  ForEach(*c, uint64_t{blocks} * t.head_blocks, [&](uint64_t index, uint32_t slot) {
    RunUnit(t, CutUnit(t, static_cast<uint32_t>(index)), scratch[slot]);
  });
  ZeroRest(t);
  return DSOPT_OK;
}

}  // namespace dsopt_cpu
