// batch_attention.cuh - attention in the persistent step of few rows, on the arithmetic of
// common/attention_warp.cuh: items of the cache out of the ring, 16 tokens a warp, and the current token, which
// the side warp scores. As in attention_decode_ring.cu, the CTA with a work's first item merges all its parts.
#ifndef DSOPT_CUDA_PERSISTENT_BATCH_ATTENTION_CUH_
#define DSOPT_CUDA_PERSISTENT_BATCH_ATTENTION_CUH_

#include "common/attention_warp.cuh"
#include "persistent/batch_shape.cuh"

namespace dsopt_cuda::batch {

#ifdef DSOPT_CUDA_WGMMA

// Where attention finds its operands.
template <int kDim>
struct Operands {
  const BatchStep& s;
  // Rows of the qkv product, f32.
  __device__ const float* Row(int row, int head) const {
    return s.qkv + (row * (s.q_heads + 2 * s.kv_heads) + head) * kDim;
  }
  __device__ const float* Key(int row, int kv_head) const { return Row(row, s.q_heads + kv_head); }
  __device__ const float* Value(int row, int kv_head) const {
    return Row(row, s.q_heads + s.kv_heads + kv_head);
  }
  __device__ float2 Rotation(int row, int pair) const { return __ldcg(s.rotations + row * (kDim / 2) + pair); }
};

// A row's part of the query heads of a KV head.
struct Heads {
  int kv_head, first, count;
  bool append;  // this part's current token goes into the cache
  __device__ Heads(const BatchStep& s, int work) : kv_head(work / s.parts) {
    const int part = work % s.parts, group = s.q_heads / s.kv_heads;
    first = kv_head * group + part * kBatchHeads;
    count = min(kBatchHeads, (kv_head + 1) * group - first);
    append = part == 0;
  }
};

template <typename F, int kDim>
struct Attend : Operands<kDim> {
  using S = typename F::S;
  using Operands<kDim>::s, Operands<kDim>::Row;
  static constexpr int kG = kBatchHeads, kHalf = kDim / 2, kRow = kMergeRow<kDim>;
  static constexpr int kV = kG * kDim / S::kConsumers;  // outputs of a thread, all of one head
  static constexpr int kPartial = kG * (kDim + 2);      // floats: outputs, then (maximum, sum) of each head
  static_assert(kV == 1 || kV == 2);
  const Line& line;
  char* shared;
  BatchRing<S>& ring;
  int number;  // of this CTA in the line
  float c = s.score_scale * 1.4426950408889634f;
  int tid = threadIdx.x, lane = tid % 32, warp = tid / 32;
  int group = warp % (s.item_tokens / kGroupTokens);  // of an item, for this warp
  // Warps of a team that share an item are a set; sets, up to four, take turns.
  int set = warp % S::kTeamWarps / (s.item_tokens / kGroupTokens),
      sets = S::kTeamWarps * kGroupTokens / s.item_tokens;
  int head = tid * kV / kDim, dimension = tid * kV % kDim;  // of this thread's outputs

  __device__ float* Outs() const { return reinterpret_cast<float*>(shared + Shared<S>::kSumsAt); }
  __device__ float2* Sums() const { return reinterpret_cast<float2*>(Outs() + kConsumerWarps * kG * kRow); }
  __device__ float* Scores() const { return reinterpret_cast<float*>(shared + Shared<S>::kScoresAt); }
  __device__ float* Partial(int of) const { return s.partial + static_cast<int64_t>(of) * kPartial; }
  __device__ void Barrier() const { NamedBarrier<1>(S::kConsumers); }
  // Query head lane / 4 of the work, rotated, as the registers of the products. What is computed for heads
  // beyond is not used: they are the last one again.
  __device__ void LoadQueries(int row, const Heads& heads, uint4 (&q)[kDim / 32]) const {
    const float* from = Row(row, heads.first + min(lane / 4, heads.count - 1)) + lane % 4 * 8;
    const float2* turns = s.rotations + row * kHalf + lane % 4 * 8;
#pragma unroll
    for (int j = 0; j < kDim / 64; ++j) {
      float low[8], high[8];
#pragma unroll
      for (int e = 0; e < 8; e += 4) {
        const float4 x = __ldcg(reinterpret_cast<const float4*>(from + 32 * j + e));
        const float4 y = __ldcg(reinterpret_cast<const float4*>(from + kHalf + 32 * j + e));
        const float first[4] = {x.x, x.y, x.z, x.w}, second[4] = {y.x, y.y, y.z, y.w};
#pragma unroll
        for (int i = 0; i < 4; i += 2) {  // two pairs: cosine, sine of each
          const float4 turn = __ldcg(reinterpret_cast<const float4*>(turns + 32 * j + e + i));
          low[e + i] = first[i] * turn.x - second[i] * turn.y;
          high[e + i] = second[i] * turn.x + first[i] * turn.y;
          low[e + i + 1] = first[i + 1] * turn.z - second[i + 1] * turn.w;
          high[e + i + 1] = second[i + 1] * turn.z + first[i + 1] * turn.w;
        }
      }
      q[j] = {PackBf16(low[0], low[1]), PackBf16(low[2], low[3]), PackBf16(low[4], low[5]),
              PackBf16(low[6], low[7])};
      q[j + kDim / 64] = {PackBf16(high[0], high[1]), PackBf16(high[2], high[3]), PackBf16(high[4], high[5]),
                          PackBf16(high[6], high[7])};
    }
  }

  __device__ void MergeWarps(AttentionWarp<kDim>& state, Merged<kV>& merged) const {
    float* outs = Outs();
#pragma unroll
    for (int x = 0; x < 2; ++x) {
#pragma unroll
      for (int d = 4; d < 32; d *= 2) state.l[x] += __shfl_xor_sync(~0u, state.l[x], d);
      const int h = lane % 4 * 2 + x;
      if (h >= kG) continue;
      if (lane < 4) Sums()[warp * kG + h] = {state.m[x], state.l[x]};
#pragma unroll
      for (int r = 0; r < AttentionWarp<kDim>::kOuts; ++r) {
        outs[(warp * kG + h) * kRow + r * 16 + lane / 4] = state.o[r][x];
        outs[(warp * kG + h) * kRow + r * 16 + lane / 4 + 8] = state.o[r][x + 2];
      }
    }
    Barrier();
#pragma unroll 2
    for (int w = 0; w < kConsumerWarps; ++w) {
      const float2 e = Sums()[w * kG + head];
      float o[kV];
#pragma unroll
      for (int j = 0; j < kV; ++j) o[j] = outs[(w * kG + head) * kRow + dimension + j];
      merged.Add(e.x, e.y, o, c);
    }
    Barrier();  // the merge area is free again
  }
  __device__ void Leave(const Merged<kV>& merged) const {
    float* to = Partial(number);
#pragma unroll
    for (int j = 0; j < kV; ++j) to[tid * kV + j] = merged.out[j];
    if (dimension == 0) reinterpret_cast<float2*>(to + kG * kDim)[head] = {merged.m, merged.l};
    Barrier();
    if (tid == 0) {
      __threadfence();
      StoreRelease(s.arrived + number * kFlagStride, 1);
    }
  }
  // Adds what the CTAs up to number `last` have left.
  __device__ void Gather(int last, Merged<kV>& merged) const {
#pragma unroll 1
    for (int i = number + 1 + tid; i <= last; i += S::kConsumers) TakeFlag(s.arrived + i * kFlagStride);
    Barrier();
#pragma unroll 4
    for (int i = number + 1; i <= last; ++i) {
      const float* from = Partial(i);
      const float2 e = __ldcg(reinterpret_cast<const float2*>(from + kG * kDim) + head);
      float o[kV];
#pragma unroll
      for (int j = 0; j < kV; ++j) o[j] = __ldcg(from + tid * kV + j);
      merged.Add(e.x, e.y, o, c);
    }
  }

  // The items at .. end - 1.
  __device__ void Run(int at, int end, const Image<F>& image) {
    int row = 0, taken = 0, owned = 0;
#pragma unroll 1
    while (at < end) {
      const Place place(line, at, row);
      row = place.row;
      const int begin = at - place.item, stop = begin + place.items;  // the work's items
      const Heads heads(s, place.work);
      const int position = line.position[row], first = Line::First(s, position);
      const bool owner = place.item == 0;
      int token = Line::TokenOf(s, first, place.item) + group * kGroupTokens;  // of this warp
      AttentionWarp<kDim> state;
      state.Reset();
      LoadQueries(row, heads, state.q);
      float value[kV];
#pragma unroll
      for (int j = 0; j < kV; ++j)
        value[j] = __bfloat162float(__float2bfloat16(__ldcg(this->Value(row, heads.kv_head) + dimension + j)));
#pragma unroll 1
      for (const int here = min(stop, end); at < here; ++at, token += s.item_tokens, ring.Advance()) {
        if (!ring.Mine()) continue;
        const int low = first - token, high = position - token;
        ring.WaitFull();
        if ((taken++ & (sets - 1)) == set && high > 0 && low < kGroupTokens) {
          const uint32_t keys = ring.Slot() + group * kGroupTokens * kDim * 2,
                         values = keys + s.item_tokens * kDim * 2;
          float scores[4];
          state.Scores(keys, lane, scores);
          const uint2 p = state.Softmax(scores, c, low, high, lane);
          if (high < kGroupTokens) ClearTokens<kDim>(shared + (values - SmemAddress(shared)), high, lane);
          state.Values(values, lane, p);
        }
        ring.Release(lane);
      }
      Merged<kV> merged;
      MergeWarps(state, merged);
      if (!owner) {
        Leave(merged);
        continue;
      }
      MeetSide<S>();
      merged.Add(Scores()[owned++ % 2 * kG + min(head, heads.count - 1)], 1.0f, value, c);
      const int last = line.NumberWith(stop - 1, number);
      if (last > number) Gather(last, merged);
      if (head >= heads.count) continue;
      bf16* to = static_cast<bf16*>(s.attended) + image.At(row, (heads.first + head) * kDim + dimension);
      if constexpr (kV == 2)
        *reinterpret_cast<uint32_t*>(to) = PackBf16(merged.out[0] / merged.l, merged.out[1] / merged.l);
      else
        *to = __float2bfloat16(merged.out[0] / merged.l);
    }
  }
};

#endif

}  // namespace dsopt_cuda::batch
#endif  // DSOPT_CUDA_PERSISTENT_BATCH_ATTENTION_CUH_
