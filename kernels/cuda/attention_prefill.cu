// attention_prefill.cu - causal attention of many rows of one sequence over the paged cache (bf16 and
// codes), on mma.sync (sm_80 and newer). Head dimensions 64 and 128; sliding window. Plain caches on sm_90a:
// attention_prefill_wgmma.cu.
//
// Hierarchy of tiles, with the bytes each level moves per query head and tile of 128 rows over `keys` keys:
//   registers     16 query rows per warp, their scores and outputs, for the whole pass over the keys
//   shared        one page of K and V (64 keys), read once per warp: 8 * keys * kDim * 4
//   L2            the query heads of a KV head run next to each other and share the pages: keys * kDim * 4 per head
//   DRAM          a page comes in once per tile of rows and KV head: keys * kDim * 4 / (query heads per KV head)
#include "attention_prefill.h"
#include "common/attention_tile.cuh"
#include "common/cache_codes.cuh"
#include "common/convert.cuh"
#include "common/launch.cuh"
#include "launch.h"

namespace dsopt_cuda {
namespace {

constexpr int kThreads = 256, kStages = 2;

template <int kDim>
constexpr int SharedBytes() {
  return (kPrefillRows + kStages * 2 * kPageTokens) * kDim * 2;
}
// out[row, h] = softmax(scale q . K) V over keys max(0, p - window + 1) .. p
// q, out [rows, q_heads, kDim] bf16   cache pages [kv_heads, 64, kDim] K then V, bf16
// grid   (q_heads, row tiles of one sequence, longest first) x 256 threads; 96 KiB (128) or 48 KiB (64)
//        2 stages of cp.async: the next page loads while this one is used      bound: tensor cores (mma.sync)
//        coded: a page is expanded to bf16 by the threads that load it
template <int kDim, CacheCode kCode>
__global__ __launch_bounds__(kThreads) void attention_prefill_paged(AttentionArgs a) {
  extern __shared__ __align__(128) char smem[];
  constexpr int kChunks = kDim / 8;
  LetNextStart();
  WaitForPrevious();
  const int4 tile = a.tiles[gridDim.y - 1 - blockIdx.y];
  const int first_row = tile.x, rows = tile.y, p0 = tile.z;
  const int head = blockIdx.x, kv_head = head / (a.q_heads / a.kv_heads);
  const int tid = threadIdx.x, warp = tid / 32, lane = tid % 32;
  const int* pages = a.cache.page_table + a.cache.row_seq[first_row] * a.cache.page_stride;
  const uint32_t base_q = SmemAddress(smem), base_kv = base_q + kPrefillRows * kDim * 2;

  const bf16* q = static_cast<const bf16*>(a.q);
  for (int i = tid; i < kPrefillRows * kChunks; i += kThreads) {
    const int r = i / kChunks, c = i % kChunks;
    const int row = first_row + (r < rows ? r : 0);
    CopyAsync16(TileAt<kDim>(base_q, r, c), q + (static_cast<int64_t>(row) * a.q_heads + head) * kDim + c * 8, r < rows);
  }
  const auto load = [&](int page_index, int stage) {
    const char* page = a.cache.base + static_cast<uint64_t>(pages[page_index]) * a.cache.page_bytes;
    const uint32_t to = base_kv + stage * 2 * kPageTokens * kDim * 2;
    const int known = p0 + rows - page_index * kPageTokens;  // what lies behind may be anything, NaNs too
    if constexpr (kCode != CacheCode::kPlain) {
      constexpr int kVectorChunks = CodeBytes<kCode>(kDim) / 16, kWords = CodeWords<kCode>(kDim);
      constexpr int kAll = kPageTokens * kVectorChunks, kVectors = CodeExpander<kCode>::kVectors;
      const int64_t heads = a.kv_heads;
      const uint32_t* words =
          reinterpret_cast<const uint32_t*>(page + 2 * heads * kPageTokens * kVectorChunks * 16);
#pragma unroll
      for (int part = 0; part < 2; ++part) {
        const int64_t first = (part * heads + kv_head) * kPageTokens;
#pragma unroll
        for (int j = 0; j < (kAll + kThreads - 1) / kThreads; ++j) {
          const int i = tid + j * kThreads, r = i / kVectorChunks, c = i % kVectorChunks;
          if (i >= kAll) break;
          const uint4 codes = reinterpret_cast<const uint4*>(page + first * kVectorChunks * 16)[i];
          const CodeExpander<kCode> expand(words[(first + r) * kWords + (kWords > 1 ? c : 0)]);
#pragma unroll
          for (int v = 0; v < kVectors; ++v) {
            const uint4 eight = part == 1 && r >= known ? uint4{0, 0, 0, 0} : expand.Vector(codes, v);
            StoreShared16(TileAt<kDim>(to + part * kPageTokens * kDim * 2, r, c * kVectors + v), eight);
          }
        }
      }
      return;
    }
    const char* k = page + static_cast<int64_t>(kv_head) * kPageTokens * kDim * 2;
    const char* v = k + static_cast<int64_t>(a.kv_heads) * kPageTokens * kDim * 2;
#pragma unroll
    for (int j = 0; j < kPageTokens * kChunks / kThreads; ++j) {
      const int i = tid + j * kThreads, r = i / kChunks, c = i % kChunks;
      CopyAsync16(TileAt<kDim>(to, r, c), k + i * 16, true);
      CopyAsync16(TileAt<kDim>(to + kPageTokens * kDim * 2, r, c), v + i * 16, r < known);
    }
  };
  const int lowest = a.window > 0 && p0 + 1 > a.window ? p0 + 1 - a.window : 0;
  const int page_first = lowest / kPageTokens, page_last = (p0 + rows - 1) / kPageTokens;
  load(page_first, 0);
  CopyAsyncCommit();

  const float c = a.scale * 1.4426950408889634f;
  AttentionTile<kDim> state;
  state.Reset();
  for (int page = page_first; page <= page_last; ++page) {
    const int stage = (page - page_first) % kStages;
    __syncthreads();  // everybody is done with the other stage
    if (page < page_last) load(page + 1, stage ^ 1);
    CopyAsyncCommit();
    CopyAsyncWait<1>();
    __syncthreads();
    if (page == page_first) state.LoadQueries(base_q, warp, lane);
    const int key0 = page * kPageTokens, warp_p = p0 + warp * 16;
    if (key0 > warp_p + 15 || warp * 16 >= rows) continue;                      // all masked: in the future
    if (a.window > 0 && key0 + kPageTokens - 1 < warp_p + 1 - a.window) continue;  // or out of the window
    const uint32_t at_k = base_kv + stage * 2 * kPageTokens * kDim * 2, at_v = at_k + kPageTokens * kDim * 2;
    const bool partly = key0 + kPageTokens - 1 > warp_p || (a.window > 0 && key0 < warp_p + 16 - a.window);
    state.Step(at_k, at_v, c, lane, partly, [&](int key, int row, float& score) {
      const int p = warp_p + row;
      if (key0 + key > p || (a.window > 0 && key0 + key <= p - a.window)) score = -INFINITY;
    });
  }
  state.Finish();
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int r = warp * 16 + lane / 4 + 8 * h;
    if (r >= rows) continue;
    const float inverse = 1.0f / state.l[h];
    bf16* to = static_cast<bf16*>(a.out) + (static_cast<int64_t>(first_row + r) * a.q_heads + head) * kDim;
#pragma unroll
    for (int j = 0; j < kDim / 8; ++j)
      *reinterpret_cast<uint32_t*>(to + 8 * j + lane % 4 * 2) =
          PackBf16(state.out[j][2 * h] * inverse, state.out[j][2 * h + 1] * inverse);
  }
}

template <CacheCode kCode>
cudaError_t StartPrefill(const Launch& launch, const AttentionArgs& args, dim3 grid) {
  if (args.q_dim == 64)
    return StartLarge(launch, attention_prefill_paged<64, kCode>, grid, dim3(kThreads), SharedBytes<64>(), args);
  return StartLarge(launch, attention_prefill_paged<128, kCode>, grid, dim3(kThreads), SharedBytes<128>(), args);
}

}  // namespace

cudaError_t AttentionPrefill(const Launch& launch, const AttentionArgs& args) {
  if (args.cache.code == CacheCode::kPlain && PrefillWgmmaSupported(*launch.limits))
    return AttentionPrefillWgmma(launch, args);
  const dim3 grid(static_cast<unsigned>(args.q_heads), static_cast<unsigned>(args.tile_count));
  switch (args.cache.code) {
    case CacheCode::kFp8: return StartPrefill<CacheCode::kFp8>(launch, args, grid);
    case CacheCode::kInt8: return StartPrefill<CacheCode::kInt8>(launch, args, grid);
    case CacheCode::kInt4: return StartPrefill<CacheCode::kInt4>(launch, args, grid);
    case CacheCode::kPlain: break;
  }
  return StartPrefill<CacheCode::kPlain>(launch, args, grid);
}

}  // namespace dsopt_cuda
