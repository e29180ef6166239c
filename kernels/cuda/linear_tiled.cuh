// linear_tiled.cuh - y = x W^T for encoded weights on sm_90a: the ring of linear_packed.cuh, codes expanded in
// registers into the A operand of wgmma, a tiled row image (launch.h) as B. Instantiated for 17 to 64 input rows
// by linear_packed_<format>.cu, for 17 to 32 in a step of all layers by persistent_batch_<format>.cu.
#ifndef DSOPT_CUDA_LINEAR_TILED_CUH_
#define DSOPT_CUDA_LINEAR_TILED_CUH_

#include "common/wgmma.cuh"
#include "linear_packed.cuh"

namespace dsopt_cuda {

// What Stream says, for two consumer warpgroups: each has 64 of a panel's 128 weight rows and all columns.
template <int kM_>
struct TiledStream {
  static constexpr int kM = kM_;  // rows of a product: 32 or 64
  static constexpr int kBlocks = 8, kRows = kBlocks * kBlockRows, kGroupBlocks = 4;
  static constexpr int kCtas = 1;
  static constexpr int kWarps = 8, kConsumers = kWarps * 32, kThreads = kConsumers + 32;
  static constexpr int kHalves = 1, kSumPitch = kRows + 4, kBuffers = 1, kFloats = kM * kSumPitch;
  static constexpr int kSumsAt = 512,
                       kRingAt = (kSumsAt + kFloats * 4 + kAtomBytes - 1) / kAtomBytes * kAtomBytes;
};

#ifdef DSOPT_CUDA_WGMMA

// A unit is a chunk: kStages stages, each a commit group of kSteps products of 16 columns. The codes of a stage
// are expanded into one of two sets of registers while the products of the stage before run, then those are
// waited for. That goes on from unit to unit; a slot is released in the first stage of the next unit. kFlush:
// columns after which sums are multiplied by their scale: 0 never (scales by row), 128, 64 or 32.
template <typename F, int kFlush, int kM>
struct TiledConsumer {
  using S = TiledStream<kM>;
  static constexpr int kTileBytes = F::kVectors * 512, kSums = kM / 2;
  static constexpr int kStageColumns = kFlush == 32 ? 32 : kTileColumns, kSteps = kStageColumns / 16;
  static constexpr int kStages = kChunkColumns / kStageColumns;
  static constexpr int kPerScale = kFlush == 0 ? kStages : kFlush / kStageColumns;  // stages of a sum
  // Sums under way: with 64 rows there are registers for one only, which waits while it is flushed.
  static constexpr int kParts = kFlush == 0 || kM == 64 ? 1 : 2;
  static constexpr bool kLossless = F::kPacking == Packing::kLossless12;
  static constexpr int kUnitSide = kBlockRows + 4 * kEscapeSlots;
  const StreamLinear& p;
  int lane, warp;
  int wr = warp / 4 * S::kGroupBlocks;  // first row block of this warpgroup in a panel; this warp's is `warp`
  uint32_t held = 0;                    // the barrier that releases the slot before this one
  // Of a tile of the inputs. Not read where it is needed: p may lie in shared memory.
  uint32_t tile_bytes = p.geometry.input_chunk / kChunkTiles;  // of a tile of the inputs
  uint4 q[F::kVectors];
  uint32_t a[2][kSteps][4];
  float acc[kSums], part[kParts][kFlush == 0 ? 1 : kSums], scale[2][2];

  __device__ void Clear() {
#pragma unroll
    for (int i = 0; i < kSums; ++i) acc[i] = 0;
    if constexpr (kFlush != 0)
#pragma unroll
      for (int i = 0; i < kParts * kSums; ++i) part[i / kSums][i % kSums] = 0;
    scale[0][0] = scale[0][1] = scale[1][0] = scale[1][1] = 0;
  }
  __device__ void SetRows(int) {}

  __device__ __forceinline__ void LoadCodes(uint32_t chunk, int tile) {
#pragma unroll
    for (int v = 0; v < F::kVectors; ++v) q[v] = LoadShared16(chunk + tile * kTileBytes + v * 512 + lane * 16);
  }
  // Of rows g and g + 8 and sum `index` of a chunk.
  __device__ __forceinline__ void LoadScales(uint32_t side, int index, float (&to)[2]) const {
    const int row = lane / 4;
    if constexpr (kLossless) {
      const uint32_t base = side + index * kUnitSide + row;
      to[0] = Lossless12::Scale(LoadShared1(base)), to[1] = Lossless12::Scale(LoadShared1(base + 8));
    } else if constexpr (F::kPacking == Packing::kFp8) {
      const uint32_t from = side + (index * kBlockRows + row) * 4;
      to[0] = __uint_as_float(LoadShared4(from)), to[1] = __uint_as_float(LoadShared4(from + 32));
    } else {
      const uint32_t from = side + (index * kBlockRows + row) * 2;
      to[0] = LoadSharedHalf(from), to[1] = LoadSharedHalf(from + 16);
    }
  }
  template <int kSum>
  __device__ __forceinline__ void Flush() {
#pragma unroll
    for (int i = 0; i < kSums; ++i) acc[i] = fmaf(part[kSum % kParts][i], scale[kSum][i / 2 % 2], acc[i]);
  }
  template <int kSum, bool kAdd>
  __device__ __forceinline__ void Product(const uint32_t (&from)[4], uint64_t b) {
    if constexpr (kFlush == 0)
      WgmmaFromRegisters<true>(acc, from, b);
    else
      WgmmaFromRegisters<kAdd>(part[kSum % kParts], from, b);
  }

  // b: the descriptor of the unit's columns. The codes of the stage are in q.
  template <int kStage>
  __device__ __forceinline__ void Stage(uint32_t chunk, uint64_t b) {
    constexpr int kTile = kStage * kStageColumns / kTileColumns, kFirst = kStage * kSteps % 4;
    constexpr int kSum = kStage / kPerScale % 2;
    constexpr int kBefore = (kStage + kStages - 1) % kStages;
    constexpr bool kFlushed = kFlush != 0 && kBefore % kPerScale == kPerScale - 1;
#pragma unroll
    for (int s = 0; s < kSteps; ++s) F::Step(q, kFirst + s, a[kStage % 2][s]);
    if constexpr (kFlush != 0 && kStage % kPerScale == 0)
      LoadScales(chunk + kChunkTiles * kTileBytes, kStage / kPerScale, scale[kSum]);
    if constexpr (kFirst + kSteps == 4 && kTile + 1 < kChunkTiles) LoadCodes(chunk, kTile + 1);
    const uint64_t tile = b + kTile * (tile_bytes >> 4);
    WgmmaWait<0>();
    if constexpr (kStage == 0) Release();
    TouchSums();
    if constexpr (kFlushed && kParts == 1) Flush<kBefore / kPerScale % 2>();
    WgmmaFence();
    Product<kSum, kStage % kPerScale != 0>(a[kStage % 2][0], tile + 2 * kFirst);
#pragma unroll
    for (int s = 1; s < kSteps; ++s) Product<kSum, true>(a[kStage % 2][s], tile + 2 * (kFirst + s));
    WgmmaCommit();
    if constexpr (kFlushed && kParts == 2) Flush<kBefore / kPerScale % 2>();
  }
  __device__ __forceinline__ void TouchSums() {
    if constexpr (kFlush == 0) {
      WgmmaTouch(acc);
    } else {
#pragma unroll
      for (int i = 0; i < kParts; ++i) WgmmaTouch(part[i]);
    }
  }
  __device__ __forceinline__ void Release() {
    if (lane == 0 && held != 0) BarrierArrive(held);
  }
  // No products run on; nothing is left of the sums.
  __device__ __forceinline__ void Drain() {
    WgmmaWait<0>();
    TouchSums();
    if constexpr (kFlush != 0) {
      Flush<1>();
      scale[1][0] = scale[1][1] = 0;
    }
  }

  template <typename AnyRing>
  __device__ void Units(AnyRing& ring, int first, int count) {
    const StreamGeometry& g = p.geometry;
    const bool tail = first + count == g.units_per_group && g.last_columns != kChunkColumns;
    const int whole = tail ? count - 1 : count;
    const uint32_t block_at = warp * g.unit_bytes, inputs_at = g.inputs_at;
    held = 0;
#pragma unroll 1
    for (int i = 0; i < whole; ++i, ring.Advance()) {
      ring.WaitFull();
      const uint32_t chunk = ring.Slot() + block_at, x = ring.Slot() + inputs_at;
      const uint64_t b = WgmmaKMajor(x);
      LoadCodes(chunk, 0);
      const bool escapes = HasEscapes(chunk + kChunkTiles * kTileBytes);
      Stage<0>(chunk, b);
      Stage<1>(chunk, b);
      Stage<2>(chunk, b);
      Stage<3>(chunk, b);
      if constexpr (kStages == 8) {
        Stage<4>(chunk, b);
        Stage<5>(chunk, b);
        Stage<6>(chunk, b);
        Stage<7>(chunk, b);
      }
      if (escapes) Escapes(chunk + kChunkTiles * kTileBytes, x, 2);
      held = ring.Empty();
    }
    Drain();
    __syncwarp();
    Release();
    if (!tail) return;
    ring.WaitFull();
    LastUnit(ring.Slot());
    ring.Release(lane);
    ring.Advance();
  }

  // The last unit of a row: any number of columns, stage by stage.
  __device__ void LastUnit(uint32_t slot) {
    const int columns = p.geometry.last_columns, tiles = (columns + kTileColumns - 1) / kTileColumns;
    const uint32_t chunk = slot + warp * p.geometry.unit_bytes, x = slot + p.geometry.inputs_at;
    const uint32_t side = chunk + tiles * kTileBytes;
    if (columns % kTileColumns != 0) ClearTail(x + (tiles - 1) * tile_bytes, columns);
    if constexpr (kLossless) Escapes(side, x, (tiles + 1) / 2);
#pragma unroll 1
    for (int tile = 0; tile < tiles; ++tile) {
      const uint64_t b = WgmmaKMajor(x + tile * tile_bytes);
      LoadCodes(chunk, tile);
#pragma unroll
      for (int first = 0; first < 4; first += kSteps) {
        if constexpr (kFlush != 0) LoadScales(side, (tile * kTileColumns + first * 16) / kFlush, scale[0]);
#pragma unroll
        for (int s = 0; s < kSteps; ++s) F::Step(q, first + s, a[0][s]);
        WgmmaFence();
        Product<0, false>(a[0][0], b + 2 * first);
#pragma unroll
        for (int s = 1; s < kSteps; ++s) Product<0, true>(a[0][s], b + 2 * (first + s));
        WgmmaCommit();
        WgmmaWait<0>();
        TouchSums();
        if constexpr (kFlush != 0) Flush<0>();
      }
    }
  }
  // What lies behind the columns of a tile is anything, NaNs too, and zero times NaN is not zero. Both
  // warpgroups do it.
  __device__ void ClearTail(uint32_t tile, int columns) const {
    const int rows = (p.args.rows + 7) / 8 * 8;
    for (int i = threadIdx.x % kWarpgroup; i < rows * (kTileColumns / 2); i += kWarpgroup) {
      const int row = i / (kTileColumns / 2), column = i % (kTileColumns / 2) * 2;
      if (column >= columns % kTileColumns)
        StoreShared4(tile + row * kTileColumns * 2 + RowLayout::InTiledLine(row, column) * 2, 0);
    }
    FenceAsyncProxy();
    if (warp < 4)
      NamedBarrier<3>(kWarpgroup);
    else
      NamedBarrier<4>(kWarpgroup);
  }

  // Whether a whole chunk has weights without a code. side: behind its codes.
  __device__ __forceinline__ bool HasEscapes(uint32_t side) const {
    if constexpr (!kLossless) return false;
    const uint4 a = LoadShared16(side + kBlockRows), b = LoadShared16(side + kUnitSide + kBlockRows);
    return (a.x | a.y | a.z | a.w | b.x | b.y | b.z | b.w) != 0;
  }
  // Weights of this warp's block that have no code: (exact - stand-in) times the input.
  __device__ __forceinline__ void Escapes(uint32_t side, uint32_t x, int parts) {
#pragma unroll 1
    for (int part_of = 0; part_of < parts; ++part_of) {
      const uint32_t base = side + part_of * kUnitSide;
      const uint4 slots = LoadShared16(base + kBlockRows);
      if ((slots.x | slots.y | slots.z | slots.w) == 0) continue;
#pragma unroll 1
      for (int i = 0; i < kEscapeSlots; ++i) {
        const uint32_t slot = WordOf(slots, i);
        if ((slot >> 31) == 0) continue;
        const int row = slot >> 23 & 15, column = part_of * kUnitColumns + (slot >> 16 & 127);
        const float delta =
            __uint_as_float(slot << 16) - Lossless12::Scale(LoadShared1(base + row)) * Lossless12::kStandIn;
        const float low = row == lane / 4 ? delta : 0.0f, high = row == lane / 4 + 8 ? delta : 0.0f;
        const uint32_t tile = x + column / kTileColumns * tile_bytes;
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          const int line = lane % 4 * 2 + j;
          const uint32_t at = tile + line * kTileColumns * 2 + RowLayout::InTiledLine(line, column) * 2;
#pragma unroll
          for (int nb = 0; nb < kM / 8; ++nb) {
            const float v = LoadSharedBf16(at + nb * kAtomBytes);
            acc[4 * nb + j] = fmaf(low, v, acc[4 * nb + j]);
            acc[4 * nb + 2 + j] = fmaf(high, v, acc[4 * nb + 2 + j]);
          }
        }
      }
    }
  }

  // One scale per row: applied once.
  __device__ void EndGroup(int, int first_block) {
    if constexpr (kFlush == 0)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int row = (first_block - wr + warp) * kBlockRows + lane / 4 + 8 * h;
        const float by = __ldg(p.weight.row_scales + min(row, p.args.n - 1));
#pragma unroll
        for (int i = 0; i < kSums; ++i)
          if (i / 2 % 2 == h) acc[i] *= by;
      }
  }
  __device__ void Store(float* sums) const {
    float* to = sums + warp * kBlockRows + lane / 4;
#pragma unroll
    for (int i = 0; i < kSums; ++i)
      to[(i / 4 * 8 + lane % 4 * 2 + i % 2) * S::kSumPitch + i / 2 % 2 * 8] = acc[i];
  }
};

#endif  // DSOPT_CUDA_WGMMA

// out[r, n] (+)= in[r, :] . decoded W[n, :] + bias[n], or act(gate) up of row pairs
// in: a tiled row image   W packed.h, without offsets   k % 8 == 0   sums f32; scales applied in f32 after the
// products of their group
// bytes  W once (DRAM), inputs k * rows * 2 per panel of 128 weight rows (L2)      bound: DRAM, expansion
// grid   one CTA per multiprocessor x 288 threads: 2 consumer warpgroups, 1 producer warp; units and unfinished
//        groups as in linear_packed
// when   17 to 64 rows, sm_90a
template <typename F, int kFlush, int kM>
__global__ __launch_bounds__(TiledStream<kM>::kThreads,
                             1) void linear_tiled(const __grid_constant__ StreamLinear p) {
#ifdef DSOPT_CUDA_WGMMA
  extern __shared__ __align__(1024) char shared_tiles[];
  using S = TiledStream<kM>;
  LetNextStart();
  const int tid = threadIdx.x, warp = __shfl_sync(~0u, tid / 32, 0), lane = tid % 32;
  float* sums = reinterpret_cast<float*>(shared_tiles + S::kSumsAt);
  Ring ring(SmemAddress(shared_tiles), SmemAddress(shared_tiles) + S::kRingAt, p.slots, p.slot_bytes);
  if (tid == 0) ring.Init(S::kWarps);
  __syncthreads();
  const StreamWork work(p.geometry, 1, blockIdx.x);
  const int64_t begin = work.StartOf(work.cta), end = work.StartOf(work.cta + 1);
  if (warp == S::kWarps) {
    PackedProducer<S, 1>{p, work, ring, lane}.Run(begin, end);
    return;
  }
  WaitForPrevious();
  if (begin >= end) return;
  TiledConsumer<F, kFlush, kM> my{p, lane, warp};
  ConsumeUnits<S>(p, work, ring, sums, my, begin, end);
#endif
}

// What a launch derives from the layout and the rows of the input image. S: a TiledStream.
template <typename S>
void SetTiledGeometry(StreamLinear& p) {
  const PackedLayout& l = p.weight.layout;
  StreamGeometry& g = p.geometry;
  SetWeightGeometry<S, 1>(l, g);
  const auto aligned = [](uint32_t bytes) { return (bytes + kAtomBytes - 1) / kAtomBytes * kAtomBytes; };
  g.inputs_at = aligned(S::kBlocks * g.unit_bytes);
  g.input_pitch = kTileColumns * 2;
  g.input_chunk = static_cast<uint32_t>(ImageChunk(p.args.rows, kTiledPitch) * 2);
  g.last_input_bytes =
      static_cast<uint32_t>((g.last_columns + kTileColumns - 1) / kTileColumns) * (g.input_chunk / kChunkTiles);
  p.slot_bytes = static_cast<int>(g.inputs_at + S::kM * kChunkColumns * 2);
}

template <typename F, int kFlush, int kM>
cudaError_t StartTiled(const Launch& launch, StreamLinear p) {
  using S = TiledStream<kM>;
  SetTiledGeometry<S>(p);
  const int slots = (launch.limits->shared_bytes - S::kRingAt) / p.slot_bytes;
  p.slots = slots < 16 ? slots : 16;
  if (p.slots < 2) return cudaErrorInvalidConfiguration;
  return StartLarge(launch, linear_tiled<F, kFlush, kM>, dim3(static_cast<unsigned>(launch.limits->sms)),
                    dim3(S::kThreads), S::kRingAt + p.slots * p.slot_bytes, p);
}

template <typename F, int kFlush>
cudaError_t StartTiledRows(const Launch& launch, const StreamLinear& p) {
  return p.args.rows <= 32 ? StartTiled<F, kFlush, 32>(launch, p) : StartTiled<F, kFlush, 64>(launch, p);
}

}  // namespace dsopt_cuda
#endif  // DSOPT_CUDA_LINEAR_TILED_CUH_
