// inputs.cuh - what consumer warps of the persistent decode step do around a product's rows: its input, into
// registers once it is there, and, with bf16 weights, the tables through which partial sums go to the epilogue.
#ifndef DSOPT_CUDA_PERSISTENT_INPUTS_CUH_
#define DSOPT_CUDA_PERSISTENT_INPUTS_CUH_

#include "persistent/consumer.cuh"
#include "persistent/operation.cuh"

namespace dsopt_cuda::persistent {

// Columns of a vector that belong to a thread.
template <typename S>
struct Columns : Consumer<S, Cta<S>> {
  using Base = Consumer<S, Cta<S>>;
  using Base::my, Base::tid;

  // Columns [chunk * kChunk + tid * kVec, + kVec) of a vector, for each chunk.
  template <int kN>
  __device__ void LoadColumns(const float* src, float (&a)[kN]) const {
#pragma unroll
    for (int i = 0; i < kN; i += 4) {
      const float4 v = __ldcg(reinterpret_cast<const float4*>(src + i / kVec * kChunk + tid * kVec + i % kVec));
      a[i] = v.x, a[i + 1] = v.y, a[i + 2] = v.z, a[i + 3] = v.w;
    }
  }
  template <int kN>
  __device__ void EmbeddingColumns(float (&a)[kN]) const {
    if (my.step.embedded != nullptr) {
      LoadColumns(my.step.embedded, a);
      return;
    }
    const bf16* row = my.token_row();
#pragma unroll
    for (int i = 0; i < kN; i += 8) {
      const uint4 w = __ldg(reinterpret_cast<const uint4*>(row + i / kVec * kChunk + tid * kVec));
      const uint32_t words[4] = {w.x, w.y, w.z, w.w};
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        a[i + 2 * j] = __uint_as_float(words[j] << 16) * my.step.embed_scale;
        a[i + 2 * j + 1] = __uint_as_float(words[j] & 0xffff0000u) * my.step.embed_scale;
      }
    }
  }
};

template <typename S>
struct ProductInputs : Columns<S> {
  using Base = Columns<S>;
  using Base::my, Base::tid, Base::WaitHint, Base::Normalise, Base::LoadColumns, Base::EmbeddingColumns;
  TableTurn turn = {};

  template <int kN>
  __device__ void PollColumns(const float* src, float (&a)[kN]) const {
    const float* p = src + tid * kVec;
    bool again;
    do {
      again = false;
#pragma unroll
      for (int i = 0; i < kN; i += 4) {
        const float4 v = LoadRelaxed4(p + i / kVec * kChunk + i % kVec);
        a[i] = v.x, a[i + 1] = v.y, a[i + 2] = v.z, a[i + 3] = v.w;
      }
#pragma unroll
      for (int i = 0; i < kN; ++i) again |= Unwritten(a[i]);
    } while (again);
  }
  // This thread's columns of a product's input, gain multiplied in; squares: of the warps, before the gain.
  template <bool kWide, int kN>
  __device__ __forceinline__ const float* LoadInput(const Operation<S>& op, const DenseLayer& weights,
                                                    float (&a)[kN]) {
    const float* gains = kWide ? nullptr : op.gains(my, weights);
    float gain[kWide ? 4 : kN];
    if (!kWide && gains != nullptr) LoadColumns(gains, gain);  // immutable: before the wait
    const float* input = op.input(my);
    asm volatile("" : "+l"(input));  // worked out before the wait
    if (op.number > 0) WaitHint(op.number - 1, op.phase == Phase::kOut ? S::kKvHeads : my.ctas);
    if (!kWide && input == nullptr)
      EmbeddingColumns(a);
    else
      PollColumns(input, a);
    if constexpr (!kWide) {
      if (gains != nullptr) return Normalise(gain, a);
    }
    return nullptr;
  }

  // The table of the next block's partial sums. PublishTable: this warp has written its own.
  __device__ float* AwaitTable() const {
    BarrierWait(my.table_empty(turn.table), turn.parity ^ 1);
    return my.table(turn.table);
  }
  __device__ void PublishTable() {
    __syncwarp();
    if (tid % 32 == 0) BarrierArrive(my.table_full(turn.table));
    turn.Advance();
  }
};

}  // namespace dsopt_cuda::persistent
#endif  // DSOPT_CUDA_PERSISTENT_INPUTS_CUH_
