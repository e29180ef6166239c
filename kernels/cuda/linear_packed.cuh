// linear_packed.cuh - y = x W^T for encoded weights: a ring of weight chunks in shared memory, codes expanded
// in registers into the A operand of mma.m16n8k16, activations as B. Instantiated by linear_packed_<format>.cu.
#ifndef DSOPT_CUDA_LINEAR_PACKED_CUH_
#define DSOPT_CUDA_LINEAR_PACKED_CUH_

#include "linear_stream.cuh"

namespace dsopt_cuda {

// kC: chunks of a unit, that is columns / 256 of a slot.
template <int kM, int kC>
struct PackedShared {
  // Row by row, bytes of an input row in a slot: 64 mod 128, no conflicts. A row image has less between its
  // rows, but that once per chunk.
  static constexpr int kPitch = kC * kChunkColumns * 2 + 64;
  static int Slot(const PackedLayout& l) {
    return Stream<kM>::kBlocks * kC * l.chunk_bytes(kChunkTiles) + kM * kC * kPackedPitch * 2;
  }
};

template <typename S, int kC>
struct PackedProducer : StreamProducer<PackedProducer<S, kC>, S::kM, kC * kChunkColumns> {
  using Base = StreamProducer<PackedProducer<S, kC>, S::kM, kC * kChunkColumns>;
  static constexpr int kPanelBlocks = S::kBlocks;
  using Base::p, Base::ring, Base::lane, Base::policy;
  const uint8_t* weights = nullptr;  // lane i < kPanelBlocks: of block i of the panel, from its first chunk on
  int blocks = 0;

  __device__ void WeightsOf(const StreamCursor& at, int matrix) {
    const StreamGeometry& g = p.geometry;
    blocks = min(kPanelBlocks, g.blocks - at.panel * kPanelBlocks);
    weights = p.weight.data + matrix * g.matrix_bytes +
              (static_cast<int64_t>(at.panel) * kPanelBlocks + lane) * g.block_bytes;
  }
  __device__ uint32_t WeightBytes(int unit) const {
    return unit + 1 < p.geometry.units_per_group ? p.geometry.unit_bytes : p.geometry.last_unit_bytes;
  }
  __device__ void CopyWeights(int unit) {
    const uint32_t bytes = WeightBytes(unit);
    if (lane == 0) ring.Expect(blocks * bytes + this->UnitInputBytes(unit));
    for (int i = 0; i < kPanelBlocks; ++i)
      if (i < blocks)
        ring.CopyFrom(i, i * p.geometry.unit_bytes,
                      weights + static_cast<int64_t>(unit) * p.geometry.unit_bytes, bytes, policy, lane);
  }
};

// ---- consumers ------------------------------------------------------------------------------------------

// kFlush: columns after which sums are multiplied by their scale: 0 never (scales by row), 64, 32 or 16.
// kSides: warps that share a chunk's columns, 2 or 1.
template <typename F, int kFlush, typename S_, int kC, int kSides, int kPer>
struct PackedConsumer {
  using S = S_;
  static constexpr int kM = S::kM, kOwn = kChunkTiles / kSides;
  static constexpr int kGroups = kM / 8, kVectors = F::kVectors, kTileBytes = kVectors * 512;
  static constexpr int kBatch =
      kGroups < 2 ? kGroups : 2;  // groups of 8 input rows whose products run side by side
  static constexpr bool kLossless = F::kPacking == Packing::kLossless12;
  static constexpr bool kMayOffset = F::kPacking == Packing::kInt4 || F::kPacking == Packing::kInt8;
  static constexpr int kUnitSide = kBlockRows + 4 * kEscapeSlots;
  const StreamLinear& p;
  int lane, side, half, wr;  // this warp: its tiles of a chunk, its half of the sums, row blocks wr .. wr + kPer - 1
  bool offsets, wide;  // wide: groups of 128
  int rows = 1;
  uint32_t input[kGroups];  // of the lane's input rows in a slot
  float acc[kPer][kGroups][4];
  float ones[kFlush == 0 ? kGroups : 1][4];  // sums of the inputs, where there are offsets by row

  __device__ void Clear() {
    ClearSums(acc);
    if constexpr (kFlush == 0)
#pragma unroll
      for (int i = 0; i < kGroups; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) ones[i][j] = 0;
  }
  __device__ void SetRows(int count) {
    rows = count;
#pragma unroll
    for (int nb = 0; nb < kGroups; ++nb)
      input[nb] = min(nb * 8 + lane / 4, count - 1) * p.geometry.input_pitch + lane % 4 * 16;
  }

  // Scales (and offsets) of rows g and g + 8 for columns from 64 tile + 32 half of a chunk on. side: shared
  // address.
  template <bool kOffsets>
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
      if constexpr (kOffsets) {
        from += p.weight.layout.groups_of(tiles) * kBlockRows * 2;
        offset[0] = LoadSharedHalf(from), offset[1] = LoadSharedHalf(from + 16);
      }
    }
  }

  template <bool kOffsets>
  __device__ __forceinline__ static void Flush(float (&to)[4], const float (&part)[4], const float (&sum)[4],
                                               const float (&scale)[2], const float (&offset)[2]) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      to[j] = fmaf(part[j], scale[j / 2], to[j]);
      if (kOffsets) to[j] = fmaf(sum[j], offset[j / 2], to[j]);
    }
  }

  // One tile of each block. chunk, x: shared addresses of the first block's chunk and of its columns in the
  // input rows. left: columns of the row from the tile on; what lies behind them is anything.
  template <bool kTail, bool kOffsets>
  __device__ __forceinline__ void Tile(uint32_t chunk, uint32_t x, int tiles, int tile, int left) {
    constexpr int kParts = kFlush == 32 || kFlush == 16 ? 2 : 1;
    uint32_t a[kPer][4][4];
    float scale[kPer][kParts][2], offset[kPer][kParts][2];
#pragma unroll
    for (int b = 0; b < kPer; ++b) {
      const uint32_t at = chunk + b * p.geometry.unit_bytes;
      uint4 q[kVectors];
#pragma unroll
      for (int v = 0; v < kVectors; ++v) q[v] = LoadShared16(at + tile * kTileBytes + v * 512 + lane * 16);
#pragma unroll
      for (int s = 0; s < 4; ++s) F::Step(q, s, a[b][s]);
      if (kFlush != 0)
#pragma unroll
        for (int h = 0; h < kParts; ++h)
          Scales<kOffsets>(at + tiles * kTileBytes, tiles, tile, h, scale[b][h], offset[b][h]);
    }
#pragma unroll
    for (int n0 = 0; n0 < kGroups; n0 += kBatch) {
      uint4 v[kBatch][2];
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        const uint32_t from = x + input[n0 + i] + tile * 128;
        v[i][0] = LoadShared16(from), v[i][1] = LoadShared16(from + 64);
        if (kTail) {
          if (lane % 4 * 8 >= left) v[i][0] = uint4{0, 0, 0, 0};
          if (32 + lane % 4 * 8 >= left) v[i][1] = uint4{0, 0, 0, 0};
        }
      }
      if constexpr (kFlush == 0) {
        Steps<0, 4>(n0, a, v);
        if constexpr (kMayOffset)
          if (offsets)
#pragma unroll
            for (int i = 0; i < kBatch; ++i) SumInputs<0, 4>(ones[n0 + i], v[i]);
      } else if constexpr (kFlush == 16) {
        // Columns 16 apart lie in lanes t < 2 and t >= 2: two passes with the other half of the inputs zero.
        // The scale of a pass stands in any lane of its half.
#pragma unroll
        for (int which = 0; which < 2; ++which) {
          uint4 only[kBatch][2];
#pragma unroll
          for (int i = 0; i < kBatch; ++i)
#pragma unroll
            for (int h = 0; h < 2; ++h) only[i][h] = lane % 4 / 2 == which ? v[i][h] : uint4{0, 0, 0, 0};
          float sc[kPer][2][2], of[kPer][2][2];
#pragma unroll
          for (int b = 0; b < kPer; ++b)
#pragma unroll
            for (int h = 0; h < 2; ++h)
#pragma unroll
              for (int j = 0; j < 2; ++j) {
                sc[b][h][j] = __shfl_sync(~0u, scale[b][h][j], (lane & ~3) + 2 * which);
                of[b][h][j] = __shfl_sync(~0u, offset[b][h][j], (lane & ~3) + 2 * which);
              }
          Part<kOffsets, 0, 2>(n0, a, only, 0, sc, of);
          Part<kOffsets, 2, 4>(n0, a, only, 1, sc, of);
        }
      } else if constexpr (kParts == 2) {
        Part<kOffsets, 0, 2>(n0, a, v, 0, scale, offset);
        Part<kOffsets, 2, 4>(n0, a, v, 1, scale, offset);
      } else {
        Part<kOffsets, 0, 4>(n0, a, v, 0, scale, offset);
      }
    }
  }
  // Steps kFirst .. kEnd - 1, which have scale h.
  template <bool kOffsets, int kFirst, int kEnd, int kParts>
  __device__ __forceinline__ void Part(int n0, const uint32_t (&a)[kPer][4][4], const uint4 (&v)[kBatch][2],
                                       int h, const float (&scale)[kPer][kParts][2],
                                       const float (&offset)[kPer][kParts][2]) {
    float part[kPer][kBatch][4] = {}, sum[kBatch][4] = {};
#pragma unroll
    for (int s = kFirst; s < kEnd; ++s)
#pragma unroll
      for (int i = 0; i < kBatch; ++i)
#pragma unroll
        for (int b = 0; b < kPer; ++b) Step(part[b][i], a[b][s], v[i], s);
    if constexpr (kOffsets)
#pragma unroll
      for (int i = 0; i < kBatch; ++i) SumInputs<kFirst, kEnd>(sum[i], v[i]);
#pragma unroll
    for (int i = 0; i < kBatch; ++i)
#pragma unroll
      for (int b = 0; b < kPer; ++b)
        Flush<kOffsets>(acc[b][n0 + i], part[b][i], sum[i], scale[b][h], offset[b][h]);
  }
  template <int kFirst, int kEnd>
  __device__ __forceinline__ void Steps(int n0, const uint32_t (&a)[kPer][4][4], const uint4 (&v)[kBatch][2]) {
#pragma unroll
    for (int s = kFirst; s < kEnd; ++s)
#pragma unroll
      for (int i = 0; i < kBatch; ++i)
#pragma unroll
        for (int b = 0; b < kPer; ++b) Step(acc[b][n0 + i], a[b][s], v[i], s);
  }
  __device__ __forceinline__ static void Step(float (&sum)[4], const uint32_t (&a)[4], const uint4 (&v)[2],
                                              int s) {
    Mma(sum, a[0], a[1], a[2], a[3], WordOf(v[s / 2], s % 2 * 2), WordOf(v[s / 2], s % 2 * 2 + 1));
  }
  template <int kFirst, int kEnd>
  __device__ __forceinline__ static void SumInputs(float (&sum)[4], const uint4 (&v)[2]) {
    constexpr uint32_t kOnes[4] = {0x3F803F80u, 0x3F803F80u, 0x3F803F80u, 0x3F803F80u};
#pragma unroll
    for (int s = kFirst; s < kEnd; ++s) Step(sum, kOnes, v, s);
  }

  // Weights of this warp's 16 x 128 of a block that have no code: (exact - stand-in) times the input.
  // unit: of the chunk.
  __device__ void Escapes(float (&to)[kGroups][4], uint32_t side_at, int unit, uint32_t x) {
    const uint32_t base = side_at + unit * kUnitSide;
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
      const uint32_t at = x + (unit * kUnitColumns + in_unit) * 2;
#pragma unroll
      for (int nb = 0; nb < kGroups; ++nb)
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          const float v =
              LoadSharedBf16(at + min(nb * 8 + lane % 4 * 2 + j, rows - 1) * p.geometry.input_pitch);
          to[nb][j] = fmaf(low, v, to[nb][j]);
          to[nb][2 + j] = fmaf(high, v, to[nb][2 + j]);
        }
    }
  }
  __device__ __forceinline__ void AllEscapes(uint32_t chunk, uint32_t x, int tiles) {
#pragma unroll
    for (int b = 0; b < kPer; ++b)
#pragma unroll
      for (int i = 0; i < kOwn / 2; ++i) {
        const int unit = kOwn / 2 * side + i;
        if (2 * unit < tiles) Escapes(acc[b], chunk + b * p.geometry.unit_bytes + tiles * kTileBytes, unit, x);
      }
  }

  template <typename AnyRing>
  __device__ void Units(AnyRing& ring, int first, int count) {
    EachUnit(*this, ring, first, count, p.geometry.units_per_group);
  }
  __device__ void Unit(uint32_t slot, bool last) {
    const StreamGeometry& g = p.geometry;
    const uint32_t chunk = slot + wr * g.unit_bytes, x = slot + g.inputs_at;
    if (last && g.last_columns != kC * kChunkColumns) {
      if (kMayOffset && offsets)
        LastUnit<true>(chunk, x, g.last_columns);
      else
        LastUnit<false>(chunk, x, g.last_columns);
    } else {
      if (kMayOffset && offsets)
        WholeUnit<true>(chunk, x);
      else
        WholeUnit<false>(chunk, x);
    }
  }
  // kC whole chunks at `chunk`.
  template <bool kOffsets>
  __device__ __forceinline__ void WholeUnit(uint32_t chunk, uint32_t x) {
#pragma unroll
    for (int c = 0; c < kC; ++c) {
      const uint32_t at = chunk + c * p.geometry.chunk_bytes, columns = x + c * p.geometry.input_chunk;
#pragma unroll
      for (int i = 0; i < kOwn; ++i) Tile<false, kOffsets>(at, columns, kChunkTiles, kOwn * side + i, 0);
      if constexpr (kLossless) AllEscapes(at, columns, kChunkTiles);
    }
  }
  // The last unit of a row: any number of columns.
  template <bool kOffsets>
  __device__ void LastUnit(uint32_t chunk, uint32_t x, int columns) {
#pragma unroll 1
    for (int c = 0; c * kChunkColumns < columns; ++c) {
      const uint32_t at = chunk + c * p.geometry.chunk_bytes, from = x + c * p.geometry.input_chunk;
      const int left = columns - c * kChunkColumns,
                tiles = min((left + kTileColumns - 1) / kTileColumns, kChunkTiles);
#pragma unroll 1
      for (int tile = kOwn * side; tile < min(kOwn * (side + 1), tiles); ++tile)
        Tile<true, kOffsets>(at, from, tiles, tile, left - tile * kTileColumns);
      if constexpr (kLossless) {
        AllEscapes(at, from, tiles);
      }
    }
  }

  // One scale per row: applied once.
  __device__ void EndGroup(int matrix, int block) {
    if constexpr (kFlush == 0)
#pragma unroll
      for (int b = 0; b < kPer; ++b)
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          const int row = (block + b) * kBlockRows + lane / 4;
          const int64_t at = static_cast<int64_t>(matrix) * p.args.n + min(row + 8 * h, p.args.n - 1);
          const float scale = __ldg(p.weight.row_scales + at);
          const float offset = p.weight.row_offsets != nullptr ? __ldg(p.weight.row_offsets + at) : 0.0f;
#pragma unroll
          for (int nb = 0; nb < kGroups; ++nb)
#pragma unroll
            for (int j = 0; j < 2; ++j)
              acc[b][nb][2 * h + j] = acc[b][nb][2 * h + j] * scale + ones[nb][2 * h + j] * offset;
        }
  }
  __device__ void Store(float* sums) const {
    StoreSums<S>(acc, sums, half, wr, lane);
  }
};

// out[r, n] (+)= in[r, :] . decoded W[n, :] + bias[n], or act(gate) up of row pairs
// in [rows, k] bf16 or a row image, also one row per slot, or sorted slots     W packed.h     k % 8 == 0
// sums   f32; scales applied in f32 after the products of their group
// bytes  W once per kM rows (DRAM), inputs k * rows * 2 per panel (L2)     bound: DRAM up to 16 rows, then L2
// grid   see Stream: 8 consumer warps, each with 2 tiles of a chunk of its row blocks, and 1 producer warp
//        equal ranges of units; a group cut by a range's end is finished by the CTA with its first unit
// when   encoded weights; rows beyond kM take several items that follow each other on the same panel (L2)
template <typename F, int kFlush, int kM, int kC>
__global__ __launch_bounds__(Stream<kM>::kThreads,
                             Stream<kM>::kCtas) void linear_packed(const __grid_constant__ StreamLinear p) {
  extern __shared__ __align__(128) char shared[];
  using S = Stream<kM>;
  LetNextStart();
  const int tid = threadIdx.x, warp = tid / 32, lane = tid % 32;
  float* sums = reinterpret_cast<float*>(shared + S::kSumsAt);
  Ring ring(SmemAddress(shared), SmemAddress(shared) + S::kRingAt, p.slots, p.slot_bytes);
  if (tid == 0) ring.Init(S::kWarps);
  __syncthreads();
  if (p.args.slot_expert != nullptr) WaitForPrevious();  // the items are the router's result
  const StreamGeometry& g = p.geometry;
  const StreamWork work(g, StreamItems(p.args, kM), blockIdx.x);
  const int64_t begin = work.StartOf(work.cta), end = work.StartOf(work.cta + 1);
  if (warp == S::kWarps) {
    PackedProducer<S, kC>{p, work, ring, lane}.Run(begin, end);
    return;
  }
  WaitForPrevious();
  if (begin >= end) return;
  constexpr int kSides = S::kBlocks / S::kPerWarp;  // warps that share a chunk's columns
  PackedConsumer<F, kFlush, S, kC, 2, S::kPerWarp> my{p, lane, warp / kSides, warp / kSides, warp % kSides * S::kPerWarp};
  my.offsets = p.weight.layout.offsets || p.weight.row_offsets != nullptr;
  my.wide = p.weight.layout.group == 128;
  ConsumeUnits<S>(p, work, ring, sums, my, begin, end);
}

template <int kM, int kC>
int PackedSlots(const Limits& limits, const PackedLayout& l) {
  using S = Stream<kM>;
  const int room = limits.shared_bytes / S::kCtas - (S::kCtas - 1) * 1024 - S::kRingAt;
  const int slots = room / PackedShared<kM, kC>::Slot(l);
  return slots < 16 ? slots : 16;
}

template <typename S, int kC>
void SetWeightGeometry(const PackedLayout& l, StreamGeometry& g) {
  g.blocks = l.blocks();
  g.panels = (g.blocks + S::kBlocks - 1) / S::kBlocks;
  g.units_per_group = (l.chunks() + kC - 1) / kC;
  g.chunk_bytes = static_cast<uint32_t>(l.chunk_bytes(kChunkTiles));
  g.unit_bytes = kC * g.chunk_bytes;
  g.block_bytes = l.block_bytes();
  g.matrix_bytes = l.matrix_bytes();
  g.last_columns = l.k - (g.units_per_group - 1) * kC * kChunkColumns;
  g.last_unit_bytes =
      static_cast<uint32_t>(g.block_bytes - static_cast<int64_t>(g.units_per_group - 1) * g.unit_bytes);
}

// What a launch derives from the layout and from how its input lies.
template <typename S, int kC>
void SetPackedGeometry(StreamLinear& p) {
  constexpr int kM = S::kM;
  const PackedLayout& l = p.weight.layout;
  StreamGeometry& g = p.geometry;
  SetWeightGeometry<S, kC>(l, g);
  g.inputs_at = S::kBlocks * g.unit_bytes;
  if (p.args.image_pitch != 0) {
    g.input_pitch = kPackedPitch * 2;
    g.input_chunk = static_cast<uint32_t>(ImageChunk(p.args.rows, kPackedPitch) * 2);
    g.last_input_bytes =
        static_cast<uint32_t>((g.last_columns + kChunkColumns - 1) / kChunkColumns) * g.input_chunk;
  } else {
    g.input_pitch = PackedShared<kM, kC>::kPitch;
    g.input_chunk = kChunkColumns * 2;
    g.last_input_bytes = static_cast<uint32_t>(g.last_columns * 2);
  }
  p.slot_bytes = PackedShared<kM, kC>::Slot(l);
}

template <typename F, int kFlush, int kM, int kC>
cudaError_t StartPacked(const Launch& launch, StreamLinear p) {
  using S = Stream<kM>;
  SetPackedGeometry<S, kC>(p);
  p.slots = PackedSlots<kM, kC>(*launch.limits, p.weight.layout);
  if (p.slots < 2) return cudaErrorInvalidConfiguration;
  const int bytes = S::kRingAt + p.slots * p.slot_bytes;
  return StartLarge(launch, linear_packed<F, kFlush, kM, kC>,
                    dim3(static_cast<unsigned>(S::kCtas * launch.limits->sms)), dim3(S::kThreads), bytes, p);
}

template <typename F, int kFlush>
cudaError_t StartPackedRows(const Launch& launch, const StreamLinear& p) {
  constexpr int kC = F::kPacking == Packing::kInt4 ? 2 : 1;  // a slot holds 16 to 25 KB of codes
  const LinearArgs& a = p.args;
  const int rows = a.sorted_slots != nullptr ? kGroupRows : a.slot_expert != nullptr ? 1 : a.rows;
  // Launches with two CTAs per SM, or large panels, do not fit everywhere; that for 64 rows does (PackedSupported).
  if (rows <= 8 && PackedSlots<8, kC>(*launch.limits, p.weight.layout) >= 2)
    return StartPacked<F, kFlush, 8, kC>(launch, p);
  if (rows <= 16 && PackedSlots<16, kC>(*launch.limits, p.weight.layout) >= 2)
    return StartPacked<F, kFlush, 16, kC>(launch, p);
  if (rows <= 32 && PackedSlots<32, 1>(*launch.limits, p.weight.layout) >= 2)
    return StartPacked<F, kFlush, 32, 1>(launch, p);
  return StartPacked<F, kFlush, 64, 1>(launch, p);
}

}  // namespace dsopt_cuda
#endif  // DSOPT_CUDA_LINEAR_PACKED_CUH_
