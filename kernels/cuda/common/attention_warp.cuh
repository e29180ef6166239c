// attention_warp.cuh - the arithmetic of decode attention for one warp: up to 8 query heads of one KV head against
// groups of 16 cached tokens in shared memory, online softmax, all on mma.m16n8k16.
//
//   S^T = K Q^T (tokens x heads);  P^T turned with movmatrix;  O^T += V^T P^T (dimensions x heads)
//
// Cache rows lie kDim * 2 bytes apart without swizzle, so all rows start in the same bank. K: odd rows fetch the other
// 64-byte half first (no conflict). V: token pair t of 8 reads chunk (j + t) % 4 (2-way conflict). Selects put the
// registers back in order. Heads beyond the group have zero queries; their results are never stored.
#ifndef DSOPT_CUDA_COMMON_ATTENTION_WARP_CUH_
#define DSOPT_CUDA_COMMON_ATTENTION_WARP_CUH_

#include "common/ptx.cuh"

namespace dsopt_cuda {

inline constexpr int kGroupTokens = 16;

__device__ __forceinline__ uint4 Pick(bool c, uint4 a, uint4 b) {
  return {c ? a.x : b.x, c ? a.y : b.y, c ? a.z : b.z, c ? a.w : b.w};
}

// Four 16-byte columns of 16 rows at shared address v, kPitch bytes apart, turned: x[i] has 2 bytes of column i,
// 2 (lane / 4) and the next one, of rows 2 (lane % 4) and the next one; y[i] of the rows 8 below.
template <int kPitch>
__device__ __forceinline__ void LoadValues(uint32_t v, int lane, uint32_t (&x)[4], uint32_t (&y)[4]) {
  const int row = lane % 8 + lane / 16 * 8, pair = lane % 8 / 2, t = lane % 4, e = lane / 8 % 2;
  const uint32_t base = v + row * kPitch;
  const bool r1 = t & 1, r2 = t & 2;
  const uint4 A = LoadMatrixTransposed(base + ((e + pair) & 3) * 16);
  const uint4 B = LoadMatrixTransposed(base + ((e + 2 + pair) & 3) * 16);
  const uint32_t a[4] = {A.x, A.y, B.x, B.y}, b[4] = {A.z, A.w, B.z, B.w};
  uint32_t w[4], z[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    w[i] = r1 ? a[(i + 3) & 3] : a[i];
    z[i] = r1 ? b[(i + 3) & 3] : b[i];
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    x[i] = r2 ? w[(i + 2) & 3] : w[i];
    y[i] = r2 ? z[(i + 2) & 3] : z[i];
  }
}

// kExtra: rows of o beyond the outputs that fade like them, see Int4AttentionWarp.
template <int kDim, int kExtra = 0>
struct AttentionWarp {
  static constexpr int kPitch = kDim * 2, kOuts = kDim / 16;
  static constexpr float kLift = 1;  // what the outputs still have to be multiplied by, see CodedAttentionWarp
  // Of heads 2 (lane % 4) and the next one: maximum (raw score), this lane's share of the sum, outputs of dimensions
  // 16 r + lane / 4 ([0], [1]) and 8 more ([2], [3]).
  float m[2], l[2], o[kOuts + kExtra][4];
  uint4 q[kDim / 32];  // dimensions 32 j + 8 (lane % 4) .. + 7 of head lane / 4

  __device__ __forceinline__ void Reset() {
    m[0] = m[1] = -INFINITY;
    l[0] = l[1] = 0;
#pragma unroll
    for (int i = 0; i < kOuts + kExtra; ++i)
#pragma unroll
      for (int j = 0; j < 4; ++j) o[i][j] = 0;
  }
  // Scores of 16 tokens at shared address k.
  __device__ __forceinline__ void Scores(uint32_t k, int lane, float (&s)[4]) const {
    const int g = lane / 4, t = lane % 4;
    const bool odd = g & 1;
    float s1[4] = {};
    s[0] = s[1] = s[2] = s[3] = 0;
    const uint32_t p = k + g * kPitch + t * 16, x = odd ? 64 : 0;
#pragma unroll
    for (int jj = 0; jj < kDim / 64; ++jj) {
      const uint32_t b = p + jj * 128, hi = b + 8 * kPitch;
      const uint4 lo0 = LoadShared16(b + x), lo1 = LoadShared16(b + (64 - x));
      const uint4 hi0 = LoadShared16(hi + x), hi1 = LoadShared16(hi + (64 - x));
      const uint4 a0 = Pick(odd, lo1, lo0), a1 = Pick(odd, lo0, lo1), c0 = Pick(odd, hi1, hi0), c1 = Pick(odd, hi0, hi1);
      const uint4 q0 = q[2 * jj], q1 = q[2 * jj + 1];
      Mma(s, a0.x, c0.x, a0.y, c0.y, q0.x, q0.y);
      Mma(s1, a0.z, c0.z, a0.w, c0.w, q0.z, q0.w);
      Mma(s, a1.x, c1.x, a1.y, c1.y, q1.x, q1.y);
      Mma(s1, a1.z, c1.z, a1.w, c1.w, q1.z, q1.w);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) s[i] += s1[i];
  }
  // Online softmax over tokens [lo, hi) of the group; c = scale * log2(e). e: P, as s is laid out; 0 outside of [lo, hi).
  __device__ __forceinline__ void Exponentials(float (&s)[4], float c, int lo, int hi, int lane, float (&e)[4]) {
    const int g = lane / 4;
    if (g < lo || g >= hi) s[0] = s[1] = -INFINITY;
    if (g + 8 < lo || g + 8 >= hi) s[2] = s[3] = -INFINITY;
    float x[2] = {fmaxf(s[0], s[2]), fmaxf(s[1], s[3])};
    if (__any_sync(~0u, x[0] > m[0] || x[1] > m[1])) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
#pragma unroll
        for (int d = 4; d < 32; d *= 2) x[i] = fmaxf(x[i], __shfl_xor_sync(~0u, x[i], d));
        x[i] = fmaxf(x[i], m[i]);
        const float f = m[i] == -INFINITY ? 0.0f : Exp2((m[i] - x[i]) * c);
        m[i] = x[i];
        l[i] *= f;
#pragma unroll
        for (int r = 0; r < kOuts + kExtra; ++r) {
          o[r][i] *= f;
          o[r][i + 2] *= f;
        }
      }
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) e[i] = s[i] == -INFINITY ? 0.0f : Exp2((s[i] - m[i % 2]) * c);
  }
  // Returns P^T as the B operand.
  __device__ __forceinline__ uint2 Softmax(float (&s)[4], float c, int lo, int hi, int lane) {
    float e[4];
    Exponentials(s, c, lo, hi, lane, e);
    // The sum takes the rounded values: a dominant token's rounding then cancels in the quotient.
    const uint32_t a = PackBf16(e[0], e[1]), b = PackBf16(e[2], e[3]);
    l[0] += __uint_as_float(a << 16) + __uint_as_float(b << 16);
    l[1] += __uint_as_float(a & 0xffff0000u) + __uint_as_float(b & 0xffff0000u);
    return {Transpose8x8(a), Transpose8x8(b)};
  }
  // Adds P V of 16 tokens at shared address v.
  __device__ __forceinline__ void Values(uint32_t v, int lane, uint2 p) {
#pragma unroll
    for (int h = 0; h < kDim / 32; ++h) {
      uint32_t x[4], y[4];
      LoadValues<kPitch>(v + h * 64, lane, x, y);
      Mma(o[2 * h], x[0], x[1], y[0], y[1], p.x, p.y);
      Mma(o[2 * h + 1], x[2], x[3], y[2], y[3], p.x, p.y);
    }
  }
  // Makes l the sums of all lanes.
  __device__ __forceinline__ void SumLanes() {
#pragma unroll
    for (int d = 4; d < 32; d *= 2)
#pragma unroll
      for (int x = 0; x < 2; ++x) l[x] += __shfl_xor_sync(~0u, l[x], d);
  }
  // The output of head 2 (lane % 4) + x, dimension DimensionOf(r, half, lane), before the division by l; after
  // SumLanes.
  __device__ __forceinline__ float Output(int r, int half, int x) const { return o[r][x + 2 * half]; }
  // The dimension of o[r][i] is DimensionOf(r, i / 2, lane).
  __device__ static int DimensionOf(int r, int half, int lane) { return 16 * r + lane / 4 + 8 * half; }
};

// Zeroes tokens `from` .. 15 of a group of values: they were never written and may be anything, NaNs too, and
// zero times NaN is not zero. The copy that fills the slot again comes after this.
template <int kDim>
__device__ void ClearTokens(char* group, int from, int lane) {
  uint4* values = reinterpret_cast<uint4*>(group);
  for (int i = from * kDim / 8 + lane; i < kGroupTokens * kDim / 8; i += 32) values[i] = uint4{0, 0, 0, 0};
  FenceAsyncProxy();
  __syncwarp();
}

// A thread's kV outputs of a work with the maximum and sum of their head.
template <int kV>
struct Merged {
  float m = -INFINITY, l = 0, out[kV] = {};

  __device__ void Add(float peak, float sum, const float (&o)[kV], float c) {
    const float top = fmaxf(m, peak);
    const float own = m == -INFINITY ? 0.0f : Exp2((m - top) * c),
                other = peak == -INFINITY ? 0.0f : Exp2((peak - top) * c);
    m = top;
    l = l * own + sum * other;
#pragma unroll
    for (int j = 0; j < kV; ++j) out[j] = out[j] * own + o[j] * other;
  }
};

}  // namespace dsopt_cuda
#endif  // DSOPT_CUDA_COMMON_ATTENTION_WARP_CUH_
