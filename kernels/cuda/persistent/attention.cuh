// attention.cuh - the attention phase of the persistent decode step. The cached pages of all KV heads are one
// line cut into equal ranges, one per CTA; partial results go to global memory, where the first CTA of a KV
// head merges them, adds the current token (which is not in the cache yet), and appends that token's k and v.
#ifndef DSOPT_CUDA_PERSISTENT_ATTENTION_CUH_
#define DSOPT_CUDA_PERSISTENT_ATTENTION_CUH_

#include "common/attention_coded.cuh"
#include "common/cache_codes.cuh"
#include "persistent/consumer.cuh"

namespace dsopt_cuda::persistent {

template <typename S>
struct GroupAttention : CacheWarp<S::kHeadDim, S::kCache> {
  static constexpr int kDim = S::kHeadDim;
  // q of head lane / 4 from the staged, unrotated values [kG, kDim].
  __device__ void LoadQuery(const float* staged, const float2* rope, int lane) {
    if constexpr (S::kCache == CacheCode::kPlain)
      LoadPlainQuery(staged, rope, lane / 4, lane % 4);
    else if constexpr (S::kCache == CacheCode::kInt4)
      LoadInt4Query(staged, rope, lane);
    else
      LoadCodedQuery(staged, rope, lane / 4, lane % 4);
  }
  __device__ void LoadPlainQuery(const float* staged, const float2* rope, int g, int t) {
#pragma unroll
    for (int j = 0; j < kDim / 32; ++j) {
      const int d = 32 * j + 8 * t, half = kDim / 2;
      uint32_t packed[4] = {0, 0, 0, 0};
      if (g < S::kG) {
        const float *own = staged + g * kDim + d, *other = staged + g * kDim + (d < half ? d + half : d - half);
        const float sign = d < half ? -1.0f : 1.0f;
#pragma unroll
        for (int e = 0; e < 8; e += 2) {
          const float2 r0 = rope[d % half + e], r1 = rope[d % half + e + 1];
          packed[e / 2] =
              PackBf16(own[e] * r0.x + sign * other[e] * r0.y, own[e + 1] * r1.x + sign * other[e + 1] * r1.y);
        }
      }
      this->q[j] = {packed[0], packed[1], packed[2], packed[3]};
    }
  }
  __device__ void LoadCodedQuery(const float* staged, const float2* rope, int g, int t) {
#pragma unroll
    for (int h = 0; h < kDim / 64; ++h) {
      const int d = 64 * h + 16 * t, half = kDim / 2;
      const float *own = staged + g * kDim + d, *other = staged + g * kDim + (d < half ? d + half : d - half);
      const float sign = d < half ? -1.0f : 1.0f;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float x[4] = {};
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const float2 r = rope[d % half + 4 * i + e];
          if (g < S::kG) x[e] = Rounded(own[4 * i + e] * r.x + sign * other[4 * i + e] * r.y);
        }
        this->SetQuery(h, i, x);
      }
    }
  }
  __device__ void LoadInt4Query(const float* staged, const float2* rope, int lane) {
    const int g = lane / 4, half = kDim / 2;
#pragma unroll
    for (int j = 0; j < kDim / 32; ++j) {
      const int d = 32 * j + 8 * (lane % 4);
      const float *own = staged + g * kDim + d, *other = staged + g * kDim + (d < half ? d + half : d - half);
      const float sign = d < half ? -1.0f : 1.0f;
      float x[8] = {};
#pragma unroll
      for (int e = 0; e < 8; ++e) {
        const float2 r = rope[d % half + e];
        if (g < S::kG) x[e] = Rounded(own[e] * r.x + sign * other[e] * r.y);
      }
      this->SetQuery(j, x, lane);
    }
  }
};

// Inputs: of products, ProductInputs or PhaseInputs.
template <typename S, typename Inputs>
struct AttentionPhase : Inputs {
  using Base = Inputs;
  using Base::Barrier, Base::Hint, Base::NextSlot;
  using Base::my, Base::tid, Base::slot, Base::parity;

  __device__ size_t PartialIndex(int layer, int share, bool second) const {
    return (static_cast<size_t>(layer % kPartialSets) * my.ctas + share) * 2 + (second ? 1 : 0);
  }
  __device__ float* PartialOut(size_t index) const { return my.step.partial + index * S::kG * S::kHeadDim; }
  __device__ float* PartialMaxSum(size_t index) const {
    return my.step.partial + static_cast<size_t>(kPartialSets) * my.ctas * 2 * S::kG * S::kHeadDim +
           index * S::kG * 2;
  }

  // q of a KV head's group, unrotated, into the merge area; for the merging CTA also k and v of the current
  // token. All words are polled at once: one trip to L2.
  __device__ void StageQuery(int layer, int head, bool merging) {
    constexpr int kQueries = S::kG * S::kHeadDim / 4, kKeys = S::kHeadDim / 4;
    const float* qkv = my.layer_activations(layer) + S::kQkv;
    const int words = kQueries + (merging ? 2 * kKeys : 0);
    for (int i = tid; i < words; i += kConsumers) {
      const int j = i - kQueries;  // of k, then v
      const float* from =
          j < 0 ? qkv + head * S::kG * S::kHeadDim + 4 * i
                : qkv + S::kQDim + (j < kKeys ? 0 : S::kKvDim - S::kHeadDim) + head * S::kHeadDim + 4 * j;
      float4 v;
      do v = LoadRelaxed4(from);
      while (Unwritten(v));
      if (j < 0)
        reinterpret_cast<float4*>(my.floats(S::kMergeAt))[i] = v;
      else
        reinterpret_cast<float4*>(my.floats(S::kTokenAt))[j] = v;
    }
    Barrier();
  }

  // Rotated element lane + 32 i of a staged head vector, rounded to bf16 where kRound.
  template <bool kRound = true>
  __device__ void RotatedHead(const float* from, float (&out)[S::kHeadDim / 32]) const {
    constexpr int kParts = S::kHeadDim / 32, kHalf = kParts / 2;
#pragma unroll
    for (int i = 0; i < kHalf; ++i) {
      const float x = from[tid % 32 + 32 * i], y = from[tid % 32 + 32 * (i + kHalf)];
      const float2 r = my.rope()[tid % 32 + 32 * i];
      out[i] = x * r.x - y * r.y;
      out[i + kHalf] = y * r.x + x * r.y;
      if (kRound) out[i] = Rounded(out[i]), out[i + kHalf] = Rounded(out[i + kHalf]);
    }
  }

  // The current token, from what StageQuery brought: warp g scores it for head g of the group; warp 0 appends
  // it to the cache.
  __device__ void CurrentToken(const DenseLayer& weights, int head, int position) const {
    if constexpr (S::kCache == CacheCode::kPlain)
      CurrentPlain(weights, head, position);
    else
      CurrentCodes(weights, head, position);
  }
  __device__ void CurrentPlain(const DenseLayer& weights, int head, int position) const {
    constexpr int kParts = S::kHeadDim / 32;
    const int lane = tid % 32, warp = tid / 32;
    float* token = my.floats(S::kTokenAt);
    if (warp >= S::kG) return;
    float k[kParts], q[kParts], sum = 0;
    RotatedHead(token, k);
    RotatedHead(my.floats(S::kMergeAt) + warp * S::kHeadDim, q);
#pragma unroll
    for (int i = 0; i < kParts; ++i) sum = fmaf(q[i], k[i], sum);
    sum = WarpSum(sum);
    if (lane == 0) token[2 * S::kHeadDim + warp] = sum;
    if (warp != 0) return;
    char* page = my.step.cache + weights.cache_offset +
                 static_cast<uint64_t>(__ldg(my.step.pages + position / kPageTokens)) * my.step.page_bytes;
    bf16* row = reinterpret_cast<bf16*>(page + static_cast<size_t>(head) * S::kPageHalf) +
                position % kPageTokens * S::kHeadDim;
#pragma unroll
    for (int i = 0; i < kParts; ++i) {
      row[lane + 32 * i] = __float2bfloat16(k[i]);
      row[static_cast<size_t>(S::kKvHeads) * S::kPageHalf / 2 + lane + 32 * i] =
          __float2bfloat16(token[S::kHeadDim + lane + 32 * i]);
    }
  }

  // A head vector becomes what its codes say; they and their words are also written where `write`. Element
  // lane + 32 i of it is x[i], so x[i] of all lanes is a group of I4.
  __device__ static void Recode(float (&x)[S::kHeadDim / 32], bool write, uint8_t* codes, uint32_t* words,
                                int lane) {
    constexpr int kParts = S::kHeadDim / 32;
    if constexpr (S::kCache == CacheCode::kInt4) {
#pragma unroll
      for (int i = 0; i < kParts; ++i) {
        uint32_t word;
        const uint32_t code = Int4Code(x[i], &word);
        if (write) StoreNibbles(code, 32, codes + 16 * i, lane);
        if (write && lane == 0) words[i] = word;
        x[i] = fmaf(static_cast<float>(code), ScaleOfWord(word), LowestOfWord(word));
      }
    } else {
      float largest = 0;
      bool finite = true;
#pragma unroll
      for (int i = 0; i < kParts; ++i) {
        largest = fmaxf(largest, fabsf(x[i]));
        finite &= fabsf(x[i]) < INFINITY;
      }
      float inverse;
      const float scale = ScaleOf<S::kCache>(WarpMax(largest), __all_sync(~0u, finite), &inverse);
#pragma unroll
      for (int i = 0; i < kParts; ++i) {
        const uint8_t code = CodeOf<S::kCache>(x[i], inverse);
        if (write) codes[lane + 32 * i] = code;
        x[i] = CodeValue<S::kCache>(code, 0) * scale;
      }
      if (write && lane == 0) *words = __float_as_uint(scale);
    }
  }

  // Where the cache holds codes. What takes part in this step is what the codes say, as in every
  // later one.
  __device__ void CurrentCodes(const DenseLayer& weights, int head, int position) const {
    constexpr int kParts = S::kHeadDim / 32;
    const int lane = tid % 32, warp = tid / 32;
    float* token = my.floats(S::kTokenAt);
    if (warp >= S::kG) return;
    char* page = my.step.cache + weights.cache_offset +
                 static_cast<uint64_t>(__ldg(my.step.pages + position / kPageTokens)) * my.step.page_bytes;
    float x[kParts];
    RotatedHead<false>(token, x);
#pragma unroll 1
    for (int part = 0;; ++part) {  // k, of warp 0 also v
      const int vector = (part * S::kKvHeads + head) * kPageTokens + position % kPageTokens;
      uint8_t* codes = reinterpret_cast<uint8_t*>(page) + static_cast<size_t>(vector) * S::kTokenBytes;
      char* words = page + 2 * S::kKvHeads * S::kPageHalf + static_cast<size_t>(vector) * S::kTokenWords;
      Recode(x, warp == 0, codes, reinterpret_cast<uint32_t*>(words), lane);
      if (part == 1) break;
      float q[kParts], sum = 0;
      RotatedHead(my.floats(S::kMergeAt) + warp * S::kHeadDim, q);
#pragma unroll
      for (int i = 0; i < kParts; ++i) sum = fmaf(q[i], x[i], sum);
      sum = WarpSum(sum);
      if (lane == 0) token[2 * S::kHeadDim + warp] = sum;
      if (warp != 0) return;
#pragma unroll
      for (int i = 0; i < kParts; ++i) x[i] = token[S::kHeadDim + lane + 32 * i];
    }
#pragma unroll
    for (int i = 0; i < kParts; ++i) token[S::kHeadDim + lane + 32 * i] = x[i];
  }
  // The current token's value, as MergeHead finds it: see CurrentToken.
  __device__ static float CurrentValue(float v) { return S::kCache == CacheCode::kPlain ? Rounded(v) : v; }

  // Merges the warps' (max, sum, output) of the merge area for output element tid * kV + j of the group.
  static constexpr int kV = S::kG * S::kHeadDim / kConsumers;
  static_assert(kV >= 1);
  __device__ void MergeWarps(float c, float& m, float& l, float (&sum)[kV]) const {
    const float* merge = my.floats(S::kMergeAt);
    const float2* max_sum = reinterpret_cast<const float2*>(my.floats(S::kMaxSumAt));
    const int h = tid * kV / S::kHeadDim, d = tid * kV % S::kHeadDim;
    m = -INFINITY, l = 0;
#pragma unroll
    for (int j = 0; j < kV; ++j) sum[j] = 0;
#pragma unroll
    for (int i = 0; i < kConsumerWarps; ++i) m = fmaxf(m, max_sum[i * S::kG + h].x);
#pragma unroll
    for (int i = 0; i < kConsumerWarps; ++i) {
      const float2 e = max_sum[i * S::kG + h];
      const float f = e.x == -INFINITY ? 0.0f : Exp2((e.x - m) * c);
      l = fmaf(e.y, f, l);
#pragma unroll
      for (int j = 0; j < kV; ++j) sum[j] = fmaf(merge[(i * S::kG + h) * S::kMergeRow + d + j], f, sum[j]);
    }
  }

  // This CTA's part of a KV head is done: merges its warps and publishes the result.
  __device__ void PublishPartial(GroupAttention<S>& state, float c, size_t index) {
    using State = GroupAttention<S>;
    const int lane = tid % 32, warp = tid / 32;
    float* merge = my.floats(S::kMergeAt);
    float2* max_sum = reinterpret_cast<float2*>(my.floats(S::kMaxSumAt));
    state.SumLanes();
#pragma unroll
    for (int x = 0; x < 2; ++x) {
      const int h = lane % 4 * 2 + x;
      if (h < S::kG) {
        if (lane < 4) max_sum[warp * S::kG + h] = {state.m[x], state.l[x]};
#pragma unroll
        for (int r = 0; r < S::kHeadDim / 16; ++r) {
          float* out = merge + (warp * S::kG + h) * S::kMergeRow;
          out[State::DimensionOf(r, 0, lane)] = state.Output(r, 0, x);
          out[State::DimensionOf(r, 1, lane)] = state.Output(r, 1, x);
        }
      }
    }
    Barrier();
    float m, l, sum[kV];
    MergeWarps(c, m, l, sum);
    const int h = tid * kV / S::kHeadDim, d = tid * kV % S::kHeadDim;
#pragma unroll
    for (int j = 0; j < kV; ++j) StoreRelaxed(PartialOut(index) + tid * kV + j, sum[j]);
    if (d == 0) StoreRelaxed2(PartialMaxSum(index) + 2 * h, m, l);
    Barrier();  // the merge area is free again
  }

  // The first CTA of a KV head gathers the partial results, adds the current token and writes the group's
  // output. Warp w takes partials w, w + 8, ..; a lane holds kWidth columns of 4 heads. Short code on purpose:
  // it runs cold.
  __device__ void MergeHead(int layer, int head, const Sharers<S>& who, float c) {
    constexpr int kWidth = S::kHeadDim / 32, kHeads = S::kG < 4 ? S::kG : 4;
    const int lane = tid % 32, warp = tid / 32;
    const float* score = my.floats(S::kTokenAt) + 2 * S::kHeadDim;
    const float* v = my.floats(S::kTokenAt) + S::kHeadDim + kWidth * lane;
    float* merge = my.floats(S::kMergeAt);
    float2* max_sum = reinterpret_cast<float2*>(my.floats(S::kMaxSumAt));
#pragma unroll
    for (int x0 = 0; x0 < S::kG; x0 += kHeads) {
      float m[kHeads], l[kHeads], o[kHeads][kWidth];
#pragma unroll
      for (int x = 0; x < kHeads; ++x) {
        m[x] = warp == 0 ? score[x0 + x] : -INFINITY;
        l[x] = warp == 0 ? 1.0f : 0.0f;
#pragma unroll
        for (int j = 0; j < kWidth; ++j) o[x][j] = warp == 0 ? CurrentValue(v[j]) : 0.0f;
      }
#pragma unroll 1
      for (int i = warp; i < 32; i += kConsumerWarps) {
        if ((who.on >> i & 1) == 0) continue;
        const size_t index = PartialIndex(layer, who.base + i, who.second >> i & 1);
        float* max_sums = PartialMaxSum(index) + 2 * x0;
        float* outs = PartialOut(index) + x0 * S::kHeadDim + kWidth * lane;
        float2 e[kHeads];
        float y[kHeads][kWidth];
        bool again;
        do {
          again = false;
#pragma unroll
          for (int x = 0; x < kHeads; ++x) {
            e[x] = LoadRelaxed2(max_sums + 2 * x);
            again |= Unwritten(e[x].x) || Unwritten(e[x].y);
#pragma unroll
            for (int j = 0; j < kWidth; j += 2) {
              const float2 two = LoadRelaxed2(outs + x * S::kHeadDim + j);
              y[x][j] = two.x, y[x][j + 1] = two.y;
              again |= Unwritten(two.x) || Unwritten(two.y);
            }
          }
          again = __any_sync(~0u, again);
        } while (again);
        // Marks the buffer unwritten for the layer that will use it kPartialSets layers on.
        const float mark = __uint_as_float(kUnwritten);
        if (lane < kHeads) StoreRelaxed2(max_sums + 2 * lane, mark, mark);
#pragma unroll
        for (int x = 0; x < kHeads; ++x) {
#pragma unroll
          for (int j = 0; j < kWidth; j += 2) StoreRelaxed2(outs + x * S::kHeadDim + j, mark, mark);
          const float top = fmaxf(m[x], e[x].x);
          const float f0 = m[x] == -INFINITY ? 0.0f : Exp2((m[x] - top) * c);
          const float f1 = e[x].x == -INFINITY ? 0.0f : Exp2((e[x].x - top) * c);
          m[x] = top;
          l[x] = l[x] * f0 + e[x].y * f1;
#pragma unroll
          for (int j = 0; j < kWidth; ++j) o[x][j] = o[x][j] * f0 + y[x][j] * f1;
        }
      }
#pragma unroll
      for (int x = 0; x < kHeads; ++x) {
        if (lane == 0) max_sum[warp * S::kG + x0 + x] = {m[x], l[x]};
#pragma unroll
        for (int j = 0; j < kWidth; ++j)
          merge[(warp * S::kG + x0 + x) * S::kMergeRow + kWidth * lane + j] = o[x][j];
      }
    }
    Barrier();
    float m, l, sum[kV];
    MergeWarps(c, m, l, sum);
    float* out = my.layer_activations(layer) + S::kAttention + head * S::kG * S::kHeadDim;
#pragma unroll
    for (int j = 0; j < kV; ++j) StoreRelaxed(out + tid * kV + j, sum[j] / l);
    Barrier();  // the merge area is free again, and the outputs are on their way
  }

  // Zeroes the values of tokens `from` .. 15 of a group in the ring: they were never written and may be
  // anything, NaNs too, and zero times NaN is not zero.
  __device__ void ClearRows(int at_slot, int quarter, int from) const {
    constexpr int kRowVectors = S::kHeadDim / 8;
    uint4* values = reinterpret_cast<uint4*>(my.shared + at_slot * S::kSlotBytes + S::kPageHalf) +
                    quarter * kGroup * kRowVectors;
    for (int i = from * kRowVectors + tid % 32; i < kGroup * kRowVectors; i += 32)
      values[i] = make_uint4(0, 0, 0, 0);
    __syncwarp();
  }

  // Adds tokens [low, high) of group `quarter` of the page in the ring, of page `set` where a slot has two.
  __device__ __forceinline__ void AttendGroup(GroupAttention<S>& state, float c, int set, int quarter, int low,
                                              int high) {
    const int lane = tid % 32;
    float s[4];
    if constexpr (S::kCache == CacheCode::kPlain) {
      const uint32_t k = my.slot(slot) + static_cast<uint32_t>(quarter * kGroup * S::kHeadDim * 2);
      state.Scores(k, lane, s);
      const uint2 p = state.Softmax(s, c, low, high, lane);
      if (high < kGroup) ClearRows(slot, quarter, high);
      state.Values(k + S::kPageHalf, lane, p);
      // The clearing stores come before the copy that will fill this slot again.
      if (high < kGroup) FenceAsyncProxy();
    } else {
      const uint32_t page = my.slot(slot) + static_cast<uint32_t>(S::kSlotPages == 2 ? set * S::kPageBytes : 0);
      const uint32_t k = page + static_cast<uint32_t>(quarter * kGroup * S::kTokenBytes);
      const uint32_t words = page + static_cast<uint32_t>(2 * S::kPageHalf + quarter * kGroup * S::kTokenWords);
      state.Scores(k, words, lane, s);
      if constexpr (S::kCache == CacheCode::kInt4) {
        uint2 p[GroupAttention<S>::kGroups];
        state.Softmax(s, words + S::kPageWords, c, low, high, lane, p);
        state.Values(k + S::kPageHalf, lane, p);
      } else {
        const uint2 p = state.Softmax(s, words + S::kPageWords, c, low, high, lane);
        state.Values(k + S::kPageHalf, lane, p);
      }
    }
  }

  __device__ void Attention(const DenseLayer& weights, int layer, int position, int phase) {
    const int lane = tid % 32, warp = tid / 32, set = warp / 4, quarter = warp % 4;
    const int first = FirstPosition(position, weights.window);
    const float c = my.step.score_scale * 1.4426950408889634f;
    const int share = Walk<S>::Turn(layer, my.cta, my.ctas);
    Walk<S> walk(first, position, share, my.ctas);
    bool merged = false;
    int segment = 0;
    while (walk.more()) {
      const int head = walk.head;
      const Sharers<S> who(walk.per_head, head, my.ctas, lane);
      const bool merging = who.merger(head) == share;
      GroupAttention<S> state;
      state.Reset();
      StageQuery(layer, head, merging);
      state.LoadQuery(my.floats(S::kMergeAt), my.rope(), lane);
      if (merging) CurrentToken(weights, head, position);
      Barrier();  // the merge area is free again
      for (int i = 0; walk.more() && walk.head == head; ++i) {
        BarrierWait(my.full(slot), parity);
        int page = walk.absolute(), count = walk.count;
        if constexpr (S::kSlotPages == 2) {  // one for each set of warps
          if (set == 1) count = 0;
          walk.Next();
          if (walk.more() && walk.head == head) {
            if (set == 1) page = walk.absolute(), count = walk.count;
            walk.Next();
          }
        }
        const int token = (page * 4 + quarter) * kGroup;
        if ((S::kSlotPages == 2 || i % 2 == set) && quarter < count && token + kGroup > first) {
          AttendGroup(state, c, set, quarter, first - token, position - token);
        }
        NextSlot();
        if (S::kSlotPages == 1) walk.Next();
      }
      PublishPartial(state, c, PartialIndex(layer, share, segment > 0));
      ++segment;
      if (merging) {
        MergeHead(layer, head, who, c);
        merged = true;
      }
    }
    if (walk.per_head == 0 && share < S::kKvHeads) {
      const Sharers<S> nobody(0, share, my.ctas, lane);
      StageQuery(layer, share, true);
      CurrentToken(weights, share, position);
      Barrier();
      MergeHead(layer, share, nobody, c);
      merged = true;
    }
    if (merged) Hint(phase);
  }
};

}  // namespace dsopt_cuda::persistent
#endif  // DSOPT_CUDA_PERSISTENT_ATTENTION_CUH_
