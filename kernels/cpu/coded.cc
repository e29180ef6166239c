// coded.cc - see coded.h.
#include "coded.h"

#include <cstring>

#include "lossless.h"

namespace dsopt_cpu {
namespace {

const char* EncodingName(dsopt_encoding encoding) {
  static const char* const names[] = {"plain", "lossless12", "int8", "fp8", "int4"};
  return encoding >= DSOPT_ENCODING_PLAIN && encoding <= DSOPT_ENCODING_INT4 ? names[encoding] : "unknown";
}

bool MayBeCoded(const dsopt_weight_desc& d) {
  return (d.kind == DSOPT_WEIGHT_MATRIX && d.batch == 1) || d.kind == DSOPT_WEIGHT_GATE_UP ||
         d.kind == DSOPT_WEIGHT_EXPERTS || d.kind == DSOPT_WEIGHT_EMBEDDING;
}

// NULL: type, groups and offsets go with the encoding.
const char* CheckCoding(const dsopt_weight_desc& d) {
  const uint32_t rows = d.group_rows, cols = d.group_cols;
  switch (d.encoding) {
    case DSOPT_ENCODING_LOSSLESS12:
      if (d.dtype != DSOPT_BF16) return "dtype BF16 expected";
      return rows == 0 && cols == 0 && d.has_offset == 0 ? nullptr : "no groups and no offsets expected";
    case DSOPT_ENCODING_INT8:
      if (d.dtype != DSOPT_I8) return "dtype I8 expected";
      return rows <= 1 && cols % 16 == 0 ? nullptr : "groups of 1 row and a multiple of 16 columns expected";
    case DSOPT_ENCODING_FP8:
      if (d.dtype != DSOPT_F8_E4M3) return "dtype F8_E4M3 expected";
      if (d.has_offset != 0) return "no offsets expected";
      return (rows <= 1 && cols == 0) || (rows == 128 && cols == 128) ? nullptr
                                                                      : "groups of a row or 128 x 128 expected";
    default:
      if (d.dtype != DSOPT_U8) return "dtype U8 expected";
      if (d.cols % 2 != 0) return "an even number of columns expected";
      return rows <= 1 && (cols == 32 || cols == 64 || cols == 128)
                 ? nullptr
                 : "groups of 32, 64 or 128 columns expected";
  }
}

Code ToCode(dsopt_encoding encoding) {
  return encoding == DSOPT_ENCODING_INT8   ? kInt8
         : encoding == DSOPT_ENCODING_FP8  ? kFp8
         : encoding == DSOPT_ENCODING_INT4 ? kInt4
                                           : kLossless12;
}

constexpr uint8_t kInt8Bias = 128;  // of a code as it lies in a tile

// Bytes from the start of a step to the code of its input `place`, except of LOSSLESS12.
uint64_t PlaceOf(Code code, uint64_t lane, uint64_t place) {
  switch (code) {
    case kInt8:
      return lane * 4 + place;
    case kFp8:
      return lane / 32 * 64 + lane % 16 * 4 + place * 2 + lane / 16 % 2;
    default:
      return lane / 32 * 64 + lane % 16 * 4 + place;  // in its low half if lane / 16 is even
  }
}

void PutInt4(uint8_t* at, uint64_t lane, uint32_t code) {
  const uint32_t shift = lane / 16 % 2 * 4;
  *at = static_cast<uint8_t>((*at & ~(15u << shift)) | code << shift);
}

// `count` codes of one output from input `input` on. src: INT4 two in a byte, and input is even.
template <Code code>
void PackCodeRow(dsopt_be_weight* w, uint64_t matrix, uint64_t output, uint64_t input, uint64_t count,
                 const uint8_t* src) {
  constexpr uint64_t kInputs = kCodeStepInputs[code];
  uint64_t tile, lane;
  Locate(*w, output, &tile, &lane);
  uint8_t* base = TileAt(w, matrix, tile);
  uint64_t place[kInputs];
  for (uint64_t k = 0; k < kInputs; ++k) place[k] = PlaceOf(code, lane, k);
  const uint64_t block = w->coded.group_steps * kInputs;  // steps of a block follow each other
  for (uint64_t i = 0; i < count;) {
    const uint64_t k = input + i, last = Min(count, i + block - k % block);
    uint8_t* step = StepOf(w, base, k / kInputs);
    for (uint64_t in_step = k % kInputs; i < last; ++i) {
      uint8_t* at = step + place[in_step];
      if constexpr (code == kInt4) {
        PutInt4(at, lane, src[i / 2] >> (i % 2 * 4) & 15u);
      } else {
        *at = static_cast<uint8_t>(code == kInt8 ? src[i] + kInt8Bias : src[i]);
      }
      if (++in_step < kInputs) continue;
      in_step = 0;
      step += kCodeStepBytes[code];
    }
  }
}

float LoadScale(const CodedForm& c, const uint8_t* list, uint64_t lane) {
  if (c.half_scales != 0) {
    uint16_t half;
    std::memcpy(&half, list + lane * 2, 2);
    return FloatFromF16(half);
  }
  float value;
  std::memcpy(&value, list + lane * 4, 4);
  return value;
}

void StoreScale(const CodedForm& c, uint8_t* list, uint64_t lane, float value) {
  if (c.half_scales != 0) {
    const uint16_t half = F16FromFloat(value);
    std::memcpy(list + lane * 2, &half, 2);
  } else {
    std::memcpy(list + lane * 4, &value, 4);
  }
}

uint64_t ListBytes(const CodedForm& c) { return c.half_scales != 0 ? 128 : 256; }

float FloatFromFp8(uint8_t code) {
  const uint32_t exponent = code >> 3 & 15u, mantissa = code & 7u;
  float magnitude = static_cast<float>(mantissa) * 0x1p-9f;
  if (exponent != 0) {
    const uint32_t bits = (exponent + 120) << 23 | mantissa << 20;
    std::memcpy(&magnitude, &bits, 4);
  }
  return (code & 0x80u) != 0 ? -magnitude : magnitude;
}

}  // namespace

dsopt_status DescribeCoded(dsopt_be_device* device, const dsopt_weight_desc& d, dsopt_be_weight* w) {
  if (d.encoding < DSOPT_ENCODING_PLAIN || d.encoding > DSOPT_ENCODING_INT4 || !MayBeCoded(d)) {
    return Fail(device->host, DSOPT_E_UNSUPPORTED, "weight '%s': encoding %d (%s) of kind %d with batch %llu",
                w->name, static_cast<int>(d.encoding), EncodingName(d.encoding), static_cast<int>(d.kind),
                static_cast<unsigned long long>(d.batch));
  }
  if (const char* wrong = CheckCoding(d)) {
    return Fail(device->host, DSOPT_E_INVALID_ARGUMENT,
                "weight '%s': %s of dtype %d, %llu columns, groups of %u x %u, offsets %u: %s", w->name,
                EncodingName(d.encoding), static_cast<int>(d.dtype), static_cast<unsigned long long>(d.cols),
                d.group_rows, d.group_cols, d.has_offset, wrong);
  }
  CodedForm& c = w->coded;
  c.on = true;
  c.code = ToCode(d.encoding);
  w->written = w->storage = kBf16;
  w->packed = true;
  w->steps = DivUp(w->inputs, kCodeStepInputs[c.code]);
  c.half_scales = d.scale_dtype == DSOPT_F16;
  c.offsets = d.has_offset != 0;
  c.group_rows = Max(d.group_rows, 1u);
  c.group_cols = c.code == kLossless12 ? kLosslessRun : d.group_cols == 0 ? d.cols : d.group_cols;
  c.groups_down = DivUp(d.rows, c.group_rows);
  c.groups_across = DivUp(d.cols, c.group_cols);
  c.group_steps = c.groups_across == 1 ? w->steps : c.group_cols / kCodeStepInputs[c.code];
  c.head_bytes = c.code == kLossless12 ? 64 : ListBytes(c) << c.offsets;
  c.block_bytes = c.head_bytes + c.group_steps * kCodeStepBytes[c.code];
  w->tile_bytes = c.groups_across * c.head_bytes + w->steps * kCodeStepBytes[c.code];
  w->matrix_bytes = w->tiles * w->tile_bytes;
  w->bytes = w->batch * w->matrix_bytes;
  if (c.code == kLossless12) w->bytes += EscapeReserve(*w);
  return DSOPT_OK;
}

void PackCodes(dsopt_be_weight* w, uint64_t first, uint64_t count, const uint8_t* src) {
  const auto pack = w->coded.code == kInt8  ? PackCodeRow<kInt8>
                    : w->coded.code == kFp8 ? PackCodeRow<kFp8>
                                            : PackCodeRow<kInt4>;
  ForEachPiece(*w, first, count, [&](uint64_t row, uint64_t column, uint64_t length, uint64_t at) {
    pack(w, row / w->rows, row % w->rows, column, length, src + (w->coded.code == kInt4 ? at / 2 : at));
  });
}

dsopt_status WeightWriteScales(dsopt_be_weight* w, uint64_t first, uint64_t count, const float* scales,
                               const float* offsets) {
  const CodedForm& c = w->coded;
  const uint64_t groups = c.on && c.code != kLossless12 ? w->batch * c.groups_down * c.groups_across : 0;
  const bool missing = count > 0 && (scales == nullptr || (offsets != nullptr) != (c.offsets != 0));
  if (count > groups || first > groups - count || missing) {
    return Fail(w->device->host, DSOPT_E_INVALID_ARGUMENT,
                "weight '%s': write of scales [%llu, +%llu) of %llu, scales %s, offsets %s", w->name,
                static_cast<unsigned long long>(first), static_cast<unsigned long long>(count),
                static_cast<unsigned long long>(groups), scales == nullptr ? "NULL" : "given",
                offsets == nullptr ? "NULL" : "given");
  }
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t band = (first + i) / c.groups_across, across = (first + i) % c.groups_across;
    const uint64_t matrix = band / c.groups_down, row = band % c.groups_down * c.group_rows;
    for (uint64_t output = row; output < Min(row + c.group_rows, w->outputs); ++output) {
      uint64_t tile, lane;
      Locate(*w, output, &tile, &lane);
      uint8_t* head = HeadOf(w, TileAt(w, matrix, tile), across);
      StoreScale(c, head, lane, scales[i]);
      if (offsets != nullptr) StoreScale(c, head + ListBytes(c), lane, offsets[i]);
    }
  }
  return DSOPT_OK;
}

float DecodeCode(const dsopt_be_weight* w, uint64_t matrix, uint64_t output, uint64_t input) {
  const CodedForm& c = w->coded;
  if (c.code == kLossless12) return FloatFromBf16(LosslessBits(w, matrix, output, input));
  uint64_t tile, lane;
  Locate(*w, output, &tile, &lane);
  uint8_t* base = TileAt(w, matrix, tile);
  const uint64_t inputs = kCodeStepInputs[c.code];
  const uint8_t byte = StepOf(w, base, input / inputs)[PlaceOf(c.code, lane, input % inputs)];
  const float code = c.code == kInt8 ? static_cast<float>(static_cast<int>(byte) - kInt8Bias)
                     : c.code == kFp8
                         ? FloatFromFp8(byte)
                         : static_cast<float>(static_cast<int>(byte >> (lane / 16 % 2 * 4) & 15) - 8);
  const uint8_t* head = HeadOf(w, base, input / c.group_cols);
  const float value = code * LoadScale(c, head, lane);
  return c.offsets != 0 ? value + LoadScale(c, head + ListBytes(c), lane) : value;
}

void GatherCodedRow(const dsopt_be_weight* w, uint64_t row, float scale, float* dst) {
  for (uint64_t i = 0; i < w->cols; ++i) dst[i] = DecodeCode(w, 0, row, i) * scale;
}

CodedTile ViewTile(const dsopt_be_weight* w, uint64_t matrix, uint64_t tile) {
  const CodedForm& c = w->coded;
  CodedTile view = {};
  view.data = TileAt(w, matrix, tile);
  view.inputs = static_cast<uint32_t>(w->inputs);
  view.steps = static_cast<uint32_t>(w->steps);
  view.group_steps = static_cast<uint32_t>(c.group_steps);
  view.half_scales = c.half_scales;
  view.offsets = c.offsets;
  if (c.escapes != nullptr) {
    const uint64_t number = matrix * w->tiles + tile;
    view.escapes = c.escapes + c.escape_first[number];
    view.escape_count = c.escape_first[number + 1] - c.escape_first[number];
  }
  return view;
}

}  // namespace dsopt_cpu
