// batch_step.cuh - all layers of a decode step for up to 32 rows as one kernel, and its launch.
//
// Operations of a layer: qkv | attention | out + residual | gate/up + activation | down + residual. A product
// is cut into units of a panel of weight rows and some columns, the units into equal ranges over the CTAs
// (linear_stream.cuh); a group that several CTAs share is finished by the one with its first unit. A lane of
// its own (batch_producer.cuh) streams weights and cached tokens through the ring without waiting for anything
// but a slot, so those of the next operation land while the last one is handed over. Hand-over: every CTA adds
// 1 to the operation's counter when its outputs are written; who reads them waits until all have. RMSNorm takes
// no operation of its own: who writes x writes x times the next gain as the next product's input, and the sums
// of squares of its panel; the next product multiplies its results by 1 / rms.
//
// bytes   DRAM: all weights once, the cache once
//         L2: inputs k * rows * 2 per panel, x, and sums of shared groups
// grid    one CTA per SM x 352 threads: two teams of 4 consumer warps, a warp each for weights, inputs, side
//         work; all resident (cooperative launch)
// bound   DRAM, and about 5 us a hand-over of which the ring hides most. Copies in flight are kept few: what
//         CTAs wait for queues behind them (measured: 32 and 64 KB per SM beat 64 and 96 by 5 %)
// when    sm_90a
#ifndef DSOPT_CUDA_PERSISTENT_BATCH_STEP_CUH_
#define DSOPT_CUDA_PERSISTENT_BATCH_STEP_CUH_

#include <algorithm>

#include "persistent/batch_producer.cuh"
#include "persistent/batch_side.cuh"

namespace dsopt_cuda::batch {

#ifdef DSOPT_CUDA_WGMMA

// What becomes of the sums of a group. F: how weights and row images lie, see persistent_batch_<format>.cu.
template <typename F>
struct Finish : StreamSums<typename F::S> {
  using S = typename F::S;
  using Base = StreamSums<S>;
  using Base::kM, Base::kQuads, Base::kStep, Base::kPer;
  using Base::p, Base::work, Base::item, Base::panel, Base::quad, Base::first;
  const BatchStep& s;

  __device__ int Column(int j) const { return first + j * kStep; }
  __device__ void Collect(float4 (&y)[kPer]) {
#pragma unroll
    for (int j = 0; j < kPer; ++j) y[j] = Column(j) < item.rows ? this->Own(Column(j)) : float4{0, 0, 0, 0};
    AddOthers(y);
    if constexpr (F::kOverflow)
      if (n() < p.args.n) this->AddOverflow(y);
  }
  // As StreamSums, in less code: rows and CTAs lie at fixed distances.
  __device__ void Leave() const {
    float* to = this->Partial(work.cta, first);
#pragma unroll
    for (int j = 0; j < kPer; ++j)
      if (Column(j) < item.rows) *reinterpret_cast<float4*>(to + j * kStep * S::kRows) = this->Own(Column(j));
  }
  __device__ void AddOthers(float4 (&y)[kPer]) {
    if (this->done >= this->group_end) return;
    this->CountOthers();
    this->WaitForOthers();
    const float* from = this->Partial(work.cta + 1, first);
#pragma unroll 2
    for (int i = 0; i < this->others; ++i, from += kM * S::kRows)
#pragma unroll
      for (int j = 0; j < kPer; ++j) {
        if (Column(j) >= item.rows) continue;
        const float4 v = __ldcg(reinterpret_cast<const float4*>(from + j * kStep * S::kRows));
        y[j].x += v.x, y[j].y += v.y, y[j].z += v.z, y[j].w += v.w;
      }
  }
  // This thread's first weight row.
  __device__ int n() const { return panel * S::kRows + 4 * quad; }

  // What `op` makes of the sums. scales: 1 / rms of the input rows; gain: of the norm that follows; null: none
  // does.
  __device__ void Write(int op, const float* scales, const float* gain, const Image<F>& image) {
    const bool here = n() < p.args.n, adds = op == kOut || op == kDown;
    float4 y[kPer], x[kPer];
#pragma unroll
    for (int j = 0; j < kPer; ++j)
      x[j] = adds && here && Column(j) < item.rows ? __ldcg(X(Column(j), n())) : float4{0, 0, 0, 0};
    Collect(y);
    if (adds)
      AddResidual(x, y, gain, image);
    else if (here && op == kQkv)
      WriteQkv(y, scales);
    else if (here)
      WriteGated(y, scales, image);
  }
  __device__ void WriteQkv(const float4 (&y)[kPer], const float* scales) const {
#pragma unroll
    for (int j = 0; j < kPer; ++j) {
      if (Column(j) >= item.rows) continue;
      const float by = scales[Column(j)];
      *reinterpret_cast<float4*>(s.qkv + Column(j) * p.args.n + n()) = {
          y[j].x * by, y[j].y * by, y[j].z * by, y[j].w * by};
    }
  }
  // Gate and up follow each other.
  __device__ void WriteGated(const float4 (&y)[kPer], const float* scales, const Image<F>& image) const {
#pragma unroll
    for (int j = 0; j < kPer; ++j) {
      if (Column(j) >= item.rows) continue;
      const float by = scales[Column(j)];
      *reinterpret_cast<uint32_t*>(static_cast<bf16*>(s.mid) + image.At(Column(j), n() / 2)) = PackBf16(
          GatedActivation(y[j].x * by, y[j].y * by, false), GatedActivation(y[j].z * by, y[j].w * by, false));
    }
  }
  // x += y, and the next product's input.
  __device__ void AddResidual(float4 (&x)[kPer], const float4 (&y)[kPer], const float* gain,
                              const Image<F>& image) const {
    const bool here = n() < p.args.n;
#pragma unroll
    for (int j = 0; j < kPer; ++j) x[j].x += y[j].x, x[j].y += y[j].y, x[j].z += y[j].z, x[j].w += y[j].w;
    if (here)
#pragma unroll
      for (int j = 0; j < kPer; ++j)
        if (Column(j) < item.rows) *X(Column(j), n()) = x[j];
    if (gain == nullptr) return;
    const float4 by = here ? __ldg(reinterpret_cast<const float4*>(gain + n())) : float4{0, 0, 0, 0};
    Normalise(s, image, panel, quad, first, here, x, by);
  }
  __device__ float4* X(int row, int column) const {
    return reinterpret_cast<float4*>(s.x + row * s.hidden + column);
  }

  // A thread's values of x, four in each of the rows `first` + j kStep, as a product's input, and the squares
  // of all of the panel. All lanes.
  __device__ static void Normalise(const BatchStep& s, const Image<F>& image, int panel, int quad, int first,
                                   bool here, const float4 (&x)[kPer], const float4& gain) {
    float squares[kPer];
#pragma unroll
    for (int j = 0; j < kPer; ++j) {
      const float4 v = x[j];
      squares[j] = here && first + j * kStep < s.rows ? v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w : 0.0f;
    }
#pragma unroll 1
    for (int d = 1; d < kQuads; d *= 2)
#pragma unroll
      for (int j = 0; j < kPer; ++j) squares[j] += __shfl_xor_sync(~0u, squares[j], d);
    const int panels = (s.hidden + S::kRows - 1) / S::kRows, column = panel * S::kRows + 4 * quad;
#pragma unroll
    for (int j = 0; j < kPer; ++j) {
      const int row = first + j * kStep;
      if (row >= s.rows) continue;
      if (quad == 0) s.squares[row * panels + panel] = squares[j];
      if (!here) continue;
      image.Store(s.h, row, column, PackBf16(x[j].x * gain.x, x[j].y * gain.y),
                  PackBf16(x[j].z * gain.z, x[j].w * gain.w));
    }
  }
};

template <typename F, int kDim>
struct Consumer {
  using S = typename F::S;
  const BatchStep& s;
  const Line& line;
  char* shared;
  BatchRing<S> ring;
  uint32_t awaited = 0;
  int tid = threadIdx.x, lane = tid % 32, warp = __shfl_sync(~0u, tid / 32, 0);
  Image<F> image{s};

  __device__ static void Barrier() { NamedBarrier<1>(S::kConsumers); }
  __device__ float* Scales() const { return reinterpret_cast<float*>(shared + Shared<S>::kScalesAt); }

  // The operation's input is there: the inputs lane says so, once for each that this CTA has a part of.
  __device__ void Await() {
    BarrierWait(ring.Ready(), awaited & 1);
    ++awaited;
  }
  // This CTA has ended it.
  __device__ void End(int counter) const {
    FenceAsyncGlobal();
    Barrier();
    if (tid == 0) AddRelease(s.counters + counter * kFlagStride, 1);
  }

  // The first product's input from the embedded rows, and the rotations of all rows.
  __device__ void Start() const {
    using Sums = StreamSums<S>;
    const int panels = (s.hidden + S::kRows - 1) / S::kRows, quad = tid % Sums::kQuads;
    const float* gain = s.layers[0].attention_norm;
#pragma unroll 1
    for (int panel = blockIdx.x; panel < panels; panel += gridDim.x) {
      const int column = panel * S::kRows + 4 * quad;
      const bool here = column < s.hidden;
      const float4 by = here ? __ldg(reinterpret_cast<const float4*>(gain + column)) : float4{0, 0, 0, 0};
      const int first = tid / Sums::kQuads;
      float4 x[Sums::kPer] = {};
#pragma unroll
      for (int j = 0; j < Sums::kPer; ++j) {
        const int row = first + j * Sums::kStep;
        if (here && row < s.rows)
          x[j] = *reinterpret_cast<const float4*>(s.x + static_cast<int64_t>(row) * s.hidden + column);
      }
      Finish<F>::Normalise(s, image, panel, quad, first, here, x, by);
    }
    const int half = s.head_dim / 2;
#pragma unroll 1
    for (int i = blockIdx.x * S::kConsumers + tid; i < s.rows * half; i += gridDim.x * S::kConsumers) {
      float sine, cosine;
      sincosf(static_cast<float>(line.position[i / half]) * s.inv_freq[i % half], &sine, &cosine);
      s.rotations[i] = {cosine * s.rope_scale, sine * s.rope_scale};
    }
    End(0);
  }

  __device__ void Product(int layer, int op) {
    const int number = NumberOf(s, layer, op), which = MatrixOf(op);
    const StreamWork work(s.linear[which].geometry, number);
    const int begin = static_cast<int>(work.StartOf(number)), end = static_cast<int>(work.StartOf(number + 1));
    if (begin >= end) return;
    StreamLinear& p = *reinterpret_cast<StreamLinear*>(shared + Shared<S>::kLinearAt);
    const uint32_t* from = reinterpret_cast<const uint32_t*>(&s.linear[which]);
#pragma unroll 1
    for (int i = tid; i < static_cast<int>(sizeof(StreamLinear) / 4); i += S::kConsumers)
      reinterpret_cast<uint32_t*>(&p)[i] = from[i];
    Barrier();
    if (tid == 0) {  // read at the end of a group
      const DenseMatrix& matrix = s.layers[layer].matrices[which];
      p.weight.row_scales = matrix.row_scales;
      p.weight.overflow_first = matrix.overflow_first;
      p.weight.overflow = matrix.overflow;
    }
    Barrier();
    Await();
    const float* gain = op == kOut                  ? s.layers[layer].mlp_norm
                        : layer + 1 < s.layer_count ? s.layers[layer + 1].attention_norm
                                                    : nullptr;
    typename F::Consumer my = F::Make(p, lane, warp);
    my.SetRows(s.rows);
    my.Clear();
    Units at(work);
    bool owner = at.unit == 0;
    int buffer = 0;
#pragma unroll 1
    for (int unit = begin; unit < end;) {
      const int count = min(end - unit, work.per_group - at.unit);
      if (at.panel * S::kBlocks + my.wr < p.geometry.blocks) {
        my.Units(ring, at.unit, count);
        my.EndGroup(0, at.panel * S::kBlocks + my.wr);
      } else {
#pragma unroll 1
        for (int i = 0; i < count; ++i, ring.Advance()) {
          if (!ring.Mine()) continue;
          ring.WaitFull();
          ring.Release(lane);
        }
      }
      unit += count;
      at.unit += count - 1;
      float* table = reinterpret_cast<float*>(shared + Shared<S>::kSumsAt) + buffer * S::kFloats;
      my.Store(table);
      my.Clear();
      if ((op == kQkv || op == kGateUp) && unit - count == begin)
        MeetSide<S>();
      else
        Barrier();
      const StreamItem item = {0, 0, s.rows, false};
      Finish<F> finish{{p, work, item, table, at.panel, unit, unit + (work.per_group - 1 - at.unit)}, s};
      if (!owner)
        finish.Leave();
      else
        finish.Write(op, Scales(), gain, image);
      if (!owner || S::kBuffers == 1) Barrier();
      if (tid == 0 && !owner) {
        __threadfence();
        StoreRelease(p.arrived + number * kFlagStride, 1);
      }
      buffer = (buffer + 1) % S::kBuffers;
      owner = true;
      at.unit = 0;
      ++at.panel;
    }
  }

  __device__ void Attention(int layer) {
    const int number = NumberOf(s, layer, kAttention);
    const auto [begin, end] = line.RangeOf(number);
    if (begin >= end) return;
    Await();
    Attend<F, kDim>{{s}, line, shared, ring, number}.Run(begin, end, image);
  }

  __device__ void Run() {
    Start();
#pragma unroll 1
    for (int layer = 0; layer < s.layer_count; ++layer)
#pragma unroll 1
      for (int op = 0; op < kOps; ++op) {
        if (op == kAttention)
          Attention(layer);
        else
          Product(layer, op);
        End(CounterOf(layer, op));
      }
  }
};

#endif

// A kernel for each head dimension: two in one would leave no room in the instruction cache.
template <typename F, int kDim>
__global__ __launch_bounds__(F::S::kThreads, 1) void batch_step(const __grid_constant__ BatchStep s) {
#ifdef DSOPT_CUDA_WGMMA
  using S = typename F::S;
  extern __shared__ __align__(1024) char batch_shared[];
  const int warp = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / 32, 0);
  const BatchRing<S> ring{SmemAddress(batch_shared), SmemAddress(batch_shared) + Shared<S>::kRingAt, s.slots,
                          s.slot_bytes, warp / S::kTeamWarps};
  if (threadIdx.x == 32) {
    ring.Init();
    BarrierInitFence();
  }
  Line& line = *reinterpret_cast<Line*>(batch_shared + Shared<S>::kLineAt);
  if (warp == 0) line.Init(s, threadIdx.x % 32);
  __syncthreads();
  if (warp == kWeightsWarp) {
    if (threadIdx.x % 32 == 0) WeightsLane<F>{s, line, ring}.Run();
  } else if (warp == kInputsWarp) {
    if (threadIdx.x % 32 == 0) InputsLane<F>{s, line, ring}.Run();
  } else if (warp == kSideWarp) {
    Side<S, kDim>{s, line, batch_shared}.Run();
  } else {
    Consumer<F, kDim>{s, line, batch_shared, ring}.Run();
  }
#endif
}

// Geometry of the products and the ring, then the launch.
template <typename F>
cudaError_t RunBatch(const Launch& launch, const BatchShape& shape, BatchStep step) {
  using S = typename F::S;
  const DenseShape& m = shape.model;
  const int q = m.q_heads * m.head_dim, qkv = q + 2 * m.kv_heads * m.head_dim;
  const struct {
    int n, k;
    const void* in;
  } products[kBatchMatrices] = {{qkv, m.hidden, step.h},
                                {m.hidden, q, step.attended},
                                {2 * m.inner, m.hidden, step.h},
                                {m.hidden, m.inner, step.mid}};
  const uint32_t ctas = static_cast<uint32_t>(launch.limits->sms);
  uint32_t units[kBatchMatrices];
  step.slot_bytes = 0;
  for (int i = 0; i < kBatchMatrices; ++i) {
    StreamLinear& p = step.linear[i];
    p = {};
    p.args.n = products[i].n;
    p.args.k = products[i].k;
    p.args.in = products[i].in;
    p.args.image_pitch = F::kPitch;
    p.args.rows = step.rows;
    p.weight.layout = {m.packing, false, static_cast<int16_t>(m.group), products[i].n, products[i].k};
    p.partial = step.partial;
    p.arrived = step.arrived;
    F::SetGeometry(p);
    units[i] = static_cast<uint32_t>(p.geometry.panels * p.geometry.units_per_group);
    if (p.slot_bytes > step.slot_bytes) step.slot_bytes = p.slot_bytes;
  }
  const int item = kPageTokens * m.head_dim * 4;  // a multiple of 1024
  step.item_tokens = item <= step.slot_bytes ? kPageTokens : kPageTokens / 2;
  step.slot_bytes = std::max(step.slot_bytes, item / kPageTokens * step.item_tokens);
  step.slots = (launch.limits->shared_bytes - Shared<S>::kRingAt) / step.slot_bytes;
  if (step.slots > 16) step.slots = 16;
  if (step.slots < 2) return cudaErrorInvalidConfiguration;
  // On their way on each multiprocessor: about 40 KiB near a hand-over, else a unit more.
  const int near = std::max(((40 << 10) + step.slot_bytes / 2) / step.slot_bytes, 1);
  step.near_copies = std::min(near, step.slots);
  step.deep_copies = std::min(near + 1, step.slots);
  step.turns = 0;
  for (int op = 0; op < kOps; ++op) {
    step.turn[op] = step.turns;
    const uint32_t all = op == kAttention ? 61 : units[op == kQkv ? 0 : op - 1];
    step.turns += all < ctas ? all : all % ctas;
  }
  const int bytes = Shared<S>::kRingAt + step.slots * step.slot_bytes;
  const auto kernel = m.head_dim == 128 ? batch_step<F, 128> : batch_step<F, 64>;
  return StartCooperative(launch, kernel, dim3(S::kThreads), bytes, step);
}

}  // namespace dsopt_cuda::batch
#endif  // DSOPT_CUDA_PERSISTENT_BATCH_STEP_CUH_
