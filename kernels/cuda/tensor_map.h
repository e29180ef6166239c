// tensor_map.h - tensor maps of bf16 matrices for the copy engine of sm_90: made on the host, by the driver,
// which is found at run time.
#ifndef DSOPT_CUDA_TENSOR_MAP_H_
#define DSOPT_CUDA_TENSOR_MAP_H_

#include <cuda.h>

#include "device.h"

namespace dsopt_cuda {

// The driver's entry, for Limits; null: it has none.
void* FindTensorMapEncoder();
// Boxes of box_rows rows x 64 columns in 128-byte swizzle of a row-major matrix; what lies outside of it reads
// as zero. base: 16-byte aligned; columns: a multiple of 8. False: the driver refused.
bool MakeTensorMap(const Limits& limits, const void* base, uint64_t rows, uint64_t columns, uint32_t box_rows,
                   CUtensorMap* map);

// The same for boxes of `boxes` times that, side by side, one after the other in shared memory. columns: a multiple of 64.
bool MakePanelMap(const Limits& limits, const void* base, uint64_t rows, uint64_t columns, uint32_t box_rows,
                  uint32_t boxes, CUtensorMap* map);

}  // namespace dsopt_cuda
#endif  // DSOPT_CUDA_TENSOR_MAP_H_
