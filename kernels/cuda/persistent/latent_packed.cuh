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
  template <LatentPart kP>
  static constexpr int kColumnsOf = LatentPartOf<S, kP>::kColumns;
  template <LatentPart kP>
  using Format = std::conditional_t<kP == LatentPart::kHead, HeadF, F>;
  static constexpr int kHalfTopK = S::kTopK / 2;
  static_assert(S::kParts == 2 && S::kTopK % 2 == 0 && !PackedFormat<F>::kByRow && !PackedFormat<F>::kLossless);

  template <typename P>
  __device__ static void CopyPieces(LatentProducer<S>& producer, const char* from, int pieces, int& tile) {
#pragma unroll 1
    for (int i = 0; i < pieces; ++i, ++tile, from += P::kBytes)
      producer.Copy(from, P::kBytes, tile < S::kSlots ? S::kWindow : S::kDeep);
  }
  template <LatentPart kP>
  __device__ static void Stream(LatentProducer<S>& producer, const DenseMatrix& matrix, int rows, int layer) {
    using P = Pieces<Format<kP>, kColumnsOf<kP>>;
    const char* from = static_cast<const char*>(matrix.data);
    int tile = 0;
    if constexpr (kP == LatentPart::kOut || kP == LatentPart::kDenseDown) {
      static_assert(P::kPieces % 2 == 0);
      const Slice slice = SliceOf(rows / kBlockRows * 2, layer, producer.my.cta, producer.my.ctas);  // halves
      CopyPieces<P>(producer, from + static_cast<int64_t>(slice.first) * (P::kPieces / 2) * P::kBytes,
                    slice.count * (P::kPieces / 2), tile);
      return;
    }
    const Slice slice = SliceOf(rows / kBlockRows, layer, producer.my.cta, producer.my.ctas);
    if constexpr (kP == LatentPart::kExpertsUp) {
      constexpr int kExpertBlocks = 2 * S::kInner / kBlockRows;
#pragma unroll 1
      for (int block = slice.first; block < slice.first + slice.count; ++block) {
        const int at = producer.Expert(block / kExpertBlocks) * kExpertBlocks + block % kExpertBlocks;
        CopyPieces<P>(producer, from + static_cast<int64_t>(at) * P::kPieces * P::kBytes, P::kPieces, tile);
      }
    } else {
      CopyPieces<P>(producer, from + static_cast<int64_t>(slice.first) * P::kPieces * P::kBytes,
                    slice.count * P::kPieces, tile);
    }
  }
  __device__ static void StreamHeadQuery(LatentProducer<S>& producer, const DenseMatrix& matrix) {
    using P = Pieces<F, S::kQRank>;
    constexpr int kPieces = kHeadQuery / kBlockRows * P::kPieces;
    int tile = 0;
    CopyPieces<P>(
        producer,
        static_cast<const char*>(matrix.data) + static_cast<int64_t>(producer.my.cta) * kPieces * P::kBytes,
        kPieces, tile);
  }
  // A half of a row block: half of the experts, half of the shared columns.
  __device__ static void StreamMixtureDown(LatentProducer<S>& producer, const LatentLayer& layer, int l) {
    using P = Pieces<F, S::kInner>;
    using Q = Pieces<F, S::kSharedInner>;
    static_assert(Q::kPieces % 2 == 0);
    const Slice slice = SliceOf(S::kHidden / kBlockRows * 2, l, producer.my.cta, producer.my.ctas);
    const char *experts = static_cast<const char*>(layer.expert_down.data),
               *shared = static_cast<const char*>(layer.shared_down.data);
    int tile = 0;
#pragma unroll 1
    for (int unit = slice.first; unit < slice.first + slice.count; ++unit) {
      const int block = unit / 2, half = unit % 2;
#pragma unroll 1
      for (int k = half * kHalfTopK; k < (half + 1) * kHalfTopK; ++k) {
        const int64_t at = static_cast<int64_t>(producer.Expert(k)) * (S::kHidden / kBlockRows) + block;
        CopyPieces<P>(producer, experts + at * P::kPieces * P::kBytes, P::kPieces, tile);
      }
      CopyPieces<Q>(producer,
                    shared + (static_cast<int64_t>(block) * Q::kPieces + half * (Q::kPieces / 2)) * Q::kBytes,
                    Q::kPieces / 2, tile);
    }
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
  template <int kColumns>
  __device__ __forceinline__ void CopyInput(const float* from) const {
    uint4 v[kThreadVectors<kColumns>];
    this->template PollPairs<kColumns>(from, v);
#pragma unroll
    for (int i = 0; i < kThreadVectors<kColumns>; ++i)
      if (this->template Mine<kColumns>(i))
        *reinterpret_cast<uint4*>(my.shared + S::kAreaAt + (i * kChunk + tid * kVec) * 2) = v[i];
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

  template <LatentPart kP, typename Store>
  __device__ void Multiply(const DenseMatrix& matrix, int rows, int layer,
                           const float (&)[kThreadVectors<kColumnsOf<kP>> * kVec], Store store) {
    using G = Format<kP>;
    using P = Pieces<G, kColumnsOf<kP>>;
    const int lane = tid % 32;
    Units(
        SliceOf(rows / kBlockRows, layer, my.cta, my.ctas),
        [&](int block, float& low, float& high) {
          float scale_low = 1, scale_high = 1;
          if constexpr (PackedFormat<G>::kByRow) {
            scale_low = __ldg(matrix.row_scales + block * kBlockRows + lane / 4);
            scale_high = __ldg(matrix.row_scales + block * kBlockRows + lane / 4 + 8);
          }
          AddPieces<G, P>(P::kPieces, 0, 1.0f, low, high);
          low *= scale_low, high *= scale_high;
        },
        [&](int block, int r, float y) { store(block * kBlockRows + r, y, r < kBlockRows); });
  }
  template <typename Store>
  __device__ void HeadQuery(const DenseMatrix&, const float (&)[kThreadVectors<S::kQRank> * kVec],
                            Store store) {
    using P = Pieces<F, S::kQRank>;
    Units(
        {0, kHeadQuery / kBlockRows},
        [&](int, float& low, float& high) { AddPieces<F, P>(P::kPieces, 0, 1.0f, low, high); },
        [&](int block, int r, float y) { store(block * kBlockRows + r, y, r < kBlockRows); });
  }
  template <LatentPart kP, typename Store>
  __device__ void MultiplyPairs(const DenseMatrix&, int layer, const float* from, Store store) {
    using P = Pieces<F, kColumnsOf<kP>>;
    CopyInput<kColumnsOf<kP>>(from);
    Units(
        SliceOf(S::kHidden / kBlockRows * 2, layer, my.cta, my.ctas),
        [&](int unit, float& low, float& high) {
          AddPieces<F, P>(P::kPieces / 2, unit % 2 * (kColumnsOf<kP> / 2), 1.0f, low, high);
        },
        [&](int unit, int r, float y) { store(unit / 2 * kBlockRows + r, y, unit % 2, r < kBlockRows); });
  }
  template <typename Store>
  __device__ void MixtureDown(const LatentLayer&, int layer, const float* from, Store store) {
    using P = Pieces<F, S::kInner>;
    using Q = Pieces<F, S::kSharedInner>;
    CopyInput<S::kSharedInner + S::kTopK * S::kInner>(from);
    Units(
        SliceOf(S::kHidden / kBlockRows * 2, layer, my.cta, my.ctas),
        [&](int unit, float& low, float& high) {
          const int half = unit % 2;
#pragma unroll 1
          for (int k = half * kHalfTopK; k < (half + 1) * kHalfTopK; ++k)
            AddPieces<F, P>(P::kPieces, S::kSharedInner + k * S::kInner, my.route()->weight[k], low, high);
          AddPieces<F, Q>(Q::kPieces / 2, half * (S::kSharedInner / 2), 1.0f, low, high);
        },
        [&](int unit, int r, float y) { store(unit / 2 * kBlockRows + r, y, unit % 2, r < kBlockRows); });
  }
};

}  // namespace dsopt_cuda::persistent
#endif  // DSOPT_CUDA_PERSISTENT_LATENT_PACKED_CUH_
