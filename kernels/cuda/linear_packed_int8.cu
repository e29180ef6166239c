// linear_packed_int8.cu - products with int8 weights: see linear_packed.cuh, linear_tiled.cuh.
#include "linear_packed.cuh"
#include "linear_tiled.cuh"

namespace dsopt_cuda {

cudaError_t LinearInt8(const Launch& launch, const StreamLinear& p) {
  if (p.args.image_pitch == kTiledPitch) {
    switch (p.weight.layout.group) {
      case 0:
        return StartTiledRows<Int8, 0>(launch, p);
      case 32:
        return StartTiledRows<Int8, 32>(launch, p);
      case 64:
        return StartTiledRows<Int8, 64>(launch, p);
      default:
        return StartTiledRows<Int8, 128>(launch, p);
    }
  }
  switch (p.weight.layout.group) {
    case 0:
      return StartPackedRows<Int8, 0>(launch, p);
    case 16:
      return StartPackedRows<Int8, 16>(launch, p);
    case 32:
      return StartPackedRows<Int8, 32>(launch, p);
    default:
      return StartPackedRows<Int8, 64>(launch, p);
  }
}

}  // namespace dsopt_cuda
