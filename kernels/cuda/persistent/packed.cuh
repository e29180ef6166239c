// packed.cuh - products of the persistent decode step with encoded weights (packed.h): the input is kept as
// bf16 in shared memory, codes become the A operand of mma.m16n8k16. All eight columns of B are the same input,
// so any of D's is the sum. A CTA owns whole row blocks of 16; its eight warps share the columns of each piece,
// and their sums meet in the epilogue.
#ifndef DSOPT_CUDA_PERSISTENT_PACKED_CUH_
#define DSOPT_CUDA_PERSISTENT_PACKED_CUH_

#include <type_traits>

#include "persistent/mixture.cuh"
#include "persistent/packed_piece.cuh"
#include "persistent/producer.cuh"

namespace dsopt_cuda::persistent {

// Pieces of row blocks of products with kColumnsOf<S, kWide>, of kSources matrices side by side.
template <typename S, typename F, bool kWide>
struct PackedPieces {
  static constexpr int kK = kColumnsOf<S, kWide>, kSources = kWide ? S::kTopK : 1;
  static constexpr int kChunkBytes = PackedFormat<F>::kChunkBytes, kColumns = kK / kSources;  // of one matrix
  static constexpr int kChunks = PieceChunks(kColumns / kChunkColumns, kChunkBytes, S::kSlotBytes);
  static constexpr int kPieces = kColumns / (kChunks * kChunkColumns),
                       kTiles = kChunks * kChunkTiles / kConsumerWarps;
  static constexpr uint32_t kBytes = kChunks * kChunkBytes;
  // Of a mixture: row blocks of one expert.
  static constexpr int kExpertBlocks = (kWide ? S::kHidden : 2 * S::kInner) / kBlockRows;
  static_assert(kBytes <= S::kSlotBytes && kColumns % (kChunks * kChunkColumns) == 0 && kK <= S::kInputs);
};

template <typename S, typename F, typename HeadF>
struct PackedProducts : PackedPiece<Mixture<S>> {
  using Base = PackedPiece<Mixture<S>>;
  using Base::Barrier, Base::NextSlot;
  using Base::my, Base::tid, Base::slot, Base::parity;
  static constexpr bool kOneFormat = std::is_same_v<F, HeadF>;

  __device__ static Slice Blocks(const Cta<S>& my, const Operation<S>& op) {
    return SliceOf(op.units(my) * op.unit_rows() / kBlockRows, op.layer, my.cta, my.ctas);
  }
  __device__ static Slice Rows(const Cta<S>& my, const Operation<S>& op) {
    const Slice blocks = Blocks(my, op);
    return {blocks.first * kBlockRows, blocks.count * kBlockRows};
  }
  __device__ static bool OfExperts(const Operation<S>& op) {
    return S::kExperts > 0 && (op.phase == Phase::kGateUp || op.phase == Phase::kDown);
  }

  // A product's weights: this CTA's row blocks.
  __device__ static void Stream(Producer<S>& producer, const Operation<S>& op, const char* w) {
    if (op.phase == Phase::kDown)
      StreamBlocks<F, true>(producer, op, w);
    else if (!kOneFormat && op.phase == Phase::kHead)
      StreamBlocks<HeadF, false>(producer, op, w);
    else
      StreamBlocks<F, false>(producer, op, w);
  }
  template <typename G, bool kWide>
  __device__ static void StreamBlocks(Producer<S>& producer, const Operation<S>& op, const char* w) {
    using P = PackedPieces<S, G, kWide>;
    const Slice slice = Blocks(producer.my, op);
    int tile = 0;
#pragma unroll 1
    for (int b = 0; b < slice.count * P::kSources; ++b) {
      const int block = MatrixBlock<P>(op, slice.first + b / P::kSources, b % P::kSources, producer.expert);
      const char* from = w + static_cast<int64_t>(block) * P::kPieces * P::kBytes;
#pragma unroll 1
      for (int i = 0; i < P::kPieces; ++i, ++tile, from += P::kBytes) {
        const uint32_t barrier = producer.Acquire(tile < S::kSlots ? S::kWindow : S::kDeep);
        BarrierExpect(barrier, P::kBytes);
        BulkLoad(producer.my.slot(producer.slot), from, P::kBytes, barrier, producer.policy);
        producer.Advance();
      }
    }
  }
  // Where the product's row block lies among those of all experts. source: which of the chosen experts, for
  // down; the blocks of gate and up belong to one expert after the other.
  template <typename P>
  __device__ static int MatrixBlock(const Operation<S>& op, int block, int source, const int* experts) {
    if (!OfExperts(op)) return block;
    int k = source, in_expert = block;
    if (P::kSources == 1) {
      k = block / P::kExpertBlocks;
      in_expert = block % P::kExpertBlocks;
    }
    int expert = experts[0];
#pragma unroll
    for (int i = 1; i < S::kTopK; ++i)
      if (i == k) expert = experts[i];
    return expert * P::kExpertBlocks + in_expert;
  }

  // A row's sum, and what the overflow list adds to it.
  __device__ static float Corrected(const Cta<S>& my, const Operation<S>& op, const DenseMatrix& matrix, int row,
                                    float y) {
    if (!PackedFormat<F>::kLossless || matrix.overflow_first == nullptr) return y;
    const int block = row / kBlockRows;
    if (op.phase != Phase::kDown) return y + OverflowSum<false>(my, op, matrix, block, 0, row % kBlockRows);
#pragma unroll 1
    for (int k = 0; k < S::kTopK; ++k) y += OverflowSum<true>(my, op, matrix, block, k, row % kBlockRows);
    return y;
  }
  // Of row `row` of a block, over the weights that stand in the overflow list.
  template <bool kWide>
  __device__ static float OverflowSum(const Cta<S>& my, const Operation<S>& op, const DenseMatrix& matrix,
                                      int block, int source, int row) {
    using P = PackedPieces<S, F, kWide>;
    const int at = MatrixBlock<P>(op, block, source, my.route()->expert);
    row += (OfExperts(op) ? at % P::kExpertBlocks : at) * kBlockRows;
    const bf16* x = reinterpret_cast<const bf16*>(my.shared + S::kMergeAt) + source * P::kColumns;
    float sum = 0;
#pragma unroll 1
    for (int i = __ldg(matrix.overflow_first + at), end = __ldg(matrix.overflow_first + at + 1); i < end; ++i) {
      const Overflow o = matrix.overflow[i];
      if (static_cast<int>(o.row) != row) continue;
      const float delta = __uint_as_float(static_cast<uint32_t>(o.bits) << 16) -
                          Lossless12::Scale(o.base) * Lossless12::kStandIn;
      sum = fmaf(delta, __bfloat162float(x[o.column]), sum);
    }
    return sum;
  }
  // Inputs are read until a product ends, with an overflow list by the epilogue, too. Other inputs come after a
  // hand-over, which all of these take part in; what attention puts in their place does not wait for one.
  __device__ static bool EpilogueReads(const Operation<S>& op, const DenseMatrix& matrix) {
    return PackedFormat<F>::kLossless && op.phase == Phase::kQkv && matrix.overflow_first != nullptr;
  }
  // Of the epilogue.
  __device__ static void Finished(const Operation<S>& op, const DenseMatrix& matrix) {
    if (EpilogueReads(op, matrix)) NamedBarrier<kInputsBarrier>(kConsumers + 32);
  }

  // One product: this CTA's row blocks of it.
  __device__ void Multiply(const Operation<S>& op, const DenseLayer& weights) {
    if (op.phase == Phase::kDown)
      MultiplyBlocks<F, true>(op, weights);
    else if (!kOneFormat && op.phase == Phase::kHead)
      MultiplyBlocks<HeadF, false>(op, weights);
    else
      MultiplyBlocks<F, false>(op, weights);
  }
  template <typename G, bool kWide>
  __device__ __forceinline__ void MultiplyBlocks(const Operation<S>& op, const DenseLayer& weights) {
    using P = PackedPieces<S, G, kWide>;
    constexpr int kN = P::kK / kChunk * kVec;
    const int lane = tid % 32, warp = tid / 32;
    Slice slice = Blocks(my, op);
    asm volatile("" : "+r"(slice.first), "+r"(slice.count));  // worked out before the wait
    const DenseMatrix matrix = op.matrix(my, weights);
    const float* squares;
    {
      float a[kN];
      squares = this->template LoadInput<kWide>(op, weights, a);
      if constexpr (S::kExperts > 0 && !kWide)
        if (op.phase == Phase::kGateUp) this->ChooseExperts(a, squares);
      if constexpr (S::kExperts > 0 && kWide) this->WeighExperts(a);
        // The merge area is free: attention and the product before have passed their last barrier.
#pragma unroll
      for (int i = 0; i < kN; i += 8) {
        const uint4 v = {PackBf16(a[i], a[i + 1]), PackBf16(a[i + 2], a[i + 3]), PackBf16(a[i + 4], a[i + 5]),
                         PackBf16(a[i + 6], a[i + 7])};
        *reinterpret_cast<uint4*>(my.shared + S::kMergeAt + (i / kVec * kChunk + tid * kVec) * 2) = v;
      }
    }
    Barrier();
    const uint32_t x = SmemAddress(my.shared) + S::kMergeAt;
#pragma unroll 1
    for (int b = 0; b < slice.count; ++b) {
      const int block = slice.first + b;
      float low = 0, high = 0;  // rows lane / 4 and 8 more
#pragma unroll 1
      for (int k = 0; k < P::kSources; ++k) {
        float scale_low = 1, scale_high = 1;
        if constexpr (PackedFormat<G>::kByRow) {
          const float* scales =
              matrix.row_scales + MatrixBlock<P>(op, block, k, my.route()->expert) * kBlockRows + lane / 4;
          scale_low = __ldg(scales), scale_high = __ldg(scales + 8);
        }
        constexpr int kSums = PackedFormat<G>::kByRow ? P::kTiles : 1;
        float acc[kSums][4] = {};
#pragma unroll 1
        for (int p = 0; p < P::kPieces; ++p)
          this->template Piece<G, P::kTiles, kSums>(x + (k * P::kColumns + p * P::kChunks * kChunkColumns) * 2,
                                                    acc);
#pragma unroll
        for (int i = 1; i < kSums; ++i) acc[0][0] += acc[i][0], acc[0][2] += acc[i][2];
        low = fmaf(acc[0][0], scale_low, low);
        high = fmaf(acc[0][2], scale_high, high);
      }
      float* part = this->AwaitTable();
      if (lane % 4 == 0) {
        part[lane / 4 * kConsumerWarps + warp] = low;
        part[(lane / 4 + 8) * kConsumerWarps + warp] = high;
      }
      this->PublishTable();
    }
    if (EpilogueReads(op, matrix))
      NamedBarrier<kInputsBarrier>(kConsumers + 32);
    else if (op.phase == Phase::kQkv)
      Barrier();
  }
};

}  // namespace dsopt_cuda::persistent
#endif  // DSOPT_CUDA_PERSISTENT_PACKED_CUH_
