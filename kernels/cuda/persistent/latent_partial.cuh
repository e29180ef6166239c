// latent_partial.cuh - partial results of the latent step's attention: where they lie in global memory, and
// what each split counts for when the CTA of a head merges them.
#ifndef DSOPT_CUDA_PERSISTENT_LATENT_PARTIAL_CUH_
#define DSOPT_CUDA_PERSISTENT_LATENT_PARTIAL_CUH_

#include "persistent/latent_consumer.cuh"

namespace dsopt_cuda::persistent {

inline constexpr int kPartialWidth = kLatent + 4;  // outputs, maximum, sum

// Of groups of heads: [sets][heads][splits][kPartialWidth], unwritten until they are there.
template <typename S>
__host__ __device__ inline int MostGroupSplits(int ctas) {
  return ctas / S::kHeadGroups < kMaxSplits ? ctas / S::kHeadGroups : kMaxSplits;
}
template <typename S>
__host__ __device__ inline uint64_t GroupPartialFloats(int ctas) {
  return uint64_t{kPartialSets} * S::kHeads * static_cast<uint64_t>(MostGroupSplits<S>(ctas)) * kPartialWidth;
}
template <typename S>
__device__ __forceinline__ float* Partial(const LatentCta<S>& my, int layer, int head, int split) {
  return my.step.partial +
         ((static_cast<size_t>(layer % kPartialSets) * S::kHeads + head) * MostGroupSplits<S>(my.ctas) +
          split) *
             kPartialWidth;
}
// Of tiles: behind those of groups, [heads][splits][kPartialWidth], complete when the layer's counter says so.
// One set, so that it stays in L2: once all heads' queries of a layer are there, the layer before is merged.
template <typename S>
__device__ __forceinline__ float* TilePartial(const LatentCta<S>& my, int head, int split) {
  return my.step.partial + GroupPartialFloats<S>(my.ctas) +
         (static_cast<size_t>(head) * PageRange::Most<S>(my.ctas) + split) * kPartialWidth;
}
template <typename S>
uint64_t PartialFloats(int ctas) {
  uint64_t floats = GroupPartialFloats<S>(ctas);
  if constexpr (S::kTiled)
    floats += uint64_t{S::kHeads} * static_cast<uint64_t>(PageRange::Most<S>(ctas)) * kPartialWidth;
  return floats;
}

template <typename S>
struct LatentMerge : LatentConsumer<S> {
  using Base = LatentConsumer<S>;
  using Base::my, Base::tid;
  static constexpr int kMost = kMaxSplits / 32;  // splits of a lane

  __device__ float score_scale() const { return my.step.score_scale * 1.4426950408889634f; }
  // One warp, after the token's score is there. of: maximum and sum of splits lane, lane + 32, ..; -inf and 0
  // of those that are not there. Leaves the factors of the splits, behind them the token's, and 1 / sum.
  __device__ __forceinline__ void PutFactors(const float2 (&of)[kMost]) const {
    float* factors = my.floats(S::kFactorsAt);
    const float score = factors[kMaxSplits], c = score_scale();
    float top = score, sum = 0;
#pragma unroll
    for (int i = 0; i < kMost; ++i) top = fmaxf(top, of[i].x);
    top = WarpMax(top);
#pragma unroll
    for (int i = 0; i < kMost; ++i) {
      const float factor = Exp2((of[i].x - top) * c);
      sum = fmaf(of[i].y, factor, sum);
      factors[tid % 32 + 32 * i] = factor;
    }
    sum = WarpSum(sum);
    if (tid % 32 == 0) {
      const float own = Exp2((score - top) * c);
      factors[kMaxSplits + 1] = own;
      factors[kMaxSplits + 2] = 1.0f / (sum + own);
    }
  }
};

}  // namespace dsopt_cuda::persistent
#endif  // DSOPT_CUDA_PERSISTENT_LATENT_PARTIAL_CUH_
