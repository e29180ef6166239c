// fill.cu - pseudo-random weights made on the device, the transposing scatter of uploads, and the kernels that
// measure how fast device memory can be read.
#include "common/convert.cuh"
#include "launch.h"

namespace dsopt_cuda {
namespace {

// The fixed pseudo-normal of weight_fill: the same bits as every backend's (the recipe is in kernels/cpu/fill.h).
__device__ __forceinline__ float PseudoNormal(uint64_t seed, uint64_t index) {
  uint64_t z = seed + index / 2 * 0x9E3779B97F4A7C15ull;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  z = z ^ (z >> 31);
  const uint32_t h = static_cast<uint32_t>((index & 1) != 0 ? z >> 32 : z);
  uint32_t sum = (h & 0x00ff00ffu) + ((h >> 8) & 0x00ff00ffu);
  sum = (sum & 0xffffu) + (sum >> 16);
  return static_cast<float>(static_cast<int>(sum) - 510) * 0.0067658754f;
}

__device__ __forceinline__ uint64_t Stored(const WeightLayout& layout, uint64_t i) {
  if (!layout.interleaved && !layout.transposed) return i;
  const uint64_t row = i / layout.cols, column = i % layout.cols, in_batch = row % layout.rows;
  if (layout.transposed) return (row - in_batch) * layout.cols + column * layout.rows + in_batch;
  const uint64_t inner = layout.rows / 2;
  const uint64_t target = in_batch < inner ? 2 * in_batch : 2 * (in_batch - inner) + 1;
  return (row - in_batch + target) * layout.cols + column;
}

// data[stored(i)] = mean + stddev n(seed, i), rounded to the written type first
// bytes  count * element      bound: DRAM writes
// grid   16 CTAs per SM at most x 256 threads, striding
template <typename Written, typename T>
__global__ void fill_pseudo_normal(T* data, uint64_t count, WeightLayout layout, uint64_t seed, float mean,
                                   float stddev) {
  const uint64_t step = static_cast<uint64_t>(gridDim.x) * blockDim.x;
  for (uint64_t i = static_cast<uint64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step) {
    const float value = __fadd_rn(mean, __fmul_rn(stddev, PseudoNormal(seed, i)));
    data[Stored(layout, i)] = FromFloat<T>(ToFloat(FromFloat<Written>(value)));
  }
}

// data[stored(first + i)] = src[i]; src is pinned host memory
// bytes  2 * count * element  bound: PCIe
template <typename T>
__global__ void scatter_transposed(T* data, const T* src, uint64_t first, uint64_t count, WeightLayout layout) {
  const uint64_t step = static_cast<uint64_t>(gridDim.x) * blockDim.x;
  for (uint64_t i = static_cast<uint64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step)
    data[Stored(layout, first + i)] = src[i];
}

// XOR of all words, 8 loads of 16 bytes in flight per thread.
// bytes  bytes                bound: DRAM
// grid   4 CTAs per SM x 512 threads, each CTA a contiguous range
__global__ __launch_bounds__(512) void read_registers(const uint4* src, uint64_t vectors, uint32_t* sink) {
  constexpr int kUnroll = 8;
  const uint64_t block = uint64_t{kUnroll} * blockDim.x, blocks = vectors / block;
  const uint64_t per = (blocks + gridDim.x - 1) / gridDim.x;
  uint64_t b = blockIdx.x * per;
  const uint64_t end = min(b + per, blocks);
  uint32_t x = 0;
  for (; b < end; ++b) {
    const uint4* p = src + b * block + threadIdx.x;
    uint4 v[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) v[u] = LoadStream16(p + u * blockDim.x);
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) x ^= v[u].x ^ v[u].y ^ v[u].z ^ v[u].w;
  }
  x = __reduce_xor_sync(~0u, x);
  if (threadIdx.x % 32 == 0) atomicXor(sink, x);
}

#if __CUDA_ARCH__ >= 900 || !defined(__CUDA_ARCH__)
#define DSOPT_BULK_READ 1
#endif

// XOR of all words through a ring of bulk copies: one producer thread, 4 consumer warps.
// bytes  bytes                bound: DRAM
// grid   1 CTA per SM x 160 threads, slots * slot_bytes of shared memory, each CTA a contiguous range
// when   sm_90 and newer
__global__ __launch_bounds__(160) void read_bulk_sm90(const char* src, uint64_t bytes, int slots, int slot_bytes,
                                                      uint32_t* sink) {
#ifdef DSOPT_BULK_READ
  extern __shared__ __align__(128) char smem[];
  __shared__ __align__(8) uint64_t barriers[2 * 16];
  const uint32_t full = SmemAddress(barriers), empty = SmemAddress(barriers + 16), ring = SmemAddress(smem);
  if (threadIdx.x == 0) {
    for (int i = 0; i < slots; ++i) {
      BarrierInit(full + 8 * i, 1);
      BarrierInit(empty + 8 * i, 4);
    }
    BarrierInitFence();
  }
  __syncthreads();
  const uint64_t tiles = bytes / slot_bytes;
  const uint64_t first = tiles * blockIdx.x / gridDim.x, end = tiles * (blockIdx.x + 1) / gridDim.x;
  int slot = 0;
  uint32_t parity = 0;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  if (warp == 4) {
    if (lane != 0) return;
    const uint64_t policy = EvictFirst();
    for (uint64_t t = first; t < end; ++t) {
      BarrierWait(empty + 8 * slot, parity ^ 1);
      BarrierExpect(full + 8 * slot, slot_bytes);
      BulkLoad(ring + slot * slot_bytes, src + t * slot_bytes, slot_bytes, full + 8 * slot, policy);
      if (++slot == slots) { slot = 0; parity ^= 1; }
    }
    return;
  }
  uint32_t x = 0;
  for (uint64_t t = first; t < end; ++t) {
    BarrierWait(full + 8 * slot, parity);
    const uint4* p = reinterpret_cast<const uint4*>(smem + slot * slot_bytes);
#pragma unroll 4
    for (int i = threadIdx.x; i < slot_bytes / 16; i += 128) {
      const uint4 v = p[i];
      x ^= v.x ^ v.y ^ v.z ^ v.w;
    }
    __syncwarp();
    if (lane == 0) BarrierArrive(empty + 8 * slot);
    if (++slot == slots) { slot = 0; parity ^= 1; }
  }
  x = __reduce_xor_sync(~0u, x);
  if (lane == 0) atomicXor(sink, x);
#endif
}

template <typename T>
cudaError_t FillAs(cudaStream_t stream, Elem written, const WeightLayout& layout, uint64_t seed, float mean,
                   float stddev, void* data) {
  const uint64_t count = layout.batch * layout.rows * layout.cols;
  const unsigned grid = static_cast<unsigned>(count / 256 + 1 < 2048 ? count / 256 + 1 : 2048);
  T* out = static_cast<T*>(data);
  switch (written) {
    case Elem::kF32: fill_pseudo_normal<float><<<grid, 256, 0, stream>>>(out, count, layout, seed, mean, stddev); break;
    case Elem::kF16: fill_pseudo_normal<__half><<<grid, 256, 0, stream>>>(out, count, layout, seed, mean, stddev); break;
    case Elem::kBf16: fill_pseudo_normal<bf16><<<grid, 256, 0, stream>>>(out, count, layout, seed, mean, stddev); break;
    case Elem::kPacked: return cudaErrorInvalidValue;
  }
  return cudaGetLastError();
}

}  // namespace

cudaError_t FillWeight(cudaStream_t stream, Elem elem, Elem written, const WeightLayout& layout, uint64_t seed,
                       float mean, float stddev, void* data) {
  switch (elem) {
    case Elem::kF32: return FillAs<float>(stream, written, layout, seed, mean, stddev, data);
    case Elem::kF16: return FillAs<__half>(stream, written, layout, seed, mean, stddev, data);
    case Elem::kBf16: return FillAs<bf16>(stream, written, layout, seed, mean, stddev, data);
    case Elem::kPacked: break;
  }
  return cudaErrorInvalidValue;
}

cudaError_t ScatterTransposed(cudaStream_t stream, Elem elem, const void* src, uint64_t first, uint64_t count,
                              const WeightLayout& layout, void* data) {
  const unsigned grid = static_cast<unsigned>(count / 256 + 1 < 1024 ? count / 256 + 1 : 1024);
  if (elem == Elem::kF32)
    scatter_transposed<<<grid, 256, 0, stream>>>(static_cast<uint32_t*>(data), static_cast<const uint32_t*>(src),
                                                 first, count, layout);
  else
    scatter_transposed<<<grid, 256, 0, stream>>>(static_cast<uint16_t*>(data), static_cast<const uint16_t*>(src),
                                                 first, count, layout);
  return cudaGetLastError();
}

cudaError_t ReadMemory(const Launch& launch, int variant, const void* data, uint64_t bytes, uint32_t* sink) {
  if (variant == 0 || launch.limits->arch < 90) {
    read_registers<<<launch.limits->sms * 4, 512, 0, launch.stream>>>(static_cast<const uint4*>(data), bytes / 16,
                                                                      sink);
    return cudaGetLastError();
  }
  const int slots = variant == 1 ? 4 : variant == 2 ? 2 : 6, slot_bytes = variant == 3 ? 16384 : 32768;
  constexpr int kMostBytes = 4 * 32768;  // always the same limit: see StartLarge
  const cudaError_t error =
      cudaFuncSetAttribute(read_bulk_sm90, cudaFuncAttributeMaxDynamicSharedMemorySize, kMostBytes);
  if (error != cudaSuccess) return error;
  read_bulk_sm90<<<launch.limits->sms, 160, slots * slot_bytes, launch.stream>>>(static_cast<const char*>(data),
                                                                                 bytes, slots, slot_bytes, sink);
  return cudaGetLastError();
}

}  // namespace dsopt_cuda
