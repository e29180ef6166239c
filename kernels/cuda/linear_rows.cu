// linear_rows.cu - y = x W^T for 2 to 64 rows with bf16 weights as they lie in memory, at the speed of reading them once:
// boxes of 64 x 64 weights come through the copy engine into a ring, swizzled so that ldmatrix reads them without conflicts.
// sm_90 and newer. How work is cut: linear_stream.cuh.
#include "linear_stream.cuh"
#include "tensor_map.h"

namespace dsopt_cuda {
namespace {

constexpr int kUnitBoxes = 2, kRowsColumns = kUnitBoxes * kBoxColumns;
constexpr int kRowsPitch = kRowsColumns * 2 + 16;  // bytes of an input row in a slot: 16 mod 128, ldmatrix has no conflicts

struct RowsLinear {
  CUtensorMap weights;
  StreamLinear stream;
};

#if __CUDA_ARCH__ >= 900 || !defined(__CUDA_ARCH__)
// Box at (column, row) of the tensor to dst (1024-byte aligned).
__device__ __forceinline__ void LoadBox(uint32_t dst, const CUtensorMap* map, int column, int row, uint32_t barrier,
                                        uint64_t policy) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1, {%3, %4}], "
      "[%2], %5;" ::"r"(dst),
      "l"(map), "r"(barrier), "r"(column), "r"(row), "l"(policy)
      : "memory");
}

template <int kM>
struct RowsProducer : StreamProducer<RowsProducer<kM>, kM, kRowsColumns, kRowsPitch> {
  using Base = StreamProducer<RowsProducer<kM>, kM, kRowsColumns, kRowsPitch>;
  using Base::p, Base::ring, Base::lane, Base::policy;
  const CUtensorMap* map = nullptr;
  int first_row = 0;

  __device__ void WeightsOf(const StreamCursor& at, int matrix) { first_row = matrix * p.args.n + at.panel * kPanelRows; }
  // What lies outside of the matrix comes as zeros.
  __device__ void CopyWeights(int unit) {
    if (lane != 0) return;
    ring.Expect(kUnitBoxes * kBoxBytes);
#pragma unroll
    for (int i = 0; i < kUnitBoxes; ++i)
      LoadBox(ring.Slot() + i * kBoxBytes, map, unit * kRowsColumns + i * kBoxColumns, first_row, ring.Full(), policy);
  }
};

template <int kM>
struct RowsConsumer {
  static constexpr int kGroups = kM / 8;
  const StreamLinear& p;
  int lane, wk, wr;  // this warp: box wk of a unit, row block wr of a panel
  uint32_t input[kGroups];
  float acc[kGroups][4];

  __device__ void Clear() {
#pragma unroll
    for (int i = 0; i < kGroups; ++i)
#pragma unroll
      for (int j = 0; j < 4; ++j) acc[i][j] = 0;
  }
  __device__ void SetRows(int rows) {
#pragma unroll
    for (int nb = 0; nb < kGroups; ++nb)
      input[nb] = min(nb * 8 + lane % 8, rows - 1) * kRowsPitch + wk * kBoxColumns * 2 + lane / 8 * 16;
  }
  __device__ void Unit(uint32_t slot, bool last) {
    const uint32_t weights = slot + wk * kBoxBytes + (wr * kBlockRows + lane % 16) * 128, x = slot + p.geometry.inputs_at;
    // The last unit: weights behind the row are zeros, inputs there are anything.
    const int left = last ? p.geometry.last_columns - wk * kBoxColumns : kBoxColumns;
    uint4 a[4];
#pragma unroll
    for (int s = 0; s < 4; ++s) a[s] = LoadMatrix(weights + (((2 * s + lane / 16) ^ (lane % 8)) << 4));
#pragma unroll
    for (int nb = 0; nb < kGroups; ++nb)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        uint4 b = LoadMatrix(x + input[nb] + h * 64);  // columns 32 h + 8 i .. in register i
        if (left < kBoxColumns) {
          const int from = 32 * h;  // k is a multiple of 8: whole registers
          if (from >= left) b.x = 0;
          if (from + 8 >= left) b.y = 0;
          if (from + 16 >= left) b.z = 0;
          if (from + 24 >= left) b.w = 0;
        }
        Mma(acc[nb], a[2 * h].x, a[2 * h].y, a[2 * h].z, a[2 * h].w, b.x, b.y);
        Mma(acc[nb], a[2 * h + 1].x, a[2 * h + 1].y, a[2 * h + 1].z, a[2 * h + 1].w, b.z, b.w);
      }
  }
  __device__ void EndGroup(int, int) {}
  __device__ void Store(float* sums) const {
    float* to = sums + wk * kM * kSumPitch + wr * kBlockRows + lane / 4;
#pragma unroll
    for (int nb = 0; nb < kGroups; ++nb)
#pragma unroll
      for (int j = 0; j < 4; ++j) to[(nb * 8 + lane % 4 * 2 + j % 2) * kSumPitch + j / 2 * 8] = acc[nb][j];
  }
};
#endif

// out[r, n] (+)= in[r, :] . W[n, :] + bias[n], or act(gate) up of row pairs      bf16 operands, f32 sums
// in [rows, k] bf16   W [n, k] bf16   k % 8 == 0   rows <= kM
// bytes  n * k * 2 (DRAM); inputs k * rows * 2 per panel of 64 weight rows (L2)      bound: DRAM
// grid   2 CTAs per SM (1 from 33 rows on) x 288 threads (8 consumer warps: 4 row blocks x 2 boxes; 1 producer)
// when   2 to 64 rows, dense
template <int kM>
__global__ __launch_bounds__(kStreamThreads, StreamCtas(kM)) void linear_rows_sm90(const __grid_constant__ RowsLinear p) {
#if __CUDA_ARCH__ >= 900
  extern __shared__ __align__(1024) char shared[];
  LetNextStart();
  const int tid = threadIdx.x, warp = tid / 32, lane = tid % 32;
  const uint32_t base = SmemAddress(shared), data = (base + StreamSums<kM>::kBytes + 1023) & ~1023u;
  float* sums = reinterpret_cast<float*>(shared + 512);
  Ring ring(base, data, p.stream.slots, p.stream.slot_bytes);
  if (tid == 0) ring.Init(kStreamWarps);
  __syncthreads();
  const StreamWork work(p.stream.geometry, StreamItems(p.stream.args, kM));
  const int64_t begin = work.StartOf(work.cta), end = work.StartOf(work.cta + 1);
  if (warp == kStreamWarps) {
    RowsProducer<kM> producer{{p.stream, work, ring, lane}};
    producer.map = &p.weights;
    producer.Run(begin, end);
    return;
  }
  WaitForPrevious();
  if (begin >= end) return;
  RowsConsumer<kM> my{p.stream, lane, warp / kPanelBlocks, warp % kPanelBlocks};
  ConsumeUnits<kM>(p.stream, work, ring, sums, my, begin, end);
#endif
}

template <int kM>
cudaError_t StartRows(const Launch& launch, RowsLinear p) {
  constexpr int kCtas = StreamCtas(kM);
  const LinearArgs& a = p.stream.args;
  StreamGeometry& g = p.stream.geometry;
  g.blocks = (a.n + kBlockRows - 1) / kBlockRows;
  g.panels = (a.n + kPanelRows - 1) / kPanelRows;
  g.units_per_group = (a.k + kRowsColumns - 1) / kRowsColumns;
  g.last_columns = a.k - (g.units_per_group - 1) * kRowsColumns;
  g.last_input_bytes = static_cast<uint32_t>(g.last_columns * 2);
  g.inputs_at = kUnitBoxes * kBoxBytes;
  p.stream.slot_bytes = (kUnitBoxes * kBoxBytes + kM * kRowsPitch + 1023) / 1024 * 1024;
  const int room = launch.limits->shared_bytes / kCtas - (kCtas - 1) * 1024 - StreamSums<kM>::kBytes - 1024;
  p.stream.slots = room / p.stream.slot_bytes < 16 ? room / p.stream.slot_bytes : 16;
  if (p.stream.slots < 2) return cudaErrorInvalidConfiguration;
  return StartLarge(launch, linear_rows_sm90<kM>, dim3(static_cast<unsigned>(kCtas * launch.limits->sms)),
                    dim3(kStreamThreads), StreamSums<kM>::kBytes + 1024 + p.stream.slots * p.stream.slot_bytes, p);
}

}  // namespace

bool RowsSupported(const Limits& limits, const LinearArgs& args) {
  return limits.arch >= 90 && args.map != nullptr && args.elem == Elem::kBf16 && args.rows >= 2 &&
         args.rows <= kSkinnyRows && args.batch == 1 && args.slot_expert == nullptr && args.bf16;
}

cudaError_t LinearRows(const Launch& launch, const LinearArgs& args, float* partial, uint32_t* arrived) {
  RowsLinear p = {};
  p.weights = *args.map;
  p.stream.args = args;
  p.stream.partial = partial;
  p.stream.arrived = arrived;
  if (args.rows <= 8) return StartRows<8>(launch, p);
  if (args.rows <= 16) return StartRows<16>(launch, p);
  if (args.rows <= 32) return StartRows<32>(launch, p);
  return StartRows<64>(launch, p);
}

}  // namespace dsopt_cuda
