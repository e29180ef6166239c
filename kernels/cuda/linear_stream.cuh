// linear_stream.cuh - what products share whose weights stream through a ring in shared memory: how work is cut over the
// CTAs, the producer warp, the loop of the consumer warps, and how a group that several CTAs share is finished.
#ifndef DSOPT_CUDA_LINEAR_STREAM_CUH_
#define DSOPT_CUDA_LINEAR_STREAM_CUH_

#include "common/convert.cuh"
#include "common/launch.cuh"
#include "common/packed.cuh"
#include "common/ring.cuh"
#include "linear_stream.h"

namespace dsopt_cuda {

inline constexpr int kFlagStride = 32;

// How a CTA is made for up to kM_ input rows: kBlocks blocks of 16 weight rows are a panel, and two consumer warps share
// a block. Many input rows want large panels (all of them are read again for each), few rows many CTAs.
template <int kM_>
struct Stream {
  static constexpr int kM = kM_;
  static constexpr int kBlocks = kM == 32 ? 8 : 4, kRows = kBlocks * kBlockRows;
  static constexpr int kCtas = kM <= 16 ? 2 : 1;  // that fit on a multiprocessor beside each other
  static constexpr int kWarps = 2 * kBlocks, kConsumers = kWarps * 32, kThreads = kConsumers + 32;
  // Sums of a group: [2 warps that share columns][input rows][weight rows, padded], behind the ring's barriers.
  static constexpr int kSumPitch = kRows + 4;
  static constexpr int kBuffers = kM <= 16 ? 2 : 1, kFloats = 2 * kM * kSumPitch;
  static constexpr int kSumsAt = 512, kRingAt = kSumsAt + kBuffers * kFloats * 4;
};

// What a CTA works through: equal contiguous ranges of units. A unit is kC chunks of one panel for one item (up
// to kM input rows that share a matrix); the units of a group (panel and item) follow each other.
struct StreamWork {
  int items, per_group, cta, ctas;
  int64_t total, base;
  int extra;

  __device__ StreamWork(const StreamGeometry& g, int item_count)
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
struct StreamCursor {
  int unit, item, panel;
  __device__ StreamCursor(const StreamWork& work, int64_t at) {
    unit = static_cast<int>(at % work.per_group);
    const int group = static_cast<int>(at / work.per_group);
    item = group % work.items;
    panel = group / work.items;
  }
  // True: a new group begins.
  __device__ bool Next(const StreamWork& work) {
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
struct StreamItem {
  int matrix, first, rows;
  bool sorted;
  __device__ static StreamItem Of(const LinearArgs& a, int item, int m) {
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

__device__ __forceinline__ int StreamItems(const LinearArgs& a, int m) {
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

// One warp. Self copies the weights of a unit; here is the order of units, and the input rows, kColumns of each unit:
// from a row image in one piece, else row by row, input_pitch bytes apart, from geometry.inputs_at on. Pointers are made
// once per group, so that a unit costs few instructions.
template <typename Self, int kM, int kColumns>
struct StreamProducer {
  const StreamLinear& p;
  const StreamWork& work;
  Ring ring;
  int lane;
  uint64_t policy = EvictFirst();
  const bf16* input[2] = {nullptr, nullptr};  // of rows `lane` and `lane` + 32
  int rows = 0;

  __device__ Self& self() { return static_cast<Self&>(*this); }
  __device__ void InputsOf(const StreamItem& item) {
    if (p.args.in_image) return;
#pragma unroll
    for (int j = 0; j < (kM + 31) / 32; ++j)
      if (lane + 32 * j < item.rows) input[j] = item.Input(p.args, lane + 32 * j);
  }
  // Of one row, or of all rows of an image.
  __device__ uint32_t InputBytes(int unit) const {
    if (unit + 1 == p.geometry.units_per_group) return p.geometry.last_input_bytes;
    return p.args.in_image ? kColumns / kImageColumns * p.geometry.input_chunk : kColumns * 2;
  }
  __device__ void CopyInputs(int unit) {
    const uint32_t bytes = InputBytes(unit), to = p.geometry.inputs_at, pitch = p.geometry.input_pitch;
    if (p.args.in_image) {
      const char* from = static_cast<const char*>(p.args.in) +
                         static_cast<int64_t>(unit) * (kColumns / kImageColumns) * p.geometry.input_chunk;
      ring.CopyFrom(0, to, from, bytes, lane);
      return;
    }
#pragma unroll
    for (int j = 0; j < (kM + 31) / 32; ++j)
      ring.CopyEach(lane + 32 * j < rows, to + 32 * j * pitch, pitch, min(rows - 32 * j, 32), input[j] + unit * kColumns,
                    bytes, lane);
  }
  __device__ uint32_t UnitInputBytes(int unit) const { return InputBytes(unit) * (p.args.in_image ? 1 : rows); }
  // Weights never change: the first ones are requested before the previous kernel has finished, where the
  // matrix is known by then.
  __device__ void Run(int64_t begin, int64_t end) {
    if (begin >= end) return;
    const LinearArgs& a = p.args;
    StreamCursor at(work, begin);
    int64_t unit = begin;
    if (a.slot_expert == nullptr) {
      const int early = static_cast<int>(min(static_cast<int64_t>(ring.slots), end - begin));
      StreamCursor first = at;
      const Ring start = ring;
      self().WeightsOf(first, 0);
      rows = StreamItem::Of(a, first.item, kM).rows;
      for (int i = 0; i < early; ++i) {
        self().CopyWeights(first.unit);
        ring.Advance();
        if (first.Next(work)) {
          self().WeightsOf(first, 0);
          rows = StreamItem::Of(a, first.item, kM).rows;
        }
      }
      WaitForPrevious();
      ring = start;
      StreamItem item = StreamItem::Of(a, at.item, kM);
      rows = item.rows;
      InputsOf(item);
      for (int i = 0; i < early; ++i, ++unit) {
        CopyInputs(at.unit);
        ring.Commit();
        ring.Advance();
        if (at.Next(work)) {
          item = StreamItem::Of(a, at.item, kM);
          rows = item.rows;
          InputsOf(item);
        }
      }
    }
    bool fresh = true;
    for (; unit < end; ++unit) {
      if (fresh) {
        const StreamItem item = StreamItem::Of(a, at.item, kM);
        rows = item.rows;
        self().WeightsOf(at, item.matrix);
        InputsOf(item);
      }
      ring.WaitEmpty();
      self().CopyWeights(at.unit);
      CopyInputs(at.unit);
      ring.Commit();
      ring.Advance();
      fresh = at.Next(work);
    }
  }
};

// Ends a group: the CTA that has its first unit adds what the others left in `partial`, in order, and writes the output.
template <int kM>
struct StreamFinish {
  static constexpr int kPanelRows = Stream<kM>::kRows, kSumPitch = Stream<kM>::kSumPitch;
  static constexpr int kConsumers = Stream<kM>::kConsumers;
  const StreamLinear& p;
  const StreamWork& work;
  const StreamItem& item;
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
    for (int i = tid; i < others; i += kConsumers) {
      uint32_t* flag = p.arrived + (work.cta + 1 + i) * kFlagStride;
      while (LoadAcquire(flag) == 0) {
      }
      *flag = 0;
    }
    NamedBarrier<1>(kConsumers);
  }
  __device__ void Leave(int tid) const {
    for (int e = tid; e < kM * kPanelRows; e += kConsumers) {
      const int column = e / kPanelRows, row = e % kPanelRows;
      p.partial[static_cast<int64_t>(work.cta) * kM * kPanelRows + e] =
          sums[column * kSumPitch + row] + sums[(kM + column) * kSumPitch + row];
    }
  }
  __device__ void Write(int tid) const {
    const LinearArgs& a = p.args;
    if (a.epilogue == Epilogue::kGateUp) {
      for (int e = tid; e < item.rows * (kPanelRows / 2); e += kConsumers) {
        const int column = e / (kPanelRows / 2), pair = e % (kPanelRows / 2),
                  i = panel * (kPanelRows / 2) + pair;
        if (2 * i >= a.n) continue;
        const float gate = Total(column, 2 * pair) + (a.bias != nullptr ? a.bias[i] : 0.0f);
        const float up = Total(column, 2 * pair + 1) + (a.bias != nullptr ? a.bias[a.n / 2 + i] : 0.0f);
        static_cast<bf16*>(a.out)[Layout().At(item.Slot(a, column), i)] =
            __float2bfloat16(GatedActivation(gate, up, a.gelu));
      }
      return;
    }
    for (int e = tid; e < item.rows * kPanelRows; e += kConsumers) {
      const int column = e / kPanelRows, row = e % kPanelRows, n = panel * kPanelRows + row;
      if (n >= a.n) continue;
      const float y = Total(column, row) + (a.bias != nullptr ? a.bias[n] : 0.0f);
      const int64_t at = static_cast<int64_t>(item.Slot(a, column)) * a.out_row_stride + n;
      if (a.epilogue == Epilogue::kAdd)
        static_cast<float*>(a.out)[at] += y;
      else if (a.out_f32)
        static_cast<float*>(a.out)[at] = y;
      else
        static_cast<bf16*>(a.out)[Layout().At(item.Slot(a, column), n)] = __float2bfloat16(y);
    }
  }
  __device__ RowLayout Layout() const { return {p.args.out_row_stride, p.args.out_chunk_stride}; }  // of bf16 outputs
};

// The consumer warps' walk over [begin, end). Consumer: Clear, SetRows(rows), Unit(slot, last), EndGroup(matrix, block),
// Store(sums), and wr, its row block of a panel.
template <int kM, typename Consumer>
__device__ void ConsumeUnits(const StreamLinear& p, const StreamWork& work, Ring ring, float* sums, Consumer& my,
                             int64_t begin, int64_t end) {
  using S = Stream<kM>;
  const int tid = threadIdx.x, lane = tid % 32;
  my.Clear();
  StreamCursor at(work, begin);
  StreamItem item = StreamItem::Of(p.args, at.item, kM);
  my.SetRows(item.rows);
  bool owner = at.unit == 0;
  int buffer = 0;
  for (int64_t unit = begin; unit < end; ++unit) {
    ring.WaitFull();
    const bool last = at.unit + 1 == work.per_group, mine = at.panel * S::kBlocks + my.wr < p.geometry.blocks;
    if (mine) my.Unit(ring.Slot(), last);
    ring.Release(lane);
    ring.Advance();
    if (last || unit + 1 == end) {
      if (mine) my.EndGroup(item.matrix, at.panel * S::kBlocks + my.wr);
      float* table = sums + buffer * S::kFloats;
      my.Store(table);
      my.Clear();
      NamedBarrier<1>(S::kConsumers);
      StreamFinish<kM> finish{
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
      if (!owner || S::kBuffers == 1) NamedBarrier<1>(S::kConsumers);
      if (tid == 0 && !owner) {
        __threadfence();
        StoreRelease(p.arrived + work.cta * kFlagStride, 1);
      }
      buffer = (buffer + 1) % S::kBuffers;
      owner = true;
    }
    if (at.Next(work) && unit + 1 < end) {
      item = StreamItem::Of(p.args, at.item, kM);
      my.SetRows(item.rows);
    }
  }
}

}  // namespace dsopt_cuda
#endif  // DSOPT_CUDA_LINEAR_STREAM_CUH_
