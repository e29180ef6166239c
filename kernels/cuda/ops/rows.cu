// rows.cu - what operators do to each value of a row once: conversion, gates, norm, head norms with rotation and the
// way into a cache. Any types and strides; one value per load.
#include "common/convert.cuh"
#include "common/launch.cuh"
#include "ops/op.h"

namespace dsopt_cuda {
namespace {

__device__ __forceinline__ float LoadElem(const void* p, int64_t i, Elem elem) {
  if (elem == Elem::kF32) return static_cast<const float*>(p)[i];
  if (elem == Elem::kBf16) return ToFloat(static_cast<const bf16*>(p)[i]);
  return ToFloat(static_cast<const __half*>(p)[i]);
}
__device__ __forceinline__ void StoreElem(void* p, int64_t i, float v, bool as_bf16) {
  if (as_bf16) static_cast<bf16*>(p)[i] = FromFloat<bf16>(v);
  else static_cast<float*>(p)[i] = v;
}

// dst[r, i] = act(src[r, i])
// bytes  rows * cols * (element + element)      bound: DRAM
// grid   up to 2048 x 256 threads over all values
__global__ __launch_bounds__(256) void convert_rows(ConvertArgs a) {
  LetNextStart();
  WaitForPrevious();
  const int64_t all = a.rows * a.cols, step = static_cast<int64_t>(gridDim.x) * 256;
  for (int64_t at = blockIdx.x * 256 + threadIdx.x; at < all; at += step) {
    const int64_t row = at / a.cols, i = at % a.cols;
    float v = LoadElem(a.src, row * a.src_stride + i, a.src_elem);
    if (a.activation != DSOPT_ACT_NONE) v = GatedActivation(v, 1.0f, a.activation == DSOPT_ACT_GELU_TANH);
    StoreElem(a.dst, row * a.dst_stride + i, v, a.dst_elem == Elem::kBf16);
  }
}

// out[r, i] = act(wide[r, i]) wide[r, inner + i]
// bytes  rows * inner * (8 + element)           bound: DRAM
// grid   up to 2048 x 256 threads over all values
__global__ __launch_bounds__(256) void gate_rows(const float* wide, int64_t rows, int inner, bool gelu, bool out_bf16,
                                                 void* out) {
  LetNextStart();
  WaitForPrevious();
  const int64_t all = rows * inner, step = static_cast<int64_t>(gridDim.x) * 256;
  for (int64_t at = blockIdx.x * 256 + threadIdx.x; at < all; at += step) {
    const int64_t row = at / inner, i = at % inner;
    const float* in = wide + row * 2 * inner;
    StoreElem(out, at, GatedActivation(in[i], in[inner + i], gelu), out_bf16);
  }
}

// out = y rsqrt(mean(y^2) + eps) w, residual = y = x + residual           f32 sums
// bytes  rows * cols * (2 * element, from L2 the second time)       bound: latency for few rows, DRAM for many
// grid   up to 65535 rows at a time x 256 threads; a row is read twice, x may be out
__global__ __launch_bounds__(256) void norm_rows(NormRowsArgs a) {
  __shared__ float scratch[33];
  LetNextStart();
  WaitForPrevious();
  for (int64_t row = blockIdx.x; row < a.rows; row += gridDim.x) {
    const auto value = [&](int i) {
      const float x = LoadElem(a.x, row * a.x_stride + i, a.x_elem);
      if (a.residual == nullptr) return x;
      return x + LoadElem(a.residual, row * a.residual_stride + i, a.residual_elem);
    };
    float sum = 0;
    for (int i = threadIdx.x; i < a.cols; i += 256) {
      const float y = value(i);
      sum = fmaf(y, y, sum);
    }
    const float rstd = rsqrtf(BlockSum(sum, scratch) / static_cast<float>(a.cols) + a.eps);
    for (int i = threadIdx.x; i < a.cols; i += 256) {  // each thread reads its values before it writes them
      const float y = value(i);
      if (a.residual != nullptr)
        StoreElem(a.residual, row * a.residual_stride + i, y, a.residual_elem == Elem::kBf16);
      StoreElem(a.out, row * a.out_stride + i, y * rstd * LoadElem(a.weight, i, a.weight_elem),
                a.out_elem == Elem::kBf16);
    }
    __syncthreads();
  }
}

// One warp per (row, head): norm, rotation, then q, or k and v at their place.
// bytes  rows * heads * head_dim * (4 + element)      bound: latency
// grid   ((heads + 7) / 8, rows up to 65535 at a time) x 256 threads
__global__ __launch_bounds__(256) void qkv_rows(QkvRowsArgs a) {
  LetNextStart();
  WaitForPrevious();
  const int lane = threadIdx.x % 32, head = blockIdx.x * 8 + threadIdx.x / 32, heads = a.q_heads + 2 * a.kv_heads;
  if (head >= heads) return;
  const bool is_q = head < a.q_heads, is_v = head >= a.q_heads + a.kv_heads;
  for (int row = blockIdx.y; row < a.rows; row += gridDim.y) {
    const float* in = a.qkv + (static_cast<int64_t>(row) * heads + head) * a.head_dim;
    const void* norm = is_v ? nullptr : is_q ? a.q_norm : a.k_norm;
    const Elem norm_elem = is_q ? a.q_norm_elem : a.k_norm_elem;
    float scale = 1.0f;
    if (norm != nullptr) {
      float sum = 0;
      for (int i = lane; i < a.head_dim; i += 32) sum = fmaf(in[i], in[i], sum);
      scale = rsqrtf(WarpSum(sum) / static_cast<float>(a.head_dim) + a.eps);
    }
    const auto value = [&](int i) {
      return norm != nullptr ? in[i] * scale * LoadElem(norm, i, norm_elem) : in[i];
    };
    void* to = is_q ? a.q : is_v ? a.v : a.k;
    int64_t at;
    if (is_q) {
      at = row * a.q_row + head * a.q_head;
    } else {
      const int kv = (head - a.q_heads) % a.kv_heads;
      int64_t outer = row, token = 0;
      if (a.slots != nullptr) {
        const int slot = a.slots[row];
        if (slot < 0 || slot >= a.pages * a.page_tokens) continue;
        outer = slot / a.page_tokens;
        token = slot % a.page_tokens;
      }
      at = is_v ? outer * a.v_outer + kv * a.v_head + token * a.v_token
                : outer * a.k_outer + kv * a.k_head + token * a.k_token;
    }
    const bool as_bf16 = is_q ? a.q_bf16 : a.kv_bf16;
    const int rotated = is_v || a.rope == nullptr ? 0 : a.rope_dim, half = rotated / 2;
    for (int i = rotated + lane; i < a.head_dim; i += 32) StoreElem(to, at + i, value(i), as_bf16);
    if (rotated == 0) continue;
    const int position = min(max(a.positions[row], 0), a.rope_rows - 1);
    const float* angles = a.rope + position * a.rope_stride;
    for (int i = lane; i < half; i += 32) {
      const int first = a.interleaved ? 2 * i : i, second = a.interleaved ? 2 * i + 1 : i + half;
      const float x = value(first), y = value(second), c = angles[i], s = angles[half + i];
      StoreElem(to, at + first, x * c - y * s, as_bf16);
      StoreElem(to, at + second, y * c + x * s, as_bf16);
    }
  }
}

// bytes  slots * 16      bound: latency
// grid   up to 1024 x 256 threads
__global__ __launch_bounds__(256) void keep_choice(const int* ids, const float* weights, int slots, int experts,
                                                   int* kept_ids, float* kept_weights) {
  LetNextStart();
  WaitForPrevious();
  for (int s = blockIdx.x * 256 + threadIdx.x; s < slots; s += gridDim.x * 256) {
    const int id = ids[s];
    const bool valid = id >= 0 && id < experts;
    kept_ids[s] = valid ? id : 0;
    kept_weights[s] = valid ? weights[s] : 0.0f;
  }
}

unsigned Blocks(int64_t values, int64_t most) {
  const int64_t blocks = (values + 255) / 256;
  return static_cast<unsigned>(blocks < most ? blocks : most);
}

}  // namespace

cudaError_t ConvertRows(const Launch& launch, const ConvertArgs& args) {
  return Start(launch, convert_rows, dim3(Blocks(args.rows * args.cols, 2048)), dim3(256), 0, args);
}

cudaError_t GateRows(const Launch& launch, const float* wide, int64_t rows, int inner, bool gelu, bool out_bf16,
                     void* out) {
  return Start(launch, gate_rows, dim3(Blocks(rows * inner, 2048)), dim3(256), 0, wide, rows, inner, gelu, out_bf16,
               out);
}

cudaError_t NormRows(const Launch& launch, const NormRowsArgs& args) {
  const int64_t grid = args.rows < 65535 ? args.rows : 65535;
  return Start(launch, norm_rows, dim3(static_cast<unsigned>(grid)), dim3(256), 0, args);
}

cudaError_t QkvRows(const Launch& launch, const QkvRowsArgs& args) {
  const int heads = args.q_heads + 2 * args.kv_heads;
  const dim3 grid(static_cast<unsigned>((heads + 7) / 8), static_cast<unsigned>(args.rows < 65535 ? args.rows : 65535));
  return Start(launch, qkv_rows, grid, dim3(256), 0, args);
}

cudaError_t KeepChoice(const Launch& launch, const int* ids, const float* weights, int slots, int experts,
                       int* kept_ids, float* kept_weights) {
  return Start(launch, keep_choice, dim3(Blocks(slots, 1024)), dim3(256), 0, ids, weights, slots, experts, kept_ids,
               kept_weights);
}

}  // namespace dsopt_cuda
