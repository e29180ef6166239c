// linear_packed.cuh - y = x W^T for encoded weights: a ring of weight chunks in shared memory, codes expanded
// in registers into the A operand of mma.m16n8k16, activations as B. Instantiated by linear_packed_<format>.cu.
#ifndef DSOPT_CUDA_LINEAR_PACKED_CUH_
#define DSOPT_CUDA_LINEAR_PACKED_CUH_

#include "common/convert.cuh"
#include "common/launch.cuh"
#include "common/packed.cuh"
#include "common/ring.cuh"
#include "linear_packed.h"

namespace dsopt_cuda {

inline constexpr int kPackedWarps = 8, kPackedConsumers = kPackedWarps * 32,
                     kPackedThreads = kPackedConsumers + 32;
inline constexpr int kFlagStride = 32;
inline constexpr int kSumPitch = kPanelRows + 4;  // floats of a column of sums

// CTAs that fit on a multiprocessor beside each other.
constexpr int PackedCtas(int rows) { return rows <= 32 ? 2 : 1; }

// kC: chunks of a unit, that is columns / 256 of a slot.
template <int kM, int kC>
struct PackedShared {
  static constexpr int kPitch =
      kC * kChunkColumns * 2 + 64;  // bytes of an input row in a slot: 64 mod 128, no conflicts
  static constexpr int kBuffers = kM <= 16 ? 2 : 1;
  static constexpr int kSumFloats = 2 * kM * kSumPitch;  // two warps share the columns of a chunk
  static constexpr int kSlots = 512 + kBuffers * kSumFloats * 4;
  static int Slot(const PackedLayout& l) {
    return kPanelBlocks * kC * l.chunk_bytes(kChunkTiles) + kM * kPitch;
  }
};

// What a CTA works through: equal contiguous ranges of units. A unit is kC chunks of one panel (64 weight rows)
// for one item (up to kM input rows that share a matrix); the units of a group (panel and item) follow each
// other.
struct PackedWork {
  int items, per_group, cta, ctas;
  int64_t total, base;
  int extra;

  __device__ PackedWork(const PackedGeometry& g, int item_count)
      : items(item_count), per_group(g.units_per_group), cta(blockIdx.x) {
    total = static_cast<int64_t>(g.panels) * items * per_group;
    ctas = static_cast<int>(min(static_cast<int64_t>(gridDim.x), total));  // those beyond have nothing to do
    base = total / max(ctas, 1);
    extra = static_cast<int>(total - base * ctas);
  }
  __device__ int64_t StartOf(int other) const {
    return other >= ctas ? total : base * other + min(other, extra);
  }
};

// Walks the units of a range.
struct PackedCursor {
  int unit, item, panel;
  __device__ PackedCursor(const PackedWork& work, int64_t at) {
    unit = static_cast<int>(at % work.per_group);
    const int group = static_cast<int>(at / work.per_group);
    item = group % work.items;
    panel = group / work.items;
  }
  // True: a new group begins.
  __device__ bool Next(const PackedWork& work) {
    if (++unit < work.per_group) return false;
    unit = 0;
    if (++item == work.items) {
      item = 0;
      ++panel;
    }
    return true;
  }
};

// The rows of an item.
struct PackedItem {
  int matrix, first, rows;
  bool sorted;
  __device__ static PackedItem Of(const LinearArgs& a, int item, int m) {
    if (a.sorted_slots != nullptr) {
      const int4 tile = a.tiles[item];
      return {tile.x, tile.y, tile.z, true};
    }
    if (a.slot_expert != nullptr) return {a.slot_expert[item], item, 1, false};
    return {0, item * m, min(m, a.rows - item * m), false};
  }
  __device__ int Slot(const LinearArgs& a, int r) const {
    return sorted ? a.sorted_slots[first + r] : first + r;
  }
  __device__ const bf16* Input(const LinearArgs& a, int r) const {
    const int slot = Slot(a, r);
    return static_cast<const bf16*>(a.in) + (a.in_div == 1 ? slot : slot / a.in_div) * a.in_row_stride;
  }
};

__device__ __forceinline__ int PackedItems(const LinearArgs& a, int m) {
  if (a.sorted_slots == nullptr) return a.slot_expert != nullptr ? a.rows : (a.rows + m - 1) / m;
  int low = 0, high = a.max_tiles;  // filled tiles come first
  while (low < high) {
    const int middle = (low + high) / 2;
    if (a.tiles[middle].z > 0)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

// ---- producer ------------------------------------------------------------------------------------------

// One warp. Lane i copies weight block i of the panel, all lanes together the input rows; pointers are made once per
// group, so that a unit costs few instructions.
template <int kM, int kC>
struct PackedProducer {
  using Shared = PackedShared<kM, kC>;
  const PackedLinear& p;
  const PackedWork& work;
  Ring ring;
  int lane;
  uint64_t policy = EvictFirst();
  const uint8_t* weights = nullptr;  // this lane's block, from its first chunk on; null: none
  const bf16* rows_at = nullptr;              // first input row
  const bf16* input[2] = {nullptr, nullptr};  // sorted slots: of rows `lane` and `lane` + 32
  int blocks = 0, rows = 0;

  __device__ void WeightsOf(const PackedCursor& at, int matrix) {
    const PackedGeometry& g = p.geometry;
    blocks = min(kPanelBlocks, g.blocks - at.panel * kPanelBlocks);
    weights = p.weight.data + matrix * g.matrix_bytes +
              (static_cast<int64_t>(at.panel) * kPanelBlocks + lane) * g.block_bytes;
  }
  __device__ void InputsOf(const PackedItem& item) {
    if (p.args.sorted_slots == nullptr) {
      rows_at = item.Input(p.args, 0);
      return;
    }
#pragma unroll
    for (int j = 0; j < (kM + 31) / 32; ++j)
      if (lane + 32 * j < item.rows) input[j] = item.Input(p.args, lane + 32 * j);
  }
  __device__ uint32_t WeightBytes(int unit) const {
    return unit + 1 < p.geometry.units_per_group ? p.geometry.unit_bytes : p.geometry.last_unit_bytes;
  }
  __device__ uint32_t InputBytes(int unit) const {
    return unit + 1 < p.geometry.units_per_group ? kC * kChunkColumns * 2 : p.geometry.last_input_bytes;
  }
  __device__ void CopyWeights(int unit) {
    const uint32_t bytes = WeightBytes(unit);
    if (lane == 0) ring.Expect(blocks * bytes);
    for (int i = 0; i < kPanelBlocks; ++i)
      if (i < blocks)
        ring.CopyFrom(i, i * p.geometry.unit_bytes,
                      weights + static_cast<int64_t>(unit) * p.geometry.unit_bytes, bytes, policy, lane);
  }
  __device__ void CopyInputs(int unit) {
    const uint32_t bytes = InputBytes(unit), to = kPanelBlocks * p.geometry.unit_bytes;
    if (p.args.sorted_slots == nullptr) {  // rows at equal distances: lane 0's and those after it
      const char* from = reinterpret_cast<const char*>(rows_at + unit * kC * kChunkColumns);
      for (int r = 0; r < rows; ++r, from += p.args.in_row_stride * 2)
        ring.CopyRow(to + r * Shared::kPitch, from, bytes, lane);
      return;
    }
    for (int r = 0; r < rows; ++r) {
      const bf16* mine = r < 32 ? input[0] : input[1];
      const uint64_t from = __shfl_sync(~0u, reinterpret_cast<uint64_t>(mine), r % 32);
      ring.CopyRow(to + r * Shared::kPitch,
                   reinterpret_cast<const char*>(reinterpret_cast<const bf16*>(from) + unit * kC * kChunkColumns), bytes,
                   lane);
    }
  }
  // Weights never change: the first ones are requested before the previous kernel has finished, where the
  // matrix is known by then.
  __device__ void Run(int64_t begin, int64_t end) {
    if (begin >= end) return;
    const LinearArgs& a = p.args;
    PackedCursor at(work, begin);
    int64_t unit = begin;
    if (a.slot_expert == nullptr) {
      const int early = static_cast<int>(min(static_cast<int64_t>(ring.slots), end - begin));
      PackedCursor first = at;
      const Ring start = ring;
      WeightsOf(first, 0);
      rows = PackedItem::Of(a, first.item, kM).rows;
      for (int i = 0; i < early; ++i) {
        CopyWeights(first.unit);
        ring.Advance();
        if (first.Next(work)) {
          WeightsOf(first, 0);
          rows = PackedItem::Of(a, first.item, kM).rows;
        }
      }
      WaitForPrevious();
      ring = start;
      PackedItem item = PackedItem::Of(a, at.item, kM);
      rows = item.rows;
      InputsOf(item);
      for (int i = 0; i < early; ++i, ++unit) {
        CopyInputs(at.unit);
        ring.Commit();
        ring.Advance();
        if (at.Next(work)) {
          item = PackedItem::Of(a, at.item, kM);
          rows = item.rows;
          InputsOf(item);
        }
      }
    }
    bool fresh = true;
    for (; unit < end; ++unit) {
      if (fresh) {
        const PackedItem item = PackedItem::Of(a, at.item, kM);
        rows = item.rows;
        WeightsOf(at, item.matrix);
        InputsOf(item);
      }
      ring.WaitEmpty();
      CopyWeights(at.unit);
      CopyInputs(at.unit);
      ring.Commit();
      ring.Advance();
      fresh = at.Next(work);
    }
  }
};

// ---- consumers ------------------------------------------------------------------------------------------

// kFlush: columns after which sums are multiplied by their scale: 0 never (scales by row), 64, 32 or 16.
template <typename F, int kFlush, int kM, int kC>
struct PackedConsumer {
  static constexpr int kGroups = kM / 8, kVectors = F::kVectors, kTileBytes = kVectors * 512;
  static constexpr int kPitch = PackedShared<kM, kC>::kPitch;
  static constexpr bool kLossless = F::kPacking == Packing::kLossless12;
  static constexpr int kUnitSide = kBlockRows + 4 * kEscapeSlots;
  const PackedLinear& p;
  int lane, wk, wr;    // this warp: tiles 2 wk, 2 wk + 1 of a chunk, row block wr of a panel
  bool offsets, wide;  // wide: groups of 128
  int rows = 1;
  uint32_t input[kGroups];  // of the lane's input rows in a slot
  float acc[kGroups][4];
  float ones[kGroups][4];  // sums of the inputs, where there are offsets by row

  __device__ void Clear() {
#pragma unroll
    for (int i = 0; i < kGroups; ++i)
#pragma unroll
      for (int j = 0; j < 4; ++j) acc[i][j] = ones[i][j] = 0;
  }
  __device__ void SetRows(int count) {
    rows = count;
#pragma unroll
    for (int nb = 0; nb < kGroups; ++nb) input[nb] = min(nb * 8 + lane / 4, count - 1) * kPitch + lane % 4 * 16;
  }

  // Scales (and offsets) of rows g and g + 8 for columns from 64 tile + 32 half of a chunk on. side: shared
  // address.
  __device__ __forceinline__ void Scales(uint32_t side, int tiles, int tile, int half, float (&scale)[2],
                                         float (&offset)[2]) const {
    const int row = lane / 4;
    int group = tile;
    if (kFlush == 64 && !kLossless && wide) group = tile / 2;
    if (kFlush == 32) group = 2 * tile + half;
    if (kFlush == 16) group = 4 * tile + 2 * half + lane % 4 / 2;
    offset[0] = offset[1] = 0;
    if constexpr (kLossless) {
      const uint32_t base = side + tile / 2 * kUnitSide + row;
      scale[0] = Lossless12::Scale(LoadShared1(base)), scale[1] = Lossless12::Scale(LoadShared1(base + 8));
    } else if constexpr (F::kPacking == Packing::kFp8) {
      const uint32_t from = side + (group * kBlockRows + row) * 4;
      scale[0] = __uint_as_float(LoadShared4(from)), scale[1] = __uint_as_float(LoadShared4(from + 32));
    } else {
      uint32_t from = side + (group * kBlockRows + row) * 2;
      scale[0] = LoadSharedHalf(from), scale[1] = LoadSharedHalf(from + 16);
      if (offsets) {
        from += p.weight.layout.groups_of(tiles) * kBlockRows * 2;
        offset[0] = LoadSharedHalf(from), offset[1] = LoadSharedHalf(from + 16);
      }
    }
  }

  __device__ __forceinline__ void Flush(int nb, const float (&part)[4], const float (&sum)[4],
                                        const float (&scale)[2], const float (&offset)[2]) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      acc[nb][j] = fmaf(part[j], scale[j / 2], acc[nb][j]);
      if (!kLossless && offsets) acc[nb][j] = fmaf(sum[j], offset[j / 2], acc[nb][j]);
    }
  }

  // One tile. chunk, x: shared addresses of the chunk and of its columns in the input rows. left: columns of
  // the row from the tile on; what lies behind them is anything.
  template <bool kTail>
  __device__ __forceinline__ void Tile(uint32_t chunk, uint32_t x, int tiles, int tile, int left) {
    const uint32_t side = chunk + tiles * kTileBytes;
    uint4 q[kVectors];
#pragma unroll
    for (int v = 0; v < kVectors; ++v) q[v] = LoadShared16(chunk + tile * kTileBytes + v * 512 + lane * 16);
    uint32_t a[4][4];
#pragma unroll
    for (int s = 0; s < 4; ++s) F::Step(q, s, a[s]);
    constexpr int kParts = kFlush == 32 || kFlush == 16 ? 2 : 1;
    float scale[kParts][2], offset[kParts][2];
    if (kFlush != 0)
#pragma unroll
      for (int h = 0; h < kParts; ++h) Scales(side, tiles, tile, h, scale[h], offset[h]);
#pragma unroll
    for (int nb = 0; nb < kGroups; ++nb) {
      uint4 v[2] = {LoadShared16(x + input[nb] + tile * 128), LoadShared16(x + input[nb] + tile * 128 + 64)};
      if (kTail) {
        if (lane % 4 * 8 >= left) v[0] = uint4{0, 0, 0, 0};
        if (32 + lane % 4 * 8 >= left) v[1] = uint4{0, 0, 0, 0};
      }
      if constexpr (kFlush == 0) {
        Steps(acc[nb], ones[nb], a, v, 0, 4, offsets);
      } else if constexpr (kFlush == 16) {
        // Columns 16 apart lie in lanes t < 2 and t >= 2: two passes with the other half of the inputs zero.
        // The scale of a pass stands in any lane of its half.
#pragma unroll
        for (int h = 0; h < 2; ++h)
#pragma unroll
          for (int which = 0; which < 2; ++which) {
            uint4 only[2] = {v[0], v[1]};
            if (lane % 4 / 2 != which) only[0] = only[1] = uint4{0, 0, 0, 0};
            float part[4] = {}, sum[4] = {}, sc[2], of[2];
#pragma unroll
            for (int j = 0; j < 2; ++j) {
              sc[j] = __shfl_sync(~0u, scale[h][j], (lane & ~3) + 2 * which);
              of[j] = __shfl_sync(~0u, offset[h][j], (lane & ~3) + 2 * which);
            }
            Steps(part, sum, a, only, 2 * h, 2 * h + 2, offsets);
            Flush(nb, part, sum, sc, of);
          }
      } else {
#pragma unroll
        for (int h = 0; h < kParts; ++h) {
          float part[4] = {}, sum[4] = {};
          Steps(part, sum, a, v, h * (4 / kParts), (h + 1) * (4 / kParts), offsets);
          Flush(nb, part, sum, scale[h], offset[h]);
        }
      }
    }
  }
  __device__ __forceinline__ static void Steps(float (&sum)[4], float (&input_sum)[4],
                                               const uint32_t (&a)[4][4], const uint4 (&v)[2], int first,
                                               int end, bool offsets) {
#pragma unroll
    for (int s = first; s < end; ++s) {
      const uint32_t b0 = WordOf(v[s / 2], s % 2 * 2), b1 = WordOf(v[s / 2], s % 2 * 2 + 1);
      Mma(sum, a[s][0], a[s][1], a[s][2], a[s][3], b0, b1);
      if (offsets) Mma(input_sum, 0x3F803F80u, 0x3F803F80u, 0x3F803F80u, 0x3F803F80u, b0, b1);
    }
  }

  // Weights of this warp's 16 x 128 that have no code: (exact - stand-in) times the input.
  __device__ void Escapes(uint32_t side, uint32_t x) {
    const uint32_t base = side + wk * kUnitSide;
    const uint4 slots = LoadShared16(base + kBlockRows);
    if ((slots.x | slots.y | slots.z | slots.w) == 0) return;
#pragma unroll 1
    for (int i = 0; i < kEscapeSlots; ++i) {
      const uint32_t slot = i == 0 ? slots.x : i == 1 ? slots.y : i == 2 ? slots.z : slots.w;
      if ((slot >> 31) == 0) continue;
      const int row = slot >> 23 & 15, in_unit = slot >> 16 & 127;
      const float delta =
          __uint_as_float(slot << 16) - Lossless12::Scale(LoadShared1(base + row)) * Lossless12::kStandIn;
      const float low = row == lane / 4 ? delta : 0.0f, high = row == lane / 4 + 8 ? delta : 0.0f;
      const uint32_t at = x + (wk * kUnitColumns + in_unit) * 2;
#pragma unroll
      for (int nb = 0; nb < kGroups; ++nb)
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          const float v = LoadSharedBf16(at + min(nb * 8 + lane % 4 * 2 + j, rows - 1) * kPitch);
          acc[nb][j] = fmaf(low, v, acc[nb][j]);
          acc[nb][2 + j] = fmaf(high, v, acc[nb][2 + j]);
        }
    }
  }

  // kC whole chunks at `chunk`.
  __device__ __forceinline__ void WholeUnit(uint32_t chunk, uint32_t x) {
#pragma unroll
    for (int c = 0; c < kC; ++c) {
      const uint32_t at = chunk + c * p.geometry.chunk_bytes, columns = x + c * kChunkColumns * 2;
#pragma unroll
      for (int i = 0; i < 2; ++i) Tile<false>(at, columns, kChunkTiles, 2 * wk + i, 0);
      if constexpr (kLossless) Escapes(at + kChunkTiles * kTileBytes, columns);
    }
  }
  // The last unit of a row: any number of columns.
  __device__ void LastUnit(uint32_t chunk, uint32_t x, int columns) {
#pragma unroll 1
    for (int c = 0; c * kChunkColumns < columns; ++c) {
      const uint32_t at = chunk + c * p.geometry.chunk_bytes, from = x + c * kChunkColumns * 2;
      const int left = columns - c * kChunkColumns,
                tiles = min((left + kTileColumns - 1) / kTileColumns, kChunkTiles);
#pragma unroll 1
      for (int tile = 2 * wk; tile < min(2 * wk + 2, tiles); ++tile)
        Tile<true>(at, from, tiles, tile, left - tile * kTileColumns);
      if constexpr (kLossless) {
        if (2 * wk < tiles) Escapes(at + tiles * kTileBytes, from);
      }
    }
  }

  // One scale per row: applied once.
  __device__ void ScaleRows(int matrix, int block) {
    const int row = block * kBlockRows + lane / 4;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int64_t at = static_cast<int64_t>(matrix) * p.args.n + min(row + 8 * h, p.args.n - 1);
      const float scale = __ldg(p.weight.row_scales + at);
      const float offset = p.weight.row_offsets != nullptr ? __ldg(p.weight.row_offsets + at) : 0.0f;
#pragma unroll
      for (int nb = 0; nb < kGroups; ++nb)
#pragma unroll
        for (int j = 0; j < 2; ++j)
          acc[nb][2 * h + j] = acc[nb][2 * h + j] * scale + ones[nb][2 * h + j] * offset;
    }
  }
  __device__ void Store(float* sums) const {
    float* to = sums + wk * kM * kSumPitch + wr * kBlockRows + lane / 4;
#pragma unroll
    for (int nb = 0; nb < kGroups; ++nb)
#pragma unroll
      for (int j = 0; j < 4; ++j) to[(nb * 8 + lane % 4 * 2 + j % 2) * kSumPitch + j / 2 * 8] = acc[nb][j];
  }
};

// Ends a group: the CTA that has its first chunk adds what the others left in `partial`, in order, and writes
// the output.
template <int kM>
struct PackedFinish {
  const PackedLinear& p;
  const PackedWork& work;
  const PackedItem& item;
  const float* sums;
  int panel;
  int64_t done, group_end;  // this CTA's last unit + 1; the group's

  int others = 0;  // CTAs after this one that have parts of the group

  __device__ bool Alone() const { return done >= group_end; }
  __device__ void CountOthers() {
    int64_t covered = done;
    while (covered < group_end) covered = work.StartOf(work.cta + 1 + ++others);
  }
  __device__ float Total(int column, int row) const {
    float s = sums[column * kSumPitch + row] + sums[(kM + column) * kSumPitch + row];
    const float* left = p.partial + (static_cast<int64_t>(work.cta + 1) * kM + column) * kPanelRows + row;
#pragma unroll 4
    for (int i = 0; i < others; ++i) s += __ldcg(left + i * kM * kPanelRows);
    return s + OverflowSum(column, row);
  }
  __device__ float OverflowSum(int column, int row) const {
    if (p.weight.overflow_first == nullptr) return 0.0f;
    const int n = panel * kPanelRows + row, blocks = p.geometry.blocks, block = n / kBlockRows;
    if (block >= blocks) return 0.0f;
    const int* first = p.weight.overflow_first + item.matrix * blocks + block;
    float s = 0;
    for (int i = __ldg(first), end = __ldg(first + 1); i < end; ++i) {
      const Overflow o = p.weight.overflow[i];
      if (static_cast<int>(o.row) != n) continue;
      const float delta = __uint_as_float(static_cast<uint32_t>(o.bits) << 16) -
                          Lossless12::Scale(o.base) * Lossless12::kStandIn;
      s = fmaf(delta, __bfloat162float(item.Input(p.args, column)[o.column]), s);
    }
    return s;
  }
  // One thread per flag, each in a line of its own; it rearms the flag for the next launch.
  __device__ void WaitForOthers(int tid) const {
    for (int i = tid; i < others; i += kPackedConsumers) {
      uint32_t* flag = p.arrived + (work.cta + 1 + i) * kFlagStride;
      while (LoadAcquire(flag) == 0) {
      }
      *flag = 0;
    }
    NamedBarrier<1>(kPackedConsumers);
  }
  __device__ void Leave(int tid) const {
    for (int e = tid; e < kM * kPanelRows; e += kPackedConsumers) {
      const int column = e / kPanelRows, row = e % kPanelRows;
      p.partial[static_cast<int64_t>(work.cta) * kM * kPanelRows + e] =
          sums[column * kSumPitch + row] + sums[(kM + column) * kSumPitch + row];
    }
  }
  __device__ void Write(int tid) const {
    const LinearArgs& a = p.args;
    if (a.epilogue == Epilogue::kGateUp) {
      for (int e = tid; e < item.rows * (kPanelRows / 2); e += kPackedConsumers) {
        const int column = e / (kPanelRows / 2), pair = e % (kPanelRows / 2),
                  i = panel * (kPanelRows / 2) + pair;
        if (2 * i >= a.n) continue;
        const float gate = Total(column, 2 * pair) + (a.bias != nullptr ? a.bias[i] : 0.0f);
        const float up = Total(column, 2 * pair + 1) + (a.bias != nullptr ? a.bias[a.n / 2 + i] : 0.0f);
        static_cast<bf16*>(a.out)[static_cast<int64_t>(item.Slot(a, column)) * a.out_row_stride + i] =
            __float2bfloat16(GatedActivation(gate, up, a.gelu));
      }
      return;
    }
    for (int e = tid; e < item.rows * kPanelRows; e += kPackedConsumers) {
      const int column = e / kPanelRows, row = e % kPanelRows, n = panel * kPanelRows + row;
      if (n >= a.n) continue;
      const float y = Total(column, row) + (a.bias != nullptr ? a.bias[n] : 0.0f);
      const int64_t at = static_cast<int64_t>(item.Slot(a, column)) * a.out_row_stride + n;
      if (a.epilogue == Epilogue::kAdd)
        static_cast<float*>(a.out)[at] += y;
      else if (a.out_f32)
        static_cast<float*>(a.out)[at] = y;
      else
        static_cast<bf16*>(a.out)[at] = __float2bfloat16(y);
    }
  }
};

// out[r, n] (+)= in[r, :] . decoded W[n, :] + bias[n], or act(gate) up of row pairs; also one row per slot, or
// sorted slots in [rows, k] bf16   W packed.h   k % 8 == 0   sums f32; scales applied in f32 after the products
// of their group bytes  W once per kM rows (DRAM), inputs k * rows * 2 per panel (L2)      bound: DRAM up to 16
// rows, then shared memory grid   2 CTAs per SM (1 from 33 rows on) x 288 threads (8 consumer warps: 4 row
// blocks x 2 tiles each; 1 producer), equal
//        ranges of units; a group cut by a range's end is finished by the CTA with its first unit, in fixed
//        order
// when   encoded weights; rows beyond kM take several items that follow each other on the same panel (L2)
template <typename F, int kFlush, int kM, int kC>
__global__ __launch_bounds__(kPackedThreads,
                             PackedCtas(kM)) void linear_packed(const __grid_constant__ PackedLinear p) {
  using Shared = PackedShared<kM, kC>;
  extern __shared__ __align__(128) char shared[];
  LetNextStart();
  const int tid = threadIdx.x, warp = tid / 32, lane = tid % 32;
  float* sums = reinterpret_cast<float*>(shared + 512);
  Ring ring(SmemAddress(shared), SmemAddress(shared) + Shared::kSlots, p.slots, p.slot_bytes);
  if (tid == 0) ring.Init(kPackedWarps);
  __syncthreads();
  if (p.args.slot_expert != nullptr) WaitForPrevious();  // the items are the router's result
  const PackedGeometry& g = p.geometry;
  const PackedWork work(g, PackedItems(p.args, kM));
  const int64_t begin = work.StartOf(work.cta), end = work.StartOf(work.cta + 1);
  if (warp == kPackedWarps) {
    PackedProducer<kM, kC>{p, work, ring, lane}.Run(begin, end);
    return;
  }
  WaitForPrevious();
  if (begin >= end) return;
  PackedConsumer<F, kFlush, kM, kC> my{p, lane, warp / kPanelBlocks, warp % kPanelBlocks};
  my.offsets = p.weight.layout.offsets || p.weight.row_offsets != nullptr;
  my.wide = p.weight.layout.group == 128;
  my.Clear();
  PackedCursor at(work, begin);
  PackedItem item = PackedItem::Of(p.args, at.item, kM);
  my.SetRows(item.rows);
  bool owner = at.unit == 0;
  int buffer = 0;
  for (int64_t unit = begin; unit < end; ++unit) {
    ring.WaitFull();
    const uint32_t chunk = ring.Slot() + my.wr * g.unit_bytes, x = ring.Slot() + kPanelBlocks * g.unit_bytes;
    const bool last = at.unit + 1 == work.per_group, mine = at.panel * kPanelBlocks + my.wr < g.blocks;
    if (mine && (!last || g.last_columns == kC * kChunkColumns))
      my.WholeUnit(chunk, x);
    else if (mine)
      my.LastUnit(chunk, x, g.last_columns);
    ring.Release(lane);
    ring.Advance();
    if (last || unit + 1 == end) {
      if (kFlush == 0 && mine) my.ScaleRows(item.matrix, at.panel * kPanelBlocks + my.wr);
      float* table = sums + buffer * Shared::kSumFloats;
      my.Store(table);
      my.Clear();
      NamedBarrier<1>(kPackedConsumers);
      PackedFinish<kM> finish{
          p, work, item, table, at.panel, unit + 1, unit + 1 + (work.per_group - 1 - at.unit)};
      if (owner) {
        if (!finish.Alone()) {
          finish.CountOthers();
          finish.WaitForOthers(tid);
        }
        finish.Write(tid);
      } else {
        finish.Leave(tid);
      }
      if (!owner || Shared::kBuffers == 1) NamedBarrier<1>(kPackedConsumers);
      if (tid == 0 && !owner) {
        __threadfence();
        StoreRelease(p.arrived + work.cta * kFlagStride, 1);
      }
      buffer = (buffer + 1) % Shared::kBuffers;
      owner = true;
    }
    if (at.Next(work) && unit + 1 < end) {
      item = PackedItem::Of(p.args, at.item, kM);
      my.SetRows(item.rows);
    }
  }
}

template <typename F, int kFlush, int kM, int kC>
cudaError_t StartPacked(const Launch& launch, PackedLinear p) {
  constexpr int kCtas = PackedCtas(kM);
  const PackedLayout& l = p.weight.layout;
  PackedGeometry& g = p.geometry;
  g.blocks = l.blocks();
  g.panels = (g.blocks + kPanelBlocks - 1) / kPanelBlocks;
  g.units_per_group = (l.chunks() + kC - 1) / kC;
  g.chunk_bytes = static_cast<uint32_t>(l.chunk_bytes(kChunkTiles));
  g.unit_bytes = kC * g.chunk_bytes;
  g.block_bytes = l.block_bytes();
  g.matrix_bytes = l.matrix_bytes();
  g.last_columns = l.k - (g.units_per_group - 1) * kC * kChunkColumns;
  g.last_unit_bytes =
      static_cast<uint32_t>(g.block_bytes - static_cast<int64_t>(g.units_per_group - 1) * g.unit_bytes);
  g.last_input_bytes = static_cast<uint32_t>(g.last_columns * 2);
  p.slot_bytes = PackedShared<kM, kC>::Slot(l);
  p.slots =
      (launch.limits->shared_bytes / kCtas - (kCtas - 1) * 1024 - PackedShared<kM, kC>::kSlots) / p.slot_bytes;
  if (p.slots > 16) p.slots = 16;
  if (p.slots < 2) return cudaErrorInvalidConfiguration;
  const int bytes = PackedShared<kM, kC>::kSlots + p.slots * p.slot_bytes;
  return StartLarge(launch, linear_packed<F, kFlush, kM, kC>,
                    dim3(static_cast<unsigned>(kCtas * launch.limits->sms)), dim3(kPackedThreads), bytes, p);
}

template <typename F, int kFlush>
cudaError_t StartPackedRows(const Launch& launch, const PackedLinear& p) {
  constexpr int kC = F::kPacking == Packing::kInt4 ? 2 : 1;  // a slot holds 16 to 25 KB of codes
  const LinearArgs& a = p.args;
  const int rows = a.sorted_slots != nullptr ? kGroupRows : a.slot_expert != nullptr ? 1 : a.rows;
  if (rows <= 8) return StartPacked<F, kFlush, 8, kC>(launch, p);
  if (rows <= 16) return StartPacked<F, kFlush, 16, kC>(launch, p);
  if (rows <= 32) return StartPacked<F, kFlush, 32, 1>(launch, p);
  return StartPacked<F, kFlush, 64, 1>(launch, p);
}

}  // namespace dsopt_cuda
#endif  // DSOPT_CUDA_LINEAR_PACKED_CUH_
