// program.cc - programs of the measurements, and their batches.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "bench.h"

namespace dsopt::bench {

namespace {

// What a page has 64 of per layer: rows of codes, then rows of words. Attention: of each head a row of K and
// one of V; latent: one of the latent and the rotated part.
struct Vectors {
  std::vector<uint32_t> parts;  // values
  uint32_t heads;

  uint64_t Values() const {
    uint64_t sum = 0;
    for (const uint32_t part : parts) sum += part;
    return sum;
  }
};
Vectors VectorsOf(const Shape& shape) {
  if (shape.q_heads != 0) return {{shape.head_dim}, 2 * shape.kv_heads};
  return {{shape.latent, shape.rope_dim}, 1};
}

// Of a vector. Without codes: of its values.
uint64_t CodeBytes(dsopt_dtype kv, uint64_t values) {
  return kv == DSOPT_F32 ? values * 4 : kv == DSOPT_BF16 ? values * 2 : kv == DSOPT_I4 ? values / 2 : values;
}
uint64_t WordBytes(dsopt_dtype kv, uint64_t values) {
  return kv == DSOPT_F32 || kv == DSOPT_BF16 ? 0 : kv == DSOPT_I4 ? (values + 31) / 32 * 4 : 4;
}

}  // namespace

Program::Program(Model* m, dsopt_precision precision, dsopt_dtype kv, uint32_t sequences, uint32_t tokens,
                 uint32_t rows, uint32_t logit_rows, uint32_t slice_us)
    : model(m), blocks(m->blocks), seqs(sequences), per_seq((tokens + 63) / 64), max_rows(rows), kv_dtype(kv) {
  const auto scale = [&](uint64_t* offset) { *offset = CacheBytes(kv, *offset, m->shape); };
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
  d.page_bytes = page_bytes = (CacheBytes(kv, m->cache_values, m->shape) + 255) / 256 * 256;
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

// Codes and words of a layer: values around 1, steps that differ by a factor of 5 (int4: of 2). nan: positions
// from here on hold NaN words, and whatever codes.
void FillCodes(dsopt_dtype kv, const Vectors& v, uint32_t nan, uint32_t* x, uint8_t* layer) {
  uint64_t row_codes = 0, row_words = 0;
  for (const uint32_t part : v.parts) {
    row_codes += CodeBytes(kv, part);
    row_words += WordBytes(kv, part) / 4;
  }
  const uint64_t codes = uint64_t{64} * v.heads * row_codes, words = uint64_t{64} * v.heads * row_words;
  for (uint64_t i = 0; i < codes; ++i) {
    const auto code = static_cast<uint8_t>(Next(x) >> 16);
    const bool odd =
        kv == DSOPT_F8_E4M3 ? (code & 0x7f) == 0x7f : kv == DSOPT_I8 && code == 0x80;  // not made by any vector
    layer[i] = odd && i / row_codes % 64 < nan ? 1 : code;
  }
  for (uint64_t w = 0; w < words; ++w) {
    const bool known = w / row_words % 64 < nan;
    uint32_t word = 0x7e007e00u;
    if (kv == DSOPT_I4) {
      const uint32_t low = Next(x) >> 12, scale = Next(x) >> 12;
      if (known) word = (0xbc00u | (low & 0x3ffu)) << 16 | 0x3000u | (scale & 0x3ffu);  // -2 .. -1, 1/8 .. 1/4
    } else {
      const float spread = 0.4f + static_cast<float>(Next(x) >> 16) / 40960.0f;
      const float scale = known ? spread / (kv == DSOPT_F8_E4M3 ? 150.0f : 73.0f) : NAN;
      std::memcpy(&word, &scale, 4);
    }
    std::memcpy(layer + codes + w * 4, &word, 4);
  }
}

std::vector<uint8_t> RandomPage(const Program& program, uint32_t seed, uint32_t nan) {
  std::vector<uint8_t> page(program.page_bytes);
  uint32_t x = seed;
  const Vectors v = VectorsOf(program.model->shape);
  const bool coded = program.kv_dtype != DSOPT_BF16;
  for (size_t i = 0; i + 1 < page.size() && !coded; i += 2) {
    Next(&x);
    const auto value =
        static_cast<uint16_t>(((x >> 31) << 15) | ((120u + ((x >> 20) & 7u)) << 7) | ((x >> 8) & 127u));
    std::memcpy(&page[i], &value, 2);
  }
  for (const dsopt_block& b : program.blocks) {
    if (b.kind != DSOPT_BLOCK_ATTENTION && b.kind != DSOPT_BLOCK_MLA) continue;
    uint8_t* layer =
        page.data() + (b.kind == DSOPT_BLOCK_MLA ? b.u.mla.cache_offset : b.u.attention.cache_offset);
    if (coded) {
      FillCodes(program.kv_dtype, v, nan, &x, layer);
      continue;
    }
    const uint64_t row_bytes = v.Values() * 2;
    for (uint64_t row = 0; row < uint64_t{64} * v.heads; ++row)
      if (row % 64 >= nan) std::memset(layer + row * row_bytes, 0xff, row_bytes);
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

uint64_t CacheBytes(dsopt_dtype kv, uint64_t values, const Shape& shape) {
  const Vectors v = VectorsOf(shape);
  uint64_t bytes = 0;
  for (const uint32_t part : v.parts) bytes += CodeBytes(kv, part) + WordBytes(kv, part);
  return values / v.Values() * bytes;
}

const char* CacheName(dsopt_dtype kv) {
  return kv == DSOPT_BF16 ? "bf16" : kv == DSOPT_I8 ? "int8" : kv == DSOPT_I4 ? "int4" : "fp8";
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
