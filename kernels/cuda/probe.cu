// probe.cu - asks the runtime whether this binary holds code for the current GPU, and whether it is sm_90a code.
#include <cuda_runtime.h>

#include "launch.h"

namespace dsopt_cuda {
namespace {

__global__ void probe(int* out) {
  if (out != nullptr) *out = 1;
}

}  // namespace

cudaError_t ProbeKernels(bool* usable, int* code_arch, bool* sm90a) {
  *usable = *sm90a = false;
  *code_arch = 0;
  cudaFuncAttributes attributes{};
  const cudaError_t error = cudaFuncGetAttributes(&attributes, probe);
  if (error == cudaErrorNoKernelImageForDevice || error == cudaErrorInvalidDeviceFunction) {
    cudaGetLastError();
    return cudaSuccess;
  }
  if (error != cudaSuccess) return error;
  *usable = true;
  *code_arch = attributes.ptxVersion;
  *sm90a = attributes.binaryVersion == 90 && *code_arch == 90;  // sm_90 code is only ever built as sm_90a here
  return cudaSuccess;
}

}  // namespace dsopt_cuda
