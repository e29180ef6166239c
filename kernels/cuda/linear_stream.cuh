// linear_stream.cuh - what products share whose weights stream through a ring in shared memory: how work is cut
// over the CTAs, the producer warp, the loop of the consumer warps, and how a group that several CTAs share is
// finished.
#ifndef DSOPT_CUDA_LINEAR_STREAM_CUH_
#define DSOPT_CUDA_LINEAR_STREAM_CUH_

#include "common/convert.cuh"
#include "common/launch.cuh"
#include "common/packed.cuh"
#include "common/ring.cuh"
#include "linear_stream.h"

namespace dsopt_cuda {

// How a CTA is made for up to kM_ input rows: kBlocks blocks of 16 weight rows are a panel; of 8 consumer
// warps, one half has the first half of a chunk's columns, and a warp has kPerWarp blocks. Many input rows want
// large panels (all of them are read again for each) and warps with two blocks (they read their inputs once for
// both), few rows many CTAs.
template <int kM_>
struct Stream {
  static constexpr int kM = kM_;
  static constexpr int kBlocks = kM == 32 ? 8 : 4, kRows = kBlocks * kBlockRows;
  static constexpr int kCtas = kM <= 16 ? 2 : 1;  // that fit on a multiprocessor beside each other
  static constexpr int kWarps = 8, kConsumers = kWarps * 32, kThreads = kConsumers + 32;
  static constexpr int kPerWarp = 2 * kBlocks / kWarps;
  // Sums of a group: [2 warps that share columns][input rows][weight rows, padded], behind the ring's barriers.
  static constexpr int kHalves = 2, kSumPitch = kRows + 4;
  static constexpr int kBuffers = kM <= 16 ? 2 : 1, kFloats = kHalves * kM * kSumPitch;
  static constexpr int kSumsAt = 512, kRingAt = kSumsAt + kBuffers * kFloats * 4;
};

// What a CTA works through: equal contiguous ranges of units. A unit is kC chunks of one panel for one item (up
// to kM input rows that share a matrix); the units of a group (panel and item) follow each other.
struct StreamWork {
  int items, per_group, cta, ctas;
  int64_t total, base;
  int extra;

  // number: of the CTA, in the order of ranges.
  __device__ StreamWork(const StreamGeometry& g, int item_count, int number)
      : items(item_count), per_group(g.units_per_group), cta(number) {
    total = static_cast<int64_t>(g.panels) * items * per_group;
    ctas = static_cast<int>(min(static_cast<int64_t>(gridDim.x), total));  // those beyond have nothing to do
    base = total / max(ctas, 1);
    extra = static_cast<int>(total - base * ctas);
  }
  // One item, of a matrix of fewer than 2^31 units.
  __device__ StreamWork(const StreamGeometry& g, int number)
      : items(1), per_group(g.units_per_group), cta(number) {
    const int units = g.panels * per_group;
    ctas = min(static_cast<int>(gridDim.x), units);
    const uint32_t part = static_cast<uint32_t>(units) / static_cast<uint32_t>(max(ctas, 1));
    total = units;
    base = part;
    extra = units - static_cast<int>(part) * ctas;
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

// One warp. Self copies the weights of a unit; here is the order of units, and the input rows, kColumns of each
// unit: from a row image in one piece, else row by row, input_pitch bytes apart, from geometry.inputs_at on.
// Pointers are made once per group, so that a unit costs few instructions.
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
    if (p.args.image_pitch != 0) return;
#pragma unroll
    for (int j = 0; j < (kM + 31) / 32; ++j)
      if (lane + 32 * j < item.rows) input[j] = item.Input(p.args, lane + 32 * j);
  }
  // Of one row, or of all rows of an image.
  __device__ uint32_t InputBytes(int unit) const {
    if (unit + 1 == p.geometry.units_per_group) return p.geometry.last_input_bytes;
    return p.args.image_pitch != 0 ? kColumns / kImageColumns * p.geometry.input_chunk : kColumns * 2;
  }
  __device__ void CopyInputs(int unit) {
    const uint32_t bytes = InputBytes(unit), to = p.geometry.inputs_at, pitch = p.geometry.input_pitch;
    if (p.args.image_pitch != 0) {
      const char* from = static_cast<const char*>(p.args.in) +
                         static_cast<int64_t>(unit) * (kColumns / kImageColumns) * p.geometry.input_chunk;
      ring.CopyFrom(0, to, from, bytes, lane);
      return;
    }
#pragma unroll
    for (int j = 0; j < (kM + 31) / 32; ++j)
      ring.CopyEach(lane + 32 * j < rows, to + 32 * j * pitch, pitch, min(rows - 32 * j, 32),
                    input[j] + unit * kColumns, bytes, lane);
  }
  __device__ uint32_t UnitInputBytes(int unit) const {
    return InputBytes(unit) * (p.args.image_pitch != 0 ? 1 : rows);
  }
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

// A consumer warp's sums on mma.m16n8k16: of kPer row blocks, for groups of 8 input rows.
template <int kPer, int kGroups>
__device__ __forceinline__ void ClearSums(float (&acc)[kPer][kGroups][4]) {
#pragma unroll
  for (int b = 0; b < kPer; ++b)
#pragma unroll
    for (int i = 0; i < kGroups; ++i)
#pragma unroll
      for (int j = 0; j < 4; ++j) acc[b][i][j] = 0;
}
// To half `half` of the sums of a group; block: the warp's first one in the panel.
template <typename S, int kPer, int kGroups>
__device__ __forceinline__ void StoreSums(const float (&acc)[kPer][kGroups][4], float* sums, int half,
                                          int block, int lane) {
#pragma unroll
  for (int b = 0; b < kPer; ++b) {
    float* to = sums + half * S::kM * S::kSumPitch + (block + b) * kBlockRows + lane / 4;
#pragma unroll
    for (int nb = 0; nb < kGroups; ++nb)
#pragma unroll
      for (int j = 0; j < 4; ++j)
        to[(nb * 8 + lane % 4 * 2 + j % 2) * S::kSumPitch + j / 2 * 8] = acc[b][nb][j];
  }
}

// The sums of a group at its end: the CTA that has its first unit adds what the others left in `partial`, in
// order. A thread has 4 weight rows of every kStep'th input row; loads of all of them are on their way
// together. A CTA waits only for what later ones leave before they wait themselves: any two resident ones make
// progress.
template <typename S>
struct StreamSums {
  static constexpr int kM = S::kM;
  static constexpr int kQuads = S::kRows / 4, kStep = S::kConsumers / kQuads, kPer = (kM + kStep - 1) / kStep;
  const StreamLinear& p;
  const StreamWork& work;
  const StreamItem& item;
  const float* sums;
  int panel;
  int64_t done, group_end;  // this CTA's last unit + 1; the group's

  int quad = threadIdx.x % kQuads,
      first = threadIdx.x / kQuads;  // of this thread: rows 4 quad .. + 3; first column
  int others = 0;                    // CTAs after this one that have parts of the group

  __device__ void CountOthers() {
    int64_t covered = done;
    while (covered < group_end) covered = work.StartOf(work.cta + 1 + ++others);
  }
  __device__ float4 Own(int column) const {
    const float4 a = *reinterpret_cast<const float4*>(sums + column * S::kSumPitch + 4 * quad);
    if constexpr (S::kHalves == 1) return a;
    const float4 b = *reinterpret_cast<const float4*>(sums + (kM + column) * S::kSumPitch + 4 * quad);
    return {a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w};
  }
  __device__ float* Partial(int cta, int column) const {
    return p.partial + (static_cast<int64_t>(cta) * kM + column) * S::kRows + 4 * quad;
  }
  // One thread per flag, each in a line of its own.
  __device__ void WaitForOthers() const {
    for (int i = threadIdx.x; i < others; i += S::kConsumers)
      TakeFlag(p.arrived + (work.cta + 1 + i) * kFlagStride);
    NamedBarrier<1>(S::kConsumers);
  }
  __device__ void Leave() const {
#pragma unroll
    for (int j = 0; j < kPer; ++j) {
      const int column = first + j * kStep;
      if (column < item.rows) *reinterpret_cast<float4*>(Partial(work.cta, column)) = Own(column);
    }
  }
  // Escapes that found no place beside their codes: (exact - stand-in) times the input.
  __device__ void AddOverflow(float4 (&y)[kPer]) const {
    const int blocks = p.geometry.blocks, n = panel * S::kRows + 4 * quad, block = n / kBlockRows;
    if (p.weight.overflow_first == nullptr || block >= blocks) return;
    const int* range = p.weight.overflow_first + item.matrix * blocks + block;
    for (int i = __ldg(range), end = __ldg(range + 1); i < end; ++i) {
      const Overflow o = p.weight.overflow[i];
      const int r = static_cast<int>(o.row) - n;
      if (r < 0 || r > 3) continue;
      const float delta = __uint_as_float(static_cast<uint32_t>(o.bits) << 16) -
                          Lossless12::Scale(o.base) * Lossless12::kStandIn;
#pragma unroll
      for (int j = 0; j < kPer; ++j) {
        const int column = first + j * kStep;
        if (column >= item.rows) continue;
        const float v = delta * __bfloat162float(InputValue(column, static_cast<int>(o.column)));
        y[j].x += r == 0 ? v : 0.0f, y[j].y += r == 1 ? v : 0.0f;
        y[j].z += r == 2 ? v : 0.0f, y[j].w += r == 3 ? v : 0.0f;
      }
    }
  }
  __device__ bf16 InputValue(int row, int column) const {
    if (p.args.image_pitch == 0) return item.Input(p.args, row)[column];
    return static_cast<const bf16*>(
        p.args.in)[RowLayout::OfChunk(p.args.image_pitch, p.geometry.input_chunk / 2).At(row, column)];
  }

  // Adds what the others left; `y` holds this CTA's own sums.
  __device__ void AddOthers(float4 (&y)[kPer]) {
    if (done >= group_end) return;
    CountOthers();
    WaitForOthers();
#pragma unroll 2
    for (int i = 0; i < others; ++i)
#pragma unroll
      for (int j = 0; j < kPer; ++j) {
        const int column = first + j * kStep;
        if (column >= item.rows) continue;
        const float4 v = __ldcg(reinterpret_cast<const float4*>(Partial(work.cta + 1 + i, column)));
        y[j].x += v.x, y[j].y += v.y, y[j].z += v.z, y[j].w += v.w;
      }
  }
};

// Ends a group and writes its output, as the epilogue says.
template <typename S>
struct StreamFinish : StreamSums<S> {
  using Base = StreamSums<S>;
  using Base::kM, Base::kStep, Base::kPer;
  using Base::p, Base::item, Base::panel, Base::quad, Base::first;

  __device__ void Write() {
    const LinearArgs& a = p.args;
    const int n = panel * S::kRows + 4 * quad;
    const bool here = n < a.n, whole = n + 4 <= a.n && a.out_row_stride % 4 == 0;
    const bool add = a.epilogue == Epilogue::kAdd;
    float4 y[kPer], old[kPer];
#pragma unroll
    for (int j = 0; j < kPer; ++j) {
      const int column = first + j * kStep;
      y[j] = column < item.rows ? this->Own(column) : float4{0, 0, 0, 0};
      old[j] = float4{0, 0, 0, 0};
      if (add && whole && column < item.rows) old[j] = *reinterpret_cast<const float4*>(OutFloat(column, n));
    }
    this->AddOthers(y);
    if (!here) return;
    this->AddOverflow(y);
    if (a.epilogue == Epilogue::kGateUp) {
      WritePairs(y, n / 2);
      return;
    }
#pragma unroll
    for (int j = 0; j < kPer; ++j) {
      const int column = first + j * kStep;
      if (column >= item.rows) continue;
      float v[4] = {y[j].x, y[j].y, y[j].z, y[j].w};
      if (a.bias != nullptr)
#pragma unroll
        for (int r = 0; r < 4; ++r) v[r] += n + r < a.n ? a.bias[n + r] : 0.0f;
      if (add || a.out_f32) {
        float* to = OutFloat(column, n);
        if (whole) {
          *reinterpret_cast<float4*>(to) = {v[0] + old[j].x, v[1] + old[j].y, v[2] + old[j].z, v[3] + old[j].w};
        } else {
#pragma unroll
          for (int r = 0; r < 4; ++r)
            if (n + r < a.n) to[r] = v[r] + (add ? to[r] : 0.0f);
        }
      } else {
        if (whole && !a.out_tiled) {
          *reinterpret_cast<uint2*>(OutHalf(column, n)) = {PackBf16(v[0], v[1]), PackBf16(v[2], v[3])};
        } else {
#pragma unroll
          for (int r = 0; r < 4; ++r)
            if (n + r < a.n) *OutHalf(column, n + r) = __float2bfloat16(v[r]);
        }
      }
    }
  }
  // Outputs i and i + 1; a.n is even.
  __device__ void WritePairs(const float4 (&y)[kPer], int i) const {
    const LinearArgs& a = p.args;
    const int inner = a.n / 2;
    float gate[2] = {0, 0}, up[2] = {0, 0};
    if (a.bias != nullptr)
#pragma unroll
      for (int r = 0; r < 2; ++r)
        if (i + r < inner) gate[r] = a.bias[i + r], up[r] = a.bias[inner + i + r];
#pragma unroll
    for (int j = 0; j < kPer; ++j) {
      const int column = first + j * kStep;
      if (column >= item.rows) continue;
      const float v0 = GatedActivation(y[j].x + gate[0], y[j].y + up[0], a.gelu);
      const float v1 = GatedActivation(y[j].z + gate[1], y[j].w + up[1], a.gelu);
      bf16* to = OutHalf(column, i);
      if (i + 1 < inner && a.out_row_stride % 2 == 0) {
        *reinterpret_cast<uint32_t*>(to) = PackBf16(v0, v1);
      } else {
        to[0] = __float2bfloat16(v0);
        if (i + 1 < inner) to[1] = __float2bfloat16(v1);
      }
    }
  }
  __device__ float* OutFloat(int column, int n) const {
    return static_cast<float*>(p.args.out) +
           static_cast<int64_t>(item.Slot(p.args, column)) * p.args.out_row_stride + n;
  }
  __device__ bf16* OutHalf(int column, int n) const {
    const RowLayout layout = {p.args.out_row_stride, p.args.out_chunk_stride, p.args.out_tiled};
    return static_cast<bf16*>(p.args.out) + layout.At(item.Slot(p.args, column), n);
  }
};

// The consumer warps' walk over [begin, end). S: Stream or what has the same members. Consumer: Clear,
// SetRows(rows), Units(ring, first, count): that many units of a group, releasing each; EndGroup(matrix,
// block), Store(sums), and wr, its first row block of a panel.
template <typename S, typename Consumer>
__device__ void ConsumeUnits(const StreamLinear& p, const StreamWork& work, Ring ring, float* sums,
                             Consumer& my, int64_t begin, int64_t end) {
  const int lane = threadIdx.x % 32;
  my.Clear();
  StreamCursor at(work, begin);
  bool owner = at.unit == 0;
  int buffer = 0;
  for (int64_t unit = begin; unit < end;) {
    const StreamItem item = StreamItem::Of(p.args, at.item, S::kM);
    my.SetRows(item.rows);
    const int count = static_cast<int>(min(end - unit, static_cast<int64_t>(work.per_group - at.unit)));
    if (at.panel * S::kBlocks + my.wr < p.geometry.blocks) {
      my.Units(ring, at.unit, count);
      my.EndGroup(item.matrix, at.panel * S::kBlocks + my.wr);
    } else {
      for (int i = 0; i < count; ++i) {
        ring.WaitFull();
        ring.Release(lane);
        ring.Advance();
      }
    }
    unit += count;
    at.unit += count - 1;
    float* table = sums + buffer * S::kFloats;
    my.Store(table);
    my.Clear();
    NamedBarrier<1>(S::kConsumers);
    StreamFinish<S> finish{{p, work, item, table, at.panel, unit, unit + (work.per_group - 1 - at.unit)}};
    if (owner)
      finish.Write();
    else
      finish.Leave();
    if (!owner || S::kBuffers == 1) NamedBarrier<1>(S::kConsumers);
    if (threadIdx.x == 0 && !owner) {
      __threadfence();
      StoreRelease(p.arrived + work.cta * kFlagStride, 1);
    }
    buffer = (buffer + 1) % S::kBuffers;
    owner = true;
    at.Next(work);
  }
}

// Units of a consumer that has Unit(slot, last) and is done with a slot when that returns.
template <typename Consumer, typename AnyRing>
__device__ __forceinline__ void EachUnit(Consumer& my, AnyRing& ring, int first, int count, int per_group) {
  for (int i = 0; i < count; ++i, ring.Advance()) {
    if (!ring.Mine()) continue;
    ring.WaitFull();
    my.Unit(ring.Slot(), first + i + 1 == per_group);
    ring.Release(my.lane);
  }
}

}  // namespace dsopt_cuda
#endif  // DSOPT_CUDA_LINEAR_STREAM_CUH_
