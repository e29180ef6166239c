// latent_consumer.cuh - what the consumer warps of the latent step do besides large products: inputs that they
// wait for, residuals, epilogues, and the two small products of a head, k_up and v_up.
#ifndef DSOPT_CUDA_PERSISTENT_LATENT_CONSUMER_CUH_
#define DSOPT_CUDA_PERSISTENT_LATENT_CONSUMER_CUH_

#include "persistent/consumer.cuh"
#include "persistent/latent_shape.cuh"

namespace dsopt_cuda::persistent {

// Vectors of 8 columns that a thread holds of a row of kColumns: vector i is columns 2048 i + 8 tid .. + 7.
template <int kColumns>
inline constexpr int kThreadVectors = (kColumns + kChunk - 1) / kChunk;

__device__ __forceinline__ bool Unwritten(uint4 v) {
  return v.x == kUnwritten || v.y == kUnwritten || v.z == kUnwritten || v.w == kUnwritten;
}
__device__ __forceinline__ uint4 LoadRelaxedWords4(const float* p) {
  const float4 v = LoadRelaxed4(p);
  return {__float_as_uint(v.x), __float_as_uint(v.y), __float_as_uint(v.z), __float_as_uint(v.w)};
}
__device__ __forceinline__ void StoreRelaxedWords4(float* p, uint4 v) {
  StoreRelaxed4(p, {__uint_as_float(v.x), __uint_as_float(v.y), __uint_as_float(v.z), __uint_as_float(v.w)});
}
__device__ __forceinline__ void StoreRelaxedWord(float* p, uint32_t v) { StoreRelaxed(p, __uint_as_float(v)); }
__device__ __forceinline__ void Expand(uint4 v, float* a) {
  const uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    a[2 * i] = __uint_as_float(words[i] << 16);
    a[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
  }
}
__device__ __forceinline__ uint4 Pack8(const float* a) {
  return {PackBf16(a[0], a[1]), PackBf16(a[2], a[3]), PackBf16(a[4], a[5]), PackBf16(a[6], a[7])};
}

__device__ __forceinline__ float2 RopeTurn(const LatentStep& step, int position, int i) {
  // The angle is a float, as in the reference; the reduction to one turn is exact enough in double.
  const double angle = static_cast<double>(static_cast<float>(position) * step.inv_freq[i]);
  const float turn = static_cast<float>(angle - rint(angle * 0.15915494309189535) * 6.283185307179586);
  return {__cosf(turn) * step.rope_scale, __sinf(turn) * step.rope_scale};
}
// Rotates pair i of 64 values, from one vector to another.
__device__ __forceinline__ void RotatePair(float2 turn, bool interleaved, const float* from, float* to, int i) {
  const int first = interleaved ? 2 * i : i, second = interleaved ? first + 1 : i + kLatentRope / 2;
  const float x = from[first], y = from[second];
  to[first] = x * turn.x - y * turn.y;
  to[second] = y * turn.x + x * turn.y;
}

template <typename S>
struct LatentConsumer : Consumer<S, LatentCta<S>> {
  using Base = Consumer<S, LatentCta<S>>;
  using Base::Barrier, Base::NextSlot;
  using Base::my, Base::tid, Base::slot, Base::parity;
  int part_buffer = 0;

  template <int kColumns>
  __device__ bool Mine(int vector) const {
    return vector * kChunk + tid * kVec < kColumns;
  }

  // This thread's vectors of the sum of kParts vectors, when all of them are written.
  template <int kColumns, int kParts>
  __device__ __forceinline__ void PollSum(const float* from,
                                          float (&a)[kThreadVectors<kColumns> * kVec]) const {
    constexpr int kQuads = kThreadVectors<kColumns> * 2;
    float4 v[kParts][kQuads];
    bool again;
    do {
      again = false;
#pragma unroll
      for (int p = 0; p < kParts; ++p)
#pragma unroll
        for (int i = 0; i < kQuads; ++i)
          v[p][i] = Mine<kColumns>(i / 2)
                        ? LoadRelaxed4(from + p * kColumns + i / 2 * kChunk + tid * kVec + i % 2 * 4)
                        : float4{0, 0, 0, 0};
#pragma unroll
      for (int p = 0; p < kParts; ++p)
#pragma unroll
        for (int i = 0; i < kQuads; ++i) again |= Unwritten(v[p][i]);
    } while (again);
#pragma unroll
    for (int i = 0; i < kQuads; ++i) {
      float4 sum = v[0][i];
#pragma unroll
      for (int p = 1; p < kParts; ++p)
        sum.x += v[p][i].x, sum.y += v[p][i].y, sum.z += v[p][i].z, sum.w += v[p][i].w;
      a[4 * i] = sum.x, a[4 * i + 1] = sum.y, a[4 * i + 2] = sum.z, a[4 * i + 3] = sum.w;
    }
  }
  // The same of bf16 pairs.
  template <int kColumns>
  __device__ __forceinline__ void PollPairs(const float* from, uint4 (&v)[kThreadVectors<kColumns>]) const {
    constexpr int kN = kThreadVectors<kColumns>;
    bool again;
    do {
      again = false;
#pragma unroll
      for (int i = 0; i < kN; ++i)
        v[i] = Mine<kColumns>(i) ? LoadRelaxedWords4(from + (i * kChunk + tid * kVec) / 2)
                                 : make_uint4(0, 0, 0, 0);
#pragma unroll
      for (int i = 0; i < kN; ++i) again |= Unwritten(v[i]);
    } while (again);
  }

  __device__ void Embedding(float (&a)[kThreadVectors<S::kHidden> * kVec]) const {
#pragma unroll
    for (int i = 0; i < kThreadVectors<S::kHidden>; ++i) {
      const int at = i * kChunk + tid * kVec;
      if (!Mine<S::kHidden>(i)) {
#pragma unroll
        for (int j = 0; j < kVec; ++j) a[i * kVec + j] = 0;
      } else if (my.step.embedded != nullptr) {
#pragma unroll
        for (int j = 0; j < kVec; ++j) a[i * kVec + j] = my.step.embedded[at + j];
      } else {
        Expand(__ldg(reinterpret_cast<const uint4*>(TokenRow() + at)), a + i * kVec);
#pragma unroll
        for (int j = 0; j < kVec; ++j) a[i * kVec + j] *= my.step.embed_scale;
      }
    }
  }
  __device__ const bf16* TokenRow() const {
    return static_cast<const bf16*>(my.step.embed) + static_cast<size_t>(*my.step.token) * S::kHidden;
  }

  // Gains do not change: they are loaded before the wait for what they are multiplied with.
  template <int kColumns>
  __device__ __forceinline__ void LoadGains(const float* gains,
                                            float (&g)[kThreadVectors<kColumns> * kVec]) const {
#pragma unroll
    for (int i = 0; i < kThreadVectors<kColumns> * 2; ++i) {
      float4 v = {0, 0, 0, 0};
      if (Mine<kColumns>(i / 2))
        v = __ldg(reinterpret_cast<const float4*>(gains + i / 2 * kChunk + tid * kVec + i % 2 * 4));
      g[4 * i] = v.x, g[4 * i + 1] = v.y, g[4 * i + 2] = v.z, g[4 * i + 3] = v.w;
    }
  }
  template <int kColumns>
  __device__ static float Scale(const float* squares, float eps) {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kConsumerWarps; ++i) sum += squares[i];
    return rsqrtf(sum / kColumns + eps);
  }

  // Row `row` of the residual stream: the sum of kParts vectors, or, without them, of the embedding.
  __device__ float ResidualRow(const float* parts, int row) const {
    if (parts != nullptr) {
      float sum = 0;
#pragma unroll
      for (int p = 0; p < S::kParts; ++p) sum += __ldcg(parts + p * S::kHidden + row);
      return sum;
    }
    if (my.step.embedded != nullptr) return my.step.embedded[row];
    return __bfloat162float(TokenRow()[row]) * my.step.embed_scale;
  }

  __device__ float* Part(int table) const { return my.floats(S::kPartAt) + table * S::kPartFloats; }
  // One warp, after a Barrier: lane i gets the sum of row i of a part table.
  __device__ float RowSum(const float* part) const {
    const int lane = tid % 32;
    if (lane >= kPartRows) return 0;
    const float4* p = reinterpret_cast<const float4*>(part + lane * kConsumerWarps);
    const float4 a = p[0], b = p[1];
    return ((a.x + b.x) + (a.y + b.y)) + ((a.z + b.z) + (a.w + b.w));
  }
  // One warp: lane 4 j has the gate of row pair 2 j, lane 4 j + 1 its up, and so on: lane 4 j stores both
  // results as one word. `row`: of this lane, counted from the first row of the matrix.
  __device__ void StoreGated(float* gated, int row, float y, bool valid) const {
    const float up = __shfl_down_sync(~0u, y, 1), one = GatedActivation(y, up, false);
    const float two = __shfl_down_sync(~0u, one, 2);
    if (valid && row % 4 == 0) StoreRelaxedWord(gated + row / 4, PackBf16(one, two));
  }

  // Logits of this CTA's experts: rows cta, cta + ctas, .. of the router, f32, through the ring.
  __device__ void RouterLogits(float* logits, const float (&a)[kThreadVectors<S::kHidden> * kVec],
                               float scale) {
    const int lane = tid % 32;
#pragma unroll 1
    for (int expert = my.cta; expert < S::kExperts; expert += my.ctas) {
      BarrierWait(my.full(slot), parity);
      const float* weights = reinterpret_cast<const float*>(my.shared + slot * S::kSlotBytes) + tid * kVec;
      float sum[1] = {0};
#pragma unroll
      for (int i = 0; i < kThreadVectors<S::kHidden> * 2; ++i) {
        if (!Mine<S::kHidden>(i / 2)) continue;
        const float4 w = *reinterpret_cast<const float4*>(weights + i / 2 * kChunk + i % 2 * 4);
        sum[0] = fmaf(a[4 * i], w.x,
                      fmaf(a[4 * i + 1], w.y, fmaf(a[4 * i + 2], w.z, fmaf(a[4 * i + 3], w.w, sum[0]))));
      }
      NextSlot();
      float* part = Part(part_buffer);
      part_buffer ^= 1;
      const float total = ReduceRows<1>(sum, lane);
      if (lane == 0) part[tid / 32] = total;
      Barrier();
      if (tid == 0) StoreRelaxed(logits + expert, RowSum(part) * scale);
    }
  }

  // (cos, sin) of the current position.
  __device__ void PrepareRope(int position) const {
    if (tid < kLatentRope / 2) my.rope()[tid] = RopeTurn(my.step, position, tid);
  }
  // key[0:512] = k_up q[0:128], key[512:] = the rest of q, rotated. Rows of 128, half a warp each. Ends with a
  // Barrier. Short loops on purpose, here and below: the code runs cold.
  static constexpr int kKUpRows = 64;  // of a slot
  __device__ void AbsorbQuery() {
    const int lane = tid % 32, warp = tid / 32;
    const float* query = my.floats(S::kHeadQueryAt);
    float* key = my.floats(S::kHeadKeyAt);
    float a[kVec];
#pragma unroll
    for (int j = 0; j < kVec; ++j) a[j] = Rounded(query[lane % 16 * kVec + j]);
    if (warp == 0) RotatePair(my.rope()[lane], my.step.interleaved != 0, query + kNope, key + kLatent, lane);
#pragma unroll 1
    for (int row0 = 0; row0 < kLatent; row0 += 2 * kKUpRows) {
      uint4 w[8];
#pragma unroll
      for (int s = 0; s < 2; ++s) {
        BarrierWait(my.full(slot), parity);
        const uint32_t from =
            my.slot(slot) + static_cast<uint32_t>((warp * 8 + lane / 16) * kNope * 2 + lane % 16 * 16);
#pragma unroll
        for (int i = 0; i < 4; ++i)
          w[4 * s + i] = LoadShared16(from + static_cast<uint32_t>(i * 2 * kNope * 2));
        NextSlot();
      }
      float v[8];
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        float x[kVec];
        Expand(w[i], x);
        v[i] = x[0] * a[0];
#pragma unroll
        for (int j = 1; j < kVec; ++j) v[i] = fmaf(x[j], a[j], v[i]);
      }
      // Over the 16 lanes of half a warp: lane % 16 / 2 ends up with v[lane % 16 / 2].
#pragma unroll
      for (int n = 8, m = 8; n > 1; n /= 2, m /= 2) {
        const bool high = lane & m;
#pragma unroll
        for (int i = 0; i < n / 2; ++i) {
          const float keep = high ? v[i + n / 2] : v[i], send = high ? v[i] : v[i + n / 2];
          v[i] = keep + __shfl_xor_sync(~0u, send, m);
        }
      }
      v[0] += __shfl_xor_sync(~0u, v[0], 1);
      if (lane % 2 == 0) key[row0 + lane % 16 / 8 * kKUpRows + warp * 8 + lane % 8 / 2 * 2 + lane / 16] = v[0];
    }
    Barrier();
  }

  // attended[head] = v_up context: rows of 512, two of a slot's 16 each warp. context: f32 in shared memory.
  static constexpr int kVUpRows = 16;
  __device__ void HeadValues(const float* context, float* attended) {
    const int lane = tid % 32, warp = tid / 32;
    float a[2 * kVec];
#pragma unroll
    for (int j = 0; j < 2 * kVec; ++j) a[j] = Rounded(context[j / kVec * 256 + lane * kVec + j % kVec]);
#pragma unroll 1
    for (int row0 = 0; row0 < kHeadValues; row0 += 2 * kVUpRows) {
      uint4 w[8];
#pragma unroll
      for (int s = 0; s < 2; ++s) {
        BarrierWait(my.full(slot), parity);
        const uint32_t from = my.slot(slot) + static_cast<uint32_t>(warp * 2 * kLatent * 2 + lane * 16);
#pragma unroll
        for (int i = 0; i < 4; ++i)
          w[4 * s + i] = LoadShared16(from + static_cast<uint32_t>(i / 2 * kLatent * 2 + i % 2 * 512));
        NextSlot();
      }
      float v[4] = {};
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        float x[kVec], sum = 0;
        Expand(w[i], x);
#pragma unroll
        for (int j = 0; j < kVec; ++j) sum = fmaf(x[j], a[i % 2 * kVec + j], sum);
        v[i / 2] += sum;
      }
      // Eight lanes a row; rows 0 and 1 are of the first slot.
      const float sum = ReduceRows<4>(v, lane), other = __shfl_down_sync(~0u, sum, 8);
      if (lane % 16 == 0)
        StoreRelaxedWord(attended + (row0 + lane / 16 * kVUpRows + warp * 2) / 2, PackBf16(sum, other));
    }
  }
};

}  // namespace dsopt_cuda::persistent
#endif  // DSOPT_CUDA_PERSISTENT_LATENT_CONSUMER_CUH_
