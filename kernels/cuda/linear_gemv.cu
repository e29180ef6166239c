// linear_gemv.cu - y = x W^T for one row, or one row per slot of a mixture, at the speed of reading the weights. The
// input's RMSNorm can be folded in: a decode step then has no kernel of its own for it.
#include "common/gemv.cuh"
#include "common/launch.cuh"
#include "launch.h"

namespace dsopt_cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32, kUnroll = 4, kChunk = kUnroll * 256;

// Two adjacent rows of the weights, kChunk columns: 16 bytes per lane, row and step.
struct Pair {
  uint4 v[2][kUnroll];
  __device__ __forceinline__ void Load(const bf16* w, int k, int lane, int columns, int64_t second) {
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int at = k + 256 * u + 8 * lane;
      const bool valid = at < columns;
      v[0][u] = valid ? LoadStream16(w + at) : uint4{0, 0, 0, 0};
      v[1][u] = valid ? LoadStream16(w + second + at) : uint4{0, 0, 0, 0};
    }
  }
};

// out[n] (+)= x . W[n, :] + bias[n], or act(gate) up of row pairs; x = in, or rmsnorm(norm_in) * gain in bf16
// in [k] bf16 (slots: [slots / in_div, k])   W [n, k] bf16   k % 8 == 0
// bytes  n * k * 2 (DRAM); x from L2 once per CTA      bound: DRAM
// grid   2 CTAs per SM x 256 threads; k * 2 bytes of shared memory per input row of the CTA; a warp owns pairs of rows
//        and keeps 4 to 8 KiB of weights in flight: the next chunk is requested before the last is used, across pairs
// when   rows == 1, or few slots
__global__ __launch_bounds__(kThreads, 2) void linear_gemv(LinearArgs a) {
  extern __shared__ __align__(16) char smem[];
  __shared__ float scratch[33];
  LetNextStart();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int pairs = (a.n + 1) / 2, step = gridDim.x * kWarps;
  const bool slots = a.slot_expert != nullptr;
  const int units = slots ? pairs * a.rows : pairs;
  // Neighbouring units go to different SMs, so that what does not divide evenly still does over SMs.
  int unit = warp * gridDim.x + blockIdx.x;
  const bf16* weight = static_cast<const bf16*>(a.weight);
  const auto rows_of = [&](int u, int64_t* second) {
    const int pair = u % pairs;
    const int64_t matrix = slots ? a.slot_expert[u / pairs] : 0;
    *second = 2 * pair + 1 < a.n ? a.k : 0;
    return weight + matrix * a.weight_stride + static_cast<int64_t>(2 * pair) * a.k;
  };
  if (slots) WaitForPrevious();  // the experts are the router's result
  int64_t second = 0;
  const bf16* w = unit < units ? rows_of(unit, &second) : weight;
  Pair now, next;
  now.Load(w, 0, lane, unit < units ? a.k : 0, second);
  if (!slots) WaitForPrevious();

  // The input rows as bf16.
  const int inputs = slots ? (a.rows + a.in_div - 1) / a.in_div : 1, vectors = a.k / 8;
  uint4* x = reinterpret_cast<uint4*>(smem);
  if (a.norm_in != nullptr) {
    NormToShared(a.norm_in, a.norm_gain, a.norm_eps, a.k, reinterpret_cast<uint2*>(smem), scratch);
  } else {
    for (int i = threadIdx.x; i < inputs * vectors; i += kThreads)
      x[i] = __ldcg(reinterpret_cast<const uint4*>(static_cast<const bf16*>(a.in) + (i / vectors) * a.in_row_stride) +
                    i % vectors);
  }
  __syncthreads();

  const auto finish = [&](int u, float y0, float y1) {
    y0 = WarpSum(y0);
    y1 = WarpSum(y1);
    if (lane != 0) return;
    const int slot = u / pairs, n = u % pairs * 2;
    const int64_t to = slot * a.out_row_stride;
    if (a.epilogue == Epilogue::kGateUp) {
      if (a.bias != nullptr) {
        y0 += a.bias[n / 2];
        y1 += a.bias[a.n / 2 + n / 2];
      }
      static_cast<bf16*>(a.out)[to + n / 2] = __float2bfloat16(GatedActivation(y0, y1, a.gelu));
      return;
    }
    const bool both = n + 1 < a.n;
    if (a.bias != nullptr) {
      y0 += a.bias[n];
      if (both) y1 += a.bias[n + 1];
    }
    if (a.epilogue == Epilogue::kAdd || a.out_f32) {
      float* out = static_cast<float*>(a.out) + to + n;
      const bool add = a.epilogue == Epilogue::kAdd;
      out[0] = add ? out[0] + y0 : y0;
      if (both) out[1] = add ? out[1] + y1 : y1;
    } else {
      bf16* out = static_cast<bf16*>(a.out) + to + n;
      out[0] = __float2bfloat16(y0);
      if (both) out[1] = __float2bfloat16(y1);
    }
  };

  int k = 0;
  float y0 = 0, y1 = 0;
  const auto advance = [&](Pair& mine, Pair& ahead) {
    int next_unit = unit, next_k = k + kChunk;
    if (next_k >= a.k) {
      next_k = 0;
      next_unit += step;
      if (next_unit < units) w = rows_of(next_unit, &second);
    }
    if (next_unit < units) ahead.Load(w, next_k, lane, a.k, second);
    const uint4* from = x + (slots ? unit / pairs / a.in_div : 0) * vectors + (k / 8 + lane);
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      if (k + 256 * u + 8 * lane < a.k) {
        const uint4 input = from[32 * u];
        y0 = Dot8(y0, mine.v[0][u], input);
        y1 = Dot8(y1, mine.v[1][u], input);
      }
    }
    if (next_unit != unit) {
      finish(unit, y0, y1);
      y0 = y1 = 0;
    }
    unit = next_unit;
    k = next_k;
  };
  while (unit < units) {
    advance(now, next);
    if (unit >= units) break;
    advance(next, now);
  }
}

}  // namespace

bool GemvSupported(const Limits& limits, const LinearArgs& args) {
  const bool slots = args.slot_expert != nullptr;
  const int64_t inputs = slots ? (args.rows + args.in_div - 1) / args.in_div : 1;
  return args.elem == Elem::kBf16 && args.k % 8 == 0 && args.batch == 1 && args.sorted_slots == nullptr &&
         (slots || args.rows == 1) && inputs * args.k * 2 <= limits.shared_bytes / 2 - 2048;
}

cudaError_t LinearGemv(const Launch& launch, const LinearArgs& args) {
  const bool slots = args.slot_expert != nullptr;
  const int64_t inputs = slots ? (args.rows + args.in_div - 1) / args.in_div : 1;
  const int64_t units = static_cast<int64_t>((args.n + 1) / 2) * (slots ? args.rows : 1);
  const int64_t useful = (units + kWarps - 1) / kWarps, most = 2 * launch.limits->sms;
  return StartLarge(launch, linear_gemv, dim3(static_cast<unsigned>(useful < most ? useful : most)), dim3(kThreads),
                    static_cast<int>(inputs * args.k * 2), args);
}

}  // namespace dsopt_cuda
