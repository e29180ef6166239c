// attention_reference.cu - causal attention over the paged cache in f32, for every head shape and cache type, plain
// and latent (MLA): the check mode, and the fallback where the tensor-core kernels do not apply. Not tuned.
#include "common/convert.cuh"
#include "common/launch.cuh"
#include "launch.h"

namespace dsopt_cuda {
namespace {

constexpr int kThreads = 128, kMaxQ = 1024, kMaxValues = 8;  // dimensions of a head: at most kMaxQ, v at most 1024

__device__ __forceinline__ float LoadAs(const void* p, int64_t i, bool as_bf16) {
  return as_bf16 ? __bfloat162float(static_cast<const bf16*>(p)[i]) : static_cast<const float*>(p)[i];
}

// out[row, h] = softmax(scale q . K) V over keys max(0, p - window + 1) .. p
// q [rows, q_heads, q_dim]   out [rows, q_heads, v_dim]   f32 sums
// bytes  rows * q_heads * keys * (q_dim + v_dim) * element (L2)      bound: latency, L2
// grid   (q_heads, rows) x 128 threads; a thread scores one key of a tile of 128, then owns up to 8 output dimensions
// when   REFERENCE programs, f32 caches, head dimensions other than 64 and 128
template <typename Cache>
__global__ __launch_bounds__(kThreads) void attention_reference(AttentionArgs a) {
  __shared__ float q[kMaxQ], p[kThreads], scratch[33];
  LetNextStart();
  WaitForPrevious();
  const int head = blockIdx.x, tid = threadIdx.x;
  const int kv_head = head / (a.q_heads / a.kv_heads);
  for (int row = blockIdx.y; row < a.rows; row += gridDim.y) {
    const int64_t at = static_cast<int64_t>(row) * a.q_heads + head;
    __syncthreads();
    for (int i = tid; i < a.q_dim; i += kThreads) q[i] = LoadAs(a.q, at * a.q_dim + i, a.q_bf16) * a.scale;
    const int position = a.cache.positions[row];
    const int first = a.window > 0 && position + 1 > a.window ? position + 1 - a.window : 0;
    const int* pages = a.cache.page_table + a.cache.row_seq[row] * a.cache.page_stride;
    const auto token = [&](int key) {
      const char* page = a.cache.base + static_cast<uint64_t>(pages[key / kPageTokens]) * a.cache.page_bytes;
      return reinterpret_cast<const Cache*>(page) + kv_head * a.head_stride + key % kPageTokens * a.token_stride;
    };
    float peak = -INFINITY, total = 0, out[kMaxValues] = {};
    __syncthreads();
    for (int begin = first; begin <= position; begin += kThreads) {
      float score = -INFINITY;
      if (begin + tid <= position) {
        const Cache* k = token(begin + tid);
        score = 0;
        for (int i = 0; i < a.q_dim; ++i) score = fmaf(q[i], ToFloat(k[i]), score);
      }
      const float next = fmaxf(peak, BlockMax(score, scratch));
      const float weight = expf(score - next), fade = expf(peak - next);
      total = total * fade + BlockSum(weight, scratch);
      p[tid] = weight;
      __syncthreads();
      const int keys = min(kThreads, position + 1 - begin);
#pragma unroll
      for (int j = 0; j < kMaxValues; ++j) out[j] *= fade;
      for (int key = 0; key < keys; ++key) {
        const Cache* v = token(begin + key) + a.value_offset;
#pragma unroll
        for (int j = 0; j < kMaxValues; ++j)
          if (tid + j * kThreads < a.v_dim) out[j] = fmaf(p[key], ToFloat(v[tid + j * kThreads]), out[j]);
      }
      peak = next;
      __syncthreads();
    }
#pragma unroll
    for (int j = 0; j < kMaxValues; ++j) {
      const int d = tid + j * kThreads;
      if (d >= a.v_dim) continue;
      if (a.out_bf16) static_cast<bf16*>(a.out)[at * a.v_dim + d] = __float2bfloat16(out[j] / total);
      else static_cast<float*>(a.out)[at * a.v_dim + d] = out[j] / total;
    }
  }
}

}  // namespace

cudaError_t AttentionReference(const Launch& launch, const AttentionArgs& args) {
  if (args.q_dim > kMaxQ || args.v_dim > kMaxValues * kThreads) return cudaErrorInvalidValue;
  const dim3 grid(static_cast<unsigned>(args.q_heads), static_cast<unsigned>(args.rows < 32768 ? args.rows : 32768));
  if (args.cache.bf16) return Start(launch, attention_reference<bf16>, grid, dim3(kThreads), 0, args);
  return Start(launch, attention_reference<float>, grid, dim3(kThreads), 0, args);
}

}  // namespace dsopt_cuda
