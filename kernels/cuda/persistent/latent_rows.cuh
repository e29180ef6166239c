// latent_rows.cuh - products of the latent step with bf16 weights as they lie in memory, row by row: all
// threads share a row, each keeps its columns of the input in registers.
#ifndef DSOPT_CUDA_PERSISTENT_LATENT_ROWS_CUH_
#define DSOPT_CUDA_PERSISTENT_LATENT_ROWS_CUH_

#include "persistent/latent_attention.cuh"
#include "persistent/latent_producer.cuh"

namespace dsopt_cuda::persistent {

// How rows of kColumns go through the ring, and how many share one cross-lane reduction.
template <int kColumns, int kSlotBytes>
struct LatentRowTiles {
  static constexpr int kRowBytes = kColumns * 2, kSplit = kRowBytes <= kSlotBytes ? 1 : 2;  // slots of a row
  static constexpr int kFit = kSlotBytes / kRowBytes;
  static constexpr int kTileRows = kFit >= 8 ? 8 : kFit >= 6 ? 6 : kFit >= 4 ? 4 : kFit >= 2 ? 2 : 1;
  static constexpr int kBatch = kTileRows == 6 ? 6 : 8, kBlock = 2 * kBatch;
  static constexpr int kTileColumns = kColumns / kSplit, kTileBytes = kTileRows * kRowBytes / kSplit;
  static_assert(kTileColumns % 8 == 0 && kTileBytes <= kSlotBytes);
};

template <typename S>
struct LatentRows : LatentAttention<S> {
  using Base = LatentAttention<S>;
  using Base::Barrier, Base::NextSlot;
  using Base::my, Base::tid, Base::slot, Base::parity, Base::part_buffer;
  template <int kColumns>
  using Tiles = LatentRowTiles<kColumns, S::kSlotBytes>;
  template <LatentPart kP>
  static constexpr int kColumnsOf = LatentPartOf<S, kP>::kColumns;
  static constexpr int kMixtureBatch = 6,
                       kSharedRows = 3;  // rows of down together; of the shared experts in a slot
  static_assert(S::kParts == 1);
  static_assert(kMixtureBatch * S::kInner * 2 <= S::kSlotBytes &&
                kSharedRows * S::kSharedInner * 2 <= S::kSlotBytes);

  // Rows of gate and up go in fours: two results make a word.
  template <LatentPart kP>
  __device__ static Slice RowsOf(const LatentCta<S>& my, int rows, int layer) {
    constexpr int kUnit = kP == LatentPart::kUp || kP == LatentPart::kExpertsUp ? 4 : 1;
    const Slice slice = SliceOf(rows / kUnit, layer, my.cta, my.ctas);
    return {slice.first * kUnit, slice.count * kUnit};
  }
  template <LatentPart kP>
  __device__ static void Stream(LatentProducer<S>& producer, const DenseMatrix& matrix, int rows, int layer) {
    using T = Tiles<kColumnsOf<kP>>;
    const Slice slice = RowsOf<kP>(producer.my, rows, layer);
    const char* from = static_cast<const char*>(matrix.data);
    if constexpr (kP == LatentPart::kExpertsUp) {
      static_assert(T::kSplit == 1 && 4 % T::kTileRows == 0 &&
                    2 * S::kInner % 4 == 0);  // a tile has one expert
      for (int row = slice.first, end = slice.first + slice.count; row < end; row += T::kTileRows) {
        const int64_t at = static_cast<int64_t>(producer.Expert(row / (2 * S::kInner))) * (2 * S::kInner) +
                           row % (2 * S::kInner);
        producer.Copy(from + at * T::kRowBytes, T::kTileBytes, S::kDeep);
      }
    } else {
      producer.CopyAll(from + static_cast<int64_t>(slice.first) * T::kRowBytes, slice.count * T::kRowBytes,
                       T::kTileBytes);
    }
  }
  __device__ static void StreamHeadQuery(LatentProducer<S>& producer, const DenseMatrix& matrix) {
    using T = Tiles<S::kQRank>;
    producer.CopyAll(static_cast<const char*>(matrix.data) +
                         static_cast<int64_t>(producer.my.cta) * kHeadQuery * T::kRowBytes,
                     kHeadQuery * T::kRowBytes, T::kTileBytes);
  }
  __device__ static void StreamMixtureDown(LatentProducer<S>& producer, const LatentLayer& layer, int l) {
    const Slice slice = SliceOf(S::kHidden, l, producer.my.cta, producer.my.ctas);
    const char *experts = static_cast<const char*>(layer.expert_down.data),
               *shared = static_cast<const char*>(layer.shared_down.data);
    for (int row = slice.first, left = slice.count; left > 0; row += kMixtureBatch, left -= kMixtureBatch) {
      const int n = min(left, kMixtureBatch), window = row == slice.first ? S::kWindow : S::kDeep;
#pragma unroll
      for (int k = 0; k < S::kTopK; ++k)
        producer.Copy(experts + (static_cast<int64_t>(producer.expert[k]) * S::kHidden + row) * (S::kInner * 2),
                      n * S::kInner * 2, window);
      for (int r = 0; r < n; r += kSharedRows)
        producer.Copy(shared + static_cast<int64_t>(row + r) * (S::kSharedInner * 2),
                      min(kSharedRows, n - r) * S::kSharedInner * 2, window);
    }
  }

  // Adds this thread's share of the next tile's dot products to v. a: its columns of the input.
  template <int kColumns, int kRows>
  __device__ __forceinline__ void Tile(const float* a, float* v) {
    BarrierWait(my.full(slot), parity);
    const uint32_t tile = my.slot(slot) + static_cast<uint32_t>(tid * kVec * 2);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      float sum = 0;
#pragma unroll
      for (int c = 0; c < kThreadVectors<kColumns>; ++c) {
        if (!this->template Mine<kColumns>(c)) continue;
        float w[kVec];
        Expand(LoadShared16(tile + static_cast<uint32_t>((r * kColumns + c * kChunk) * 2)), w);
#pragma unroll
        for (int j = 0; j < kVec; ++j) sum = fmaf(w[j], a[c * kVec + j], sum);
      }
      v[r] += sum;
    }
    NextSlot();
  }
  // Rows in blocks of two batches. batch(n, v): adds this thread's share of the next n rows to v; store(row, y,
  // valid): a lane of warp 0 has row `row`, counted from the slice's start.
  template <int kBatch, typename Batch, typename Store>
  __device__ __forceinline__ void Blocks(int rows, Batch batch, Store store) {
    const int lane = tid % 32, warp = tid / 32;
#pragma unroll 1
    for (int row0 = 0; row0 < rows; row0 += 2 * kBatch) {
      float* part = this->Part(part_buffer);
      const int n = min(2 * kBatch, rows - row0);
#pragma unroll 1
      for (int r0 = 0; r0 < n; r0 += kBatch) {
        float v[8] = {};
        batch(min(kBatch, n - r0), v);
        const float sum = ReduceRows<8>(v, lane);
        if (lane % 4 == 0 && lane / 4 < kBatch) part[(r0 + lane / 4) * kConsumerWarps + warp] = sum;
      }
      Barrier();
      if (warp == 0) store(row0 + lane, this->RowSum(part), lane < n);
      part_buffer ^= 1;  // the next block writes the other table, so one barrier per block is enough
    }
  }
  template <int kColumns, typename Store>
  __device__ __forceinline__ void Rows(int rows, const float (&a)[kThreadVectors<kColumns> * kVec],
                                       Store store) {
    using T = Tiles<kColumns>;
    static_assert(T::kSplit == 1);
    Blocks<T::kBatch>(
        rows,
        [&](int n, float(&v)[8]) {
#pragma unroll
          for (int t = 0; t < T::kBatch; t += T::kTileRows) {
            if (t >= n) break;
            Tile<kColumns, T::kTileRows>(a, v + t);
          }
        },
        store);
  }

  // Inputs stay in registers. Ends with a Barrier, as with encoded weights.
  template <int kColumns>
  __device__ void PutInput(const float (&)[kThreadVectors<kColumns> * kVec]) const {
    Barrier();
  }

  template <LatentPart kP, typename Store>
  __device__ void Multiply(const DenseMatrix&, int rows, int layer,
                           const float (&a)[kThreadVectors<kColumnsOf<kP>> * kVec], Store store) {
    const Slice slice = RowsOf<kP>(my, rows, layer);
    Rows<kColumnsOf<kP>>(slice.count, a,
                         [&](int row, float y, bool valid) { store(slice.first + row, y, valid); });
  }
  template <typename Store>
  __device__ void HeadQuery(const DenseMatrix&, const float (&a)[kThreadVectors<S::kQRank> * kVec],
                            Store store) {
    Rows<S::kQRank>(kHeadQuery, a, store);
  }

  // Outputs of pairs of bf16: out, and the down projection of a dense layer. store(row, y, part, valid).
  template <LatentPart kP, typename Store>
  __device__ void MultiplyPairs(const DenseMatrix&, int layer, const float* from, Store store) {
    constexpr int kColumns = kColumnsOf<kP>;
    using T = Tiles<kColumns>;
    constexpr int kN = kThreadVectors<T::kTileColumns>;
    // Split rows: a thread's columns are those of each half.
    float a[T::kSplit * kN * kVec];
    uint4 v[T::kSplit][kN];
#pragma unroll
    for (int s = 0; s < T::kSplit; ++s) {
      this->template PollPairs<T::kTileColumns>(from + s * T::kTileColumns / 2, v[s]);
#pragma unroll
      for (int i = 0; i < kN; ++i) Expand(v[s][i], a + (s * kN + i) * kVec);
    }
    const Slice slice = RowsOf<kP>(my, S::kHidden, layer);
    Blocks<T::kBatch>(
        slice.count,
        [&](int n, float(&sums)[8]) {
#pragma unroll
          for (int t = 0; t < T::kBatch; t += T::kTileRows) {
            if (t >= n) break;
#pragma unroll
            for (int s = 0; s < T::kSplit; ++s)
              Tile<T::kTileColumns, T::kTileRows>(a + s * kN * kVec, sums + t);
          }
        },
        [&](int row, float y, bool valid) { store(slice.first + row, y, 0, valid); });
  }
  template <typename Store>
  __device__ void MixtureDown(const LatentLayer&, int layer, const float* from, Store store) {
    constexpr int kInner = kThreadVectors<S::kInner>, kShared = kThreadVectors<S::kSharedInner>;
    float a[S::kTopK][kInner * kVec], b[kShared * kVec];
    {
      uint4 v[kShared];
      this->template PollPairs<S::kSharedInner>(from, v);
#pragma unroll
      for (int i = 0; i < kShared; ++i) Expand(v[i], b + i * kVec);
    }
#pragma unroll
    for (int k = 0; k < S::kTopK; ++k) {
      uint4 v[kInner];
      this->template PollPairs<S::kInner>(from + (S::kSharedInner + k * S::kInner) / 2, v);
      const float weight = my.route()->weight[k];
#pragma unroll
      for (int i = 0; i < kInner; ++i) Expand(v[i], a[k] + i * kVec);
#pragma unroll
      for (int j = 0; j < kInner * kVec; ++j) a[k][j] *= weight;
    }
    const Slice slice = SliceOf(S::kHidden, layer, my.cta, my.ctas);
    Blocks<kMixtureBatch>(
        slice.count,
        [&](int n, float(&sums)[8]) {
#pragma unroll
          for (int k = 0; k < S::kTopK; ++k) Tile<S::kInner, kMixtureBatch>(a[k], sums);
#pragma unroll
          for (int r = 0; r < kMixtureBatch; r += kSharedRows)
            if (r < n) Tile<S::kSharedInner, kSharedRows>(b, sums + r);
        },
        [&](int row, float y, bool valid) { store(slice.first + row, y, 0, valid); });
  }
};

}  // namespace dsopt_cuda::persistent
#endif  // DSOPT_CUDA_PERSISTENT_LATENT_ROWS_CUH_
