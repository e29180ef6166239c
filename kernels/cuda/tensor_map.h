// tensor_map.h - the copy engine's description of a bf16 matrix (CUDA driver API, "Tensor Map Object Management"):
// boxes of 64 x 64 values, written to shared memory in 128-byte rows with the 128-byte swizzle.
#ifndef DSOPT_CUDA_TENSOR_MAP_H_
#define DSOPT_CUDA_TENSOR_MAP_H_

#include <cuda.h>

#include <cstdint>

namespace dsopt_cuda {

inline constexpr int kBoxRows = 64, kBoxColumns = 64, kBoxBytes = kBoxRows * kBoxColumns * 2;

// false: the driver or the shape does not allow it (columns not a multiple of 8, a driver without the call).
bool DescribeRows(const void* data, uint64_t rows, uint64_t columns, CUtensorMap* out);

}  // namespace dsopt_cuda
#endif  // DSOPT_CUDA_TENSOR_MAP_H_
