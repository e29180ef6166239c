// batch_side.cuh - the side warp of the persistent step of few rows: what is few values and long ways to them,
// while the consumer warps are at the ring. For products that follow a norm 1 / rms of the rows; for attention
// the scores of the current token, which is not in the cache yet, and its way there.
#ifndef DSOPT_CUDA_PERSISTENT_BATCH_SIDE_CUH_
#define DSOPT_CUDA_PERSISTENT_BATCH_SIDE_CUH_

#include "persistent/batch_attention.cuh"

namespace dsopt_cuda::batch {

#ifdef DSOPT_CUDA_WGMMA

template <int kDim>
struct CurrentToken : Operands<kDim> {
  using Operands<kDim>::s, Operands<kDim>::Row, Operands<kDim>::Rotation;
  static constexpr int kHalf = kDim / 2, kPairs = kHalf / 32;  // pairs of a lane: dimensions i and i + kHalf
  int lane;

  __device__ static void Rotate(const float2 (&turn)[kPairs], const float* from, int lane, bf16 (&low)[kPairs],
                                bf16 (&high)[kPairs]) {
#pragma unroll
    for (int j = 0; j < kPairs; ++j) {
      const float x = __ldcg(from + lane + 32 * j), y = __ldcg(from + kHalf + lane + 32 * j);
      low[j] = __float2bfloat16(x * turn[j].x - y * turn[j].y);
      high[j] = __float2bfloat16(y * turn[j].x + x * turn[j].y);
    }
  }
  // cache: where the layer's keys and values of page 0 lie.
  __device__ void Append(int row, int position, int kv_head, char* cache, const bf16 (&low)[kPairs],
                         const bf16 (&high)[kPairs]) const {
    const int64_t entry =
        static_cast<int64_t>(__ldg(s.cache.row_seq + row)) * s.cache.page_stride + position / kPageTokens;
    bf16* key = reinterpret_cast<bf16*>(cache + static_cast<uint64_t>(__ldg(s.cache.page_table + entry)) *
                                                    s.cache.page_bytes) +
                static_cast<int64_t>(kv_head * kPageTokens + position % kPageTokens) * kDim;
    bf16* value = key + static_cast<int64_t>(s.kv_heads) * kPageTokens * kDim;
    const float* from = this->Value(row, kv_head);
#pragma unroll
    for (int j = 0; j < kPairs; ++j) {
      const int i = lane + 32 * j;
      key[i] = low[j];
      key[kHalf + i] = high[j];
      value[i] = __float2bfloat16(__ldcg(from + i));
      value[kHalf + i] = __float2bfloat16(__ldcg(from + kHalf + i));
    }
  }
  __device__ void Run(int row, int position, const Heads& heads, char* cache, float* scores) const {
    float2 turn[kPairs];
#pragma unroll
    for (int j = 0; j < kPairs; ++j) turn[j] = Rotation(row, lane + 32 * j);
    bf16 low[kPairs], high[kPairs];
    Rotate(turn, this->Key(row, heads.kv_head), lane, low, high);
    const float* queries = Row(row, heads.first);
    float sum[kBatchHeads] = {};
#pragma unroll
    for (int h = 0; h < kBatchHeads; ++h) {
      bf16 q_low[kPairs], q_high[kPairs];
      Rotate(turn, queries + min(h, heads.count - 1) * kDim, lane, q_low, q_high);
#pragma unroll
      for (int j = 0; j < kPairs; ++j)
        sum[h] += __bfloat162float(q_low[j]) * __bfloat162float(low[j]) +
                  __bfloat162float(q_high[j]) * __bfloat162float(high[j]);
    }
    // As WarpSum, of all heads side by side.
#pragma unroll 1
    for (int m = 16; m > 0; m /= 2)
#pragma unroll
      for (int h = 0; h < kBatchHeads; ++h) sum[h] += __shfl_xor_sync(~0u, sum[h], m);
    if (lane == 0)
#pragma unroll
      for (int h = 0; h < kBatchHeads; ++h) scores[h] = sum[h];
    if (heads.append) Append(row, position, heads.kv_head, cache, low, high);
  }
};

template <typename S, int kDim>
struct Side {
  const BatchStep& s;
  const Line& line;
  char* shared;
  int lane = threadIdx.x % 32;

  __device__ void Await(int layer, int op) const {
    if (lane == 0)
      while (!InputReady(s, layer, op)) {
      }
    __syncwarp();
  }
  __device__ void Scales(int layer, int op) const {
    const int number = NumberOf(s, layer, op);
    const StreamGeometry& g = s.linear[MatrixOf(op)].geometry;
    if (number >= g.panels * g.units_per_group) return;
    Await(layer, op);
    constexpr int kLanes = 32 / S::kM;  // of a row
    const int row = lane / kLanes, panels = (s.hidden + S::kRows - 1) / S::kRows;
    float sum = 0;
    if (row < s.rows)
#pragma unroll 8
      for (int i = lane % kLanes; i < panels; i += kLanes) sum += __ldcg(s.squares + row * panels + i);
#pragma unroll
    for (int d = 1; d < kLanes; d *= 2) sum += __shfl_xor_sync(~0u, sum, d);
    if (lane % kLanes == 0)
      reinterpret_cast<float*>(shared + Shared<S>::kScalesAt)[row] =
          rsqrtf(sum / static_cast<float>(s.hidden) + s.eps);
    MeetSide<S>();
  }
  // Scores are written while those of the work before may still be read.
  __device__ void Tokens(int layer) const {
    const auto [begin, end] = line.RangeOf(NumberOf(s, layer, kAttention));
    char* cache = s.cache.base + s.layers[layer].cache_offset;
    float* scores = reinterpret_cast<float*>(shared + Shared<S>::kScoresAt);
    int row = 0, owned = 0;
#pragma unroll 1
    for (int at = begin; at < end;) {
      const Place place(line, at, row);
      row = place.row;
      at += place.items - place.item;
      if (place.item != 0) continue;
      if (owned == 0) Await(layer, kAttention);
      float* to = scores + owned++ % 2 * kBatchHeads;
      const Heads heads(s, place.work);
      CurrentToken<kDim>{{s}, lane}.Run(row, line.position[row], heads, cache, to);
      MeetSide<S>();
    }
  }
  __device__ void Run() const {
#pragma unroll 1
    for (int layer = 0; layer < s.layer_count; ++layer)
#pragma unroll 1
      for (int op = 0; op < kOps; ++op) {
        if (op == kAttention)
          Tokens(layer);
        else if (op == kQkv || op == kGateUp)
          Scales(layer, op);
      }
  }
};

#endif

}  // namespace dsopt_cuda::batch
#endif  // DSOPT_CUDA_PERSISTENT_BATCH_SIDE_CUH_
