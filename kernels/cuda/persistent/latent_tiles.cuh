// latent_tiles.cuh - attention of the persistent latent step over long contexts, on wgmma: 64 heads and a range
// of pages a CTA. The producer copies pages through a tensor map, a warpgroup of its own scores them, and the
// consumers, two more, stage the queries, add values and merge. Ring and product inputs are empty meanwhile:
// TileMemory lies over them.
//
// bytes  keys * 1152 * tiles of heads from L2, once from DRAM; partial results: 1 KiB a head and split, L2
// bound  shared memory and tensor cores, as in attention_mla_wgmma.cu
//
// Pages of a step are numbered from its first layer on: page n of a CTA lies in stage n % 2, and waits for the
// parity that its number says. The rope parts have one place: it is filled again while the next page's latents
// are scored.
#ifndef DSOPT_CUDA_PERSISTENT_LATENT_TILES_CUH_
#define DSOPT_CUDA_PERSISTENT_LATENT_TILES_CUH_

#include "persistent/latent_partial.cuh"

namespace dsopt_cuda::persistent {

struct TilePage {
  uint32_t n;
  __device__ TilePage(const PageRange& range, int layer, int i)
      : n(static_cast<uint32_t>(layer * range.pages + i)) {}
  __device__ int stage() const { return static_cast<int>(n % TileMemory::kStages); }
  // Of the barriers of a stage; of those that every page uses.
  __device__ uint32_t stage_parity() const { return n / TileMemory::kStages % 2; }
  __device__ uint32_t parity() const { return n % 2; }
};

inline constexpr int kTileBarrier = 2, kTileThreads = kConsumers + kWarpgroup;  // values and scores are written

#ifdef DSOPT_CUDA_WGMMA

// The warpgroup that scores: the whole step.
template <typename S>
__device__ void ScoreTiles(const LatentCta<S>& my, int position) {
  if (!my.tiled(position)) return;
  const PageRange range = my.pages();
  if (range.pages == 0) return;
  const int tid = threadIdx.x % kWarpgroup, lane = tid % 32, row = tid / 32 * 16 + lane / 4;
  const uint64_t queries = WgmmaKMajor(my.at(TileMemory::kQueriesAt)),
                 rope = WgmmaKMajor(my.at(TileMemory::kRopeKeysAt));
#pragma unroll 1
  for (int layer = 0; layer < my.layers; ++layer) {
    LatentScores state;
    state.Init(my.step.score_scale);
    BarrierWait(my.queries_ready(), static_cast<uint32_t>(layer & 1));
#pragma unroll 1
    for (int i = 0; i < range.pages; ++i) {
      const TilePage page(range, layer, i);
      state.Multiply(queries, WgmmaKMajor(my.keys_at(page.stage())), rope, [&](int part) {
        if (part < LatentTile::kParts) {
          BarrierWait(my.keys_full(page.stage(), part), page.stage_parity());
        } else {
          BarrierWait(my.rope_full(), page.parity());
          WgmmaFence();
        }
      });
      if (lane == 0) BarrierArrive(my.rope_empty());
      const int last = position - 1 - (range.first + i) * kPageTokens;
      if (last < kPageTokens - 1) state.Mask({last, last}, lane);
      state.Softmax();
      BarrierWait(my.taken(), page.parity() ^ 1);  // passes for the first one
      state.Put(my.tile_weights(), my.tile_fades(), tid);
      __syncwarp();
      if (lane == 0) BarrierArrive(my.sent());
    }
    state.SumRows();
    if (lane % 4 == 0) {
#pragma unroll
      for (int h = 0; h < 2; ++h)
        *reinterpret_cast<float2*>(TilePartial(my, range.tile * LatentTile::kRows + row + 8 * h, range.split) +
                                   kPartialSums) = {state.m[h], state.l[h]};
    }
    NamedBarrier<kTileBarrier>(kTileThreads);
  }
}

#endif  // DSOPT_CUDA_WGMMA

// The consumers' side.
template <typename S>
struct LatentTiles : LatentMerge<S> {
  using Base = LatentMerge<S>;
  using Base::Barrier, Base::WaitHint, Base::Hint;
  using Base::my, Base::tid;

  // Queries of a tile's heads, bf16; all words are asked for at once, by every CTA from another line of 128
  // bytes on. A thread has a chunk of 16 bytes of every line of two heads.
  __device__ __forceinline__ void StageTile(const float* query) const {
    constexpr int kLines = kKeyBytes / 128, kHeads = kConsumers / 8, kLineBytes = LatentTile::kRows * 128;
    static_assert(kHeads * 2 == LatentTile::kRows && kHeads % 8 == 0 && kLines * 128 == kKeyBytes);
    const int turn = my.cta % kLines, head = tid / 8, chunk = tid % 8;
    const char* from = reinterpret_cast<const char*>(query) + head * kKeyBytes + chunk * 16 + turn * 128;
    char* to = my.shared + WgmmaAt<LatentTile::kRows>(TileMemory::kQueriesAt, head, chunk) + turn * kLineBytes;
    const auto back = [&](int line) { return line + turn < kLines ? 0 : kLines; };
    uint4 v[2 * kLines];
    bool again;
#pragma unroll 1
    do {
      again = false;
#pragma unroll
      for (int i = 0; i < kLines; ++i) {
        const float* p = reinterpret_cast<const float*>(from - back(i) * 128 + i * 128);
        v[2 * i] = LoadRelaxedWords4(p);
        v[2 * i + 1] = LoadRelaxedWords4(p + kHeads * kKeyBytes / 4);
      }
#pragma unroll
      for (int i = 0; i < 2 * kLines; ++i) again |= Unwritten(v[i]);
    } while (again);
#pragma unroll
    for (int i = 0; i < kLines; ++i) {
      uint4* p = reinterpret_cast<uint4*>(to - back(i) * kLineBytes + i * kLineBytes);
      p[0] = v[2 * i];
      p[kHeads * 8] = v[2 * i + 1];
    }
  }
  // Zeroes this half's columns of the latents from key `count` on: what lies behind the last key may be
  // anything, NaNs too, and zero times NaN is not zero.
  __device__ void ClearPage(int stage, int half, int count) const {
    constexpr int kChunks = LatentTile::kLatent / 2 / 8;  // of 16 bytes, of a key
#pragma unroll 1
    for (int i = tid % kWarpgroup; i < (LatentTile::kKeys - count) * kChunks; i += kWarpgroup)
      *reinterpret_cast<uint4*>(
          my.shared + WgmmaAt<LatentTile::kKeys>(TileMemory::kKeysAt + stage * TileMemory::kStageBytes,
                                                 count + i / kChunks, half * kChunks + i % kChunks)) =
          make_uint4(0, 0, 0, 0);
    FenceAsyncProxy();
    Barrier();
  }

#ifdef DSOPT_CUDA_WGMMA
  __device__ void AttendTiles(int layer, int position, const float* query, int phase) {
    const PageRange range = my.pages();
    if (range.pages > 0) {
      WaitHint(phase, S::kHeads);
      StageTile(query + static_cast<size_t>(range.tile) * LatentTile::kRows * (kLatentWidth / 2));
      FenceAsyncProxy();
      __syncwarp();
      if (tid % 32 == 0) BarrierArrive(my.queries_ready());
      AddTiles(range, layer, position);
      NamedBarrier<kTileBarrier>(kTileThreads);
      if (tid == 0) __threadfence();
    }
    Hint(layer * kLatentPhases + kTilePhase);
  }
  __device__ __forceinline__ void AddTiles(const PageRange& range, int layer, int position) const {
    const int lane = tid % 32, half = __shfl_sync(~0u, tid / kWarpgroup, 0), in_group = tid % kWarpgroup;
    LatentOutputs sums;
    sums.Clear();
#pragma unroll 1
    for (int i = 0; i < range.pages; ++i) {
      const TilePage page(range, layer, i);
      const int stage = page.stage();
      BarrierWait(my.sent(), page.parity());
      uint4 p[4];
#pragma unroll
      for (int k = 0; k < 4; ++k) p[k] = my.tile_weights()[k * kWarpgroup + in_group];
      const float2 fade = my.tile_fades()[in_group];
      __syncwarp();
      if (lane == 0) BarrierArrive(my.taken());
      sums.Fade(fade);
      // They have landed, or they could not have been scored; but who waits sees what the copy engine wrote.
      // Only for what this half reads: the other half's parts may be those of a later page already.
#pragma unroll
      for (int part = 0; part < 2; ++part)
        BarrierWait(my.keys_full(stage, 2 * half + part), page.stage_parity());
      const int count = position - (range.first + i) * kPageTokens;
      if (count < kPageTokens) ClearPage(stage, half, count);
      sums.Add(p, my.keys_at(stage) + static_cast<uint32_t>(2 * half * LatentTile::kPartBytes), [&](int part) {
        if (lane == 0) BarrierArrive(my.keys_empty(stage, 2 * half + part));
      });
    }
    const int head = range.tile * LatentTile::kRows + in_group / 32 * 16 + lane / 4;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      uint4* to = reinterpret_cast<uint4*>(TilePartial(my, head + 8 * h, range.split)) +
                  half * (kLatent / 2 / kVec) + lane % 4;
#pragma unroll
      for (int b = 0; b < kLatent / 2 / 32; ++b) {
        const float* x = &sums.out[b / 4][b % 4 * 16 + 2 * h];
        to[4 * b] = {PackBf16(x[0], x[1]), PackBf16(x[4], x[5]), PackBf16(x[8], x[9]), PackBf16(x[12], x[13])};
      }
    }
  }
#endif  // DSOPT_CUDA_WGMMA
};

}  // namespace dsopt_cuda::persistent
#endif  // DSOPT_CUDA_PERSISTENT_LATENT_TILES_CUH_
