// sampling.cu - dsopt_sample_row on the device: one token id per row crosses the bus. All selections are prefixes of an
// order (descending value, ascending id), found by bisection over the bits of an order-preserving key; masses are
// fixed-point integers, so that the result does not depend on the order of additions.
#include "common/convert.cuh"
#include "common/launch.cuh"
#include "launch.h"

namespace dsopt_cuda {
namespace {

constexpr int kThreads = 1024;

// partial[row, part] = (max, sum of exp(l - max), index of the max) of one part of a row
// bytes  vocab * 4 per row      bound: L2 (the head just wrote it)
// grid   (kSampleParts, rows) x 256 threads
__global__ __launch_bounds__(256) void sample_stats(SampleArgs a) {
  __shared__ float scratch[33];
  __shared__ int at_of[8];
  LetNextStart();
  WaitForPrevious();
  const float* l = a.logits + static_cast<int64_t>(blockIdx.y) * a.vocab;
  const int begin = static_cast<int>(static_cast<int64_t>(a.vocab) * blockIdx.x / kSampleParts);
  const int end = static_cast<int>(static_cast<int64_t>(a.vocab) * (blockIdx.x + 1) / kSampleParts);
  float peak = -INFINITY, sum = 0;
  int at = INT_MAX;
  for (int i = begin + threadIdx.x; i < end; i += 256) {
    const float v = l[i];
    if (v > peak) {
      peak = v;
      at = i;
    }
  }
  const float top = BlockMax(peak, scratch);
  at = peak == top && at != INT_MAX ? at : INT_MAX;
  at = __reduce_min_sync(~0u, at);
  if (threadIdx.x % 32 == 0) at_of[threadIdx.x / 32] = at;
  for (int i = begin + threadIdx.x; i < end; i += 256) sum += top == -INFINITY ? 0.0f : expf(l[i] - top);
  sum = BlockSum(sum, scratch);
  if (threadIdx.x == 0) {
    for (int w = 1; w < 8; ++w) at = min(at, at_of[w]);
    a.partial[blockIdx.y * kSampleParts + blockIdx.x] = {top, sum, __int_as_float(at), 0};
  }
}

// Larger floats have larger keys; 0 is left for "not a member".
__device__ __forceinline__ uint32_t KeyOf(float v) {
  const uint32_t bits = __float_as_uint(v);
  const uint32_t key = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
  return key == 0 ? 1 : key;
}

// Sum over the block of 64-bit values. scratch: 33 words.
__device__ uint64_t BlockTotal(uint64_t v, uint64_t* scratch) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll
  for (int m = 16; m > 0; m /= 2) v += __shfl_xor_sync(~0u, v, m);
  __syncthreads();
  if (lane == 0) scratch[warp] = v;
  __syncthreads();
  if (warp == 0) {
    uint64_t t = scratch[lane];
#pragma unroll
    for (int m = 16; m > 0; m /= 2) t += __shfl_xor_sync(~0u, t, m);
    if (lane == 0) scratch[32] = t;
  }
  __syncthreads();
  return scratch[32];
}

// The end of a prefix of the order (descending key, ascending id): its last element.
struct Cut {
  uint32_t key;
  int id;
  __device__ bool Keeps(uint32_t k, int i) const { return k > key || (k == key && i <= id); }
};

// The shortest prefix whose mass reaches target (> 0); everything if the total is less. key(i): 0 for non-members.
// 32 passes over the row, and up to 20 more when the last element has equals.
template <typename Key, typename Mass>
__device__ Cut FindCut(int count, uint64_t target, uint64_t* scratch, Key key, Mass mass) {
  uint32_t cut = 0;
  for (uint32_t bit = 0x80000000u; bit != 0; bit >>= 1) {
    uint64_t sum = 0;
    for (int i = threadIdx.x; i < count; i += kThreads)
      if (key(i) >= (cut | bit)) sum += mass(i);
    if (BlockTotal(sum, scratch) >= target) cut |= bit;
  }
  if (cut == 0) return {1, INT_MAX};  // the total is less than target: keep every member
  uint64_t above = 0, each = 0, equals = 0;
  for (int i = threadIdx.x; i < count; i += kThreads) {
    const uint32_t k = key(i);
    if (k > cut) above += mass(i);
    if (k == cut) {
      ++equals;
      each += mass(i);
    }
  }
  above = BlockTotal(above, scratch);
  equals = BlockTotal(equals, scratch);
  each = BlockTotal(each, scratch) / equals;  // equal keys have equal masses
  const uint64_t needed = each == 0 ? equals : (target - above + each - 1) / each;
  if (equals == 1) {
    __shared__ int only;
    for (int i = threadIdx.x; i < count; i += kThreads)
      if (key(i) == cut) only = i;
    __syncthreads();
    const int id = only;
    __syncthreads();
    return {cut, id};
  }
  if (needed >= equals) return {cut, INT_MAX};
  int id = 0;  // the smallest id with `needed` equals at or below it
  for (int bit = 1 << 20; bit != 0; bit >>= 1) {
    uint64_t below = 0;
    for (int i = threadIdx.x; i < count; i += kThreads)
      if (i < id + bit && key(i) == cut) ++below;
    if (BlockTotal(below, scratch) < needed) id += bit;
  }
  return {cut, id};
}

// Philox4x32-10, first word.
__device__ uint32_t Philox(uint64_t seed, uint64_t counter) {
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  uint32_t c0 = static_cast<uint32_t>(counter), c1 = static_cast<uint32_t>(counter >> 32), c2 = 0, c3 = 0;
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = static_cast<uint64_t>(0xD2511F53u) * c0, p1 = static_cast<uint64_t>(0xCD9E8D57u) * c2;
    const uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0, n2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<uint32_t>(p1);
    c3 = static_cast<uint32_t>(p0);
    c0 = n0;
    c2 = n2;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return c0;
}

// Bans, biases and penalties in place; what they change is saved first.
__device__ void Adjust(const SampleArgs& a, const dsopt_sample_row& row, float* l) {
  for (uint32_t i = threadIdx.x; i < row.adjust_count; i += kThreads)
    a.saved[row.adjust_first + i] = l[a.adjust_tokens[row.adjust_first + i]];
  for (uint32_t i = threadIdx.x; i < row.history_count; i += kThreads)
    a.saved[a.history_base + row.history_first + i] = l[a.history_tokens[row.history_first + i]];
  __syncthreads();
  for (uint32_t i = threadIdx.x; i < row.adjust_count; i += kThreads)
    atomicAdd(&l[a.adjust_tokens[row.adjust_first + i]], a.adjust_bias[row.adjust_first + i]);
  __syncthreads();
  const float repeat = row.repeat_penalty == 0.0f ? 1.0f : row.repeat_penalty;
  for (uint32_t i = threadIdx.x; i < row.history_count; i += kThreads) {
    float* p = &l[a.history_tokens[row.history_first + i]];
    const float count = static_cast<float>(a.history_counts[row.history_first + i]);
    float v = *p;
    if (repeat != 1.0f) v = v > 0 ? v / repeat : v * repeat;
    *p = v - (count * row.frequency_penalty + row.presence_penalty);
  }
  __syncthreads();
}
__device__ void Restore(const SampleArgs& a, const dsopt_sample_row& row, float* l) {
  __syncthreads();
  for (uint32_t i = threadIdx.x; i < row.adjust_count; i += kThreads)
    l[a.adjust_tokens[row.adjust_first + i]] = a.saved[row.adjust_first + i];
  for (uint32_t i = threadIdx.x; i < row.history_count; i += kThreads)
    l[a.history_tokens[row.history_first + i]] = a.saved[a.history_base + row.history_first + i];
  __syncthreads();
}

__device__ int ArgMax(const float* l, int count, float* scratch, int* at_scratch) {
  float peak = -INFINITY;
  int at = INT_MAX;
  for (int i = threadIdx.x; i < count; i += kThreads)
    if (l[i] > peak) {
      peak = l[i];
      at = i;
    }
  const float top = BlockMax(peak, scratch);
  at = __reduce_min_sync(~0u, peak == top ? at : INT_MAX);
  if (threadIdx.x == 0) *at_scratch = INT_MAX;
  __syncthreads();
  if (threadIdx.x % 32 == 0) atomicMin(at_scratch, at);
  __syncthreads();
  const int result = *at_scratch;
  __syncthreads();
  return result == INT_MAX ? 0 : result;
}

constexpr float kMassScale = 1099511627776.0f;  // 2^40: the mass of the most probable token

// Steps 3 (temperature > 0) to 9 of dsopt_sample_row.
__device__ int Draw(const dsopt_sample_row& row, const float* l, int vocab, float* scratch, uint64_t* totals) {
  const float temperature = row.temperature;
  const auto value = [&](int i) { return __fdiv_rn(l[i], temperature); };
  float peak = -INFINITY;
  double sum = 0, squares = 0;
  uint64_t finite = 0;
  for (int i = threadIdx.x; i < vocab; i += kThreads) {
    const float v = value(i);
    peak = fmaxf(peak, v);
    if (isfinite(v)) {
      sum += v;
      squares += static_cast<double>(v) * v;
      ++finite;
    }
  }
  peak = BlockMax(peak, scratch);
  if (peak == -INFINITY) return 0;  // everything is banned
  Cut cut = {1, INT_MAX};
  if (row.top_k > 0 && row.top_k < static_cast<uint32_t>(vocab))
    cut = FindCut(vocab, row.top_k, totals, [&](int i) { return KeyOf(value(i)); }, [](int) { return uint64_t{1}; });
  if (row.top_n_sigma > 0) {
    // Exact sums of fixed point (2^-20) would lose range; doubles in a fixed tree are as repeatable.
    __shared__ double moments[3];
    if (threadIdx.x == 0) moments[0] = moments[1] = moments[2] = 0;
    __syncthreads();
    const double count = static_cast<double>(BlockTotal(finite, totals));
#pragma unroll
    for (int m = 16; m > 0; m /= 2) {
      sum += __shfl_xor_sync(~0u, sum, m);
      squares += __shfl_xor_sync(~0u, squares, m);
    }
    for (int w = 0; w < kThreads / 32; ++w) {
      if (threadIdx.x == w * 32) {
        moments[0] += sum;
        moments[1] += squares;
      }
      __syncthreads();
    }
    const double mean = moments[0] / count, variance = fmax(0.0, moments[1] / count - mean * mean);
    const uint32_t low = KeyOf(peak - row.top_n_sigma * static_cast<float>(sqrt(variance)));
    if (low > cut.key) cut = {low, INT_MAX};
  }
  const auto mass = [&](int i) { return static_cast<uint64_t>(expf(value(i) - peak) * kMassScale + 0.5f); };
  const auto mass_of = [&](auto key) {
    uint64_t part = 0;
    for (int i = threadIdx.x; i < vocab; i += kThreads)
      if (key(i) != 0) part += mass(i);
    return BlockTotal(part, totals);
  };
  const auto fraction = [](uint64_t total, float f) {
    const uint64_t target = static_cast<uint64_t>(ceil(static_cast<double>(total) * f));
    return target < 1 ? uint64_t{1} : target;
  };
  Cut typical = {0, INT_MAX};  // over deviations; key 0: off
  float log_total = 0, entropy = 0;
  const auto deviation_key = [&](int i) {
    return ~__float_as_uint(fabsf(log_total - (value(i) - peak) - entropy)) | 1u;
  };
  const auto member = [&](int i) -> uint32_t {
    const uint32_t key = KeyOf(value(i));
    if (!cut.Keeps(key, i)) return 0;
    if (typical.key != 0 && !typical.Keeps(deviation_key(i), i)) return 0;
    return key;
  };
  if (row.typical_p > 0 && row.typical_p < 1) {
    const uint64_t total = mass_of(member);
    log_total = logf(static_cast<float>(total) / kMassScale);
    float h = 0;
    for (int i = threadIdx.x; i < vocab; i += kThreads) {
      if (member(i) == 0) continue;
      const float log_p = value(i) - peak - log_total;
      if (log_p > -80.0f) h -= expf(log_p) * log_p;
    }
    entropy = BlockSum(h, scratch);
    const Cut found = FindCut(vocab, fraction(total, row.typical_p), totals,
                              [&](int i) { return member(i) != 0 ? deviation_key(i) : 0u; }, mass);
    typical = found;
  }
  if (row.top_p > 0 && row.top_p < 1) {
    const uint64_t total = mass_of(member);
    const Cut found = FindCut(vocab, fraction(total, row.top_p), totals, member, mass);
    if (found.key > cut.key || (found.key == cut.key && found.id < cut.id)) cut = found;
  }
  if (row.min_p > 0) {
    float best = -INFINITY;  // typical may have dropped the most probable token
    for (int i = threadIdx.x; i < vocab; i += kThreads)
      if (member(i) != 0) best = fmaxf(best, value(i));
    best = BlockMax(best, scratch);
    const uint32_t low = KeyOf(best + logf(fminf(row.min_p, 1.0f)));
    if (low > cut.key) cut = {low, INT_MAX};
  }
  const uint64_t total = mass_of(member), u = Philox(row.seed, row.counter);
  const uint64_t target = (total >> 32) * u + (((total & 0xffffffffu) * u) >> 32) + 1;
  const Cut drawn = FindCut(vocab, target, totals, member, mass);
  if (drawn.id != INT_MAX) return drawn.id;
  // Every equal of the last key belongs to the prefix: the drawn one is the last of them.
  __shared__ int last;
  if (threadIdx.x == 0) last = 0;
  __syncthreads();
  for (int i = threadIdx.x; i < vocab; i += kThreads)
    if (member(i) == drawn.key) atomicMax(&last, i);
  __syncthreads();
  return last;
}

// The most probable tokens by raw logits, in order.
__device__ void TopLogprobs(const SampleArgs& a, const float* l, int count, float log_total, uint64_t* totals) {
  __shared__ int ids[DSOPT_MAX_TOP_LOGPROBS];
  __shared__ float values[DSOPT_MAX_TOP_LOGPROBS];
  __shared__ int found;
  if (threadIdx.x == 0) found = 0;
  const Cut cut = FindCut(a.vocab, static_cast<uint64_t>(count), totals, [&](int i) { return KeyOf(l[i]); },
                          [](int) { return uint64_t{1}; });
  for (int i = threadIdx.x; i < a.vocab; i += kThreads)
    if (cut.Keeps(KeyOf(l[i]), i)) {
      const int at = atomicAdd(&found, 1);
      if (at < DSOPT_MAX_TOP_LOGPROBS) {
        ids[at] = i;
        values[at] = l[i];
      }
    }
  __syncthreads();
  if (threadIdx.x < DSOPT_MAX_TOP_LOGPROBS) {
    const int n = min(min(found, count), DSOPT_MAX_TOP_LOGPROBS), me = threadIdx.x;
    const int64_t base = static_cast<int64_t>(blockIdx.x) * DSOPT_MAX_TOP_LOGPROBS;
    if (me < n) {
      int rank = 0;
      for (int j = 0; j < n; ++j)
        if (values[j] > values[me] || (values[j] == values[me] && ids[j] < ids[me])) ++rank;
      a.top_tokens[base + rank] = ids[me];
      a.top_logprobs[base + rank] = values[me] - log_total;
    } else {
      a.top_tokens[base + me] = -1;
      a.top_logprobs[base + me] = -INFINITY;
    }
  }
  __syncthreads();
}

// token, logprob and top logprobs of one row
// bytes  greedy: 512 B; else 33 to 120 passes over vocab * 4 (L2)      bound: L2 of one SM, about 4 us a pass at 128K
// grid   rows x 1024 threads
__global__ __launch_bounds__(kThreads) void sample_rows(SampleArgs a) {
  __shared__ float scratch[33];
  __shared__ uint64_t totals[33];
  __shared__ int at_scratch;
  LetNextStart();
  WaitForPrevious();
  const dsopt_sample_row row = a.rows[blockIdx.x];
  float* l = a.logits + static_cast<int64_t>(blockIdx.x) * a.vocab;
  const float4 part = a.partial[blockIdx.x * kSampleParts + threadIdx.x % kSampleParts];
  const float peak = WarpMax(part.x);
  const float sum = WarpSum(part.x == -INFINITY ? 0.0f : part.y * expf(part.x - peak));
  const int best = __reduce_min_sync(~0u, part.x == peak ? __float_as_int(part.z) : INT_MAX);
  const float log_total = peak + logf(sum);

  if (row.top_logprobs == 0 && threadIdx.x < DSOPT_MAX_TOP_LOGPROBS) {
    const int at = blockIdx.x * DSOPT_MAX_TOP_LOGPROBS + threadIdx.x;
    a.top_tokens[at] = -1;
    a.top_logprobs[at] = -INFINITY;
  }
  if (row.top_logprobs > 0) TopLogprobs(a, l, static_cast<int>(row.top_logprobs), log_total, totals);
  int token;
  if (row.mode == DSOPT_SCORE) {
    token = row.target;
  } else if (row.temperature <= 0 && row.adjust_count == 0 && row.history_count == 0) {
    token = best == INT_MAX ? 0 : best;
  } else {
    Adjust(a, row, l);
    token = row.temperature <= 0 ? ArgMax(l, a.vocab, scratch, &at_scratch) : Draw(row, l, a.vocab, scratch, totals);
    Restore(a, row, l);
  }
  if (threadIdx.x == 0) {
    a.tokens[blockIdx.x] = token;
    a.logprobs[blockIdx.x] = l[token] - log_total;
  }
}

}  // namespace

cudaError_t Sample(const Launch& launch, const SampleArgs& args) {
  const unsigned count = static_cast<unsigned>(args.count);
  const cudaError_t error = Start(launch, sample_stats, dim3(kSampleParts, count), dim3(256), 0, args);
  if (error != cudaSuccess) return error;
  return Start(launch, sample_rows, dim3(count), dim3(kThreads), 0, args);
}

}  // namespace dsopt_cuda
