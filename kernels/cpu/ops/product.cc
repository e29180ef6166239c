// product.cc - products with weights as they lie in the caller's memory. A piece of 64 rows is brought into the
// layout of isa/linear.inc in a thread's scratch, and then serves up to kBlockRows rows of activations.
#include <cstring>

#include "ops/op.h"
#include "rows.h"

namespace dsopt_cpu {
namespace {

constexpr uint32_t kPieceInputs = 256;  // a piece of a tile: at most 64 KiB
constexpr uint32_t kBlockRows = 96;     // rows of one unit: their sums are 24 KiB

struct UnitScratch {
  alignas(64) uint8_t tile[kPieceInputs * kTileRows * 4];
  alignas(64) float acc[kBlockRows * kTileRows];
  alignas(64) float gated[kMicroRows * kTileRows];
  alignas(64) float bias[kTileRows];
};

struct Unit {
  uint64_t matrix, tile, first, last;  // rows
};

uint64_t WideOf(const Product& p) { return p.gate ? kTileRows / 2 : kTileRows; }
// Columns that are written: a gated row of odd length is read in pairs, so its pad is written, too.
uint64_t ColumnsOf(const Product& p) { return p.gate ? RoundUp(p.outputs / 2, 2) : p.outputs; }

// Row of the weights behind lane `lane` of a tile; false: there is none.
bool WeightRow(const Product& p, uint64_t tile, uint32_t lane, uint64_t* row) {
  if (!p.gate) {
    *row = tile * kTileRows + lane;
    return *row < p.outputs;
  }
  const uint64_t inner = p.outputs / 2, in_half = tile * 32 + lane % 32;
  *row = in_half + (lane >= 32 ? inner : 0);
  return in_half < inner;
}

// One row's inputs [k, k + count) into its lane, whatever the storage.
void PackLane(Storage storage, const uint8_t* src, uint32_t count, uint32_t lane, uint8_t* tile) {
  if (storage == kF32) {
    for (uint32_t i = 0; i < count; ++i) std::memcpy(tile + (i * kTileRows + lane) * 4, src + i * 4, 4);
  } else if (storage == kF16) {
    for (uint32_t i = 0; i < count; ++i) std::memcpy(tile + (i * kTileRows + lane) * 2, src + i * 2, 2);
  } else {
    for (uint32_t i = 0; i + 1 < count; i += 2)
      std::memcpy(tile + (i / 2 * kTileRows + lane) * 4, src + i * 2, 4);
    if (count % 2 != 0) {
      uint8_t* last = tile + (count / 2 * kTileRows + lane) * 4;
      std::memcpy(last, src + (count - 1) * 2, 2);
      std::memset(last + 2, 0, 2);
    }
  }
}

uint32_t Steps(Storage storage, uint32_t count) { return storage == kBf16 ? (count + 1) / 2 : count; }

// Inputs [k, k + count) of a tile's 64 rows; lanes without a row become zeros.
void PackPiece(const OpContext& c, const Product& p, const Unit& u, uint64_t k, uint32_t count, uint8_t* tile) {
  const uint64_t bytes = StorageBytes(p.storage), row_bytes = p.inputs * bytes;
  const uint8_t* matrix = p.weight + u.matrix * p.outputs * row_bytes + k * bytes;
  const bool words = p.storage == kF32 || (p.storage == kBf16 && count % 2 == 0);
  uint64_t row, last;
  for (uint32_t lane = 0; lane < kTileRows; lane += 16) {
    if (words && WeightRow(p, u.tile, lane, &row) && WeightRow(p, u.tile, lane + 15, &last)) {
      c.k.pack16(reinterpret_cast<const uint32_t*>(matrix + row * row_bytes), row_bytes,
                 static_cast<uint32_t>(count * bytes / 4), reinterpret_cast<uint32_t*>(tile) + lane);
      continue;
    }
    const uint64_t value_bytes = p.storage == kF16 ? 2 : 4;
    for (uint32_t i = lane; i < lane + 16; ++i) {
      if (WeightRow(p, u.tile, i, &row)) {
        PackLane(p.storage, matrix + row * row_bytes, count, i, tile);
      } else {
        for (uint32_t s = 0; s < Steps(p.storage, count); ++s) {
          std::memset(tile + (s * kTileRows + i) * value_bytes, 0, value_bytes);
        }
      }
    }
  }
}

// Sums of some rows to their places. With an activation and no gate, both halves of the tile are gates of ones.
void Finish(const OpContext& c, const Product& p, const Unit& u, const float* acc, uint32_t rows,
            void* const* out, UnitScratch* scratch) {
  const uint64_t column = u.tile * WideOf(p);
  Epilogue e = {};
  e.kind = p.gate ? kGate : kStoreSum;
  e.out = p.out_storage;
  e.gelu = p.activation == DSOPT_ACT_GELU_TANH;
  e.columns = static_cast<uint32_t>(Min(ColumnsOf(p) - column, WideOf(p)));
  e.bias = p.bias != nullptr ? scratch->bias : nullptr;
  if (p.gate || p.activation == DSOPT_ACT_NONE) {
    c.k.epilogue(e, acc, rows, out);
    return;
  }
  e.kind = kGate;
  const uint32_t columns = e.columns;
  for (uint32_t half = 0; half < columns; half += 32) {
    void* at[kMicroRows];
    for (uint32_t r = 0; r < rows; ++r) {
      float* gated = scratch->gated + r * kTileRows;
      std::memcpy(gated, acc + r * kTileRows + half, 32 * sizeof(float));
      for (uint32_t i = 32; i < kTileRows; ++i) gated[i] = 1.0f;
      at[r] = static_cast<uint8_t*>(out[r]) + half * StorageBytes(e.out);
    }
    e.columns = Min(columns - half, 32u);
    if (p.bias != nullptr) e.bias = scratch->bias + half;
    c.k.epilogue(e, scratch->gated, rows, at);
  }
}

void RunUnit(const OpContext& c, const Product& p, const Unit& u, UnitScratch* scratch) {
  const LinearFn function = p.in.half ? c.k.linear_bf16 : c.k.linear[p.storage];
  const uint32_t count = static_cast<uint32_t>(u.last - u.first);
  const uint8_t* rows[kBlockRows];
  void* out[kBlockRows];
  const uint64_t column = u.tile * WideOf(p);
  for (uint32_t r = 0; r < count; ++r) {
    const uint64_t slot = p.order != nullptr ? p.order[u.first + r] : u.first + r;
    rows[r] = p.in.data + slot / p.in_div * p.in.row_bytes;
    out[r] = p.out + slot * p.out_row_bytes + column * StorageBytes(p.out_storage);
  }
  for (uint64_t k = 0; k < p.inputs; k += kPieceInputs) {
    const uint32_t piece = static_cast<uint32_t>(Min<uint64_t>(kPieceInputs, p.inputs - k));
    PackPiece(c, p, u, k, piece, scratch->tile);
    const void* in[kBlockRows];
    for (uint32_t r = 0; r < count; ++r) in[r] = rows[r] + k * (p.in.half ? 2 : 4);
    MultiplyRows(c.k, function, scratch->tile, Steps(p.storage, piece), in, count, scratch->acc, kTileRows,
                 k == 0 ? 0u : kAccumulate);
  }
  if (p.bias != nullptr) {
    const uint64_t columns = Min(ColumnsOf(p) - column, WideOf(p));
    const Storage storage = StorageOf(p.bias->dtype);
    std::memset(scratch->bias, 0, sizeof(scratch->bias));
    Widen(Bytes(p.bias) + column * StorageBytes(storage), storage, columns, scratch->bias);
  }
  for (uint32_t r = 0; r < count; r += kMicroRows) {
    Finish(c, p, u, scratch->acc + r * kTileRows, Min(kMicroRows, count - r), out + r, scratch);
  }
}

}  // namespace

ProductScratch PlanProducts(OpContext* c, uint64_t matrices) {
  ProductScratch scratch;
  scratch.base = c->arena.Take<uint8_t>(uint64_t{c->threads()} * sizeof(UnitScratch));
  scratch.unit_first = c->arena.Take<uint64_t>(matrices + 1);
  return scratch;
}

void RunProduct(const OpContext& c, const Product& p, const ProductScratch& scratch) {
  const uint64_t tiles = DivUp(ColumnsOf(p), WideOf(p));
  uint64_t units = 0;
  const auto rows_of = [&](uint64_t m) { return p.order != nullptr ? p.first[m + 1] - p.first[m] : p.rows; };
  for (uint64_t m = 0; m < p.matrices; ++m) {
    scratch.unit_first[m] = units;
    units += tiles * DivUp(rows_of(m), kBlockRows);
  }
  scratch.unit_first[p.matrices] = units;
  ForEach(c, units, [&](uint64_t index, uint32_t slot) {
    uint64_t low = 0, high = p.matrices;  // the matrix that holds this unit
    while (high - low > 1) {
      const uint64_t middle = (low + high) / 2;
      (scratch.unit_first[middle] <= index ? low : high) = middle;
    }
    const uint64_t start = p.order != nullptr ? p.first[low] : 0;
    const uint64_t blocks = DivUp(rows_of(low), kBlockRows), in_matrix = index - scratch.unit_first[low];
    const uint64_t first = in_matrix % blocks * kBlockRows;
    const Unit unit = {low, in_matrix / blocks, start + first,
                       start + Min<uint64_t>(first + kBlockRows, rows_of(low))};
    RunUnit(c, p, unit, reinterpret_cast<UnitScratch*>(scratch.base) + slot);
  });
}

}  // namespace dsopt_cpu
