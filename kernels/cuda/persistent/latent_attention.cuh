// latent_attention.cuh - absorbed attention of the persistent latent step. All heads share one key per position, which is
// also the value, so a CTA takes a group of heads over a range of keys: the keys come through the ring once per group.
// Partial results go to global memory, where the CTA of a head merges them and adds the current token, whose key is not in
// the cache yet.
//
// bytes  keys * 1152 * head groups from L2, once from DRAM; partial results 2 KiB a head and split, through L2
// work   S = Q K^T and O += P V on mma.m16n8k16; a step is 32 keys: the warps of 16 heads share the scores, then each has
//        all of them and its part of the 512 outputs
// bound  shared memory: queries, keys and values cross it for every step
#ifndef DSOPT_CUDA_PERSISTENT_LATENT_ATTENTION_CUH_
#define DSOPT_CUDA_PERSISTENT_LATENT_ATTENTION_CUH_

#include "persistent/latent_consumer.cuh"

namespace dsopt_cuda::persistent {

inline constexpr int kPartialWidth = kLatent + 4;  // outputs, maximum, sum

template <typename S>
struct LatentAttention : LatentConsumer<S> {
  using Base = LatentConsumer<S>;
  using Base::Barrier, Base::Hint, Base::NextSlot, Base::WaitHint;
  using Base::my, Base::tid, Base::slot, Base::parity;

  static constexpr int kHeadTiles = S::kAttentionHeads / 16, kWarps = kConsumerWarps / kHeadTiles;  // of 16 heads
  static constexpr int kKeyTiles = kBlockKeys / 8, kScoreTiles = kWarps < kKeyTiles ? kKeyTiles / kWarps : 1;
  static constexpr int kOuts = kLatent / kWarps / 8;  // columns of a warp, in eights
  static constexpr int kScoreBuffer = S::kAttentionHeads * kScorePitch;

  __device__ float* Partial(int layer, int head, int split) const {
    const int most = KeyRange<S>::Splits(1 << 24, my.ctas);
    return my.step.partial +
           ((static_cast<size_t>(layer % kPartialSets) * S::kHeads + head) * most + split) * kPartialWidth;
  }
  __device__ float ScoreScale() const { return my.step.score_scale * 1.4426950408889634f; }

  // Queries of a group of heads, bf16, into the area.
  __device__ void StageQueries(const float* query) const {
    constexpr int kVectors = kKeyBytes / 16;
    for (int i = tid; i < S::kAttentionHeads * kVectors; i += kConsumers) {
      uint4 v;
      do v = LoadRelaxedWords4(query + 4 * i);
      while (Unwritten(v));
      *reinterpret_cast<uint4*>(my.shared + S::kAreaAt + i / kVectors * kKeyPitch + i % kVectors * 16) = v;
    }
  }
  // Zeroes the keys from `count` on: they were never copied and may be anything, NaNs too, and zero times NaN is not zero.
  __device__ void ClearKeys(int at_slot, int count) const {
    constexpr int kVectors = kKeyBytes / 16;
    for (int i = tid; i < (kSlotKeys - count) * kVectors; i += kConsumers)
      *reinterpret_cast<uint4*>(my.shared + at_slot * S::kSlotBytes + (count + i / kVectors) * kKeyPitch +
                                i % kVectors * 16) = make_uint4(0, 0, 0, 0);
  }
  // Scores of 16 heads with 8 keys at shared address `keys`.
  __device__ __forceinline__ void Scores(uint32_t queries, uint32_t keys, float (&s)[4]) const {
    const int lane = tid % 32;
    const uint32_t q = queries + static_cast<uint32_t>(lane % 16 * kKeyPitch + lane / 16 * 16);
    const uint32_t k = keys + static_cast<uint32_t>(lane % 8 * kKeyPitch + lane / 8 * 16);
    float other[4] = {};
    s[0] = s[1] = s[2] = s[3] = 0;
#pragma unroll 6
    for (int i = 0; i < kLatentWidth / 32; ++i) {
      const uint4 b = LoadMatrix(k + static_cast<uint32_t>(i * 64));
      const uint4 a0 = LoadMatrix(q + static_cast<uint32_t>(i * 64)), a1 = LoadMatrix(q + static_cast<uint32_t>(i * 64 + 32));
      Mma(s, a0.x, a0.y, a0.z, a0.w, b.x, b.y);
      Mma(other, a1.x, a1.y, a1.z, a1.w, b.z, b.w);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) s[i] += other[i];
  }

  __device__ void Attend(int layer, int position, const float* query, int phase) {
    const KeyRange<S> range(position, my.cta, my.ctas);
    if (range.first >= range.end) return;
    const int lane = tid % 32, warp = tid / 32, head_tile = warp / kWarps, turn = warp % kWarps;
    const float c = ScoreScale();
    WaitHint(phase, S::kHeads);
    StageQueries(query + static_cast<size_t>(range.group) * S::kAttentionHeads * kLatentWidth / 2);
    Barrier();
    const uint32_t queries = SmemAddress(my.shared) + static_cast<uint32_t>(S::kAreaAt + head_tile * 16 * kKeyPitch);
    float out[kOuts][4] = {}, peak[2] = {-INFINITY, -INFINITY}, sum[2] = {};
    int buffer = 0;
#pragma unroll 1
    for (int key0 = range.first; key0 < range.end; key0 += kBlockKeys, buffer ^= 1) {
      const int count = min(kBlockKeys, range.end - key0), next = slot + 1 == S::kSlots ? 0 : slot + 1;
      const bool second = count > kSlotKeys;
      BarrierWait(my.full(slot), parity);
      if (second) BarrierWait(my.full(next), next == 0 ? parity ^ 1 : parity);
      if (count < kBlockKeys) {
        if (count % kSlotKeys != 0) ClearKeys(second ? next : slot, count % kSlotKeys);
        Barrier();
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");  // before the copy that will fill the slot again
      }
      float* scores = my.floats(S::kScoresAt) + buffer * kScoreBuffer + head_tile * 16 * kScorePitch;
#pragma unroll
      for (int t = 0; t < kScoreTiles; ++t) {
        const int tile = turn * kScoreTiles + t;
        if (tile >= kKeyTiles || (tile >= kKeyTiles / 2 && !second)) continue;
        const uint32_t keys = my.slot(tile < kKeyTiles / 2 ? slot : next) + static_cast<uint32_t>(tile % 2 * 8 * kKeyPitch);
        float s[4];
        Scores(queries, keys, s);
        float* to = scores + lane / 4 * kScorePitch + tile * 8 + lane % 4 * 2;
        *reinterpret_cast<float2*>(to) = {s[0], s[1]};
        *reinterpret_cast<float2*>(to + 8 * kScorePitch) = {s[2], s[3]};
      }
      Barrier();
      uint32_t p[kKeyTiles][2];
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        float s[kKeyTiles][2], top = peak[h];
#pragma unroll
        for (int j = 0; j < kKeyTiles; ++j) {
          const int key = j * 8 + lane % 4 * 2;
          const float2 two = *reinterpret_cast<const float2*>(scores + (lane / 4 + 8 * h) * kScorePitch + key);
          s[j][0] = key < count ? two.x : -INFINITY;
          s[j][1] = key + 1 < count ? two.y : -INFINITY;
          top = fmaxf(top, fmaxf(s[j][0], s[j][1]));
        }
        top = fmaxf(top, __shfl_xor_sync(~0u, top, 1));
        top = fmaxf(top, __shfl_xor_sync(~0u, top, 2));
        const float fade = Exp2((peak[h] - top) * c);  // the first time exp2(-inf)
        peak[h] = top;
        sum[h] *= fade;
#pragma unroll
        for (int i = 0; i < kOuts; ++i) out[i][2 * h] *= fade, out[i][2 * h + 1] *= fade;
#pragma unroll
        for (int j = 0; j < kKeyTiles; ++j) {
          p[j][h] = PackBf16(Exp2((s[j][0] - top) * c), Exp2((s[j][1] - top) * c));
          sum[h] += __uint_as_float(p[j][h] << 16) + __uint_as_float(p[j][h] & 0xffff0000u);
        }
      }
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        if (k == 1 && !second) break;
        const uint32_t values = my.slot(k == 0 ? slot : next) +
                                static_cast<uint32_t>((lane / 8 % 2 * 8 + lane % 8) * kKeyPitch + (turn * kOuts + lane / 16) * 16);
#pragma unroll
        for (int i = 0; i < kOuts; i += 2) {
          const uint4 b = LoadMatrixTransposed(values + static_cast<uint32_t>(i * 16));
          Mma(out[i], p[2 * k][0], p[2 * k][1], p[2 * k + 1][0], p[2 * k + 1][1], b.x, b.y);
          Mma(out[i + 1], p[2 * k][0], p[2 * k][1], p[2 * k + 1][0], p[2 * k + 1][1], b.z, b.w);
        }
      }
      NextSlot();
      if (second) NextSlot();
    }
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      sum[h] += __shfl_xor_sync(~0u, sum[h], 1);
      sum[h] += __shfl_xor_sync(~0u, sum[h], 2);
      const int head = range.group * S::kAttentionHeads + head_tile * 16 + lane / 4 + 8 * h;
      float* to = Partial(layer, head, range.split);
#pragma unroll
      for (int i = 0; i < kOuts; ++i)
        StoreRelaxed2(to + (turn * kOuts + i) * 8 + lane % 4 * 2, out[i][2 * h], out[i][2 * h + 1]);
      if (turn == 0 && lane % 4 == 0) StoreRelaxed2(to + kLatent, peak[h], sum[h]);
    }
    Barrier();  // the area is free again
  }

  // Score of the current token with this CTA's head: into the factors, behind those of the splits. One warp.
  __device__ void ScoreToken() const {
    const float *token = my.floats(S::kTokenAt), *key = my.floats(S::kHeadKeyAt);
    float score = 0;
    for (int i = tid % 32; i < kLatentWidth; i += 32) score = fmaf(Rounded(key[i]), token[i], score);
    score = WarpSum(score);
    if (tid % 32 == 0) my.floats(S::kFactorsAt)[kMaxSplits] = score;
  }

  // This CTA's head: the context vector out of all partial results and the current token, in place of the head's key.
  // Marks the partial results unwritten for the layer that will use them kPartialSets layers on. Ends with a Barrier.
  __device__ const float* MergeHead(int layer, int position) {
    const int lane = tid % 32, splits = KeyRange<S>::Splits(position, my.ctas);
    float *factors = my.floats(S::kFactorsAt), *context = my.floats(S::kHeadKeyAt);
    float* partial = Partial(layer, my.cta, 0);
    const float c = ScoreScale(), mark = __uint_as_float(kUnwritten);
    if (tid < 32) {
      constexpr int kMost = kMaxSplits / 32;
      const float score = factors[kMaxSplits];
      float2 e[kMost];
      float top = score;
#pragma unroll
      for (int i = 0; i < kMost; ++i) {
        e[i] = {-INFINITY, 0};
        if (lane + 32 * i >= splits) continue;
        float* from = partial + static_cast<size_t>(lane + 32 * i) * kPartialWidth + kLatent;
        do e[i] = LoadRelaxed2(from);
        while (Unwritten(e[i].x) || Unwritten(e[i].y));
        StoreRelaxed2(from, mark, mark);
        top = fmaxf(top, e[i].x);
      }
      top = WarpMax(top);
      float sum = 0;
#pragma unroll
      for (int i = 0; i < kMost; ++i) {
        const float factor = Exp2((e[i].x - top) * c);
        sum = fmaf(e[i].y, factor, sum);
        factors[lane + 32 * i] = factor;
      }
      sum = WarpSum(sum);
      if (lane == 0) {
        const float own = Exp2((score - top) * c);
        factors[kMaxSplits + 1] = own;
        factors[kMaxSplits + 2] = 1.0f / (sum + own);
      }
    }
    Barrier();
    constexpr int kBatch = 8;
    const float own = factors[kMaxSplits + 1];
    const float2 token = reinterpret_cast<const float2*>(my.floats(S::kTokenAt))[tid];
    float2 sum = {own * token.x, own * token.y};
#pragma unroll 1
    for (int s0 = 0; s0 < splits; s0 += kBatch) {
      float2 v[kBatch];
      bool again = false, first = true;
      do {
        again = false;
#pragma unroll
        for (int i = 0; i < kBatch; ++i) {
          if (s0 + i >= splits) v[i] = {0, 0};
          else if (first || Unwritten(v[i].x) || Unwritten(v[i].y))
            v[i] = LoadRelaxed2(partial + static_cast<size_t>(s0 + i) * kPartialWidth + 2 * tid);
        }
#pragma unroll
        for (int i = 0; i < kBatch; ++i) again |= Unwritten(v[i].x) || Unwritten(v[i].y);
        first = false;
      } while (again);
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        if (s0 + i >= splits) continue;
        const float factor = factors[s0 + i];
        sum.x = fmaf(v[i].x, factor, sum.x);
        sum.y = fmaf(v[i].y, factor, sum.y);
        StoreRelaxed2(partial + static_cast<size_t>(s0 + i) * kPartialWidth + 2 * tid, mark, mark);
      }
    }
    const float inverse = factors[kMaxSplits + 2];
    reinterpret_cast<float2*>(context)[tid] = {sum.x * inverse, sum.y * inverse};
    Barrier();
    return context;
  }
};

}  // namespace dsopt_cuda::persistent
#endif  // DSOPT_CUDA_PERSISTENT_LATENT_ATTENTION_CUH_
