// attention_rows.cu - attention of operators: what each row may see, made from the caller's device arrays, and the
// kernel for every layout, type and head dimension. Values of those arrays are clamped: whatever they hold, no kernel
// leaves the operands.
#include "common/convert.cuh"
#include "common/launch.cuh"
#include "ops/op.h"

namespace dsopt_cuda {
namespace {

constexpr int kManyTiles = 1 << 29;  // where the running sum of tiles stops: offsets that descend may ask for anything
constexpr int kThreads = 128, kMaxDim = 1024, kMaxValues = kMaxDim / kThreads;

__device__ __forceinline__ int Clamp(int v, int low, int high) { return min(max(v, low), high); }

__device__ __forceinline__ int QueryStart(const OpAttentionArgs& a, int seq) {
  if (a.q_offsets == nullptr) return seq * (a.tokens / a.batch);
  return Clamp(a.q_offsets[seq], 0, a.tokens);
}
__device__ __forceinline__ int KeysOf(const OpAttentionArgs& a, int seq) {
  return a.kv_lengths == nullptr ? a.room : Clamp(a.kv_lengths[seq], 0, a.room);
}

// row_seq, row_end, row_last, row_index of every row; safe_pages; counters to zero.
// bytes  tokens * 16 + batch * max_pages * 8 + counters * 4     bound: latency
// grid   up to 256 x 256 threads over everything
__global__ __launch_bounds__(256) void attention_prepare(OpAttentionArgs a) {
  LetNextStart();
  WaitForPrevious();
  const int64_t begin = blockIdx.x * 256 + threadIdx.x, step = static_cast<int64_t>(gridDim.x) * 256;
  for (int64_t row = begin; row < a.tokens; row += step) {
    int low = 0, high = a.batch;  // the last sequence that starts at or before the row
    while (high - low > 1) {
      const int middle = low + (high - low) / 2;
      if (QueryStart(a, middle) <= row) low = middle;
      else high = middle;
    }
    const int first = QueryStart(a, low), last = QueryStart(a, low + 1);
    int end = 0;
    if (row >= first && row < last) {
      const int keys = KeysOf(a, low);
      end = a.causal ? max(keys - last + static_cast<int>(row) + 1, 0) : keys;
    }
    a.row_seq[row] = low;
    a.row_end[row] = end;
    a.row_last[row] = max(end - 1, 0);
    a.row_index[row] = static_cast<int>(row);
  }
  const int64_t pages = a.page_table != nullptr ? static_cast<int64_t>(a.batch) * a.max_pages : 0;
  for (int64_t i = begin; i < pages; i += step) a.safe_pages[i] = Clamp(a.page_table[i], 0, a.pages - 1);
  for (int64_t i = begin; i < a.counters; i += step) a.arrived[i] = 0;
}

// Tiles of up to kTileQueries rows of one sequence, each starting at a row that sees a key; rows 0 behind the last.
// bytes  tiles * 16 + batch * 8      bound: latency
// grid   1 x 1024 threads: a running sum of tile counts
__global__ __launch_bounds__(1024) void attention_cut(OpAttentionArgs a) {
  __shared__ int counts[1024], used;
  LetNextStart();
  WaitForPrevious();
  const int tid = threadIdx.x;
  if (tid == 0) used = 0;
  for (int base = 0; base < a.batch; base += 1024) {
    const int seq = base + tid;
    int first = 0, rows = 0, end = 0;
    if (seq < a.batch) {
      const int start = QueryStart(a, seq), last = QueryStart(a, seq + 1), keys = KeysOf(a, seq);
      // Causal: with more rows than keys the first rows see nothing.
      const int blind = a.causal ? max(last - start - keys, 0) : 0;
      first = start + blind;
      rows = keys > 0 ? max(last - first, 0) : 0;
      end = a.causal ? keys - last + first + 1 : keys;
    }
    const int tiles = (rows + kTileQueries - 1) / kTileQueries;
    __syncthreads();
    counts[tid] = tiles;
    __syncthreads();
    for (int distance = 1; distance < 1024; distance *= 2) {
      const int add = tid >= distance ? counts[tid - distance] : 0;
      __syncthreads();
      counts[tid] = min(counts[tid] + add, kManyTiles);
      __syncthreads();
    }
    const int at = used + counts[tid] - tiles;
    for (int i = 0; i < tiles && at + i < a.max_tiles; ++i) {
      const int done = i * kTileQueries;
      a.tiles[at + i] = {first + done, min(kTileQueries, rows - done), a.causal ? end + done : end, seq};
    }
    __syncthreads();
    if (tid == 1023) used = min(used + counts[1023], kManyTiles);
    __syncthreads();
  }
  for (int i = used + tid; i < a.max_tiles; i += 1024) a.tiles[i] = {0, 0, 0, 0};
}

__device__ __forceinline__ float LoadAs(const void* p, int64_t i, bool as_bf16) {
  return as_bf16 ? __bfloat162float(static_cast<const bf16*>(p)[i]) : static_cast<const float*>(p)[i];
}
__device__ __forceinline__ void StoreAs(void* p, int64_t i, float v, bool as_bf16) {
  if (as_bf16) static_cast<bf16*>(p)[i] = __float2bfloat16(v);
  else static_cast<float*>(p)[i] = v;
}

// out[row, h] = softmax(scale q . K) V over keys max(0, end - window) .. end - 1 of the row's sequence
// bytes  rows * q_heads * keys * head_dim * 2 * element (L2)      bound: latency, L2
// grid   (q_heads, rows up to 32768 at a time) x 128 threads; a thread scores one key of a tile of 128, then owns up
//        to 8 output dimensions
// when   f32 queries or keys, head dimensions other than 64 and 128, rows that are not 16-byte aligned
template <typename Cache>
__global__ __launch_bounds__(kThreads) void attention_rows(OpAttentionArgs a) {
  __shared__ float q[kMaxDim], p[kThreads], scratch[33];
  LetNextStart();
  WaitForPrevious();
  const int head = blockIdx.x, tid = threadIdx.x, kv_head = head / (a.q_heads / a.kv_heads);
  const Cache* keys = static_cast<const Cache*>(a.k) + kv_head * a.k_head;
  const Cache* values = static_cast<const Cache*>(a.v) + kv_head * a.v_head;
  for (int row = blockIdx.y; row < a.tokens; row += gridDim.y) {
    const int64_t to = row * a.out_row + head * a.out_head;
    const int seq = a.row_seq[row], end = a.row_end[row];
    const int first = a.window > 0 && end > a.window ? end - a.window : 0;
    __syncthreads();
    for (int i = tid; i < a.head_dim; i += kThreads)
      q[i] = LoadAs(a.q, row * a.q_row + head * a.q_head + i, a.q_bf16) * a.scale;
    const auto offset = [&](int key, int64_t outer, int64_t token) {
      if (a.page_tokens == 0) return seq * outer + key * token;
      const int page = a.safe_pages[static_cast<int64_t>(seq) * a.max_pages + key / a.page_tokens];
      return page * outer + key % a.page_tokens * token;
    };
    float peak = -INFINITY, total = 0, out[kMaxValues] = {};
    __syncthreads();
    for (int begin = first; begin < end; begin += kThreads) {
      float score = -INFINITY;
      if (begin + tid < end) {
        const Cache* k = keys + offset(begin + tid, a.k_outer, a.k_token);
        score = 0;
        for (int i = 0; i < a.head_dim; ++i) score = fmaf(q[i], ToFloat(k[i]), score);
      }
      const float next = fmaxf(peak, BlockMax(score, scratch));
      const float weight = expf(score - next), fade = expf(peak - next);
      total = total * fade + BlockSum(weight, scratch);
      p[tid] = weight;
      __syncthreads();
      const int count = min(kThreads, end - begin);
#pragma unroll
      for (int j = 0; j < kMaxValues; ++j) out[j] *= fade;
      for (int key = 0; key < count; ++key) {
        const Cache* v = values + offset(begin + key, a.v_outer, a.v_token);
#pragma unroll
        for (int j = 0; j < kMaxValues; ++j)
          if (tid + j * kThreads < a.head_dim) out[j] = fmaf(p[key], ToFloat(v[tid + j * kThreads]), out[j]);
      }
      peak = next;
      __syncthreads();
    }
#pragma unroll
    for (int j = 0; j < kMaxValues; ++j) {
      const int d = tid + j * kThreads;
      if (d < a.head_dim) StoreAs(a.out, to + d, end > 0 ? out[j] / total : 0.0f, a.out_bf16);
    }
  }
}

// bytes  rows that see nothing * q_heads * head_dim * element      bound: latency
// grid   rows up to 65535 at a time x 256 threads
__global__ __launch_bounds__(256) void attention_blank(OpAttentionArgs a) {
  LetNextStart();
  WaitForPrevious();
  for (int row = blockIdx.x; row < a.tokens; row += gridDim.x) {
    if (a.row_end[row] > 0) continue;
    for (int i = threadIdx.x; i < a.q_heads * a.head_dim; i += 256)
      StoreAs(a.out, row * a.out_row + i / a.head_dim * a.out_head + i % a.head_dim, 0.0f, a.out_bf16);
  }
}

unsigned AtMost(int64_t wanted, int64_t most) { return static_cast<unsigned>(wanted < most ? wanted : most); }

}  // namespace

cudaError_t PrepareAttention(const Launch& launch, const OpAttentionArgs& args) {
  int64_t most = args.tokens;
  const int64_t pages = args.page_table != nullptr ? static_cast<int64_t>(args.batch) * args.max_pages : args.batch;
  if (pages > most) most = pages;
  if (args.counters > most) most = args.counters;
  const cudaError_t error =
      Start(launch, attention_prepare, dim3(AtMost((most + 255) / 256, 256)), dim3(256), 0, args);
  if (error != cudaSuccess || args.max_tiles == 0) return error;
  return Start(launch, attention_cut, dim3(1), dim3(1024), 0, args);
}

cudaError_t AttentionRows(const Launch& launch, const OpAttentionArgs& args) {
  const dim3 grid(static_cast<unsigned>(args.q_heads), AtMost(args.tokens, 32768));
  if (args.kv_bf16) return Start(launch, attention_rows<bf16>, grid, dim3(kThreads), 0, args);
  return Start(launch, attention_rows<float>, grid, dim3(kThreads), 0, args);
}

cudaError_t BlankRows(const Launch& launch, const OpAttentionArgs& args) {
  return Start(launch, attention_blank, dim3(AtMost(args.tokens, 65535)), dim3(256), 0, args);
}

}  // namespace dsopt_cuda
