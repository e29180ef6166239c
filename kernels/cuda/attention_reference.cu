// attention_reference.cu - causal attention over the paged cache in f32, for every head shape and cache type, plain
// and latent (MLA): the check mode, and the fallback where the tensor-core kernels do not apply. Not tuned.
#include "common/cache_codes.cuh"
#include "common/convert.cuh"
#include "common/launch.cuh"
#include "launch.h"

namespace dsopt_cuda {
namespace {

constexpr int kThreads = 128, kMaxQ = 1024, kMaxValues = 8;  // dimensions of a head: at most kMaxQ, v at most 1024

__device__ __forceinline__ float LoadAs(const void* p, int64_t i, bool as_bf16) {
  return as_bf16 ? __bfloat162float(static_cast<const bf16*>(p)[i]) : static_cast<const float*>(p)[i];
}

// How a KV head's key at a token of a page is multiplied with a query (in shared memory), and its value read.
template <typename T>
struct PlainCache {
  const AttentionArgs& a;

  __device__ const T* Key(const char* page, int kv_head, int token) const {
    return reinterpret_cast<const T*>(page) + kv_head * a.head_stride + token * a.token_stride;
  }
  __device__ float Score(const float* q, const char* page, int kv_head, int token) const {
    const T* k = Key(page, kv_head, token);
    float score = 0;
    for (int i = 0; i < a.q_dim; ++i) score = fmaf(q[i], ToFloat(k[i]), score);
    return score;
  }
  __device__ float Value(const char* page, int kv_head, int token, int i) const {
    return ToFloat(Key(page, kv_head, token)[a.value_offset + i]);
  }
};

// A position of latent attention has two vectors: one that is also its value, and the rotated part.
template <CacheCode kCode>
struct CodedCache {
  const AttentionArgs& a;
  int rotated = a.q_dim - a.v_dim;  // 0: not latent
  int row_bytes = CodeBytes<kCode>(a.v_dim) + (rotated != 0 ? CodeBytes<kCode>(rotated) : 0);
  int row_words = CodeWords<kCode>(a.v_dim) + (rotated != 0 ? CodeWords<kCode>(rotated) : 0);
  int rows = (rotated != 0 ? 1 : 2 * a.kv_heads) * kPageTokens;

  __device__ const uint8_t* Codes(const char* page, int row) const {
    return reinterpret_cast<const uint8_t*>(page) + static_cast<int64_t>(row) * row_bytes;
  }
  __device__ const uint32_t* Words(const char* page, int row) const {
    return reinterpret_cast<const uint32_t*>(page + static_cast<int64_t>(rows) * row_bytes) +
           static_cast<int64_t>(row) * row_words;
  }
  __device__ float Score(const float* q, const char* page, int kv_head, int token) const {
    const int row = kv_head * kPageTokens + token;
    const uint8_t* codes = Codes(page, row);
    const uint32_t* words = Words(page, row);
    float score = 0;
    for (int i = 0; i < a.v_dim; ++i) score = fmaf(q[i], CachedValue<kCode>(codes, words, i), score);
    codes += CodeBytes<kCode>(a.v_dim);
    words += CodeWords<kCode>(a.v_dim);
    for (int i = 0; i < rotated; ++i) score = fmaf(q[a.v_dim + i], CachedValue<kCode>(codes, words, i), score);
    return score;
  }
  __device__ float Value(const char* page, int kv_head, int token, int i) const {
    const int row = (kv_head + (rotated != 0 ? 0 : a.kv_heads)) * kPageTokens + token;
    return CachedValue<kCode>(Codes(page, row), Words(page, row), i);
  }
};

// out[row, h] = softmax(scale q . K) V over keys max(0, p - window + 1) .. p
// q [rows, q_heads, q_dim]   out [rows, q_heads, v_dim]   f32 sums
// bytes  rows * q_heads * keys * (q_dim + v_dim) * element (L2)      bound: latency, L2
// grid   (q_heads, rows) x 128 threads; a thread scores one key of a tile of 128, then owns up to 8 output dimensions
// when   REFERENCE programs, f32 caches, head dimensions other than 64 and 128, latents other than 512 + 64
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
    const Cache cache{a};
    const auto page = [&](int key) {
      return a.cache.base + static_cast<uint64_t>(pages[key / kPageTokens]) * a.cache.page_bytes;
    };
    float peak = -INFINITY, total = 0, out[kMaxValues] = {};
    __syncthreads();
    for (int begin = first; begin <= position; begin += kThreads) {
      float score = -INFINITY;
      const int own = begin + tid;
      if (own <= position) score = cache.Score(q, page(own), kv_head, own % kPageTokens);
      const float next = fmaxf(peak, BlockMax(score, scratch));
      const float weight = expf(score - next), fade = expf(peak - next);
      total = total * fade + BlockSum(weight, scratch);
      p[tid] = weight;
      __syncthreads();
      const int keys = min(kThreads, position + 1 - begin);
#pragma unroll
      for (int j = 0; j < kMaxValues; ++j) out[j] *= fade;
      for (int key = 0; key < keys; ++key) {
        const char* at_page = page(begin + key);
        const int token = (begin + key) % kPageTokens;
#pragma unroll
        for (int j = 0; j < kMaxValues; ++j)
          if (tid + j * kThreads < a.v_dim)
            out[j] = fmaf(p[key], cache.Value(at_page, kv_head, token, tid + j * kThreads), out[j]);
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
  const auto start = [&](void (*kernel)(AttentionArgs)) {
    return Start(launch, kernel, grid, dim3(kThreads), 0, args);
  };
  switch (args.cache.code) {
    case CacheCode::kFp8: return start(attention_reference<CodedCache<CacheCode::kFp8>>);
    case CacheCode::kInt8: return start(attention_reference<CodedCache<CacheCode::kInt8>>);
    case CacheCode::kInt4: return start(attention_reference<CodedCache<CacheCode::kInt4>>);
    case CacheCode::kPlain: break;
  }
  return start(args.cache.bf16 ? attention_reference<PlainCache<bf16>>
                               : attention_reference<PlainCache<float>>);
}

}  // namespace dsopt_cuda
