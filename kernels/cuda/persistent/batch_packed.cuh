// batch_packed.cuh - the persistent step of few rows with encoded weights: products as in linear_tiled.cuh. Instantiated by persistent_batch_<format>.cu.
#ifndef DSOPT_CUDA_PERSISTENT_BATCH_PACKED_CUH_
#define DSOPT_CUDA_PERSISTENT_BATCH_PACKED_CUH_

#include "linear_tiled.cuh"
#include "persistent/batch_step.cuh"

namespace dsopt_cuda::batch {

// Products have so many rows, those beyond the step's are never stored: wgmma costs the same for all of them.
inline constexpr int kTiledRows = 32;
static_assert(kTiledRows == kBatchRows);

template <typename F, int kFlush>
struct TiledFormat {
  using S = BatchStream<TiledStream<kTiledRows>>;
  static constexpr int kPitch = kTiledPitch;

  static void SetGeometry(StreamLinear& p) { SetTiledGeometry<kTiledRows>(p); }
#ifdef DSOPT_CUDA_WGMMA
  using Consumer = TiledConsumer<F, kFlush, kTiledRows>;
  __device__ static Consumer Make(const StreamLinear& p, int lane, int warp) {
    return {p, lane, warp / 4, warp / 4 * S::kGroupBlocks, warp};
  }
  // Row blocks of a panel lie block_bytes apart; a unit of each is one copy.
  __device__ static void Copy(const StreamGeometry& g, const DenseMatrix& matrix, int panel, int unit, uint32_t slot,
                              uint32_t barrier, uint64_t policy) {
    const int blocks = min(S::kBlocks, g.blocks - panel * S::kBlocks);
    const uint32_t bytes = unit + 1 < g.units_per_group ? g.unit_bytes : g.last_unit_bytes;
    const char* from = static_cast<const char*>(matrix.data) + static_cast<int64_t>(panel) * S::kBlocks * g.block_bytes +
                       static_cast<int64_t>(unit) * g.unit_bytes;
    BarrierExpect(barrier, static_cast<uint32_t>(blocks) * bytes);
    for (int i = 0; i < blocks; ++i) BulkLoad(slot + i * g.unit_bytes, from + i * g.block_bytes, bytes, barrier, policy);
  }
#endif
};

}  // namespace dsopt_cuda::batch
#endif  // DSOPT_CUDA_PERSISTENT_BATCH_PACKED_CUH_
