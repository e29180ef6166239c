// persistent_batch_lossless12.cu - the persistent step of few rows with lossless12 weights: products as in
// linear_packed.cuh.
#include "linear_packed.cuh"
#include "persistent/batch_step.cuh"

namespace dsopt_cuda {
namespace batch {
namespace {

template <int kM>
struct Lossless12Format {
  using S = BatchStream<Stream<kM>>;
  static constexpr int kPitch = kPackedPitch, kChunk = kImageColumns;
  static constexpr bool kOverflow = true;

  static void SetGeometry(StreamLinear& p) { SetPackedGeometry<S, 1>(p); }
#ifdef DSOPT_CUDA_WGMMA
  using Consumer = PackedConsumer<Lossless12, 64, S, 1, 1, S::kPerWarp>;
  __device__ static Consumer Make(const StreamLinear& p, int lane, int warp) {
    return {p, lane, 0, warp / kTeamWarps, warp % kTeamWarps * S::kPerWarp, false, false};
  }
  // Row blocks of a panel lie block_bytes apart; a unit of each is one copy.
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

}  // namespace
}  // namespace batch

cudaError_t BatchLossless12(const Launch& launch, const BatchShape& shape, const BatchStep& step) {
  if (step.rows <= 8) return batch::RunBatch<batch::Lossless12Format<8>>(launch, shape, step);
  return batch::RunBatch<batch::Lossless12Format<16>>(launch, shape, step);
}

}  // namespace dsopt_cuda
