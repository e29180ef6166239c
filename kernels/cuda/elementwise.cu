// elementwise.cu - what touches every value of a row once: embedding, RMSNorm, rotary embedding with the append
// to the cache, the latent preparation of MLA, the gated activation behind a library product. No products here.
#include "common/cache_codes.cuh"
#include "common/convert.cuh"
#include "common/launch.cuh"
#include "launch.h"

namespace dsopt_cuda {
namespace {

__device__ __forceinline__ void StoreAs(void* p, int64_t i, float v, bool as_bf16) {
  if (as_bf16) static_cast<bf16*>(p)[i] = __float2bfloat16(v);
  else static_cast<float*>(p)[i] = v;
}

// Elements of the cache where the row's position lies; the caller adds head and dimension.
struct CacheSlot {
  char* page;
  int token;
};
__device__ __forceinline__ CacheSlot FindSlot(const CacheArgs& cache, int row) {
  const int position = cache.positions[row];
  const int page = cache.page_table[cache.row_seq[row] * cache.page_stride + position / kPageTokens];
  return {cache.base + static_cast<uint64_t>(page) * cache.page_bytes, position % kPageTokens};
}

__device__ __forceinline__ void Rotation(const RopeArgs& rope, int position, int i, float* c, float* s) {
  sincosf(static_cast<float>(position) * rope.inv_freq[i], s, c);
  *c *= rope.scale;
  *s *= rope.scale;
}
// The two values of rotated pair i, or of pass-through pair i >= dim / 2.
__device__ __forceinline__ void PairOf(const RopeArgs& rope, int i, int* first, int* second) {
  const int half = rope.dim / 2;
  if (i >= half || rope.interleaved) {
    *first = 2 * i;
    *second = 2 * i + 1;
  } else {
    *first = i;
    *second = i + half;
  }
}

// x[row] = table[token[row]] * scale
// bytes  rows * hidden * (element + 4)   bound: DRAM
// grid   rows x 256 threads
template <typename T>
__global__ void embed_rows(const T* table, const int* tokens, int hidden, float scale, float* x) {
  LetNextStart();
  WaitForPrevious();
  const int row = blockIdx.x;
  const T* src = table + static_cast<int64_t>(tokens[row]) * hidden;
  for (int i = threadIdx.x; i < hidden; i += blockDim.x) x[static_cast<int64_t>(row) * hidden + i] = ToFloat(src[i]) * scale;
}

constexpr int kNormThreads = 512, kNormVectors = 4;  // rows of up to 8192 values stay in registers

// out = in * rsqrt(mean(in^2) + eps) * gain     f32 in and sums, T out
// bytes  rows * cols * (4 + element)      bound: latency for few rows, L2 for many
// grid   rows x 512 threads; a row is read once when cols % 4 == 0 and cols <= 8192, else twice
__global__ __launch_bounds__(kNormThreads) void rmsnorm_rows(NormArgs a) {
  __shared__ float scratch[33];
  LetNextStart();
  const int row = blockIdx.x;
  const int64_t base = static_cast<int64_t>(row) * a.cols;
  WaitForPrevious();
  const float* in = a.in + (a.row_list != nullptr ? a.row_list[row] : row) * a.in_stride;
  float sum = 0;
  if (a.cols % 4 != 0 || a.in_stride % 4 != 0 || a.cols > kNormThreads * kNormVectors * 4) {
    for (int i = threadIdx.x; i < a.cols; i += kNormThreads) {
      const float v = in[i];
      sum = fmaf(v, v, sum);
    }
    const float rstd = rsqrtf(BlockSum(sum, scratch) / static_cast<float>(a.cols) + a.eps);
    for (int i = threadIdx.x; i < a.cols; i += kNormThreads) {
      const float v = in[i] * rstd * a.gain[i];
      StoreAs(a.out, a.out_layout.At(row, i), v, a.out_bf16);
      if (a.out_f32 != nullptr) a.out_f32[base + i] = v;
    }
    return;
  }
  float4 x[kNormVectors], gain[kNormVectors];
#pragma unroll
  for (int j = 0; j < kNormVectors; ++j) {
    const int i = threadIdx.x + j * kNormThreads;
    const bool valid = 4 * i < a.cols;
    x[j] = valid ? reinterpret_cast<const float4*>(in)[i] : float4{0, 0, 0, 0};
    gain[j] = valid ? __ldg(reinterpret_cast<const float4*>(a.gain) + i) : float4{0, 0, 0, 0};
  }
#pragma unroll
  for (int j = 0; j < kNormVectors; ++j)
    sum = fmaf(x[j].x, x[j].x, fmaf(x[j].y, x[j].y, fmaf(x[j].z, x[j].z, fmaf(x[j].w, x[j].w, sum))));
  const float rstd = rsqrtf(BlockSum(sum, scratch) / static_cast<float>(a.cols) + a.eps);
#pragma unroll
  for (int j = 0; j < kNormVectors; ++j) {
    const int i = threadIdx.x + j * kNormThreads;
    if (4 * i >= a.cols) continue;
    const float4 y = {x[j].x * rstd * gain[j].x, x[j].y * rstd * gain[j].y, x[j].z * rstd * gain[j].z,
                      x[j].w * rstd * gain[j].w};
    const int64_t at = a.out_layout.At(row, 4 * i);
    if (a.out_layout.tiled) {  // bf16
      bf16* out = static_cast<bf16*>(a.out);
      *reinterpret_cast<uint32_t*>(out + at) = PackBf16(y.x, y.y);
      *reinterpret_cast<uint32_t*>(out + a.out_layout.At(row, 4 * i + 2)) = PackBf16(y.z, y.w);
    } else if (a.out_bf16) {
      *reinterpret_cast<uint2*>(static_cast<bf16*>(a.out) + at) = {PackBf16(y.x, y.y), PackBf16(y.z, y.w)};
    } else {
      *reinterpret_cast<float4*>(static_cast<float*>(a.out) + at) = y;
    }
    if (a.out_f32 != nullptr) reinterpret_cast<float4*>(a.out_f32 + base)[i] = y;
  }
}

// out[r, i] = act(in[r, 2 i]) in[r, 2 i + 1]
// bytes  rows * inner * 6     bound: DRAM
// grid   (inner / 1024, rows) x 256 threads, 4 pairs per thread
__global__ void gate_up_pairs(const bf16* in, int inner, bool gelu, bf16* out, int64_t out_stride) {
  LetNextStart();
  WaitForPrevious();
  const int64_t row = blockIdx.y;
  const int i = (blockIdx.x * blockDim.x + threadIdx.x) * 4;
  if (i >= inner) return;
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    if (i + j >= inner) return;
    const __nv_bfloat162 p = reinterpret_cast<const __nv_bfloat162*>(in + row * 2 * inner)[i + j];
    out[row * out_stride + i + j] = __float2bfloat16(GatedActivation(__low2float(p), __high2float(p), gelu));
  }
}

// q = rope(q); cache <- rope(k), v
// bytes  rows * (q + 2 kv) * head_dim * (4 + 2)    bound: latency
// grid   (rows, 4) x 256 threads; a thread owns pairs of values of one head
__global__ __launch_bounds__(256) void rope_append(AppendArgs a) {
  LetNextStart();
  WaitForPrevious();
  const int row = blockIdx.x, half = a.head_dim / 2, heads = a.q_heads + 2 * a.kv_heads;
  const int position = a.cache.positions[row];
  const CacheSlot slot = FindSlot(a.cache, row);
  const float* in = a.qkv + static_cast<int64_t>(row) * heads * a.head_dim;
  for (int w = blockIdx.y * 256 + threadIdx.x; w < heads * half; w += 256 * gridDim.y) {
    const int head = w / half, i = w % half;
    const bool value = head >= a.q_heads + a.kv_heads;
    int d0 = 2 * i, d1 = 2 * i + 1;
    if (!value) PairOf(a.rope, i, &d0, &d1);
    float x = in[head * a.head_dim + d0], y = in[head * a.head_dim + d1];
    if (!value && i < a.rope.dim / 2) {
      float c, s;
      Rotation(a.rope, position, i, &c, &s);
      const float rotated = x * c - y * s;
      y = y * c + x * s;
      x = rotated;
    }
    if (head < a.q_heads) {
      const int64_t at = (static_cast<int64_t>(row) * a.q_heads + head) * a.head_dim;
      StoreAs(a.q, at + d0, x, a.q_bf16);
      StoreAs(a.q, at + d1, y, a.q_bf16);
    } else {
      const int kv = (head - a.q_heads) % a.kv_heads;
      const int64_t at = (static_cast<int64_t>(value ? a.kv_heads + kv : kv) * kPageTokens + slot.token) * a.head_dim;
      StoreAs(slot.page, at + d0, x, a.cache.bf16);
      StoreAs(slot.page, at + d1, y, a.cache.bf16);
    }
  }
}

constexpr int kAppendWarps = 8;

// q = rope(q); cache <- codes and words of rope(k), v
// bytes  rows * (q + 2 kv) * head_dim * (4 + 1)    bound: latency
// grid   (rows, 4) x 8 warps; a warp owns a head, which passes through shared memory: 8 * head_dim * 4 bytes
template <CacheCode kCode>
__global__ __launch_bounds__(32 * kAppendWarps) void rope_append_coded(AppendArgs a) {
  extern __shared__ float append_heads[];
  LetNextStart();
  WaitForPrevious();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int row = blockIdx.x, half = a.head_dim / 2, heads = a.q_heads + 2 * a.kv_heads;
  const int position = a.cache.positions[row];
  const CacheSlot slot = FindSlot(a.cache, row);
  const float* in = a.qkv + static_cast<int64_t>(row) * heads * a.head_dim;
  const int code_bytes = CodeBytes<kCode>(a.head_dim), words = CodeWords<kCode>(a.head_dim);
  float* x = append_heads + warp * a.head_dim;
  for (int head = blockIdx.y * kAppendWarps + warp; head < heads; head += kAppendWarps * gridDim.y) {
    const bool is_q = head < a.q_heads, value = head >= a.q_heads + a.kv_heads;
    for (int i = lane; i < half; i += 32) {
      int d0 = 2 * i, d1 = 2 * i + 1;
      if (!value) PairOf(a.rope, i, &d0, &d1);
      const float first = in[head * a.head_dim + d0], second = in[head * a.head_dim + d1];
      float c = 1, s = 0;
      if (!value && i < a.rope.dim / 2) Rotation(a.rope, position, i, &c, &s);
      const float y0 = first * c - second * s, y1 = second * c + first * s;
      if (is_q) {
        const int64_t at = (static_cast<int64_t>(row) * a.q_heads + head) * a.head_dim;
        StoreAs(a.q, at + d0, y0, a.q_bf16);
        StoreAs(a.q, at + d1, y1, a.q_bf16);
      } else {
        x[d0] = y0;
        x[d1] = y1;
      }
    }
    if (is_q) continue;
    __syncwarp();
    const int64_t vectors = static_cast<int64_t>(2) * a.kv_heads * kPageTokens;
    const int64_t vector = static_cast<int64_t>(head - a.q_heads) * kPageTokens + slot.token;  // K heads, then V heads
    uint32_t* all_words = reinterpret_cast<uint32_t*>(slot.page + vectors * code_bytes);
    EncodeVector<kCode>(x, a.head_dim, reinterpret_cast<uint8_t*>(slot.page) + vector * code_bytes,
                        all_words + vector * words, 0, 1, lane);
    __syncwarp();
  }
}

constexpr int kMaxLatentWidth = 1024;  // latent and rotated part

// cache <- rmsnorm(latent) | rope(k_pe); q_nope <- T(q); q_cat[rope part] <- rope(q_pe)
// bytes  rows * (heads * (nope + rope) * 6 + (latent + rope) * 6)     bound: latency
// grid   (rows, parts) x 256 threads; heads are dealt over the parts, part 0 also does the latent and the shared key
//        coded: these two pass through shared memory, 4 KiB
template <CacheCode kCode>
__global__ __launch_bounds__(256) void mla_prepare(MlaPrepareArgs a) {
  constexpr bool kCoded = kCode != CacheCode::kPlain;
  __shared__ float scratch[33], coded_key[kCoded ? kMaxLatentWidth : 1];
  LetNextStart();
  WaitForPrevious();
  const int row = blockIdx.x, position = a.cache.positions[row];
  const CacheSlot slot = FindSlot(a.cache, row);
  const int width = a.latent + a.rope_dim, half = a.rope_dim / 2;
  const float* latent = a.a + row * a.a_stride + a.latent_at;
  const int64_t at = static_cast<int64_t>(slot.token) * width;
  const auto store_key = [&](int i, float v) {
    if constexpr (kCoded) coded_key[i] = v;
    else StoreAs(slot.page, at + i, v, a.cache.bf16);
  };
  // Pair i of a head or, head == heads, of the shared key.
  const auto rotate = [&](int head, int i) {
    const float* in = head < a.heads ? a.q + row * a.q_stride + head * (a.nope + a.rope_dim) + a.nope : latent + a.latent;
    int d0, d1;
    PairOf(a.rope, i, &d0, &d1);
    float x = in[d0], y = in[d1];
    if (i < a.rope.dim / 2) {
      float c, s;
      Rotation(a.rope, position, i, &c, &s);
      const float rotated = x * c - y * s;
      y = y * c + x * s;
      x = rotated;
    }
    if (head < a.heads) {
      const int64_t to = (static_cast<int64_t>(row) * a.heads + head) * width + a.latent;
      StoreAs(a.q_cat, to + d0, x, a.bf16);
      StoreAs(a.q_cat, to + d1, y, a.bf16);
    } else {
      store_key(a.latent + d0, x);
      store_key(a.latent + d1, y);
    }
  };
  if (blockIdx.y == 0) {
    float sum = 0;
    for (int i = threadIdx.x; i < a.latent; i += 256) sum = fmaf(latent[i], latent[i], sum);
    const float rstd = rsqrtf(BlockSum(sum, scratch) / static_cast<float>(a.latent) + a.latent_eps);
    for (int i = threadIdx.x; i < a.latent; i += 256) store_key(i, latent[i] * rstd * a.latent_norm[i]);
    if constexpr (kCoded) {
      for (int i = threadIdx.x; i < half; i += 256) rotate(a.heads, i);
      __syncthreads();
      const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
      const int latent_bytes = CodeBytes<kCode>(a.latent), latent_words = CodeWords<kCode>(a.latent);
      const int row_bytes = latent_bytes + CodeBytes<kCode>(a.rope_dim),
                row_words = latent_words + CodeWords<kCode>(a.rope_dim);
      uint8_t* codes = reinterpret_cast<uint8_t*>(slot.page) + slot.token * row_bytes;
      uint32_t* all_words = reinterpret_cast<uint32_t*>(slot.page + kPageTokens * row_bytes);
      uint32_t* words = all_words + slot.token * row_words;
      EncodeVector<kCode>(coded_key, a.latent, codes, words, warp, 8, lane);
      EncodeVector<kCode>(coded_key + a.latent, a.rope_dim, codes + latent_bytes, words + latent_words,
                          7 - warp, 8, lane);
    }
  }
  const int begin = blockIdx.y * 256 + threadIdx.x, stride = gridDim.y * 256;
  for (int w = begin; w < (a.heads + (kCoded ? 0 : 1)) * half; w += stride) rotate(w / half, w % half);
  for (int w = begin; w < a.heads * a.nope; w += stride) {
    const int head = w / a.nope, i = w % a.nope;
    StoreAs(a.q_nope, static_cast<int64_t>(row) * a.heads * a.nope + w,
            a.q[row * a.q_stride + head * (a.nope + a.rope_dim) + i], a.bf16);
  }
}

}  // namespace

cudaError_t Embed(const Launch& launch, const void* table, Elem elem, const int* tokens, int rows, int hidden,
                  float scale, float* x) {
  const dim3 grid(static_cast<unsigned>(rows)), block(256);
  switch (elem) {
    case Elem::kF32: return Start(launch, embed_rows<float>, grid, block, 0, static_cast<const float*>(table), tokens, hidden, scale, x);
    case Elem::kF16: return Start(launch, embed_rows<__half>, grid, block, 0, static_cast<const __half*>(table), tokens, hidden, scale, x);
    case Elem::kBf16: return Start(launch, embed_rows<bf16>, grid, block, 0, static_cast<const bf16*>(table), tokens, hidden, scale, x);
    case Elem::kPacked: break;  // EmbedPacked
  }
  return cudaErrorInvalidValue;
}

cudaError_t RmsNorm(const Launch& launch, const NormArgs& args) {
  return Start(launch, rmsnorm_rows, dim3(static_cast<unsigned>(args.rows)), dim3(kNormThreads), 0, args);
}

cudaError_t GateUpPairs(const Launch& launch, const void* in, int rows, int inner, bool gelu, void* out,
                        int64_t out_stride) {
  const dim3 grid(static_cast<unsigned>((inner + 1023) / 1024), static_cast<unsigned>(rows));
  return Start(launch, gate_up_pairs, grid, dim3(256), 0, static_cast<const bf16*>(in), inner, gelu,
               static_cast<bf16*>(out), out_stride);
}

cudaError_t RopeAppend(const Launch& launch, const AppendArgs& args) {
  const dim3 grid(static_cast<unsigned>(args.rows), 4);
  const auto coded = [&](void (*kernel)(AppendArgs)) {
    return Start(launch, kernel, grid, dim3(32 * kAppendWarps), kAppendWarps * args.head_dim * 4, args);
  };
  switch (args.cache.code) {
    case CacheCode::kFp8: return coded(rope_append_coded<CacheCode::kFp8>);
    case CacheCode::kInt8: return coded(rope_append_coded<CacheCode::kInt8>);
    case CacheCode::kInt4: return coded(rope_append_coded<CacheCode::kInt4>);
    case CacheCode::kPlain: break;
  }
  return Start(launch, rope_append, grid, dim3(256), 0, args);
}

cudaError_t MlaPrepare(const Launch& launch, const MlaPrepareArgs& args) {
  if (args.cache.code != CacheCode::kPlain && args.latent + args.rope_dim > kMaxLatentWidth)
    return cudaErrorInvalidValue;
  const int parts = args.rows >= 64 ? 1 : (args.heads * args.nope + 1023) / 1024;
  const dim3 grid(static_cast<unsigned>(args.rows), static_cast<unsigned>(parts));
  const auto start = [&](void (*kernel)(MlaPrepareArgs)) {
    return Start(launch, kernel, grid, dim3(256), 0, args);
  };
  switch (args.cache.code) {
    case CacheCode::kFp8: return start(mla_prepare<CacheCode::kFp8>);
    case CacheCode::kInt8: return start(mla_prepare<CacheCode::kInt8>);
    case CacheCode::kInt4: return start(mla_prepare<CacheCode::kInt4>);
    case CacheCode::kPlain: break;
  }
  return start(mla_prepare<CacheCode::kPlain>);
}

}  // namespace dsopt_cuda
