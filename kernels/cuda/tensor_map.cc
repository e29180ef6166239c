#include "tensor_map.h"

#include <cuda_runtime.h>

namespace dsopt_cuda {

// The driver is not linked: the runtime looks the call up.
bool DescribeRows(const void* data, uint64_t rows, uint64_t columns, CUtensorMap* out) {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
  if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault, &result) !=
          cudaSuccess ||
      result != cudaDriverEntryPointSuccess || found == nullptr) {
    cudaGetLastError();
    return false;
  }
  const auto encode = reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(found);
  if (columns % 8 != 0 || rows > UINT32_MAX || columns > UINT32_MAX) return false;
  const cuuint64_t size[2] = {columns, rows}, stride[1] = {columns * 2};
  const cuuint32_t box[2] = {kBoxColumns, kBoxRows}, step[2] = {1, 1};
  return encode(out, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, const_cast<void*>(data), size, stride, box, step,
                CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

}  // namespace dsopt_cuda
