// launch.cuh - starting a kernel. On sm_90 and newer every kernel of the plugin is launched with programmatic stream
// serialization: it may start while its predecessor drains, and must call WaitForPrevious() before it touches
// anything a predecessor wrote or still reads. Kernels of this plugin all do; some read what no kernel since the upload of
// the batch has written (weights, the batch's lists, old pages of the cache) before.
#ifndef DSOPT_CUDA_COMMON_LAUNCH_CUH_
#define DSOPT_CUDA_COMMON_LAUNCH_CUH_

#include <cuda_runtime.h>

#include "launch.h"

namespace dsopt_cuda {

template <typename T>
struct Same {
  using type = T;  // keeps the arguments out of template deduction
};

template <typename... Params>
cudaError_t Start(const Launch& launch, void (*kernel)(Params...), dim3 grid, dim3 block, int shared_bytes,
                  typename Same<Params>::type... args) {
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = static_cast<size_t>(shared_bytes);
  config.stream = launch.stream;
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  config.attrs = &attribute;
  config.numAttrs = launch.limits->arch >= 90 ? 1 : 0;
  return cudaLaunchKernelEx(&config, kernel, args...);
}

// What there is of dynamic shared memory beside the kernel's static one.
inline cudaError_t MostShared(const Limits& limits, const void* kernel, int* bytes) {
  *bytes = limits.shared_limits->Find(kernel);
  if (*bytes != 0) return cudaSuccess;
  cudaFuncAttributes attributes;
  const cudaError_t error = cudaFuncGetAttributes(&attributes, kernel);
  if (error != cudaSuccess) return error;
  *bytes = limits.shared_bytes - static_cast<int>(attributes.sharedSizeBytes);
  limits.shared_limits->Add(kernel, *bytes);
  return cudaSuccess;
}

// The same for kernels that want more than 48 KiB of shared memory. The limit is set at every launch: it belongs to
// the function in the current context, and setting it costs less than remembering where it was set. It is always set
// to the same: never below what another thread is about to launch with, or a graph of this function holds.
template <typename... Params>
cudaError_t StartLarge(const Launch& launch, void (*kernel)(Params...), dim3 grid, dim3 block, int shared_bytes,
                       typename Same<Params>::type... args) {
  int most = 0;
  cudaError_t error = MostShared(*launch.limits, reinterpret_cast<const void*>(kernel), &most);
  if (error == cudaSuccess) error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, most);
  if (error != cudaSuccess) return error;
  return Start<Params...>(launch, kernel, grid, block, shared_bytes, args...);
}

// A kernel whose CTAs wait for each other: one per multiprocessor, all of them resident, or an error.
template <typename... Params>
cudaError_t StartCooperative(const Launch& launch, void (*kernel)(Params...), dim3 block, int shared_bytes,
                             typename Same<Params>::type... args) {
  const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes);
  if (error != cudaSuccess) return error;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(launch.limits->sms));
  config.blockDim = block;
  config.dynamicSmemBytes = static_cast<size_t>(shared_bytes);
  config.stream = launch.stream;
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeCooperative;
  attribute.val.cooperative = 1;
  config.attrs = &attribute;
  config.numAttrs = 1;
  return cudaLaunchKernelEx(&config, kernel, args...);
}

}  // namespace dsopt_cuda
#endif  // DSOPT_CUDA_COMMON_LAUNCH_CUH_
