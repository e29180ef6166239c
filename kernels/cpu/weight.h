// weight.h - one tensor as the kernels want it. Immutable once written.
#ifndef DSOPT_CPU_WEIGHT_H_
#define DSOPT_CPU_WEIGHT_H_

#include "common.h"
#include "device.h"

// Encoded weights are always packed: coded.h. Others:
// packed kinds: per matrix, tiles of 64 outputs; see isa/kernels.h for the inside of a tile. Outputs beyond the
// last and the odd input are zeros.
//   GATE_UP     tile t holds gate outputs [32 t, 32 t + 32), then up outputs of the same numbers
//   TRANSPOSED  matrix h has latent outputs and nope inputs
//   ROUTER      packed as F32
//   EMBEDDING   tied: packed as a matrix; else plain rows in the written dtype
//   VECTOR      plain F32 with at least 64 zeros behind
namespace dsopt_cpu {

struct LosslessState;  // lossless.cc

// Of a weight with an encoding; see coded.h.
struct CodedForm {
  bool on;
  Code code;
  uint32_t half_scales, offsets;
  uint64_t group_rows, group_cols;  // never 0
  uint64_t groups_down, groups_across;
  uint64_t group_steps;  // of a block
  uint64_t head_bytes, block_bytes;
  LosslessState* lossless;       // while it is written
  const Escape* escapes;         // LOSSLESS12: all, by tile and step
  const uint32_t* escape_first;  // [batch * tiles + 1]
  Memory escape_memory;
};

}  // namespace dsopt_cpu

struct dsopt_be_weight {
  dsopt_be_device* device;
  dsopt_weight_kind kind;
  dsopt_cpu::Storage written;  // of the data that weight_write brings
  dsopt_cpu::Storage storage;  // in memory
  bool packed;
  uint32_t tied;
  uint64_t batch, rows, cols;  // logical shape
  uint64_t outputs, inputs;    // of one matrix
  uint64_t tiles;              // of one matrix
  uint64_t steps;              // of a tile: pairs of inputs (BF16), else inputs
  uint64_t tile_bytes, matrix_bytes;
  uint64_t bytes;  // all of it
  dsopt_cpu::CodedForm coded;
  uint8_t* data;
  dsopt_cpu::Memory memory;  // this struct
  dsopt_cpu::Memory values;
  char name[96];
};

namespace dsopt_cpu {

dsopt_status WeightBytes(dsopt_be_device* device, const dsopt_weight_desc* desc, uint64_t* bytes);
dsopt_status WeightCreate(dsopt_be_device* device, const dsopt_weight_desc* desc, dsopt_be_weight** out);
dsopt_status WeightWrite(dsopt_be_weight* weight, uint64_t first_element, uint64_t count, const void* src);
dsopt_status WeightFill(dsopt_be_weight* weight, uint64_t seed, float mean, float stddev);
dsopt_status WeightFinish(dsopt_be_device* device);
void WeightDestroy(dsopt_be_weight* weight);

// Tile and place inside the tile of a matrix's output.
void Locate(const dsopt_be_weight& w, uint64_t output, uint64_t* tile, uint64_t* lane);
// Output of a place; false: a place without one.
bool OutputAt(const dsopt_be_weight& w, uint64_t tile, uint64_t lane, uint64_t* output);
// Sets what follows from kind, shape and storage of a weight without an encoding.
void DescribePlain(dsopt_be_weight* w);

// Writes checked elements [first, first + count) (pack.cc).
void PackElements(dsopt_be_weight* weight, uint64_t first, uint64_t count, const void* src);

// Row `row` of an EMBEDDING times scale into dst [cols].
void GatherRow(const dsopt_be_weight* table, uint64_t row, float scale, float* dst);

inline const uint8_t* Tile(const dsopt_be_weight* weight, uint64_t matrix, uint64_t tile) {
  return weight->data + matrix * weight->matrix_bytes + tile * weight->tile_bytes;
}

}  // namespace dsopt_cpu
#endif  // DSOPT_CPU_WEIGHT_H_
