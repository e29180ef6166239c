// attention_prefill_wgmma.cu - causal attention of many rows of one sequence over the paged bf16 cache, on
// wgmma (sm_90a). Head dimensions 64 and 128; sliding window. attention_prefill.cu does the same on every other
// GPU and for coded caches.
//
// Hierarchy of tiles, with the bytes each level moves per query head and tile of 128 rows over `keys` keys:
//   registers   64 query rows per warpgroup: scores and outputs, for the whole pass over the keys
//   shared      two pages of K and V (128 keys), read once per warpgroup: 2 * keys * kDim * 4; the queries of a
//               warpgroup, read once per 128 keys: keys * kDim * 2
//   L2          the query heads of a KV head run side by side and share the pages: keys * kDim * 4 per head
//   DRAM        a page comes in once per tile of rows and KV head: keys * kDim * 4 / (query heads per KV head)
#include "attention_prefill.h"
#include "common/launch.cuh"
#include "common/wgmma.cuh"

namespace dsopt_cuda {
namespace {

constexpr int kThreads = 3 * kWarpgroup, kGroupRows = kPrefillRows / 2, kKeys = 2 * kPageTokens, kStages = 3;
constexpr int kProducerRegisters = 40, kConsumerRegisters = 232;

// Offsets in shared memory. A tile is 128 lines (of queries or keys) in the order WgmmaAt says.
template <int kDim>
struct Shared {
  static constexpr int kTileBytes = kKeys * kDim * 2;
  static constexpr int kQueries = 0, kTiles = kPrefillRows * kDim * 2,
                       kBarriers = kTiles + 2 * kStages * kTileBytes;
  static constexpr int kBytes = kBarriers + 2 * 2 * kStages * 8 + kAtomBytes;  // the last for alignment
  uint32_t base;

  // part: 0 keys, 1 values.
  __device__ uint32_t Tile(int part, int stage) const {
    return base + kTiles + (part * kStages + stage) * kTileBytes;
  }
  __device__ uint32_t Full(int part, int stage) const {
    return base + kBarriers + (part * kStages + stage) * 8;
  }
  __device__ uint32_t Empty(int part, int stage) const { return Full(part + 2, stage); }
};

#ifdef DSOPT_CUDA_WGMMA

// Items are pairs of a row tile and a head, the longest first and the heads of a tile next to each other. A CTA
// takes one of each round; every other round goes backwards, so that all get about as many keys.
__device__ __forceinline__ int ItemOf(int round) {
  const int place = round % 2 == 0 ? blockIdx.x : gridDim.x - 1 - blockIdx.x;
  return round * static_cast<int>(gridDim.x) + place;
}

// Rows of one head and the pages they see, two at a time (a step) and the latest first.
struct Item {
  int first_row, rows, p0, head, kv_head, page_first, page_last, steps;
  const int* pages;

  __device__ Item(const AttentionArgs& a, int index) {
    const int4 tile = a.tiles[a.tile_count - 1 - index / a.q_heads];
    first_row = tile.x, rows = tile.y, p0 = tile.z;
    head = index % a.q_heads, kv_head = head / (a.q_heads / a.kv_heads);
    pages = a.cache.page_table + static_cast<int64_t>(a.cache.row_seq[first_row]) * a.cache.page_stride;
    const int lowest = a.window > 0 && p0 + 1 > a.window ? p0 + 1 - a.window : 0;
    page_first = lowest / kPageTokens, page_last = (p0 + rows - 1) / kPageTokens;
    steps = (page_last - page_first) / 2 + 1;
  }
  __device__ int FirstPage(int step) const { return page_first + 2 * (steps - 1 - step); }
  __device__ bool Both() const { return rows > kGroupRows; }
};

// ---- producer: two warps for the keys, two for the values, in turns -------------------------------------

// Where a lane's chunks of 8 lines of a page come from and go to; the next 8 lines lie kAtomBytes on.
template <int kDim>
struct LaneCopies {
  static constexpr int kCount = 8 * kDim / 8 / 32, kLineBytes = kDim * 2;
  int first_line, from;
  uint32_t to[kCount];

  __device__ LaneCopies(uint32_t tile, int lane) : first_line(lane / (kDim / 8)), from(lane * 16) {
#pragma unroll
    for (int j = 0; j < kCount; ++j)
      to[j] = WgmmaAt<kKeys>(tile, first_line + j * (8 / kCount), lane % (kDim / 8));
  }
  // The tile at `offset` becomes two pages, `known` tokens of them and then zeros.
  __device__ __forceinline__ void Copy(int offset, const char* page0, const char* page1, int known) const {
    known -= first_line;
#pragma unroll 1
    for (int half = 0; half < 2; ++half) {
      const char* source = (half == 0 ? page0 : page1) + from;
#pragma unroll 1
      for (int i = 0; i < kPageTokens / 8; ++i) {
#pragma unroll
        for (int j = 0; j < kCount; ++j)
          CopyAsync16(to[j] + offset, source + j * 512, j * (8 / kCount) < known);
        offset += kAtomBytes;
        source += 8 * kLineBytes;
        known -= 8;
      }
    }
  }
};

template <int kDim>
__device__ __forceinline__ void Produce(const AttentionArgs& a, Shared<kDim> shared) {
  const int lane = threadIdx.x % 32, part = threadIdx.x / 64, turn = threadIdx.x / 32 % 2;
  const LaneCopies<kDim> copies(shared.Tile(part, 0), lane);
  const int items = a.q_heads * a.tile_count;
  for (int round = 0, done = 0; ItemOf(round) < items; ++round) {
    const Item item(a, ItemOf(round));
    const char* base =
        a.cache.base + static_cast<int64_t>(part * a.kv_heads + item.kv_head) * kPageTokens * kDim * 2;
    for (int step = (done + turn) % 2; step < item.steps; step += 2) {
      const int page = item.FirstPage(step), stage = (done + step) % kStages;
      const int64_t id0 = item.pages[page], id1 = item.pages[min(page + 1, item.page_last)];
      const int known = item.p0 + item.rows - page * kPageTokens;  // what lies behind may be anything, NaNs too
      BarrierWait(shared.Empty(part, stage), (done + step) / kStages % 2 ^ 1);  // passes for the first ones
      copies.Copy(stage * Shared<kDim>::kTileBytes, base + id0 * static_cast<int64_t>(a.cache.page_bytes),
                  base + id1 * static_cast<int64_t>(a.cache.page_bytes), known);
      CopyAsyncCommit();
      CopyAsyncWait<0>();
      FenceAsyncProxy();
      __syncwarp();
      if (lane == 0) BarrierArrive(shared.Full(part, stage));
    }
    done += item.steps;
  }
}

// ---- consumers: a warpgroup per 64 rows -----------------------------------------------------------------

__device__ __forceinline__ void SyncNamed(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
__device__ __forceinline__ void ArriveNamed(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
constexpr int kTurnBarrier = 1, kQueryBarrier = 3;  // and the next: one per warpgroup

template <int kDim>
struct Rows {
  // In the order of wgmma.cuh. Maxima are raw scores; sums are this lane's share.
  float score[64], out[kDim / 2], m[2], l[2], fade[2];
  uint32_t p[16][2];
  float c;  // scale in units of log2(e)

  __device__ __forceinline__ void Init(float scale) {
    c = scale * 1.4426950408889634f;
#pragma unroll
    for (int i = 0; i < 64; ++i) score[i] = 0;
  }
  __device__ __forceinline__ void Reset() {
    m[0] = m[1] = -INFINITY;
    l[0] = l[1] = 0;
#pragma unroll
    for (int i = 0; i < kDim / 2; ++i) out[i] = 0;
  }
  // q, k, v: descriptors.
  __device__ __forceinline__ void Scores(uint64_t q, uint64_t k) {
    Wgmma<false>(score, q, k);
#pragma unroll
    for (int i = 1; i < kDim / 16; ++i)
      Wgmma<true>(score, q + WgmmaKMajorStep<kPrefillRows>(i), k + WgmmaKMajorStep<kKeys>(i));
    WgmmaCommit();
  }
  __device__ __forceinline__ void Outputs(uint64_t v) {
#pragma unroll
    for (int i = 0; i < kKeys / 16; ++i)
      Wgmma(out, p[2 * i][0], p[2 * i][1], p[2 * i + 1][0], p[2 * i + 1][1], v + WgmmaMnMajorStep(i));
    WgmmaCommit();
  }
  // Row h of this lane sees keys low + 1 .. high of the tile.
  __device__ __forceinline__ void Mask(int high, int window, int lane) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int last = high + 8 * h - lane % 4 * 2, before = window > 0 ? last - window : -kKeys;
#pragma unroll
      for (int j = 0; j < 16; ++j)
#pragma unroll
        for (int e = 0; e < 2; ++e)
          if (8 * j + e > last || 8 * j + e <= before) score[4 * j + 2 * h + e] = -INFINITY;
    }
  }
  // Scores become probabilities, still f32; outputs so far shall be multiplied with fade.
  __device__ __forceinline__ void Softmax() {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float peak = m[h], other = score[2 * h + 1];
#pragma unroll
      for (int j = 0; j < 16; ++j) {
        peak = fmaxf(peak, score[4 * j + 2 * h]);
        other = fmaxf(other, score[4 * j + 2 * h + 1]);
      }
      peak = fmaxf(peak, other);
      peak = fmaxf(peak, __shfl_xor_sync(~0u, peak, 1));
      peak = fmaxf(peak, __shfl_xor_sync(~0u, peak, 2));
      const float shift = peak == -INFINITY ? 0.0f : -peak * c;
      fade[h] = Exp2(fmaf(m[h], c, shift));
      m[h] = peak;
#pragma unroll
      for (int j = 0; j < 16; ++j)
#pragma unroll
        for (int e = 0; e < 2; ++e) score[4 * j + 2 * h + e] = Exp2(fmaf(score[4 * j + 2 * h + e], c, shift));
    }
  }
  // Rounds the probabilities and sums them as they are then, so that rounding cancels.
  __device__ __forceinline__ void Round() {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float low = 0, high = 0;
#pragma unroll
      for (int j = 0; j < 16; ++j) {
        p[j][h] = PackBf16(score[4 * j + 2 * h], score[4 * j + 2 * h + 1]);
        low += __uint_as_float(p[j][h] << 16);
        high += __uint_as_float(p[j][h] & 0xffff0000u);
      }
      l[h] = fmaf(l[h], fade[h], low + high);
    }
  }
  __device__ __forceinline__ void Fade() {
#pragma unroll
    for (int j = 0; j < kDim / 8; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) out[4 * j + e] *= fade[e / 2];
  }
};

// Step `step` of an item is number done + step of the CTA: that says its stage and the parity of its barriers.
template <int kDim>
struct Consumer {
  const AttentionArgs& a;
  const Shared<kDim> shared;
  const int group, tid = threadIdx.x % kWarpgroup, lane = tid % 32;
  int done = 0;
  Rows<kDim> state;

  __device__ __forceinline__ uint32_t Queries() const {  // the group's 64 lines
    return shared.base + Shared<kDim>::kQueries + group * kGroupRows * 128;
  }
  __device__ __forceinline__ void SyncGroup() const { SyncNamed(kQueryBarrier + group, kWarpgroup); }
  __device__ __forceinline__ void LoadQueries(const Item& item) const {
    constexpr int kChunks = kDim / 8;
    const bf16* q = static_cast<const bf16*>(a.q);
#pragma unroll
    for (int j = 0; j < kGroupRows * kChunks / kWarpgroup; ++j) {
      const int i = tid + j * kWarpgroup, r = i / kChunks, c = i % kChunks;
      const bool valid = group * kGroupRows + r < item.rows;
      const int64_t row = item.first_row + (valid ? group * kGroupRows + r : 0);
      CopyAsync16(WgmmaAt<kPrefillRows>(Queries(), r, c), q + (row * a.q_heads + item.head) * kDim + c * 8,
                  valid);
    }
    CopyAsyncCommit();
  }
  // part: 0 keys, 1 values.
  __device__ __forceinline__ void Wait(int part, int step) const {
    BarrierWait(shared.Full(part, (done + step) % kStages), (done + step) / kStages % 2);
  }
  __device__ __forceinline__ void Release(int part, int step) const {
    if (lane == 0) BarrierArrive(shared.Empty(part, (done + step) % kStages));
  }
  __device__ __forceinline__ void Scores(int step) {
    state.Scores(WgmmaKMajor(Queries()), WgmmaKMajor(shared.Tile(0, (done + step) % kStages)));
  }
  __device__ __forceinline__ void Outputs(int step) {
    state.Outputs(WgmmaMnMajor<kKeys>(shared.Tile(1, (done + step) % kStages)));
  }
  // The scores of a step are there.
  __device__ __forceinline__ void Scored(const Item& item, int step, bool more, const Item& next) {
    Release(0, step);
    if (more && step + 1 == item.steps) {
      SyncGroup();  // all four warps' products have read the queries
      LoadQueries(next);
    }
    const int key0 = item.FirstPage(step) * kPageTokens, p = item.p0 + group * kGroupRows;
    if (key0 + kKeys - 1 > p || (a.window > 0 && key0 <= p + kGroupRows - 1 - a.window))
      state.Mask(p + tid / 32 * 16 + lane / 4 - key0, a.window, lane);
    state.Softmax();
  }
  __device__ __forceinline__ void Store(const Item& item) {
    float inverse[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float l = state.l[h];
      l += __shfl_xor_sync(~0u, l, 1);
      l += __shfl_xor_sync(~0u, l, 2);
      inverse[h] = 1.0f / l;
    }
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int r = group * kGroupRows + tid / 32 * 16 + lane / 4 + 8 * h;
      if (r >= item.rows) continue;
      bf16* to =
          static_cast<bf16*>(a.out) + (static_cast<int64_t>(item.first_row + r) * a.q_heads + item.head) * kDim;
#pragma unroll
      for (int j = 0; j < kDim / 8; ++j)
        *reinterpret_cast<uint32_t*>(to + 8 * j + lane % 4 * 2) =
            PackBf16(state.out[4 * j + 2 * h] * inverse[h], state.out[4 * j + 2 * h + 1] * inverse[h]);
    }
  }
  // The group has no rows: the other one works alone.
  __device__ __forceinline__ void Skip(const Item& item, bool more, const Item& next) const {
    for (int step = 0; step < item.steps; ++step) {
      for (int part = 0; part < 2; ++part) {
        Wait(part, step);
        Release(part, step);
      }
    }
    if (more) LoadQueries(next);
  }
  __device__ __forceinline__ void Run(const Item& item, bool more, const Item& next) {
    state.Reset();
    Wait(0, 0);
    WgmmaTouch(state.score);
    WgmmaFence();
    Scores(0);
    WgmmaWait<0>();
    WgmmaTouch(state.score);
    Scored(item, 0, more, next);
    state.Round();

    // Products are issued in turns: softmax of one warpgroup runs beside products of the other.
    const bool turns = item.Both();
    if (turns && group == 1 && item.steps > 1) ArriveNamed(kTurnBarrier, 2 * kWarpgroup);
    if (item.steps > 1) Wait(0, 1);
    for (int step = 1; step < item.steps; ++step) {
      Wait(1, step - 1);
      if (turns) SyncNamed(kTurnBarrier + group, 2 * kWarpgroup);
      WgmmaTouch(state.score);
      WgmmaTouch(state.out);
      WgmmaFence();
      Scores(step);
      Outputs(step - 1);
      if (turns && (group == 0 || step + 1 < item.steps))
        ArriveNamed(kTurnBarrier + (group ^ 1), 2 * kWarpgroup);
      WgmmaWait<1>();
      WgmmaTouch(state.score);
      Scored(item, step, more, next);
      WgmmaTouch(state.score);
      // A loop between softmax and the wait: without it ptxas moves the wait up, and nothing overlaps.
      if (step + 1 < item.steps) Wait(0, step + 1);
      WgmmaWait<0>();
      WgmmaTouch(state.out);
      Release(1, step - 1);
      state.Fade();
      state.Round();
    }
    Wait(1, item.steps - 1);
    WgmmaTouch(state.out);
    WgmmaFence();
    Outputs(item.steps - 1);
    WgmmaWait<0>();
    WgmmaTouch(state.out);
    Release(1, item.steps - 1);
    Store(item);
  }
};

template <int kDim>
__device__ __forceinline__ void Consume(const AttentionArgs& a, Shared<kDim> shared, int group) {
  const int items = a.q_heads * a.tile_count;
  Consumer<kDim> my{a, shared, group};
  my.state.Init(a.scale);
  Item item(a, ItemOf(0));
  my.LoadQueries(item);
  for (int round = 0;; ++round) {
    const bool more = ItemOf(round + 1) < items;
    const Item next(a, more ? ItemOf(round + 1) : ItemOf(round));
    CopyAsyncWait<0>();
    FenceAsyncProxy();
    my.SyncGroup();
    if (group == 0 || item.Both())
      my.Run(item, more, next);
    else
      my.Skip(item, more, next);
    if (!more) return;
    my.done += item.steps;
    item = next;
  }
}

#endif  // DSOPT_CUDA_WGMMA

// out[row, h] = softmax(scale q . K) V over keys max(0, p - window + 1) .. p
// q, out [rows, q_heads, kDim] bf16   cache pages [kv_heads, 64, kDim] K then V, bf16
// grid   a CTA per multiprocessor x 384 threads: a warpgroup that copies pages, two that compute 64 rows each
//        225 KiB (128) or 113 KiB (64) of shared memory. Scores of the next keys are asked for
//        before the outputs of these, so that softmax runs beside products        bound: tensor cores (wgmma)
template <int kDim>
__global__ __launch_bounds__(kThreads, 1) void attention_prefill_paged_sm90(AttentionArgs a) {
#ifdef DSOPT_CUDA_WGMMA
  extern __shared__ __align__(128) char smem[];
  LetNextStart();
  WaitForPrevious();
  const Shared<kDim> shared{(SmemAddress(smem) + kAtomBytes - 1) & ~static_cast<uint32_t>(kAtomBytes - 1)};
  if (threadIdx.x == 0) {
    for (int i = 0; i < 2 * kStages; ++i) {
      BarrierInit(shared.Full(i / kStages, i % kStages), 1);
      BarrierInit(shared.Empty(i / kStages, i % kStages), 2 * kWarpgroup / 32);
    }
    BarrierInitFence();
  }
  __syncthreads();
  const int group = __shfl_sync(~0u, threadIdx.x / kWarpgroup, 0);
  if (group == 0) {
    GiveRegisters<kProducerRegisters>();
    Produce<kDim>(a, shared);
  } else {
    TakeRegisters<kConsumerRegisters>();
    Consume<kDim>(a, shared, group - 1);
  }
#endif
}

}  // namespace

bool PrefillWgmmaSupported(const Limits& limits) {
  return limits.has_sm90a && limits.shared_bytes >= Shared<128>::kBytes;
}

cudaError_t AttentionPrefillWgmma(const Launch& launch, const AttentionArgs& args) {
  const int items = args.q_heads * args.tile_count;
  const dim3 grid(static_cast<unsigned>(items > launch.limits->sms ? launch.limits->sms : items));
  if (args.q_dim == 64)
    return StartLarge(launch, attention_prefill_paged_sm90<64>, grid, dim3(kThreads), Shared<64>::kBytes, args);
  return StartLarge(launch, attention_prefill_paged_sm90<128>, grid, dim3(kThreads), Shared<128>::kBytes, args);
}

}  // namespace dsopt_cuda
