// attention_tiles.cu - attention of operators on mma.sync (sm_80 and newer): tiles of rows that PrepareAttention cut on
// the device, keys and values at any outer strides, contiguous or in pages of any size, causal or not. The arithmetic is
// that of ../attention_prefill.cu.
#include "common/attention_tile.cuh"
#include "common/convert.cuh"
#include "common/launch.cuh"
#include "ops/op.h"

namespace dsopt_cuda {
namespace {

constexpr int kThreads = 256, kStages = 2, kKeys = 64;

template <int kDim>
constexpr int SharedBytes() {
  return (kTileQueries + kStages * 2 * kKeys) * kDim * 2;
}

// out[row, h] = softmax(scale q . K) V over keys max(0, end - window) .. end - 1, end of the row (causal) or of all
// q, k, v bf16, 16-byte aligned rows   out bf16 or f32, even strides
// grid   (q_heads, tiles of one sequence) x 256 threads; 96 KiB (128) or 48 KiB (64) of shared memory
//        2 stages of cp.async: the next 64 keys load while these are used      bound: tensor cores (mma.sync)
// when   head_dim 64 or 128
template <int kDim>
__global__ __launch_bounds__(kThreads) void attention_tiles(OpAttentionArgs a) {
  extern __shared__ __align__(128) char smem[];
  constexpr int kChunks = kDim / 8;
  LetNextStart();
  WaitForPrevious();
  const int4 tile = a.tiles[blockIdx.y];
  const int first_row = tile.x, rows = tile.y, end0 = tile.z, seq = tile.w;
  if (rows == 0) return;
  const int head = blockIdx.x, kv_head = head / (a.q_heads / a.kv_heads);
  const int tid = threadIdx.x, warp = tid / 32, lane = tid % 32;
  const uint32_t base_q = SmemAddress(smem), base_kv = base_q + kTileQueries * kDim * 2;
  // Keys that some row of the tile sees end here; what lies behind may be anything, NaNs too.
  const int limit = a.causal ? end0 + rows - 1 : end0;

  const bf16* q = static_cast<const bf16*>(a.q) + head * a.q_head;
  for (int i = tid; i < kTileQueries * kChunks; i += kThreads) {
    const int r = i / kChunks, c = i % kChunks;
    const int row = first_row + (r < rows ? r : 0);
    CopyAsync16(TileAt<kDim>(base_q, r, c), q + row * a.q_row + c * 8, r < rows);
  }
  const bf16* keys = static_cast<const bf16*>(a.k) + kv_head * a.k_head;
  const bf16* values = static_cast<const bf16*>(a.v) + kv_head * a.v_head;
  const auto load = [&](int key0, int stage) {
    const uint32_t to = base_kv + stage * 2 * kKeys * kDim * 2;
#pragma unroll
    for (int j = 0; j < kKeys * kChunks / kThreads; ++j) {
      const int i = tid + j * kThreads, r = i / kChunks, c = i % kChunks;
      const bool known = key0 + r < limit;
      const int key = known ? key0 + r : limit - 1;
      int64_t outer = seq, token = key;
      if (a.page_tokens != 0) {
        outer = a.safe_pages[static_cast<int64_t>(seq) * a.max_pages + key / a.page_tokens];
        token = key % a.page_tokens;
      }
      CopyAsync16(TileAt<kDim>(to, r, c), keys + outer * a.k_outer + token * a.k_token + c * 8, known);
      CopyAsync16(TileAt<kDim>(to + kKeys * kDim * 2, r, c), values + outer * a.v_outer + token * a.v_token + c * 8,
                  known);
    }
  };
  const int lowest = a.window > 0 && end0 > a.window ? end0 - a.window : 0;
  const int step_first = lowest / kKeys, step_last = (limit - 1) / kKeys;
  load(step_first * kKeys, 0);
  CopyAsyncCommit();

  const float c = a.scale * 1.4426950408889634f;
  AttentionTile<kDim> state;
  state.Reset();
  for (int step = step_first; step <= step_last; ++step) {
    const int stage = (step - step_first) % kStages, key0 = step * kKeys;
    __syncthreads();  // everybody is done with the other stage
    if (step < step_last) load(key0 + kKeys, stage ^ 1);
    CopyAsyncCommit();
    CopyAsyncWait<1>();
    __syncthreads();
    if (step == step_first) state.LoadQueries(base_q, warp, lane);
    if (warp * 16 >= rows) continue;
    // Ends of what the warp's first and last row see.
    const int end_low = a.causal ? end0 + warp * 16 : limit, end_high = a.causal ? end_low + 15 : limit;
    if (key0 >= end_high) continue;
    if (a.window > 0 && key0 + kKeys <= end_low - a.window) continue;
    const bool partly = key0 + kKeys > end_low || (a.window > 0 && key0 < end_high - a.window);
    const uint32_t at_k = base_kv + stage * 2 * kKeys * kDim * 2, at_v = at_k + kKeys * kDim * 2;
    state.Step(at_k, at_v, c, lane, partly, [&](int key, int row, float& score) {
      const int end = a.causal ? end_low + row : limit;
      if (key0 + key >= end || (a.window > 0 && key0 + key < end - a.window)) score = -INFINITY;
    });
  }
  state.Finish();
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int r = warp * 16 + lane / 4 + 8 * h;
    if (r >= rows) continue;
    const float inverse = 1.0f / state.l[h];
    const int64_t to = (first_row + r) * a.out_row + head * a.out_head + lane % 4 * 2;
#pragma unroll
    for (int j = 0; j < kDim / 8; ++j) {
      const float x = state.out[j][2 * h] * inverse, y = state.out[j][2 * h + 1] * inverse;
      if (a.out_bf16) {
        *reinterpret_cast<uint32_t*>(static_cast<bf16*>(a.out) + to + 8 * j) = PackBf16(x, y);
      } else {
        *reinterpret_cast<float2*>(static_cast<float*>(a.out) + to + 8 * j) = {x, y};
      }
    }
  }
}

}  // namespace

cudaError_t AttentionTiles(const Launch& launch, const OpAttentionArgs& args) {
  // grid.y is limited to 65535: more tiles go in several launches.
  for (int done = 0; done < args.max_tiles; done += 65535) {
    OpAttentionArgs part = args;
    part.tiles = args.tiles + done;
    const int now = args.max_tiles - done < 65535 ? args.max_tiles - done : 65535;
    const dim3 grid(static_cast<unsigned>(args.q_heads), static_cast<unsigned>(now)), block(kThreads);
    const cudaError_t error =
        args.head_dim == 64 ? StartLarge(launch, attention_tiles<64>, grid, block, SharedBytes<64>(), part)
                            : StartLarge(launch, attention_tiles<128>, grid, block, SharedBytes<128>(), part);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

}  // namespace dsopt_cuda
