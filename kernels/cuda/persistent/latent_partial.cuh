// latent_partial.cuh - partial results of the latent step's attention: where they lie in global memory, and
// what each split counts for when the CTA of a head merges them.
#ifndef DSOPT_CUDA_PERSISTENT_LATENT_PARTIAL_CUH_
#define DSOPT_CUDA_PERSISTENT_LATENT_PARTIAL_CUH_

#include "persistent/latent_consumer.cuh"

namespace dsopt_cuda::persistent {

// A partial result, in words: outputs as pairs of bf16, maximum, sum. Outputs lie in the order in which lanes
// have them: vector 4 b + l, of 16 bytes, has columns 32 b + 2 l and + 1, and those 8, 16 and 24 further on.
inline constexpr int kPartialSums = kLatent / 2, kPartialWidth = kPartialSums + 4;

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
  using Base::Barrier, Base::my, Base::tid;
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

  // The context vector of this CTA's head out of its partial results and the current token, in place of the
  // head's key. Four sets of threads have all columns, and every fourth split. marked: results are awaited, and
  // marked unwritten for the layer that will use their place next. Ends with a Barrier.
  __device__ __forceinline__ const float* Merge(float* partial, int splits, bool marked) const {
    constexpr int kSets = 4, kSetThreads = kConsumers / kSets, kBatch = 17;
    static_assert(kSetThreads * 8 == kLatent);
    const int set = tid / kSetThreads, vector = tid % kSetThreads, lane = tid % 32;
    float4 mark = {__uint_as_float(kUnwritten), __uint_as_float(kUnwritten), __uint_as_float(kUnwritten),
                   __uint_as_float(kUnwritten)};
    asm("" : "+f"(mark.x), "+f"(mark.y), "+f"(mark.z), "+f"(mark.w));  // once, not before every store
    const float* factors = my.floats(S::kFactorsAt);
    float sum[kVec] = {};
    int first = set;
    // One turn at least, and the barrier in the first one.
#pragma unroll 1
    do {
      const bool sums = first < kSets && tid < 32;
      const int n = (splits - first + kSets - 1) / kSets;  // of this set, from here on
      float *mine = partial + first * kPartialWidth + 4 * vector,
            *pairs = partial + lane * kPartialWidth + kPartialSums;
      uint4 v[kBatch];
      float2 of[kMost];
      bool again;
      // All are asked for at once.
#pragma unroll 1
      do {
        again = false;
#pragma unroll
        for (int i = 0; i < kBatch; ++i)
          v[i] = i < n ? LoadRelaxedWords4(mine + i * (kSets * kPartialWidth)) : make_uint4(0, 0, 0, 0);
#pragma unroll
        for (int i = 0; i < kMost; ++i)
          of[i] = sums && lane + 32 * i < splits ? LoadRelaxed2(pairs + i * (32 * kPartialWidth))
                                                 : float2{-INFINITY, 0};
        if (marked) {
#pragma unroll
          for (int i = 0; i < kBatch; ++i) again |= Unwritten(v[i]);
#pragma unroll
          for (int i = 0; i < kMost; ++i) again |= Unwritten(of[i].x) || Unwritten(of[i].y);
        }
      } while (again);
      if (sums) {
#pragma unroll
        for (int i = 0; i < kMost; ++i)
          if (marked && lane + 32 * i < splits) StoreRelaxed2(pairs + i * (32 * kPartialWidth), mark.x, mark.y);
        PutFactors(of);
      }
      if (first < kSets) Barrier();
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        if (i >= n) break;
        const float factor = factors[first + kSets * i];
        float x[kVec];
        Expand(v[i], x);
#pragma unroll
        for (int j = 0; j < kVec; ++j) sum[j] = fmaf(x[j], factor, sum[j]);
        if (marked) StoreRelaxed4(mine + i * (kSets * kPartialWidth), mark);
      }
      first += kSets * kBatch;
    } while (first < splits);
    float2* exchange = reinterpret_cast<float2*>(my.shared + S::kAreaAt);
#pragma unroll
    for (int j = 0; j < kVec / 2; ++j)
      exchange[set * (kLatent / 2) + vector / 4 * 16 + vector % 4 + 4 * j] = {sum[2 * j], sum[2 * j + 1]};
    Barrier();
    const float own = factors[kMaxSplits + 1], inverse = factors[kMaxSplits + 2];
    const float2 token = reinterpret_cast<const float2*>(my.floats(S::kTokenAt))[tid];
    float2 all = {own * token.x, own * token.y};
#pragma unroll
    for (int i = 0; i < kSets; ++i) {
      const float2 x = exchange[i * (kLatent / 2) + tid];
      all.x += x.x, all.y += x.y;
    }
    float* context = my.floats(S::kHeadKeyAt);
    reinterpret_cast<float2*>(context)[tid] = {all.x * inverse, all.y * inverse};
    Barrier();
    return context;
  }
};

}  // namespace dsopt_cuda::persistent
#endif  // DSOPT_CUDA_PERSISTENT_LATENT_PARTIAL_CUH_
