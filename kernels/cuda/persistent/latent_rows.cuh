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
  static constexpr int kMixtureBatch = 6,
                       kSharedRows = 3;  // rows of down together; of the shared experts in a slot
  static constexpr int kExpertsTile = S::kSlots;
  using Hidden = Tiles<S::kHidden>;
  using Values = Tiles<S::kValues>;
  using Dense = Tiles<S::kDenseInner>;
  // Vectors of this thread's columns of both halves of a split row.
  template <typename T>
  static constexpr int kInputVectors = T::kSplit* kThreadVectors<T::kTileColumns>;
  static constexpr int kMostVectors =
      S::Larger(S::Larger(kInputVectors<Values>, kInputVectors<Dense>), kThreadVectors<S::kSharedInner>);
  static_assert(S::kParts == 1);
  static_assert(kMixtureBatch * S::kInner * 2 <= S::kSlotBytes &&
                kSharedRows * S::kSharedInner * 2 <= S::kSlotBytes && kMixtureBatch == 2 * kSharedRows);
  static_assert(Hidden::kSplit == 1 && 4 % Hidden::kTileRows == 0 && 2 * S::kInner % 4 == 0);

  // Rows of gate and up go in fours: two results make a word.
  __device__ static Slice SliceOfRows(const LatentCta<S>& my, LatentPart part, int rows, int layer) {
    const int unit = part == LatentPart::kUp || part == LatentPart::kExpertsUp ? 4 : 1;
    const Slice slice = SliceOf(rows / unit, layer, my.cta, my.ctas);
    return {slice.first * unit, slice.count * unit};
  }
  __device__ static PartPlan PlanOf(const LatentCta<S>& my, LatentPart part, const LatentLayer& layer, int l) {
    if constexpr (S::kQRank > 0) {
      if (part == LatentPart::kQUp)
        return {layer.q_up.data, kHeadQuery * S::kQRank * 2, Tiles<S::kQRank>::kTileBytes, {my.cta, 1}};
    }
    const bool mixture = part != LatentPart::kHead && layer.router != nullptr;
    const Slice slice = SliceOfRows(my, part, RowsOf<S>(part, mixture, my.vocab), l);
    switch (part) {
      case LatentPart::kOut:
        return {layer.out.data, S::kValues * 2, Values::kTileBytes, slice};
      case LatentPart::kDenseDown:
        return {layer.shared_down.data, S::kDenseInner * 2, Dense::kTileBytes, slice};
      case LatentPart::kMixtureDown:
        return {layer.expert_down.data, S::kInner * 2, kMixtureBatch * S::kInner * 2, slice,
                (slice.count + kMixtureBatch - 1) / kMixtureBatch * (S::kTopK + 1)};
      default: {
        const bool experts = part == LatentPart::kExpertsUp;
        const DenseMatrix& matrix = part == LatentPart::kHead   ? my.step.head
                                    : part == LatentPart::kDown ? layer.down
                                    : experts                   ? layer.expert_gate_up
                                                                : layer.shared_gate_up;
        return {matrix.data, S::kHidden * 2, Hidden::kTileBytes, slice,
                experts ? slice.count / Hidden::kTileRows : 1};
      }
    }
  }
  // Gate and up of an expert: a tile, which has one expert. Down of a mixture: kMixtureBatch rows of every
  // expert, then of the shared ones.
  __device__ static Stretch StretchOf(const LatentProducer<S>& producer, LatentPart part,
                                      const LatentLayer& layer, const PartPlan& plan, int i) {
    if (part == LatentPart::kExpertsUp) {
      const int row = plan.slice.first + i * Hidden::kTileRows, k = row / (2 * S::kInner);
      return {plan.Unit((producer.Expert(k) - k) * (2 * S::kInner) + row), plan.step, plan.step};
    }
    const int batch = i / (S::kTopK + 1), k = i % (S::kTopK + 1), done = batch * kMixtureBatch,
              row = plan.slice.first + done, n = min(kMixtureBatch, plan.slice.count - done);
    if (k < S::kTopK) return {plan.Unit(producer.Expert(k) * S::kHidden + row), n * plan.unit_bytes, plan.step};
    return {
        static_cast<const char*>(layer.shared_down.data) + static_cast<int64_t>(row) * (S::kSharedInner * 2),
        n * S::kSharedInner * 2, kSharedRows * S::kSharedInner * 2};
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
  // The next n rows, at most T::kBatch, of which row i goes to v[i]: rows move through v, so that the code of a
  // tile is there once. a: of a split row, this thread's columns of each half.
  template <typename T>
  __device__ __forceinline__ void Batch(const float* a, int n, float (&v)[8]) {
    constexpr int kRows = T::kTileRows, kStay = T::kBatch - kRows;
#pragma unroll 1
    for (int t = 0; t < T::kBatch; t += kRows) {
      float sums[kRows] = {};
      if (t < n) {
#pragma unroll
        for (int s = 0; s < T::kSplit; ++s)
          Tile<T::kTileColumns, kRows>(a + s * kThreadVectors<T::kTileColumns> * kVec, sums);
      }
#pragma unroll
      for (int i = 0; i < kStay; ++i) v[i] = v[i + kRows];
#pragma unroll
      for (int i = 0; i < kRows; ++i) v[kStay + i] = sums[i];
    }
  }
  // Rows in blocks of two batches. batch(n, v): adds this thread's share of the next n rows to v, which is
  // zero; store(row, y, valid): a lane of warp 0 has row `row`, counted from the slice's start.
  template <typename Rows, typename Store>
  __device__ __forceinline__ void Blocks(int rows, int batch_rows, Rows batch, Store store) {
    const int lane = tid % 32, warp = tid / 32;
#pragma unroll 1
    for (int row0 = 0; row0 < rows; row0 += 2 * batch_rows) {
      float* part = this->Part(part_buffer);
      const int n = min(2 * batch_rows, rows - row0);
#pragma unroll 1
      for (int r0 = 0; r0 < n; r0 += batch_rows) {
        float v[8] = {};
        batch(min(batch_rows, n - r0), v);
        const float sum = ReduceRows<8>(v, lane);
        if (lane % 4 == 0 && lane / 4 < batch_rows) part[(r0 + lane / 4) * kConsumerWarps + warp] = sum;
      }
      Barrier();
      if (warp == 0) store(row0 + lane, this->RowSum(part), lane < n);
      part_buffer ^= 1;  // the next block writes the other table, so one barrier per block is enough
    }
  }

  // Inputs stay in registers. Ends with a Barrier, as with encoded weights.
  template <int kColumns>
  __device__ void PutInput(const float (&)[kThreadVectors<kColumns> * kVec]) const {
    Barrier();
  }

  // kDown, kUp, kExpertsUp, kHead.
  template <typename Store>
  __device__ __forceinline__ void Multiply(LatentPart part, int rows, int layer,
                                           const float (&a)[kThreadVectors<S::kHidden> * kVec], Store store) {
    const Slice slice = SliceOfRows(my, part, rows, layer);
    Blocks(
        slice.count, Hidden::kBatch, [&](int n, float(&v)[8]) { Batch<Hidden>(a, n, v); },
        [&](int row, float y, bool valid) { store(slice.first + row, y, valid); });
  }
  template <typename Store>
  __device__ __forceinline__ void HeadQuery(const float (&a)[kThreadVectors<S::kQRank> * kVec], Store store) {
    using T = Tiles<S::kQRank>;
    Blocks(
        kHeadQuery, T::kBatch, [&](int n, float(&v)[8]) { Batch<T>(a, n, v); }, store);
  }

  // kOut, kMixtureDown, kDenseDown: outputs of pairs of bf16. store(row, y, part of the output, valid).
  template <typename Store>
  __device__ __forceinline__ void MultiplyPairs(LatentPart part, int layer, const float* from, Store store) {
    float a[kMostVectors * kVec] = {};  // all of it, or it would be alive from one layer to the next
    if (part == LatentPart::kOut) {
      TakeInput<Values>(from, a);
    } else if (part == LatentPart::kDenseDown) {
      TakeInput<Dense>(from, a);
    } else {
      TakePairs<S::kSharedInner>(from, a);
      PutExperts(from + S::kSharedInner / 2);
    }
    const Slice slice = SliceOf(S::kHidden, layer, my.cta, my.ctas);
    Blocks(
        slice.count,
        part == LatentPart::kOut         ? Values::kBatch
        : part == LatentPart::kDenseDown ? Dense::kBatch
                                         : kMixtureBatch,
        [&](int n, float(&v)[8]) {
          if (part == LatentPart::kOut)
            Batch<Values>(a, n, v);
          else if (part == LatentPart::kDenseDown)
            Batch<Dense>(a, n, v);
          else
            MixtureBatch(a, n, v);
        },
        [&](int row, float y, bool valid) { store(slice.first + row, y, 0, valid); });
  }
  template <int kColumns>
  __device__ __forceinline__ void TakePairs(const float* from, float* a) const {
    uint4 v[kThreadVectors<kColumns>];
    this->template PollPairs<kColumns>(from, v);
#pragma unroll
    for (int i = 0; i < kThreadVectors<kColumns>; ++i) Expand(v[i], a + i * kVec);
  }
  template <typename T>
  __device__ __forceinline__ void TakeInput(const float* from, float* a) const {
#pragma unroll
    for (int s = 0; s < T::kSplit; ++s)
      TakePairs<T::kTileColumns>(from + s * T::kTileColumns / 2,
                                 a + s * kThreadVectors<T::kTileColumns> * kVec);
  }
  // Inputs of the experts, times their weights, f32, into the area: the first quads of all vectors, then the
  // second. A thread reads what it wrote.
  static constexpr int kExpertVectors = S::kInner / kVec;
  __device__ __forceinline__ float4* ExpertInput(int k) const {
    return reinterpret_cast<float4*>(my.shared + S::kAreaAt) + k * (2 * kExpertVectors) + tid;
  }
  __device__ __forceinline__ void PutExperts(const float* from) const {
    static_assert(kThreadVectors<S::kInner> == 1 && S::kTopK * S::kInner * 4 <= S::kAreaBytes);
    uint4 v[S::kTopK];
    bool again;
#pragma unroll 1
    do {
      again = false;
#pragma unroll
      for (int k = 0; k < S::kTopK; ++k)
        v[k] = this->template Mine<S::kInner>(0) ? LoadRelaxedWords4(from + (k * S::kInner + tid * kVec) / 2)
                                                 : make_uint4(0, 0, 0, 0);
#pragma unroll
      for (int k = 0; k < S::kTopK; ++k) again |= Unwritten(v[k]);
    } while (again);
#pragma unroll
    for (int k = 0; k < S::kTopK; ++k) {
      float x[kVec];
      Expand(v[k], x);
      if (!this->template Mine<S::kInner>(0)) continue;
      const float weight = my.route()->weight[k];
      ExpertInput(k)[0] = {x[0] * weight, x[1] * weight, x[2] * weight, x[3] * weight};
      ExpertInput(k)[kExpertVectors] = {x[4] * weight, x[5] * weight, x[6] * weight, x[7] * weight};
    }
  }
  // n rows of every expert, then of the shared ones, whose input is `shared`.
  __device__ __forceinline__ void MixtureBatch(const float* shared, int n, float (&v)[8]) {
#pragma unroll 1
    for (int k = 0; k < S::kTopK; ++k) {
      float4 low = {}, high = {};
      if (this->template Mine<S::kInner>(0)) low = ExpertInput(k)[0], high = ExpertInput(k)[kExpertVectors];
      const float a[kVec] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
      Tile<S::kInner, kMixtureBatch>(a, v);
    }
    // Two tiles, which change places in between.
#pragma unroll 1
    for (int r = 0; r < kMixtureBatch; r += kSharedRows) {
      if (r < n) Tile<S::kSharedInner, kSharedRows>(shared, v);
#pragma unroll
      for (int i = 0; i < kSharedRows; ++i) {
        const float x = v[i];
        v[i] = v[i + kSharedRows], v[i + kSharedRows] = x;
      }
    }
  }
};

}  // namespace dsopt_cuda::persistent
#endif  // DSOPT_CUDA_PERSISTENT_LATENT_ROWS_CUH_
