// wraps.cc - what the plugin's calls of the CUDA runtime are linked to (-Wl,--wrap): the driver of driver.h.
#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

#include "driver.h"

using dsopt::fault::Call;
using dsopt::fault::Driver;

namespace {

Driver& D() { return Driver::Get(); }

// Counts the call, lets it fail if it is its turn, or runs body.
template <typename Body>
cudaError_t Do(Call call, Body body) {
  cudaError_t error = D().Enter(call);
  if (error == cudaSuccess) error = body();
  return D().Leave(error);
}

// Releases happen even where the call would report an error that came earlier.
template <typename Things, typename Key>
bool Forget(Things* things, Key key, const char* call) {
  if (things->erase(key) != 0) return true;
  D().Misuse(std::string(call) + ": it does not live");
  return false;
}

size_t UsedBytes() {
  size_t used = 0;
  for (const auto& [at, bytes] : D().memory_) used += bytes;
  return used;
}

void CheckCopy(const char* call, const void* dst, const void* src, size_t bytes, cudaMemcpyKind kind) {
  if (kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice) D().CheckDevice(call, dst, bytes);
  if (kind == cudaMemcpyDefault) D().CheckEither(call, dst, src, bytes);
  if (kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice) D().CheckDevice(call, src, bytes);
}

}  // namespace

extern "C" {

decltype(cudaGetDeviceCount) __real_cudaGetDeviceCount;
decltype(cudaGetDevice) __real_cudaGetDevice;
decltype(cudaSetDevice) __real_cudaSetDevice;
decltype(cudaDeviceGetAttribute) __real_cudaDeviceGetAttribute;
decltype(cudaGetDeviceProperties) __real_cudaGetDeviceProperties;
decltype(cudaFuncGetAttributes) __real_cudaFuncGetAttributes;
decltype(cudaFuncSetAttribute) __real_cudaFuncSetAttribute;
decltype(cudaGetLastError) __real_cudaGetLastError;
decltype(cudaMemGetInfo) __real_cudaMemGetInfo;
decltype(cudaMalloc) __real_cudaMalloc;
decltype(cudaFree) __real_cudaFree;
decltype(cudaHostRegister) __real_cudaHostRegister;
decltype(cudaHostUnregister) __real_cudaHostUnregister;
decltype(cudaHostGetDevicePointer) __real_cudaHostGetDevicePointer;
decltype(cudaMemcpyAsync) __real_cudaMemcpyAsync;
decltype(cudaMemcpy2DAsync) __real_cudaMemcpy2DAsync;
decltype(cudaMemsetAsync) __real_cudaMemsetAsync;
decltype(cudaEventCreate) __real_cudaEventCreate;
decltype(cudaEventCreateWithFlags) __real_cudaEventCreateWithFlags;
decltype(cudaEventDestroy) __real_cudaEventDestroy;
decltype(cudaEventRecord) __real_cudaEventRecord;
decltype(cudaEventQuery) __real_cudaEventQuery;
decltype(cudaEventSynchronize) __real_cudaEventSynchronize;
decltype(cudaEventElapsedTime) __real_cudaEventElapsedTime;
decltype(cudaStreamCreateWithFlags) __real_cudaStreamCreateWithFlags;
decltype(cudaStreamDestroy) __real_cudaStreamDestroy;
decltype(cudaStreamSynchronize) __real_cudaStreamSynchronize;
decltype(cudaStreamBeginCapture) __real_cudaStreamBeginCapture;
decltype(cudaStreamEndCapture) __real_cudaStreamEndCapture;
cudaError_t __real_cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long flags);
decltype(cudaGraphUpload) __real_cudaGraphUpload;
decltype(cudaGraphLaunch) __real_cudaGraphLaunch;
decltype(cudaGraphDestroy) __real_cudaGraphDestroy;
decltype(cudaGraphExecDestroy) __real_cudaGraphExecDestroy;
decltype(cudaLaunchKernelExC) __real_cudaLaunchKernelExC;
cudaError_t __real___cudaGetKernel(cudaKernel_t* kernel, const void* function);
cudaError_t __real___cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void** args, size_t shared,
                                      cudaStream_t stream);
decltype(dlopen) __real_dlopen;

// ---- the device -------------------------------------------------------------------------------------

cudaError_t __wrap_cudaGetDeviceCount(int* count) {
  return Do(Call::kGetDeviceCount, [&] {
    if (!D().fake()) return __real_cudaGetDeviceCount(count);
    *count = D().gpu.count;
    return D().gpu.count_error;
  });
}

cudaError_t __wrap_cudaGetDevice(int* device) {
  if (!D().fake()) return __real_cudaGetDevice(device);
  *device = D().current_device;
  return cudaSuccess;
}

cudaError_t __wrap_cudaSetDevice(int device) {
  return Do(Call::kSetDevice, [&] {
    if (!D().fake()) return __real_cudaSetDevice(device);
    if (device < 0 || device >= D().gpu.count) return cudaErrorInvalidDevice;
    D().current_device = device;
    return cudaSuccess;
  });
}

cudaError_t __wrap_cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  return Do(Call::kDeviceGetAttribute, [&] {
    if (!D().fake()) return __real_cudaDeviceGetAttribute(value, attribute, device);
    const dsopt::fault::FakeGpu& gpu = D().gpu;
    if (attribute == cudaDevAttrComputeCapabilityMajor)
      *value = gpu.major;
    else if (attribute == cudaDevAttrComputeCapabilityMinor)
      *value = gpu.minor;
    else if (attribute == cudaDevAttrMultiProcessorCount)
      *value = gpu.multiprocessors;
    else if (attribute == cudaDevAttrMaxSharedMemoryPerBlockOptin)
      *value = gpu.shared_bytes;
    else
      return cudaErrorInvalidValue;
    return cudaSuccess;
  });
}

cudaError_t __wrap_cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (!D().fake()) return __real_cudaGetDeviceProperties(properties, device);
  std::memset(properties, 0, sizeof *properties);
  std::strcpy(properties->name, "fake GPU");
  properties->major = D().gpu.major;
  properties->minor = D().gpu.minor;
  properties->multiProcessorCount = D().gpu.multiprocessors;
  properties->totalGlobalMem = D().gpu.memory_bytes;
  return cudaSuccess;
}

cudaError_t __wrap_cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* function) {
  return Do(Call::kFuncGetAttributes, [&] {
    if (!D().fake()) return __real_cudaFuncGetAttributes(attributes, function);
    *attributes = cudaFuncAttributes{};
    attributes->binaryVersion = attributes->ptxVersion = D().gpu.major * 10 + D().gpu.minor;
    return D().gpu.has_code ? cudaSuccess : cudaErrorNoKernelImageForDevice;
  });
}

cudaError_t __wrap_cudaGetLastError() {
  const cudaError_t ours = D().TakeLastError();
  if (D().fake()) return ours;
  const cudaError_t real = __real_cudaGetLastError();
  return ours != cudaSuccess ? ours : real;
}

cudaError_t __wrap_cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  if (!D().fake()) return __real_cudaMemGetInfo(free_bytes, total_bytes);
  *total_bytes = D().gpu.memory_bytes;
  *free_bytes = D().gpu.memory_bytes - UsedBytes();
  return cudaSuccess;
}

// ---- memory -----------------------------------------------------------------------------------------

cudaError_t __wrap_cudaMalloc(void** out, size_t bytes) {
  return Do(Call::kMalloc, [&] {
    cudaError_t error = cudaSuccess;
    if (!D().fake()) {
      error = __real_cudaMalloc(out, bytes);
    } else if (bytes > D().gpu.memory_bytes - UsedBytes()) {
      error = cudaErrorMemoryAllocation;
    } else {
      *out = std::calloc(bytes, 1);
      if (*out == nullptr) error = cudaErrorMemoryAllocation;
    }
    if (error == cudaSuccess) D().memory_[*out] = bytes;
    return error;
  });
}

cudaError_t __wrap_cudaFree(void* memory) {
  cudaError_t error = cudaSuccess;
  if (memory != nullptr && Forget(&D().memory_, memory, "cudaFree")) {
    if (D().fake())
      std::free(memory);
    else
      error = __real_cudaFree(memory);
  }
  return D().Leave(D().sticky() != cudaSuccess ? D().sticky() : error);
}

cudaError_t __wrap_cudaHostRegister(void* memory, size_t bytes, unsigned int flags) {
  return Do(Call::kHostRegister, [&] {
    const cudaError_t error = D().fake() ? cudaSuccess : __real_cudaHostRegister(memory, bytes, flags);
    if (error == cudaSuccess && !D().registered_.emplace(memory, bytes).second)
      D().Misuse("cudaHostRegister: it is registered already");
    return error;
  });
}

cudaError_t __wrap_cudaHostUnregister(void* memory) {
  cudaError_t error = cudaSuccess;
  if (Forget(&D().registered_, memory, "cudaHostUnregister") && !D().fake())
    error = __real_cudaHostUnregister(memory);
  return D().Leave(D().sticky() != cudaSuccess ? D().sticky() : error);
}

cudaError_t __wrap_cudaHostGetDevicePointer(void** out, void* memory, unsigned int flags) {
  return Do(Call::kHostGetDevicePointer, [&] {
    if (!D().fake()) return __real_cudaHostGetDevicePointer(out, memory, flags);
    if (D().registered_.count(memory) == 0) return cudaErrorInvalidValue;
    *out = memory;
    return cudaSuccess;
  });
}

cudaError_t __wrap_cudaMemcpyAsync(void* dst, const void* src, size_t bytes, cudaMemcpyKind kind,
                                   cudaStream_t stream) {
  return Do(Call::kMemcpyAsync, [&] {
    D().CheckStream("cudaMemcpyAsync", stream);
    CheckCopy("cudaMemcpyAsync", dst, src, bytes, kind);
    if (!D().fake()) return __real_cudaMemcpyAsync(dst, src, bytes, kind, stream);
    std::memmove(dst, src, bytes);
    return cudaSuccess;
  });
}

cudaError_t __wrap_cudaMemcpy2DAsync(void* dst, size_t dst_pitch, const void* src, size_t src_pitch,
                                     size_t width, size_t height, cudaMemcpyKind kind, cudaStream_t stream) {
  return Do(Call::kMemcpy2DAsync, [&] {
    D().CheckStream("cudaMemcpy2DAsync", stream);
    for (size_t row = 0; row < height; ++row) {
      char* to = static_cast<char*>(dst) + row * dst_pitch;
      const char* from = static_cast<const char*>(src) + row * src_pitch;
      CheckCopy("cudaMemcpy2DAsync", to, from, width, kind);
      if (D().fake()) std::memmove(to, from, width);
    }
    if (D().fake()) return cudaSuccess;
    return __real_cudaMemcpy2DAsync(dst, dst_pitch, src, src_pitch, width, height, kind, stream);
  });
}

cudaError_t __wrap_cudaMemsetAsync(void* dst, int value, size_t bytes, cudaStream_t stream) {
  return Do(Call::kMemsetAsync, [&] {
    D().CheckStream("cudaMemsetAsync", stream);
    D().CheckDevice("cudaMemsetAsync", dst, bytes);
    if (!D().fake()) return __real_cudaMemsetAsync(dst, value, bytes, stream);
    if (value != 0) std::memset(dst, value, bytes);  // fake memory is zero already, and large
    return cudaSuccess;
  });
}

// ---- events and streams -----------------------------------------------------------------------------

cudaError_t __wrap_cudaEventCreateWithFlags(cudaEvent_t* out, unsigned int flags) {
  return Do(Call::kEventCreate, [&] {
    const cudaError_t error = D().fake() ? cudaSuccess : __real_cudaEventCreateWithFlags(out, flags);
    if (D().fake()) *out = reinterpret_cast<cudaEvent_t>(std::malloc(1));
    if (error == cudaSuccess) D().events_[*out] = {};
    return error;
  });
}
cudaError_t __wrap_cudaEventCreate(cudaEvent_t* out) {
  return __wrap_cudaEventCreateWithFlags(out, cudaEventDefault);
}

cudaError_t __wrap_cudaEventDestroy(cudaEvent_t event) {
  cudaError_t error = cudaSuccess;
  if (Forget(&D().events_, event, "cudaEventDestroy")) {
    if (D().fake())
      std::free(event);
    else
      error = __real_cudaEventDestroy(event);
  }
  return D().Leave(D().sticky() != cudaSuccess ? D().sticky() : error);
}

cudaError_t __wrap_cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return Do(Call::kEventRecord, [&] {
    D().CheckEvent("cudaEventRecord", event);
    D().CheckStream("cudaEventRecord", stream);
    D().events_[event] = {true, 0};
    return D().fake() ? cudaSuccess : __real_cudaEventRecord(event, stream);
  });
}

cudaError_t __wrap_cudaEventQuery(cudaEvent_t event) {
  return Do(Call::kEventQuery, [&] {
    D().CheckEvent("cudaEventQuery", event);
    if (!D().fake()) return __real_cudaEventQuery(event);
    Driver::Event& e = D().events_[event];
    return e.recorded && e.queries++ == 0 ? cudaErrorNotReady : cudaSuccess;
  });
}

cudaError_t __wrap_cudaEventSynchronize(cudaEvent_t event) {
  return Do(Call::kEventSynchronize, [&] {
    D().CheckEvent("cudaEventSynchronize", event);
    return D().fake() ? cudaSuccess : __real_cudaEventSynchronize(event);
  });
}

cudaError_t __wrap_cudaEventElapsedTime(float* ms, cudaEvent_t begin, cudaEvent_t end) {
  return Do(Call::kEventElapsedTime, [&] {
    D().CheckEvent("cudaEventElapsedTime", begin);
    D().CheckEvent("cudaEventElapsedTime", end);
    if (!D().fake()) return __real_cudaEventElapsedTime(ms, begin, end);
    *ms = 0.25f;
    return D().events_[begin].recorded && D().events_[end].recorded ? cudaSuccess
                                                                    : cudaErrorInvalidResourceHandle;
  });
}

cudaError_t __wrap_cudaStreamCreateWithFlags(cudaStream_t* out, unsigned int flags) {
  return Do(Call::kStreamCreate, [&] {
    const cudaError_t error = D().fake() ? cudaSuccess : __real_cudaStreamCreateWithFlags(out, flags);
    if (D().fake()) *out = reinterpret_cast<cudaStream_t>(std::malloc(1));
    if (error == cudaSuccess) D().streams_[*out] = {};
    return error;
  });
}

cudaError_t __wrap_cudaStreamDestroy(cudaStream_t stream) {
  cudaError_t error = cudaSuccess;
  D().CheckStream("cudaStreamDestroy", stream);
  if (Forget(&D().streams_, stream, "cudaStreamDestroy")) {
    if (D().fake())
      std::free(stream);
    else
      error = __real_cudaStreamDestroy(stream);
  }
  return D().Leave(D().sticky() != cudaSuccess ? D().sticky() : error);
}

cudaError_t __wrap_cudaStreamSynchronize(cudaStream_t stream) {
  return Do(Call::kStreamSynchronize, [&] {
    D().CheckStream("cudaStreamSynchronize", stream);
    return D().fake() ? cudaSuccess : __real_cudaStreamSynchronize(stream);
  });
}

// ---- graphs -----------------------------------------------------------------------------------------

cudaError_t __wrap_cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  return Do(Call::kStreamBeginCapture, [&] {
    D().CheckStream("cudaStreamBeginCapture", stream);
    const cudaError_t error = D().fake() ? cudaSuccess : __real_cudaStreamBeginCapture(stream, mode);
    if (error == cudaSuccess) D().streams_[stream] = {true, {}};
    return error;
  });
}

// The capture ends even where the call fails.
cudaError_t __wrap_cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* out) {
  Driver::Stream& state = D().streams_[stream];
  if (!state.captured) D().Misuse("cudaStreamEndCapture: the stream is not being captured");
  if (state.kernels.empty() && !D().fired()) D().Misuse("cudaStreamEndCapture: nothing was captured");
  cudaError_t error = D().Enter(Call::kStreamEndCapture);
  state.captured = false;
  *out = nullptr;
  if (D().fake()) {
    if (error == cudaSuccess) *out = reinterpret_cast<cudaGraph_t>(std::malloc(1));
  } else {
    const cudaError_t real = __real_cudaStreamEndCapture(stream, out);
    if (error != cudaSuccess && *out != nullptr) {
      __real_cudaGraphDestroy(*out);
      *out = nullptr;
    }
    if (error == cudaSuccess) error = real;
  }
  if (*out != nullptr) D().graphs_[*out] = std::move(state.kernels);
  return D().Leave(error);
}

cudaError_t __wrap_cudaGraphInstantiate(cudaGraphExec_t* out, cudaGraph_t graph, unsigned long long flags) {
  return Do(Call::kGraphInstantiate, [&] {
    if (D().graphs_.count(graph) == 0) D().Misuse("cudaGraphInstantiate: a graph that does not live");
    const cudaError_t error = D().fake() ? cudaSuccess : __real_cudaGraphInstantiate(out, graph, flags);
    if (D().fake()) *out = reinterpret_cast<cudaGraphExec_t>(std::malloc(1));
    if (error == cudaSuccess) D().execs_[*out] = D().graphs_[graph];
    if (D().execs_.size() > D().most_execs) D().most_execs = D().execs_.size();
    return error;
  });
}

cudaError_t __wrap_cudaGraphUpload(cudaGraphExec_t exec, cudaStream_t stream) {
  return Do(Call::kGraphUpload, [&] {
    D().CheckExec("cudaGraphUpload", exec);
    D().CheckStream("cudaGraphUpload", stream);
    return D().fake() ? cudaSuccess : __real_cudaGraphUpload(exec, stream);
  });
}

cudaError_t __wrap_cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  return Do(Call::kGraphLaunch, [&] {
    D().CheckExec("cudaGraphLaunch", exec);
    D().CheckStream("cudaGraphLaunch", stream);
    D().Launch(stream, D().execs_[exec]);
    return D().fake() ? cudaSuccess : __real_cudaGraphLaunch(exec, stream);
  });
}

cudaError_t __wrap_cudaGraphDestroy(cudaGraph_t graph) {
  cudaError_t error = cudaSuccess;
  if (Forget(&D().graphs_, graph, "cudaGraphDestroy")) {
    if (D().fake())
      std::free(graph);
    else
      error = __real_cudaGraphDestroy(graph);
  }
  return D().Leave(D().sticky() != cudaSuccess ? D().sticky() : error);
}

cudaError_t __wrap_cudaGraphExecDestroy(cudaGraphExec_t exec) {
  cudaError_t error = cudaSuccess;
  if (Forget(&D().execs_, exec, "cudaGraphExecDestroy")) {
    if (D().fake())
      std::free(exec);
    else
      error = __real_cudaGraphExecDestroy(exec);
  }
  return D().Leave(D().sticky() != cudaSuccess ? D().sticky() : error);
}

// ---- kernels ----------------------------------------------------------------------------------------

cudaError_t __wrap_cudaFuncSetAttribute(const void* function, cudaFuncAttribute attribute, int value) {
  return Do(Call::kFuncSetAttribute, [&] {
    if (attribute == cudaFuncAttributeMaxDynamicSharedMemorySize) {
      int& limit = D().shared_limits_[function];
      if (value < limit)
        D().Misuse("cudaFuncSetAttribute: graphs and other threads may need more shared memory");
      limit = value;
    }
    if (!D().fake()) return __real_cudaFuncSetAttribute(function, attribute, value);
    return value <= D().gpu.shared_bytes ? cudaSuccess : cudaErrorInvalidValue;
  });
}

cudaError_t __wrap_cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* function, void** args) {
  return Do(Call::kLaunch, [&] {
    D().CheckLaunch(function, config->gridDim, config->blockDim, config->dynamicSmemBytes, config->stream);
    return D().fake() ? cudaSuccess : __real_cudaLaunchKernelExC(config, function, args);
  });
}

// What <<< >>> comes to.
cudaError_t __wrap___cudaGetKernel(cudaKernel_t* kernel, const void* function) {
  if (!D().fake()) return __real___cudaGetKernel(kernel, function);
  *kernel = reinterpret_cast<cudaKernel_t>(const_cast<void*>(function));
  return cudaSuccess;
}
cudaError_t __wrap___cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void** args, size_t shared,
                                      cudaStream_t stream) {
  return Do(Call::kLaunch, [&] {
    if (D().fake())
      D().CheckLaunch(kernel, grid, block, shared, stream);
    else
      D().CheckStream("a kernel launch", stream, true);
    return D().fake() ? cudaSuccess : __real___cudaLaunchKernel(kernel, grid, block, args, shared, stream);
  });
}

// Products of the library would need a GPU.
void* __wrap_dlopen(const char* file, int mode) {
  if (D().fake() && file != nullptr && std::strstr(file, "cublasLt") != nullptr) return nullptr;
  return __real_dlopen(file, mode);
}

}  // extern "C"
