// producer.cuh - the lane that streams weights and cache pages into the ring. It waits for ring space only,
// never for a phase: weights and past cache entries are immutable.
#ifndef DSOPT_CUDA_PERSISTENT_PRODUCER_CUH_
#define DSOPT_CUDA_PERSISTENT_PRODUCER_CUH_

#include "persistent/shape.cuh"

namespace dsopt_cuda::persistent {

template <typename S, typename C = Cta<S>>
struct Producer {
  C my;
  uint64_t policy;
  int slot = 0, landing = 0, in_flight = 0;
  int expert[S::kTopK] = {};  // of the layer's mixture
  uint32_t parity = 0, landing_parity = 0;

  // Makes the next slot ours and keeps at most window - 1 other copies in flight.
  __device__ uint32_t Acquire(int window) {
    BarrierWait(my.empty(slot), parity ^ 1);
#pragma unroll 1
    for (; in_flight >= window; --in_flight) {
      BarrierWait(my.full(landing), landing_parity);
      if (++landing == S::kSlots) {
        landing = 0;
        landing_parity ^= 1;
      }
    }
    ++in_flight;
    return my.full(slot);
  }
  __device__ void Advance() {
    if (++slot == S::kSlots) {
      slot = 0;
      parity ^= 1;
    }
  }
  __device__ void Cache(const DenseLayer& layer, int index, int position) {
    if constexpr (S::kCache == CacheCode::kPlain)
      PlainCache(layer, index, position);
    else
      CodedCache(layer, index, position);
  }
  __device__ void PlainCache(const DenseLayer& layer, int index, int position) {
    Walk<S> walk(FirstPosition(position, layer.window), position, Walk<S>::Turn(index, my.cta, my.ctas),
                 my.ctas);
    if (!walk.more()) return;
    const char* base = my.step.cache + layer.cache_offset;
    int page = __ldg(my.step.pages + walk.absolute());
    for (int tile = 0; walk.more(); ++tile) {
      const char* from = base + static_cast<uint64_t>(page) * my.step.page_bytes +
                         static_cast<size_t>(walk.head) * S::kPageHalf;
      const uint32_t bytes = static_cast<uint32_t>(walk.count * kGroup * S::kHeadDim * 2);
      walk.Next();
      if (walk.more()) page = __ldg(my.step.pages + walk.absolute());  // lands while we wait for a slot
      const uint32_t barrier = Acquire(tile < S::kSlots ? S::kWindow : S::kDeep);
      BarrierExpect(barrier, 2 * bytes);
      BulkLoad(my.slot(slot), from, bytes, barrier, policy);
      BulkLoad(my.slot(slot) + S::kPageHalf, from + static_cast<size_t>(S::kKvHeads) * S::kPageHalf, bytes,
               barrier, policy);
      Advance();
    }
  }
  // A slot takes up to kSlotPages pages of one head.
  __device__ void CodedCache(const DenseLayer& layer, int index, int position) {
    constexpr uint32_t kCodes = S::kTokenBytes, kWords = S::kTokenWords;
    Walk<S> walk(FirstPosition(position, layer.window), position, Walk<S>::Turn(index, my.cta, my.ctas),
                 my.ctas);
    const char* base = my.step.cache + layer.cache_offset;
    for (int tile = 0; walk.more(); ++tile) {
      const int head = walk.head;
      const char* page[S::kSlotPages];
      uint32_t tokens[S::kSlotPages], all = 0;
#pragma unroll
      for (int i = 0; i < S::kSlotPages; ++i) {
        tokens[i] = 0;
        if (!walk.more() || walk.head != head) continue;
        page[i] = base + static_cast<uint64_t>(__ldg(my.step.pages + walk.absolute())) * my.step.page_bytes;
        tokens[i] = static_cast<uint32_t>(walk.count * kGroup);
        all += tokens[i];
        walk.Next();
      }
      const uint32_t barrier = Acquire(tile < S::kSlots ? S::kCacheWindow : S::kCacheDeep);
      BarrierExpect(barrier, all * 2 * (kCodes + kWords));
#pragma unroll
      for (int i = 0; i < S::kSlotPages; ++i) {
        if (tokens[i] == 0) continue;
        const uint32_t to = my.slot(slot) + i * S::kPageBytes, words = to + 2 * S::kPageHalf;
        const char* k = page[i] + head * S::kPageHalf;
        const char* k_words = page[i] + 2 * S::kKvHeads * S::kPageHalf + head * S::kPageWords;
        BulkLoad(to, k, tokens[i] * kCodes, barrier, policy);
        BulkLoad(to + S::kPageHalf, k + S::kKvHeads * S::kPageHalf, tokens[i] * kCodes, barrier, policy);
        BulkLoad(words, k_words, tokens[i] * kWords, barrier, policy);
        BulkLoad(words + S::kPageWords, k_words + S::kKvHeads * S::kPageWords, tokens[i] * kWords, barrier,
                 policy);
      }
      Advance();
    }
  }
};

// The router's weights (f32), which every CTA multiplies for itself, then its choice. Experts per slot: see
// Mixture.
template <typename S>
__device__ void StreamRouter(Producer<S>& producer, const float* router, int layer) {
  constexpr uint32_t kBytes = S::kHidden * 4 * (S::kSlotBytes / (S::kHidden * 4));
  const char* from = reinterpret_cast<const char*>(router);
  for (uint32_t at = 0; at < S::kExperts * S::kHidden * 4u; at += kBytes) {
    const uint32_t barrier = producer.Acquire(S::kWindow);
    BarrierExpect(barrier, kBytes);
    BulkLoad(producer.my.slot(producer.slot), from + at, kBytes, barrier);
    producer.Advance();
  }
  BarrierWait(producer.my.routed(), static_cast<uint32_t>(layer & 1));
#pragma unroll
  for (int k = 0; k < S::kTopK; ++k) producer.expert[k] = producer.my.route()->expert[k];
}

}  // namespace dsopt_cuda::persistent
#endif  // DSOPT_CUDA_PERSISTENT_PRODUCER_CUH_
