// moe_decode.cu - a mixture block for one row in three kernels: router and choice; gate and up of the chosen and the
// shared experts; all their down projections, weighted and added to the residual. Weights are read once, and the shared
// experts' first bytes are requested while the router still decides.
#include "common/gemv.cuh"
#include "common/launch.cuh"
#include "launch.h"

namespace dsopt_cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32, kUnroll = 4;

// act(gate) up of every chosen expert, then of the shared ones: mid = [top_k, inner | shared_inner]
// x [hidden] f32, normalised here   weights bf16, gate and up rows interleaved   hidden % 8 == 0
// bytes  (top_k * inner + shared_inner) * 2 * hidden * 2 (DRAM)       bound: DRAM
// grid   2 CTAs per SM x 256 threads; hidden * 2 bytes of shared memory; a warp owns (gate, up) pairs, 4 to 8 KiB of
//        weights in flight per warp; shared experts first, before the router's result is awaited
__global__ __launch_bounds__(kThreads, 2) void moe_decode_up(MoeDecodeArgs a) {
  extern __shared__ __align__(16) char smem[];
  __shared__ float scratch[33];
  LetNextStart();
  const int lane = threadIdx.x % 32, step = gridDim.x * kWarps;
  const int units = a.shared_inner + a.top_k * a.inner;
  int unit = threadIdx.x / 32 * gridDim.x + blockIdx.x;
  const auto rows_of = [&](int u) -> const bf16* {
    if (u < a.shared_inner) return static_cast<const bf16*>(a.shared_gate_up) + static_cast<int64_t>(u) * 2 * a.hidden;
    const int slot = (u - a.shared_inner) / a.inner, i = (u - a.shared_inner) % a.inner;
    return static_cast<const bf16*>(a.gate_up) +
           (static_cast<int64_t>(a.slot_expert[slot]) * a.inner + i) * 2 * a.hidden;
  };
  struct Pair {
    uint4 v[2][kUnroll];
  };
  const auto load = [&](Pair& p, const bf16* w, int k) {
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int at = k + 256 * u + 8 * lane;
      const bool valid = at < a.hidden;
      p.v[0][u] = valid ? LoadStream16(w + at) : uint4{0, 0, 0, 0};
      p.v[1][u] = valid ? LoadStream16(w + a.hidden + at) : uint4{0, 0, 0, 0};
    }
  };
  Pair now, next;
  const bool early = unit < a.shared_inner;
  const bf16* w = nullptr;
  if (early) {
    w = rows_of(unit);
    load(now, w, 0);
  }
  WaitForPrevious();
  if (!early && unit < units) {
    w = rows_of(unit);
    load(now, w, 0);
  }
  NormToShared(a.x, a.norm_gain, a.norm_eps, a.hidden, reinterpret_cast<uint2*>(smem), scratch);
  __syncthreads();
  const uint4* x = reinterpret_cast<const uint4*>(smem);
  bf16* mid = static_cast<bf16*>(a.mid);
  int k = 0;
  float gate = 0, up = 0;
  const auto advance = [&](Pair& mine, Pair& ahead) {
    int next_unit = unit, next_k = k + 256 * kUnroll;
    if (next_k >= a.hidden) {
      next_k = 0;
      next_unit += step;
      if (next_unit < units) w = rows_of(next_unit);
    }
    if (next_unit < units) load(ahead, w, next_k);
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int at = k + 256 * u + 8 * lane;
      if (at < a.hidden) {
        const uint4 input = x[at / 8];
        gate = Dot8(gate, mine.v[0][u], input);
        up = Dot8(up, mine.v[1][u], input);
      }
    }
    if (next_unit != unit) {
      gate = WarpSum(gate);
      up = WarpSum(up);
      // The chosen experts' values come first in mid.
      const int to = unit < a.shared_inner ? a.top_k * a.inner + unit : unit - a.shared_inner;
      if (lane == 0) mid[to] = __float2bfloat16(GatedActivation(gate, up, a.gelu));
      gate = up = 0;
    }
    unit = next_unit;
    k = next_k;
  };
  while (unit < units) {
    advance(now, next);
    if (unit >= units) break;
    advance(next, now);
  }
}

// x += sum over slots of weight * down_expert mid_slot, + down_shared mid_shared
// mid [top_k, inner | shared_inner] bf16   weights bf16 [hidden, inner]   inner % 8 == 0, shared_inner % 8 == 0
// bytes  (top_k * inner + shared_inner) * hidden * 2 (DRAM)           bound: DRAM
// grid   2 CTAs per SM x 256 threads; mid in shared memory; a warp owns whole rows of the output, so nothing is summed
//        across warps; shared experts first, before mid is awaited
__global__ __launch_bounds__(kThreads, 2) void moe_decode_down(MoeDecodeArgs a) {
  constexpr int kDeep = 2 * kUnroll;  // vectors of one row in flight
  extern __shared__ __align__(16) char smem[];
  LetNextStart();
  const int lane = threadIdx.x % 32, step = gridDim.x * kWarps;
  const int parts = a.top_k + (a.shared_inner > 0 ? 1 : 0);
  int row = threadIdx.x / 32 * gridDim.x + blockIdx.x, part = 0, k = 0;
  // Part 0 is the shared one where there is one; the others are slots.
  const int first_slot = parts - a.top_k;
  const auto columns_of = [&](int p) { return p < first_slot ? a.shared_inner : a.inner; };
  const auto weights_of = [&](int r, int p) {
    if (p < first_slot) return static_cast<const bf16*>(a.shared_down) + static_cast<int64_t>(r) * a.shared_inner;
    return static_cast<const bf16*>(a.down) +
           (static_cast<int64_t>(a.slot_expert[p - first_slot]) * a.hidden + r) * a.inner;
  };
  struct Chunk {
    uint4 v[kDeep];
  };
  const auto load = [&](Chunk& c, const bf16* w, int from, int columns) {
#pragma unroll
    for (int u = 0; u < kDeep; ++u) {
      const int at = from + 256 * u + 8 * lane;
      c.v[u] = at < columns ? LoadStream16(w + at) : uint4{0, 0, 0, 0};
    }
  };
  Chunk now, next;
  const bf16* w = nullptr;
  const bool early = first_slot > 0 && row < a.hidden;
  if (early) {
    w = weights_of(row, 0);
    load(now, w, 0, columns_of(0));
  }
  WaitForPrevious();
  if (!early && row < a.hidden) {
    w = weights_of(row, 0);
    load(now, w, 0, columns_of(0));
  }
  const int total = a.top_k * a.inner + a.shared_inner;
  uint4* x = reinterpret_cast<uint4*>(smem);
  for (int i = threadIdx.x; i < total / 8; i += kThreads) x[i] = __ldcg(static_cast<const uint4*>(a.mid) + i);
  __syncthreads();
  float sum = 0, piece = 0;
  const auto advance = [&](Chunk& mine, Chunk& ahead) {
    int next_row = row, next_part = part, next_k = k + 256 * kDeep;
    const int columns = columns_of(part);
    if (next_k >= columns) {
      next_k = 0;
      if (++next_part == parts) {
        next_part = 0;
        next_row += step;
      }
      if (next_row < a.hidden) w = weights_of(next_row, next_part);
    }
    if (next_row < a.hidden) load(ahead, w, next_k, columns_of(next_part));
    const uint4* from = x + (part < first_slot ? a.top_k * a.inner : (part - first_slot) * a.inner) / 8;
#pragma unroll
    for (int u = 0; u < kDeep; ++u) {
      const int at = k + 256 * u + 8 * lane;
      if (at < columns) piece = Dot8(piece, mine.v[u], from[at / 8]);
    }
    if (next_part != part || next_row != row) {
      sum = fmaf(part < first_slot ? 1.0f : a.slot_weight[part - first_slot], piece, sum);
      piece = 0;
    }
    if (next_row != row) {
      sum = WarpSum(sum);
      if (lane == 0) a.x[row] += sum;
      sum = 0;
    }
    row = next_row;
    part = next_part;
    k = next_k;
  };
  while (row < a.hidden) {
    advance(now, next);
    if (row >= a.hidden) break;
    advance(next, now);
  }
}

}  // namespace

bool MoeDecodeSupported(const Limits& limits, const MoeDecodeArgs& args) {
  const int64_t mid = (static_cast<int64_t>(args.top_k) * args.inner + args.shared_inner) * 2;
  return args.hidden % 8 == 0 && args.inner % 8 == 0 && args.shared_inner % 8 == 0 &&
         mid <= limits.shared_bytes / 2 - 2048 && args.hidden * 2 <= limits.shared_bytes / 2 - 2048;
}

cudaError_t MoeDecode(const Launch& launch, const MoeDecodeArgs& args) {
  const dim3 grid(static_cast<unsigned>(2 * launch.limits->sms)), block(kThreads);
  const cudaError_t error = StartLarge(launch, moe_decode_up, grid, block, args.hidden * 2, args);
  if (error != cudaSuccess) return error;
  return StartLarge(launch, moe_decode_down, grid, block, (args.top_k * args.inner + args.shared_inner) * 2, args);
}

}  // namespace dsopt_cuda
