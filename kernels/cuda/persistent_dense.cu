// persistent_dense.cu - one decode step as one kernel, one CTA per SM, for batch 1.
//
// A producer warp streams this CTA's weight rows and cache pages with bulk copies into a ring of shared memory. Weights
// and past cache entries are immutable, so it never waits for a phase: it runs ahead until the ring is full, which hides
// every hand-over between phases behind copies that have landed. Copies *in flight* are limited (kWindow near a
// hand-over, kDeep inside a phase), because fences, polls and activation loads queue behind them.
// Eight consumer warps keep the activation vector in registers: a weight costs one shared-memory read, a convert and
// an FMA. Phases per layer: qkv | attention | out + residual | gate/up | down + residual; then the head.
// Hand-over ("hybrid"): outputs start as a NaN marker; writers store relaxed and bump a relaxed counter (a hint, no
// fence); readers wait for the hint, load, and reload only words that still hold the marker.
// Attention: the cached pages of all KV heads are one line cut into equal ranges, one per CTA;
// S^T = K Q^T and O^T = V^T P^T on tensor cores; partial results go to global memory, where the first CTA of a KV head
// merges them, adds the current token (which is not in the cache yet), and appends that token's k and v.
//
// bytes   all weights once, the cache once, activations ~0.1 % of that through L2
// grid    SMs x 320 threads (8 consumer warps, 1 producer, 1 that re-marks the next step's activations)
// bound   DRAM. RMSNorm takes no pass: the gain is multiplied into the activations, 1/rms in the epilogue.
#include <algorithm>

#include "common/convert.cuh"
#include "common/ptx.cuh"
#include "persistent_dense.h"

namespace dsopt_cuda {
namespace {

constexpr int kConsumerWarps = 8, kConsumers = kConsumerWarps * 32, kThreads = kConsumers + 64;
constexpr int kChunk = 2048, kVec = kChunk / kConsumers;  // columns of a chunk, and of one thread in it
constexpr int kBatchRows = 8;                             // rows that share one cross-lane reduction
constexpr int kPartRows = 16;                             // rows of one epilogue
constexpr int kGroup = 16;                                // tokens of one warp step
constexpr int kPartialSets = 4;                           // layers whose partial results may coexist
constexpr uint32_t kUnwritten = 0xffffffffu;              // a NaN that arithmetic never produces

template <int kHidden_, int kInner_, int kHeadDim_, int kQHeads_, int kKvHeads_, int kSlotKb_, int kSlots_, int kWindow_,
          int kDeep_>
struct Shape {
  static constexpr int kHidden = kHidden_, kInner = kInner_, kHeadDim = kHeadDim_, kQHeads = kQHeads_;
  static constexpr int kKvHeads = kKvHeads_, kSlots = kSlots_, kWindow = kWindow_, kDeep = kDeep_;
  static constexpr int kSlotBytes = kSlotKb_ * 1024;
  static constexpr int kG = kQHeads / kKvHeads, kQDim = kQHeads * kHeadDim, kKvDim = kKvHeads * kHeadDim;
  static constexpr int kQkvRows = kQDim + 2 * kKvDim;
  static constexpr int kPageHalf = kPageTokens * kHeadDim * 2;  // K (or V) of one head in one page
  static_assert(2 * kPageHalf <= kSlotBytes && kG <= 8 && kHidden % kChunk == 0 && kInner % kChunk == 0);
  // Activations of one layer, f32.
  static constexpr size_t kQkv = 0, kAttention = kQkvRows, kMiddle = kAttention + kQDim, kGated = kMiddle + kHidden;
  static constexpr size_t kOut = kGated + kInner, kLayer = kOut + kHidden;
  // Shared memory.
  static constexpr int kMergeRow = kHeadDim + 4;
  static constexpr int kMergeAt = kSlots * kSlotBytes, kMaxSumAt = kMergeAt + kConsumerWarps * kG * kMergeRow * 4;
  static constexpr int kPartAt = kMaxSumAt + kConsumerWarps * kG * 8;
  static constexpr int kSquaresAt = kPartAt + 2 * kPartRows * kConsumerWarps * 4;
  static constexpr int kBarriersAt = kSquaresAt + 2 * kConsumerWarps * 4;
  static constexpr int kRopeAt = kBarriersAt + 2 * kSlots * 8;
  static constexpr int kTokenAt = kRopeAt + kHeadDim / 2 * 8;  // current token: k, v (raw), scores of the group
  static constexpr int kShared = kTokenAt + (2 * kHeadDim + 8) * 4;
  static_assert(kShared <= 227 * 1024);
};
using Mistral7b = Shape<4096, 14336, 128, 32, 8, 32, 6, 2, 4>;  // and Llama-3-8B
using Llama1b = Shape<2048, 8192, 64, 32, 8, 16, 13, 3, 5>;
using Llama70b = Shape<8192, 28672, 128, 64, 8, 32, 5, 2, 4>;

enum class Phase { kQkv, kOut, kGateUp, kDown, kHead };

template <typename S, Phase kP>
struct Gemv {
  static constexpr int kK = kP == Phase::kDown ? S::kInner : kP == Phase::kOut ? S::kQDim : S::kHidden;
  static constexpr int kUnitRows = kP == Phase::kGateUp ? 2 : 1;
  static constexpr bool kNorm = kP == Phase::kQkv || kP == Phase::kGateUp || kP == Phase::kHead;
  static constexpr bool kResidual = kP == Phase::kOut || kP == Phase::kDown;
  static constexpr int kFit = S::kSlotBytes / (kK * 2);
  static constexpr int kSplit = kFit >= 1 ? 1 : 2;  // tiles per row
  static constexpr int kTileRows = kFit >= 8 ? 8 : kFit >= 4 ? 4 : kFit >= 2 ? 2 : 1;
  static_assert(kK % (kChunk * kSplit) == 0 && kK / kSplit * 2 <= S::kSlotBytes);
};

// Contiguous units of a CTA. What does not divide evenly rotates over the CTAs from layer to layer.
struct Slice {
  int first, count;
};
__device__ __forceinline__ Slice SliceOf(int units, int layer, int cta, int ctas) {
  const int base = units / ctas, extra = units % ctas, j = (cta + layer * extra) % ctas;
  return {j * base + min(j, extra), base + (j < extra ? 1 : 0)};
}

__device__ __forceinline__ bool Unwritten(float v) { return __float_as_uint(v) == kUnwritten; }
__device__ __forceinline__ bool Unwritten(float4 v) {
  return Unwritten(v.x) || Unwritten(v.y) || Unwritten(v.z) || Unwritten(v.w);
}
__device__ __forceinline__ float Rounded(float v) { return __bfloat162float(__float2bfloat16(v)); }
template <typename S>
struct Cta {
  char* shared;
  const DenseStep& step;
  int vocab, layers, cta, ctas;

  __device__ uint32_t slot(int i) const { return SmemAddress(shared) + static_cast<uint32_t>(i * S::kSlotBytes); }
  __device__ uint32_t full(int i) const { return SmemAddress(shared) + static_cast<uint32_t>(S::kBarriersAt + 8 * i); }
  __device__ uint32_t empty(int i) const { return full(S::kSlots + i); }
  __device__ float* floats(int at) const { return reinterpret_cast<float*>(shared + at); }
  __device__ float2* rope() const { return reinterpret_cast<float2*>(shared + S::kRopeAt); }

  __device__ static size_t step_floats(int layers) { return S::kLayer * static_cast<size_t>(layers); }
  __device__ float* layer_activations(int layer) const {
    return step.activations + (step.step & 1) * step_floats(layers) + static_cast<size_t>(layer) * S::kLayer;
  }
  template <Phase kP>
  __device__ int units() const {
    return kP == Phase::kQkv ? S::kQkvRows : kP == Phase::kGateUp ? S::kInner : kP == Phase::kHead ? vocab : S::kHidden;
  }
};

// The pages of a CTA, one KV head after the other. Positions first .. end-1 are in the cache. `share` is the CTA's turn
// in this layer: turns rotate from layer to layer, because pages rarely divide evenly over the CTAs.
template <typename S>
struct Walk {
  int first_page, per_head, groups, at, end, head, page, count;

  __device__ static int Turn(int layer, int cta, int ctas) { return (cta + layer * 61) % ctas; }
  __device__ static int Start(int per_head, int share, int ctas) {
    return static_cast<int>(static_cast<uint32_t>(per_head * S::kKvHeads) * static_cast<uint32_t>(share) /
                            static_cast<uint32_t>(ctas));
  }
  __device__ Walk(int first_position, int end_position, int share, int ctas) {
    first_page = first_position / kPageTokens;
    per_head = (end_position + kPageTokens - 1) / kPageTokens - first_page;
    groups = (end_position + kGroup - 1) / kGroup;
    at = Start(per_head, share, ctas);
    end = Start(per_head, share + 1, ctas);
    head = per_head > 0 ? at / per_head : 0;
    page = at - head * per_head;
    Size();
  }
  __device__ int absolute() const { return first_page + page; }              // in the sequence
  __device__ void Size() { count = min(4, groups - absolute() * 4); }        // groups of the page that hold tokens
  __device__ bool more() const { return at < end; }
  __device__ void Next() {
    ++at;
    if (++page == per_head) {
      page = 0;
      ++head;
    }
    Size();
  }
};

// The shares of a KV head: bit i of `on` is share base + i; `second`: the head is that share's second one.
template <typename S>
struct Sharers {
  int base;
  uint32_t on, second;
  __device__ Sharers(int per_head, int head, int ctas, int lane) {
    base = max(head * ctas / S::kKvHeads - 1, 0);
    const int other = base + lane, low = Walk<S>::Start(per_head, other, ctas);
    const int high = Walk<S>::Start(per_head, other + 1, ctas);
    const int head_low = head * per_head, head_high = head_low + per_head;
    const bool in = other < ctas && low < head_high && high > head_low && high > low;
    on = __ballot_sync(~0u, in);
    second = __ballot_sync(~0u, in && low < head_low);
  }
  // The share that merges the head.
  __device__ int merger(int head) const { return on != 0 ? base + __ffs(on) - 1 : head; }
};

__device__ __forceinline__ int FirstPosition(int position, int window) {
  return window > 0 ? max(0, position + 1 - window) : 0;
}

// ---- producer (one lane) ------------------------------------------------------------------------------

template <typename S>
struct Producer {
  Cta<S> my;
  uint64_t policy;
  int slot = 0, landing = 0, in_flight = 0;
  uint32_t parity = 0, landing_parity = 0;

  // Makes the next slot ours and keeps at most window - 1 other copies in flight.
  __device__ uint32_t Acquire(int window) {
    BarrierWait(my.empty(slot), parity ^ 1);
    for (; in_flight >= window; --in_flight) {
      BarrierWait(my.full(landing), landing_parity);
      if (++landing == S::kSlots) {
        landing = 0;
        landing_parity ^= 1;
      }
    }
    ++in_flight;
    return my.full(slot);
  }
  __device__ void Advance() {
    if (++slot == S::kSlots) {
      slot = 0;
      parity ^= 1;
    }
  }
  template <Phase kP>
  __device__ void Rows(const void* weights, int layer) {
    using G = Gemv<S, kP>;
    const Slice slice = SliceOf(my.template units<kP>(), layer, my.cta, my.ctas);
    const char* w = static_cast<const char*>(weights) + static_cast<size_t>(slice.first) * G::kUnitRows * G::kK * 2;
    int left = slice.count * G::kUnitRows * G::kSplit;  // in rows, or in parts of rows
    constexpr int kStep = G::kSplit > 1 ? 1 : G::kTileRows;
    constexpr int kRowBytes = G::kK * 2 / G::kSplit;
    for (int tile = 0; left > 0; ++tile, left -= kStep, w += kStep * kRowBytes) {
      // Once tile kSlots of a phase can be issued the consumers have begun the phase: its hand-over is over.
      const uint32_t barrier = Acquire(tile < S::kSlots ? S::kWindow : S::kDeep);
      const uint32_t bytes = static_cast<uint32_t>(min(kStep, left) * kRowBytes);
      BarrierExpect(barrier, bytes);
      BulkLoad(my.slot(slot), w, bytes, barrier, policy);
      Advance();
    }
  }
  __device__ void Cache(const DenseLayer& layer, int index, int position) {
    Walk<S> walk(FirstPosition(position, layer.window), position, Walk<S>::Turn(index, my.cta, my.ctas), my.ctas);
    if (!walk.more()) return;
    const char* base = my.step.cache + layer.cache_offset;
    int page = __ldg(my.step.pages + walk.absolute());
    for (int tile = 0; walk.more(); ++tile) {
      const char* from =
          base + static_cast<uint64_t>(page) * my.step.page_bytes + static_cast<size_t>(walk.head) * S::kPageHalf;
      const uint32_t bytes = static_cast<uint32_t>(walk.count * kGroup * S::kHeadDim * 2);
      walk.Next();
      if (walk.more()) page = __ldg(my.step.pages + walk.absolute());  // lands while we wait for a slot
      const uint32_t barrier = Acquire(tile < S::kSlots ? S::kWindow : S::kDeep);
      BarrierExpect(barrier, 2 * bytes);
      BulkLoad(my.slot(slot), from, bytes, barrier, policy);
      BulkLoad(my.slot(slot) + S::kPageHalf, from + static_cast<size_t>(S::kKvHeads) * S::kPageHalf, bytes, barrier,
               policy);
      Advance();
    }
  }
  __device__ void Run(int position) {
    for (int l = 0; l < my.layers; ++l) {
      const DenseLayer layer = my.step.layers[l];
      Rows<Phase::kQkv>(layer.qkv, l);
      Cache(layer, l, position);
      Rows<Phase::kOut>(layer.out, l);
      Rows<Phase::kGateUp>(layer.gate_up, l);
      Rows<Phase::kDown>(layer.down, l);
    }
    Rows<Phase::kHead>(my.step.head, my.layers);
  }
};

// ---- attention of one warp ----------------------------------------------------------------------------

__device__ __forceinline__ uint4 Pick(bool c, uint4 a, uint4 b) {
  return {c ? a.x : b.x, c ? a.y : b.y, c ? a.z : b.z, c ? a.w : b.w};
}

// Online softmax over the tokens of one warp, kG heads of one KV head. Rows of a tile are kHeadDim * 2 bytes apart, a
// multiple of 128: K: odd rows read the other 64-byte half first (no conflict). V: token pair t of 8 reads chunk
// (j + t) % 4 (2-way conflict). Selects put the registers back in order.
template <typename S>
struct WarpAttention {
  static constexpr int kDim = S::kHeadDim, kRow = kDim * 2, kTiles = kDim / 16;
  float m[2], l[2], o[kTiles][4];
  uint4 q[kDim / 32];  // dims 32 j + 8 t .. +7 of head lane / 4

  __device__ void Reset() {
    m[0] = m[1] = -INFINITY;
    l[0] = l[1] = 0;
#pragma unroll
    for (int i = 0; i < kTiles; ++i)
#pragma unroll
      for (int j = 0; j < 4; ++j) o[i][j] = 0;
  }
  // q of head lane / 4 from the staged, unrotated values [kG, kDim].
  __device__ void LoadQuery(const float* staged, const float2* rope, int lane) {
    const int g = lane / 4, t = lane % 4;
#pragma unroll
    for (int j = 0; j < kDim / 32; ++j) {
      const int d = 32 * j + 8 * t, half = kDim / 2;
      uint32_t packed[4] = {0, 0, 0, 0};
      if (g < S::kG) {
        const float *own = staged + g * kDim + d, *other = staged + g * kDim + (d < half ? d + half : d - half);
        const float sign = d < half ? -1.0f : 1.0f;
#pragma unroll
        for (int e = 0; e < 8; e += 2) {
          const float2 r0 = rope[d % half + e], r1 = rope[d % half + e + 1];
          packed[e / 2] = PackBf16(own[e] * r0.x + sign * other[e] * r0.y, own[e + 1] * r1.x + sign * other[e + 1] * r1.y);
        }
      }
      q[j] = {packed[0], packed[1], packed[2], packed[3]};
    }
  }
  // Scores of 16 tokens; rows of k are tokens.
  __device__ void Scores(uint32_t k, int lane, float (&s)[4]) {
    const int g = lane / 4, t = lane % 4;
    const bool odd = g & 1;
    float s1[4] = {};
    s[0] = s[1] = s[2] = s[3] = 0;
    const uint32_t p = k + static_cast<uint32_t>(g * kRow + t * 16), x = odd ? 64 : 0;
#pragma unroll
    for (int j = 0; j < kDim / 64; ++j) {
      const uint32_t b = p + static_cast<uint32_t>(j * 128);
      const uint4 low0 = LoadShared16(b + x), low1 = LoadShared16(b + (64 - x));
      const uint4 high0 = LoadShared16(b + 8 * kRow + x), high1 = LoadShared16(b + 8 * kRow + (64 - x));
      const uint4 a0 = Pick(odd, low1, low0), a1 = Pick(odd, low0, low1);
      const uint4 c0 = Pick(odd, high1, high0), c1 = Pick(odd, high0, high1);
      const uint4 q0 = q[2 * j], q1 = q[2 * j + 1];
      Mma(s, a0.x, c0.x, a0.y, c0.y, q0.x, q0.y);
      Mma(s1, a0.z, c0.z, a0.w, c0.w, q0.z, q0.w);
      Mma(s, a1.x, c1.x, a1.y, c1.y, q1.x, q1.y);
      Mma(s1, a1.z, c1.z, a1.w, c1.w, q1.z, q1.w);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) s[i] += s1[i];
  }
  // c: score scale times log2 e. Tokens low .. high-1 of the 16 count. Returns P^T as the B operand.
  __device__ uint2 Softmax(float (&s)[4], float c, int low, int high, int lane) {
    const int g = lane / 4;
    if (low > 0 || high < kGroup) {
      if (g < low || g >= high) s[0] = s[1] = -INFINITY;
      if (g + 8 < low || g + 8 >= high) s[2] = s[3] = -INFINITY;
    }
    float x[2] = {fmaxf(s[0], s[2]), fmaxf(s[1], s[3])};
    if (__any_sync(~0u, x[0] > m[0] || x[1] > m[1])) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
#pragma unroll
        for (int d = 4; d < 32; d *= 2) x[i] = fmaxf(x[i], __shfl_xor_sync(~0u, x[i], d));
        x[i] = fmaxf(x[i], m[i]);
        const float f = Exp2((m[i] - x[i]) * c);
        m[i] = x[i];
        l[i] *= f;
#pragma unroll
        for (int r = 0; r < kTiles; ++r) {
          o[r][i] *= f;
          o[r][i + 2] *= f;
        }
      }
    }
    const float m0 = m[0] * c, m1 = m[1] * c;
    const float p0 = Exp2(fmaf(s[0], c, -m0)), p1 = Exp2(fmaf(s[1], c, -m1));
    const float p2 = Exp2(fmaf(s[2], c, -m0)), p3 = Exp2(fmaf(s[3], c, -m1));
    // The sum takes the rounded values: a dominant token's rounding then cancels in the quotient.
    const uint32_t a = PackBf16(p0, p1), b = PackBf16(p2, p3);
    l[0] += __uint_as_float(a << 16) + __uint_as_float(b << 16);
    l[1] += __uint_as_float(a & 0xffff0000u) + __uint_as_float(b & 0xffff0000u);
    return {Transpose8x8(a), Transpose8x8(b)};
  }
  __device__ void Values(uint32_t v, int lane, uint2 p) {
    // Lane row: token lane % 8 (+ 8 for lanes 16 ..), 16-byte chunk rotated by the token pair.
    const int row = lane % 8 + lane / 16 * 8, pair = lane % 8 / 2, t = lane % 4;
    const uint32_t base = v + static_cast<uint32_t>(row * kRow);
    const bool r1 = t & 1, r2 = t & 2;
#pragma unroll
    for (int h = 0; h < kDim / 32; ++h) {  // 32 dims = 4 chunks of 8
      const int e = lane / 8 % 2;
      const uint4 a = LoadMatrixTransposed(base + static_cast<uint32_t>(h * 64 + ((e + pair) & 3) * 16));
      const uint4 b = LoadMatrixTransposed(base + static_cast<uint32_t>(h * 64 + ((e + 2 + pair) & 3) * 16));
      uint32_t x[4] = {a.x, a.y, b.x, b.y}, y[4] = {a.z, a.w, b.z, b.w};  // tokens 0-7, 8-15
      uint32_t w[4], z[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        w[i] = r1 ? x[(i + 3) & 3] : x[i];
        z[i] = r1 ? y[(i + 3) & 3] : y[i];
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        x[i] = r2 ? w[(i + 2) & 3] : w[i];
        y[i] = r2 ? z[(i + 2) & 3] : z[i];
      }
      Mma(o[2 * h], x[0], x[1], y[0], y[1], p.x, p.y);
      Mma(o[2 * h + 1], x[2], x[3], y[2], y[3], p.x, p.y);
    }
  }
};

// ---- consumers ----------------------------------------------------------------------------------------

__device__ __forceinline__ void Fma2(float2& sum, uint32_t w, float x0, float x1) {
  sum.x = fmaf(__uint_as_float(w << 16), x0, sum.x);
  sum.y = fmaf(__uint_as_float(w & 0xffff0000u), x1, sum.y);
}

// Sums kRows values over the warp at once; lane l returns the sum of row l / (32 / kRows).
template <int kRows>
__device__ __forceinline__ float ReduceRows(float (&v)[kRows], int lane) {
  int m = 16;
#pragma unroll
  for (int n = kRows; n > 1; n /= 2, m /= 2) {
    const bool high = lane & m;
#pragma unroll
    for (int i = 0; i < n / 2; ++i) {
      const float keep = high ? v[i + n / 2] : v[i], send = high ? v[i] : v[i + n / 2];
      v[i] = keep + __shfl_xor_sync(~0u, send, m);
    }
  }
#pragma unroll
  for (; m > 0; m /= 2) v[0] += __shfl_xor_sync(~0u, v[0], m);
  return v[0];
}

template <typename S>
struct Consumer {
  Cta<S> my;
  int tid;
  int slot = 0, part_buffer = 0, norm_buffer = 0;
  uint32_t parity = 0;

  __device__ static void Barrier() { NamedBarrier<1>(kConsumers); }
  __device__ void NextSlot() {
    __syncwarp();
    if (tid % 32 == 0) BarrierArrive(my.empty(slot));
    if (++slot == S::kSlots) {
      slot = 0;
      parity ^= 1;
    }
  }

  // One thread waits for the hint that `writers` CTAs have finished phase `phase`.
  __device__ void WaitHint(int phase, int writers) {
    if (tid == 0) {
      const uint32_t target = (my.step.step + 1) * static_cast<uint32_t>(writers);
      const uint32_t* counter = my.step.counters + phase * 32;
      while (static_cast<int32_t>(LoadRelaxed(counter) - target) < 0) {
      }
    }
    Barrier();
  }
  // Warp 0 alone wrote the phase's outputs.
  __device__ void Hint(int phase) {
    __syncwarp();
    if (tid == 0) AddRelaxed(my.step.counters + phase * 32, 1);
  }

  // Columns [chunk * kChunk + tid * kVec, + kVec) of a vector, for each chunk.
  template <int kN>
  __device__ void LoadColumns(const float* src, float (&a)[kN]) const {
#pragma unroll
    for (int i = 0; i < kN; i += 4) {
      const float4 v = __ldcg(reinterpret_cast<const float4*>(src + i / kVec * kChunk + tid * kVec + i % kVec));
      a[i] = v.x, a[i + 1] = v.y, a[i + 2] = v.z, a[i + 3] = v.w;
    }
  }
  template <int kN>
  __device__ void PollColumns(const float* src, float (&a)[kN]) const {
    const float* p = src + tid * kVec;
#pragma unroll
    for (int i = 0; i < kN; i += 4) {
      const float4 v = LoadRelaxed4(p + i / kVec * kChunk + i % kVec);
      a[i] = v.x, a[i + 1] = v.y, a[i + 2] = v.z, a[i + 3] = v.w;
    }
    bool again;
    do {
      again = false;
#pragma unroll
      for (int i = 0; i < kN; i += 4) {
        if (Unwritten(float4{a[i], a[i + 1], a[i + 2], a[i + 3]})) {
          const float4 v = LoadRelaxed4(p + i / kVec * kChunk + i % kVec);
          a[i] = v.x, a[i + 1] = v.y, a[i + 2] = v.z, a[i + 3] = v.w;
          again = true;
        }
      }
    } while (again);
  }
  template <int kN>
  __device__ void EmbeddingColumns(float (&a)[kN]) const {
    const bf16* row = static_cast<const bf16*>(my.step.embed) + static_cast<size_t>(*my.step.token) * S::kHidden;
#pragma unroll
    for (int i = 0; i < kN; i += 8) {
      const uint4 w = __ldg(reinterpret_cast<const uint4*>(row + i / kVec * kChunk + tid * kVec));
      const uint32_t words[4] = {w.x, w.y, w.z, w.w};
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        a[i + 2 * j] = __uint_as_float(words[j] << 16) * my.step.embed_scale;
        a[i + 2 * j + 1] = __uint_as_float(words[j] & 0xffff0000u) * my.step.embed_scale;
      }
    }
  }

  // Adds this thread's share of the next tile's kRows dot products over kChunks chunks to v.
  template <int kChunks, int kRows>
  __device__ __forceinline__ void Tile(const float* a, float* v) {
    BarrierWait(my.full(slot), parity);
    const uint32_t tile = my.slot(slot) + static_cast<uint32_t>(tid * kVec * 2);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      float2 sum = {0, 0};
#pragma unroll
      for (int c = 0; c < kChunks; ++c) {
        const uint4 w = LoadShared16(tile + static_cast<uint32_t>((r * kChunks + c) * kChunk * 2));
        const float* x = a + c * kVec;
        Fma2(sum, w.x, x[0], x[1]);
        Fma2(sum, w.y, x[2], x[3]);
        Fma2(sum, w.z, x[4], x[5]);
        Fma2(sum, w.w, x[6], x[7]);
      }
      v[r] += sum.x + sum.y;
    }
    NextSlot();
  }

  template <Phase kP>
  __device__ float Residual(int layer, int index, bool wanted) const {
    if (!Gemv<S, kP>::kResidual || !wanted) return 0.0f;
    if (kP == Phase::kDown) return __ldcg(my.layer_activations(layer) + S::kMiddle + index);
    if (layer > 0) return __ldcg(my.layer_activations(layer - 1) + S::kOut + index);
    const bf16* row = static_cast<const bf16*>(my.step.embed) + static_cast<size_t>(*my.step.token) * S::kHidden;
    return __bfloat162float(row[index]) * my.step.embed_scale;
  }

  // Finishes `units` outputs (at most one per lane of warp 0) from the rows' partial sums.
  template <Phase kP>
  __device__ void Epilogue(const float* part, const float* squares, float* out, int units, float residual) {
    using G = Gemv<S, kP>;
    if (tid >= units) return;
    float y[G::kUnitRows];
#pragma unroll
    for (int r = 0; r < G::kUnitRows; ++r) {
      const float4* p = reinterpret_cast<const float4*>(part + (tid * G::kUnitRows + r) * kConsumerWarps);
      const float4 a = p[0], b = p[1];
      y[r] = ((a.x + b.x) + (a.y + b.y)) + ((a.z + b.z) + (a.w + b.w));
    }
    if (G::kNorm) {
      float sum = 0;
#pragma unroll
      for (int i = 0; i < kConsumerWarps; ++i) sum += squares[i];
      const float scale = rsqrtf(sum / G::kK + my.step.norm_eps);
#pragma unroll
      for (int r = 0; r < G::kUnitRows; ++r) y[r] *= scale;
    }
    float v = y[0] + residual;
    if (kP == Phase::kGateUp) v = GatedActivation(y[0], y[G::kUnitRows - 1], false);
    StoreRelaxed(out + tid, v);
  }

  // One product for this CTA's rows. phase: its own number; before: waits for the input.
  template <Phase kP, typename Wait>
  __device__ void Product(int layer, const float* gains, const float* input, float* output, Wait wait) {
    using G = Gemv<S, kP>;
    constexpr int kChunks = G::kK / kChunk, kN = kChunks * kVec, kR = G::kTileRows, kPart = kChunks / G::kSplit;
    const int lane = tid % 32, warp = tid / 32;
    const Slice slice = SliceOf(my.template units<kP>(), layer, my.cta, my.ctas);
    float* out = output + slice.first;
    float a[kN];
    {
      float gain[G::kNorm ? kN : 4];
      if (G::kNorm) LoadColumns(gains, gain);  // immutable: before the wait
      wait();
      if (kP == Phase::kQkv && layer == 0) {
        EmbeddingColumns(a);
      } else {
        PollColumns(input, a);
      }
      if (G::kNorm) {
        float sum[1] = {0};
#pragma unroll
        for (int i = 0; i < kN; ++i) {
          sum[0] = fmaf(a[i], a[i], sum[0]);
          a[i] *= gain[i % (G::kNorm ? kN : 4)];
        }
        const float total = ReduceRows<1>(sum, lane);
        if (lane == 0) my.floats(S::kSquaresAt)[norm_buffer * kConsumerWarps + warp] = total;
      }
    }
    const float* squares = my.floats(S::kSquaresAt) + norm_buffer * kConsumerWarps;
    if (G::kNorm) norm_buffer ^= 1;

    const int rows = slice.count * G::kUnitRows;
    for (int row0 = 0; row0 < rows; row0 += kPartRows) {
      float* part = my.floats(S::kPartAt) + part_buffer * kPartRows * kConsumerWarps;
      const int n = min(kPartRows, rows - row0);
      const float residual = Residual<kP>(layer, slice.first + row0 + tid, tid < n);
      for (int r0 = 0; r0 < n; r0 += kBatchRows) {
        float v[kBatchRows] = {};
#pragma unroll
        for (int t = 0; t < kBatchRows; t += kR) {
          if (r0 + t < n) {
#pragma unroll
            for (int s = 0; s < G::kSplit; ++s) Tile<kPart, kR>(a + s * kPart * kVec, v + t);
          }
        }
        const float sum = ReduceRows<kBatchRows>(v, lane);
        if (lane % (32 / kBatchRows) == 0) part[(r0 + lane / (32 / kBatchRows)) * kConsumerWarps + warp] = sum;
      }
      Barrier();
      Epilogue<kP>(part, squares, out + row0 / G::kUnitRows, n / G::kUnitRows, residual);
      part_buffer ^= 1;  // the next block writes the other table, so one barrier per block is enough
    }
  }

  // ---- attention ----

  __device__ size_t PartialIndex(int layer, int share, bool second) const {
    return (static_cast<size_t>(layer % kPartialSets) * my.ctas + share) * 2 + (second ? 1 : 0);
  }
  __device__ float* PartialOut(size_t index) const { return my.step.partial + index * S::kG * S::kHeadDim; }
  __device__ float* PartialMaxSum(size_t index) const {
    return my.step.partial + static_cast<size_t>(kPartialSets) * my.ctas * 2 * S::kG * S::kHeadDim + index * S::kG * 2;
  }

  // q of a KV head's group, unrotated, into the merge area; for the merging CTA also k and v of the current token. All
  // words are polled at once: one trip to L2.
  __device__ void StageQuery(int layer, int head, bool merging) {
    constexpr int kQueries = S::kG * S::kHeadDim / 4, kKeys = S::kHeadDim / 4;
    const float* qkv = my.layer_activations(layer) + S::kQkv;
    const int words = kQueries + (merging ? 2 * kKeys : 0);
    for (int i = tid; i < words; i += kConsumers) {
      const int j = i - kQueries;  // of k, then v
      const float* from = j < 0 ? qkv + head * S::kG * S::kHeadDim + 4 * i
                                : qkv + S::kQDim + (j < kKeys ? 0 : S::kKvDim - S::kHeadDim) + head * S::kHeadDim + 4 * j;
      float4 v;
      do v = LoadRelaxed4(from);
      while (Unwritten(v));
      if (j < 0) reinterpret_cast<float4*>(my.floats(S::kMergeAt))[i] = v;
      else reinterpret_cast<float4*>(my.floats(S::kTokenAt))[j] = v;
    }
    Barrier();
  }

  // Rotated, bf16-rounded element lane + 32 i of a staged head vector.
  __device__ void RotatedHead(const float* from, float (&out)[S::kHeadDim / 32]) const {
    constexpr int kParts = S::kHeadDim / 32, kHalf = kParts / 2;
#pragma unroll
    for (int i = 0; i < kHalf; ++i) {
      const float x = from[tid % 32 + 32 * i], y = from[tid % 32 + 32 * (i + kHalf)];
      const float2 r = my.rope()[tid % 32 + 32 * i];
      out[i] = Rounded(x * r.x - y * r.y);
      out[i + kHalf] = Rounded(y * r.x + x * r.y);
    }
  }

  // The current token, from what StageQuery brought: warp g scores it for head g of the group; warp 0 appends it to
  // the cache.
  __device__ void CurrentToken(const DenseLayer& weights, int head, int position) const {
    constexpr int kParts = S::kHeadDim / 32;
    const int lane = tid % 32, warp = tid / 32;
    float* token = my.floats(S::kTokenAt);
    if (warp >= S::kG) return;
    float k[kParts], q[kParts], sum = 0;
    RotatedHead(token, k);
    RotatedHead(my.floats(S::kMergeAt) + warp * S::kHeadDim, q);
#pragma unroll
    for (int i = 0; i < kParts; ++i) sum = fmaf(q[i], k[i], sum);
    sum = WarpSum(sum);
    if (lane == 0) token[2 * S::kHeadDim + warp] = sum;
    if (warp != 0) return;
    char* page = my.step.cache + weights.cache_offset +
                 static_cast<uint64_t>(__ldg(my.step.pages + position / kPageTokens)) * my.step.page_bytes;
    bf16* row = reinterpret_cast<bf16*>(page + static_cast<size_t>(head) * S::kPageHalf) +
                position % kPageTokens * S::kHeadDim;
#pragma unroll
    for (int i = 0; i < kParts; ++i) {
      row[lane + 32 * i] = __float2bfloat16(k[i]);
      row[static_cast<size_t>(S::kKvHeads) * S::kPageHalf / 2 + lane + 32 * i] =
          __float2bfloat16(token[S::kHeadDim + lane + 32 * i]);
    }
  }

  // Merges the warps' (max, sum, output) of the merge area for output element tid * kV + j of the group.
  static constexpr int kV = S::kG * S::kHeadDim / kConsumers;
  static_assert(kV >= 1);
  __device__ void MergeWarps(float c, float& m, float& l, float (&sum)[kV]) const {
    const float* merge = my.floats(S::kMergeAt);
    const float2* max_sum = reinterpret_cast<const float2*>(my.floats(S::kMaxSumAt));
    const int h = tid * kV / S::kHeadDim, d = tid * kV % S::kHeadDim;
    m = -INFINITY, l = 0;
#pragma unroll
    for (int j = 0; j < kV; ++j) sum[j] = 0;
#pragma unroll
    for (int i = 0; i < kConsumerWarps; ++i) m = fmaxf(m, max_sum[i * S::kG + h].x);
#pragma unroll
    for (int i = 0; i < kConsumerWarps; ++i) {
      const float2 e = max_sum[i * S::kG + h];
      const float f = e.x == -INFINITY ? 0.0f : Exp2((e.x - m) * c);
      l = fmaf(e.y, f, l);
#pragma unroll
      for (int j = 0; j < kV; ++j) sum[j] = fmaf(merge[(i * S::kG + h) * S::kMergeRow + d + j], f, sum[j]);
    }
  }

  // This CTA's part of a KV head is done: merges its warps and publishes the result.
  __device__ void PublishPartial(WarpAttention<S>& state, float c, size_t index) {
    const int lane = tid % 32, warp = tid / 32;
    float* merge = my.floats(S::kMergeAt);
    float2* max_sum = reinterpret_cast<float2*>(my.floats(S::kMaxSumAt));
#pragma unroll
    for (int x = 0; x < 2; ++x) {
#pragma unroll
      for (int d = 4; d < 32; d *= 2) state.l[x] += __shfl_xor_sync(~0u, state.l[x], d);
      const int h = lane % 4 * 2 + x;
      if (h < S::kG) {
        if (lane < 4) max_sum[warp * S::kG + h] = {state.m[x], state.l[x]};
#pragma unroll
        for (int r = 0; r < S::kHeadDim / 16; ++r) {
          merge[(warp * S::kG + h) * S::kMergeRow + r * 16 + lane / 4] = state.o[r][x];
          merge[(warp * S::kG + h) * S::kMergeRow + r * 16 + lane / 4 + 8] = state.o[r][x + 2];
        }
      }
    }
    Barrier();
    float m, l, sum[kV];
    MergeWarps(c, m, l, sum);
    const int h = tid * kV / S::kHeadDim, d = tid * kV % S::kHeadDim;
#pragma unroll
    for (int j = 0; j < kV; ++j) StoreRelaxed(PartialOut(index) + tid * kV + j, sum[j]);
    if (d == 0) StoreRelaxed2(PartialMaxSum(index) + 2 * h, m, l);
    Barrier();  // the merge area is free again
  }

  // The first CTA of a KV head gathers the partial results, adds the current token and writes the group's output.
  // Warp w takes partials w, w + 8, ..; a lane holds kWidth columns of 4 heads. Short code on purpose: it runs cold.
  __device__ void MergeHead(int layer, int head, const Sharers<S>& who, float c) {
    constexpr int kWidth = S::kHeadDim / 32, kHeads = S::kG < 4 ? S::kG : 4;
    const int lane = tid % 32, warp = tid / 32;
    const float* score = my.floats(S::kTokenAt) + 2 * S::kHeadDim;
    const float* v = my.floats(S::kTokenAt) + S::kHeadDim + kWidth * lane;
    float* merge = my.floats(S::kMergeAt);
    float2* max_sum = reinterpret_cast<float2*>(my.floats(S::kMaxSumAt));
#pragma unroll
    for (int x0 = 0; x0 < S::kG; x0 += kHeads) {
      float m[kHeads], l[kHeads], o[kHeads][kWidth];
#pragma unroll
      for (int x = 0; x < kHeads; ++x) {
        m[x] = warp == 0 ? score[x0 + x] : -INFINITY;
        l[x] = warp == 0 ? 1.0f : 0.0f;
#pragma unroll
        for (int j = 0; j < kWidth; ++j) o[x][j] = warp == 0 ? Rounded(v[j]) : 0.0f;
      }
#pragma unroll 1
      for (int i = warp; i < 32; i += kConsumerWarps) {
        if ((who.on >> i & 1) == 0) continue;
        const size_t index = PartialIndex(layer, who.base + i, who.second >> i & 1);
        float* max_sums = PartialMaxSum(index) + 2 * x0;
        float* outs = PartialOut(index) + x0 * S::kHeadDim + kWidth * lane;
        float2 e[kHeads];
        float y[kHeads][kWidth];
        bool again;
        do {
          again = false;
#pragma unroll
          for (int x = 0; x < kHeads; ++x) {
            e[x] = LoadRelaxed2(max_sums + 2 * x);
            again |= Unwritten(e[x].x) || Unwritten(e[x].y);
#pragma unroll
            for (int j = 0; j < kWidth; j += 2) {
              const float2 two = LoadRelaxed2(outs + x * S::kHeadDim + j);
              y[x][j] = two.x, y[x][j + 1] = two.y;
              again |= Unwritten(two.x) || Unwritten(two.y);
            }
          }
          again = __any_sync(~0u, again);
        } while (again);
        // Marks the buffer unwritten for the layer that will use it kPartialSets layers on.
        const float mark = __uint_as_float(kUnwritten);
        if (lane < kHeads) StoreRelaxed2(max_sums + 2 * lane, mark, mark);
#pragma unroll
        for (int x = 0; x < kHeads; ++x) {
#pragma unroll
          for (int j = 0; j < kWidth; j += 2) StoreRelaxed2(outs + x * S::kHeadDim + j, mark, mark);
          const float top = fmaxf(m[x], e[x].x);
          const float f0 = m[x] == -INFINITY ? 0.0f : Exp2((m[x] - top) * c);
          const float f1 = e[x].x == -INFINITY ? 0.0f : Exp2((e[x].x - top) * c);
          m[x] = top;
          l[x] = l[x] * f0 + e[x].y * f1;
#pragma unroll
          for (int j = 0; j < kWidth; ++j) o[x][j] = o[x][j] * f0 + y[x][j] * f1;
        }
      }
#pragma unroll
      for (int x = 0; x < kHeads; ++x) {
        if (lane == 0) max_sum[warp * S::kG + x0 + x] = {m[x], l[x]};
#pragma unroll
        for (int j = 0; j < kWidth; ++j) merge[(warp * S::kG + x0 + x) * S::kMergeRow + kWidth * lane + j] = o[x][j];
      }
    }
    Barrier();
    float m, l, sum[kV];
    MergeWarps(c, m, l, sum);
    float* out = my.layer_activations(layer) + S::kAttention + head * S::kG * S::kHeadDim;
#pragma unroll
    for (int j = 0; j < kV; ++j) StoreRelaxed(out + tid * kV + j, sum[j] / l);
    Barrier();  // the merge area is free again, and the outputs are on their way
  }

  // Zeroes the values of tokens `from` .. 15 of a group in the ring: they were never written and may be anything, NaNs
  // too, and zero times NaN is not zero.
  __device__ void ClearRows(int at_slot, int quarter, int from) const {
    constexpr int kRowVectors = S::kHeadDim / 8;
    uint4* values = reinterpret_cast<uint4*>(my.shared + at_slot * S::kSlotBytes + S::kPageHalf) + quarter * kGroup * kRowVectors;
    for (int i = from * kRowVectors + tid % 32; i < kGroup * kRowVectors; i += 32) values[i] = make_uint4(0, 0, 0, 0);
    __syncwarp();
  }

  __device__ void Attention(int layer, int position, int phase) {
    const DenseLayer weights = my.step.layers[layer];
    const int lane = tid % 32, warp = tid / 32, set = warp / 4, quarter = warp % 4;
    const int first = FirstPosition(position, weights.window);
    const float c = my.step.score_scale * 1.4426950408889634f;
    const int share = Walk<S>::Turn(layer, my.cta, my.ctas);
    Walk<S> walk(first, position, share, my.ctas);
    bool merged = false;
    int segment = 0;
    while (walk.more()) {
      const int head = walk.head;
      const Sharers<S> who(walk.per_head, head, my.ctas, lane);
      const bool merging = who.merger(head) == share;
      WarpAttention<S> state;
      state.Reset();
      StageQuery(layer, head, merging);
      state.LoadQuery(my.floats(S::kMergeAt), my.rope(), lane);
      if (merging) CurrentToken(weights, head, position);
      Barrier();  // the merge area is free again
      for (int i = 0; walk.more() && walk.head == head; ++i) {
        BarrierWait(my.full(slot), parity);
        const int token = (walk.absolute() * 4 + quarter) * kGroup;
        if (i % 2 == set && quarter < walk.count && token + kGroup > first) {
          const uint32_t k = my.slot(slot) + static_cast<uint32_t>(quarter * kGroup * S::kHeadDim * 2);
          float s[4];
          state.Scores(k, lane, s);
          const uint2 p = state.Softmax(s, c, first - token, position - token, lane);
          if (position - token < kGroup) ClearRows(slot, quarter, position - token);
          state.Values(k + S::kPageHalf, lane, p);
          // The clearing stores come before the copy that will fill this slot again.
          if (position - token < kGroup) asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
        }
        NextSlot();
        walk.Next();
      }
      PublishPartial(state, c, PartialIndex(layer, share, segment > 0));
      ++segment;
      if (merging) {
        MergeHead(layer, head, who, c);
        merged = true;
      }
    }
    if (walk.per_head == 0 && share < S::kKvHeads) {
      const Sharers<S> nobody(0, share, my.ctas, lane);
      StageQuery(layer, share, true);
      CurrentToken(weights, share, position);
      Barrier();
      MergeHead(layer, share, nobody, c);
      merged = true;
    }
    if (merged) Hint(phase);
  }

  __device__ void Run(int position) {
    for (int i = tid; i < S::kHeadDim / 2; i += kConsumers) {
      // The angle is a float, as in the reference; the reduction to one turn is exact enough in double.
      const double angle = static_cast<double>(static_cast<float>(position) * my.step.inv_freq[i]);
      const float turn = static_cast<float>(angle - rint(angle * 0.15915494309189535) * 6.283185307179586);
      my.rope()[i] = {__cosf(turn) * my.step.rope_scale, __sinf(turn) * my.step.rope_scale};
    }
    Barrier();
    int phase = 0;
    for (int l = 0; l < my.layers; ++l) {
      const DenseLayer weights = my.step.layers[l];
      float* acts = my.layer_activations(l);
      const float* before = l > 0 ? my.layer_activations(l - 1) + S::kOut : nullptr;
      Product<Phase::kQkv>(l, weights.attention_norm, before, acts + S::kQkv, [&] {
        if (l > 0) WaitHint(phase - 1, my.ctas);
      });
      Attention(l, position, phase);
      Product<Phase::kOut>(l, nullptr, acts + S::kAttention, acts + S::kMiddle, [&] { WaitHint(phase, S::kKvHeads); });
      Hint(++phase);
      Product<Phase::kGateUp>(l, weights.mlp_norm, acts + S::kMiddle, acts + S::kGated,
                              [&] { WaitHint(phase, my.ctas); });
      Hint(++phase);
      Product<Phase::kDown>(l, nullptr, acts + S::kGated, acts + S::kOut, [&] { WaitHint(phase, my.ctas); });
      Hint(++phase);
      ++phase;
    }
    Product<Phase::kHead>(my.layers, my.step.final_norm, my.layer_activations(my.layers - 1) + S::kOut, my.step.logits,
                          [&] { WaitHint(phase - 1, my.ctas); });
  }
};

template <typename S>
__global__ __launch_bounds__(kThreads, 1) void DensePersistent(const __grid_constant__ DenseStep step, int vocab, int layers) {
#if __CUDA_ARCH__ >= 900
  extern __shared__ __align__(128) char shared[];
  const int tid = threadIdx.x;
  const Cta<S> my{shared, step, vocab, layers, static_cast<int>(blockIdx.x), static_cast<int>(gridDim.x)};
  if (tid == 0) {
    for (int i = 0; i < S::kSlots; ++i) {
      BarrierInit(my.full(i), 1);
      BarrierInit(my.empty(i), kConsumerWarps);
    }
    BarrierInitFence();
  }
  __syncthreads();
  const int position = *step.position;
  if (tid >= kConsumers + 32) {  // marks the next step's activations unwritten
    const size_t count = Cta<S>::step_floats(layers) / 4;
    uint4* p = reinterpret_cast<uint4*>(step.activations + (~step.step & 1) * Cta<S>::step_floats(layers));
    for (size_t i = my.cta * 32 + tid % 32; i < count; i += my.ctas * 32) {
      p[i] = make_uint4(kUnwritten, kUnwritten, kUnwritten, kUnwritten);
    }
  } else if (tid >= kConsumers) {
    if (tid == kConsumers) Producer<S>{my, EvictFirst()}.Run(position);
  } else {
    Consumer<S>{my, tid}.Run(position);
  }
#endif
}

template <typename S>
bool Matches(const DenseShape& shape) {
  return shape.hidden == S::kHidden && shape.inner == S::kInner && shape.head_dim == S::kHeadDim &&
         shape.q_heads == S::kQHeads && shape.kv_heads == S::kKvHeads;
}

template <typename S>
cudaError_t Run(const Launch& launch, const DenseShape& shape, const DenseStep& step) {
  const cudaError_t error =
      cudaFuncSetAttribute(DensePersistent<S>, cudaFuncAttributeMaxDynamicSharedMemorySize, S::kShared);
  if (error != cudaSuccess) return error;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(launch.limits->sms));
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = S::kShared;
  config.stream = launch.stream;
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeCooperative;  // all CTAs must be resident: they wait for each other
  attribute.val.cooperative = 1;
  config.attrs = &attribute;
  config.numAttrs = 1;
  return cudaLaunchKernelEx(&config, DensePersistent<S>, step, shape.vocab, shape.layers);
}

}  // namespace

bool DenseSupported(const Limits& limits, const DenseShape& shape) {
  return limits.arch >= 90 && limits.arch < 100 && limits.shared_bytes >= 227 * 1024 && shape.layers > 0 &&
         limits.sms >= 2 * shape.kv_heads && limits.sms <= 28 * shape.kv_heads &&
         (Matches<Mistral7b>(shape) || Matches<Llama1b>(shape) || Matches<Llama70b>(shape));
}

uint64_t DenseActivationFloats(const DenseShape& shape) {
  const uint64_t q = static_cast<uint64_t>(shape.q_heads) * shape.head_dim;
  const uint64_t kv = static_cast<uint64_t>(shape.kv_heads) * shape.head_dim;
  return (2 * q + 2 * kv + 2 * static_cast<uint64_t>(shape.hidden) + static_cast<uint64_t>(shape.inner)) *
         static_cast<uint64_t>(shape.layers);
}

uint64_t DensePartialFloats(const Limits& limits, const DenseShape& shape) {
  const uint64_t group = static_cast<uint64_t>(shape.q_heads / shape.kv_heads);
  return uint64_t{kPartialSets} * static_cast<uint64_t>(limits.sms) * 2 * group * (static_cast<uint64_t>(shape.head_dim) + 2);
}

uint64_t DenseCounterWords(const DenseShape& shape) { return (static_cast<uint64_t>(shape.layers) * 4 + 1) * 32; }

cudaError_t DenseDecode(const Launch& launch, const DenseShape& shape, const DenseStep& step) {
  if (Matches<Mistral7b>(shape)) return Run<Mistral7b>(launch, shape, step);
  if (Matches<Llama1b>(shape)) return Run<Llama1b>(launch, shape, step);
  if (Matches<Llama70b>(shape)) return Run<Llama70b>(launch, shape, step);
  return cudaErrorInvalidValue;
}

}  // namespace dsopt_cuda
