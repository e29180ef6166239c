// epilogue.cuh - the warp that finishes products of the persistent decode step, while the consumers are at the
// next block of rows: it adds the eight warps' partial sums of a row, 1 / rms, gate and residual, and stores.
#ifndef DSOPT_CUDA_PERSISTENT_EPILOGUE_CUH_
#define DSOPT_CUDA_PERSISTENT_EPILOGUE_CUH_

#include "persistent/operation.cuh"

namespace dsopt_cuda::persistent {

// Products: RowProducts, with Rows(my, operation), whose blocks of kPartRows come through the tables one after
// the other.
template <typename S, typename Products>
struct Epilogue {
  Cta<S> my;
  int lane;
  TableTurn turn = {};
  int norms = 0;

  __device__ void Run() {
#pragma unroll 1
    for (int n = 0; n <= my.layers * kProducts; ++n) Finish(Operation<S>(my, n));
  }

  __device__ __forceinline__ void Finish(const Operation<S>& op) {
    const bool norm = op.normed(), adds = op.phase == Phase::kOut || op.phase == Phase::kDown;
    const Slice rows = Products::Rows(my, op);
    const float* added = op.phase == Phase::kDown ? my.layer_activations(op.layer) + S::kMiddle : op.stream(my);
    float* out = op.output(my);
    float scale = 1;
#pragma unroll 1
    for (int row0 = 0; row0 < rows.count; row0 += kPartRows) {
      const int row = rows.first + row0 + lane;
      const bool mine = lane < min(kPartRows, rows.count - row0);
      float residual = 0;
      if (adds && mine) residual = added != nullptr ? __ldcg(added + row) : Embedding(row);
      BarrierWait(my.table_full(turn.table), turn.parity);
      const float4* p =
          reinterpret_cast<const float4*>(my.table(turn.table) + lane % kPartRows * kConsumerWarps);
      const float4 a = p[0], b = p[1];
      if (norm && row0 == 0) scale = Scale(my.floats(S::kSquaresAt) + norms * kConsumerWarps);
      __syncwarp();
      if (lane == 0) BarrierArrive(my.table_empty(turn.table));
      turn.Advance();
      float y = ((a.x + b.x) + (a.y + b.y)) + ((a.z + b.z) + (a.w + b.w));
      y *= scale;
      if (op.paired()) {
        y = GatedActivation(y, __shfl_down_sync(~0u, y, 1), false);
        if (mine && lane % 2 == 0) StoreRelaxed(out + row / 2, y);
      } else if (mine) {
        StoreRelaxed(out + row, y + residual);
      }
    }
    if (norm) norms ^= 1;
    // What attention needs of q, k and v it awaits word by word.
    __syncwarp();
    if (lane == 0 && op.phase != Phase::kQkv && op.phase != Phase::kHead)
      AddRelaxed(my.step.counters + op.number * 32, 1);
  }
  __device__ float Scale(const float* squares) const {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kConsumerWarps; ++i) sum += squares[i];
    return rsqrtf(sum / S::kHidden + my.step.norm_eps);
  }
  __device__ float Embedding(int i) const { return __bfloat162float(my.token_row()[i]) * my.step.embed_scale; }
};

}  // namespace dsopt_cuda::persistent
#endif  // DSOPT_CUDA_PERSISTENT_EPILOGUE_CUH_
