// attention_mla_wgmma.cu - absorbed latent attention (MLA, 512 + 64) over the paged cache (bf16 and codes) on
// wgmma (sm_90a), decode and prefill rows together. attention_mla.cu does the same on every other GPU.
//
// Four warpgroups, each with one kind of work; what they wait for is each other's data, nothing else:
//   producer   copies pages with cp.async, every warp 128 columns of the values (a part) and a quarter of the
//              rotated keys; codes pass through its registers and become bf16 there
//   scores     S = q k for 64 pairs and 64 keys, softmax; leaves P and the factors of older outputs
//   values     two of them, 256 output columns each: O = O fade + P V
// The scores of the next page run on the tensor cores beside the values of this one. Lane i of warp w of the
// values needs of P just what lane i of warp w of the scores has: they meet in shared memory without any
// layout.
#include "attention_mla_pages.cuh"
#include "common/convert.cuh"
#include "common/launch.cuh"
#include "common/wgmma.cuh"

namespace dsopt_cuda {
namespace {

constexpr int kThreads = 4 * kWarpgroup, kConsumers = 3 * kWarpgroup, kPairs = kMlaPairs, kKeys = kPageTokens;
constexpr int kLatent = kMlaLatent, kWidth = kLatent + kMlaRope, kRowBytes = LatentTile::kRowBytes;
constexpr int kStages = 2, kParts = LatentTile::kParts, kTileBytes = kKeys * kRowBytes;
// Registers of a warpgroup's threads, together 4 * 128 with two of values. Codes need room in the producer.
template <CacheCode kCode>
struct Registers {
  static constexpr int kProducer = kCode == CacheCode::kPlain ? 40 : 80,
                       kScores = kCode == CacheCode::kPlain ? 104 : 80,
                       kValues = kCode == CacheCode::kPlain ? 184 : 176;
  static_assert(kProducer + kScores + 2 * kValues == 4 * 128);
};
constexpr int kMostSplits = 256;  // their maxima and sums of 64 pairs have room in shared memory
constexpr int kLines = kPairs * kLatent * 4 / 512;  // a tile's outputs in units of a warp's 16-byte accesses
constexpr int kListWords = kMostSplits / 32;
constexpr long long kPatience = 1 << 18;  // cycles
constexpr int kMergeBatch = 17;           // loads under way per lane

struct Shared {
  static constexpr int kQueries = 0, kTiles = kPairs * kRowBytes,
                       kProbabilities = kTiles + kStages * kTileBytes,
                       kFactors = kProbabilities + 4 * kWarpgroup * 16, kBarriers = kFactors + kWarpgroup * 8;
  static constexpr int kBytes =
      kBarriers + (2 * kStages * kParts + 2) * 8 + kAtomBytes;  // the last for alignment
  char* memory;
  uint32_t base;

  __device__ uint32_t Tile(int stage) const { return base + kTiles + stage * kTileBytes; }
  __device__ uint32_t Barrier(int i) const { return base + kBarriers + 8 * i; }
  // A part of a page has landed; both kinds of products have read it.
  __device__ uint32_t Full(int stage, int part) const { return Barrier(stage * kParts + part); }
  __device__ uint32_t Empty(int stage, int part) const { return Barrier((kStages + stage) * kParts + part); }
  // A message of the scores to the values: 16 words of P and two factors per lane.
  __device__ uint32_t Sent() const { return Barrier(2 * kStages * kParts); }
  __device__ uint32_t Taken() const { return Barrier(2 * kStages * kParts + 1); }
  __device__ uint4* Probabilities() const { return reinterpret_cast<uint4*>(memory + kProbabilities); }
  __device__ float2* Factors() const { return reinterpret_cast<float2*>(memory + kFactors); }
};
static_assert(Shared::kBytes <= 227 * 1024);

#ifdef DSOPT_CUDA_WGMMA

// A tile of pairs and this CTA's pages of its keys.
struct Work {
  int first_row, count, pair0, p0, keys, first, pages, stable;
  const int* table;  // of the CTA's first page on
  int64_t tile;      // the tile's number; partial results of a split are a whole of them apart

  __device__ explicit Work(const AttentionArgs& a) {
    const int z = gridDim.z - 1 - blockIdx.z;  // of a prompt: the longest first
    const int4 rows = a.tiles[z];
    first_row = rows.x, p0 = rows.z, pair0 = blockIdx.y * kPairs;
    count = min(kPairs, rows.y * a.q_heads - pair0);
    keys = p0 + (pair0 + count - 1) / a.q_heads + 1;  // of the tile's last row
    const int blocks = (keys + kKeys - 1) / kKeys, splits = gridDim.x;
    first = static_cast<int>(static_cast<int64_t>(blocks) * blockIdx.x / splits);
    pages = static_cast<int>(static_cast<int64_t>(blocks) * (blockIdx.x + 1) / splits) - first;
    const int seq = a.cache.row_seq[first_row];
    table = a.cache.page_table + static_cast<int64_t>(seq) * a.cache.page_stride + first;
    // Keys older than the batch are there whatever the kernels before this one do.
    stable = a.fresh > 0 && (first_row == 0 || a.cache.row_seq[first_row - 1] != seq) ? p0 : 0;
    tile = static_cast<int64_t>(z) * gridDim.y + blockIdx.y;
  }
  __device__ float* Partial(const AttentionArgs& a, int split) const {
    return a.partial + (tile * gridDim.x + split) * (kPairs * kMlaPartial);
  }
};

// ---- producer -------------------------------------------------------------------------------------------

__device__ __forceinline__ void Produce(const AttentionArgs& a, const Work& work, const Shared shared) {
  const int lane = threadIdx.x % 32, part = threadIdx.x / 32;
  const LaneCopies copies(shared.Tile(0), part, lane);
  bool settled = false;
  const auto publish = [&](int i) {  // page i has landed
    FenceAsyncProxy();
    __syncwarp();
    if (lane == 0) BarrierArrive(shared.Full(i % kStages, part));
  };
  int flying = -1, next = work.pages > 0 ? work.table[0] : 0;
  for (int i = 0; i < work.pages; ++i) {
    const int64_t id = next;
    if (i + 1 < work.pages) next = work.table[i + 1];
    const int stage = i % kStages, key0 = (work.first + i) * kKeys;
    if (!settled && key0 + kKeys > work.stable) {
      WaitForPrevious();
      settled = true;
    }
    const uint32_t empty = shared.Empty(stage, part),
                   parity = i / kStages % 2 ^ 1;  // passes for the first ones
    if (flying >= 0 && !__all_sync(~0u, BarrierReady(empty, parity))) {
      CopyAsyncWait<0>();
      publish(flying);
      flying = -1;
    }
    BarrierWait(empty, parity);
    copies.Copy(stage * kTileBytes, a.cache.base + id * static_cast<int64_t>(a.cache.page_bytes),
                work.keys - key0);  // what lies behind may be anything, NaNs too
    CopyAsyncCommit();
    if (flying >= 0) {
      CopyAsyncWait<1>();
      publish(flying);
    }
    flying = i;
  }
  CopyAsyncWait<0>();
  if (flying >= 0) publish(flying);
}

template <CacheCode kCode>
__device__ __forceinline__ void ProduceCodes(const AttentionArgs& a, const Work& work, const Shared shared) {
  using Codes = LaneCodes<kCode>;
  if (work.pages == 0) return;
  const int lane = threadIdx.x % 32, part = threadIdx.x / 32;
  Codes codes(shared.Tile(0), part, lane);
  bool settled = false;
  // Where page i lies, once what may still be written to it is.
  const auto page_at = [&](int i, int64_t id) {
    if (!settled && (work.first + i + 1) * kKeys > work.stable) {
      WaitForPrevious();
      settled = true;
    }
    return a.cache.base + id * static_cast<int64_t>(a.cache.page_bytes);
  };
  const char* page = page_at(0, work.table[0]);
#pragma unroll
  for (int j = 0; j < Codes::kLoads; ++j) codes.Load(j, 0, page, work.keys - work.first * kKeys);
  int next = work.table[min(1, work.pages - 1)];
  for (int i = 0; i < work.pages; ++i) {
    const int stage = i % kStages, id = next;
    int known = work.keys - (work.first + i) * kKeys;
    next = work.table[min(i + 2, work.pages - 1)];
    BarrierWait(shared.Empty(stage, part), i / kStages % 2 ^ 1);  // passes for the first ones
#pragma unroll
    for (int batch = 0; batch < Codes::kBatches; ++batch) {
      if (batch == Codes::kBatches - 1) {
        known = i + 1 < work.pages ? known - kKeys : 0;  // no page, no keys
        page = page_at(min(i + 1, work.pages - 1), id);
      }
#pragma unroll
      for (int j = 0; j < Codes::kLoads; ++j) {
        const uint4 packed = codes.codes[j];
        const uint32_t word = codes.words[j];
        codes.Load(j, (batch + 1) % Codes::kBatches, page, known);
        codes.Store(j, batch, stage * kTileBytes, packed, word);
      }
    }
    FenceAsyncProxy();
    __syncwarp();
    if (lane == 0) BarrierArrive(shared.Full(stage, part));
  }
}

// ---- merge of the splits: each of a tile's CTAs merges some lines of its outputs ------------------------

constexpr int kConsumerBarrier = 1, kValueBarrier = 2, kScoreBarrier = 3;

// Lines of a tile's outputs, rows they touch.
struct Slice {
  int begin, end, row0, rows;
  __device__ Slice(int index, int splits)
      : begin(kLines * index / splits),
        end(kLines * (index + 1) / splits),
        row0(begin / (kLines / 4) * 16),
        rows((end - 1) / (kLines / 4) * 16 + 16 - row0) {}
};

// Line (w, half, q) of 32 x 16 bytes is a warp's: warp w of a warpgroup, lane `lane`, its floats 4 q .. 4 q +
// 3: rows 16 w + lane / 4 and + 8, columns 256 half + 8 q + 2 (lane % 4) and + 1.
struct Merge {
  const AttentionArgs& a;
  const Work& work;
  const Shared shared;
  const int id;  // of the consumer thread
  const int splits = gridDim.x;
  const int pitch = splits | 1;  // of a row's entries, odd: no bank conflicts

  __device__ float2* Sums() const { return reinterpret_cast<float2*>(shared.memory); }
  // Slices that this CTA merges, one bit each.
  __device__ uint32_t* Mine() const { return reinterpret_cast<uint32_t*>(shared.memory + Shared::kFactors); }
  // The tile's: CTAs that have arrived, and 65536 for each that has left; then the list of slices left to
  // others.
  __device__ uint32_t* Arrived() const { return a.arrived + work.tile * kFlagStride; }
  __device__ bool All(uint32_t arrived) const { return (arrived & 0xffff) == static_cast<uint32_t>(splits); }
  // The last one makes everything zero for the next launch.
  __device__ uint32_t Leave() const {
    const uint32_t before = atomicAdd(Arrived(), 1u << 16);
    if (before >> 16 == static_cast<uint32_t>(splits) - 1)
      for (int i = 0; i <= kListWords; ++i) atomicExch(Arrived() + i, 0u);
    return before;
  }
  // This thread's partial results are written; returns when those of all splits are, or have been missing for
  // long: perhaps another kernel has the multiprocessors and waits for those that we have. Then the last CTA to
  // arrive finds this one's slice in the list. Whether Leave() is still to come, for thread 0.
  __device__ bool Meet() const {
    bool stays = true;
    NamedBarrier<kConsumerBarrier>(kConsumers);
    if (id == 0) {
      const int word = blockIdx.x / 32;
      const uint32_t bit = 1u << blockIdx.x % 32;
      for (int i = 0; i < kListWords; ++i) Mine()[i] = 0;
      __threadfence();
      uint32_t seen = atomicAdd(Arrived(), 1u) + 1;
      if (All(seen)) {
        __threadfence();
        if (seen >> 16 != 0)
          for (int i = 0; i < kListWords; ++i) Mine()[i] = LoadRelaxed(Arrived() + 1 + i);
      }
      for (const long long start = clock64(); !All(seen) && clock64() - start < kPatience;)
        seen = LoadAcquire(Arrived());
      if (!All(seen)) {
        atomicOr(Arrived() + 1 + word, bit);
        __threadfence();
        seen = Leave();
        stays = false;
        __threadfence();
      }
      if (All(seen)) Mine()[word] |= bit;
    }
    NamedBarrier<kConsumerBarrier>(kConsumers);
    return stays;
  }
  // All consumers: calls merge(slice) for every slice of this CTA.
  template <class F>
  __device__ __forceinline__ void ForEach(F&& merge) const {
#pragma unroll 1
    for (int i = 0; i < splits; ++i) {
      if ((Mine()[i / 32] >> i % 32 & 1) == 0) continue;
      merge(Slice(i, splits));
      NamedBarrier<kConsumerBarrier>(kConsumers);
    }
  }
  // Maxima of the splits become the factors of their outputs.
  __device__ void Factors(const Slice& slice) const {
    float2* sums = Sums();
    for (int i = id; i < splits * slice.rows; i += kConsumers) {
      const int split = i / slice.rows, row = i % slice.rows;
      sums[row * pitch + split] =
          __ldcg(reinterpret_cast<const float2*>(work.Partial(a, split) + kPairs * kLatent) + slice.row0 + row);
    }
    NamedBarrier<kConsumerBarrier>(kConsumers);
    const float c = a.scale * 1.4426950408889634f;
    const int lane = id % 32;
    for (int row = id / 32; row < slice.rows; row += kConsumers / 32) {
      float2* all = sums + row * pitch;
      float m = -INFINITY, l = 0;
      for (int s = lane; s < splits; s += 32) m = fmaxf(m, all[s].x);
      m = WarpMax(m);
      for (int s = lane; s < splits; s += 32) {
        const float2 e = all[s];
        const float f = e.x == -INFINITY ? 0.0f : Exp2((e.x - m) * c);
        all[s].x = f;
        l = fmaf(e.y, f, l);
      }
      const float inverse = 1.0f / WarpSum(l);
      for (int s = lane; s < splits; s += 32) all[s].x *= inverse;
    }
    NamedBarrier<kConsumerBarrier>(kConsumers);
  }
  // The loads of every other split of a line from `first` on.
  __device__ __forceinline__ void Load(float4 (&o)[kMergeBatch], int line, int end, int first, int lane) const {
    const float* from = work.Partial(a, first) + (line * 32 + lane) * 4;
#pragma unroll
    for (int i = 0; i < kMergeBatch; ++i)
      if (line < end && first + 2 * i < splits)
        o[i] = __ldcg(reinterpret_cast<const float4*>(from + i * (2 * kPairs * kMlaPartial)));
  }
  // Values' threads only: warp w of both warpgroups has every fourth line, each half of the splits.
  __device__ void Outputs(const Slice& slice, int half, int warp, int lane) const {
    float4 o[kMergeBatch];
    const int begin = slice.begin, end = slice.end;
    Load(o, begin + warp, end, half, lane);
    Factors(slice);
    float4* exchange = reinterpret_cast<float4*>(shared.Probabilities()) + warp * 32 + lane;
    for (int round = 0; begin + 4 * round < end; ++round) {
      const int line = begin + 4 * round + warp, row = line / (kLines / 4) * 16 + lane / 4;
      float4 sum = {0, 0, 0, 0};
      if (line < end) {
        const float2* factors = Sums() + (row - slice.row0) * pitch;
        for (int first = half; first < splits; first += 2 * kMergeBatch) {
          if (round > 0 || first > half) Load(o, line, end, first, lane);
#pragma unroll
          for (int i = 0; i < kMergeBatch; ++i) {
            const int split = first + 2 * i;
            if (split >= splits) break;
            const float f0 = factors[split].x, f1 = factors[split + 8 * pitch].x;
            sum.x = fmaf(o[i].x, f0, sum.x);
            sum.y = fmaf(o[i].y, f0, sum.y);
            sum.z = fmaf(o[i].z, f1, sum.z);
            sum.w = fmaf(o[i].w, f1, sum.w);
          }
        }
      }
      if (half == 1) exchange[round % 2 * kWarpgroup] = sum;
      NamedBarrier<kValueBarrier>(2 * kWarpgroup);
      if (half == 1 || line >= end) continue;
      const float4 other = exchange[round % 2 * kWarpgroup];
      const int64_t pair = static_cast<int64_t>(work.first_row) * a.q_heads + work.pair0 + row;
      bf16* to = static_cast<bf16*>(a.out) + pair * kLatent + line % (kLines / 4) * 8 + lane % 4 * 2;
      if (row < work.count) *reinterpret_cast<uint32_t*>(to) = PackBf16(sum.x + other.x, sum.y + other.y);
      if (row + 8 < work.count)
        *reinterpret_cast<uint32_t*>(to + 8 * kLatent) = PackBf16(sum.z + other.z, sum.w + other.w);
    }
  }
};

// ---- scores ---------------------------------------------------------------------------------------------

__device__ __forceinline__ void ScorePages(const AttentionArgs& a, const Work& work, const Shared shared) {
  const int tid = threadIdx.x % kWarpgroup, warp = tid / 32, lane = tid % 32, row = warp * 16 + lane / 4;
  LatentScores state;
  state.Init(a.scale);
  const bf16* q =
      static_cast<const bf16*>(a.q) + (static_cast<int64_t>(work.first_row) * a.q_heads + work.pair0) * kWidth;
  if (work.pages > 0)
    for (int i = tid; i < kPairs * (kWidth / 8); i += kWarpgroup) {
      const int r = i / (kWidth / 8), chunk = i % (kWidth / 8);
      CopyAsync16(WgmmaAt<kPairs>(shared.base + Shared::kQueries, r, chunk),
                  q + (r < work.count ? r : 0) * kWidth + chunk * 8, r < work.count);
    }
  CopyAsyncCommit();
  const int position[2] = {work.p0 + (work.pair0 + row) / a.q_heads,
                           work.p0 + (work.pair0 + row + 8) / a.q_heads};
  const int lowest = work.p0 + work.pair0 / a.q_heads;
  CopyAsyncWait<0>();
  FenceAsyncProxy();
  NamedBarrier<kScoreBarrier>(kWarpgroup);

  const uint64_t queries = WgmmaKMajor(shared.base + Shared::kQueries);
  for (int i = 0; i < work.pages; ++i) {
    const int stage = i % kStages;
    const uint64_t keys = WgmmaKMajor(shared.Tile(stage));
    state.Multiply(queries, keys, keys + WgmmaKMajorStep<kKeys>(kLatent / 16), [&](int part) {
      if (part < kParts)
        BarrierWait(shared.Full(stage, part), i / kStages % 2);  // the rope part came with them
    });
    const int key0 = (work.first + i) * kKeys;
    if (key0 + kKeys - 1 > lowest) state.Mask({position[0] - key0, position[1] - key0}, lane);
    state.Softmax();
    BarrierWait(shared.Taken(), i % 2 ^ 1);  // passes for the first one
    state.Put(shared.Probabilities(), shared.Factors(), tid);
    __syncwarp();
    if (lane == 0) BarrierArrive(shared.Sent());
  }
  state.SumRows();
  if (gridDim.x == 1) {
    BarrierWait(shared.Taken(), work.pages % 2 ^ 1);
    shared.Factors()[tid] = {1.0f / state.l[0], 1.0f / state.l[1]};
    __syncwarp();
    if (lane == 0) BarrierArrive(shared.Sent());
    return;
  }
  if (lane % 4 == 0) {
    float2* sums = reinterpret_cast<float2*>(work.Partial(a, blockIdx.x) + kPairs * kLatent);
    sums[row] = {state.m[0], state.l[0]};
    sums[row + 8] = {state.m[1], state.l[1]};
  }
  const Merge merge{a, work, shared, tid};
  const bool stays = merge.Meet();
  merge.ForEach([&](const Slice& slice) { merge.Factors(slice); });
  if (tid == 0 && stays) merge.Leave();
}

// ---- values ---------------------------------------------------------------------------------------------

__device__ __forceinline__ void AddValues(const AttentionArgs& a, const Work& work, const Shared shared,
                                          int half) {
  const int tid = threadIdx.x % kWarpgroup, warp = tid / 32, lane = tid % 32;
  LatentOutputs sums;
  sums.Clear();
  const auto& out = sums.out;
  for (int i = 0; i < work.pages; ++i) {
    const int stage = i % kStages;
    BarrierWait(shared.Sent(), i % 2);
    uint4 p[4];
#pragma unroll
    for (int k = 0; k < 4; ++k) p[k] = shared.Probabilities()[k * kWarpgroup + tid];
    const float2 fade = shared.Factors()[tid];
    __syncwarp();
    if (lane == 0) BarrierArrive(shared.Taken());
    sums.Fade(fade);
    sums.Add(p, shared.Tile(stage) + 2 * half * LatentTile::kPartBytes, [&](int part) {
      if (lane == 0) BarrierArrive(shared.Empty(stage, 2 * half + part));
    });
  }
  if (gridDim.x == 1) {
    BarrierWait(shared.Sent(), work.pages % 2);
    const float2 inverse = shared.Factors()[tid];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int row = warp * 16 + lane / 4 + 8 * h;
      if (row >= work.count) continue;
      const float f = h == 0 ? inverse.x : inverse.y;
      const int64_t pair = static_cast<int64_t>(work.first_row) * a.q_heads + work.pair0 + row;
      bf16* to = static_cast<bf16*>(a.out) + pair * kLatent + half * (kLatent / 2) + lane % 4 * 2;
#pragma unroll
      for (int j = 0; j < kLatent / 16; ++j) {
        const float* x = &out[j / 16][j % 16 * 4 + 2 * h];
        *reinterpret_cast<uint32_t*>(to + 8 * j) = PackBf16(x[0] * f, x[1] * f);
      }
    }
    return;
  }
  float4* to = reinterpret_cast<float4*>(work.Partial(a, blockIdx.x)) +
               (warp * (kLines / 4) + half * (kLines / 8)) * 32 + lane;
#pragma unroll
  for (int j = 0; j < kLines / 8; ++j) {
    const float* x = &out[j / 16][j % 16 * 4];
    to[j * 32] = {x[0], x[1], x[2], x[3]};
  }
  const Merge merge{a, work, shared, (1 + half) * kWarpgroup + tid};
  merge.Meet();
  merge.ForEach([&](const Slice& slice) { merge.Outputs(slice, half, warp, lane); });
}

#endif  // DSOPT_CUDA_WGMMA

// out[row, h] = softmax(scale q . c) c[:512]     q [rows, heads, 576]   out [rows, heads, 512]   bf16, f32 sums
// bytes  keys * 1152 (fp8, int8: 584; int4: 360) per tile (L2; DRAM once per wave of tiles)
//        merge: 128.5 KiB per CTA, written and read once (L2)
// shared per 64 keys: 72 KiB written, 144 KiB read for scores, 64 KiB for values; the tensor cores' time for
//        272 KiB
// grid   (splits, pair tiles, row tiles) x 512 threads, 226 KiB. With more than one split the CTAs of a tile
//        wait for each other to merge it, but not forever. Keys that no kernel of the batch writes are on
//        their way before the previous one has ended      bound: L2, tensor cores (wgmma)
template <CacheCode kCode>
__global__ __launch_bounds__(kThreads, 1) void attention_mla_paged_sm90(AttentionArgs a) {
#ifdef DSOPT_CUDA_WGMMA
  extern __shared__ __align__(128) char smem[];
  LetNextStart();
  if (a.fresh == 0) WaitForPrevious();
  const Work work(a);
  if (work.count <= 0) return;
  const uint32_t unaligned = SmemAddress(smem);
  const uint32_t base = (unaligned + kAtomBytes - 1) & ~static_cast<uint32_t>(kAtomBytes - 1);
  const Shared shared{smem + (base - unaligned), base};
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages * kParts; ++i) {
      BarrierInit(shared.Full(0, i), 1);
      BarrierInit(shared.Empty(0, i), kWarpgroup / 32);
    }
    BarrierInit(shared.Sent(), kWarpgroup / 32);
    BarrierInit(shared.Taken(), 2 * kWarpgroup / 32);
    BarrierInitFence();
  }
  __syncthreads();
  const int group = __shfl_sync(~0u, threadIdx.x / kWarpgroup, 0);
  if (group == 0) {
    GiveRegisters<Registers<kCode>::kProducer>();
    if constexpr (kCode == CacheCode::kPlain)
      Produce(a, work, shared);
    else
      ProduceCodes<kCode>(a, work, shared);
    return;
  }
  WaitForPrevious();
  if (group == 1) {
    GiveRegisters<Registers<kCode>::kScores>();
    ScorePages(a, work, shared);
  } else {
    TakeRegisters<Registers<kCode>::kValues>();
    AddValues(a, work, shared, group - 2);
  }
#endif
}

}  // namespace

bool MlaWgmmaSupported(const Limits& limits) {
  return limits.has_sm90a && limits.shared_bytes >= Shared::kBytes;
}

cudaError_t AttentionMlaWgmma(const Launch& launch, const AttentionArgs& args, int pair_tiles) {
  const int works = pair_tiles * args.tile_count;
  int splits = launch.limits->sms / (works > 0 ? works : 1);
  const int useful = (args.longest_decode + 2 * kKeys - 1) / (2 * kKeys);
  if (splits > useful) splits = useful;
  if (splits > kMostSplits) splits = kMostSplits;
  if (splits < 1) splits = 1;
  // As few as have no more pages each: partial results cost.
  const int blocks = (args.longest_decode + kKeys - 1) / kKeys, pages = (blocks + splits - 1) / splits;
  if (pages > 0) splits = (blocks + pages - 1) / pages;
  const dim3 grid(static_cast<unsigned>(splits), static_cast<unsigned>(pair_tiles),
                  static_cast<unsigned>(args.tile_count));
  const auto start = [&](void (*kernel)(AttentionArgs)) {
    return StartLarge(launch, kernel, grid, dim3(kThreads), Shared::kBytes, args);
  };
  switch (args.cache.code) {
    case CacheCode::kFp8:
      return start(attention_mla_paged_sm90<CacheCode::kFp8>);
    case CacheCode::kInt8:
      return start(attention_mla_paged_sm90<CacheCode::kInt8>);
    case CacheCode::kInt4:
      return start(attention_mla_paged_sm90<CacheCode::kInt4>);
    case CacheCode::kPlain:
      break;
  }
  return start(attention_mla_paged_sm90<CacheCode::kPlain>);
}

uint64_t MlaCounters(const Limits& limits) { return static_cast<uint64_t>(limits.sms) * kFlagStride; }

}  // namespace dsopt_cuda
