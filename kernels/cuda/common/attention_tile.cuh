// attention_tile.cuh - the arithmetic of prefill attention for one warp: 16 query rows of one head against tiles of 64
// keys and values in shared memory, online softmax, all on mma.m16n8k16.
#ifndef DSOPT_CUDA_COMMON_ATTENTION_TILE_CUH_
#define DSOPT_CUDA_COMMON_ATTENTION_TILE_CUH_

#include "common/ptx.cuh"

namespace dsopt_cuda {

// 16-byte chunk c of row r; rows of kDim * 2 bytes, ldmatrix reads 8 rows without conflicts.
template <int kDim>
__device__ __forceinline__ uint32_t TileAt(uint32_t base, int r, int c) {
  return base + r * (kDim * 2) + ((c ^ (r & 7)) << 4);
}

template <int kDim>
struct AttentionTile {
  static constexpr int kSteps = kDim / 16;
  // Of rows lane / 4 and lane / 4 + 8: outputs of dimensions 8 j + 2 (lane % 4) and the next one, maximum (raw score),
  // sum (this lane's share until Finish).
  float out[kDim / 8][4], m[2], l[2];
  uint4 fq[kSteps];

  __device__ __forceinline__ void Reset() {
    m[0] = m[1] = -INFINITY;
    l[0] = l[1] = 0;
#pragma unroll
    for (int j = 0; j < kDim / 8; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) out[j][e] = 0;
  }
  // Rows 16 warp .. of the queries at shared address base_q.
  __device__ __forceinline__ void LoadQueries(uint32_t base_q, int warp, int lane) {
#pragma unroll
    for (int ks = 0; ks < kSteps; ++ks)
      fq[ks] = LoadMatrix(TileAt<kDim>(base_q, warp * 16 + lane % 16, 2 * ks + lane / 16));
  }
  // One tile of keys at at_k, values at at_v. c: scale in units of log2(e). partly: some pairs are masked;
  // mask(key of the tile, row of the warp, score) makes their score -inf.
  template <typename Mask>
  __device__ __forceinline__ void Step(uint32_t at_k, uint32_t at_v, float c, int lane, bool partly, Mask mask) {
    float s[8][4] = {};
#pragma unroll
    for (int ks = 0; ks < kSteps; ++ks) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const uint4 b = LoadMatrix(TileAt<kDim>(at_k, 16 * j + lane / 16 * 8 + lane % 8, 2 * ks + lane / 8 % 2));
        Mma(s[2 * j], fq[ks].x, fq[ks].y, fq[ks].z, fq[ks].w, b.x, b.y);
        Mma(s[2 * j + 1], fq[ks].x, fq[ks].y, fq[ks].z, fq[ks].w, b.z, b.w);
      }
    }
    if (partly) {
#pragma unroll
      for (int j = 0; j < 8; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e)
          mask(8 * j + lane % 4 * 2 + e % 2, lane / 4 + 8 * (e / 2), s[j][e]);
    }
    uint32_t pa[8][2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float peak = m[h];
#pragma unroll
      for (int j = 0; j < 8; ++j) peak = fmaxf(peak, fmaxf(s[j][2 * h], s[j][2 * h + 1]));
      peak = fmaxf(peak, __shfl_xor_sync(~0u, peak, 1));
      peak = fmaxf(peak, __shfl_xor_sync(~0u, peak, 2));
      const float safe = peak == -INFINITY ? 0.0f : peak;
      const float fade = Exp2((m[h] - safe) * c);
      m[h] = peak;
      l[h] *= fade;
#pragma unroll
      for (int j = 0; j < kDim / 8; ++j) {
        out[j][2 * h] *= fade;
        out[j][2 * h + 1] *= fade;
      }
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const float e0 = Exp2((s[j][2 * h] - safe) * c), e1 = Exp2((s[j][2 * h + 1] - safe) * c);
        pa[j][h] = PackBf16(e0, e1);
        l[h] += __uint_as_float(pa[j][h] << 16) + __uint_as_float(pa[j][h] & 0xffff0000u);
      }
    }
#pragma unroll
    for (int kk = 0; kk < 4; ++kk) {
#pragma unroll
      for (int d = 0; d < kDim / 16; ++d) {
        const uint4 b =
            LoadMatrixTransposed(TileAt<kDim>(at_v, 16 * kk + lane / 8 % 2 * 8 + lane % 8, 2 * d + lane / 16));
        Mma(out[2 * d], pa[2 * kk][0], pa[2 * kk][1], pa[2 * kk + 1][0], pa[2 * kk + 1][1], b.x, b.y);
        Mma(out[2 * d + 1], pa[2 * kk][0], pa[2 * kk][1], pa[2 * kk + 1][0], pa[2 * kk + 1][1], b.z, b.w);
      }
    }
  }
  // Makes l the rows' sums.
  __device__ __forceinline__ void Finish() {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      l[h] += __shfl_xor_sync(~0u, l[h], 1);
      l[h] += __shfl_xor_sync(~0u, l[h], 2);
    }
  }
};

}  // namespace dsopt_cuda
#endif  // DSOPT_CUDA_COMMON_ATTENTION_TILE_CUH_
