// tensor_map.cc - see tensor_map.h.
#include "tensor_map.h"

namespace dsopt_cuda {

void* FindTensorMapEncoder() {
  void* entry = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION >= 12050
  const cudaError_t error =
      cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000, cudaEnableDefault, &found);
#else
  const cudaError_t error =
      cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &entry, cudaEnableDefault, &found);
#endif
  if (error != cudaSuccess) cudaGetLastError();
  return error == cudaSuccess && found == cudaDriverEntryPointSuccess ? entry : nullptr;
}

namespace {

// A tensor of bf16 in `rank` dimensions, the innermost first; strides of all but that one, in bytes.
bool Encode(const Limits& limits, const void* base, uint32_t rank, const cuuint64_t* extents,
            const cuuint64_t* strides, const cuuint32_t* box, CUtensorMap* map) {
  if (limits.tensor_map_encoder == nullptr) return false;
  const auto encode = reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(limits.tensor_map_encoder);
  const cuuint32_t steps[3] = {1, 1, 1};
  return encode(map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, rank, const_cast<void*>(base), extents, strides, box,
                steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

}  // namespace

bool MakeTensorMap(const Limits& limits, const void* base, uint64_t rows, uint64_t columns, uint32_t box_rows,
                   CUtensorMap* map) {
  const cuuint64_t extents[2] = {columns, rows}, strides[1] = {columns * 2};
  const cuuint32_t box[2] = {64, box_rows};
  return Encode(limits, base, 2, extents, strides, box, map);
}

bool MakePanelMap(const Limits& limits, const void* base, uint64_t rows, uint64_t columns, uint32_t box_rows,
                  uint32_t boxes, CUtensorMap* map) {
  const cuuint64_t extents[3] = {64, rows, columns / 64}, strides[2] = {columns * 2, 128};
  const cuuint32_t box[3] = {64, box_rows, boxes};
  return Encode(limits, base, 3, extents, strides, box, map);
}

}  // namespace dsopt_cuda
