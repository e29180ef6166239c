// batch_packed.cuh - the persistent step of few rows with encoded weights: products as in linear_packed.cuh. Instantiated
// by persistent_batch_<format>.cu.
#ifndef DSOPT_CUDA_PERSISTENT_BATCH_PACKED_CUH_
#define DSOPT_CUDA_PERSISTENT_BATCH_PACKED_CUH_

#include "linear_packed.cuh"
#include "persistent/batch_step.cuh"

namespace dsopt_cuda::batch {

template <typename F, int kFlush, int kM, int kC>
struct PackedFormat {
  using S = BatchStream<Stream<kM>>;
  static constexpr int kPitch = kPackedPitch, kChunk = kImageColumns, kUnitChunks = kC;

  static void SetGeometry(StreamLinear& p) { SetPackedGeometry<S, kC>(p); }
#ifdef DSOPT_CUDA_WGMMA
  using Consumer = PackedConsumer<F, kFlush, S, kC, 1, S::kPerWarp>;
  __device__ static Consumer Make(const StreamLinear& p, int lane, int warp) {
    Consumer my{p, lane, 0, warp / kTeamWarps, warp % kTeamWarps * S::kPerWarp};
    my.offsets = false;
    my.wide = p.weight.layout.group == 128;
    return my;
  }
  // Row blocks of a panel lie block_bytes apart; a unit of each is one copy.
  __device__ static void Copy(const StreamGeometry& g, const void* matrix, int panel, int unit, uint32_t slot,
                              uint32_t barrier, uint64_t policy) {
    const int blocks = min(S::kBlocks, g.blocks - panel * S::kBlocks);
    const uint32_t bytes = unit + 1 < g.units_per_group ? g.unit_bytes : g.last_unit_bytes;
    const char* from = static_cast<const char*>(matrix) + static_cast<int64_t>(panel) * S::kBlocks * g.block_bytes +
                       static_cast<int64_t>(unit) * g.unit_bytes;
    BarrierExpect(barrier, static_cast<uint32_t>(blocks) * bytes);
    for (int i = 0; i < blocks; ++i) BulkLoad(slot + i * g.unit_bytes, from + i * g.block_bytes, bytes, barrier, policy);
  }
#endif
};

// kFlush: columns after which sums are scaled, see PackedConsumer.
template <typename F, int kFlush>
cudaError_t RunPackedBatch(const Launch& launch, const BatchShape& shape, const BatchStep& step) {
  constexpr int kC = F::kPacking == Packing::kInt4 ? 2 : 1;
  if (step.rows <= 8) return RunBatch<PackedFormat<F, kFlush, 8, kC>>(launch, shape, step);
  return RunBatch<PackedFormat<F, kFlush, 16, kC>>(launch, shape, step);
}

}  // namespace dsopt_cuda::batch
#endif  // DSOPT_CUDA_PERSISTENT_BATCH_PACKED_CUH_
