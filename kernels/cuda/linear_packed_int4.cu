// linear_packed_int4.cu - products with int4 weights: see linear_packed.cuh, linear_tiled.cuh.
#include "linear_packed.cuh"
#include "linear_tiled.cuh"

namespace dsopt_cuda {

cudaError_t LinearInt4(const Launch& launch, const StreamLinear& p) {
  if (p.args.image_pitch == kTiledPitch) {
    if (p.weight.layout.group == 32) return StartTiledRows<Int4, 32>(launch, p);
    if (p.weight.layout.group == 64) return StartTiledRows<Int4, 64>(launch, p);
    return StartTiledRows<Int4, 128>(launch, p);
  }
  if (p.weight.layout.group == 32) return StartPackedRows<Int4, 32>(launch, p);
  return StartPackedRows<Int4, 64>(launch, p);
}

}  // namespace dsopt_cuda
