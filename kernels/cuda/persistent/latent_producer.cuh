// latent_producer.cuh - the warp that streams weights and cached keys of the latent step into the ring. All its
// lanes walk through the same code; lane 0 copies, and of keys every lane one, so that they lie kKeyPitch
// apart.
#ifndef DSOPT_CUDA_PERSISTENT_LATENT_PRODUCER_CUH_
#define DSOPT_CUDA_PERSISTENT_LATENT_PRODUCER_CUH_

#include "persistent/latent_tiles.cuh"
#include "persistent/producer.cuh"

namespace dsopt_cuda::persistent {

// What a CTA copies in one part: `stretches` of bytes that follow each other, `step` bytes a copy. One stretch:
// units `slice`, of unit_bytes each, from base on.
struct PartPlan {
  const void* base;
  int unit_bytes, step;
  Slice slice;
  int stretches = 1;

  __device__ const char* Unit(int i) const {
    return static_cast<const char*>(base) + static_cast<int64_t>(i) * unit_bytes;
  }
};
struct Stretch {
  const char* from;
  int bytes, step;
};

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
  // A stretch in slots of at most its step. tile: copies of the part so far. The first slots of a phase may
  // meet a hand-over; once kSlots of them could be issued, the consumers have begun the phase.
  __device__ void CopyAll(Stretch of, int& tile) {
#pragma unroll 1
    for (; of.bytes > 0; ++tile, of.bytes -= of.step, of.from += of.step)
      Copy(of.from, min(of.step, of.bytes), tile < S::kSlots ? S::kWindow : S::kDeep);
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
    // The other tile of heads reads the same keys at about the same time. If they stayed, they would push out of
    // L2 what CTAs hand over.
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
  // The k-th of the chosen experts. They stay until the next mixture's logits are there, which need what is
  // copied here.
  __device__ int Expert(int k) const { return my.route()->expert[k]; }
  __device__ void AwaitRoute(int mixture) const {
    BarrierWait(my.chosen(), static_cast<uint32_t>(mixture & 1));
  }
};

// The whole step. Weights: LatentRows or LatentPacked, with PlanOf for the parts whose weights may be encoded,
// and StretchOf for those of several stretches; kExpertsTile: copies of their phase before the experts' gate
// and up. All parts take turns in one piece of code.
template <typename S, typename Weights>
__device__ void ProduceLatent(LatentProducer<S> producer, int position) {
  using Part = LatentPart;
  const LatentCta<S>& my = producer.my;
  int mixtures = 0;
#pragma unroll 1
  for (int l = 0; l <= my.layers; ++l) {
    const LatentLayer& layer = my.step.layers[l];
    const bool head = l == my.layers, mixture = !head && layer.router != nullptr;
    const Part last = head ? Part::kHead : mixture ? Part::kMixtureDown : Part::kDenseDown;
#pragma unroll 1
    for (Part part = head ? Part::kHead : Part::kDown; part <= last; part = NextPart(part)) {
      if (part == Part::kKeys) {
        producer.Keys(layer, l, position);
        continue;
      }
      const bool of_head = part == Part::kQUp || part == Part::kKUp || part == Part::kVUp,
                 of_mixture = part == Part::kRouter || part == Part::kExpertsUp || part == Part::kMixtureDown;
      if (of_head && (!my.has_head() || (part == Part::kQUp && S::kQRank == 0))) continue;
      if (of_mixture && !mixture) continue;
      if (part == Part::kExpertsUp) producer.AwaitRoute(mixtures++);
      PartPlan plan;
      if (part == Part::kKUp)
        plan = {layer.k_up, kLatent * kNope * 2, LatentConsumer<S>::kKUpRows * kNope * 2, {my.cta, 1}};
      else if (part == Part::kVUp)
        plan = {layer.v_up, kHeadValues * kLatent * 2, LatentConsumer<S>::kVUpRows * kLatent * 2, {my.cta, 1}};
      else if (part == Part::kRouter)
        plan = {layer.router,
                S::kHidden * 4,
                S::kHidden * 4,
                {my.cta, 1},
                (S::kExperts - my.cta + my.ctas - 1) / my.ctas};
      else
        plan = Weights::PlanOf(my, part, layer, l);
      int tile = part == Part::kExpertsUp ? Weights::kExpertsTile : 0;
#pragma unroll 1
      for (int i = 0; i < plan.stretches; ++i) {
        Stretch of = {plan.Unit(plan.slice.first), plan.slice.count * plan.unit_bytes, plan.step};
        if (part == Part::kRouter)
          of.from = plan.Unit(my.cta + i * my.ctas);
        else if (part == Part::kExpertsUp || part == Part::kMixtureDown)
          of = Weights::StretchOf(producer, part, layer, plan, i);
        producer.CopyAll(of, tile);
      }
    }
  }
}

}  // namespace dsopt_cuda::persistent
#endif  // DSOPT_CUDA_PERSISTENT_LATENT_PRODUCER_CUH_
