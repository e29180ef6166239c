// program.cc - programs of the measurements, and their batches.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "bench.h"

namespace dsopt::bench {

Program::Program(Model* m, dsopt_precision precision, dsopt_dtype kv, uint32_t sequences, uint32_t tokens,
                 uint32_t rows, uint32_t logit_rows, uint32_t slice_us)
    : model(m), blocks(m->blocks), seqs(sequences), per_seq((tokens + 63) / 64), max_rows(rows), kv_dtype(kv) {
  const auto scale = [&](uint64_t* offset) { *offset = CacheBytes(kv, *offset, m->shape.head_dim); };
  for (dsopt_block& b : blocks) {
    if (b.kind == DSOPT_BLOCK_ATTENTION) scale(&b.u.attention.cache_offset);
    if (b.kind == DSOPT_BLOCK_MLA) scale(&b.u.mla.cache_offset);
  }
  dsopt_program_desc d = {};
  d.struct_size = sizeof(d);
  d.precision = static_cast<uint32_t>(precision);
  d.blocks = blocks.data();
  d.block_count = static_cast<uint32_t>(blocks.size());
  d.rope_count = 1;
  d.ropes = &m->rope;
  d.hidden = m->shape.hidden;
  d.vocab = m->shape.vocab;
  d.max_rows = rows;
  d.max_seqs = sequences;
  d.max_logit_rows = logit_rows;
  d.max_pages_per_seq = per_seq;
  d.page_tokens = 64;
  d.page_count = per_seq * sequences;
  d.page_bytes = page_bytes = (CacheBytes(kv, m->cache_values, m->shape.head_dim) + 255) / 256 * 256;
  d.kv_dtype = kv;
  d.slice_us = slice_us;
  d.flags = g_program_flags;
  d.host_pages = static_cast<uint32_t>(uint64_t{d.page_count} * g_host_percent / 100);
  Must(g_api->program_create(g_device, &d, &handle), "program_create");
  for (uint32_t i = 0; i < d.page_count; ++i)
    pages.push_back(static_cast<int32_t>((i * 2654435761u) % d.page_count));
  std::vector<bool> taken(d.page_count, false);
  int32_t next = 0;
  for (int32_t& p : pages) {  // the hash is no permutation for every count
    if (taken[static_cast<size_t>(p)]) {
      while (taken[static_cast<size_t>(next)]) ++next;
      p = next;
    }
    taken[static_cast<size_t>(p)] = true;
  }
}

Program::~Program() { g_api->program_destroy(handle); }

namespace {

uint32_t Next(uint32_t* x) { return *x = *x * 1664525u + 1013904223u; }

// Codes and scales of a layer: values around 1, scales of 0.4 to 2 times that. nan: positions from here on hold
// NaN scales, and whatever codes.
void FillCodes(const dsopt_attention_block& a, bool fp8, uint32_t nan, uint32_t* x, uint8_t* layer) {
  const size_t vectors = size_t{2} * a.kv_heads * 64, codes = vectors * a.head_dim;
  for (size_t i = 0; i < codes; ++i) {
    const auto code = static_cast<uint8_t>(Next(x) >> 16);
    const bool odd = fp8 ? (code & 0x7f) == 0x7f : code == 0x80;  // not made by any vector
    layer[i] = odd && i / a.head_dim % 64 < nan ? 1 : code;
  }
  for (size_t v = 0; v < vectors; ++v) {
    const float spread = 0.4f + static_cast<float>(Next(x) >> 16) / 40960.0f;
    const float scale = v % 64 < nan ? spread / (fp8 ? 150.0f : 73.0f) : NAN;
    std::memcpy(layer + codes + v * 4, &scale, 4);
  }
}

std::vector<uint8_t> RandomPage(const Program& program, uint32_t seed, uint32_t nan) {
  std::vector<uint8_t> page(program.page_bytes);
  uint32_t x = seed;
  if (program.kv_dtype != DSOPT_BF16) {
    for (const dsopt_block& b : program.blocks)
      if (b.kind == DSOPT_BLOCK_ATTENTION)
        FillCodes(b.u.attention, program.kv_dtype == DSOPT_F8_E4M3, nan, &x,
                  page.data() + b.u.attention.cache_offset);
    return page;
  }
  for (size_t i = 0; i + 1 < page.size(); i += 2) {
    Next(&x);
    const auto v =
        static_cast<uint16_t>(((x >> 31) << 15) | ((120u + ((x >> 20) & 7u)) << 7) | ((x >> 8) & 127u));
    std::memcpy(&page[i], &v, 2);
  }
  for (const dsopt_block& b : program.blocks) {
    if (b.kind != DSOPT_BLOCK_ATTENTION) continue;
    const dsopt_attention_block& a = b.u.attention;
    for (size_t vector = 0; vector < size_t{2} * a.kv_heads * 64; ++vector)
      if (vector % 64 >= nan)
        std::memset(page.data() + a.cache_offset + vector * a.head_dim * 2, 0xff, size_t{2} * a.head_dim);
  }
  return page;
}

}  // namespace

void Program::FillCache() {
  Must(g_api->program_write_page(handle, 0, RandomPage(*this, 12345, 64).data()), "program_write_page");
  for (uint32_t i = 1; i < pages.size(); ++i) Must(g_api->program_copy_page(handle, i, 0), "program_copy_page");
}

void Program::FillCache(uint32_t known) {
  constexpr uint32_t kDifferent = 13;
  for (uint32_t i = 0; i < per_seq; ++i) {
    const uint32_t left = known > i * 64 ? std::min(known - i * 64, 64u) : 0;
    const bool copied = i >= kDifferent && left == 64;
    for (uint32_t s = 0; s < seqs; ++s) {
      const auto page = static_cast<uint32_t>(pages[s * per_seq + i]);
      const auto same = static_cast<uint32_t>(pages[i % kDifferent]);
      if (copied)
        Must(g_api->program_copy_page(handle, page, same), "program_copy_page");
      else if (left > 0 || i * 64 < known + 64)
        Must(g_api->program_write_page(handle, page, RandomPage(*this, 77 + i % kDifferent, left).data()),
             "program_write_page");
    }
  }
}

void Program::Begin(uint32_t count, uint32_t position, uint32_t rows, const std::vector<int32_t>& tokens,
                    uint32_t wanted) {
  const uint32_t all = count * rows;
  std::vector<int32_t> positions(all), row_seq(all);
  for (uint32_t i = 0; i < all; ++i) {
    positions[i] = static_cast<int32_t>(position + i % rows);
    row_seq[i] = static_cast<int32_t>(i / rows);
  }
  std::vector<dsopt_sample_row> sample(wanted);
  for (uint32_t i = 0; i < wanted; ++i) sample[i].row = static_cast<int32_t>(all - wanted + i);
  dsopt_batch batch = {};
  batch.struct_size = sizeof(batch);
  batch.rows = all;
  batch.seqs = count;
  batch.logit_rows = wanted;
  batch.tokens = tokens.data();
  batch.positions = positions.data();
  batch.row_seq = row_seq.data();
  batch.page_table = pages.data();
  batch.page_table_stride = per_seq;
  batch.sample = sample.data();
  started = Now();
  Must(g_api->program_begin(handle, &batch), "program_begin");
}

bool Program::Poll() {
  uint64_t wait = 0;
  const dsopt_status status = g_api->program_advance(handle, UINT64_MAX, &wait);
  if (status == DSOPT_PENDING) return false;
  Must(status, "program_advance");
  dsopt_batch_result result = {};
  result.struct_size = sizeof(result);
  Must(g_api->program_result(handle, &result), "program_result");
  device_ms = static_cast<double>(result.device_ns) * 1e-6;
  replayed += result.replayed;
  return true;
}

double Program::Run(uint32_t count, uint32_t position, uint32_t rows, const std::vector<int32_t>& tokens,
                    uint32_t wanted) {
  Begin(count, position, rows, tokens, wanted);
  while (!Poll()) {
  }
  return Now() - started;
}

std::vector<float> Program::Logits(uint32_t index) {
  std::vector<float> l(model->shape.vocab);
  Must(g_api->program_read_logits(handle, index, l.data()), "program_read_logits");
  return l;
}

uint64_t CacheBytes(dsopt_dtype kv, uint64_t values, uint32_t head_dim) {
  if (kv == DSOPT_F32) return values * 4;
  if (kv == DSOPT_BF16) return values * 2;
  return values / head_dim * (head_dim + 4);
}

std::vector<int32_t> Tokens(uint32_t count, uint32_t vocab, uint32_t seed) {
  std::vector<int32_t> t(count);
  uint64_t x = seed * 7919u + 1;
  for (int32_t& v : t) {
    x = x * 6364136223846793005u + 1442695040888963407u;
    v = static_cast<int32_t>((x >> 33) % vocab);
  }
  return t;
}

double RelativeError(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0, size = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double x = static_cast<double>(a[i]), y = static_cast<double>(b[i]);
    difference += (x - y) * (x - y);
    size += y * y;
  }
  const double error = std::sqrt(difference / size);
  return error == error ? error : INFINITY;  // NaN would pass every comparison with a worst one
}

double Median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

}  // namespace dsopt::bench
