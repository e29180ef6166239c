// latent_producer.cuh - the warp that streams weights and cached keys of the latent step into the ring. All its
// lanes walk through the same code; lane 0 copies, and of keys every lane one, so that they lie kKeyPitch
// apart.
#ifndef DSOPT_CUDA_PERSISTENT_LATENT_PRODUCER_CUH_
#define DSOPT_CUDA_PERSISTENT_LATENT_PRODUCER_CUH_

#include "persistent/latent_tiles.cuh"
#include "persistent/producer.cuh"

namespace dsopt_cuda::persistent {

template <typename S>
struct LatentProducer : Producer<S, LatentCta<S>> {
  using Base = Producer<S, LatentCta<S>>;
  using Base::my, Base::policy, Base::slot, Base::parity, Base::Acquire, Base::Advance;

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
#pragma unroll 1
    for (int tile = 0; bytes > 0; ++tile, bytes -= step, from += step)
      Copy(from, min(step, bytes), tile < S::kSlots ? S::kWindow : S::kDeep);
  }
  __device__ void HeadMatrix(const void* matrix, int rows, int columns, int slot_rows) {
    const size_t bytes = static_cast<size_t>(rows) * columns * 2;
    CopyAll(static_cast<const char*>(matrix) + my.cta * bytes, static_cast<int>(bytes),
            slot_rows * columns * 2);
  }
  __device__ void Keys(const LatentLayer& layer, int l, int position) {
    if constexpr (S::kTiled) {
      if (my.tiled(position)) {
        KeyTiles(layer, l);
        return;
      }
    }
    const KeyRange<S> range(position, my.cta, my.ctas);
    const int lane = threadIdx.x % 32;
    const uint64_t kept = S::kHeadGroups > 1 ? EvictNormal() : policy;  // for the other groups
#pragma unroll 1
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
                 barrier, kept);
      Advance();
    }
  }
  // The same in tiles: see latent_tiles.cuh. They take the ring's place from when its last slot is empty until
  // their values have been read, which scores and queries were before.
  __device__ void KeyTiles(const LatentLayer& layer, int l) {
    const PageRange range = my.pages();
    if (range.pages == 0) return;
#pragma unroll 1
    for (int i = 0; i < S::kSlots; ++i) BarrierWait(my.empty(i), i < slot ? parity : parity ^ 1);
    // The cache as rows of one key: whole ones, see MapLatentCache.
    const int page_rows = static_cast<int>(my.step.page_bytes / kKeyBytes),
              layer_row = static_cast<int>(layer.cache_offset / kKeyBytes);
    const int* pages = my.step.pages + range.first;
    // The other tile of heads reads the same keys at about the same time. If they stayed, they would push out of L2
    // what CTAs hand over.
    int next = __ldg(pages);
#pragma unroll 1
    for (int i = 0; i < range.pages; ++i) {
      const TilePage page(range, l, i);
      const int row = next * page_rows + layer_row, stage = page.stage();
      if (i + 1 < range.pages) next = __ldg(pages + i + 1);
#pragma unroll 1
      for (int part = 0; part < LatentTile::kParts; ++part) {
        const uint32_t to = my.keys_at(stage) + static_cast<uint32_t>(part * LatentTile::kPartBytes),
                       full = my.keys_full(stage, part);
        BarrierWait(my.keys_empty(stage, part), page.stage_parity() ^ 1);  // passes for the first ones
        if (!First()) continue;
        BarrierExpect(full, LatentTile::kPartBytes);
#pragma unroll
        for (int c = 0; c < LatentTile::kPartColumns / 64; ++c)
          TensorLoad(to + c * LatentTile::kColumnBytes, &my.step.keys, part * LatentTile::kPartColumns + c * 64,
                     row, full, policy);
      }
      // There is room for the next page's rope part only when this one's has been read.
      if (First() && i + 1 < range.pages) TensorPrefetch(&my.step.keys, kLatent, next * page_rows + layer_row);
      BarrierWait(my.rope_empty(), page.parity() ^ 1);
      if (First()) {
        BarrierExpect(my.rope_full(), LatentTile::kColumnBytes);
        TensorLoad(my.at(TileMemory::kRopeKeysAt), &my.step.keys, kLatent, row, my.rope_full(), policy);
      }
    }
#pragma unroll 1
    for (int i = max(range.pages - TileMemory::kStages, 0); i < range.pages; ++i) {
      const TilePage last(range, l, i);
#pragma unroll 1
      for (int part = 0; part < LatentTile::kParts; ++part)
        BarrierWait(my.keys_empty(last.stage(), part), last.stage_parity());
    }
  }
  // Router rows of this CTA: see LatentRouter.
  __device__ void RouterRows(const float* router) {
#pragma unroll 1
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
    producer.Keys(layer, l, position);
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
