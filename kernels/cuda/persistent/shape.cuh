// shape.cuh - the persistent decode step: dimensions, shared memory, and how work is cut over the CTAs.
// What the step is: persistent_dense.cu.
#ifndef DSOPT_CUDA_PERSISTENT_SHAPE_CUH_
#define DSOPT_CUDA_PERSISTENT_SHAPE_CUH_

#include "common/cache_codes.cuh"
#include "common/convert.cuh"
#include "common/ptx.cuh"
#include "persistent_dense.h"

namespace dsopt_cuda::persistent {

inline constexpr int kConsumerWarps = 8, kConsumers = kConsumerWarps * 32, kThreads = kConsumers + 64;
inline constexpr int kChunk = 2048, kVec = kChunk / kConsumers;  // columns of a chunk, and of one thread in it
inline constexpr int kPartRows = 16, kTables = 4;                // rows of a table of partial sums
inline constexpr int kGroup = 16;                                // tokens of one warp step
inline constexpr int kPartialSets = 4;                           // layers whose partial results may coexist
inline constexpr uint32_t kUnwritten = 0xffffffffu;              // a NaN that arithmetic never produces

template <int kHidden_, int kInner_, int kHeadDim_, int kQHeads_, int kKvHeads_, int kSlotBytes_, int kSlots_,
          int kWindow_, int kDeep_, int kInputs_ = 0, int kTopK_ = 1, int kExperts_ = 0>
struct Shape {
  static constexpr int kHidden = kHidden_, kInner = kInner_, kHeadDim = kHeadDim_, kQHeads = kQHeads_;
  static constexpr int kKvHeads = kKvHeads_, kSlots = kSlots_, kWindow = kWindow_, kDeep = kDeep_;
  static constexpr int kSlotBytes = kSlotBytes_;
  static constexpr int kInputs = kInputs_;  // bf16 inputs of a product kept in shared memory; 0: in registers
  static constexpr int kTopK = kTopK_,
                       kExperts = kExperts_;  // a mixture instead of a dense MLP; kExperts 0: none
  static constexpr int kG = kQHeads / kKvHeads, kQDim = kQHeads * kHeadDim, kKvDim = kKvHeads * kHeadDim;
  static constexpr int kQkvRows = kQDim + 2 * kKvDim;
  static constexpr CacheCode kCache = CacheCode::kPlain;        // bf16
  static constexpr int kPageHalf = kPageTokens * kHeadDim * 2;  // K (or V) of one head in one page
  static constexpr int kSlotPages = 1;                          // in a slot
  static_assert(2 * kPageHalf <= kSlotBytes && kG <= 8 && kHidden % kChunk == 0 && kInner % kChunk == 0 &&
                kQDim == kHidden);
  // Activations of one layer, f32.
  static constexpr size_t kQkv = 0, kAttention = kQkvRows, kMiddle = kAttention + kQDim,
                          kGated = kMiddle + kHidden;
  static constexpr size_t kOut = kGated + kInner * kTopK, kLayer = kOut + kHidden;
  // Shared memory.
  static constexpr int kMergeRow = kHeadDim + 4;
  // The inputs of products and the merge area of attention take turns: see Products and Attention.
  static constexpr int kMergeAt = kSlots * kSlotBytes, kMergeBytes = kConsumerWarps * kG * kMergeRow * 4;
  static constexpr int kMaxSumAt = kMergeAt + (kMergeBytes > kInputs * 2 ? kMergeBytes : kInputs * 2);
  static constexpr int kPartAt = kMaxSumAt + kConsumerWarps * kG * 8;
  static constexpr bool kEncoded = kInputs > 0;  // phases.cuh, otherwise operation.cuh
  static constexpr int kPartTables = kEncoded ? 2 : kTables;
  static constexpr int kRouterAt = kPartAt + kPartTables * kPartRows * kConsumerWarps * 4;  // sums of its rows
  static constexpr int kSquaresAt = kRouterAt + kExperts * kConsumerWarps * 4;
  static constexpr int kBarriersAt = kSquaresAt + 2 * kConsumerWarps * 4;
  static constexpr int kRoutedAt =  // barrier, then the Route
      kBarriersAt + 2 * (kSlots + (kEncoded ? 0 : kTables)) * 8;
  static constexpr int kRopeAt = kRoutedAt + (8 + 8 * kTopK + 15) / 16 * 16;
  static constexpr int kTokenAt = kRopeAt + kHeadDim / 2 * 8;  // current token: k, v (raw), scores of the group
  static constexpr int kShared = kTokenAt + (2 * kHeadDim + 8) * 4;
  static_assert(kShared <= 227 * 1024);
};

// The same with a cache of codes: of a page, codes of K and V, then words of K and V. A slot takes two pages
// of a head if it is large enough.
template <typename Plain, CacheCode kCode>
struct Coded : Plain {
  static constexpr CacheCode kCache = kCode;
  static constexpr int kTokenBytes = CodeBytes<kCode>(Plain::kHeadDim),
                       kTokenWords = CodeWords<kCode>(Plain::kHeadDim) * 4;  // bytes of both
  static constexpr int kPageHalf = kPageTokens * kTokenBytes, kPageWords = kPageTokens * kTokenWords;
  static constexpr int kPageBytes = 2 * (kPageHalf + kPageWords);
  static constexpr int kSlotPages = 2 * kPageBytes <= Plain::kSlotBytes ? 2 : 1;
  static_assert(kSlotPages * kPageBytes <= Plain::kSlotBytes);
  // Copies in flight; those of one page are half as many bytes.
  static constexpr int kCopies = 3 - kSlotPages;
  static constexpr int kCacheWindow =
      kCopies * Plain::kWindow < Plain::kSlots ? kCopies * Plain::kWindow : Plain::kSlots;
  static constexpr int kCacheDeep =
      kCopies * Plain::kDeep < Plain::kSlots ? kCopies * Plain::kDeep : Plain::kSlots;
};

enum class Phase { kQkv, kOut, kGateUp, kDown, kHead };

// Contiguous units of a CTA. What does not divide evenly rotates over the CTAs from layer to layer.
struct Slice {
  int first, count;
};
__device__ __forceinline__ Slice SliceOf(int units, int layer, int cta, int ctas) {
  const int base = units / ctas, extra = units % ctas, j = (cta + layer * extra) % ctas;
  return {j * base + min(j, extra), base + (j < extra ? 1 : 0)};
}

__device__ __forceinline__ bool Unwritten(float v) { return __float_as_uint(v) == kUnwritten; }
__device__ __forceinline__ bool Unwritten(float4 v) {
  return Unwritten(v.x) || Unwritten(v.y) || Unwritten(v.z) || Unwritten(v.w);
}
__device__ __forceinline__ float Rounded(float v) { return __bfloat162float(__float2bfloat16(v)); }
// The experts that the router chose, and what their outputs are multiplied by.
template <int kTopK>
struct Route {
  int expert[kTopK];
  float weight[kTopK];
};

// The next table, and the parity of its phase.
struct TableTurn {
  int table = 0;
  uint32_t parity = 0;
  __device__ void Advance() {
    if (++table == kTables) {
      table = 0;
      parity ^= 1;
    }
  }
};

template <typename S>
struct Cta {
  char* shared;
  const DenseStep& step;
  int vocab, layers, cta, ctas;

  __device__ uint32_t slot(int i) const {
    return SmemAddress(shared) + static_cast<uint32_t>(i * S::kSlotBytes);
  }
  __device__ uint32_t full(int i) const {
    return SmemAddress(shared) + static_cast<uint32_t>(S::kBarriersAt + 8 * i);
  }
  __device__ uint32_t empty(int i) const { return full(S::kSlots + i); }
  __device__ float* floats(int at) const { return reinterpret_cast<float*>(shared + at); }
  // Partial sums of a block of rows, [kPartRows][kConsumerWarps]: all warps have written; they have been read.
  __device__ float* table(int i) const { return floats(S::kPartAt) + i * kPartRows * kConsumerWarps; }
  __device__ uint32_t table_full(int i) const { return full(2 * S::kSlots + i); }
  __device__ uint32_t table_empty(int i) const { return table_full(kTables + i); }
  __device__ uint32_t routed() const { return SmemAddress(shared) + static_cast<uint32_t>(S::kRoutedAt); }
  __device__ Route<S::kTopK>* route() const {
    return reinterpret_cast<Route<S::kTopK>*>(shared + S::kRoutedAt + 8);
  }
  __device__ float2* rope() const { return reinterpret_cast<float2*>(shared + S::kRopeAt); }

  __device__ const bf16* token_row() const {  // of the embedding
    return static_cast<const bf16*>(step.embed) + static_cast<size_t>(*step.token) * S::kHidden;
  }
  __device__ static size_t step_floats(int layers) { return S::kLayer * static_cast<size_t>(layers); }
  __device__ float* layer_activations(int layer) const {
    return step.activations + (step.step & 1) * step_floats(layers) + static_cast<size_t>(layer) * S::kLayer;
  }
};

// The pages of a CTA, one KV head after the other. Positions first .. end-1 are in the cache. `share` is the
// CTA's turn in this layer: turns rotate from layer to layer, because pages rarely divide evenly over the CTAs.
template <typename S>
struct Walk {
  int first_page, per_head, groups, at, end, head, page, count;

  __device__ static int Turn(int layer, int cta, int ctas) { return (cta + layer * 61) % ctas; }
  __device__ static int Start(int per_head, int share, int ctas) {
    return static_cast<int>(static_cast<uint32_t>(per_head * S::kKvHeads) * static_cast<uint32_t>(share) /
                            static_cast<uint32_t>(ctas));
  }
  __device__ Walk(int first_position, int end_position, int share, int ctas) {
    first_page = first_position / kPageTokens;
    per_head = (end_position + kPageTokens - 1) / kPageTokens - first_page;
    groups = (end_position + kGroup - 1) / kGroup;
    at = Start(per_head, share, ctas);
    end = Start(per_head, share + 1, ctas);
    head = per_head > 0 ? at / per_head : 0;
    page = at - head * per_head;
    Size();
  }
  __device__ int absolute() const { return first_page + page; }        // in the sequence
  __device__ void Size() { count = min(4, groups - absolute() * 4); }  // groups of the page that hold tokens
  __device__ bool more() const { return at < end; }
  __device__ void Next() {
    ++at;
    if (++page == per_head) {
      page = 0;
      ++head;
    }
    Size();
  }
};

// The shares of a KV head: bit i of `on` is share base + i; `second`: the head is that share's second one.
template <typename S>
struct Sharers {
  int base;
  uint32_t on, second;
  __device__ Sharers(int per_head, int head, int ctas, int lane) {
    base = max(head * ctas / S::kKvHeads - 1, 0);
    const int other = base + lane, low = Walk<S>::Start(per_head, other, ctas);
    const int high = Walk<S>::Start(per_head, other + 1, ctas);
    const int head_low = head * per_head, head_high = head_low + per_head;
    const bool in = other < ctas && low < head_high && high > head_low && high > low;
    on = __ballot_sync(~0u, in);
    second = __ballot_sync(~0u, in && low < head_low);
  }
  // The share that merges the head.
  __device__ int merger(int head) const { return on != 0 ? base + __ffs(on) - 1 : head; }
};

__device__ __forceinline__ int FirstPosition(int position, int window) {
  return window > 0 ? max(0, position + 1 - window) : 0;
}

}  // namespace dsopt_cuda::persistent
#endif  // DSOPT_CUDA_PERSISTENT_SHAPE_CUH_
