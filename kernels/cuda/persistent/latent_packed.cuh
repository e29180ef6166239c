// latent_packed.cuh - products of the latent step with encoded weights: whole row blocks of 16, the input as
// bf16 in shared memory. Out and down have few row blocks for so many CTAs, so a unit of theirs is half the
// columns of a block, and their output two vectors whose sum is wanted.
#ifndef DSOPT_CUDA_PERSISTENT_LATENT_PACKED_CUH_
#define DSOPT_CUDA_PERSISTENT_LATENT_PACKED_CUH_

#include "persistent/latent_attention.cuh"
#include "persistent/latent_producer.cuh"
#include "persistent/packed_piece.cuh"

namespace dsopt_cuda::persistent {

// How a row block of kColumns goes through the ring.
template <typename F, int kColumns, int kSlotBytes>
struct LatentPieces {
  static constexpr int kChunkBytes = PackedFormat<F>::kChunkBytes;
  static constexpr int kChunks = PieceChunks(kColumns / kChunkColumns, kChunkBytes, kSlotBytes);
  static constexpr int kPieces = kColumns / (kChunks * kChunkColumns),
                       kTiles = kChunks * kChunkTiles / kConsumerWarps;
  static constexpr int kBytes = kChunks * kChunkBytes;
  static_assert(kBytes <= kSlotBytes && kColumns % (kChunks * kChunkColumns) == 0);
};

template <typename S, typename F, typename HeadF>
struct LatentPacked : PackedPiece<LatentAttention<S>> {
  using Base = PackedPiece<LatentAttention<S>>;
  using Base::Barrier;
  using Base::my, Base::tid, Base::part_buffer;
  template <typename G, int kColumns>
  using Pieces = LatentPieces<G, kColumns, S::kSlotBytes>;
  static constexpr int kHalfTopK = S::kTopK / 2, kExpertsTile = 0;
  // Row blocks of a product of the residual stream; of out and of both kinds of down, of which a unit is a
  // half.
  using Hidden = Pieces<F, S::kHidden>;
  using Head = Pieces<HeadF, S::kHidden>;
  using Query = Pieces<F, S::kQRank>;
  using Values = Pieces<F, S::kValues>;
  using Dense = Pieces<F, S::kDenseInner>;
  using Expert = Pieces<F, S::kInner>;
  using Shared = Pieces<F, S::kSharedInner>;
  static_assert(S::kParts == 2 && S::kTopK % 2 == 0 && !PackedFormat<F>::kByRow && !PackedFormat<F>::kLossless);
  // Pairs of products that are the same code.
  static_assert(Values::kTiles == Dense::kTiles && Values::kPieces % 2 == 0 && Dense::kPieces % 2 == 0);
  static_assert(Expert::kTiles == Shared::kTiles && Expert::kPieces * 2 == Shared::kPieces);
  static constexpr int kExpertBlocks = 2 * S::kInner / kBlockRows, kHiddenBlocks = S::kHidden / kBlockRows;
  static constexpr int kMostVectors = kThreadVectors<S::Larger(S::kValues, S::kGatedValues)>;

  template <typename P>
  static constexpr int kBlockBytes = P::kPieces* P::kBytes;

  __device__ static PartPlan PlanOf(const LatentCta<S>& my, LatentPart part, const LatentLayer& layer, int l) {
    const bool mixture = part != LatentPart::kHead && layer.router != nullptr;
    const bool halves =
        part == LatentPart::kOut || part == LatentPart::kMixtureDown || part == LatentPart::kDenseDown;
    const int blocks = RowsOf<S>(part, mixture, my.vocab) / kBlockRows;
    const Slice slice = SliceOf(halves ? 2 * blocks : blocks, l, my.cta, my.ctas);
    switch (part) {
      case LatentPart::kQUp:
        return {layer.q_up.data, kHeadQuery / kBlockRows * kBlockBytes<Query>, Query::kBytes, {my.cta, 1}};
      case LatentPart::kOut:
        return {layer.out.data, kBlockBytes<Values> / 2, Values::kBytes, slice};
      case LatentPart::kDenseDown:
        return {layer.shared_down.data, kBlockBytes<Dense> / 2, Dense::kBytes, slice};
      case LatentPart::kMixtureDown:
        return {layer.expert_down.data, kBlockBytes<Expert>, Expert::kBytes, slice,
                slice.count * (kHalfTopK + 1)};
      case LatentPart::kHead:
        return {my.step.head.data, kBlockBytes<Head>, Head::kBytes, slice};
      case LatentPart::kDown:
        return {layer.down.data, kBlockBytes<Hidden>, Hidden::kBytes, slice};
      case LatentPart::kExpertsUp:
        return {layer.expert_gate_up.data, kBlockBytes<Hidden>, Hidden::kBytes, slice, slice.count};
      default:
        return {layer.shared_gate_up.data, kBlockBytes<Hidden>, Hidden::kBytes, slice};
    }
  }
  // Gate and up of an expert: a block. Down of a mixture: half a block, that is half of the experts, then half
  // of the shared columns.
  __device__ static Stretch StretchOf(const LatentProducer<S>& producer, LatentPart part,
                                      const LatentLayer& layer, const PartPlan& plan, int i) {
    int block = plan.slice.first + i, k = block / kExpertBlocks, expert_blocks = kExpertBlocks;
    if (part == LatentPart::kMixtureDown) {
      const int unit = plan.slice.first + i / (kHalfTopK + 1), j = i % (kHalfTopK + 1), half = unit % 2;
      block = unit / 2;
      if (j == kHalfTopK)
        return {static_cast<const char*>(layer.shared_down.data) +
                    (static_cast<int64_t>(block) * 2 + half) * (kBlockBytes<Shared> / 2),
                kBlockBytes<Shared> / 2, Shared::kBytes};
      k = half * kHalfTopK + j;
      expert_blocks = kHiddenBlocks;
    } else {
      block %= kExpertBlocks;
    }
    return {plan.Unit(producer.Expert(k) * expert_blocks + block), plan.unit_bytes, plan.step};
  }

  __device__ uint32_t area() const { return SmemAddress(my.shared) + S::kAreaAt; }
  // This thread's columns of the input into the area. Ends with a Barrier.
  template <int kColumns>
  __device__ __forceinline__ void PutInput(const float (&a)[kThreadVectors<kColumns> * kVec]) const {
#pragma unroll
    for (int i = 0; i < kThreadVectors<kColumns>; ++i)
      if (this->template Mine<kColumns>(i))
        *reinterpret_cast<uint4*>(my.shared + S::kAreaAt + (i * kChunk + tid * kVec) * 2) = Pack8(a + i * kVec);
    Barrier();
  }
  // The same of `vectors` vectors of pairs of bf16 a thread, at most kMost.
  template <int kMost>
  __device__ __forceinline__ void CopyInput(const float* from, int vectors) const {
    uint4 v[kMost];
    bool again;
#pragma unroll 1
    do {
      again = false;
#pragma unroll
      for (int i = 0; i < kMost; ++i)
        v[i] = i < vectors ? LoadRelaxedWords4(from + (i * kChunk + tid * kVec) / 2) : make_uint4(0, 0, 0, 0);
#pragma unroll
      for (int i = 0; i < kMost; ++i) again |= Unwritten(v[i]);
    } while (again);
#pragma unroll
    for (int i = 0; i < kMost; ++i)
      if (i < vectors) *reinterpret_cast<uint4*>(my.shared + S::kAreaAt + (i * kChunk + tid * kVec) * 2) = v[i];
    Barrier();
  }
  // Adds the next kPieces pieces, whose inputs begin at column `column` of the area, times `factor` to this
  // lane's rows.
  template <typename G, typename P>
  __device__ __forceinline__ void AddPieces(int pieces, int column, float factor, float& low, float& high) {
    constexpr int kSums = PackedFormat<G>::kByRow ? P::kTiles : 1;
    float acc[kSums][4] = {};
#pragma unroll 1
    for (int p = 0; p < pieces; ++p)
      this->template Piece<G, P::kTiles, kSums>(
          area() + static_cast<uint32_t>((column + p * P::kChunks * kChunkColumns) * 2), acc);
#pragma unroll
    for (int i = 1; i < kSums; ++i) acc[0][0] += acc[i][0], acc[0][2] += acc[i][2];
    low = fmaf(acc[0][0], factor, low);
    high = fmaf(acc[0][2], factor, high);
  }
  // Row blocks, or halves of them, kRoundBlocks between two barriers: multiply(unit, low, high) adds this
  // warp's columns to its lane's rows; then one warp per unit has the sums: store(unit, lane, sum).
  template <typename Multiply, typename Store>
  __device__ __forceinline__ void Units(const Slice& slice, Multiply multiply, Store store) {
    const int lane = tid % 32, warp = tid / 32;
#pragma unroll 1
    for (int done = 0; done < slice.count; done += kRoundBlocks) {
      const int n = min(kRoundBlocks, slice.count - done), table = part_buffer * kRoundBlocks;
#pragma unroll 1
      for (int i = 0; i < n; ++i) {
        float low = 0, high = 0;
        multiply(slice.first + done + i, low, high);
        float* part = this->Part(table + i);
        if (lane % 4 == 0) {
          part[lane / 4 * kConsumerWarps + warp] = low;
          part[(lane / 4 + 8) * kConsumerWarps + warp] = high;
        }
      }
      Barrier();
      if (warp < n) store(slice.first + done + warp, lane, this->RowSum(this->Part(table + warp)));
      part_buffer ^= 1;  // the next round writes other tables, so one barrier per round is enough
    }
  }

  // kDown, kUp, kExpertsUp, kHead.
  template <typename Store>
  __device__ __forceinline__ void Multiply(LatentPart part, int rows, int layer,
                                           const float (&)[kThreadVectors<S::kHidden> * kVec], Store store) {
    const Slice slice = SliceOf(rows / kBlockRows, layer, my.cta, my.ctas);
    const auto put = [&](int block, int r, float y) { store(block * kBlockRows + r, y, r < kBlockRows); };
    if (part != LatentPart::kHead) {
      Units(
          slice,
          [&](int, float& low, float& high) { AddPieces<F, Hidden>(Hidden::kPieces, 0, 1.0f, low, high); },
          put);
      return;
    }
    Units(
        slice,
        [&](int block, float& low, float& high) {
          float scale_low = 1, scale_high = 1;
          if constexpr (PackedFormat<HeadF>::kByRow) {
            const float* scales = my.step.head.row_scales + block * kBlockRows + tid % 32 / 4;
            scale_low = __ldg(scales);
            scale_high = __ldg(scales + 8);
          }
          AddPieces<HeadF, Head>(Head::kPieces, 0, 1.0f, low, high);
          low *= scale_low, high *= scale_high;
        },
        put);
  }
  template <typename Store>
  __device__ __forceinline__ void HeadQuery(const float (&)[kThreadVectors<S::kQRank> * kVec], Store store) {
    Units(
        {0, kHeadQuery / kBlockRows},
        [&](int, float& low, float& high) { AddPieces<F, Query>(Query::kPieces, 0, 1.0f, low, high); },
        [&](int block, int r, float y) { store(block * kBlockRows + r, y, r < kBlockRows); });
  }
  // kOut, kMixtureDown, kDenseDown: outputs of pairs of bf16. store(row, y, part of the output, valid).
  template <typename Store>
  __device__ __forceinline__ void MultiplyPairs(LatentPart part, int layer, const float* from, Store store) {
    constexpr int kMixture = S::kSharedInner + S::kTopK * S::kInner;
    static_assert(S::kValues % kChunk == 0 && S::kDenseInner % kChunk == 0 && kMixture % kChunk == 0);
    const int columns = part == LatentPart::kOut           ? S::kValues
                        : part == LatentPart::kMixtureDown ? kMixture
                                                           : S::kDenseInner;
    CopyInput<kMostVectors>(from, columns / kChunk);
    Units(
        SliceOf(kHiddenBlocks * 2, layer, my.cta, my.ctas),
        [&](int unit, float& low, float& high) {
          const int half = unit % 2;
          if (part != LatentPart::kMixtureDown) {
            AddPieces<F, Values>((part == LatentPart::kOut ? Values::kPieces : Dense::kPieces) / 2,
                                 half * (columns / 2), 1.0f, low, high);
            return;
          }
#pragma unroll 1
          for (int i = 0; i <= kHalfTopK; ++i) {
            // Half of the experts, then half of the shared columns.
            const int k = half * kHalfTopK + i;
            const bool shared = i == kHalfTopK;
            AddPieces<F, Expert>(Expert::kPieces,
                                 shared ? half * (S::kSharedInner / 2) : S::kSharedInner + k * S::kInner,
                                 shared ? 1.0f : my.route()->weight[k], low, high);
          }
        },
        [&](int unit, int r, float y) { store(unit / 2 * kBlockRows + r, y, unit % 2, r < kBlockRows); });
  }
};

}  // namespace dsopt_cuda::persistent
#endif  // DSOPT_CUDA_PERSISTENT_LATENT_PACKED_CUH_
