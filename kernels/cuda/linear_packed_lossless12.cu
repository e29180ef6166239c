// linear_packed_lossless12.cu - products with lossless12 weights: see linear_packed.cuh, linear_tiled.cuh.
#include "linear_packed.cuh"
#include "linear_tiled.cuh"

namespace dsopt_cuda {

cudaError_t LinearLossless12(const Launch& launch, const StreamLinear& p) {
  if (p.args.image_pitch == kTiledPitch) return StartTiledRows<Lossless12, 128>(launch, p);
  return StartPackedRows<Lossless12, 64>(launch, p);
}

}  // namespace dsopt_cuda
