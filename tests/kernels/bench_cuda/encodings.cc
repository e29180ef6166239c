// encodings.cc - products with encoded weights against float64, odd shapes and every group.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "bench.h"

namespace dsopt::bench {
namespace {

uint32_t Random() {
  static uint64_t state = 88172645463325252ull;
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return static_cast<uint32_t>(state >> 32);
}
float Uniform(float low, float high) {
  return low + (high - low) * static_cast<float>(Random()) * 2.3283064e-10f;
}
uint16_t ToBf16(float v) {
  uint32_t bits;
  std::memcpy(&bits, &v, 4);
  return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}
double FromBf16(uint16_t v) {
  const uint32_t bits = static_cast<uint32_t>(v) << 16;
  float f;
  std::memcpy(&f, &bits, 4);
  return static_cast<double>(f);
}
double FromE4m3(uint32_t c) {
  const double m = c & 7, e = c >> 3 & 15;
  const double v = e == 0 ? std::ldexp(m, -9) : std::ldexp(8 + m, static_cast<int>(e) - 10);
  return (c & 128) != 0 ? -v : v;
}

struct EncodedCase {
  dsopt_encoding encoding;
  uint32_t group_rows, group_cols, has_offset;
};

// A model of two blocks: embedding (bf16) and an encoded head, so that logits are one product.
double EncodedError(const EncodedCase& c, uint32_t n, uint32_t k, uint32_t rows, dsopt_precision precision) {
  dsopt_weight_desc d = {};
  d.struct_size = sizeof(d);
  d.name = "encoded";
  d.batch = 1;
  d.cols = k;
  d.rows = n;
  d.kind = DSOPT_WEIGHT_EMBEDDING;
  d.dtype = DSOPT_BF16;
  dsopt_be_weight *table = nullptr, *gain = nullptr, *head = nullptr;
  Must(g_api->weight_create(g_device, &d, &table), "table");
  std::vector<uint16_t> x(static_cast<size_t>(n) * k);
  for (uint16_t& v : x) v = ToBf16(Uniform(-1.0f, 1.0f));
  Must(g_api->weight_write(table, 0, x.size(), x.data()), "table");
  d.kind = DSOPT_WEIGHT_VECTOR;
  d.rows = 1;
  Must(g_api->weight_create(g_device, &d, &gain), "gain");
  std::vector<uint16_t> ones(k, ToBf16(1.0f));
  Must(g_api->weight_write(gain, 0, k, ones.data()), "gain");
  d.kind = DSOPT_WEIGHT_MATRIX;
  d.rows = n;
  d.encoding = c.encoding;
  d.group_rows = c.group_rows;
  d.group_cols = c.group_cols;
  d.has_offset = c.has_offset;
  std::vector<double> w(static_cast<size_t>(n) * k);
  std::vector<uint8_t> codes;
  const uint32_t gr = c.group_rows > 1 ? c.group_rows : 1, gc = c.group_cols != 0 ? c.group_cols : k;
  const uint32_t columns = (k + gc - 1) / gc, grid_rows = (n + gr - 1) / gr;
  std::vector<float> scales(static_cast<size_t>(grid_rows) * columns), offsets(scales.size());
  for (size_t i = 0; i < scales.size(); ++i) {
    scales[i] = static_cast<float>(1 + Random() % 7) / 64.0f;
    offsets[i] = c.has_offset != 0 ? static_cast<float>(static_cast<int>(Random() % 9) - 4) / 32.0f : 0.0f;
  }
  for (uint32_t r = 0; r < n; ++r) {
    for (uint32_t i = 0; i < k; ++i) {
      const size_t at = static_cast<size_t>(r) * k + i, g = static_cast<size_t>(r / gr) * columns + i / gc;
      double code = 0;
      if (c.encoding == DSOPT_ENCODING_LOSSLESS12) {
        float v = Uniform(-0.1f, 0.1f);
        if (Random() % 3000 == 0)
          v *= 1e-7f;  // outside of the window: escapes, here and there more than four in a unit
        if (Random() % 5000 == 0) v *= 1000.0f;
        if (r == 3) v = 0;
        if (r == 5 && i >= 128 && i < 134) v = 1e-9f;
        const uint16_t bits = ToBf16(v);
        codes.push_back(static_cast<uint8_t>(bits));
        codes.push_back(static_cast<uint8_t>(bits >> 8));
        w[at] = FromBf16(bits);
        continue;
      }
      if (c.encoding == DSOPT_ENCODING_INT8) {
        const int v = static_cast<int>(Random() % 255) - 127;
        codes.push_back(static_cast<uint8_t>(v));
        code = v;
      } else if (c.encoding == DSOPT_ENCODING_FP8) {
        uint32_t v = Random() % 256;
        if ((v & 127) == 127) v = 1;
        codes.push_back(static_cast<uint8_t>(v));
        code = FromE4m3(v);
      } else {
        const uint32_t v = Random() % 16;
        if (i % 2 == 0)
          codes.push_back(static_cast<uint8_t>(v));
        else
          codes.back() = static_cast<uint8_t>(codes.back() | v << 4);
        code = static_cast<double>(v) - 8.0;
      }
      w[at] = code * static_cast<double>(scales[g]) + static_cast<double>(offsets[g]);
    }
  }
  d.dtype = c.encoding == DSOPT_ENCODING_LOSSLESS12 ? DSOPT_BF16
            : c.encoding == DSOPT_ENCODING_INT8     ? DSOPT_I8
            : c.encoding == DSOPT_ENCODING_FP8      ? DSOPT_F8_E4M3
                                                    : DSOPT_U8;
  Must(g_api->weight_create(g_device, &d, &head), "head");
  // In two pieces, cut in the middle of a row.
  const uint64_t cut = static_cast<uint64_t>(n / 2) * k + k / 4 * 2, all = static_cast<uint64_t>(n) * k;
  const auto byte_of = [&](uint64_t element) {
    return c.encoding == DSOPT_ENCODING_INT4         ? element / 2
           : c.encoding == DSOPT_ENCODING_LOSSLESS12 ? element * 2
                                                     : element;
  };
  Must(g_api->weight_write(head, cut, all - cut, codes.data() + byte_of(cut)), "head");
  Must(g_api->weight_write(head, 0, cut, codes.data()), "head");
  if (c.encoding != DSOPT_ENCODING_LOSSLESS12)
    Must(g_api->weight_write_scales(head, 0, scales.size(), scales.data(),
                                    c.has_offset != 0 ? offsets.data() : nullptr),
         "scales");
  Must(g_api->weight_finish(g_device), "weight_finish");

  Shape shape = {};
  shape.vocab = n;
  shape.hidden = k;
  Model model(shape);
  dsopt_block b = {};
  b.kind = DSOPT_BLOCK_EMBED;
  b.u.embed = {table, 0.0f, 0};
  model.blocks.push_back(b);
  b = {};
  b.kind = DSOPT_BLOCK_HEAD;
  b.u.head = {gain, head, 0.0f, 0};
  model.blocks.push_back(b);
  float frequency = 1.0f;
  model.rope = {2, 0, 1.0f, 0, &frequency};
  model.cache_values = 128;
  double error = 0, size = 0;
  {
    Program program(&model, precision, precision == DSOPT_PRECISION_FAST ? DSOPT_BF16 : DSOPT_F32, 1, 256, rows,
                    rows);
    std::vector<int32_t> tokens = Tokens(rows, n, rows);
    program.Run(1, 0, rows, tokens, rows);
    for (uint32_t r = 0; r < rows; ++r) {
      const uint16_t* row = x.data() + static_cast<size_t>(tokens[r]) * k;
      double squares = 0;
      for (uint32_t i = 0; i < k; ++i) squares += FromBf16(row[i]) * FromBf16(row[i]);
      const double norm = 1.0 / std::sqrt(squares / k);
      const std::vector<float> logits = program.Logits(r);
      for (uint32_t o = 0; o < n; ++o) {
        double y = 0;
        for (uint32_t i = 0; i < k; ++i) {
          double v = FromBf16(row[i]) * norm;
          if (precision == DSOPT_PRECISION_FAST) v = FromBf16(ToBf16(static_cast<float>(v)));
          y += v * w[static_cast<size_t>(o) * k + i];
        }
        const double difference = static_cast<double>(logits[o]) - y;
        error += difference * difference;
        size += y * y;
        if (!(difference == difference)) error = INFINITY;
      }
    }
  }
  g_api->weight_destroy(table);
  g_api->weight_destroy(gain);
  g_api->weight_destroy(head);
  return std::sqrt(error / size);
}

}  // namespace

bool CheckEncodings() {
  const EncodedCase cases[] = {
      {DSOPT_ENCODING_LOSSLESS12, 0, 0, 0}, {DSOPT_ENCODING_INT8, 0, 0, 0},    {DSOPT_ENCODING_INT8, 0, 0, 1},
      {DSOPT_ENCODING_INT8, 0, 16, 1},      {DSOPT_ENCODING_INT8, 0, 32, 0},   {DSOPT_ENCODING_INT8, 0, 128, 1},
      {DSOPT_ENCODING_FP8, 0, 0, 0},        {DSOPT_ENCODING_FP8, 128, 128, 0}, {DSOPT_ENCODING_INT4, 0, 32, 0},
      {DSOPT_ENCODING_INT4, 0, 32, 1},      {DSOPT_ENCODING_INT4, 0, 64, 0},   {DSOPT_ENCODING_INT4, 0, 128, 0},
      {DSOPT_ENCODING_INT4, 0, 128, 1}};
  const uint32_t shapes[][2] = {{72, 200}, {16, 8}, {1000, 1024}, {330, 776}, {2100, 264}};
  const uint32_t rows[] = {1, 3, 8, 13, 27, 64, 100};
  int wrong = 0;
  for (const EncodedCase& c : cases) {
    double worst_fast = 0, worst_reference = 0;
    for (const auto& shape : shapes) {
      for (const uint32_t r : rows) {
        const double fast = EncodedError(c, shape[0], shape[1], r, DSOPT_PRECISION_FAST);
        // An input that rounds the other way moves a sum so far; beyond 64 rows decoded weights are rounded to
        // bf16.
        const double tolerance = r > 64 && c.encoding != DSOPT_ENCODING_LOSSLESS12 ? 4e-3 : 3e-4;
        if (!(fast < tolerance)) {
          std::printf("  encoding %d groups %ux%u offset %u: [%u, %u] rows %u: %.1e\n", c.encoding,
                      c.group_rows, c.group_cols, c.has_offset, shape[0], shape[1], r, fast);
          ++wrong;
        }
        worst_fast = std::max(worst_fast, fast);
      }
      worst_reference =
          std::max(worst_reference, EncodedError(c, shape[0], shape[1], 5, DSOPT_PRECISION_REFERENCE));
    }
    if (!(worst_reference < 1e-5)) ++wrong;
    std::printf("encoding %d groups %3ux%-3u offset %u: fast %.1e reference %.1e\n", c.encoding, c.group_rows,
                c.group_cols, c.has_offset, worst_fast, worst_reference);
    std::fflush(stdout);
  }
  std::printf("encodings: %s\n", wrong == 0 ? "ok" : "WRONG");
  return wrong == 0;
}

}  // namespace dsopt::bench
