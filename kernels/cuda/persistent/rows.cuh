// rows.cuh - products of the persistent decode step with bf16 weights as they lie in memory, row by row: the
// activation vector is kept in registers (f32, fixed columns per thread), a weight costs one shared-memory
// read, a convert and an FMA.
#ifndef DSOPT_CUDA_PERSISTENT_ROWS_CUH_
#define DSOPT_CUDA_PERSISTENT_ROWS_CUH_

#include "persistent/inputs.cuh"
#include "persistent/mixture.cuh"
#include "persistent/producer.cuh"

namespace dsopt_cuda::persistent {

inline constexpr int kBatchRows = 8;  // rows that share one cross-lane reduction

// Tiles of the rows of products with kColumns.
template <typename S, int kColumns>
struct RowTiles {
  static constexpr int kRowBytes = kColumns * 2, kFit = S::kSlotBytes / kRowBytes;
  static constexpr int kSplit = kFit >= 1 ? 1 : 2;  // tiles per row
  static constexpr int kTileRows = kFit >= 8 ? 8 : kFit >= 4 ? 4 : kFit >= 2 ? 2 : 1;
  static_assert(kColumns % (kChunk * kSplit) == 0 && kRowBytes / kSplit <= S::kSlotBytes);
};

__device__ __forceinline__ void Fma2(float2& sum, uint32_t w, float x0, float x1) {
  sum.x = fmaf(__uint_as_float(w << 16), x0, sum.x);
  sum.y = fmaf(__uint_as_float(w & 0xffff0000u), x1, sum.y);
}

template <typename S>
struct RowProducts : Mixture<S, ProductInputs<S>> {
  using Base = Mixture<S, ProductInputs<S>>;
  using Base::Barrier, Base::NextSlot;
  using Base::my, Base::tid, Base::slot, Base::parity;

  template <bool kWide>
  using Tiles = RowTiles<S, kColumnsOf<S, kWide>>;

  // This CTA's rows of a product.
  __device__ static Slice Rows(const Cta<S>& my, const Operation<S>& op) {
    const Slice units = SliceOf(op.units(my), op.layer, my.cta, my.ctas);
    return {units.first * op.unit_rows(), units.count * op.unit_rows()};
  }

  // A product's weights: this CTA's rows.
  __device__ static void Stream(Producer<S>& producer, const Operation<S>& op, const char* w) {
    const Slice rows = Rows(producer.my, op);
    if constexpr (S::kExperts > 0) {
      if (op.phase == Phase::kGateUp) return StreamExpertsUp(producer, w, {rows.first / 2, rows.count / 2});
      if (op.phase == Phase::kDown) return StreamExpertsDown(producer, w, rows);
    }
    if (op.phase == Phase::kDown)
      StreamRows<true>(producer, w, rows);
    else
      StreamRows<false>(producer, w, rows);
  }
  template <bool kWide>
  __device__ static void StreamRows(Producer<S>& producer, const char* w, const Slice& rows) {
    using G = Tiles<kWide>;
    w += static_cast<int64_t>(rows.first) * G::kRowBytes;
    int left = rows.count * G::kSplit;  // in rows, or in parts of rows
    constexpr int kStep = G::kSplit > 1 ? 1 : G::kTileRows, kBytes = G::kRowBytes / G::kSplit;
#pragma unroll 1
    for (int tile = 0; left > 0; ++tile, left -= kStep, w += kStep * kBytes) {
      // Once tile kSlots of a phase can be issued the consumers have begun the phase: its hand-over is over.
      Copy(producer, w, static_cast<uint32_t>(min(kStep, left) * kBytes),
           tile < S::kSlots ? S::kWindow : S::kDeep);
    }
  }
  // Down projections of the chosen experts: row by row, one tile an expert.
  __device__ static void StreamExpertsDown(Producer<S>& producer, const char* w, const Slice& slice) {
    constexpr int64_t kExpertBytes = 2ll * S::kHidden * S::kInner;
    static_assert(Tiles<true>::kSplit == S::kTopK);
#pragma unroll 1
    for (int row = 0; row < slice.count; ++row)
#pragma unroll
      for (int k = 0; k < S::kTopK; ++k)
        Copy(producer,
             w + producer.expert[k] * kExpertBytes + static_cast<int64_t>(slice.first + row) * S::kInner * 2,
             S::kInner * 2, row * S::kTopK < S::kSlots ? S::kWindow : S::kDeep);
  }
  // Gate and up of one chosen expert after the other.
  __device__ static void StreamExpertsUp(Producer<S>& producer, const char* w, const Slice& slice) {
    constexpr int64_t kExpertBytes = 4ll * S::kHidden * S::kInner;
    constexpr int kUnits = Tiles<false>::kTileRows / 2, kUnitBytes = 2 * S::kHidden * 2;
#pragma unroll 1
    for (int done = 0; done < slice.count;) {
      const int unit = slice.first + done, k = unit / S::kInner, in_expert = unit % S::kInner;
      // Consumers take kUnits at a time from the slice's start on: a tile that two experts share comes in two
      // copies.
      const int count = min(kUnits, slice.count - done), mine = min(count, S::kInner - in_expert);
      int expert = producer.expert[0], next = producer.expert[0];
#pragma unroll
      for (int i = 0; i < S::kTopK; ++i) {
        if (i == k) expert = producer.expert[i];
        if (i == k + 1) next = producer.expert[i];
      }
      const uint32_t barrier = producer.Acquire(S::kDeep);
      const uint32_t slot = producer.my.slot(producer.slot);
      BarrierExpect(barrier, static_cast<uint32_t>(count * kUnitBytes));
      BulkLoad(slot, w + expert * kExpertBytes + static_cast<int64_t>(in_expert) * kUnitBytes,
               static_cast<uint32_t>(mine * kUnitBytes), barrier, producer.policy);
      if (mine < count)
        BulkLoad(slot + static_cast<uint32_t>(mine * kUnitBytes), w + next * kExpertBytes,
                 static_cast<uint32_t>((count - mine) * kUnitBytes), barrier, producer.policy);
      producer.Advance();
      done += count;
    }
  }
  __device__ static void Copy(Producer<S>& producer, const char* from, uint32_t bytes, int window) {
    const uint32_t barrier = producer.Acquire(window);
    BarrierExpect(barrier, bytes);
    BulkLoad(producer.my.slot(producer.slot), from, bytes, barrier, producer.policy);
    producer.Advance();
  }

  // Adds this thread's share of the next tile's kRows dot products over kChunks chunks to v.
  template <int kChunks, int kRows>
  __device__ __forceinline__ void Tile(const float* a, float* v) {
    BarrierWait(my.full(slot), parity);
    const uint32_t tile = my.slot(slot) + static_cast<uint32_t>(tid * kVec * 2);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      float2 sum = {0, 0};
#pragma unroll
      for (int c = 0; c < kChunks; ++c) {
        const uint4 w = LoadShared16(tile + static_cast<uint32_t>((r * kChunks + c) * kChunk * 2));
        const float* x = a + c * kVec;
        Fma2(sum, w.x, x[0], x[1]);
        Fma2(sum, w.y, x[2], x[3]);
        Fma2(sum, w.z, x[4], x[5]);
        Fma2(sum, w.w, x[6], x[7]);
      }
      v[r] += sum.x + sum.y;
    }
    NextSlot();
  }

  // One product: this CTA's rows of it.
  __device__ void Multiply(const Operation<S>& op, const DenseLayer& weights) {
    if (op.phase == Phase::kDown)
      MultiplyRows<true>(op, weights);
    else
      MultiplyRows<false>(op, weights);
  }
  // Loops are not unrolled: see operation.cuh.
  template <bool kWide>
  __device__ __forceinline__ void MultiplyRows(const Operation<S>& op, const DenseLayer& weights) {
    using G = Tiles<kWide>;
    constexpr int kChunks = kColumnsOf<S, kWide> / kChunk, kN = kChunks * kVec, kR = G::kTileRows,
                  kPart = kChunks / G::kSplit;
    const int lane = tid % 32, warp = tid / 32;
    Slice rows = Rows(my, op);
    asm volatile("" : "+r"(rows.first), "+r"(rows.count));  // worked out before the wait
    float a[kN];
    const float* squares = this->template LoadInput<kWide>(op, weights, a);
    if constexpr (S::kExperts > 0 && !kWide)
      if (op.phase == Phase::kGateUp) this->ChooseExperts(a, squares);
    if constexpr (S::kExperts > 0 && kWide) this->WeighExperts(a);

#pragma unroll 1
    for (int row0 = 0; row0 < rows.count; row0 += kPartRows) {
      const int n = min(kPartRows, rows.count - row0);
      float* part = this->AwaitTable();
#pragma unroll 1
      for (int r0 = 0; r0 < n; r0 += kBatchRows) {
        float v[kBatchRows] = {};
#pragma unroll
        for (int t = 0; t < kBatchRows; t += kR) {
          if (r0 + t < n) {
#pragma unroll
            for (int s = 0; s < G::kSplit; ++s) Tile<kPart, kR>(a + s * kPart * kVec, v + t);
          }
        }
        const float sum = ReduceRows<kBatchRows>(v, lane);
        if (lane % (32 / kBatchRows) == 0) part[(r0 + lane / (32 / kBatchRows)) * kConsumerWarps + warp] = sum;
      }
      this->PublishTable();
    }
  }
};

}  // namespace dsopt_cuda::persistent
#endif  // DSOPT_CUDA_PERSISTENT_ROWS_CUH_
