// latent_shape.cuh - the persistent step of latent attention: dimensions, activations, shared memory, and how
// the cache is cut over the CTAs. What the step is: persistent_latent.cu.
#ifndef DSOPT_CUDA_PERSISTENT_LATENT_SHAPE_CUH_
#define DSOPT_CUDA_PERSISTENT_LATENT_SHAPE_CUH_

#include "common/attention_latent.cuh"
#include "persistent/shape.cuh"
#include "persistent_latent.h"

namespace dsopt_cuda::persistent {

inline constexpr int kLatent = 512, kLatentRope = 64, kNope = 128, kHeadValues = 128;
inline constexpr int kLatentWidth = kLatent + kLatentRope, kHeadQuery = kNope + kLatentRope;
inline constexpr int kKeyBytes = kLatentWidth * 2,
                     kKeyPitch = kKeyBytes + 16;                     // in the cache; in shared memory
inline constexpr int kSlotKeys = 16, kBlockKeys = 32;                // keys of a slot, of a step of attention
inline constexpr int kScorePitch = kBlockKeys + 8, kScoreParts = 4;  // floats; a score is the sum of four
inline constexpr int kWeightPitch = 2 * kBlockKeys + 16;             // bytes of a head's softmax weights
inline constexpr int kAttentionHeads = 16;  // that one CTA attends with at a time, unless in tiles
inline constexpr int kRoundBlocks = 4;      // row blocks of encoded weights between two barriers
inline constexpr int kMaxSplits = 160;      // of a head's keys
// Hand-overs of a layer, each with a counter: those of persistent_latent.cu, then partial results of tiles.
inline constexpr int kLatentPhases = 7, kTilePhase = 6;

// Shared memory of attention in tiles (latent_tiles.cuh): over the ring and what products use, where nothing
// is then. What is copied lies in the ring.
struct TileMemory {
  static constexpr int kStages = 2, kStageBytes = LatentTile::kParts * LatentTile::kPartBytes;
  static constexpr int kKeysAt = 0, kRopeKeysAt = kStages * kStageBytes;
  static constexpr int kQueriesAt = kRopeKeysAt + LatentTile::kColumnBytes;
  static constexpr int kWeightsAt = kQueriesAt + LatentTile::kRows * kKeyBytes;
  static constexpr int kFadesAt = kWeightsAt + kWarpgroup * LatentTile::kKeys / 4 * 4;
  static constexpr int kEnd = kFadesAt + kWarpgroup * 8;
  static constexpr int kBarriers = 2 * kStages * LatentTile::kParts + 5;
};

template <int kHidden_, int kHeads_, int kQRank_, int kInner_, int kShared_, int kDense_, int kExperts_,
          int kTopK_, int kGroups_, int kTopGroups_, int kParts_, int kWindow_, int kDeep_>
struct LatentDimensions {
  static constexpr int kHidden = kHidden_, kHeads = kHeads_, kQRank = kQRank_, kInner = kInner_;
  static constexpr int kSharedInner = kShared_, kDenseInner = kDense_, kExperts = kExperts_, kTopK = kTopK_;
  static constexpr int kGroups = kGroups_, kTopGroups = kTopGroups_;
  static constexpr int kHeadGroups = kHeads / kAttentionHeads, kHeadTiles = kHeads / LatentTile::kRows;
  static constexpr bool kTiled = kHeads % LatentTile::kRows == 0;  // attention of long contexts in tiles
  // Warps: consumers, with tiles a warpgroup that scores, producer, the one beside them; whole warpgroups.
  static constexpr int kThreads = kTiled ? kConsumers + 2 * kWarpgroup : kConsumers + 64;
  static constexpr int kWindow = kWindow_,
                       kDeep = kDeep_;                  // copies in flight: near a hand-over, inside a phase
  static constexpr int kSlotBytes = 21760, kSlots = 8;  // 10 chunks of int4, 2 rows of 5120, 16 keys
  static constexpr int kQPart = kQRank > 0 ? kQRank : kHeads *kHeadQuery, kDownRows = kQPart + kLatentWidth;
  static constexpr int kValues = kHeads * kHeadValues;
  static constexpr int kGatedValues =
      kSharedInner + kTopK * kInner > kDenseInner ? kSharedInner + kTopK* kInner : kDenseInner;
  static constexpr int kParts = kParts_;  // vectors whose sum is the output of out and down
  // Activations of one layer, in words: f32, or two bf16 where it says so.
  static constexpr size_t Align4(size_t n) { return (n + 3) / 4 * 4; }
  static constexpr size_t kDown = 0, kQuery = Align4(kDownRows);  // q | latent | rope; two bf16: [heads, 576]
  static constexpr size_t kAttended = kQuery + kHeads * kLatentWidth / 2;  // two bf16: [heads, v]
  static constexpr size_t kMiddle = kAttended + kValues / 2, kRouting = kMiddle + kParts * kHidden;
  static constexpr size_t kGated = kRouting + Align4(kExperts);  // two bf16: shared, then the chosen experts
  static constexpr size_t kOut = kGated + Align4(kGatedValues / 2), kLayer = kOut + kParts * kHidden;
  // Shared memory. The inputs of products take turns with the queries and then the scores of attention.
  static constexpr int kAreaAt = kSlots * kSlotBytes;
  // Attention: parts of scores, then softmax weights and factors of two blocks.
  static constexpr int kWeightsAt = kAreaAt + kAttentionHeads * kScoreParts * kScorePitch * 4;
  static constexpr int kFadesAt = kWeightsAt + 2 * kAttentionHeads * kWeightPitch;
  static constexpr int kAttendBytes = kFadesAt + 2 * kAttentionHeads * 4 - kAreaAt;
  static constexpr int Larger(int a, int b) { return a > b ? a : b; }
  static constexpr int kExpertBytes = kParts == 1 ? kTopK * kInner * 4 : 0;  // of LatentRows: see PutExperts
  static constexpr int kAreaBytes =
      Larger(Larger(Larger(kAttentionHeads * kKeyPitch, kAttendBytes), kExpertBytes),
             2 * Larger(kHidden, Larger(kValues, kGatedValues)));
  static constexpr int kPartAt = kAreaAt + (kAreaBytes + 15) / 16 * 16,
                       kPartFloats = kPartRows * kConsumerWarps;
  static constexpr int kPartTables = kParts > 1 ? 2 * kRoundBlocks : 2;
  static constexpr int kSquaresAt = kPartAt + kPartTables * kPartFloats * 4;
  static constexpr int kSquaresEnd = kSquaresAt + 2 * kConsumerWarps * 4;
  static constexpr int kBarriersAt = kTiled ? Larger(kSquaresEnd, TileMemory::kEnd) : kSquaresEnd;
  static constexpr int kTileBarriersAt = kBarriersAt + 2 * kSlots * 8;
  static constexpr int kSideAt =  // barriers: routed, token, chosen; the Route
      kTileBarriersAt + (kTiled ? (TileMemory::kBarriers + 1) / 2 * 16 : 0);
  static constexpr int kRopeAt = kSideAt + (32 + 8 * kTopK + 15) / 16 * 16;  // (cos, sin) of every pair
  static constexpr int kHeadQueryAt = kRopeAt + kLatentRope / 2 * 8;         // this CTA's head: q
  static constexpr int kHeadKeyAt = kHeadQueryAt + kHeadQuery * 4;           //   q absorbed | q rotated
  static constexpr int kTokenAt = kHeadKeyAt + kLatentWidth * 4;             // the current token's key
  static constexpr int kFactorsAt = kTokenAt + kLatentWidth * 4;  // of the splits; sum; token's factor
  static constexpr int kPagesAt = kFactorsAt + (kMaxSplits + 4) * 4;
  static constexpr int kShared = kPagesAt + (kTiled ? 32 : 0);
  static_assert(kShared <= 227 * 1024);
  static_assert(kSlotKeys * kKeyPitch <= kSlotBytes);
  static_assert(kHeads % kAttentionHeads == 0 && kExperts % 32 == 0);
  static_assert(!kTiled || TileMemory::kQueriesAt <= kAreaAt);
  static_assert(kSideAt % 16 == 0);
  static_assert(kHidden * 4 <= kSlotBytes);  // a row of the router
  static_assert(kHidden % 8 == 0 && kInner % 8 == 0 && kSharedInner % 8 == 0 && kDenseInner % 16 == 0);
};

inline constexpr int kShortKeys = 2048;  // see LatentCta::tiled

// The cached keys of one CTA in tiles: 64 heads, and a range of pages. As few splits as have no more pages
// each; CTAs beyond tiles x splits have none.
struct PageRange {
  int splits, tile, split, first, pages;

  template <typename S>
  __host__ __device__ static int Most(int ctas) {
    return ctas / S::kHeadTiles < kMaxSplits ? ctas / S::kHeadTiles : kMaxSplits;
  }
  template <typename S>
  __device__ static PageRange Of(int keys, int cta, int ctas) {
    const int all = (keys + kPageTokens - 1) / kPageTokens, most = Most<S>(ctas), turn = ctas - 1 - cta,
              each = max(1, (all + most - 1) / most);
    PageRange range = {(all + each - 1) / each, turn % S::kHeadTiles, turn / S::kHeadTiles, 0, 0};
    if (range.split >= range.splits) return range;
    range.first = all * range.split / range.splits;
    range.pages = all * (range.split + 1) / range.splits - range.first;
    return range;
  }
};

template <typename S>
struct LatentCta {
  char* shared;
  const LatentStep& step;
  int vocab, layers, cta, ctas;

  __device__ uint32_t slot(int i) const {
    return SmemAddress(shared) + static_cast<uint32_t>(i * S::kSlotBytes);
  }
  __device__ uint32_t full(int i) const {
    return SmemAddress(shared) + static_cast<uint32_t>(S::kBarriersAt + 8 * i);
  }
  __device__ uint32_t empty(int i) const { return full(S::kSlots + i); }
  __device__ float* floats(int at) const { return reinterpret_cast<float*>(shared + at); }
  __device__ uint32_t routed() const { return SmemAddress(shared) + static_cast<uint32_t>(S::kSideAt); }
  __device__ uint32_t token_ready() const { return routed() + 8; }
  __device__ uint32_t chosen() const { return routed() + 16; }  // the experts; routed: their weights too
  __device__ Route<S::kTopK>* route() const {
    return reinterpret_cast<Route<S::kTopK>*>(shared + S::kSideAt + 32);
  }
  __device__ float2* rope() const { return reinterpret_cast<float2*>(shared + S::kRopeAt); }

  __device__ static size_t step_floats(int layers) { return S::kLayer * static_cast<size_t>(layers); }
  __device__ float* layer_activations(int layer) const {
    return step.activations + (step.step & 1) * step_floats(layers) + static_cast<size_t>(layer) * S::kLayer;
  }
  __device__ PageRange& pages() const { return *reinterpret_cast<PageRange*>(shared + S::kPagesAt); }
  // Up to kShortKeys keys a CTA takes few heads, so that every one has a range and partial results are small;
  // beyond, tiles.
  __device__ bool tiled(int keys) const { return S::kTiled && step.tiled != 0 && keys > kShortKeys; }
  // Barriers of tiles. A part of a page has landed; its values have been read.
  __device__ uint32_t tile_barrier(int i) const {
    return SmemAddress(shared) + static_cast<uint32_t>(S::kTileBarriersAt + 8 * i);
  }
  __device__ uint32_t keys_full(int stage, int part) const {
    return tile_barrier(stage * LatentTile::kParts + part);
  }
  __device__ uint32_t keys_empty(int stage, int part) const {
    return keys_full(TileMemory::kStages + stage, part);
  }
  // The page's rope part has landed; its scores, and with them all uses of the queries, are done.
  __device__ uint32_t rope_full() const { return keys_full(2 * TileMemory::kStages, 0); }
  __device__ uint32_t rope_empty() const { return rope_full() + 8; }
  __device__ uint32_t queries_ready() const { return rope_full() + 16; }
  // A page's softmax weights and fades have been written; have been read.
  __device__ uint32_t sent() const { return rope_full() + 24; }
  __device__ uint32_t taken() const { return rope_full() + 32; }
  __device__ uint32_t at(int offset) const { return SmemAddress(shared) + static_cast<uint32_t>(offset); }
  __device__ uint32_t keys_at(int stage) const {
    return at(TileMemory::kKeysAt + stage * TileMemory::kStageBytes);
  }
  __device__ uint4* tile_weights() const { return reinterpret_cast<uint4*>(shared + TileMemory::kWeightsAt); }
  __device__ float2* tile_fades() const { return reinterpret_cast<float2*>(shared + TileMemory::kFadesAt); }

  __device__ bool has_head() const { return cta < S::kHeads; }
  __device__ bool appends() const { return cta == ctas - 1; }  // the current token to the cache; it has no head
};

// The same otherwise: a group of heads, and a range of whole blocks.
template <typename S>
struct KeyRange {
  int splits, group, split, first, end;  // keys [first, end)

  __device__ static int Splits(int keys, int ctas) {
    return min((keys + kBlockKeys - 1) / kBlockKeys, min(ctas / S::kHeadGroups, kMaxSplits));
  }
  __device__ KeyRange(int keys, int cta, int ctas) {
    const int blocks = (keys + kBlockKeys - 1) / kBlockKeys;
    splits = Splits(keys, ctas);
    // From the last CTA down: those without a head have time.
    const int turn = ctas - 1 - cta;
    group = turn % S::kHeadGroups;
    split = turn / S::kHeadGroups;
    first = end = 0;
    if (split >= splits) return;
    first = blocks * split / splits * kBlockKeys;
    end = min(keys, blocks * (split + 1) / splits * kBlockKeys);
  }
};

// What goes through the ring in a layer, in this order; the head follows the last layer. kQUp to kVUp, but for
// the keys: of CTAs with a head. kRouter, kExpertsUp, kMixtureDown: of mixtures, kDenseDown: of the other
// layers.
enum class LatentPart {
  kDown,
  kQUp,
  kKUp,
  kKeys,
  kVUp,
  kOut,
  kRouter,
  kUp,
  kExpertsUp,
  kMixtureDown,
  kDenseDown,
  kHead
};
__device__ constexpr LatentPart NextPart(LatentPart part) {
  return static_cast<LatentPart>(static_cast<int>(part) + 1);
}

template <typename S>
__device__ __forceinline__ int RowsOf(LatentPart part, bool mixture, int vocab) {
  switch (part) {
    case LatentPart::kDown:
      return S::kDownRows;
    case LatentPart::kUp:
      return 2 * (mixture ? S::kSharedInner : S::kDenseInner);
    case LatentPart::kExpertsUp:
      return 2 * S::kInner * S::kTopK;
    case LatentPart::kHead:
      return vocab;
    default:
      return S::kHidden;
  }
}

}  // namespace dsopt_cuda::persistent
#endif  // DSOPT_CUDA_PERSISTENT_LATENT_SHAPE_CUH_
