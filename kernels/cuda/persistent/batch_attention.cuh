// batch_attention.cuh - attention in the persistent step of few rows, on the arithmetic of common/attention_warp.cuh:
// items of the cache out of the ring, 16 tokens a warp; rotation of the queries; the current token, which is not in the
// cache yet, and its way there. As in attention_decode_ring.cu, the CTA with a work's first item merges all its parts.
#ifndef DSOPT_CUDA_PERSISTENT_BATCH_ATTENTION_CUH_
#define DSOPT_CUDA_PERSISTENT_BATCH_ATTENTION_CUH_

#include "common/attention_warp.cuh"
#include "persistent/batch_shape.cuh"

namespace dsopt_cuda::batch {

#ifdef DSOPT_CUDA_WGMMA

template <typename S, int kDim>
struct Attend {
  static constexpr int kG = kBatchHeads, kHalf = kDim / 2, kRow = kMergeRow<kDim>;
  static constexpr int kOutputs = kG * kDim;        // of a work; a thread has one
  static constexpr int kPartial = kG * (kDim + 2);  // floats: outputs, then (maximum, sum) of each head
  static constexpr int kKeyWarp = kConsumerWarps - kG - 1;  // appends the current token; those behind it score it
  static_assert(kOutputs <= S::kConsumers);
  const BatchStep& s;
  const Line& line;
  char* shared;
  BatchRing& ring;
  uint64_t cache_offset;  // of the layer
  int number;             // of this CTA in the line
  float c = s.score_scale * 1.4426950408889634f;
  int tid = threadIdx.x, lane = tid % 32, warp = tid / 32;
  int group = warp % (s.item_tokens / kGroupTokens);  // of an item, for this warp
  // Warps of a team that share an item are a set; sets take turns.
  int set = warp % kTeamWarps / (s.item_tokens / kGroupTokens), sets = kTeamWarps * kGroupTokens / s.item_tokens;
  int head = min(tid / kDim, kG - 1), dimension = tid % kDim;  // of this thread's output
  bool on = tid < kOutputs;

  __device__ float* Outs() const { return reinterpret_cast<float*>(shared + Shared<S>::kSumsAt); }
  __device__ float2* Sums() const { return reinterpret_cast<float2*>(Outs() + kTeamWarps * kG * kRow); }
  __device__ float* Scores() const { return reinterpret_cast<float*>(shared + Shared<S>::kScoresAt); }
  __device__ float* Partial(int of) const { return s.partial + static_cast<int64_t>(of) * kPartial; }
  __device__ void Barrier() const { NamedBarrier<1>(S::kConsumers); }
  // Rows of the qkv product, f32.
  __device__ const float* Row(int row, int of_head) const {
    return s.qkv + (static_cast<int64_t>(row) * (s.q_heads + 2 * s.kv_heads) + of_head) * kDim;
  }
  __device__ float2 Rotation(int row, int pair) const { return __ldcg(s.rotations + row * kHalf + pair); }

  // Query head lane / 4 of the work, rotated, as the registers of the products.
  __device__ void LoadQueries(int row, int head0, int heads, uint4 (&q)[kDim / 32]) const {
    const bool on = lane / 4 < heads;
    const float* from = Row(row, head0 + lane / 4) + lane % 4 * 8;
#pragma unroll
    for (int j = 0; j < kDim / 64; ++j) {
      float low[8] = {}, high[8] = {};
#pragma unroll
      for (int e = 0; e < 8; e += 4) {
        if (!on) continue;
        const float4 x = __ldcg(reinterpret_cast<const float4*>(from + 32 * j + e));
        const float4 y = __ldcg(reinterpret_cast<const float4*>(from + kHalf + 32 * j + e));
        const float first[4] = {x.x, x.y, x.z, x.w}, second[4] = {y.x, y.y, y.z, y.w};
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const float2 turn = Rotation(row, 32 * j + lane % 4 * 8 + e + i);
          low[e + i] = first[i] * turn.x - second[i] * turn.y;
          high[e + i] = second[i] * turn.x + first[i] * turn.y;
        }
      }
      q[j] = {PackBf16(low[0], low[1]), PackBf16(low[2], low[3]), PackBf16(low[4], low[5]), PackBf16(low[6], low[7])};
      q[j + kDim / 64] = {PackBf16(high[0], high[1]), PackBf16(high[2], high[3]), PackBf16(high[4], high[5]),
                          PackBf16(high[6], high[7])};
    }
  }

  // own: with the current token, whose values are `value`.
  __device__ void MergeWarps(AttentionWarp<kDim>& state, bool own, int heads, float value, Merged<1>& merged) const {
    float* outs = Outs();
#pragma unroll
    for (int x = 0; x < 2; ++x)
#pragma unroll
      for (int d = 4; d < 32; d *= 2) state.l[x] += __shfl_xor_sync(~0u, state.l[x], d);
#pragma unroll 1
    for (int team = 0; team < kTeams; ++team) {
      if (warp / kTeamWarps == team) {
        const int w = warp % kTeamWarps;
#pragma unroll
        for (int x = 0; x < 2; ++x) {
          const int h = lane % 4 * 2 + x;
          if (h >= kG) continue;
          if (lane < 4) Sums()[w * kG + h] = {state.m[x], state.l[x]};
#pragma unroll
          for (int r = 0; r < AttentionWarp<kDim>::kOuts; ++r) {
            outs[(w * kG + h) * kRow + r * 16 + lane / 4] = state.o[r][x];
            outs[(w * kG + h) * kRow + r * 16 + lane / 4 + 8] = state.o[r][x + 2];
          }
        }
      }
      Barrier();
#pragma unroll
      for (int w = 0; w < kTeamWarps; ++w) {
        const float2 e = Sums()[w * kG + head];
        merged.Add(e.x, e.y, {outs[(w * kG + head) * kRow + dimension]}, c);
      }
      if (own && team == 0) merged.Add(Scores()[min(head, heads - 1)], 1.0f, {value}, c);
      Barrier();  // the merge area is free again
    }
  }
  __device__ void Leave(const Merged<1>& merged) const {
    float* to = Partial(number);
    if (on) to[tid] = merged.out[0];
    if (on && dimension == 0) reinterpret_cast<float2*>(to + kOutputs)[head] = {merged.m, merged.l};
    Barrier();
    if (tid == 0) {
      __threadfence();
      StoreRelease(s.arrived + number * kFlagStride, 1);
    }
  }
  // Adds what the CTAs up to number `last` have left.
  __device__ void Gather(int last, Merged<1>& merged) const {
    for (int i = number + 1 + tid; i <= last; i += S::kConsumers) {
      uint32_t* flag = s.arrived + i * kFlagStride;
      while (LoadAcquire(flag) == 0) {
      }
      *flag = 0;
    }
    Barrier();
#pragma unroll 4
    for (int i = number + 1; i <= last; ++i) {
      const float* from = Partial(i);
      const float2 e = __ldcg(reinterpret_cast<const float2*>(from + kOutputs) + head);
      merged.Add(e.x, e.y, {__ldcg(from + head * kDim + dimension)}, c);
    }
  }
  // The row's own token, by the last warps: its scores and, for one part of the query heads, its way into the cache.
  __device__ void Current(int row, int kv_head, int head0, int heads, bool append) const {
    const int h = warp - kKeyWarp - 1;
    if (h >= heads || (h < 0 && !append)) return;
    const float* key = Row(row, s.q_heads + kv_head);
    const float* other = h < 0 ? Row(row, s.q_heads + s.kv_heads + kv_head) : Row(row, head0 + h);  // value, query
    bf16* token = nullptr;
    if (h < 0) {
      const int position = line.position[row];
      const int page = __ldg(s.cache.page_table +
                             static_cast<int64_t>(__ldg(s.cache.row_seq + row)) * s.cache.page_stride + position / kPageTokens);
      token = reinterpret_cast<bf16*>(s.cache.base + cache_offset + static_cast<uint64_t>(page) * s.cache.page_bytes) +
              static_cast<int64_t>(kv_head * kPageTokens + position % kPageTokens) * kDim;
    }
    float sum = 0;
#pragma unroll
    for (int i = lane; i < kHalf; i += 32) {
      const float2 turn = Rotation(row, i);
      const float k0 = __ldcg(key + i), k1 = __ldcg(key + kHalf + i), x = __ldcg(other + i), y = __ldcg(other + kHalf + i);
      const bf16 low = __float2bfloat16(k0 * turn.x - k1 * turn.y), high = __float2bfloat16(k1 * turn.x + k0 * turn.y);
      if (h < 0) {
        token[i] = low;
        token[kHalf + i] = high;
        bf16* value = token + static_cast<int64_t>(s.kv_heads) * kPageTokens * kDim;
        value[i] = __float2bfloat16(x);
        value[kHalf + i] = __float2bfloat16(y);
      } else {
        sum += __bfloat162float(__float2bfloat16(x * turn.x - y * turn.y)) * __bfloat162float(low) +
               __bfloat162float(__float2bfloat16(y * turn.x + x * turn.y)) * __bfloat162float(high);
      }
    }
    sum = WarpSum(sum);
    if (lane == 0 && h >= 0) Scores()[h] = sum;
  }
  // The items at .. end - 1.
  __device__ void Run(int at, int end, const RowLayout& layout) {
    const int per_kv_head = s.q_heads / s.kv_heads;
    int row = 0, taken = 0;
    while (at < end) {
      const Place place(line, at, row);
      row = place.row;
      const int begin = at - place.item, stop = begin + place.items;  // the work's items
      const int kv_head = place.work / s.parts, part = place.work % s.parts;
      const int head0 = kv_head * per_kv_head + part * kG, heads = min(kG, (kv_head + 1) * per_kv_head - head0);
      const int position = line.position[row], first = Line::First(s, position);
      const bool owner = place.item == 0;
      float value = 0;
      if (owner) {
        value = __ldcg(Row(row, s.q_heads + s.kv_heads + kv_head) + dimension);
        if (warp >= kKeyWarp) Current(row, kv_head, head0, heads, part == 0);
      }
      int token = (first / s.item_tokens + place.item) * s.item_tokens + group * kGroupTokens;  // of this warp
      AttentionWarp<kDim> state;
      state.Reset();
      LoadQueries(row, head0, heads, state.q);
      for (const int here = min(stop, end); at < here; ++at, token += s.item_tokens, ring.Advance()) {
        if (!ring.Mine()) continue;
        const int low = first - token, high = position - token;
        ring.WaitFull();
        if (taken++ % sets == set && high > 0 && low < kGroupTokens) {
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
      Merged<1> merged;
      MergeWarps(state, owner, heads, __bfloat162float(__float2bfloat16(value)), merged);
      if (!owner) {
        Leave(merged);
        continue;
      }
      const int last = line.NumberWith(stop - 1, number);
      if (last > number) Gather(last, merged);
      if (on && head < heads)
        static_cast<bf16*>(s.attended)[layout.At(row, (head0 + head) * kDim + dimension)] =
            __float2bfloat16(merged.out[0] / merged.l);
    }
  }
};

#endif

}  // namespace dsopt_cuda::batch
#endif  // DSOPT_CUDA_PERSISTENT_BATCH_ATTENTION_CUH_
