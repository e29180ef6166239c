// attention_latent.cuh - absorbed latent attention (512 + 64) of 64 queries and a page of 64 keys on wgmma: a
// warpgroup scores, others add values, 256 output columns each. Lane i of warp w of the values needs of P just
// what lane i of warp w of the scores has. Orders of registers and of tiles: wgmma.cuh.
#ifndef DSOPT_CUDA_COMMON_ATTENTION_LATENT_CUH_
#define DSOPT_CUDA_COMMON_ATTENTION_LATENT_CUH_

#include "common/wgmma.cuh"

namespace dsopt_cuda {

// A tile of keys is 64 lines; a part of it is 128 columns, what one product of values takes.
struct LatentTile {
  static constexpr int kRows = 64, kKeys = 64, kLatent = 512, kRope = 64, kParts = 4;
  static constexpr int kRowBytes = (kLatent + kRope) * 2;
  static constexpr int kPartColumns = kLatent / kParts, kColumnBytes = kKeys * 128;
  static constexpr int kPartBytes = kPartColumns / 64 * kColumnBytes;
};

#ifdef DSOPT_CUDA_WGMMA

// What the scores' warpgroup keeps. Maxima are raw scores; sums are this lane's share.
struct LatentScores {
  static constexpr int kKeys = LatentTile::kKeys;
  // The outputs' maximum is raised only when a score exceeds it by this factor (log2): P needs no more than
  // f32.
  static constexpr float kSlack = 8;
  float score[kKeys / 2], m[2] = {-INFINITY, -INFINITY}, l[2] = {}, fade[2];
  uint32_t p[kKeys / 4];
  float c;  // scale in units of log2(e)

  __device__ __forceinline__ void Init(float scale) {
    c = scale * 1.4426950408889634f;
#pragma unroll
    for (int i = 0; i < kKeys / 2; ++i) score[i] = 0;
  }
  // score = q k. latents, rope: descriptors of the keys' tiles. wait(part): that part of the latents is there;
  // wait(kParts): the rope part is.
  template <class Wait>
  __device__ __forceinline__ void Multiply(uint64_t queries, uint64_t latents, uint64_t rope, Wait&& wait) {
    constexpr int kPartSteps = LatentTile::kPartColumns / 16, kLatentSteps = LatentTile::kLatent / 16;
    WgmmaTouch(score);
#pragma unroll
    for (int part = 0; part < LatentTile::kParts; ++part) {
      wait(part);
      WgmmaFence();
#pragma unroll
      for (int k = 0; k < kPartSteps; ++k) {
        const int step = part * kPartSteps + k;
        if (step == 0)
          Wgmma<false>(score, queries, latents);
        else
          Wgmma<true>(score, queries + WgmmaKMajorStep<LatentTile::kRows>(step),
                      latents + WgmmaKMajorStep<kKeys>(step));
      }
    }
    wait(LatentTile::kParts);
#pragma unroll
    for (int step = 0; step < LatentTile::kRope / 16; ++step)
      Wgmma<true>(score, queries + WgmmaKMajorStep<LatentTile::kRows>(kLatentSteps + step),
                  rope + WgmmaKMajorStep<kKeys>(step));
    WgmmaCommit();
    WgmmaWait<0>();
    WgmmaTouch(score);
  }
  // Row h of this lane sees keys .. last[h] of the page.
  __device__ __forceinline__ void Mask(const int (&last)[2], int lane) {
#pragma unroll
    for (int h = 0; h < 2; ++h)
#pragma unroll
      for (int j = 0; j < kKeys / 8; ++j)
#pragma unroll
        for (int e = 0; e < 2; ++e)
          if (8 * j + e > last[h] - lane % 4 * 2) score[4 * j + 2 * h + e] = -INFINITY;
  }
  // Sums the probabilities as they are rounded, so that rounding cancels.
  __device__ __forceinline__ void Softmax() {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float peak = score[2 * h], other = score[2 * h + 1];
#pragma unroll
      for (int j = 1; j < kKeys / 8; ++j) {
        peak = fmaxf(peak, score[4 * j + 2 * h]);
        other = fmaxf(other, score[4 * j + 2 * h + 1]);
      }
      peak = fmaxf(peak, other);
      peak = fmaxf(peak, __shfl_xor_sync(~0u, peak, 1));
      peak = fmaxf(peak, __shfl_xor_sync(~0u, peak, 2));
      const bool raise = (peak - m[h]) * c > kSlack;  // false for two infinities
      const float top = raise ? peak : m[h], shift = top == -INFINITY ? 0.0f : -top * c;
      fade[h] = raise ? Exp2(fmaf(m[h], c, shift)) : 1.0f;
      m[h] = top;
      float low = 0, high = 0;
#pragma unroll
      for (int j = 0; j < kKeys / 8; ++j) {
        p[2 * j + h] = PackBf16(Exp2(fmaf(score[4 * j + 2 * h], c, shift)),
                                Exp2(fmaf(score[4 * j + 2 * h + 1], c, shift)));
        low += __uint_as_float(p[2 * j + h] << 16);
        high += __uint_as_float(p[2 * j + h] & 0xffff0000u);
      }
      l[h] = fmaf(l[h], fade[h], low + high);
    }
  }
  // P and the fades of thread `tid` of the warpgroup, as LatentOutputs takes them.
  __device__ __forceinline__ void Put(uint4* probabilities, float2* fades, int tid) const {
#pragma unroll
    for (int k = 0; k < 4; ++k)
      probabilities[k * kWarpgroup + tid] = {p[4 * k], p[4 * k + 1], p[4 * k + 2], p[4 * k + 3]};
    fades[tid] = {fade[0], fade[1]};
  }
  // The sums become those of the rows.
  __device__ __forceinline__ void SumRows() {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      l[h] += __shfl_xor_sync(~0u, l[h], 1);
      l[h] += __shfl_xor_sync(~0u, l[h], 2);
    }
  }
};

// What a values' warpgroup keeps: its 256 columns of the outputs, two parts.
struct LatentOutputs {
  static constexpr int kPartOuts = LatentTile::kPartColumns / 2;
  float out[2][kPartOuts];

  __device__ __forceinline__ void Clear() {
#pragma unroll
    for (int part = 0; part < 2; ++part)
#pragma unroll
      for (int i = 0; i < kPartOuts; ++i) out[part][i] = 0;
  }
  __device__ __forceinline__ void Fade(float2 fade) {
    if (!__any_sync(~0u, fade.x != 1.0f || fade.y != 1.0f)) return;
#pragma unroll
    for (int part = 0; part < 2; ++part)
#pragma unroll
      for (int j = 0; j < kPartOuts; ++j) out[part][j] *= j / 2 % 2 == 0 ? fade.x : fade.y;
  }
  // Adds P V. values: shared address of the first part; read(part): that part has been read.
  template <class Read>
  __device__ __forceinline__ void Add(const uint4 (&p)[4], uint32_t values, Read&& read) {
    WgmmaTouch(out[0]);
    WgmmaTouch(out[1]);
    WgmmaFence();
#pragma unroll
    for (int part = 0; part < 2; ++part) {
      const uint64_t tile = WgmmaMnMajor<LatentTile::kKeys>(values + part * LatentTile::kPartBytes);
#pragma unroll
      for (int k = 0; k < 4; ++k) Wgmma(out[part], p[k].x, p[k].y, p[k].z, p[k].w, tile + WgmmaMnMajorStep(k));
      WgmmaCommit();
    }
    WgmmaWait<1>();
    read(0);
    WgmmaWait<0>();
    WgmmaTouch(out[0]);
    WgmmaTouch(out[1]);
    read(1);
  }
};

#endif  // DSOPT_CUDA_WGMMA

}  // namespace dsopt_cuda
#endif  // DSOPT_CUDA_COMMON_ATTENTION_LATENT_CUH_
