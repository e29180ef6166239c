// linear_packed_fp8.cu - products with fp8 weights: see linear_packed.cuh, linear_tiled.cuh.
#include "linear_packed.cuh"
#include "linear_tiled.cuh"

namespace dsopt_cuda {

cudaError_t LinearFp8(const Launch& launch, const StreamLinear& p) {
  if (p.args.image_pitch == kTiledPitch)
    return p.weight.layout.group == 0 ? StartTiledRows<Fp8, 0>(launch, p) : StartTiledRows<Fp8, 128>(launch, p);
  if (p.weight.layout.group == 0) return StartPackedRows<Fp8, 0>(launch, p);
  return StartPackedRows<Fp8, 64>(launch, p);
}

}  // namespace dsopt_cuda
