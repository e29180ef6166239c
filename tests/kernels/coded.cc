// coded.cc - weights with an encoding for the harness: random codes and scales and the values they stand for,
// bf16 values that are hard to pack, and writing them in pieces.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>

#include "harness.h"

namespace dsopt::kernel_test {
namespace {

double Fp8Value(uint32_t code) {
  const uint32_t exponent = code >> 3 & 15, mantissa = code & 7;
  const double magnitude =
      exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8.0 + mantissa, static_cast<int>(exponent) - 10);
  return (code & 0x80) != 0 ? -magnitude : magnitude;
}

double CodeValue(dsopt_encoding encoding, uint32_t code) {
  if (encoding == DSOPT_ENCODING_INT8) return static_cast<int8_t>(code);
  if (encoding == DSOPT_ENCODING_FP8) return Fp8Value(code);
  return static_cast<int>(code) - 8;
}

// A code, of fp8 sometimes only of the smallest magnitudes.
uint32_t RandomCode(dsopt_encoding encoding, bool small, Random* random) {
  const auto draw = static_cast<uint32_t>((*random)() >> 33);
  if (encoding == DSOPT_ENCODING_INT8) return static_cast<uint8_t>(static_cast<int>(draw % 255) - 127);
  if (encoding == DSOPT_ENCODING_INT4) return draw % 16;
  return (draw & 0x80) | (small ? draw >> 8 & 0xf : (draw >> 8) % 0x7f);
}

// Root of the mean square of what RandomCode gives.
double CodeDeviation(dsopt_encoding encoding, bool small) {
  double sum = 0;
  const int count = encoding == DSOPT_ENCODING_INT4   ? 16
                    : encoding == DSOPT_ENCODING_INT8 ? 255
                    : small                           ? 16
                                                      : 0x7f;
  for (int i = 0; i < count; ++i) {
    const auto code = static_cast<uint32_t>(encoding == DSOPT_ENCODING_INT8 ? i - 127 : i);
    sum += std::pow(CodeValue(encoding, code), 2) / count;
  }
  return std::sqrt(sum);
}

dsopt_dtype CodeType(dsopt_encoding encoding) {
  return encoding == DSOPT_ENCODING_INT8 ? DSOPT_I8 : encoding == DSOPT_ENCODING_FP8 ? DSOPT_F8_E4M3 : DSOPT_U8;
}

uint64_t DivUp(uint64_t value, uint64_t by) { return (value + by - 1) / by; }

// bf16 values of which some are zero, subnormal, or far below their neighbours.
void MakeOddValues(const CodedShape& shape, double stddev, TestWeight* w, Random* random) {
  std::normal_distribution<double> normal(0.0, stddev);
  std::uniform_real_distribution<double> share(0.0, 1.0);
  for (double& value : w->values) {
    value = Rounded(normal(*random), DSOPT_BF16);
    if (share(*random) >= shape.odd_values) continue;
    switch ((*random)() % 4) {
      case 0:
        value = 0.0;
        break;
      case 1:
        value = Rounded(1e-39, DSOPT_BF16);
        break;
      default:
        value = Rounded(std::ldexp(value, -14 - static_cast<int>((*random)() % 30)), DSOPT_BF16);
    }
  }
}

// Pieces of [0, count), each a multiple of unit but the last, in random order.
std::vector<std::pair<uint64_t, uint64_t>> Pieces(uint64_t count, uint64_t most, uint64_t unit,
                                                  Random* random) {
  std::vector<std::pair<uint64_t, uint64_t>> pieces;
  for (uint64_t first = 0; first < count;) {
    const uint64_t length =
        std::min(count - first, unit * (1 + (*random)() % std::max<uint64_t>(1, most / unit)));
    pieces.emplace_back(first, length);
    first += length;
  }
  std::shuffle(pieces.begin(), pieces.end(), *random);
  return pieces;
}

}  // namespace

bool MayBeCoded(const dsopt_weight_desc& desc) {
  return (desc.kind == DSOPT_WEIGHT_MATRIX && desc.batch == 1) || desc.kind == DSOPT_WEIGHT_GATE_UP ||
         desc.kind == DSOPT_WEIGHT_EXPERTS || desc.kind == DSOPT_WEIGHT_EMBEDDING;
}

void MakeCoded(const CodedShape& shape, double stddev, TestWeight* w, Random* random) {
  dsopt_weight_desc& d = w->desc;
  d.encoding = shape.encoding;
  w->values.resize(d.batch * d.rows * d.cols);
  if (shape.encoding == DSOPT_ENCODING_PLAIN || shape.encoding == DSOPT_ENCODING_LOSSLESS12) {
    d.dtype = DSOPT_BF16;
    return MakeOddValues(shape, stddev, w, random);
  }
  d.dtype = CodeType(shape.encoding);
  d.group_rows = shape.group_rows;
  d.group_cols = shape.group_cols;
  d.has_offset = shape.has_offset ? 1 : 0;
  d.scale_dtype = shape.half_scales ? DSOPT_F16 : DSOPT_F32;
  const uint64_t group_rows = std::max(shape.group_rows, 1u),
                 group_cols = shape.group_cols == 0 ? d.cols : shape.group_cols;
  const uint64_t down = DivUp(d.rows, group_rows), across = DivUp(d.cols, group_cols);
  const dsopt_dtype type = shape.half_scales ? DSOPT_F16 : DSOPT_F32;
  std::vector<bool> small(d.batch * down * across);
  std::uniform_real_distribution<double> spread(0.5, 1.5), shift(-0.3, 0.3);
  for (size_t g = 0; g < small.size(); ++g) {
    small[g] = (*random)() % 4 == 0;
    const double scale = stddev * spread(*random) / CodeDeviation(shape.encoding, small[g]);
    w->scales.push_back(static_cast<float>(Rounded((*random)() % 2 == 0 ? scale : -scale, type)));
    if (shape.has_offset) w->offsets.push_back(static_cast<float>(Rounded(stddev * shift(*random), type)));
  }
  const bool half = shape.encoding == DSOPT_ENCODING_INT4;
  w->codes.resize(half ? w->values.size() / 2 : w->values.size());
  for (uint64_t i = 0; i < w->values.size(); ++i) {
    const uint64_t row = i / d.cols, matrix = row / d.rows;
    const uint64_t g = (matrix * down + row % d.rows / group_rows) * across + i % d.cols / group_cols;
    const uint32_t code = RandomCode(shape.encoding, small[g], random);
    if (half) {
      w->codes[i / 2] = static_cast<uint8_t>(w->codes[i / 2] | code << (i % 2 * 4));
    } else {
      w->codes[i] = static_cast<uint8_t>(code);
    }
    w->values[i] = CodeValue(shape.encoding, code) * static_cast<double>(w->scales[g]) +
                   (shape.has_offset ? static_cast<double>(w->offsets[g]) : 0.0);
  }
}

void WriteCodedInPieces(TestDevice* device, TestWeight* w, Random* random) {
  if (w->codes.empty()) return WriteInPieces(device, w, random);
  const bool half = w->desc.encoding == DSOPT_ENCODING_INT4;
  const uint64_t most = (*random)() % 2 == 0 ? 40 * w->desc.cols : w->desc.cols + 2;
  for (const auto& [first, length] : Pieces(w->values.size(), most, half ? 2 : 1, random)) {
    const uint8_t* src = &w->codes[half ? first / 2 : first];
    REQUIRE(device->api->weight_write(w->handle, first, length, src) == DSOPT_OK);
  }
  for (const auto& [first, length] : Pieces(w->scales.size(), 50, 1, random)) {
    const float* offsets = w->offsets.empty() ? nullptr : &w->offsets[first];
    REQUIRE(device->api->weight_write_scales(w->handle, first, length, &w->scales[first], offsets) == DSOPT_OK);
  }
}

}  // namespace dsopt::kernel_test
