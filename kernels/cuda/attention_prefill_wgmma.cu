// attention_prefill_wgmma.cu - causal attention of many rows of one sequence over the paged bf16 cache, on
// wgmma (sm_90a). Head dimensions 64 and 128; sliding window. attention_prefill.cu does the same on every other
// GPU and for coded caches.
//
// Hierarchy of tiles, with the bytes each level moves per query head and tile of 128 rows over `keys` keys:
//   registers     64 query rows per warpgroup: scores and outputs in f32, probabilities in bf16, for the whole
//   pass shared        two pages of K and V (128 keys), read once per warpgroup, with the queries once per
//   warpgroup and
//                 128 keys: 2 * keys * kDim * 4 + 2 * keys * kDim
//   L2            the query heads of a KV head run next to each other and share the pages: keys * kDim * 4 per
//   head DRAM          a page comes in once per tile of rows and KV head: keys * kDim * 4 / (query heads per KV
//   head)
#include "attention_prefill.h"
#include "common/launch.cuh"
#include "common/wgmma.cuh"

namespace dsopt_cuda {
namespace {

constexpr int kThreads = 3 * kWarpgroup, kKeys = 2 * kPageTokens, kStages = 2;
constexpr int kProducerRegisters = 40, kConsumerRegisters = 232;

// The two warpgroups issue their products in turns, so that one computes softmax while the other's products
// run.
constexpr bool kTurns = true;

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

// What a CTA does: rows of one head, and the pages they see, two at a time and the latest first.
struct Work {
  int first_row, rows, p0, head, kv_head, page_first, page_last, tiles;
  const int* pages;

  __device__ explicit Work(const AttentionArgs& a) {
    const int4 tile = a.tiles[gridDim.y - 1 - blockIdx.y];
    first_row = tile.x, rows = tile.y, p0 = tile.z;
    head = blockIdx.x, kv_head = head / (a.q_heads / a.kv_heads);
    pages = a.cache.page_table + a.cache.row_seq[first_row] * a.cache.page_stride;
    const int lowest = a.window > 0 && p0 + 1 > a.window ? p0 + 1 - a.window : 0;
    page_first = lowest / kPageTokens, page_last = (p0 + rows - 1) / kPageTokens;
    tiles = (page_last - page_first) / 2 + 1;
  }
  __device__ int FirstPage(int t) const { return page_first + 2 * (tiles - 1 - t); }
  __device__ bool Both() const { return rows > kPrefillRows / 2; }
};

// ---- producer: a warp per stage of keys and per stage of values -----------------------------------------

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
  // Half 0 or 1 of the tile becomes the page, `known` tokens of it and then zeros.
  __device__ __forceinline__ void Copy(int half, const char* page, int known) const {
    known -= first_line;
    page += from;
#pragma unroll 1
    for (int i = 0; i < kPageTokens / 8; ++i)
#pragma unroll
      for (int j = 0; j < kCount; ++j)
        CopyAsync16(to[j] + (half * (kPageTokens / 8) + i) * kAtomBytes, page + i * 8 * kLineBytes + j * 512,
                    i * 8 + j * (8 / kCount) < known);
  }
};

template <int kDim>
__device__ __forceinline__ void Produce(const AttentionArgs& a, const Work& work, Shared<kDim> shared) {
  const int lane = threadIdx.x % 32, part = threadIdx.x / 32 / kStages, stage = threadIdx.x / 32 % kStages;
  const char* base =
      a.cache.base + static_cast<int64_t>(part * a.kv_heads + work.kv_head) * kPageTokens * kDim * 2;
  const LaneCopies<kDim> copies(shared.Tile(part, stage), lane);
  uint32_t parity = 1;  // of the empty barrier: nothing to wait for at first
  for (int t = stage; t < work.tiles; t += kStages, parity ^= 1) {
    const int page = work.FirstPage(t);
    const int64_t id0 = work.pages[page], id1 = work.pages[min(page + 1, work.page_last)];
    const int known = work.p0 + work.rows - page * kPageTokens;  // what lies behind may be anything, NaNs too
    BarrierWait(shared.Empty(part, stage), parity);
    copies.Copy(0, base + id0 * static_cast<int64_t>(a.cache.page_bytes), known);
    copies.Copy(1, base + id1 * static_cast<int64_t>(a.cache.page_bytes), known - kPageTokens);
    CopyAsyncCommit();
    CopyAsyncWait<0>();
    WgmmaPublish();
    __syncwarp();
    if (lane == 0) BarrierArrive(shared.Full(part, stage));
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

template <int kDim>
__device__ __forceinline__ void Consume(const AttentionArgs& a, const Work& work, Shared<kDim> shared,
                                        int group) {
  constexpr int kGroupRows = kPrefillRows / 2, kChunks = kDim / 8;
  const int tid = threadIdx.x % kWarpgroup, lane = tid % 32;
  // The group's queries, 64 lines of the tile.
  const uint32_t queries = shared.base + Shared<kDim>::kQueries + group * kGroupRows * 128;
  const bf16* q = static_cast<const bf16*>(a.q);
#pragma unroll
  for (int j = 0; j < kGroupRows * kChunks / kWarpgroup; ++j) {
    const int i = tid + j * kWarpgroup, r = i / kChunks, c = i % kChunks;
    const bool valid = group * kGroupRows + r < work.rows;
    const int64_t row = work.first_row + (valid ? group * kGroupRows + r : 0);
    CopyAsync16(WgmmaAt<kPrefillRows>(queries, r, c), q + (row * a.q_heads + work.head) * kDim + c * 8, valid);
  }
  CopyAsyncCommit();
  CopyAsyncWait<0>();
  WgmmaPublish();
  SyncNamed(kQueryBarrier + group, kWarpgroup);

  const auto release = [&](int part, int stage) {
    if (lane == 0) BarrierArrive(shared.Empty(part, stage));
  };
  // First position of the group and of this lane's rows.
  const int p_group = work.p0 + group * kGroupRows, p_lane = p_group + tid / 32 * 16 + lane / 4;
  Rows<kDim> state;
  state.c = a.scale * 1.4426950408889634f;
  state.m[0] = state.m[1] = -INFINITY;
  state.l[0] = state.l[1] = 0;
#pragma unroll
  for (int i = 0; i < kDim / 2; ++i) state.out[i] = 0;
#pragma unroll
  for (int i = 0; i < 64; ++i) state.score[i] = 0;
  const auto mask = [&](int t) {
    const int key0 = work.FirstPage(t) * kPageTokens;
    if (key0 + kKeys - 1 > p_group || (a.window > 0 && key0 <= p_group + kGroupRows - 1 - a.window))
      state.Mask(p_lane - key0, a.window, lane);
  };
  const uint64_t at_q = WgmmaKMajor(queries);
  const auto keys = [&](int t) { return WgmmaKMajor(shared.Tile(0, t % kStages)); };
  const auto values = [&](int t) { return WgmmaMnMajor<kKeys>(shared.Tile(1, t % kStages)); };
  const auto wait = [&](int part, int t) { BarrierWait(shared.Full(part, t % kStages), t / kStages & 1); };

  wait(0, 0);
  WgmmaTouch(state.score);
  WgmmaFence();
  state.Scores(at_q, keys(0));
  WgmmaWait<0>();
  WgmmaTouch(state.score);
  release(0, 0);
  mask(0);
  state.Softmax();
  state.Round();

  const bool turns = kTurns && work.Both();
  if (turns && group == 1 && work.tiles > 1) ArriveNamed(kTurnBarrier, 2 * kWarpgroup);
  if (work.tiles > 1) wait(0, 1);
  for (int t = 1; t < work.tiles; ++t) {
    wait(1, t - 1);
    if (turns) SyncNamed(kTurnBarrier + group, 2 * kWarpgroup);
    WgmmaTouch(state.score);
    WgmmaTouch(state.out);
    WgmmaFence();
    state.Scores(at_q, keys(t));
    state.Outputs(values(t - 1));
    if (turns && (group == 0 || t + 1 < work.tiles)) ArriveNamed(kTurnBarrier + (group ^ 1), 2 * kWarpgroup);
    WgmmaWait<1>();
    WgmmaTouch(state.score);
    release(0, t % kStages);
    mask(t);
    state.Softmax();
    WgmmaTouch(state.score);
    // A loop between softmax and the wait: without it ptxas moves the wait up, and nothing overlaps.
    if (t + 1 < work.tiles) wait(0, t + 1);
    WgmmaWait<0>();
    WgmmaTouch(state.out);
    release(1, (t - 1) % kStages);
    state.Fade();
    state.Round();
  }
  wait(1, work.tiles - 1);
  WgmmaTouch(state.out);
  WgmmaFence();
  state.Outputs(values(work.tiles - 1));
  WgmmaWait<0>();
  WgmmaTouch(state.out);

#pragma unroll
  for (int h = 0; h < 2; ++h) {
    float l = state.l[h];
    l += __shfl_xor_sync(~0u, l, 1);
    l += __shfl_xor_sync(~0u, l, 2);
    const int r = p_lane - work.p0 + 8 * h;
    if (r >= work.rows) continue;
    const float inverse = 1.0f / l;
    bf16* to =
        static_cast<bf16*>(a.out) + (static_cast<int64_t>(work.first_row + r) * a.q_heads + work.head) * kDim;
#pragma unroll
    for (int j = 0; j < kDim / 8; ++j)
      *reinterpret_cast<uint32_t*>(to + 8 * j + lane % 4 * 2) =
          PackBf16(state.out[4 * j + 2 * h] * inverse, state.out[4 * j + 2 * h + 1] * inverse);
  }
}

#endif  // DSOPT_CUDA_WGMMA

// out[row, h] = softmax(scale q . K) V over keys max(0, p - window + 1) .. p
// q, out [rows, q_heads, kDim] bf16   cache pages [kv_heads, 64, kDim] K then V, bf16
// grid   (q_heads, row tiles of one sequence, longest first) x 384 threads: a warpgroup that copies pages with
//        cp.async, two that compute 64 rows each; 161 KiB (128) or 81 KiB (64) of shared memory
//        of a step's products, the scores of the next keys go before the outputs of these: softmax runs beside
//        the second product and the other warpgroup's          bound: tensor cores (wgmma)
template <int kDim>
__global__ __launch_bounds__(kThreads, 1) void attention_prefill_paged_sm90(AttentionArgs a) {
#ifdef DSOPT_CUDA_WGMMA
  extern __shared__ __align__(128) char smem[];
  LetNextStart();
  WaitForPrevious();
  const Shared<kDim> shared{(SmemAddress(smem) + kAtomBytes - 1) & ~static_cast<uint32_t>(kAtomBytes - 1)};
  const Work work(a);
  if (threadIdx.x == 0) {
    for (int i = 0; i < 2 * kStages; ++i) {
      BarrierInit(shared.Full(i / kStages, i % kStages), 1);
      BarrierInit(shared.Empty(i / kStages, i % kStages), work.Both() ? 8 : 4);  // warps
    }
    BarrierInitFence();
  }
  __syncthreads();
  const int group = __shfl_sync(~0u, threadIdx.x / kWarpgroup, 0);
  if (group == 0) {
    GiveRegisters<kProducerRegisters>();
    Produce<kDim>(a, work, shared);
  } else {
    TakeRegisters<kConsumerRegisters>();
    if (group == 1 || work.Both()) Consume<kDim>(a, work, shared, group - 1);
  }
#endif
}

}  // namespace

bool PrefillWgmmaSupported(const Limits& limits) {
  return limits.has_sm90a && limits.shared_bytes >= Shared<128>::kBytes;
}

cudaError_t AttentionPrefillWgmma(const Launch& launch, const AttentionArgs& args) {
  const dim3 grid(static_cast<unsigned>(args.q_heads), static_cast<unsigned>(args.tile_count));
  if (args.q_dim == 64)
    return StartLarge(launch, attention_prefill_paged_sm90<64>, grid, dim3(kThreads), Shared<64>::kBytes, args);
  return StartLarge(launch, attention_prefill_paged_sm90<128>, grid, dim3(kThreads), Shared<128>::kBytes, args);
}

}  // namespace dsopt_cuda
