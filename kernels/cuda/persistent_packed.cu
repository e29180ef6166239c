// persistent_packed.cu - the persistent decode step with encoded weights and a bf16 cache, and which formats a
// model may have. What the step is: persistent_dense.cu.
//
// bytes   codes once, the cache once      bound: DRAM; int4 near the issue rate of the eight consumer warps
#include "persistent/shapes.cuh"

namespace dsopt_cuda {

bool DensePackedSupported(const DenseShape& shape) {
  const bool int8_head = shape.head_packing == Packing::kInt8;
  const bool head = shape.packing == Packing::kInt4  ? int8_head
                    : shape.packing == Packing::kFp8 ? int8_head || shape.head_packing == Packing::kFp8
                                                     : shape.head_packing == shape.packing;
  const bool grouped = shape.group == Int4::kGroup || shape.group == Int4By64::kGroup;
  return head && grouped == (shape.packing == Packing::kInt4) &&
         shape.vocab % kBlockRows == 0 && persistent::MatchesAny(shape);
}

cudaError_t DensePackedDecode(const Launch& launch, const DenseShape& shape, const DenseStep& step) {
  return persistent::RunPacked<CacheCode::kPlain>(launch, shape, step);
}

}  // namespace dsopt_cuda
