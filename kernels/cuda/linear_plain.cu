// linear_plain.cu - y = x W^T for few rows and bf16 weights as they are: boxes of the matrix come through
// tensor maps into a ring in shared memory, weights are the A operand of mma.m16n8k16, activations the B
// operand.
#include "linear_plain.cuh"
#include "tensor_map.h"

namespace dsopt_cuda {
namespace {

template <int kM>
using Unit = PlainUnit<Stream<kM>, kImageColumns>;
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
        unit + 1 < p.geometry.units_per_group ? Unit<kM>::kBoxes : p.geometry.last_columns / kBoxColumns;
    if (lane != 0) return;
    ring.Expect(static_cast<uint32_t>(boxes) * Stream<kM>::kRows * kBoxPitch + this->UnitInputBytes(unit));
#if __CUDA_ARCH__ >= 900
    for (int i = 0; i < boxes; ++i)
      TensorLoad(ring.Slot() + i * Stream<kM>::kRows * kBoxPitch, map, unit * kImageColumns + i * kBoxColumns,
                 row, ring.Full(), policy);
#endif
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
  const StreamWork work(p.geometry, 1, blockIdx.x);
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
  PlainConsumer<S, kImageColumns, 2, S::kPerWarp> my{p, lane, warp / kSides, warp / kSides,
                                                     warp % kSides * S::kPerWarp};
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
  Unit<kM>::SetGeometry(p);
  p.slots = (launch.limits->shared_bytes / S::kCtas - (S::kCtas - 1) * 1024 - kPlainRingAt<kM>) / p.slot_bytes;
  const int bytes = kPlainRingAt<kM> + p.slots * p.slot_bytes;
  return StartLarge(launch, linear_plain<kM>, dim3(static_cast<unsigned>(S::kCtas * launch.limits->sms)),
                    dim3(S::kThreads), bytes, p, map);
}

}  // namespace

bool PlainFits(const Limits& limits) {
  return limits.tensor_map_encoder != nullptr && limits.shared_bytes - kPlainRingAt<32> >= 2 * Unit<32>::kSlot;
}

bool PlainSupported(const Limits& limits, const LinearArgs& args) {
  const bool dense = args.batch == 1 && args.slot_expert == nullptr && args.norm_in == nullptr;
  return PlainFits(limits) && args.bf16 && args.elem == Elem::kBf16 && dense && args.rows > 1 &&
         args.rows <= 32 && args.k % kBoxColumns == 0;
}

cudaError_t LinearPlain(const Launch& launch, const LinearArgs& args, float* partial, uint32_t* arrived) {
  const StreamLinear p = {args, {}, partial, arrived, {}, 0, 0};
  if (args.rows <= 8) return StartPlain<8>(launch, p);
  return args.rows <= 16 ? StartPlain<16>(launch, p) : StartPlain<32>(launch, p);
}

}  // namespace dsopt_cuda
