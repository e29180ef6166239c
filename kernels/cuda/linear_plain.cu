// linear_plain.cu - y = x W^T for few rows and bf16 weights as they are: boxes of the matrix come through
// tensor maps into a ring in shared memory, weights are the A operand of mma.m16n8k16, activations the B
// operand.
#include "linear_stream.cuh"
#include "tensor_map.h"

namespace dsopt_cuda {
namespace {

constexpr int kBoxColumns = 64, kUnitBoxes = kImageColumns / kBoxColumns, kBoxPitch = kBoxColumns * 2;

template <int kM>
constexpr int PlainSlot() {  // boxes are aligned to 1024 bytes
  return (Stream<kM>::kRows * kImageColumns * 2 + kM * kPlainPitch * 2 + 1023) / 1024 * 1024;
}
template <int kM>
constexpr int kPlainRingAt = (Stream<kM>::kRingAt + 1023) / 1024 * 1024;

template <int kM>
struct PlainProducer : StreamProducer<PlainProducer<kM>, kM, kImageColumns> {
  using Base = StreamProducer<PlainProducer<kM>, kM, kImageColumns>;
  using Base::p, Base::ring, Base::lane, Base::policy;
  const CUtensorMap* map;
  int row = 0;  // first one of the panel

  __device__ void WeightsOf(const StreamCursor& at, int) { row = at.panel * Stream<kM>::kRows; }
  __device__ void CopyWeights(int unit) {
    const int boxes =
        unit + 1 < p.geometry.units_per_group ? kUnitBoxes : p.geometry.last_columns / kBoxColumns;
    if (lane != 0) return;
    ring.Expect(static_cast<uint32_t>(boxes) * Stream<kM>::kRows * kBoxPitch + this->UnitInputBytes(unit));
#if __CUDA_ARCH__ >= 900
    for (int i = 0; i < boxes; ++i)
      TensorLoad(ring.Slot() + i * Stream<kM>::kRows * kBoxPitch, map, unit * kImageColumns + i * kBoxColumns,
                 row, ring.Full(), policy);
#endif
  }
};

template <int kM>
struct PlainConsumer {
  using S = Stream<kM>;
  static constexpr int kGroups = kM / 8, kPer = S::kPerWarp, kSteps = kBoxColumns / 16;
  const StreamLinear& p;
  int lane, wk, wr;  // this warp: boxes 2 wk, 2 wk + 1 of a unit, row blocks wr .. wr + kPer - 1 of a panel
  float acc[kPer][kGroups][4];

  __device__ void Clear() {
    ClearSums(acc);
  }
  __device__ void SetRows(int) {}
  __device__ void EndGroup(int, int) {}

  // weights, x: shared addresses of the box and of its columns in the first input row.
  __device__ __forceinline__ void Box(uint32_t weights, uint32_t x) {
    const int row = wr * kBlockRows + lane % 16;
    // Two groups of 8 input rows and a step, or one group and two steps.
    const uint32_t inputs = kGroups > 1 ? x + (lane / 16 * 8 + lane % 8) * kPlainPitch * 2 + lane / 8 % 2 * 16
                                        : x + lane % 8 * kPlainPitch * 2 + lane / 8 * 16;
    uint4 b[kSteps][kGroups > 1 ? kGroups / 2 : 1];
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
      if constexpr (kGroups > 1) {
#pragma unroll
        for (int g = 0; g < kGroups / 2; ++g) b[s][g] = LoadMatrix(inputs + g * 16 * kPlainPitch * 2 + s * 32);
      } else if (s % 2 == 0) {
        b[s][0] = LoadMatrix(inputs + s * 32);
      }
    }
#pragma unroll
    for (int s = 0; s < kSteps; ++s)
#pragma unroll
      for (int r = 0; r < kPer; ++r) {
        const int line = row + r * kBlockRows;
        const uint4 a = LoadMatrix(weights + line * kBoxPitch + (((2 * s + lane / 16) ^ (line & 7)) << 4));
        if constexpr (kGroups > 1) {
#pragma unroll
          for (int g = 0; g < kGroups / 2; ++g) {
            Mma(acc[r][2 * g], a.x, a.y, a.z, a.w, b[s][g].x, b[s][g].y);
            Mma(acc[r][2 * g + 1], a.x, a.y, a.z, a.w, b[s][g].z, b[s][g].w);
          }
        } else {
          const uint4 v = b[s / 2 * 2][0];
          Mma(acc[r][0], a.x, a.y, a.z, a.w, s % 2 == 0 ? v.x : v.z, s % 2 == 0 ? v.y : v.w);
        }
      }
  }
  __device__ void Units(Ring& ring, int first, int count) {
    EachUnit(*this, ring, first, count, p.geometry.units_per_group);
  }
  __device__ void Unit(uint32_t slot, bool last) {
    const int boxes = last ? p.geometry.last_columns / kBoxColumns : kUnitBoxes;
    const uint32_t x = slot + p.geometry.inputs_at;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int box = 2 * wk + i;
      if (box < boxes) Box(slot + box * S::kRows * kBoxPitch, x + box * kBoxPitch);
    }
  }
  __device__ void Store(float* sums) const {
    StoreSums<S>(acc, sums, wk, wr, lane);
  }
};

// out[r, n] (+)= in[r, :] . W[n, :] + bias[n], or act(gate) up of row pairs      bf16 operands, f32 sums
// in: a row image of pitch kPlainPitch     W [n, k] row-major, k % 64 == 0
// bytes  W once (DRAM), inputs k * rows * 2 per panel (L2)      bound: DRAM
// grid   see Stream: 8 consumer warps, each with 2 boxes of a unit of its row blocks, and 1 producer warp
//        units and unfinished groups as in linear_packed
// when   2 to 32 rows, sm_90 and newer, the driver makes tensor maps
template <int kM>
__global__ __launch_bounds__(Stream<kM>::kThreads,
                             Stream<kM>::kCtas) void linear_plain(const __grid_constant__ StreamLinear p,
                                                                  const __grid_constant__ CUtensorMap map) {
#if __CUDA_ARCH__ >= 900
  extern __shared__ __align__(1024) char shared[];
  using S = Stream<kM>;
  LetNextStart();
  const int tid = threadIdx.x, warp = tid / 32, lane = tid % 32;
  float* sums = reinterpret_cast<float*>(shared + S::kSumsAt);
  Ring ring(SmemAddress(shared), SmemAddress(shared) + kPlainRingAt<kM>, p.slots, p.slot_bytes);
  if (tid == 0) ring.Init(S::kWarps);
  __syncthreads();
  const StreamWork work(p.geometry, 1);
  const int64_t begin = work.StartOf(work.cta), end = work.StartOf(work.cta + 1);
  if (warp == S::kWarps) {
    PlainProducer<kM> producer{{p, work, ring, lane}};
    producer.map = &map;
    producer.Run(begin, end);
    return;
  }
  WaitForPrevious();
  if (begin >= end) return;
  constexpr int kSides = S::kBlocks / S::kPerWarp;  // warps that share a unit's columns
  PlainConsumer<kM> my{p, lane, warp / kSides, warp % kSides * S::kPerWarp};
  ConsumeUnits<S>(p, work, ring, sums, my, begin, end);
#endif
}

template <int kM>
cudaError_t StartPlain(const Launch& launch, StreamLinear p) {
  using S = Stream<kM>;
  const LinearArgs& a = p.args;
  CUtensorMap map;
  if (!MakeTensorMap(*launch.limits, a.weight, static_cast<uint64_t>(a.n), static_cast<uint64_t>(a.k), S::kRows,
                     &map))
    return cudaErrorInvalidValue;
  StreamGeometry& g = p.geometry;
  g.blocks = (a.n + kBlockRows - 1) / kBlockRows;
  g.panels = (a.n + S::kRows - 1) / S::kRows;
  g.units_per_group = (a.k + kImageColumns - 1) / kImageColumns;
  g.last_columns = a.k - (g.units_per_group - 1) * kImageColumns;
  g.inputs_at = S::kRows * kImageColumns * 2;
  g.input_pitch = kPlainPitch * 2;
  g.input_chunk = g.last_input_bytes = static_cast<uint32_t>(ImageChunk(a.rows, kPlainPitch) * 2);
  p.slot_bytes = PlainSlot<kM>();
  p.slots = (launch.limits->shared_bytes / S::kCtas - (S::kCtas - 1) * 1024 - kPlainRingAt<kM>) / p.slot_bytes;
  const int bytes = kPlainRingAt<kM> + p.slots * p.slot_bytes;
  return StartLarge(launch, linear_plain<kM>, dim3(static_cast<unsigned>(S::kCtas * launch.limits->sms)),
                    dim3(S::kThreads), bytes, p, map);
}

}  // namespace

bool PlainFits(const Limits& limits) {
  return limits.tensor_map_encoder != nullptr && limits.shared_bytes - kPlainRingAt<32> >= 2 * PlainSlot<32>();
}

bool PlainSupported(const Limits& limits, const LinearArgs& args) {
  const bool dense = args.batch == 1 && args.slot_expert == nullptr && args.norm_in == nullptr;
  return PlainFits(limits) && args.bf16 && args.elem == Elem::kBf16 && dense && args.rows > 1 && args.rows <= 32 &&
         args.k % kBoxColumns == 0;
}

cudaError_t LinearPlain(const Launch& launch, const LinearArgs& args, float* partial, uint32_t* arrived) {
  const StreamLinear p = {args, {}, partial, arrived, {}, 0, 0};
  if (args.rows <= 8) return StartPlain<8>(launch, p);
  return args.rows <= 16 ? StartPlain<16>(launch, p) : StartPlain<32>(launch, p);
}

}  // namespace dsopt_cuda
