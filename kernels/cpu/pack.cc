// pack.cc - where an element of a tensor lies, writing runs of elements there, reading embedding rows back.
#include <cstring>

#include "coded.h"

namespace dsopt_cpu {
namespace {

float ReadValue(const uint8_t* src, Storage storage) {
  if (storage == kF32) {
    float value;
    std::memcpy(&value, src, 4);
    return value;
  }
  uint16_t half;
  std::memcpy(&half, src, 2);
  return storage == kF16 ? FloatFromF16(half) : FloatFromBf16(half);
}

// Bytes from the tile's start to (lane, input).
uint64_t Offset(Storage storage, uint64_t lane, uint64_t input) {
  switch (storage) {
    case kF32:
      return (input * kTileRows + lane) * 4;
    case kF16:
      return (input * kTileRows + lane) * 2;
    default:
      return ((input / 2 * kTileRows + lane) * 2 + input % 2) * 2;
  }
}

uint8_t* TileOf(dsopt_be_weight* w, uint64_t matrix, uint64_t tile) {
  return w->data + matrix * w->matrix_bytes + tile * w->tile_bytes;
}

// `count` inputs from `input` on of one output.
void PackRow(dsopt_be_weight* w, uint64_t matrix, uint64_t output, uint64_t input, uint64_t count,
             const uint8_t* src) {
  uint64_t tile, lane;
  Locate(*w, output, &tile, &lane);
  uint8_t* base = TileOf(w, matrix, tile);
  const uint64_t bytes = StorageBytes(w->written);
  if (w->storage != w->written) {  // only ever widened to f32
    for (uint64_t i = 0; i < count; ++i) {
      const float value = ReadValue(src + i * bytes, w->written);
      std::memcpy(base + Offset(kF32, lane, input + i), &value, 4);
    }
    return;
  }
  for (uint64_t i = 0; i < count; ++i)
    std::memcpy(base + Offset(w->storage, lane, input + i), src + i * bytes, bytes);
}

// Sixteen whole rows from `output` on, when they are neighbours in one tile. False: take the slow way.
bool PackRows16(dsopt_be_weight* w, uint64_t matrix, uint64_t output, const uint8_t* src) {
  if (w->storage != w->written || w->storage == kF16) return false;
  uint64_t tile, lane, last_tile, last_lane;
  Locate(*w, output, &tile, &lane);
  Locate(*w, output + 15, &last_tile, &last_lane);
  if (tile != last_tile || last_lane != lane + 15) return false;
  const uint64_t row_bytes = w->inputs * StorageBytes(w->storage);
  const uint64_t words = row_bytes / 4;
  uint32_t* dst = reinterpret_cast<uint32_t*>(TileOf(w, matrix, tile)) + lane;
  w->device->kernels->pack16(reinterpret_cast<const uint32_t*>(src), row_bytes, static_cast<uint32_t>(words),
                             dst);
  if (w->storage == kBf16 && w->inputs % 2 != 0) {
    for (uint64_t r = 0; r < 16; ++r) {
      std::memcpy(dst + words * kTileRows + r, src + r * row_bytes + words * 4, 2);
    }
  }
  return true;
}

// A run inside row `row` of a TRANSPOSED matrix: one input, many outputs.
void PackColumn(dsopt_be_weight* w, uint64_t matrix, uint64_t input, uint64_t output, uint64_t count,
                const uint8_t* src) {
  const uint64_t bytes = StorageBytes(w->written);
  for (uint64_t i = 0; i < count; ++i) {
    uint64_t tile, lane;
    Locate(*w, output + i, &tile, &lane);
    std::memcpy(TileOf(w, matrix, tile) + Offset(w->storage, lane, input), src + i * bytes, bytes);
  }
}

}  // namespace

void Locate(const dsopt_be_weight& w, uint64_t output, uint64_t* tile, uint64_t* lane) {
  if (w.kind == DSOPT_WEIGHT_GATE_UP) {
    const uint64_t inner = w.outputs / 2;
    const bool up = output >= inner;
    const uint64_t index = up ? output - inner : output;
    *tile = index / 32;
    *lane = index % 32 + (up ? 32 : 0);
  } else {
    *tile = output / kTileRows;
    *lane = output % kTileRows;
  }
}

bool OutputAt(const dsopt_be_weight& w, uint64_t tile, uint64_t lane, uint64_t* output) {
  if (w.kind == DSOPT_WEIGHT_GATE_UP) {
    const uint64_t inner = w.outputs / 2, index = tile * 32 + lane % 32;
    *output = lane < 32 ? index : inner + index;
    return index < inner;
  }
  *output = tile * kTileRows + lane;
  return *output < w.outputs;
}

void PackElements(dsopt_be_weight* w, uint64_t first, uint64_t count, const void* data) {
  const uint8_t* src = static_cast<const uint8_t*>(data);
  const uint64_t bytes = StorageBytes(w->written);
  if (w->kind == DSOPT_WEIGHT_VECTOR) {
    for (uint64_t i = 0; i < count; ++i) {
      reinterpret_cast<float*>(w->data)[first + i] = ReadValue(src + i * bytes, w->written);
    }
    return;
  }
  if (!w->packed) {
    if (count > 0) std::memcpy(w->data + first * bytes, src, count * bytes);
    return;
  }
  while (count > 0) {
    const uint64_t row = first / w->cols, col = first % w->cols;
    const uint64_t matrix = row / w->rows, row_in = row % w->rows;
    uint64_t done = Min(w->cols - col, count);
    if (w->kind == DSOPT_WEIGHT_TRANSPOSED) {
      PackColumn(w, matrix, row_in, col, done, src);
    } else if (col == 0 && count >= 16 * w->cols && row_in + 16 <= w->rows &&
               PackRows16(w, matrix, row_in, src)) {
      done = 16 * w->cols;
    } else {
      PackRow(w, matrix, row_in, col, done, src);
    }
    first += done;
    count -= done;
    src += done * bytes;
  }
}

void GatherRow(const dsopt_be_weight* table, uint64_t row, float scale, float* dst) {
  if (table->coded.on) return GatherCodedRow(table, row, scale, dst);
  const uint64_t bytes = StorageBytes(table->storage);
  if (!table->packed) {
    const uint8_t* src = table->data + row * table->cols * bytes;
    for (uint64_t i = 0; i < table->cols; ++i) dst[i] = ReadValue(src + i * bytes, table->storage) * scale;
    return;
  }
  const uint8_t* base = Tile(table, 0, row / kTileRows);
  for (uint64_t i = 0; i < table->cols; ++i) {
    dst[i] = ReadValue(base + Offset(table->storage, row % kTileRows, i), table->storage) * scale;
  }
}

}  // namespace dsopt_cpu
