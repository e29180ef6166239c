// norm.cc - rmsnorm of the caller's rows.
#include "ops/op.h"

namespace dsopt_cpu {

dsopt_status OpRmsNorm(OpContext* c, const dsopt_rmsnorm_args& a) {
  const uint64_t hidden = Extent(a.x, 1), padded = RoundUp(hidden, 64);
  const float* gain = StageVector(c, a.weight);
  float* rows = c->arena.Take<float>(c->threads() * 2 * padded);
  if (c->arena.counting()) return DSOPT_OK;
  ForEach(*c, Extent(a.x, 0), [&](uint64_t row, uint32_t slot) {
    float* y = rows + slot * 2 * padded;
    Widen(Bytes(a.x) + row * Pitch(a.x, 0), StorageOf(a.x->dtype), hidden, y);
    if (a.residual != nullptr) {
      uint8_t* residual = Bytes(a.residual) + row * Pitch(a.residual, 0);
      float* old = y + padded;
      Widen(residual, StorageOf(a.residual->dtype), hidden, old);
      for (uint64_t i = 0; i < hidden; ++i) y[i] += old[i];
      c->k.convert(y, static_cast<uint32_t>(hidden), StorageOf(a.residual->dtype), residual);
    }
    uint8_t* out = Bytes(a.out) + row * Pitch(a.out, 0);
    const bool half = a.out->dtype == DSOPT_BF16;
    c->k.rms_norm(y, gain, a.eps, static_cast<uint32_t>(hidden), static_cast<uint32_t>(hidden),
                  half ? nullptr : reinterpret_cast<float*>(out),
                  half ? reinterpret_cast<uint16_t*>(out) : nullptr);
  });
  return DSOPT_OK;
}

}  // namespace dsopt_cpu
