// linear_stream.h - products whose weights stream through shared memory: what their launchers take. One file per format
// instantiates them, so that they compile side by side.
#ifndef DSOPT_CUDA_LINEAR_STREAM_H_
#define DSOPT_CUDA_LINEAR_STREAM_H_

#include "launch.h"
#include "packed.h"

namespace dsopt_cuda {

// Sizes that a launch derives from the layout once. A unit is a slot's columns of a panel; the last one of a
// row may be shorter.
struct StreamGeometry {
  int blocks, panels, units_per_group, last_columns;
  uint32_t chunk_bytes, unit_bytes, last_unit_bytes, last_input_bytes;
  uint32_t inputs_at;                  // of the input rows in a slot
  uint32_t input_pitch, input_chunk;  // bytes from a row to the next there, and from a chunk's columns to the next's
  int64_t block_bytes, matrix_bytes;
};

struct StreamLinear {
  LinearArgs args;
  PackedWeight weight;
  float* partial;           // PackedPartialFloats: sums of groups that several CTAs share
  uint32_t* arrived;        // [(2 sms + 1) * 32], zero between launches
  StreamGeometry geometry;  // this and the next: set by the launcher
  int slots, slot_bytes;    // of the ring
};

cudaError_t LinearLossless12(const Launch& launch, const StreamLinear& p);
cudaError_t LinearInt8(const Launch& launch, const StreamLinear& p);
cudaError_t LinearFp8(const Launch& launch, const StreamLinear& p);
cudaError_t LinearInt4(const Launch& launch, const StreamLinear& p);

}  // namespace dsopt_cuda
#endif  // DSOPT_CUDA_LINEAR_STREAM_H_
