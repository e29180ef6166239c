// latent_producer.cuh - the warp that streams weights and cached keys of the latent step into the ring. All its
// lanes walk through the same code; lane 0 copies, and of keys every lane one, so that they lie kKeyPitch
// apart.
#ifndef DSOPT_CUDA_PERSISTENT_LATENT_PRODUCER_CUH_
#define DSOPT_CUDA_PERSISTENT_LATENT_PRODUCER_CUH_

#include "persistent/latent_consumer.cuh"
#include "persistent/producer.cuh"

namespace dsopt_cuda::persistent {

template <typename S>
struct LatentProducer : Producer<S, LatentCta<S>> {
  using Base = Producer<S, LatentCta<S>>;
  using Base::my, Base::policy, Base::slot, Base::Acquire, Base::Advance;

  __device__ static bool First() { return threadIdx.x % 32 == 0; }
  __device__ void Copy(const void* from, int bytes, int window) {
    const uint32_t barrier = Acquire(window);
    if (First()) {
      BarrierExpect(barrier, static_cast<uint32_t>(bytes));
      BulkLoad(my.slot(slot), from, static_cast<uint32_t>(bytes), barrier, policy);
    }
    Advance();
  }
  // `bytes` in slots of at most `step`. The first slots of a phase may meet a hand-over; once kSlots of them
  // could be issued, the consumers have begun the phase.
  __device__ void CopyAll(const char* from, int bytes, int step) {
    for (int tile = 0; bytes > 0; ++tile, bytes -= step, from += step)
      Copy(from, min(step, bytes), tile < S::kSlots ? S::kWindow : S::kDeep);
  }
  __device__ void HeadMatrix(const void* matrix, int rows, int columns, int slot_rows) {
    const size_t bytes = static_cast<size_t>(rows) * columns * 2;
    CopyAll(static_cast<const char*>(matrix) + my.cta * bytes, static_cast<int>(bytes),
            slot_rows * columns * 2);
  }
  __device__ void Keys(const LatentLayer& layer, int position) {
    const KeyRange<S> range(position, my.cta, my.ctas);
    const int lane = threadIdx.x % 32;
    for (int key = range.first, tile = 0; key < range.end; key += kSlotKeys, ++tile) {
      const int count = min(kSlotKeys, range.end - key);
      const char* from = my.step.cache + layer.cache_offset +
                         static_cast<uint64_t>(__ldg(my.step.pages + key / kPageTokens)) * my.step.page_bytes +
                         key % kPageTokens * kKeyBytes;
      const uint32_t barrier = Acquire(tile < S::kSlots ? S::kWindow : S::kDeep);
      if (lane == 0) BarrierExpect(barrier, static_cast<uint32_t>(count * kKeyBytes));
      __syncwarp();
      if (lane < count)
        BulkLoad(my.slot(slot) + static_cast<uint32_t>(lane * kKeyPitch), from + lane * kKeyBytes, kKeyBytes,
                 barrier);
      Advance();
    }
  }
  // Router rows of this CTA: see LatentRouter.
  __device__ void RouterRows(const float* router) {
    for (int expert = my.cta; expert < S::kExperts; expert += my.ctas)
      Copy(router + static_cast<size_t>(expert) * S::kHidden, S::kHidden * 4, S::kWindow);
  }
  __device__ void AwaitRoute(int mixture) {
    BarrierWait(my.chosen(), static_cast<uint32_t>(mixture & 1));
#pragma unroll
    for (int k = 0; k < S::kTopK; ++k) this->expert[k] = my.route()->expert[k];
  }
  // Which of the chosen experts is the k-th: without indexing registers.
  __device__ int Expert(int k) const {
    int expert = this->expert[0];
#pragma unroll
    for (int i = 1; i < S::kTopK; ++i)
      if (i == k) expert = this->expert[i];
    return expert;
  }
};

// The whole step. Weights: LatentRows or LatentPacked.
template <typename S, typename Weights>
__device__ void ProduceLatent(LatentProducer<S> producer, int position) {
  const LatentCta<S>& my = producer.my;
  int mixtures = 0;
  for (int l = 0; l < my.layers; ++l) {
    const LatentLayer& layer = my.step.layers[l];
    Weights::template Stream<LatentPart::kDown>(producer, layer.down, S::kDownRows, l);
    if (my.has_head()) {
      if constexpr (S::kQRank > 0) Weights::StreamHeadQuery(producer, layer.q_up);
      producer.HeadMatrix(layer.k_up, kLatent, kNope, LatentConsumer<S>::kKUpRows);
    }
    producer.Keys(layer, position);
    if (my.has_head()) producer.HeadMatrix(layer.v_up, kHeadValues, kLatent, LatentConsumer<S>::kVUpRows);
    Weights::template Stream<LatentPart::kOut>(producer, layer.out, S::kHidden, l);
    if (layer.router == nullptr) {
      Weights::template Stream<LatentPart::kUp>(producer, layer.shared_gate_up, 2 * S::kDenseInner, l);
      Weights::template Stream<LatentPart::kDenseDown>(producer, layer.shared_down, S::kHidden, l);
      continue;
    }
    producer.RouterRows(layer.router);
    Weights::template Stream<LatentPart::kUp>(producer, layer.shared_gate_up, 2 * S::kSharedInner, l);
    producer.AwaitRoute(mixtures++);
    Weights::template Stream<LatentPart::kExpertsUp>(producer, layer.expert_gate_up, 2 * S::kInner * S::kTopK,
                                                     l);
    Weights::StreamMixtureDown(producer, layer, l);
  }
  Weights::template Stream<LatentPart::kHead>(producer, my.step.head, my.vocab, my.layers);
}

}  // namespace dsopt_cuda::persistent
#endif  // DSOPT_CUDA_PERSISTENT_LATENT_PRODUCER_CUH_
