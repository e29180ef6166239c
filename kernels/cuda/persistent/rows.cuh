// rows.cuh - products of the persistent decode step with bf16 weights as they lie in memory, row by row: the
// activation vector is kept in registers (f32, fixed columns per thread), a weight costs one shared-memory
// read, a convert and an FMA.
#ifndef DSOPT_CUDA_PERSISTENT_ROWS_CUH_
#define DSOPT_CUDA_PERSISTENT_ROWS_CUH_

#include "persistent/mixture.cuh"
#include "persistent/producer.cuh"

namespace dsopt_cuda::persistent {

inline constexpr int kBatchRows = 8;  // rows that share one cross-lane reduction

template <typename S, Phase kP>
struct RowTiles : PhaseOf<S, kP> {
  using PhaseOf<S, kP>::kK;
  static constexpr int kFit = S::kSlotBytes / (kK * 2);
  static constexpr int kSplit = kFit >= 1 ? 1 : 2;  // tiles per row
  static constexpr int kTileRows = kFit >= 8 ? 8 : kFit >= 4 ? 4 : kFit >= 2 ? 2 : 1;
  static_assert(kK % (kChunk * kSplit) == 0 && kK / kSplit * 2 <= S::kSlotBytes);
};

__device__ __forceinline__ void Fma2(float2& sum, uint32_t w, float x0, float x1) {
  sum.x = fmaf(__uint_as_float(w << 16), x0, sum.x);
  sum.y = fmaf(__uint_as_float(w & 0xffff0000u), x1, sum.y);
}

template <typename S>
struct RowProducts : Mixture<S> {
  using Base = Mixture<S>;
  using Base::Barrier, Base::NextSlot;
  using Base::my, Base::tid, Base::slot, Base::parity, Base::part_buffer;

  template <Phase kP>
  __device__ static void Stream(Producer<S>& producer, const DenseMatrix& matrix, int layer) {
    using G = RowTiles<S, kP>;
    const Cta<S>& my = producer.my;
    const Slice slice = SliceOf(my.template units<kP>(), layer, my.cta, my.ctas);
    const char* w = static_cast<const char*>(matrix.data);
    if constexpr (S::kExperts > 0 && (kP == Phase::kGateUp || kP == Phase::kDown)) {
      StreamExperts<kP>(producer, w, slice);
      return;
    }
    w += static_cast<size_t>(slice.first) * G::kUnitRows * G::kK * 2;
    int left = slice.count * G::kUnitRows * G::kSplit;  // in rows, or in parts of rows
    constexpr int kStep = G::kSplit > 1 ? 1 : G::kTileRows;
    constexpr int kRowBytes = G::kK * 2 / G::kSplit;
    for (int tile = 0; left > 0; ++tile, left -= kStep, w += kStep * kRowBytes) {
      // Once tile kSlots of a phase can be issued the consumers have begun the phase: its hand-over is over.
      Copy(producer, w, static_cast<uint32_t>(min(kStep, left) * kRowBytes),
           tile < S::kSlots ? S::kWindow : S::kDeep);
    }
  }
  // Rows of the chosen experts: gate and up of one after the other; the down projections row by row, one tile
  // an expert.
  template <Phase kP>
  __device__ static void StreamExperts(Producer<S>& producer, const char* w, const Slice& slice) {
    using G = RowTiles<S, kP>;
    constexpr int64_t kExpertBytes = (kP == Phase::kGateUp ? 2ll : 1ll) * S::kHidden * S::kInner * 2;
    if constexpr (kP == Phase::kDown) {
      static_assert(G::kSplit == S::kTopK);
      for (int row = 0; row < slice.count; ++row)
#pragma unroll
        for (int k = 0; k < S::kTopK; ++k)
          Copy(producer,
               w + producer.expert[k] * kExpertBytes + static_cast<int64_t>(slice.first + row) * S::kInner * 2,
               S::kInner * 2, row * S::kTopK < S::kSlots ? S::kWindow : S::kDeep);
    } else {
      constexpr int kUnits = G::kTileRows / G::kUnitRows, kUnitBytes = G::kUnitRows * G::kK * 2;
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

  // One product for this CTA's rows. phase: its own number; before: waits for the input.
  template <Phase kP, typename Wait>
  __device__ void Product(int layer, const DenseMatrix&, const float* gains, const float* input, float* output,
                          Wait wait) {
    using G = RowTiles<S, kP>;
    constexpr int kChunks = G::kK / kChunk, kN = kChunks * kVec, kR = G::kTileRows, kPart = kChunks / G::kSplit;
    const int lane = tid % 32, warp = tid / 32;
    const Slice slice = SliceOf(my.template units<kP>(), layer, my.cta, my.ctas);
    float* out = output + slice.first;
    float a[kN];
    const float* squares = this->template LoadInput<kP>(layer, gains, input, a, wait);
    if constexpr (S::kExperts > 0 && kP == Phase::kGateUp) this->ChooseExperts(a, squares);
    if constexpr (S::kExperts > 0 && kP == Phase::kDown) this->WeighExperts(a);

    const int rows = slice.count * G::kUnitRows;
    // Loops that are not unrolled, here and below: code of one layer that is larger than the instruction cache is
    // fetched anew in every layer. On an H200 that cost Llama-3-70B and Mixtral 3 % of a step.
#pragma unroll 1
    for (int row0 = 0; row0 < rows; row0 += kPartRows) {
      float* part = my.floats(S::kPartAt) + part_buffer * kPartRows * kConsumerWarps;
      const int n = min(kPartRows, rows - row0);
      const float residual = this->template Residual<kP>(layer, slice.first + row0 + tid, tid < n);
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
      Barrier();
      this->template Epilogue<kP>(part, squares, out + row0 / G::kUnitRows, n / G::kUnitRows, residual,
                                  [](int, float y) { return y; });
      part_buffer ^= 1;  // the next block writes the other table, so one barrier per block is enough
    }
  }
};

}  // namespace dsopt_cuda::persistent
#endif  // DSOPT_CUDA_PERSISTENT_ROWS_CUH_
