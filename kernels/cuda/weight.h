// weight.h - one tensor on the device: how it is laid out, and writing it in any order.
//
// Layouts (rows of `cols` elements, in the written type unless said otherwise):
//   MATRIX, EMBEDDING, EXPERTS  as in the checkpoint
//   GATE_UP                     gate row i at 2 i, up row i at 2 i + 1: one thread of an epilogue owns the pair
//   TRANSPOSED                  [batch, cols, rows], so that y = x W is the same product as every other
//   VECTOR, ROUTER              f32
// Encoded weights: packed.h, weight_encoded.h.
#ifndef DSOPT_CUDA_WEIGHT_H_
#define DSOPT_CUDA_WEIGHT_H_

#include "device.h"
#include "packed.h"

namespace dsopt_cuda {

enum class Elem : uint8_t { kF32 = 0, kF16 = 1, kBf16 = 2, kPacked = 3 };  // kPacked: see packed.h
inline uint32_t ElemBytes(Elem elem) { return elem == Elem::kF32 ? 4 : 2; }

// Where logical element i of [batch, rows, cols] lies.
struct WeightLayout {
  uint64_t batch, rows, cols;
  bool interleaved;  // GATE_UP
  bool transposed;   // TRANSPOSED
};

// The grid of scales of an encoded weight as it is written: one per group_rows x group_columns.
struct ScaleGrid {
  uint64_t rows, columns;  // of the grid, per matrix
  uint32_t group_rows, group_columns;
};

}  // namespace dsopt_cuda

struct dsopt_be_weight {
  dsopt_be_device* device = nullptr;
  dsopt_weight_kind kind = DSOPT_WEIGHT_MATRIX;
  dsopt_cuda::Elem written = dsopt_cuda::Elem::kF32;  // type of what weight_write brings
  dsopt_cuda::Elem elem = dsopt_cuda::Elem::kF32;     // type in device memory
  dsopt_cuda::WeightLayout layout{};
  uint64_t count = 0;  // elements
  uint64_t bytes = 0;
  void* data = nullptr;        // plain: the elements. lossless12: its bf16 rows until it is packed
  bool tied = false;           // EMBEDDING that is also the head's matrix
  char name[96] = {};
  char label[112] = {};        // "weight 'name'": starts every message about it
  // Encoded weights (elem kPacked).
  dsopt_cuda::PackedWeight packed;
  dsopt_cuda::ScaleGrid grid{};
  void* memory = nullptr;            // everything that packed points into
  uint64_t overflow_capacity = 0;
  uint64_t written_count = 0;  // lossless12: elements that have arrived; all of them once it is packed
};

namespace dsopt_cuda {

// The numbers of a VECTOR or ROUTER; null: no weight.
inline const float* VectorOf(const dsopt_be_weight* weight) {
  return weight != nullptr ? static_cast<const float*>(weight->data) : nullptr;
}

dsopt_status WeightBytes(dsopt_be_device* device, const dsopt_weight_desc* desc, uint64_t* bytes);
dsopt_status WeightCreate(dsopt_be_device* device, const dsopt_weight_desc* desc, dsopt_be_weight** out);
dsopt_status WeightWrite(dsopt_be_weight* weight, uint64_t first, uint64_t count, const void* src);
dsopt_status WeightWriteScales(dsopt_be_weight* weight, uint64_t first, uint64_t count, const float* scales,
                               const float* offsets);
dsopt_status WeightFill(dsopt_be_weight* weight, uint64_t seed, float mean, float stddev);
void WeightDestroy(dsopt_be_weight* weight);

}  // namespace dsopt_cuda
#endif  // DSOPT_CUDA_WEIGHT_H_
