// batch_shape.cuh - the persistent step of few rows: shared memory of a CTA, its ring, which part of an
// operation it has, and the line of cache items that attention goes through.
#ifndef DSOPT_CUDA_PERSISTENT_BATCH_SHAPE_CUH_
#define DSOPT_CUDA_PERSISTENT_BATCH_SHAPE_CUH_

#include "common/attention_line.cuh"
#include "common/wgmma.cuh"
#include "linear_stream.cuh"
#include "persistent_batch.h"

namespace dsopt_cuda::batch {

// Operations of a layer.
enum Op : int { kQkv, kAttention, kOut, kGateUp, kDown, kOps };
__device__ __forceinline__ int MatrixOf(int op) { return op == kQkv ? 0 : op - 1; }
// The counter of an operation: how many CTAs have ended it. Counter 0 is that of the start.
__device__ __forceinline__ int CounterOf(int layer, int op) { return 1 + layer * kOps + op; }
// What it holds when all have.
__device__ __forceinline__ uint32_t TargetOf(uint32_t step) { return (step + 1) * gridDim.x; }

// Consumer warps are one team or two, which take turns with the slots of the ring: a slot is always the same
// team's, because a warp must see all phases of the barriers it waits at. Behind them a warp each for the
// weights and the inputs in the ring, and a side warp.
inline constexpr int kConsumerWarps = 8;
inline constexpr int kWeightsWarp = kConsumerWarps, kInputsWarp = kWeightsWarp + 1, kSideWarp = kInputsWarp + 1;
template <typename Base>
struct BatchStream : Base {
  static_assert(Base::kWarps == kConsumerWarps);
  static constexpr int kTeams = Base::kHalves, kTeamWarps = kConsumerWarps / kTeams;
  static constexpr int kThreads = (kSideWarp + 1) * 32;
  static constexpr int kPerWarp = Base::kBlocks / kTeamWarps;  // row blocks of a warp
};

// While warps merge: query heads of a work x padded dimensions.
template <int kDim>
inline constexpr int kMergeRow = kDim + 4;
inline constexpr int kMergeBytes = kConsumerWarps * kBatchHeads * (kMergeRow<128> * 4 + 8);

inline constexpr int kLineBytes = 400;  // of Line

// S: a BatchStream.
template <typename S>
struct Shared {
  static constexpr int kLinearAt = 512;              // behind the barriers; the product under way
  static constexpr int kScalesAt = kLinearAt + 512;  // 1 / rms of the input rows
  static constexpr int kLineAt = kScalesAt + kBatchRows * 4;
  static constexpr int kScoresAt = kLineAt + kLineBytes;  // of the current token, of two works
  static constexpr int kSumsAt = 2048, kSumsBytes = S::kBuffers * S::kFloats * 4;
  // Sums of products and the merge area of attention take turns.
  static constexpr int kRingAt =
      (kSumsAt + (kSumsBytes > kMergeBytes ? kSumsBytes : kMergeBytes) + 1023) / 1024 * 1024;
  static_assert(sizeof(StreamLinear) <= 512 && kScoresAt + 2 * kBatchHeads * 4 <= kSumsAt);
};

// The ring, as in common/ring.cuh, but weights and inputs of a slot have a barrier each: weights are on their
// way long before the inputs exist.
template <typename S>
struct BatchRing {
  uint32_t barriers, data;
  int slots, slot_bytes, team;
  int slot = 0;
  uint32_t parity = 0;

  __device__ bool Mine() const { return S::kTeams == 1 || slot % S::kTeams == team; }
  __device__ uint32_t Weights() const { return barriers + 8 * slot; }
  __device__ uint32_t Inputs() const { return barriers + 8 * (slots + slot); }
  __device__ uint32_t Empty() const { return barriers + 8 * (2 * slots + slot); }
  // Of an operation as a whole: see Consumer::Await.
  __device__ uint32_t Ready() const { return barriers + 8 * 3 * slots; }
  __device__ uint32_t Slot() const { return data + slot * slot_bytes; }
  // One thread; synchronise the CTA afterwards.
  __device__ void Init() const {
#pragma unroll 1
    for (int i = 0; i < slots; ++i) {
      BarrierInit(barriers + 8 * i, 1);
      BarrierInit(barriers + 8 * (slots + i), 1);
      BarrierInit(barriers + 8 * (2 * slots + i), S::kTeamWarps);
    }
    BarrierInit(Ready(), 1);
  }
  __device__ void Advance() {
    if (++slot == slots) {
      slot = 0;
      parity ^= 1;
    }
  }
  __device__ void WaitFull() const {
    BarrierWait(Weights(), parity);
    BarrierWait(Inputs(), parity);
  }
  __device__ void Release(int lane) const {
    __syncwarp();
    if (lane == 0) BarrierArrive(Empty());
  }
};

// An operation's input is there: all CTAs have ended what comes before it. One lane; others follow by a
// barrier. The counter is read relaxed until then: an acquiring load would empty the L1 cache every time.
__device__ __forceinline__ bool InputReady(const BatchStep& s, int layer, int op) {
  const uint32_t count = LoadRelaxed(s.counters + (CounterOf(layer, op) - 1) * kFlagStride);
  if (static_cast<int32_t>(count - TargetOf(s.step)) < 0) return false;
  __threadfence();
  return true;
}
// The side warp has put what the consumer warps wait for here into shared memory.
template <typename S>
__device__ __forceinline__ void MeetSide() {
  NamedBarrier<2>(S::kConsumers + 32);
}

// Where values of a row image of the step lie; F: see batch_step.cuh.
template <typename F>
struct Image {
  static constexpr bool kTiled = F::kPitch == kTiledPitch;
  int chunk;  // elements
  __device__ explicit Image(const BatchStep& s) : chunk((s.rows + 7) / 8 * 8 * F::kPitch) {}
  __device__ int At(int row, int column) const {
    const uint32_t c = static_cast<uint32_t>(column), in_chunk = c % F::kChunk;
    const int of_chunk = static_cast<int>(c / F::kChunk) * chunk;
    if constexpr (kTiled)
      return of_chunk + static_cast<int>(in_chunk / kTileColumns) * (chunk / kChunkTiles) + row * kTileColumns +
             RowLayout::InTiledLine(row, static_cast<int>(in_chunk));
    return of_chunk + row * F::kPitch + static_cast<int>(in_chunk);
  }
  // Four values from a column that is a multiple of four on.
  __device__ void Store(void* image, int row, int column, uint32_t first, uint32_t second) const {
    bf16* to = static_cast<bf16*>(image) + At(row, column);
    if constexpr (kTiled) {
      *reinterpret_cast<uint32_t*>(to) = first;
      *reinterpret_cast<uint32_t*>(static_cast<bf16*>(image) + At(row, column + 2)) = second;
    } else {
      *reinterpret_cast<uint2*>(to) = {first, second};
    }
  }
};

// The CTA's number in the order of an operation's ranges. What does not divide evenly rotates over the CTAs.
__device__ __forceinline__ int NumberOf(const BatchStep& s, int layer, int op) {
  return static_cast<int>((blockIdx.x + static_cast<uint32_t>(layer) * s.turns + s.turn[op]) % gridDim.x);
}

// Items of the cache, in shared memory: item_tokens tokens of a row and one of its works (KV head, part of its
// query heads). The row's own token is not in the cache yet. All rows' items are one line, cut into equal
// ranges. In shared memory.
struct Line {
  struct Range {
    int begin, end;
  };
  int before[kBatchRows + 1], position[kBatchRows];  // per row: items of one work of the rows before it
  int rows, works, total, ctas;  // works: of a row; ctas: that have a part of the line
  int least, extra;              // parts of the line that a CTA has at least; that are left then
  bool whole;                    // works are not cut: they are the parts, else the items

  __device__ static int First(const BatchStep& s, int position) {
    return s.window > 0 ? max(0, position + 1 - s.window) : 0;
  }
  // One warp; synchronise the CTA afterwards.
  __device__ void Init(const BatchStep& s, int lane) {
    int items = 0;
    if (lane < s.rows) {
      const int at = s.cache.positions[lane], first = First(s, at) / s.item_tokens;
      position[lane] = at;
      items = max((at + s.item_tokens - 1) / s.item_tokens - first, 1);
    }
    const int longest = static_cast<int>(__reduce_max_sync(~0u, static_cast<uint32_t>(items)));
#pragma unroll
    for (int d = 1; d < 32; d *= 2) {
      const int other = __shfl_up_sync(~0u, items, d);
      if (lane >= d) items += other;
    }
    if (lane < s.rows) before[lane + 1] = items;
    const int all = __shfl_sync(~0u, items, 31);
    if (lane > 0) return;
    before[0] = 0;
    constexpr int kMerge = 384;  // tokens that are read while works are merged
    rows = s.rows;
    works = s.kv_heads * s.parts;
    total = all * works;
    const int grid = static_cast<int>(gridDim.x), most = (rows * works + grid - 1) / grid;
    whole = most * longest <= total / grid + kMerge / s.item_tokens;
    const int parts = whole ? rows * works : total;
    ctas = min(grid, parts);
    least = parts / ctas;
    extra = parts - least * ctas;
  }
  // The items of CTA `number`: parts * number / ctas is where its parts begin.
  __device__ Range RangeOf(int number) const {
    if (number >= ctas) return {total, total};
    const uint32_t over = static_cast<uint32_t>(extra * number), first = over / static_cast<uint32_t>(ctas);
    const bool more = over - first * ctas + extra >= static_cast<uint32_t>(ctas);
    const int begin = least * number + static_cast<int>(first), end = begin + least + (more ? 1 : 0);
    if (!whole) return {begin, end};
    int row = static_cast<int>(static_cast<uint32_t>(begin) / static_cast<uint32_t>(works));
    const int from = ItemOf(row, begin);
#pragma unroll 1
    while (end >= (row + 1) * works && row < rows) ++row;
    return {from, ItemOf(row, end)};
  }
  // The first item of work `part` of the line, which row `row` has.
  __device__ int ItemOf(int row, int part) const {
    const int all = before[row] * works;
    return row < rows ? all + (part - row * works) * (before[row + 1] - before[row]) : all;
  }
  // The first token of an item of a work whose first token is `first`; item_tokens is a power of two.
  __device__ static int TokenOf(const BatchStep& s, int first, int item) {
    return (first & -s.item_tokens) + item * s.item_tokens;
  }
  __device__ int TokenOf(const BatchStep& s, const Place& place) const {
    return TokenOf(s, First(s, position[place.row]), place.item);
  }
  // The number of the CTA that has an item of a work that CTA `number` begins.
  __device__ int NumberWith(int item, int number) const {
    if (whole) return number;
    return static_cast<int>((static_cast<int64_t>(item + 1) * ctas - 1) / total);
  }
};
static_assert(sizeof(Line) <= kLineBytes);

}  // namespace dsopt_cuda::batch
#endif  // DSOPT_CUDA_PERSISTENT_BATCH_SHAPE_CUH_
