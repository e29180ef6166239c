// packed.cuh - products of the persistent decode step with encoded weights (packed.h): the input is kept as
// bf16 in shared memory, codes become the A operand of mma.m16n8k16. All eight columns of B are the same input,
// so any of D's is the sum. A CTA owns whole row blocks of 16; its eight warps share the columns of each piece,
// and their sums meet in the epilogue.
#ifndef DSOPT_CUDA_PERSISTENT_PACKED_CUH_
#define DSOPT_CUDA_PERSISTENT_PACKED_CUH_

#include <type_traits>

#include "persistent/mixture.cuh"
#include "persistent/packed_piece.cuh"
#include "persistent/phases.cuh"

namespace dsopt_cuda::persistent {

template <typename S, typename F, Phase kP>
struct PackedPieces : PhaseOf<S, kP> {
  using PhaseOf<S, kP>::kK;
  using PhaseOf<S, kP>::kSources;
  static constexpr int kChunkBytes = PackedFormat<F>::kChunkBytes, kColumns = kK / kSources;  // of one matrix
  static constexpr int kChunks = PieceChunks(kColumns / kChunkColumns, kChunkBytes, S::kSlotBytes);
  static constexpr int kPieces = kColumns / (kChunks * kChunkColumns),
                       kTiles = kChunks * kChunkTiles / kConsumerWarps;
  static constexpr uint32_t kBytes = kChunks * kChunkBytes;
  // Of a mixture: row blocks of one expert.
  static constexpr int kExpertRows = kP == Phase::kGateUp ? 2 * S::kInner : S::kHidden,
                       kExpertBlocks = kExpertRows / kBlockRows;
  static constexpr bool kOfExperts = S::kExperts > 0 && (kP == Phase::kGateUp || kP == Phase::kDown);
  static_assert(kBytes <= S::kSlotBytes && kColumns % (kChunks * kChunkColumns) == 0 && kK <= S::kInputs);
};

template <typename S, typename F, typename HeadF>
struct PackedProducts : PackedPiece<Mixture<S, PhaseInputs<S>>> {
  using Base = PackedPiece<Mixture<S, PhaseInputs<S>>>;
  using Base::Barrier, Base::NextSlot;
  using Base::my, Base::tid, Base::slot, Base::parity, Base::part_buffer;
  template <Phase kP>
  using Format = std::conditional_t<kP == Phase::kHead, HeadF, F>;

  template <Phase kP>
  __device__ static Slice Blocks(const Cta<S>& my, int layer) {
    return SliceOf(UnitsOf<kP>(my) * PhaseOf<S, kP>::kUnitRows / kBlockRows, layer, my.cta, my.ctas);
  }

  template <Phase kP>
  __device__ static void Stream(Producer<S>& producer, const DenseMatrix& matrix, int layer) {
    using P = PackedPieces<S, Format<kP>, kP>;
    const Slice slice = Blocks<kP>(producer.my, layer);
    const char* w = static_cast<const char*>(matrix.data);
    int tile = 0;
    for (int b = 0; b < slice.count; ++b) {
      const int block = slice.first + b;
#pragma unroll
      for (int k = 0; k < P::kSources; ++k) {
        const char* from =
            w + static_cast<int64_t>(MatrixBlock<P>(block, k, producer.expert)) * P::kPieces * P::kBytes;
        for (int i = 0; i < P::kPieces; ++i, ++tile, from += P::kBytes) {
          const uint32_t barrier = producer.Acquire(tile < S::kSlots ? S::kWindow : S::kDeep);
          BarrierExpect(barrier, P::kBytes);
          BulkLoad(producer.my.slot(producer.slot), from, P::kBytes, barrier, producer.policy);
          producer.Advance();
        }
      }
    }
  }
  // Where the phase's row block lies among those of all experts. source: which of the chosen experts, for down;
  // the blocks of gate and up belong to one expert after the other.
  template <typename P>
  __device__ static int MatrixBlock(int block, int source, const int* experts) {
    if constexpr (!P::kOfExperts) return block;
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

  // Sum over the weights of row `row` (of its matrix) that stand in the overflow list; block: among those of
  // all matrices.
  __device__ float OverflowSum(const DenseMatrix& matrix, int block, int row, int first_input) const {
    const bf16* x = reinterpret_cast<const bf16*>(my.shared + S::kMergeAt) + first_input;
    float sum = 0;
    for (int i = __ldg(matrix.overflow_first + block), end = __ldg(matrix.overflow_first + block + 1); i < end;
         ++i) {
      const Overflow o = matrix.overflow[i];
      if (static_cast<int>(o.row) != row) continue;
      const float delta = __uint_as_float(static_cast<uint32_t>(o.bits) << 16) -
                          Lossless12::Scale(o.base) * Lossless12::kStandIn;
      sum = fmaf(delta, __bfloat162float(x[o.column]), sum);
    }
    return sum;
  }

  // One product for this CTA's row blocks. wait: for the input.
  template <Phase kP, typename Wait>
  __device__ void Product(int layer, const DenseMatrix& matrix, const float* gains, const float* input,
                          float* output, Wait wait) {
    using G = Format<kP>;
    using P = PackedPieces<S, G, kP>;
    constexpr int kN = P::kK / kChunk * kVec, kUnits = kBlockRows / P::kUnitRows;
    const int lane = tid % 32, warp = tid / 32;
    const Slice slice = Blocks<kP>(my, layer);
    const float* squares;
    {
      float a[kN];
      squares = this->template LoadInput<kP>(layer, gains, input, a, wait);
      if constexpr (S::kExperts > 0 && kP == Phase::kGateUp) this->ChooseExperts(a, squares);
      if constexpr (S::kExperts > 0 && kP == Phase::kDown) this->WeighExperts(a);
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
    for (int b = 0; b < slice.count; ++b) {
      const int block = slice.first + b, unit = block * kUnits + tid;
      float* part = my.floats(S::kPartAt) + part_buffer * kPartRows * kConsumerWarps;
      const float residual = this->template Residual<kP>(layer, unit, tid < kUnits);
      float low = 0, high = 0;  // rows lane / 4 and 8 more
#pragma unroll 1
      for (int k = 0; k < P::kSources; ++k) {
        float scale_low = 1, scale_high = 1;
        if constexpr (PackedFormat<G>::kByRow) {
          const float* scales =
              matrix.row_scales + MatrixBlock<P>(block, k, my.route()->expert) * kBlockRows + lane / 4;
          scale_low = __ldg(scales), scale_high = __ldg(scales + 8);
        }
        constexpr int kSums = PackedFormat<G>::kByRow ? P::kTiles : 1;
        float acc[kSums][4] = {};
#pragma unroll 1
        for (int p = 0; p < P::kPieces; ++p)
          this->template Piece<G, P::kTiles, kSums>(x + (k * P::kColumns + p * P::kChunks * kChunkColumns) * 2, acc);
#pragma unroll
        for (int i = 1; i < kSums; ++i) acc[0][0] += acc[i][0], acc[0][2] += acc[i][2];
        low = fmaf(acc[0][0], scale_low, low);
        high = fmaf(acc[0][2], scale_high, high);
      }
      if (lane % 4 == 0) {
        part[lane / 4 * kConsumerWarps + warp] = low;
        part[(lane / 4 + 8) * kConsumerWarps + warp] = high;
      }
      Barrier();
      this->template Epilogue<kP>(
          part, squares, output + block * kUnits, kUnits, residual, [&](int r, float y) {
            if constexpr (PackedFormat<G>::kLossless) {
              for (int k = 0; matrix.overflow_first != nullptr && k < P::kSources; ++k) {
                const int at = MatrixBlock<P>(block, k, my.route()->expert);
                const int row = at % P::kExpertBlocks * kBlockRows + tid * P::kUnitRows + r;
                y += OverflowSum(matrix, at, P::kOfExperts ? row : unit * P::kUnitRows + r, k * P::kColumns);
              }
            }
            return y;
          });
      part_buffer ^= 1;  // the next block writes the other table, so one barrier per block is enough
    }
    // Warp 0 may still read the input: for the overflow list.
    if (PackedFormat<G>::kLossless && matrix.overflow_first != nullptr) Barrier();
  }
};

}  // namespace dsopt_cuda::persistent
#endif  // DSOPT_CUDA_PERSISTENT_PACKED_CUH_
