// attention_coded.cuh - AttentionWarp over a cache of codes, straight from the codes in shared memory.
//
// F8_E4M3, I8
//
// A code becomes an f16 (keys) or a bf16 (values) exactly, without its scale: the scale of a key multiplies its
// scores, the scale of a value its probabilities. Keys in f16 take fewest operations; queries are 2^-6 of
// themselves, which leaves room above (4e6) and below. Probabilities times scales need the range of bf16: e4m3
// codes only move to its bits and are then 2^-120 times their value (subnormals included); probabilities and
// outputs make up for it with 2^60 each. Values are finite whatever the bytes, so behind the known tokens only
// scales have to be kept out.
//
// K: a lane reads 16 codes at a time; of a word, bytes 0 and 1 are one register of A, bytes 2 and 3 the next,
// and the query lies alike. V: the transposing load moves pairs of bytes, so a register has 2 adjacent
// dimensions of 2 tokens: the even one is row lane / 4 of A, the odd one row lane / 4 + 8. Rows lie kDim bytes
// apart without swizzle; banks as in attention_warp.cuh, except that keys of 64 dimensions have no conflict as
// they are.
//
// I4
//
// The value is lowest + code * scale, both of a token's group of 32 dimensions. Scores of a group are (codes .
// q) scale + lowest (sum of q), with one sum per group and head. Outputs take P scale of each group as an
// operand of its own, and lowest, which all 32 dimensions share, as one number per group and head, summed in
// f32.
//
// Codes need no conversion: a nibble at bits 0 .. 3 of an f16 is code * 2^-24, of a bf16 code * 2^-133, and at
// bits 4 .. 7 sixteen times that, both without a break at the end of the subnormal numbers; a shift by 8 brings
// the other two. What is missing stands in the queries (K), in P and behind the outputs (V).
//
// K: lane (g, t) reads word t of a group of token g: nibble i is dimension 8 t + i. V: the transposing load
// moves 4 dimensions of a token as one, so a register has dimensions 4 (lane / 4) .. + 3 of 2 tokens, and
// nibbles 0 and 1 (then 2 and 3) are rows lane / 4 and lane / 4 + 8 of A. Where a group lies: Int4Planes,
// Int4Rows.
#ifndef DSOPT_CUDA_COMMON_ATTENTION_CODED_CUH_
#define DSOPT_CUDA_COMMON_ATTENTION_CODED_CUH_

#include "common/attention_warp.cuh"
#include "common/cache_codes.cuh"
#include "common/packed.cuh"
#include "launch.h"

namespace dsopt_cuda {

// Even, Odd: bytes 0 and 2, 1 and 3 of a word as two bf16, times 1 / kLift^2. Keys: bytes 0 and 1, 2 and 3 as
// f16, times 1 / kKeyLift.
template <CacheCode kCode>
struct CodePairs;
template <>
struct CodePairs<CacheCode::kFp8> {
  static constexpr float kLift = 0x1p60f;
  __device__ static uint32_t Even(uint32_t w) { return AndOr(w << 8, 0x80008000u, (w << 4) & 0x07F007F0u); }
  __device__ static uint32_t Odd(uint32_t w) { return AndOr(w, 0x80008000u, (w >> 4) & 0x07F007F0u); }
#if __CUDA_ARCH__ >= 890 || !defined(__CUDA_ARCH__)
  static constexpr float kKeyLift = 1;
  __device__ static void Keys(uint32_t w, uint32_t& low, uint32_t& high) { UnpackFp8(w, low, high); }
#else
  static constexpr float kKeyLift = 256;  // moved to the bits of an f16
  __device__ static void Keys(uint32_t w, uint32_t& low, uint32_t& high) {
    low = Moved(__byte_perm(w, 0, 0x1404)), high = Moved(__byte_perm(w, 0, 0x3424));
  }
  __device__ static uint32_t Moved(uint32_t w) { return AndOr(w, 0x80008000u, (w >> 1) & 0x3F803F80u); }
#endif
};
template <>
struct CodePairs<CacheCode::kInt8> {
  static constexpr float kLift = 1;
  // The low 7 bits in the mantissa of 128.0, less 128 or, where the sign bit is set, 256.
  __device__ static uint32_t Even(uint32_t w) {
    return FmaBf16x2(AndOr(w, 0x00800080u, 0x43004300u), 0xBF80BF80u, AndOr(w, 0x007F007Fu, 0x43004300u));
  }
  __device__ static uint32_t Odd(uint32_t w) { return Even(w >> 8); }
  static constexpr float kKeyLift = 1;
  // Code + 128 in the mantissa of 1024.0, less 1152.
  __device__ static void Keys(uint32_t w, uint32_t& low, uint32_t& high) {
    const uint32_t u = w ^ 0x80808080u;
    low = AddF16x2(__byte_perm(u, 0x64646464u, 0x4140), 0xE480E480u);
    high = AddF16x2(__byte_perm(u, 0x64646464u, 0x4342), 0xE480E480u);
  }
};

// q: word i of the 16 codes from 64 h + 16 (lane % 4) on needs q[2 h + i / 2], x and y (i even) or z and w. o:
// see DimensionOf; kLift is still missing.
template <int kDim, CacheCode kCode>
struct CodedAttentionWarp : AttentionWarp<kDim> {
  using Base = AttentionWarp<kDim>;
  using Base::l, Base::o, Base::q;
  using Pairs = CodePairs<kCode>;
  static constexpr float kLift = Pairs::kLift, kQueryScale = 1.0f / 64,
                         kKeyLift = Pairs::kKeyLift / kQueryScale;
  static constexpr int kRuns = kDim / 64;  // of 16 codes of a row in one lane

  __device__ static int DimensionOf(int r, int half, int lane) { return 16 * r + lane / 4 * 2 + half; }
  __device__ __forceinline__ float Output(int r, int half, int x) const { return o[r][x + 2 * half] * kLift; }

  // Dimensions 64 h + 16 (lane % 4) + 4 i .. + 3 of head lane / 4.
  __device__ __forceinline__ void SetQuery(int h, int i, const float (&x)[4]) {
    const uint32_t low = PackF16(x[0] * kQueryScale, x[1] * kQueryScale);
    const uint32_t high = PackF16(x[2] * kQueryScale, x[3] * kQueryScale);
    uint4& to = q[2 * h + i / 2];
    if (i % 2 == 0)
      to.x = low, to.y = high;
    else
      to.z = low, to.w = high;
  }
  // Scores of 16 tokens: codes at shared address k, scales (f32) at `scales`.
  __device__ __forceinline__ void Scores(uint32_t k, uint32_t scales, int lane, float (&s)[4]) const {
    const int g = lane / 4, t = lane % 4;
    const uint32_t p = k + g * kDim + t * 16, far = p + 8 * kDim;
    uint4 low[kRuns], high[kRuns];
    if constexpr (kRuns == 2) {
      const bool odd = g & 1;
      const uint32_t x = odd ? 64 : 0;
      const uint4 a = LoadShared16(p + x), b = LoadShared16(p + (64 - x));
      const uint4 c = LoadShared16(far + x), d = LoadShared16(far + (64 - x));
      low[0] = Pick(odd, b, a), low[1] = Pick(odd, a, b), high[0] = Pick(odd, d, c), high[1] = Pick(odd, c, d);
    } else {
      low[0] = LoadShared16(p), high[0] = LoadShared16(far);
    }
    const float near_scale = Scale(scales, g) * kKeyLift, far_scale = Scale(scales, g + 8) * kKeyLift;
    float s1[4] = {};
    s[0] = s[1] = s[2] = s[3] = 0;
#pragma unroll
    for (int h = 0; h < kRuns; ++h) {
      const uint4 q0 = q[2 * h], q1 = q[2 * h + 1];
      Multiply(s, low[h].x, high[h].x, q0.x, q0.y);
      Multiply(s1, low[h].y, high[h].y, q0.z, q0.w);
      Multiply(s, low[h].z, high[h].z, q1.x, q1.y);
      Multiply(s1, low[h].w, high[h].w, q1.z, q1.w);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) s[i] = (s[i] + s1[i]) * (i < 2 ? near_scale : far_scale);
  }
  // As AttentionWarp's; scales: of the values. The sum takes the probabilities as they are: what is rounded to
  // bf16 has the value's scale in it.
  __device__ __forceinline__ uint2 Softmax(float (&s)[4], uint32_t scales, float c, int lo, int hi, int lane) {
    const int g = lane / 4;
    const float near_scale = g >= lo && g < hi ? Scale(scales, g) * kLift : 0.0f;
    const float far_scale = g + 8 >= lo && g + 8 < hi ? Scale(scales, g + 8) * kLift : 0.0f;
    float e[4];
    Base::Exponentials(s, c, lo, hi, lane, e);
    l[0] += e[0] + e[2];
    l[1] += e[1] + e[3];
    return {Transpose8x8(PackBf16(e[0] * near_scale, e[1] * near_scale)),
            Transpose8x8(PackBf16(e[2] * far_scale, e[3] * far_scale))};
  }
  // Adds P V of 16 tokens whose codes are at shared address v.
  __device__ __forceinline__ void Values(uint32_t v, int lane, uint2 p) {
#pragma unroll
    for (int h = 0; h < kDim / 64; ++h) {
      uint32_t x[4], y[4];
      LoadValues<kDim>(v + h * 64, lane, x, y);
#pragma unroll
      for (int i = 0; i < 4; ++i)
        Mma(o[4 * h + i], Pairs::Even(x[i]), Pairs::Odd(x[i]), Pairs::Even(y[i]), Pairs::Odd(y[i]), p.x, p.y);
    }
  }

 private:
  __device__ static float Scale(uint32_t scales, int token) {
    return __uint_as_float(LoadShared4(scales + token * 4));
  }
  __device__ static void Multiply(float (&s)[4], uint32_t low, uint32_t high, uint32_t q0, uint32_t q1) {
    uint32_t a0, a1, a2, a3;
    Pairs::Keys(low, a0, a2);
    Pairs::Keys(high, a1, a3);
    MmaF16(s, a0, a1, a2, a3, q0, q1);
  }
};

// Codes in shared memory as planes: of a group of 32 dimensions 16 tokens, 16 bytes each. All loads touch 128
// bytes in a row. The planes lie apart so that copies of 16 bytes, which take a token's groups in turn, meet no
// bank twice.
template <int kDim>
struct Int4Planes {
  static constexpr int kGroups = kDim / kCodeGroup, kPlane = kGroupTokens * 16 + (kGroups == 4 ? 32 : 64);
  static constexpr int kTileBytes = kGroups * kPlane;

  // Words of all groups of token lane / 4 and, y, of the token 8 below.
  __device__ __forceinline__ static void Keys(uint32_t k, int lane, uint32_t (&x)[kGroups],
                                              uint32_t (&y)[kGroups]) {
#pragma unroll
    for (int j = 0; j < kGroups; ++j) {
      x[j] = LoadShared4(k + j * kPlane + lane * 4);
      y[j] = LoadShared4(k + j * kPlane + lane * 4 + 8 * 16);
    }
  }
  // All groups of tokens 0 .. 7 turned and, y, of tokens 8 .. 15.
  __device__ __forceinline__ static void Values(uint32_t v, int lane, uint32_t (&x)[kGroups],
                                                uint32_t (&y)[kGroups]) {
    const uint32_t base = v + lane / 16 * kPlane + lane % 16 * 16;
#pragma unroll
    for (int j = 0; j < kGroups; j += 2) {
      const uint4 m = LoadMatrixTransposed(base + j * kPlane);
      x[j] = m.x, y[j] = m.y, x[j + 1] = m.z, y[j + 1] = m.w;
    }
  }
};

// As they lie in the cache: tokens kDim / 2 bytes apart, which start in the same banks again after 128 bytes.
// So tokens read their groups in different orders, and selects put the registers back in order.
template <int kDim>
struct Int4Rows {
  static constexpr int kGroups = kDim / kCodeGroup, kPitch = kDim / 2;

  __device__ __forceinline__ static void Keys(uint32_t k, int lane, uint32_t (&x)[kGroups],
                                              uint32_t (&y)[kGroups]) {
    const int g = lane / 4, turn = g * kPitch / 128;  // the first group that this token reads
    uint32_t a[kGroups], b[kGroups];
#pragma unroll
    for (int i = 0; i < kGroups; ++i) {
      const uint32_t p = k + g * kPitch + (i + turn) % kGroups * 16 + lane % 4 * 4;
      a[i] = LoadShared4(p);
      b[i] = LoadShared4(p + 8 * kPitch);
    }
    InOrder(a, turn, x);
    InOrder(b, turn, y);
  }
  __device__ __forceinline__ static void Values(uint32_t v, int lane, uint32_t (&x)[kGroups],
                                                uint32_t (&y)[kGroups]) {
    if constexpr (kGroups == 4) {
      LoadValues<kPitch>(v, lane, x, y);
    } else {
      const uint4 m = LoadMatrixTransposed(v + lane % 16 * kPitch + (lane / 16 ^ lane / 4 % 2) * 16);
      const uint32_t a[2] = {m.x, m.z}, b[2] = {m.y, m.w};
      InOrder(a, lane % 4 / 2, x);
      InOrder(b, lane % 4 / 2, y);
    }
  }

 private:
  // a begins with group `turn`.
  __device__ __forceinline__ static void InOrder(const uint32_t (&a)[kGroups], int turn,
                                                 uint32_t (&x)[kGroups]) {
    uint32_t w[kGroups];
#pragma unroll
    for (int i = 0; i < kGroups; ++i) w[i] = (turn & 1) != 0 ? a[(i + kGroups - 1) % kGroups] : a[i];
#pragma unroll
    for (int i = 0; i < kGroups; ++i) x[i] = kGroups == 4 && (turn & 2) != 0 ? w[(i + 2) % kGroups] : w[i];
  }
};

// q: of group j dimensions 8 (lane % 4) + 0 and 4, 1 and 5, 2 and 6, 3 and 7 of head lane / 4.
template <int kDim, typename Layout>
struct Int4AttentionWarp : AttentionWarp<kDim, kDim / 64> {
  using Base = AttentionWarp<kDim, kDim / 64>;
  using Base::kOuts, Base::l, Base::o, Base::q;
  static constexpr int kGroups = kDim / kCodeGroup;
  static constexpr int kTokenWords = kGroups * 4;  // bytes of a token's words
  static constexpr float kLowQuery = 0x1p-2f, kHighQuery = kLowQuery / 16, kScoreLift = 0x1p24f / kLowQuery;
  static constexpr float kProbabilityLift = 0x1p100f, kOutputLift = 0x1p33f;
  float total[kGroups][2];  // of q in a group, heads 2 (lane % 4) and the next one

  // Dimensions 32 j + 8 (lane % 4) .. + 7 of head lane / 4. All lanes.
  __device__ __forceinline__ void SetQuery(int j, const float (&x)[8], int lane) {
    q[j] = {PackF16(x[0] * kLowQuery, x[4] * kLowQuery), PackF16(x[1] * kHighQuery, x[5] * kHighQuery),
            PackF16(x[2] * kLowQuery, x[6] * kLowQuery), PackF16(x[3] * kHighQuery, x[7] * kHighQuery)};
    float sum = ((x[0] + x[1]) + (x[2] + x[3])) + ((x[4] + x[5]) + (x[6] + x[7]));
    sum += __shfl_xor_sync(~0u, sum, 1);
    sum += __shfl_xor_sync(~0u, sum, 2);
#pragma unroll
    for (int i = 0; i < 2; ++i) total[j][i] = __shfl_sync(~0u, sum, (lane % 4 * 2 + i) * 4);
  }
  // Scores of 16 tokens: codes at shared address k, words at `words`.
  __device__ __forceinline__ void Scores(uint32_t k, uint32_t words, int lane, float (&s)[4]) const {
    const int g = lane / 4;
    uint32_t near[kGroups], far[kGroups];
    LoadWords(words + g * kTokenWords, near);
    LoadWords(words + (g + 8) * kTokenWords, far);
    uint32_t xs[kGroups], ys[kGroups];
    Layout::Keys(k, lane, xs, ys);
    float low[4] = {};
    s[0] = s[1] = s[2] = s[3] = 0;
#pragma unroll
    for (int j = 0; j < kGroups; ++j) {
      const uint32_t x = xs[j], y = ys[j];
      float d[4] = {};
      MmaF16(d, x & kLow, y & kLow, x & kHigh, y & kHigh, q[j].x, q[j].y);
      MmaF16(d, x >> 8 & kLow, y >> 8 & kLow, x >> 8 & kHigh, y >> 8 & kHigh, q[j].z, q[j].w);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const uint32_t word = i < 2 ? near[j] : far[j];
        s[i] = fmaf(d[i], ScaleOfWord(word), s[i]);
        low[i] = fmaf(total[j][i % 2], LowestOfWord(word), low[i]);
      }
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) s[i] = fmaf(s[i], kScoreLift, low[i]);
  }
  // As AttentionWarp's, one operand per group; words: of the values. The sum takes the probabilities as they
  // are.
  __device__ __forceinline__ void Softmax(float (&s)[4], uint32_t words, float c, int lo, int hi, int lane,
                                          uint2 (&p)[kGroups]) {
    const int g = lane / 4;
    uint32_t near[kGroups], far[kGroups];
    LoadWords(words + g * kTokenWords, near);
    LoadWords(words + (g + 8) * kTokenWords, far);
    float e[4];
    Base::Exponentials(s, c, lo, hi, lane, e);
    l[0] += e[0] + e[2];
    l[1] += e[1] + e[3];
    float lifted[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) lifted[i] = e[i] * kProbabilityLift;
    const bool near_known = g >= lo && g < hi, far_known = g + 8 >= lo && g + 8 < hi;
#pragma unroll
    for (int j = 0; j < kGroups; ++j) {
      const uint32_t a = near_known ? near[j] : 0, b = far_known ? far[j] : 0;
      const float near_scale = ScaleOfWord(a), far_scale = ScaleOfWord(b);
      const float near_low = LowestOfWord(a), far_low = LowestOfWord(b);
#pragma unroll
      for (int x = 0; x < 2; ++x) {
        float& sum = o[kOuts + j / 2][j % 2 * 2 + x];
        sum = fmaf(e[x], near_low, fmaf(e[x + 2], far_low, sum));
      }
      p[j] = {Transpose8x8(PackBf16(lifted[0] * near_scale, lifted[1] * near_scale)),
              Transpose8x8(PackBf16(lifted[2] * far_scale, lifted[3] * far_scale))};
    }
  }
  // Adds P V of 16 tokens whose codes are at shared address v.
  __device__ __forceinline__ void Values(uint32_t v, int lane, const uint2 (&p)[kGroups]) {
    uint32_t x[kGroups], y[kGroups];
    Layout::Values(v, lane, x, y);
#pragma unroll
    for (int j = 0; j < kGroups; ++j) AddGroup(j, x[j], y[j], p[j]);
  }
  __device__ static int DimensionOf(int r, int half, int lane) {
    return kCodeGroup * (r / 2) + lane / 4 * 4 + r % 2 * 2 + half;
  }
  __device__ __forceinline__ void SumLanes() {
    Base::SumLanes();
#pragma unroll
    for (int d = 4; d < 32; d *= 2)
#pragma unroll
      for (int r = kOuts; r < kOuts + kGroups / 2; ++r)
#pragma unroll
        for (int i = 0; i < 4; ++i) o[r][i] += __shfl_xor_sync(~0u, o[r][i], d);
  }
  __device__ __forceinline__ float Output(int r, int half, int x) const {
    const float low = o[kOuts + r / 4][r / 2 % 2 * 2 + x];  // of group r / 2
    return fmaf(o[r][x + 2 * half], half == 0 ? kOutputLift : kOutputLift / 16, low);
  }

 private:
  static constexpr uint32_t kLow = 0x000F000Fu, kHigh = 0x00F000F0u;

  __device__ __forceinline__ static void LoadWords(uint32_t at, uint32_t (&w)[kGroups]) {
    if constexpr (kGroups == 4) {
      const uint4 v = LoadShared16(at);
      w[0] = v.x, w[1] = v.y, w[2] = v.z, w[3] = v.w;
    } else {
#pragma unroll
      for (int i = 0; i < kGroups; ++i) w[i] = LoadShared4(at + i * 4);
    }
  }
  __device__ __forceinline__ void AddGroup(int j, uint32_t x, uint32_t y, uint2 p) {
    Mma(o[2 * j], x & kLow, x & kHigh, y & kLow, y & kHigh, p.x, p.y);
    Mma(o[2 * j + 1], x >> 8 & kLow, x >> 8 & kHigh, y >> 8 & kLow, y >> 8 & kHigh, p.x, p.y);
  }
};

// Over rows as they lie in the cache.
template <int kDim, CacheCode kCode>
struct CacheWarpOf {
  using Type = CodedAttentionWarp<kDim, kCode>;
};
template <int kDim>
struct CacheWarpOf<kDim, CacheCode::kInt4> {
  using Type = Int4AttentionWarp<kDim, Int4Rows<kDim>>;
};
template <int kDim>
struct CacheWarpOf<kDim, CacheCode::kPlain> {
  using Type = AttentionWarp<kDim>;
};
template <int kDim, CacheCode kCode>
using CacheWarp = typename CacheWarpOf<kDim, kCode>::Type;

}  // namespace dsopt_cuda
#endif  // DSOPT_CUDA_COMMON_ATTENTION_CODED_CUH_
