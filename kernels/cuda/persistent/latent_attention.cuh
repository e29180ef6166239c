// latent_attention.cuh - absorbed attention of the persistent latent step. All heads share one key per
// position, which is also the value, so a CTA takes a group of heads over a range of keys: the keys come
// through the ring once per group. Partial results go to global memory, where the CTA of a head merges them and
// adds the current token, whose key is not in the cache yet. Long contexts: latent_tiles.cuh.
//
// bytes  keys * 1152 * head groups from L2, once from DRAM; partial results 1 KiB a head and split, through L2
// work   S = Q K^T and O += P V on mma.m16n8k16, 16 heads and 32 keys a block. Of a score each warp sums a
// quarter of the
//        576 columns, whose queries it keeps in registers; then each warp takes a few heads' softmax, and then
//        all 16 heads for its part of the 512 outputs. Scores are a block ahead of outputs.
// bound  shared memory: keys and values cross it once for every 16 heads
#ifndef DSOPT_CUDA_PERSISTENT_LATENT_ATTENTION_CUH_
#define DSOPT_CUDA_PERSISTENT_LATENT_ATTENTION_CUH_

#include "persistent/latent_tiles.cuh"

namespace dsopt_cuda::persistent {

template <typename S>
struct LatentAttention : LatentTiles<S> {
  using Base = LatentTiles<S>;
  using Base::Barrier, Base::NextSlot, Base::WaitHint, Base::Hint;
  using Base::my, Base::tid, Base::slot, Base::parity;

  static constexpr int kPartSteps = kLatentWidth / 16 / kScoreParts;  // of 16 columns
  static constexpr int kOuts = kLatent / kConsumerWarps / 8;          // columns of a warp, in eights
  static constexpr int kSoftmaxRows = kAttentionHeads / kConsumerWarps,
                       kRowLanes = 32 / kSoftmaxRows;  // heads of a warp, lanes of a head
  static constexpr int kLaneKeys = kBlockKeys / kRowLanes;
  static_assert(kPartSteps * kScoreParts * 16 == kLatentWidth && kConsumerWarps == 2 * kScoreParts);

  // Queries of a group of heads, bf16, into the area; all words are asked for at once.
  __device__ void StageQueries(const float* query) const {
    constexpr int kVectors = kKeyBytes / 16, kAll = kAttentionHeads * kVectors,
                  kMine = (kAll + kConsumers - 1) / kConsumers;
    uint4 v[kMine];
    bool again;
    do {
      again = false;
#pragma unroll
      for (int j = 0; j < kMine; ++j)
        v[j] = tid + j * kConsumers < kAll ? LoadRelaxedWords4(query + 4 * (tid + j * kConsumers))
                                           : make_uint4(0, 0, 0, 0);
#pragma unroll
      for (int j = 0; j < kMine; ++j) again |= Unwritten(v[j]);
    } while (again);
#pragma unroll
    for (int j = 0; j < kMine; ++j) {
      const int i = tid + j * kConsumers;
      if (i < kAll)
        *reinterpret_cast<uint4*>(my.shared + S::kAreaAt + i / kVectors * kKeyPitch + i % kVectors * 16) = v[j];
    }
  }
  // Zeroes the keys from `count` on: they were never copied and may be anything, NaNs too, and zero times NaN
  // is not zero.
  __device__ void ClearKeys(int at_slot, int count) const {
    constexpr int kVectors = kKeyBytes / 16;
#pragma unroll 1
    for (int i = tid; i < (kSlotKeys - count) * kVectors; i += kConsumers)
      *reinterpret_cast<uint4*>(my.shared + at_slot * S::kSlotBytes + (count + i / kVectors) * kKeyPitch +
                                i % kVectors * 16) = make_uint4(0, 0, 0, 0);
  }
  // This warp's part of the scores of 16 heads with the 16 keys of a slot, to `scores`: [16][kScorePitch].
  __device__ __forceinline__ void ScorePart(const uint4 (&q)[kPartSteps], int at_slot, int column,
                                            float* scores) const {
    const int lane = tid % 32;
    const uint32_t keys = my.slot(at_slot) + static_cast<uint32_t>((lane / 16 * 8 + lane % 8) * kKeyPitch +
                                                                   (column / 8 + lane / 8 % 2) * 16);
    float s[2][4] = {};
#pragma unroll
    for (int i = 0; i < kPartSteps; ++i) {
      const uint4 b = LoadMatrix(keys + static_cast<uint32_t>(i * 32));
      Mma(s[0], q[i].x, q[i].y, q[i].z, q[i].w, b.x, b.y);
      Mma(s[1], q[i].x, q[i].y, q[i].z, q[i].w, b.z, b.w);
    }
#pragma unroll
    for (int t = 0; t < 2; ++t) {
      float* to = scores + lane / 4 * kScorePitch + t * 8 + lane % 4 * 2;
      *reinterpret_cast<float2*>(to) = {s[t][0], s[t][1]};
      *reinterpret_cast<float2*>(to + 8 * kScorePitch) = {s[t][2], s[t][3]};
    }
  }

  // Where a block of keys lies in the ring.
  struct Block {
    int slot, count;
    uint32_t parity;
    __device__ bool second() const { return count > kSlotKeys; }
    __device__ int next_slot() const { return slot + 1 == S::kSlots ? 0 : slot + 1; }
    __device__ uint32_t next_parity() const { return slot + 1 == S::kSlots ? parity ^ 1 : parity; }
    // The block behind this one, which has `keys` keys.
    __device__ Block Behind(int keys) const {
      Block b = *this;
      for (int i = second() ? 2 : 1; i > 0; --i) {
        b.parity = b.next_parity();
        b.slot = b.next_slot();
      }
      b.count = min(kBlockKeys, keys);
      return b;
    }
  };
  // Waits for a block's keys and leaves this warp's part of its scores.
  __device__ __forceinline__ void ScoreBlock(const Block& block, const uint4 (&q)[kPartSteps], int column,
                                             float* scores) const {
    BarrierWait(my.full(block.slot), block.parity);
    if (block.second()) BarrierWait(my.full(block.next_slot()), block.next_parity());
    if (block.count < kBlockKeys) {
      if (block.count % kSlotKeys != 0)
        ClearKeys(block.second() ? block.next_slot() : block.slot, block.count % kSlotKeys);
      Barrier();
      FenceAsyncProxy();  // before the copy that will fill the slot again
    }
    // The first warps take the keys of the first slot, the others those of the second.
    const int warp = tid / 32;
    float* part = scores + warp % kScoreParts * 16 * kScorePitch;
    if (warp < kScoreParts)
      ScorePart(q, block.slot, column, part);
    else if (block.second())
      ScorePart(q, block.next_slot(), column, part + kSlotKeys);
  }

  __device__ void Attend(int layer, int position, const float* query, int phase) {
#ifdef DSOPT_CUDA_WGMMA
    if constexpr (S::kTiled) {
      if (my.tiled(position)) {
        this->AttendTiles(layer, position, query, phase);
        return;
      }
      Hint(layer * kLatentPhases + kTilePhase);  // every step counts
    }
#endif
    const KeyRange<S> range(position, my.cta, my.ctas);
    if (range.first < range.end) AttendRange(range, layer, query, phase);
  }
  __device__ __forceinline__ void AttendRange(const KeyRange<S>& range, int layer, const float* query,
                                              int phase) {
    const int lane = tid % 32, warp = tid / 32;
    const float c = this->score_scale();
    WaitHint(phase, S::kHeads);
    StageQueries(query + static_cast<size_t>(range.group) * kAttentionHeads * kLatentWidth / 2);
    Barrier();
    const int column = warp % kScoreParts * kPartSteps * 16;
    uint4 q[kPartSteps];
    {
      const uint32_t queries =
          SmemAddress(my.shared) +
          static_cast<uint32_t>(S::kAreaAt + lane % 16 * kKeyPitch + (column / 8 + lane / 16) * 16);
#pragma unroll
      for (int i = 0; i < kPartSteps; ++i) q[i] = LoadMatrix(queries + static_cast<uint32_t>(i * 32));
    }
    Barrier();  // scores take the place of the queries
    float* scores = my.floats(S::kAreaAt);
    // Softmax: this lane's head, among its 16, and its first key.
    const int row = warp * kSoftmaxRows + lane / kRowLanes, key = lane % kRowLanes * kLaneKeys;
    float out[kOuts][4] = {}, peak = -INFINITY, sum = 0;
    Block block = {slot, min(kBlockKeys, range.end - range.first), parity}, ahead = block;
    int buffer = 0;
    // One turn: scores of the block at `key0`, then its softmax beside the outputs of the block before.
#pragma unroll 1
    for (int key0 = range.first; key0 < range.end + kBlockKeys; key0 += kBlockKeys, buffer ^= 1) {
      const bool scored = key0 < range.end;
      if (scored) ScoreBlock(ahead, q, column, scores);
      Barrier();
      if (scored) {
        float s[kLaneKeys], top = peak;
#pragma unroll
        for (int j = 0; j < kLaneKeys; ++j) {
          s[j] = 0;
#pragma unroll
          for (int i = 0; i < kScoreParts; ++i) s[j] += scores[(i * 16 + row) * kScorePitch + key + j];
          if (key + j >= ahead.count) s[j] = -INFINITY;
          top = fmaxf(top, s[j]);
        }
#pragma unroll
        for (int m = 1; m < kRowLanes; m *= 2) top = fmaxf(top, __shfl_xor_sync(~0u, top, m));
        const float fade = Exp2((peak - top) * c);  // the first time exp2(-inf)
        peak = top;
        sum *= fade;
        char* weights = my.shared + S::kWeightsAt + (buffer * 16 + row) * kWeightPitch + key * 2;
#pragma unroll
        for (int j = 0; j < kLaneKeys; j += 2) {
          const uint32_t two = PackBf16(Exp2((s[j] - top) * c), Exp2((s[j + 1] - top) * c));
          *reinterpret_cast<uint32_t*>(weights + 2 * j) = two;
          sum += __uint_as_float(two << 16) + __uint_as_float(two & 0xffff0000u);
        }
        if (lane % kRowLanes == 0) my.floats(S::kFadesAt)[buffer * 16 + row] = fade;
      }
      if (key0 > range.first) {
        const int from = buffer ^ 1;
        const float* fades = my.floats(S::kFadesAt) + from * 16;
        const float fade0 = fades[lane / 4], fade1 = fades[lane / 4 + 8];
        if (__any_sync(~0u, fade0 != 1.0f || fade1 != 1.0f)) {
#pragma unroll
          for (int i = 0; i < kOuts; ++i)
            out[i][0] *= fade0, out[i][1] *= fade0, out[i][2] *= fade1, out[i][3] *= fade1;
        }
        const uint32_t weights =
            SmemAddress(my.shared) +
            static_cast<uint32_t>(S::kWeightsAt + (from * 16 + lane % 16) * kWeightPitch + lane / 16 * 16);
#pragma unroll 1
        for (int k = 0; k < (block.second() ? 2 : 1); ++k) {
          const uint4 p = LoadMatrix(weights + static_cast<uint32_t>(k * 32));
          const uint32_t values = my.slot(k == 0 ? block.slot : block.next_slot()) +
                                  static_cast<uint32_t>((lane / 8 % 2 * 8 + lane % 8) * kKeyPitch +
                                                        (warp * kOuts + lane / 16) * 16);
#pragma unroll
          for (int i = 0; i < kOuts; i += 2) {
            const uint4 b = LoadMatrixTransposed(values + static_cast<uint32_t>(i * 16));
            Mma(out[i], p.x, p.y, p.z, p.w, b.x, b.y);
            Mma(out[i + 1], p.x, p.y, p.z, p.w, b.z, b.w);
          }
          NextSlot();
        }
      }
      Barrier();
      block = ahead;
      if (scored) ahead = ahead.Behind(range.end - key0 - kBlockKeys);
    }
#pragma unroll
    for (int m = 1; m < kRowLanes; m *= 2) sum += __shfl_xor_sync(~0u, sum, m);
    const int head = range.group * kAttentionHeads;
    if (lane % kRowLanes == 0)
      StoreRelaxed2(Partial(my, layer, head + row, range.split) + kPartialSums, peak, sum);
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float* to = Partial(my, layer, head + lane / 4 + 8 * h, range.split) + warp * kOuts * 4 + lane % 4 * 4;
#pragma unroll
      for (int i = 0; i < kOuts; i += 4)
        StoreRelaxedWords4(to + i * 4, {PackBf16(out[i][2 * h], out[i][2 * h + 1]),
                                        PackBf16(out[i + 1][2 * h], out[i + 1][2 * h + 1]),
                                        PackBf16(out[i + 2][2 * h], out[i + 2][2 * h + 1]),
                                        PackBf16(out[i + 3][2 * h], out[i + 3][2 * h + 1])});
    }
  }

  // Score of the current token with this CTA's head: into the factors, behind those of the splits. One warp;
  // the token's key comes from the side warp.
  __device__ void ScoreToken(int layer) const {
    const float *token = my.floats(S::kTokenAt), *key = my.floats(S::kHeadKeyAt);
    BarrierWait(my.token_ready(), static_cast<uint32_t>(layer & 1));
    float score = 0;
#pragma unroll 6
    for (int i = 0; i < kLatentWidth; i += 32)
      score = fmaf(Rounded(key[i + tid % 32]), token[i + tid % 32], score);
    score = WarpSum(score);
    if (tid % 32 == 0) my.floats(S::kFactorsAt)[kMaxSplits] = score;
  }

  // This CTA's head: see Merge.
  __device__ const float* MergeHead(int layer, int position) const {
    float* partial = Partial(my, layer, my.cta, 0);
    int splits = KeyRange<S>::Splits(position, my.ctas);
    if constexpr (S::kTiled) {
      if (my.tiled(position)) {
        this->template WaitHint<true>(layer * kLatentPhases + kTilePhase, my.ctas);
        partial = TilePartial(my, my.cta, 0);
        splits = my.pages().splits;
      }
    }
    return this->Merge(partial, splits, !my.tiled(position));
  }
};

}  // namespace dsopt_cuda::persistent
#endif  // DSOPT_CUDA_PERSISTENT_LATENT_ATTENTION_CUH_
