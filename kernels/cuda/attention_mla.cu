// attention_mla.cu - absorbed latent attention (MLA, 512 + 64) over the paged cache (bf16 and codes), decode
// and prefill rows together: all heads of a row share one key, which is also the value. mma.sync, sm_80 and
// newer with 148 KiB of shared memory per CTA; attention_mla_wgmma.cu does it on sm_90a, attention_reference
// elsewhere.
#include "attention_mla.h"
#include "common/convert.cuh"
#include "common/launch.cuh"
#include "launch.h"

namespace dsopt_cuda {
namespace {

constexpr int kThreads = 256, kPairs = kMlaPairs, kKeys = 32, kStages = 2;
constexpr int kLatent = kMlaLatent, kRope = kMlaRope, kWidth = kLatent + kRope, kRowBytes = kWidth * 2, kChunks = kWidth / 8;
constexpr int kShared = (kPairs + kStages * kKeys) * kRowBytes;
constexpr int kPartial = kMlaPartial;  // floats per pair: outputs, maximum, sum

__device__ __forceinline__ uint32_t At(uint32_t base, int r, int c) { return base + r * kRowBytes + ((c ^ (r & 7)) << 4); }

// Expands tokens `token` .. + kKeys - 1 of a page to shared address `to`: `known` keys, then zeros.
template <CacheCode kCode>
__device__ __forceinline__ void LoadCodes(const char* page, int token, int known, uint32_t to) {
  using C = MlaCodes<kCode>;
  using Expander = CodeExpander<kCode>;
  constexpr int kRowChunks = C::kRowBytes / 16, kLatentChunks = C::kLatentBytes / 16;
  const uint32_t* words = reinterpret_cast<const uint32_t*>(page + C::kWordsAt) + token * C::kRowWords;
  const char* codes = page + token * C::kRowBytes;
#pragma unroll
  for (int j = 0; j < (kKeys * kRowChunks + kThreads - 1) / kThreads; ++j) {
    const int i = threadIdx.x + j * kThreads, r = i / kRowChunks, c = i % kRowChunks;
    if (i >= kKeys * kRowChunks) break;
    const int word = kCode == CacheCode::kInt4 ? c : c / kLatentChunks;
    uint4 packed = {0, 0, 0, 0};
    uint32_t w = 0;
    if (r < known) {  // what lies behind may be anything, NaNs too
      packed = *reinterpret_cast<const uint4*>(codes + i * 16);
      w = words[r * C::kRowWords + word];
    }
    const Expander expand(w);
#pragma unroll
    for (int v = 0; v < Expander::kVectors; ++v)
      StoreShared16(At(to, r, c * Expander::kVectors + v), expand.Vector(packed, v));
  }
}

// out[row, h] = softmax(scale q . c) c[:512]     q [rows, heads, 576]   out [rows, heads, 512]   bf16, f32 sums
// A tile is 64 (row, head) pairs of one sequence: with 128 heads half a row, with 16 heads four rows.
// bytes  keys * 1152 (fp8, int8: 584; int4: 360) per tile (L2; DRAM once per wave of tiles)
//        shared: K read twice per key block and warp pair
// grid   (splits, pair tiles, row tiles) x 256 threads, 147 KiB; 8 warps: 4 x 16 pairs, 2 halves of the outputs
//        both warps of a pair tile compute the same scores (1.5 times the minimum of work, no exchange)
//        coded: keys are expanded to bf16 by the threads that load them
// when   latent 512, rope 64; splits > 1 leave partials for mla_merge      bound: tensor cores
template <CacheCode kCode>
__global__ __launch_bounds__(kThreads) void attention_mla_paged(AttentionArgs a) {
  extern __shared__ __align__(128) char smem[];
  LetNextStart();
  WaitForPrevious();
  const int4 tile = a.tiles[blockIdx.z];
  const int first_row = tile.x, pairs = tile.y * a.q_heads, p0 = tile.z, pair0 = blockIdx.y * kPairs;
  if (pair0 >= pairs) return;
  const int count = min(kPairs, pairs - pair0);
  const int tid = threadIdx.x, warp = tid / 32, lane = tid % 32, warp_m = warp % 4 * 16, half = warp / 4;
  const int* pages = a.cache.page_table + a.cache.row_seq[first_row] * a.cache.page_stride;
  const int keys = p0 + (pair0 + count - 1) / a.q_heads + 1;  // of the tile's last row
  const int blocks = (keys + kKeys - 1) / kKeys;
  const int begin = static_cast<int>(static_cast<int64_t>(blocks) * blockIdx.x / gridDim.x);
  const int end = static_cast<int>(static_cast<int64_t>(blocks) * (blockIdx.x + 1) / gridDim.x);
  const uint32_t base_q = SmemAddress(smem), base_k = base_q + kPairs * kRowBytes;

  const bf16* q = static_cast<const bf16*>(a.q) + (static_cast<int64_t>(first_row) * a.q_heads + pair0) * kWidth;
  for (int i = tid; i < kPairs * kChunks; i += kThreads) {
    const int r = i / kChunks, c = i % kChunks;
    CopyAsync16(At(base_q, r, c), q + (r < count ? r : 0) * kWidth + c * 8, r < count);
  }
  const auto load = [&](int block, int stage) {
    const char* page = a.cache.base + static_cast<uint64_t>(pages[block * kKeys / kPageTokens]) * a.cache.page_bytes;
    if constexpr (kCode != CacheCode::kPlain) {
      LoadCodes<kCode>(page, block * kKeys % kPageTokens, keys - block * kKeys,
                       base_k + stage * kKeys * kRowBytes);
      return;
    }
    const char* k = page + block * kKeys % kPageTokens * kRowBytes;
    for (int i = tid; i < kKeys * kChunks; i += kThreads)
      CopyAsync16(At(base_k + stage * kKeys * kRowBytes, i / kChunks, i % kChunks), k + i * 16,
                  block * kKeys + i / kChunks < keys);  // what lies behind may be anything, NaNs too
  };
  if (begin < end) load(begin, 0);
  CopyAsyncCommit();

  const float c = a.scale * 1.4426950408889634f;
  int row_p[2];  // positions of this lane's two pairs
#pragma unroll
  for (int h = 0; h < 2; ++h) row_p[h] = p0 + (pair0 + warp_m + lane / 4 + 8 * h) / a.q_heads;
  float out[32][4] = {}, m[2] = {-INFINITY, -INFINITY}, l[2] = {};
  for (int block = begin; block < end; ++block) {
    const int stage = (block - begin) % kStages;
    __syncthreads();
    if (block + 1 < end) load(block + 1, stage ^ 1);
    CopyAsyncCommit();
    CopyAsyncWait<1>();
    __syncthreads();
    const uint32_t at_k = base_k + stage * kKeys * kRowBytes;
    float s[4][4] = {};
#pragma unroll 6
    for (int ks = 0; ks < kWidth / 16; ++ks) {
      const uint4 fq = LoadMatrix(At(base_q, warp_m + lane % 16, 2 * ks + lane / 16));
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const uint4 b = LoadMatrix(At(at_k, 16 * j + lane / 16 * 8 + lane % 8, 2 * ks + lane / 8 % 2));
        Mma(s[2 * j], fq.x, fq.y, fq.z, fq.w, b.x, b.y);
        Mma(s[2 * j + 1], fq.x, fq.y, fq.z, fq.w, b.z, b.w);
      }
    }
    const int key0 = block * kKeys;
    if (key0 + kKeys - 1 > p0) {
#pragma unroll
      for (int j = 0; j < 4; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e)
          if (key0 + 8 * j + lane % 4 * 2 + e % 2 > row_p[e / 2]) s[j][e] = -INFINITY;
    }
    uint32_t pa[4][2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float peak = m[h];
#pragma unroll
      for (int j = 0; j < 4; ++j) peak = fmaxf(peak, fmaxf(s[j][2 * h], s[j][2 * h + 1]));
      peak = fmaxf(peak, __shfl_xor_sync(~0u, peak, 1));
      peak = fmaxf(peak, __shfl_xor_sync(~0u, peak, 2));
      const float safe = peak == -INFINITY ? 0.0f : peak;
      const float fade = Exp2((m[h] - safe) * c);
      m[h] = peak;
      l[h] *= fade;
#pragma unroll
      for (int j = 0; j < 32; ++j) {
        out[j][2 * h] *= fade;
        out[j][2 * h + 1] *= fade;
      }
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float e0 = Exp2((s[j][2 * h] - safe) * c), e1 = Exp2((s[j][2 * h + 1] - safe) * c);
        pa[j][h] = PackBf16(e0, e1);
        l[h] += __uint_as_float(pa[j][h] << 16) + __uint_as_float(pa[j][h] & 0xffff0000u);
      }
    }
#pragma unroll
    for (int kk = 0; kk < 2; ++kk) {
#pragma unroll
      for (int d = 0; d < 16; ++d) {
        const uint4 b = LoadMatrixTransposed(
            At(at_k, 16 * kk + lane / 8 % 2 * 8 + lane % 8, half * 32 + 2 * d + lane / 16));
        Mma(out[2 * d], pa[2 * kk][0], pa[2 * kk][1], pa[2 * kk + 1][0], pa[2 * kk + 1][1], b.x, b.y);
        Mma(out[2 * d + 1], pa[2 * kk][0], pa[2 * kk][1], pa[2 * kk + 1][0], pa[2 * kk + 1][1], b.z, b.w);
      }
    }
  }
  const int64_t work = (static_cast<int64_t>(blockIdx.z) * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    l[h] += __shfl_xor_sync(~0u, l[h], 1);
    l[h] += __shfl_xor_sync(~0u, l[h], 2);
    const int r = warp_m + lane / 4 + 8 * h;
    if (r >= count) continue;
    if (gridDim.x == 1) {
      const float inverse = 1.0f / l[h];
      bf16* to = static_cast<bf16*>(a.out) + (static_cast<int64_t>(first_row) * a.q_heads + pair0 + r) * kLatent + half * 256;
#pragma unroll
      for (int j = 0; j < 32; ++j)
        *reinterpret_cast<uint32_t*>(to + 8 * j + lane % 4 * 2) =
            PackBf16(out[j][2 * h] * inverse, out[j][2 * h + 1] * inverse);
      continue;
    }
    float* to = a.partial + (work * kPairs + r) * kPartial;
#pragma unroll
    for (int j = 0; j < 32; ++j)
      *reinterpret_cast<float2*>(to + half * 256 + 8 * j + lane % 4 * 2) = {out[j][2 * h], out[j][2 * h + 1]};
    if (half == 0 && lane % 4 == 0) {
      to[kLatent] = m[h];
      to[kLatent + 1] = l[h];
    }
  }
}

// Merges the splits of a (row, head) pair.
// bytes  splits * 2056 per pair (L2)     bound: latency
// grid   (pair tiles x 64, row tiles) x 256 threads, one CTA per pair, two outputs per thread
__global__ __launch_bounds__(256) void mla_merge(AttentionArgs a, int splits, int pair_tiles) {
  __shared__ float factors[1024];
  __shared__ float inverse;
  LetNextStart();
  WaitForPrevious();
  const int4 tile = a.tiles[blockIdx.y];
  const int pair = blockIdx.x, pair_tile = pair / kPairs, lane = threadIdx.x % 32;
  if (pair >= tile.y * a.q_heads) return;
  const float c = a.scale * 1.4426950408889634f;
  const int64_t step = static_cast<int64_t>(kPairs) * kPartial;
  const float* all = a.partial + (static_cast<int64_t>(blockIdx.y) * pair_tiles + pair_tile) * splits * step +
                     pair % kPairs * kPartial;
  if (threadIdx.x < 32) {
    float m = -INFINITY, l = 0;
    for (int s = lane; s < splits; s += 32) m = fmaxf(m, all[s * step + kLatent]);
    m = WarpMax(m);
    for (int s = lane; s < splits; s += 32) {
      const float peak = all[s * step + kLatent], f = peak == -INFINITY ? 0.0f : Exp2((peak - m) * c);
      factors[s] = f;
      l = fmaf(all[s * step + kLatent + 1], f, l);
    }
    l = WarpSum(l);
    if (lane == 0) inverse = 1.0f / l;
  }
  __syncthreads();
  float o0 = 0, o1 = 0;
#pragma unroll 8
  for (int s = 0; s < splits; ++s) {
    const float2 p = *reinterpret_cast<const float2*>(all + s * step + 2 * threadIdx.x);
    o0 = fmaf(p.x, factors[s], o0);
    o1 = fmaf(p.y, factors[s], o1);
  }
  uint32_t* to = reinterpret_cast<uint32_t*>(static_cast<bf16*>(a.out) + (static_cast<int64_t>(tile.x) * a.q_heads + pair) * kLatent);
  to[threadIdx.x] = PackBf16(o0 * inverse, o1 * inverse);
}

}  // namespace

bool MlaSupported(const Limits& limits, int heads, int latent, int rope_dim) {
  return heads >= 1 && latent == kLatent && rope_dim == kRope && limits.shared_bytes >= kShared;
}

uint64_t MlaPartialFloats(const Limits& limits, int heads, int latent) {
  (void)heads;
  (void)latent;
  return static_cast<uint64_t>(limits.sms) * kPairs * kPartial;
}

cudaError_t AttentionMla(const Launch& launch, const AttentionArgs& args) {
  // rows per tile are at most args.rows and kPrefillRows; empty pair tiles leave at once
  const int most = args.rows < kPrefillRows ? args.rows : kPrefillRows;
  const int widest = args.decode_count > 0 ? 1 : most;  // decode_count > 0: every tile is one row
  const int pair_tiles = (widest * args.q_heads + kPairs - 1) / kPairs;
  if (MlaWgmmaSupported(*launch.limits)) return AttentionMlaWgmma(launch, args, pair_tiles);
  const int works = pair_tiles * args.tile_count;
  int splits = launch.limits->sms / (works > 0 ? works : 1);
  const int useful = (args.longest_decode + 2 * kKeys - 1) / (2 * kKeys);
  if (splits > useful) splits = useful;
  if (splits > 1024) splits = 1024;  // mla_merge keeps their factors in shared memory
  if (splits < 1) splits = 1;
  const dim3 grid(static_cast<unsigned>(splits), static_cast<unsigned>(pair_tiles),
                  static_cast<unsigned>(args.tile_count));
  const auto start = [&](void (*kernel)(AttentionArgs)) {
    return StartLarge(launch, kernel, grid, dim3(kThreads), kShared, args);
  };
  const CacheCode code = args.cache.code;
  const cudaError_t error = code == CacheCode::kFp8    ? start(attention_mla_paged<CacheCode::kFp8>)
                            : code == CacheCode::kInt8 ? start(attention_mla_paged<CacheCode::kInt8>)
                            : code == CacheCode::kInt4 ? start(attention_mla_paged<CacheCode::kInt4>)
                                                       : start(attention_mla_paged<CacheCode::kPlain>);
  if (error != cudaSuccess || splits == 1) return error;
  return Start(launch, mla_merge, dim3(static_cast<unsigned>(pair_tiles * kPairs), static_cast<unsigned>(args.tile_count)),
               dim3(256), 0, args, splits, pair_tiles);
}

}  // namespace dsopt_cuda
