// attention_decode.cu - attention of single rows over the paged cache (bf16 and codes): the keys of a row are
// split over the whole GPU and merged inside the same kernel by whichever CTA finishes last. Head dimensions 64
// and 128.
#include <type_traits>

#include "common/attention_coded.cuh"
#include "common/convert.cuh"
#include "common/launch.cuh"
#include "launch.h"

namespace dsopt_cuda {
namespace {

constexpr int kHeads = kDecodeHeads;

// A warp has a ring of stages as they lie in the cache: groups of 16 tokens.
template <int kDim, CacheCode kCode>
struct Geometry {
  static constexpr bool kCoded = kCode != CacheCode::kPlain, kInt4 = kCode == CacheCode::kInt4;
  static constexpr int kWarps = kInt4 ? 8 : 4;
  static constexpr int kStages = kCoded ? 4 : 3;
  // Of K, and of V; then the words of both.
  static constexpr int kGroupBytes =
      kInt4 ? Int4Planes<kDim>::kTileBytes : kGroupTokens * kDim * (kCoded ? 1 : 2);
  static constexpr int kWordBytes = kCoded ? kGroupTokens * CodeWords<kCode>(kDim) * 4 : 0;
  static constexpr int kStageBytes = 2 * (kGroupBytes + kWordBytes);
  static constexpr int kRingBytes = kWarps * kStages * kStageBytes;
  static constexpr int kPitch = kDim + 4;
  static constexpr int kPartial = kHeads * (kDim + 2);  // floats: outputs, then maxima, then sums
  static_assert(kWarps * kHeads * (kPitch + 2) * 4 <= kRingBytes);
};

// What a lane copies of 16 tokens of a KV head: codes of K and V, then their words.
template <int kDim, CacheCode kCode>
struct CodeCopies {
  using G = Geometry<kDim, kCode>;
  static constexpr int kVectorBytes = CodeBytes<kCode>(kDim), kVectorWords = CodeWords<kCode>(kDim) * 4;
  static constexpr int kChunks = G::kWordBytes / 16;
  // A token's chunks follow each other, or are dealt over planes.
  static constexpr int kGroups = G::kInt4 ? Int4Planes<kDim>::kGroups : 1,
                       kPlane = G::kInt4 ? Int4Planes<kDim>::kPlane : 0;
  int codes[2], words, place;  // from the page on, of token 0; in shared memory
  bool has_words;

  __device__ CodeCopies(const AttentionArgs& a, int kv_head, int lane)
      : place(lane % kGroups * kPlane + lane / kGroups * 16), has_words(lane < 2 * kChunks) {
    const int all = a.kv_heads * kPageTokens, first = kv_head * kPageTokens;
#pragma unroll
    for (int part = 0; part < 2; ++part) codes[part] = (first + part * all) * kVectorBytes + lane * 16;
    words = 2 * all * kVectorBytes + (first + lane / kChunks * all) * kVectorWords + lane % kChunks * 16;
  }
  // To the stage at shared address `to`.
  __device__ __forceinline__ void Copy(const char* page, int token, int lane, uint32_t to) const {
#pragma unroll
    for (int part = 0; part < 2; ++part)
#pragma unroll
      for (int i = 0; i < kGroupTokens * kVectorBytes / 512; ++i)
        CopyAsync16(to + place + part * G::kGroupBytes + i * (512 / kGroups),
                    page + codes[part] + token * kVectorBytes + i * 512, true);
    if (has_words)
      CopyAsync16(to + lane * 16 + 2 * G::kGroupBytes, page + words + token * kVectorWords, true);
  }
};

// out[row, h] = softmax(scale q . K) V, one row per z
// q, out [rows, q_heads, kDim]   cache pages [kv_heads, 64, kDim] K then V, bf16; coded: see dsopt_program_desc
// bytes  keys * kDim * 4 per KV head (DRAM, once: up to 8 query heads share a read)      bound: DRAM
//        merge: splits * 8 * (kDim + 2) * 8 per KV head (L2)
// grid   (splits, KV heads x parts of 8 query heads, rows) x 128 threads (int4: 256); splits fill 2 CTAs per SM
//        96 KiB (128) or 48 KiB (64): each warp keeps 2 of its 3 groups of 16 tokens in flight with cp.async;
//        fp8 and int8 66 or 34 KiB, int4 88 or 48 KiB, 3 of 4. int4 has most instructions per byte, so more
//        warps
template <int kDim, CacheCode kCode>
__global__ __launch_bounds__(32 * Geometry<kDim, kCode>::kWarps) void attention_decode_paged(AttentionArgs a,
                                                                                             int parts) {
  using G = Geometry<kDim, kCode>;
  constexpr int kWarps = G::kWarps;
  extern __shared__ __align__(128) char smem[];
  __shared__ uint32_t ticket;
  LetNextStart();
  WaitForPrevious();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int split = blockIdx.x, splits = gridDim.x, row = a.decode_rows[blockIdx.z];
  const int kv_head = blockIdx.y / parts, group = a.q_heads / a.kv_heads;
  const int head0 = kv_head * group + blockIdx.y % parts * kHeads;
  const int heads = min(kHeads, (kv_head + 1) * group - head0);
  const int position = a.cache.positions[row];
  const int first = a.window > 0 && position + 1 > a.window ? position + 1 - a.window : 0;
  const int* pages = a.cache.page_table + a.cache.row_seq[row] * a.cache.page_stride;
  const int group0 = first / kGroupTokens, groups = position / kGroupTokens + 1 - group0;
  const int begin = group0 + static_cast<int>(static_cast<int64_t>(groups) * split / splits);
  const int end = group0 + static_cast<int>(static_cast<int64_t>(groups) * (split + 1) / splits);

  const uint32_t ring = SmemAddress(smem) + warp * G::kStages * G::kStageBytes;
  const CodeCopies<kDim, G::kCoded ? kCode : CacheCode::kFp8> copies(a, kv_head, lane);  // of codes only
  const auto load = [&](int g, int stage) {
    if (g < end) {
      const char* page = a.cache.base + static_cast<uint64_t>(pages[g / 4]) * a.cache.page_bytes;
      const uint32_t to = ring + stage * G::kStageBytes;
      if constexpr (G::kCoded) {
        copies.Copy(page, g % 4 * kGroupTokens, lane, to);
      } else {
        const char* k = page + (static_cast<int64_t>(kv_head) * kPageTokens + g % 4 * kGroupTokens) * kDim * 2;
        const char* v = k + a.value_offset * 2;
        // What lies behind the row's position may be anything, NaNs too, and zero times NaN is not zero.
        const int known = (position + 1 - g * kGroupTokens) * (kDim / 8);
#pragma unroll
        for (int i = 0; i < G::kGroupBytes / 512; ++i)
          CopyAsync16(to + (i * 32 + lane) * 16, k + (i * 32 + lane) * 16, true);
#pragma unroll
        for (int i = 0; i < G::kGroupBytes / 512; ++i)
          CopyAsync16(to + G::kGroupBytes + (i * 32 + lane) * 16, v + (i * 32 + lane) * 16, i * 32 + lane < known);
      }
    }
    CopyAsyncCommit();
  };
  int g = begin + warp;
#pragma unroll
  for (int s = 0; s < G::kStages - 1; ++s) load(g + s * kWarps, s);

  using State =
      std::conditional_t<G::kInt4, Int4AttentionWarp<kDim, Int4Planes<kDim>>, CacheWarp<kDim, kCode>>;
  State state;
  state.Reset();
  {
    const bf16* q = static_cast<const bf16*>(a.q) + (static_cast<int64_t>(row) * a.q_heads + head0 + lane / 4) * kDim;
    const bool real = lane / 4 < heads;
    const auto low = [](uint32_t pair) { return __uint_as_float(pair << 16); };
    const auto high = [](uint32_t pair) { return __uint_as_float(pair & 0xffff0000u); };
    if constexpr (G::kInt4) {
#pragma unroll
      for (int j = 0; j < kDim / 32; ++j) {
        uint4 v = {0, 0, 0, 0};
        if (real) v = __ldcg(reinterpret_cast<const uint4*>(q + 32 * j + lane % 4 * 8));
        const float x[8] = {low(v.x), high(v.x), low(v.y), high(v.y), low(v.z), high(v.z), low(v.w), high(v.w)};
        state.SetQuery(j, x, lane);
      }
    } else if constexpr (G::kCoded) {
#pragma unroll
      for (int j = 0; j < kDim / 16; ++j) {
        const int h = j / 4, i = j % 4;
        uint2 v = {0, 0};
        if (real) v = __ldcg(reinterpret_cast<const uint2*>(q + 64 * h + lane % 4 * 16 + 4 * i));
        state.SetQuery(h, i, {low(v.x), high(v.x), low(v.y), high(v.y)});
      }
    } else {
#pragma unroll
      for (int j = 0; j < kDim / 32; ++j)
        state.q[j] = real ? __ldcg(reinterpret_cast<const uint4*>(q + 32 * j + lane % 4 * 8)) : uint4{0, 0, 0, 0};
    }
  }
  const float c = a.scale * 1.4426950408889634f;
  for (int i = 0; g < end; g += kWarps, ++i) {
    CopyAsyncWait<G::kStages - 2>();
    __syncwarp();
    load(g + (G::kStages - 1) * kWarps, (i + G::kStages - 1) % G::kStages);
    const uint32_t k = ring + i % G::kStages * G::kStageBytes, v = k + G::kGroupBytes;
    const int low = first - g * kGroupTokens, high = position + 1 - g * kGroupTokens;
    float s[4];
    const uint32_t words = v + G::kGroupBytes;
    if constexpr (G::kInt4) {
      uint2 p[State::kGroups];
      state.Scores(k, words, lane, s);
      state.Softmax(s, words + G::kWordBytes, c, low, high, lane, p);
      state.Values(v, lane, p);
    } else if constexpr (G::kCoded) {
      state.Scores(k, words, lane, s);
      const uint2 p = state.Softmax(s, words + G::kWordBytes, c, low, high, lane);
      state.Values(v, lane, p);
    } else {
      state.Scores(k, lane, s);
      const uint2 p = state.Softmax(s, c, low, high, lane);
      state.Values(v, lane, p);
    }
    __syncwarp();
  }
  CopyAsyncWait<0>();
  __syncthreads();

  // The warps of the CTA meet in shared memory.
  float* outs = reinterpret_cast<float*>(smem);  // [warp][head][kPitch]
  float* peaks = outs + kWarps * kHeads * G::kPitch;  // [warp][head]
  float* totals = peaks + kWarps * kHeads;
  state.SumLanes();
#pragma unroll
  for (int x = 0; x < 2; ++x) {
    const int at = warp * kHeads + lane % 4 * 2 + x;
    if (lane < 4) {
      peaks[at] = state.m[x];
      totals[at] = state.l[x];
    }
#pragma unroll
    for (int r = 0; r < State::kOuts; ++r) {
#pragma unroll
      for (int half = 0; half < 2; ++half)
        outs[at * G::kPitch + State::DimensionOf(r, half, lane)] = state.Output(r, half, x);
    }
  }
  __syncthreads();
  const int64_t work = static_cast<int64_t>(blockIdx.z) * gridDim.y + blockIdx.y;
  float* partial = a.partial + (work * splits + split) * G::kPartial;
  const auto store = [&](int head, int d, float v) {
    const int64_t at = a.out_layout.At(row, (head0 + head) * kDim + d);
    if (a.out_bf16) static_cast<bf16*>(a.out)[at] = __float2bfloat16(v);
    else static_cast<float*>(a.out)[at] = v;
  };
  for (int e = threadIdx.x; e < heads * kDim; e += 32 * kWarps) {
    const int head = e / kDim, d = e % kDim;
    float m = -INFINITY, l = 0, o = 0;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) m = fmaxf(m, peaks[w * kHeads + head]);
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      const float peak = peaks[w * kHeads + head], f = peak == -INFINITY ? 0.0f : Exp2((peak - m) * c);
      l = fmaf(totals[w * kHeads + head], f, l);
      o = fmaf(outs[(w * kHeads + head) * G::kPitch + d], f, o);
    }
    if (splits == 1) {
      store(head, d, o / l);
      continue;
    }
    partial[e] = o;
    if (d == 0) {
      partial[kHeads * kDim + head] = m;
      partial[kHeads * kDim + kHeads + head] = l;
    }
  }
  if (splits == 1) return;

  // The last CTA of this row and KV head merges all of them.
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) ticket = atomicAdd(a.arrived + work, 1);
  __syncthreads();
  if (ticket != static_cast<uint32_t>(splits - 1)) return;
  __threadfence();
  // First the splits' factors, so that the outputs' loads wait for nothing.
  const float* all = a.partial + work * splits * G::kPartial;
  float* factors = reinterpret_cast<float*>(smem);  // [head][splits], then 1 / sum of the head
  for (int head = warp; head < heads; head += kWarps) {
    float m = -INFINITY, l = 0;
    for (int s = lane; s < splits; s += 32) m = fmaxf(m, __ldcg(all + s * G::kPartial + kHeads * kDim + head));
    m = WarpMax(m);
    for (int s = lane; s < splits; s += 32) {
      const float* p = all + s * G::kPartial + kHeads * kDim + head;
      const float peak = __ldcg(p), f = peak == -INFINITY ? 0.0f : Exp2((peak - m) * c);
      factors[head * splits + s] = f;
      l = fmaf(__ldcg(p + kHeads), f, l);
    }
    l = WarpSum(l);
    if (lane == 0) factors[kHeads * splits + head] = 1.0f / l;
  }
  __syncthreads();
  for (int e = threadIdx.x; e < heads * kDim; e += 32 * kWarps) {
    const int head = e / kDim, d = e % kDim;
    float o = 0;
#pragma unroll 8
    for (int s = 0; s < splits; ++s) o = fmaf(__ldcg(all + s * G::kPartial + e), factors[head * splits + s], o);
    store(head, d, o * factors[kHeads * splits + head]);
  }
  if (threadIdx.x == 0) a.arrived[work] = 0;
}

int Splits(const Limits& limits, int works, int longest, int warps) {
  const int target = 2 * limits.sms;
  int splits = target / (works > 0 ? works : 1);
  const int useful = (longest + kGroupTokens * warps - 1) / (kGroupTokens * warps);
  if (splits > useful) splits = useful;
  return splits > 1 ? splits : 1;
}

template <int kDim, CacheCode kCode>
cudaError_t StartDecode(const Launch& launch, const AttentionArgs& args) {
  using G = Geometry<kDim, kCode>;
  const int parts = DecodeParts(args.q_heads, args.kv_heads);
  const int works = args.kv_heads * parts * args.decode_count;
  const int splits = Splits(*launch.limits, works, args.longest_decode, G::kWarps);
  const dim3 grid(static_cast<unsigned>(splits), static_cast<unsigned>(args.kv_heads * parts),
                  static_cast<unsigned>(args.decode_count));
  return StartLarge(launch, attention_decode_paged<kDim, kCode>, grid, dim3(32 * G::kWarps), G::kRingBytes,
                    args, parts);
}

template <CacheCode kCode>
cudaError_t StartDecode(const Launch& launch, const AttentionArgs& args) {
  return args.q_dim == 64 ? StartDecode<64, kCode>(launch, args) : StartDecode<128, kCode>(launch, args);
}

}  // namespace

bool AttentionSupported(int head_dim) { return head_dim == 64 || head_dim == 128; }

uint64_t DecodeCounters(const Limits& limits, int max_rows, int q_heads, int kv_heads) {
  const uint64_t works = static_cast<uint64_t>(max_rows) * static_cast<uint64_t>(kv_heads * DecodeParts(q_heads, kv_heads));
  const uint64_t ring = DecodeRingCounters(limits);
  return works > ring ? works : ring;
}

uint64_t DecodePartialFloats(const Limits& limits, int max_rows, int q_heads, int kv_heads, int head_dim) {
  (void)max_rows;  // a work item is split only while all items together make fewer than 2 CTAs per SM
  (void)q_heads;
  (void)kv_heads;
  return static_cast<uint64_t>(2 * limits.sms) * static_cast<uint64_t>(kHeads * (head_dim + 2));
}

cudaError_t AttentionDecode(const Launch& launch, const AttentionArgs& args) {
  if (DecodeRingSupported(*launch.limits, args.cache.code, args.decode_count, args.q_heads, args.kv_heads,
                          args.longest_decode))
    return AttentionDecodeRing(launch, args);
  switch (args.cache.code) {
    case CacheCode::kFp8: return StartDecode<CacheCode::kFp8>(launch, args);
    case CacheCode::kInt8: return StartDecode<CacheCode::kInt8>(launch, args);
    case CacheCode::kInt4: return StartDecode<CacheCode::kInt4>(launch, args);
    case CacheCode::kPlain: break;
  }
  return StartDecode<CacheCode::kPlain>(launch, args);
}

}  // namespace dsopt_cuda
