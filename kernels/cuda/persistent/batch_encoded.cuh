// batch_encoded.cuh - encoded weights in the persistent step of few rows: up to 16 rows with the products of
// linear_packed.cuh, above with those of linear_tiled.cuh. Instantiated by persistent_batch_<format>.cu.
//
// Measured on an H200, Mistral-7B with lossless12, 8 rows: 2400 tok/s on mma.sync (packed), 2335 on wgmma (tiled), with
// which consumers never wait for weights.
#ifndef DSOPT_CUDA_PERSISTENT_BATCH_ENCODED_CUH_
#define DSOPT_CUDA_PERSISTENT_BATCH_ENCODED_CUH_

#include "linear_tiled.cuh"
#include "persistent/batch_step.cuh"

namespace dsopt_cuda::batch {

// Weights of a unit: row blocks of a panel lie block_bytes apart; a unit of each is one copy.
template <typename S_>
struct EncodedFormat {
  using S = BatchStream<S_>;
  static constexpr int kChunk = kImageColumns;
#ifdef DSOPT_CUDA_WGMMA
  __device__ static void Copy(const StreamGeometry& g, const void* matrix, int panel, int unit, uint32_t slot,
                              uint32_t barrier, uint64_t policy) {
    const int blocks = min(S::kBlocks, g.blocks - panel * S::kBlocks);
    const uint32_t bytes = unit + 1 < g.units_per_group ? g.unit_bytes : g.last_unit_bytes;
    const char* from = static_cast<const char*>(matrix) +
                       static_cast<int64_t>(panel) * S::kBlocks * g.block_bytes +
                       static_cast<int64_t>(unit) * g.unit_bytes;
    BarrierExpect(barrier, static_cast<uint32_t>(blocks) * bytes);
#pragma unroll 1
    for (int i = 0; i < blocks; ++i)
      BulkLoad(slot + i * g.unit_bytes, from + i * g.block_bytes, bytes, barrier, policy);
  }
#endif
};

// Code, kFlush, kC: see PackedConsumer.
template <typename Code, int kFlush, int kM, int kC>
struct PackedFormat : EncodedFormat<Stream<kM>> {
  using S = typename EncodedFormat<Stream<kM>>::S;
  static constexpr int kPitch = kPackedPitch, kUnitChunks = kC;
  static constexpr bool kOverflow = Code::kPacking == Packing::kLossless12;

  static void SetGeometry(StreamLinear& p) { SetPackedGeometry<S, kC>(p); }
#ifdef DSOPT_CUDA_WGMMA
  using Consumer = PackedConsumer<Code, kFlush, S, kC, 1, S::kPerWarp>;
  __device__ static Consumer Make(const StreamLinear& p, int lane, int warp) {
    return {p,     lane, 0, warp / S::kTeamWarps, warp % S::kTeamWarps * S::kPerWarp,
            false, p.weight.layout.group == 128};
  }
#endif
};

// Code, kFlush: see TiledConsumer.
template <typename Code, int kFlush, int kM>
struct TiledFormat : EncodedFormat<TiledStream<kM>> {
  using S = typename EncodedFormat<TiledStream<kM>>::S;
  static constexpr int kPitch = kTiledPitch, kUnitChunks = 1;
  static constexpr bool kOverflow = Code::kPacking == Packing::kLossless12;

  static void SetGeometry(StreamLinear& p) { SetTiledGeometry<S>(p); }
#ifdef DSOPT_CUDA_WGMMA
  using Consumer = TiledConsumer<Code, kFlush, kM>;
  __device__ static Consumer Make(const StreamLinear& p, int lane, int warp) {
    return {p, lane, warp};
  }
#endif
};

template <typename Code, int kPackedFlush, int kTiledFlush>
cudaError_t RunEncoded(const Launch& launch, const BatchShape& shape, const BatchStep& step) {
  constexpr int kC = Code::kPacking == Packing::kInt4 ? 2 : 1;  // 16 to 25 KB of codes
  if (step.rows <= 8) return RunBatch<PackedFormat<Code, kPackedFlush, 8, kC>>(launch, shape, step);
  if (step.rows <= 16) return RunBatch<PackedFormat<Code, kPackedFlush, 16, kC>>(launch, shape, step);
  return RunBatch<TiledFormat<Code, kTiledFlush, 32>>(launch, shape, step);
}

}  // namespace dsopt_cuda::batch
#endif  // DSOPT_CUDA_PERSISTENT_BATCH_ENCODED_CUH_
