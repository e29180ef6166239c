// moe.cu - the mixture's own decisions, all on the device: router, top-k with group limit, sorting of slots by expert,
// the weighted sum. A slot is one (row, chosen expert) pair. The experts' products are linear_*.cu.
#include "common/gemv.cuh"
#include "common/launch.cuh"
#include "launch.h"

namespace dsopt_cuda {
namespace {

constexpr int kMaxExperts = 1024;

// logits[r, e] = h[r, :] . router[e, :]                                   f32
// bytes  rows * experts * hidden * 4 (router: L2 after the first row)      bound: latency for few rows, L2 for many
// grid   (experts / 8, rows) x 256 threads, one warp per expert
__global__ __launch_bounds__(256) void route_logits(RouteArgs a) {
  LetNextStart();
  const int expert = blockIdx.x * 8 + threadIdx.x / 32, lane = threadIdx.x % 32;
  WaitForPrevious();
  if (expert >= a.experts) return;
  const float* h = a.h + static_cast<int64_t>(blockIdx.y) * a.hidden;
  const float* w = a.router + static_cast<int64_t>(expert) * a.hidden;
  float sum = 0;
  if (a.hidden % 4 == 0) {
#pragma unroll 4
    for (int i = lane * 4; i < a.hidden; i += 128) {
      const float4 x = *reinterpret_cast<const float4*>(h + i), v = __ldg(reinterpret_cast<const float4*>(w + i));
      sum = fmaf(x.x, v.x, fmaf(x.y, v.y, fmaf(x.z, v.z, fmaf(x.w, v.w, sum))));
    }
  } else {
    for (int i = lane; i < a.hidden; i += 32) sum = fmaf(h[i], w[i], sum);
  }
  sum = WarpSum(sum);
  if (lane == 0) a.logits[static_cast<int64_t>(blockIdx.y) * a.experts + expert] = sum;
}

// Index of the largest value, the lower index in a tie; every lane gets it.
__device__ __forceinline__ int WarpArgMax(const float* values, int count, int lane) {
  float best = -INFINITY;
  int at = INT_MAX;
  for (int i = lane; i < count; i += 32)
    if (values[i] > best) {
      best = values[i];
      at = i;
    }
#pragma unroll
  for (int m = 16; m > 0; m /= 2) {
    const float other = __shfl_xor_sync(~0u, best, m);
    const int other_at = __shfl_xor_sync(~0u, at, m);
    if (other > best || (other == best && other_at < at)) {
      best = other;
      at = other_at;
    }
  }
  return at == INT_MAX ? 0 : at;
}

// One warp: softmax over experts, group limit, top-k, weights of a row.
__device__ void ChooseExperts(const RouteArgs& a, int row, int lane) {
  __shared__ float p[kMaxExperts], masked[kMaxExperts], group[kMaxExperts];
  const float* logits = a.logits + static_cast<int64_t>(row) * a.experts;
  float peak = -INFINITY, total = 0;
  for (int e = lane; e < a.experts; e += 32) peak = fmaxf(peak, __ldcg(logits + e));
  peak = WarpMax(peak);
  for (int e = lane; e < a.experts; e += 32) {
    p[e] = expf(__ldcg(logits + e) - peak);
    total += p[e];
  }
  total = WarpSum(total);
  for (int e = lane; e < a.experts; e += 32) {
    p[e] /= total;
    masked[e] = p[e];
  }
  __syncwarp();
  if (a.groups > 1 && a.top_groups < a.groups) {
    const int per = a.experts / a.groups;
    for (int g = lane; g < a.groups; g += 32) {
      float best = -INFINITY;
      for (int i = 0; i < per; ++i) best = fmaxf(best, p[g * per + i]);
      group[g] = best;
    }
    for (int e = lane; e < a.experts; e += 32) masked[e] = -INFINITY;
    __syncwarp();
    for (int j = 0; j < a.top_groups; ++j) {
      const int g = WarpArgMax(group, a.groups, lane);
      __syncwarp();
      for (int i = lane; i < per; i += 32) masked[g * per + i] = p[g * per + i];
      if (lane == 0) group[g] = -INFINITY;
      __syncwarp();
    }
  }
  float sum = 0;
  for (int k = 0; k < a.top_k; ++k) {
    const int e = WarpArgMax(masked, a.experts, lane);
    __syncwarp();
    sum += p[e];
    if (lane == 0) {
      masked[e] = -INFINITY;
      a.slot_expert[row * a.top_k + k] = e;
      a.slot_weight[row * a.top_k + k] = p[e];
    }
    __syncwarp();
  }
  const float factor = (a.renormalise ? 1.0f / sum : 1.0f) * a.route_scale;
  for (int k = lane; k < a.top_k; k += 32) a.slot_weight[row * a.top_k + k] *= factor;
}

// bytes  rows * experts * 4     bound: latency
// grid   rows x 32 threads; experts <= 1024
__global__ __launch_bounds__(32) void route_choose(RouteArgs a) {
  LetNextStart();
  WaitForPrevious();
  ChooseExperts(a, blockIdx.x, threadIdx.x);
}

// Norm, logits and choice of one row in one kernel: logit = rstd sum x gain w, with the squares summed in the same pass.
// bytes  hidden * 12 per CTA (L2; the router's weights are read once)      bound: latency
// grid   experts x 256 threads; the last CTA to arrive chooses; hidden % 4 == 0
__global__ __launch_bounds__(256) void route_one(RouteArgs a) {
  __shared__ float scratch[33];
  __shared__ uint32_t ticket;
  LetNextStart();
  const float4* w = reinterpret_cast<const float4*>(a.router + static_cast<int64_t>(blockIdx.x) * a.hidden);
  const float4* gain = reinterpret_cast<const float4*>(a.norm_gain);
  WaitForPrevious();
  float sum = 0, squares = 0;
#pragma unroll 4
  for (int i = threadIdx.x; i < a.hidden / 4; i += 256) {
    const float4 x = __ldcg(reinterpret_cast<const float4*>(a.h) + i), g = __ldg(gain + i), v = __ldg(w + i);
    squares = fmaf(x.x, x.x, fmaf(x.y, x.y, fmaf(x.z, x.z, fmaf(x.w, x.w, squares))));
    sum = fmaf(x.x * g.x, v.x, fmaf(x.y * g.y, v.y, fmaf(x.z * g.z, v.z, fmaf(x.w * g.w, v.w, sum))));
  }
  squares = BlockSum(squares, scratch);
  sum = BlockSum(sum, scratch);
  if (threadIdx.x >= 32) return;
  if (threadIdx.x == 0) {
    a.logits[blockIdx.x] = sum * rsqrtf(squares / static_cast<float>(a.hidden) + a.norm_eps);
    __threadfence();
    ticket = atomicAdd(a.arrived, 1);
  }
  __syncwarp();
  if (ticket != gridDim.x - 1) return;
  __threadfence();
  if (threadIdx.x == 0) *a.arrived = 0;
  ChooseExperts(a, 0, threadIdx.x);
}

// sorted_slots: slots by expert; tiles: (expert, first, count), count 0 beyond the last
// bytes  slots * 12             bound: latency
// grid   1 x 1024 threads
__global__ __launch_bounds__(1024) void moe_sort(const int* slot_expert, int slots, int experts, int* sorted_slots,
                                                 int4* tiles, int max_tiles) {
  __shared__ int count[kMaxExperts], start[kMaxExperts], used;
  LetNextStart();
  WaitForPrevious();
  for (int e = threadIdx.x; e < experts; e += 1024) count[e] = 0;
  __syncthreads();
  for (int s = threadIdx.x; s < slots; s += 1024) atomicAdd(&count[slot_expert[s]], 1);
  __syncthreads();
  if (threadIdx.x == 0) {
    int at = 0, tile = 0;
    for (int e = 0; e < experts; ++e) {
      start[e] = at;
      for (int done = 0; done < count[e]; done += kGroupRows)
        tiles[tile++] = {e, at + done, min(kGroupRows, count[e] - done), 0};
      at += count[e];
    }
    used = tile;
  }
  __syncthreads();
  for (int i = used + threadIdx.x; i < max_tiles; i += 1024) tiles[i] = {0, 0, 0, 0};
  for (int s = threadIdx.x; s < slots; s += 1024) sorted_slots[atomicAdd(&start[slot_expert[s]], 1)] = s;
}

// x[r] += sum_k weight[r, k] y[r, k]
// bytes  rows * hidden * 4 * (top_k + 2)     bound: L2
// grid   (hidden / 256, rows) x 256 threads
__global__ __launch_bounds__(256) void moe_combine(const float* y, const float* slot_weight, int hidden, int top_k,
                                                   float* x) {
  LetNextStart();
  WaitForPrevious();
  const int i = blockIdx.x * 256 + threadIdx.x;
  const int64_t row = blockIdx.y;
  if (i >= hidden) return;
  float sum = x[row * hidden + i];
  for (int k = 0; k < top_k; ++k) {
    const int64_t slot = row * top_k + k;
    sum = fmaf(slot_weight[slot], y[slot * hidden + i], sum);
  }
  x[row * hidden + i] = sum;
}

}  // namespace

cudaError_t Route(const Launch& launch, const RouteArgs& args) {
  if (args.experts > kMaxExperts) return cudaErrorInvalidValue;
  if (args.norm_gain != nullptr)
    return Start(launch, route_one, dim3(static_cast<unsigned>(args.experts)), dim3(256), 0, args);
  const unsigned rows = static_cast<unsigned>(args.rows);
  const cudaError_t error =
      Start(launch, route_logits, dim3(static_cast<unsigned>((args.experts + 7) / 8), rows), dim3(256), 0, args);
  if (error != cudaSuccess) return error;
  return Start(launch, route_choose, dim3(rows), dim3(32), 0, args);
}

cudaError_t MoeSort(const Launch& launch, const int* slot_expert, int slots, int experts, int* sorted_slots,
                    int4* tiles, int max_tiles) {
  return Start(launch, moe_sort, dim3(1), dim3(1024), 0, slot_expert, slots, experts, sorted_slots, tiles, max_tiles);
}

cudaError_t MoeCombine(const Launch& launch, const float* y, const float* slot_weight, int rows, int hidden,
                       int top_k, float* x) {
  const dim3 grid(static_cast<unsigned>((hidden + 255) / 256), static_cast<unsigned>(rows));
  return Start(launch, moe_combine, grid, dim3(256), 0, y, slot_weight, hidden, top_k, x);
}

}  // namespace dsopt_cuda
