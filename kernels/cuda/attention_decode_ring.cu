// attention_decode_ring.cu - attention of single rows over the paged bf16 cache for sm_90 and newer: pages
// stream through a ring in shared memory with bulk copies. Head dimensions 64 and 128. Elsewhere:
// attention_decode.cu.
//
// A work is a row and up to 8 query heads of one KV head; the pages of all works are one line, cut into equal
// ranges, one per CTA. So a CTA ends at most one work that others began, and begins at most one that others
// end. The CTA with a work's first page merges all parts of it.
#include "common/attention_line.cuh"
#include "common/attention_warp.cuh"
#include "common/convert.cuh"
#include "common/launch.cuh"
#include "launch.h"

namespace dsopt_cuda {
namespace {

// Consumer warps come in two sets of 4 that take turns; a warp of a set has 16 tokens of a page.
constexpr int kWarps = 8, kConsumers = kWarps * 32, kThreads = kConsumers + 32;
constexpr int kLineRows = 64;  // rows of one launch

// kG: query heads of a work, at most.
template <int kDim, int kG>
struct RingShape {
  static constexpr int kSlotBytes = kPageTokens * kDim * 2;  // K or V of a page
  static constexpr int kSlots = 12 * 128 / kDim,
                       kFlying = 4 * 128 / kDim;     // 192 KiB; 64 KiB of them on their way
  static constexpr int kRow = kDim + 4;              // floats of a head while warps merge
  static constexpr int kV = kG * kDim / kConsumers;  // outputs of a thread, all of one head
  static constexpr int kMergeAt = kSlots * kSlotBytes, kSumsAt = kMergeAt + kWarps * kG * kRow * 4;
  static constexpr int kBarriersAt = kSumsAt + kWarps * kG * 8, kLineAt = kBarriersAt + 2 * kSlots * 8;
  static constexpr int kBytes = kLineAt + (4 * kLineRows + 1) * 4;
  static constexpr int kPartial = kG * (kDim + 2);  // floats: outputs, then (maximum, sum) of each head
  static_assert(kBytes <= 227 * 1024 && kV >= 1 && kSlots % 4 == 0);
};

// The line, in shared memory.
struct Line {
  int *before, *table, *row, *position;  // per decode row: pages of the rows before it, its first page's place
                                         // in the page table, its row of the batch and position
  int rows, works, total, ctas;          // works: per row; total: pages
  int window;

  __device__ int First(int i) const { return window > 0 ? max(0, position[i] + 1 - window) : 0; }
  __device__ int Start(int cta) const { return static_cast<int>(static_cast<int64_t>(total) * cta / ctas); }
  __device__ int CtaOf(int page) const {
    return static_cast<int>((static_cast<int64_t>(page + 1) * ctas - 1) / total);
  }

  // All threads.
  __device__ Line(const AttentionArgs& a, int works_per_row, int* memory)
      : before(memory),
        table(memory + kLineRows + 1),
        row(table + kLineRows),
        position(row + kLineRows),
        rows(a.decode_count),
        works(works_per_row),
        window(a.window) {
    const int tid = threadIdx.x, lane = tid % 32;
    if (tid < rows) {
      row[tid] = a.decode_rows[tid];
      position[tid] = a.cache.positions[row[tid]];
      const int first_page = First(tid) / kPageTokens;
      table[tid] = a.cache.row_seq[row[tid]] * a.cache.page_stride + first_page;
      before[tid + 1] = position[tid] / kPageTokens + 1 - first_page;
    }
    if (tid == 0) before[0] = 0;
    __syncthreads();
    if (tid < 32) {
      int sum = 0;
      for (int i = lane; i - lane < rows; i += 32) {
        int pages = i < rows ? before[i + 1] : 0;
#pragma unroll
        for (int d = 1; d < 32; d *= 2) {
          const int other = __shfl_up_sync(~0u, pages, d);
          if (lane >= d) pages += other;
        }
        if (i < rows) before[i + 1] = sum + pages;
        sum += __shfl_sync(~0u, pages, 31);
      }
    }
    __syncthreads();
    total = before[rows] * works;
    ctas = min(static_cast<int>(gridDim.x), total);
  }
};

template <class R>
struct Slots {
  uint32_t base;
  int slot = 0;
  uint32_t parity = 0;
  __device__ uint32_t Data() const { return base + slot * R::kSlotBytes; }
  __device__ uint32_t Full() const { return base + R::kBarriersAt + 8 * slot; }
  __device__ uint32_t Empty() const { return Full() + 8 * R::kSlots; }
  __device__ void Advance(int by) {
    slot += by;
    if (slot == R::kSlots) {
      slot = 0;
      parity ^= 1;
    }
  }
};

// One warp: K and V of the pages at .. end - 1.
template <int kDim, class R>
__device__ void Produce(const AttentionArgs& a, const Line& line, int parts, int at, int end, uint32_t shared) {
  const int lane = threadIdx.x % 32;
  // Rows of one sequence or with a common beginning share pages, and so do the parts of a large group of heads.
  const uint64_t policy = line.rows == 1 && parts == 1 ? EvictFirst() : EvictNormal();
  Slots<R> slots{shared}, landed{shared};
  int flying = 0, row = 0;
  bool settled = false;
  // Of page at + lane: its id in the page table, KV head, groups of tokens, and whether it may still be written
  // to.
  int id, head, groups, fresh;
  const auto look = [&](int from) {
    id = head = groups = fresh = 0;
    if (from + lane >= end) return;
    const Place place(line, from + lane, row);
    row = place.row;
    head = place.work / parts;
    const int left = line.position[row] + 1 - (line.First(row) / kPageTokens + place.item) * kPageTokens;
    groups = min(max((left + kGroupTokens - 1) / kGroupTokens, 1),
                 kPageTokens / kGroupTokens);  // 1: a row without keys
    fresh = left - a.fresh < kPageTokens;
    id = __ldg(a.cache.page_table + line.table[row] + place.item);
  };
  look(at);
  for (; at < end; at += 32) {
    const int ids = id, heads = head, counts = groups, wait = fresh;
    look(at + 32);
    for (int i = 0; i < min(32, end - at); ++i) {
      if (!settled && __shfl_sync(~0u, wait, i) != 0) {
        WaitForPrevious();
        settled = true;
      }
      const int page = __shfl_sync(~0u, ids, i), kv_head = __shfl_sync(~0u, heads, i);
      const uint32_t bytes = static_cast<uint32_t>(__shfl_sync(~0u, counts, i)) * kGroupTokens * kDim * 2;
      if (lane == 0) {
        const char* k = a.cache.base + static_cast<uint64_t>(page) * a.cache.page_bytes +
                        static_cast<int64_t>(kv_head) * kPageTokens * kDim * 2;
#pragma unroll
        for (int part = 0; part < 2; ++part) {
          BarrierWait(slots.Empty(), slots.parity ^ 1);
          for (; flying >= R::kFlying; --flying) {
            BarrierWait(landed.Full(), landed.parity);
            landed.Advance(1);
          }
          ++flying;
          BarrierExpect(slots.Full(), bytes);
          BulkLoad(slots.Data(), k + part * a.value_offset * 2, bytes, slots.Full(), policy);
          slots.Advance(1);
        }
      }
      __syncwarp();
    }
  }
}

template <int kDim, int kG>
struct Consume {
  using R = RingShape<kDim, kG>;
  const AttentionArgs& a;
  const Line& line;
  char* shared;
  float c;
  int cta = blockIdx.x, tid = threadIdx.x, lane = tid % 32, warp = tid / 32, set = warp / 4, quarter = warp % 4;
  Slots<R> slots{SmemAddress(shared)};
  int taken = 0;  // pages so far: sets take turns

  __device__ float* Merge() const { return reinterpret_cast<float*>(shared + R::kMergeAt); }
  __device__ float2* Sums() const { return reinterpret_cast<float2*>(shared + R::kSumsAt); }
  __device__ float* Partial(int of) const { return a.partial + static_cast<int64_t>(of) * R::kPartial; }
  __device__ void Barrier() const { NamedBarrier<1>(kConsumers); }

  // This set's turn of a page whose first token is `token`.
  __device__ void Page(AttentionWarp<kDim>& state, int token, int first, int position) {
    const int own = token + quarter * kGroupTokens, low = first - own, high = position + 1 - own;
    const bool work = high > 0 && low < kGroupTokens;
    const uint32_t group = quarter * kGroupTokens * kDim * 2;
    float s[4];
    uint2 p;
    BarrierWait(slots.Full(), slots.parity);
    if (work) state.Scores(slots.Data() + group, lane, s);
    __syncwarp();
    if (lane == 0) BarrierArrive(slots.Empty());
    if (work) p = state.Softmax(s, c, low, high, lane);
    BarrierWait(slots.Full() + 8, slots.parity);
    if (work) {
      const int at = (slots.slot + 1) * R::kSlotBytes + group;
      if (high < kGroupTokens) ClearTokens<kDim>(shared + at, high, lane);
      state.Values(slots.base + at, lane, p);
    }
    __syncwarp();
    if (lane == 0) BarrierArrive(slots.Empty() + 8);
  }

  __device__ void MergeWarps(AttentionWarp<kDim>& state, Merged<R::kV>& merged) const {
    float* outs = Merge();
#pragma unroll
    for (int x = 0; x < 2; ++x) {
#pragma unroll
      for (int d = 4; d < 32; d *= 2) state.l[x] += __shfl_xor_sync(~0u, state.l[x], d);
      const int h = lane % 4 * 2 + x;
      if (h < kG) {
        if (lane < 4) Sums()[warp * kG + h] = {state.m[x], state.l[x]};
#pragma unroll
        for (int r = 0; r < AttentionWarp<kDim>::kOuts; ++r) {
          outs[(warp * kG + h) * R::kRow + r * 16 + lane / 4] = state.o[r][x];
          outs[(warp * kG + h) * R::kRow + r * 16 + lane / 4 + 8] = state.o[r][x + 2];
        }
      }
    }
    Barrier();
    const int h = tid * R::kV / kDim, d = tid * R::kV % kDim;
#pragma unroll 1
    for (int w = 0; w < kWarps; ++w) {
      const float2 e = Sums()[w * kG + h];
      float o[R::kV];
#pragma unroll
      for (int j = 0; j < R::kV; ++j) o[j] = outs[(w * kG + h) * R::kRow + d + j];
      merged.Add(e.x, e.y, o, c);
    }
    Barrier();  // the merge area is free again
  }

  // Leaves the work to the CTA that has its first page.
  __device__ void Leave(const Merged<R::kV>& merged) const {
    float* to = Partial(cta);
#pragma unroll
    for (int j = 0; j < R::kV; ++j) to[tid * R::kV + j] = merged.out[j];
    if (tid * R::kV % kDim == 0)
      reinterpret_cast<float2*>(to + kG * kDim)[tid * R::kV / kDim] = {merged.m, merged.l};
    __threadfence();
    Barrier();
    if (tid == 0) StoreRelease(a.arrived + cta * kFlagStride, 1);
  }

  // Adds what CTAs cta + 1 .. last have left.
  __device__ void Gather(int last, Merged<R::kV>& merged) const {
    for (int i = cta + 1 + tid; i <= last; i += kConsumers) TakeFlag(a.arrived + i * kFlagStride);
    Barrier();
    const int h = tid * R::kV / kDim;
#pragma unroll 4
    for (int i = cta + 1; i <= last; ++i) {
      const float* from = Partial(i);
      const float2 e = __ldcg(reinterpret_cast<const float2*>(from + kG * kDim) + h);
      float o[R::kV];
#pragma unroll
      for (int j = 0; j < R::kV; ++j) o[j] = __ldcg(from + tid * R::kV + j);
      merged.Add(e.x, e.y, o, c);
    }
  }

  __device__ void Run(int parts, int at, int end) {
    const int group = a.q_heads / a.kv_heads;
    int row = 0;
    while (at < end) {
      const Place place(line, at, row);
      row = place.row;
      const int begin = at - place.item, stop = begin + place.items;  // the work's pages
      const int kv_head = place.work / parts, head0 = kv_head * group + place.work % parts * kDecodeHeads;
      const int heads = min(kDecodeHeads, (kv_head + 1) * group - head0);
      const int batch_row = line.row[row], position = line.position[row], first = line.First(row);
      int token = (first / kPageTokens + place.item) * kPageTokens;
      AttentionWarp<kDim> state;
      state.Reset();
      const bf16* q = static_cast<const bf16*>(a.q) +
                      (static_cast<int64_t>(batch_row) * a.q_heads + head0 + lane / 4) * kDim + lane % 4 * 8;
#pragma unroll
      for (int j = 0; j < kDim / 32; ++j)
        state.q[j] = lane / 4 < heads ? __ldcg(reinterpret_cast<const uint4*>(q + 32 * j)) : uint4{0, 0, 0, 0};
      for (const int here = min(stop, end); at < here; ++at, ++taken, token += kPageTokens) {
        if (taken % 2 == set) Page(state, token, first, position);
        slots.Advance(2);
      }
      Merged<R::kV> merged;
      MergeWarps(state, merged);
      if (begin < line.Start(cta)) {
        Leave(merged);
        continue;
      }
      const int last = line.CtaOf(stop - 1);
      if (last > cta) Gather(last, merged);
      const int h = tid * R::kV / kDim, d = tid * R::kV % kDim;
      if (h >= heads) continue;
#pragma unroll
      for (int j = 0; j < R::kV; ++j) {
        const int64_t to = a.out_layout.At(batch_row, (head0 + h) * kDim + d + j);
        if (a.out_bf16)
          static_cast<bf16*>(a.out)[to] = __float2bfloat16(merged.out[j] / merged.l);
        else
          static_cast<float*>(a.out)[to] = merged.out[j] / merged.l;
      }
    }
  }
};

// out[row, h] = softmax(scale q . K) V
// q, out [rows, q_heads, kDim]   cache pages [kv_heads, 64, kDim] K then V, bf16
// bytes  keys * kDim * 4 per KV head (DRAM, once: up to 8 query heads share a read)      bound: DRAM
//        merge: (CTAs that share a work) * kG * (kDim + 2) * 8 (L2)
// grid   one CTA per SM x 288 threads: 8 consumer warps, 1 producer; 210 to 227 KiB
//        A CTA waits only for CTAs that have nothing to wait for before they answer, so any two resident ones
//        make progress.
//        Pages that the previous kernel does not write are on their way before it has ended.
template <int kDim, int kG>
__global__ __launch_bounds__(kThreads, 1) void attention_decode_ring(const __grid_constant__ AttentionArgs a,
                                                                     int parts) {
#if __CUDA_ARCH__ >= 900
  using R = RingShape<kDim, kG>;
  extern __shared__ __align__(128) char smem[];
  if (threadIdx.x == kConsumers) {
    const uint32_t full = SmemAddress(smem) + R::kBarriersAt;
    for (int i = 0; i < R::kSlots; ++i) {
      BarrierInit(full + 8 * i, 1);
      BarrierInit(full + 8 * (R::kSlots + i), kWarps / 2);
    }
    BarrierInitFence();
  }
  LetNextStart();
  if (a.fresh == 0) WaitForPrevious();
  const Line line(a, a.kv_heads * parts, reinterpret_cast<int*>(smem + R::kLineAt));
  const int cta = blockIdx.x;
  if (cta >= line.ctas) return;
  const int at = line.Start(cta), end = line.Start(cta + 1);
  if (threadIdx.x >= kConsumers) {
    Produce<kDim, R>(a, line, parts, at, end, SmemAddress(smem));
    return;
  }
  WaitForPrevious();
  Consume<kDim, kG>{a, line, smem, a.scale * 1.4426950408889634f}.Run(parts, at, end);
#endif
}

template <int kDim, int kG>
cudaError_t StartRing(const Launch& launch, const AttentionArgs& args, int parts) {
  return StartLarge(launch, attention_decode_ring<kDim, kG>, dim3(static_cast<unsigned>(launch.limits->sms)),
                    dim3(kThreads), RingShape<kDim, kG>::kBytes, args, parts);
}

}  // namespace

bool DecodeRingSupported(const Limits& limits, CacheCode code, int rows, int q_heads, int kv_heads,
                         int longest) {
  const int64_t works = int64_t{kv_heads} * DecodeParts(q_heads, kv_heads);
  const int64_t pages = works * (rows < kLineRows ? rows : kLineRows) * (longest / kPageTokens + 2);
  return limits.code_arch >= 90 && limits.shared_bytes >= RingShape<128, 8>::kBytes &&
         code == CacheCode::kPlain && pages < INT32_MAX;
}

uint64_t DecodeRingCounters(const Limits& limits) { return static_cast<uint64_t>(limits.sms) * kFlagStride; }

cudaError_t AttentionDecodeRing(const Launch& launch, const AttentionArgs& args) {
  const int group = args.q_heads / args.kv_heads, parts = DecodeParts(args.q_heads, args.kv_heads);
  for (int first = 0; first < args.decode_count; first += kLineRows) {
    AttentionArgs part = args;
    part.decode_rows = args.decode_rows + first;
    part.decode_count = args.decode_count - first < kLineRows ? args.decode_count - first : kLineRows;
    if (first > 0) part.fresh = 0;  // the launch before it waits for what writes the cache
    cudaError_t error = cudaSuccess;
    if (args.q_dim == 64)
      error = group <= 4 ? StartRing<64, 4>(launch, part, parts) : StartRing<64, 8>(launch, part, parts);
    else
      error = group <= 4 ? StartRing<128, 4>(launch, part, parts) : StartRing<128, 8>(launch, part, parts);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

}  // namespace dsopt_cuda
