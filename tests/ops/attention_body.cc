// attention_body.cc - attention over contiguous keys and over pages.
#include <algorithm>
#include <cmath>

#include "ops_bodies.h"
#include "ops_reference.h"

namespace dsopt::ops_test {
namespace {

struct Sequence {
  int64_t queries, keys;
};

struct AttentionCase {
  const char* name;
  std::vector<Sequence> sequences;
  int64_t q_heads, kv_heads, head_dim;
  bool causal;
  uint32_t window = 0;
  int64_t page_tokens = 0;  // 0: contiguous
  int64_t pad = 0;
  float scale = 0.0f;
  int64_t rows_behind = 0;  // of no sequence
  bool equal = false;       // q_offsets NULL
};

struct Shape {
  int64_t tokens, room, pages;
};

Shape ShapeOf(const AttentionCase& c) {
  Shape s = {c.rows_behind, 1, 0};
  for (const Sequence& sequence : c.sequences) {
    s.tokens += sequence.queries;
    s.room = std::max(s.room, sequence.keys);
  }
  if (c.page_tokens > 0) {
    const int64_t pages = (s.room + c.page_tokens - 1) / c.page_tokens;
    s.room = pages * c.page_tokens;
    s.pages = pages * static_cast<int64_t>(c.sequences.size()) + 3;
  }
  return s;
}

// Key `key` of sequence `b`, first dimension of head h, in the values of k.
size_t PlaceOf(const AttentionCase& c, const Tensor& k, const std::vector<int32_t>& table, int64_t max_pages,
               int64_t b, int64_t key, int64_t head) {
  if (c.page_tokens == 0) return k.Index({b, key, head, 0});
  const int64_t page = table[static_cast<size_t>(b * max_pages + key / c.page_tokens)];
  return k.Index({page, head, key % c.page_tokens, 0});
}

// One row and head: sums over keys [first, last).
void Attend(const Tensor& q, size_t q_at, const Tensor& k, const Tensor& v, const std::vector<size_t>& places,
            int64_t head_dim, double scale, double half, double* out, double* error) {
  std::vector<double> p(places.size());
  double peak = -INFINITY, total = 0.0, magnitude = 0.0;
  for (size_t j = 0; j < places.size(); ++j) {
    double sum = 0.0, terms = 0.0;
    for (int64_t d = 0; d < head_dim; ++d) {
      const double term =
          scale * q.values[q_at + static_cast<size_t>(d)] * k.values[places[j] + static_cast<size_t>(d)];
      sum += term;
      terms += std::fabs(term);
    }
    p[j] = sum;
    peak = std::max(peak, sum);
    magnitude = std::max(magnitude, terms);
  }
  for (double& x : p) total += x = std::exp(x - peak);
  const double relative = (half + kF32Error) * (2.0 * magnitude + 2.0) + 1e-5;  // of each probability
  for (int64_t d = 0; d < head_dim; ++d) {
    double sum = 0.0, terms = 0.0;
    for (size_t j = 0; j < places.size(); ++j) {
      const double term = p[j] / total * v.values[places[j] + static_cast<size_t>(d)];
      sum += term;
      terms += std::fabs(term);
    }
    out[d] = sum;
    error[d] = relative * terms + 1e-12;
  }
}

void CheckOne(Device* device, Random* random, const AttentionCase& c, dsopt_dtype q_type, dsopt_dtype kv_type,
              dsopt_dtype out_type) {
  CAPTURE(c.name, q_type, kv_type, out_type);
  const int64_t batch = static_cast<int64_t>(c.sequences.size());
  const Shape s = ShapeOf(c);
  const bool paged = c.page_tokens > 0;
  const int64_t max_pages = paged ? s.room / c.page_tokens : 0;
  Tensor q(device, q_type, {s.tokens, c.q_heads, c.head_dim}, c.pad);
  Tensor out(device, out_type, {s.tokens, c.q_heads, c.head_dim}, c.pad);
  const std::vector<int64_t> kv_shape =
      paged ? std::vector<int64_t>{s.pages, c.kv_heads, c.page_tokens, c.head_dim}
            : std::vector<int64_t>{batch, s.room, c.kv_heads, c.head_dim};
  Tensor k(device, kv_type, kv_shape, c.pad), v(device, kv_type, kv_shape, c.pad);
  std::vector<int32_t> offsets = {0}, lengths, pages(static_cast<size_t>(s.pages)), table;
  for (const Sequence& sequence : c.sequences) {
    offsets.push_back(offsets.back() + static_cast<int32_t>(sequence.queries));
    lengths.push_back(static_cast<int32_t>(sequence.keys));
  }
  for (size_t i = 0; i < pages.size(); ++i) pages[i] = static_cast<int32_t>(i);
  std::shuffle(pages.begin(), pages.end(), *random);
  for (int64_t b = 0; b < batch && paged; ++b) {
    for (int64_t i = 0; i < max_pages; ++i) {
      const bool needed = i * c.page_tokens < c.sequences[static_cast<size_t>(b)].keys;
      table.push_back(needed ? pages[static_cast<size_t>(b * max_pages + i)] : -1);
    }
  }
  q.Normal(random);
  // Places behind a sequence's keys stay NaN.
  std::vector<bool> used(k.values.size(), false);
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t key = 0; key < c.sequences[static_cast<size_t>(b)].keys; ++key) {
      for (int64_t h = 0; h < c.kv_heads; ++h) {
        const size_t at = PlaceOf(c, k, table, max_pages, b, key, h);
        std::fill_n(used.begin() + static_cast<std::ptrdiff_t>(at), c.head_dim, true);
      }
    }
  }
  std::normal_distribution<double> normal;
  for (Tensor* t : {&k, &v}) {
    size_t i = 0;
    t->Fill([&] { return used[i++] ? normal(*random) : std::nan(""); });
  }
  Array<int32_t> offset_array(device, offsets), length_array(device, lengths);
  Array<int32_t> table_array(device, paged ? table : std::vector<int32_t>{0});
  auto args = Sized<dsopt_attention_args>();
  args.flags = c.causal ? DSOPT_ATTENTION_CAUSAL : 0;
  args.scale = c.scale;
  args.window = c.window;
  args.batch = static_cast<uint32_t>(batch);
  args.max_pages = static_cast<uint32_t>(max_pages);
  args.q = q;
  args.k = k;
  args.v = v;
  args.q_offsets = c.equal ? nullptr : static_cast<const int32_t*>(offset_array);
  args.kv_lengths = length_array;
  args.page_table = paged ? static_cast<const int32_t*>(table_array) : nullptr;
  args.out = out;
  Run(device, DSOPT_OP_ATTENTION, &args);

  Bounded expected = Exactly(Values(out.values.size(), 0.0));
  const double scale =
      c.scale != 0.0f ? static_cast<double>(c.scale) : 1.0 / std::sqrt(static_cast<double>(c.head_dim));
  const double half = q_type == DSOPT_BF16 && kv_type == DSOPT_BF16 ? 1.0 / 256 : 0.0;
  int64_t row = 0;
  for (int64_t b = 0; b < batch; ++b) {
    const Sequence& sequence = c.sequences[static_cast<size_t>(b)];
    for (int64_t i = 0; i < sequence.queries; ++i, ++row) {
      const int64_t last = c.causal ? sequence.keys - sequence.queries + i + 1 : sequence.keys;
      const int64_t first = c.window != 0 ? std::max<int64_t>(last - c.window, 0) : 0;
      for (int64_t h = 0; h < c.q_heads && last > first; ++h) {
        std::vector<size_t> places;
        for (int64_t key = first; key < last; ++key) {
          places.push_back(PlaceOf(c, k, table, max_pages, b, key, h / (c.q_heads / c.kv_heads)));
        }
        const size_t at = out.Index({row, h, 0});
        Attend(q, at, k, v, places, c.head_dim, scale, half, &expected.value[at], &expected.error[at]);
      }
    }
  }
  CheckOutput(&out, expected, c.name);
}

std::vector<AttentionCase> Cases() {
  return {
      {"one query, one key", {{1, 1}}, 1, 1, 1, true},
      {"image: every row sees every key", {{50, 50}, {50, 50}}, 3, 3, 40, false, 0, 0, 0, 0.0f, 0, true},
      {"image, head 64", {{130, 130}}, 2, 2, 64, false},
      {"image, head 128, gaps", {{70, 70}}, 2, 1, 128, false, 0, 0, 8},
      {"cross attention, more keys than queries", {{5, 77}, {3, 20}}, 4, 2, 64, false},
      {"cross attention, fewer keys than queries", {{40, 3}}, 2, 2, 33, false, 0, 0, 3},
      {"causal, contiguous", {{9, 9}, {1, 300}, {17, 70}}, 6, 2, 24, true},
      {"causal, more queries than keys", {{12, 4}}, 2, 1, 16, true},
      {"prompts and single tokens over pages of 64",
       {{1, 1}, {1, 63}, {65, 65}, {1, 600}, {20, 148}},
       4,
       2,
       64,
       true,
       0,
       64},
      {"single tokens over pages of 64, head 128", {{1, 1}, {1, 64}, {1, 333}}, 8, 2, 128, true, 0, 64},
      {"single tokens with a window", {{1, 200}, {1, 17}, {1, 900}}, 2, 1, 64, true, 100, 64},
      {"pages of 16", {{1, 100}, {33, 50}}, 4, 1, 64, true, 0, 16, 8},
      {"pages of 5, odd head", {{7, 23}, {1, 11}}, 3, 3, 35, true, 0, 5},
      {"pages of 128 with a window", {{140, 300}}, 2, 2, 128, true, 61, 128},
      {"no keys, no queries, rows behind", {{0, 5}, {2, 0}, {3, 3}, {0, 0}}, 2, 1, 64, true, 0, 64, 0, 0.0f, 4},
      {"own scale, many heads of one KV head", {{3, 90}}, 71, 1, 80, false, 0, 0, 0, 0.3f},
      {"large heads", {{2, 70}}, 1, 1, 256, true},
  };
}

// One set of keys for all sequences: stride 0.
void CheckShared(Device* device, Random* random) {
  constexpr int64_t kBatch = 3, kQueries = 4, kKeys = 21, kHeads = 2, kDim = 16;
  Tensor q(device, DSOPT_F32, {kBatch * kQueries, kHeads, kDim}),
      out(device, DSOPT_F32, {kBatch * kQueries, kHeads, kDim});
  Tensor k(device, DSOPT_F32, {1, kKeys, kHeads, kDim}), v(device, DSOPT_F32, {1, kKeys, kHeads, kDim});
  q.Normal(random);
  k.Normal(random);
  v.Normal(random);
  dsopt_tensor shared_k = k.view, shared_v = v.view;
  for (dsopt_tensor* t : {&shared_k, &shared_v}) {
    t->shape[0] = kBatch;
    t->stride[0] = 0;
  }
  auto args = Sized<dsopt_attention_args>();
  args.batch = kBatch;
  args.q = q;
  args.k = &shared_k;
  args.v = &shared_v;
  args.out = out;
  Run(device, DSOPT_OP_ATTENTION, &args);
  Bounded expected = Exactly(out.values);
  for (int64_t row = 0; row < kBatch * kQueries; ++row) {
    for (int64_t h = 0; h < kHeads; ++h) {
      std::vector<size_t> places;
      for (int64_t key = 0; key < kKeys; ++key) places.push_back(k.Index({0, key, h, 0}));
      const size_t at = out.Index({row, h, 0});
      Attend(q, at, k, v, places, kDim, 0.25, 0.0, &expected.value[at], &expected.error[at]);
    }
  }
  CheckOutput(&out, expected, "shared keys");
}

}  // namespace

void CheckAttention(Device* device) {
  Random random(Seed() + 4);
  INFO("seed " << Seed());
  const dsopt_dtype f32 = DSOPT_F32, bf16 = DSOPT_BF16;
  for (const AttentionCase& c : Cases()) {
    CheckOne(device, &random, c, bf16, bf16, bf16);
    CheckOne(device, &random, c, f32, f32, f32);
    CheckOne(device, &random, c, f32, bf16, bf16);
    CheckOne(device, &random, c, bf16, f32, f32);
    CheckOne(device, &random, c, bf16, bf16, f32);
  }
  CheckShared(device, &random);
}

}  // namespace dsopt::ops_test
