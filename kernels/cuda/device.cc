// device.cc - opening a GPU on its primary context, memory accounting, error texts, the report.
#include "device.h"

#include <cstdarg>
#include <cstdio>

#include "cublaslt.h"
#include "launch.h"
#include "persistent_batch.h"
#include "tensor_map.h"

namespace dsopt_cuda {

dsopt_status Fail(const dsopt_host_api& host, dsopt_status code, const char* format, ...) {
  char text[512];
  va_list args;
  va_start(args, format);
  std::vsnprintf(text, sizeof text, format, args);
  va_end(args);
  host.set_error(host.context, text);
  return code;
}

namespace {

// After these the context is unusable: every later call returns the same error.
bool IsSticky(cudaError_t error) {
  switch (error) {
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorAssert:
    case cudaErrorECCUncorrectable:
    case cudaErrorDevicesUnavailable:
    case cudaErrorContextIsDestroyed:
      return true;
    default:
      return false;
  }
}

}  // namespace
}  // namespace dsopt_cuda

using dsopt_cuda::Fail;

dsopt_status dsopt_be_device::Check(cudaError_t error, const char* what) const {
  if (error == cudaSuccess) return DSOPT_OK;
  cudaGetLastError();  // clears what is not sticky, so that the next check does not see it again
  dsopt_status code = DSOPT_E_INTERNAL;
  if (error == cudaErrorMemoryAllocation) code = DSOPT_E_DEVICE_MEMORY;
  if (dsopt_cuda::IsSticky(error)) code = DSOPT_E_DEVICE_LOST;
  return Fail(host, code, "cuda:%d: %s: %s (%s)", index, what, cudaGetErrorString(error), cudaGetErrorName(error));
}

dsopt_status dsopt_be_device::Pin(void* memory, uint64_t bytes, const char* what) const {
  const cudaError_t error = cudaHostRegister(memory, bytes, cudaHostRegisterPortable | cudaHostRegisterMapped);
  if (error != cudaErrorMemoryAllocation) return Check(error, what);
  cudaGetLastError();
  return Fail(host, DSOPT_E_OUT_OF_MEMORY, "cuda:%d: %s: %llu bytes of host memory cannot be pinned", index, what,
              static_cast<unsigned long long>(bytes));
}

dsopt_status dsopt_be_device::Open(uint64_t cap_bytes) {
  const dsopt_cuda::ScopedDevice current(index);
  max_bytes = cap_bytes;
  limits.shared_limits = &shared_limits;
  DSOPT_CUDA_RETURN_IF_ERROR(Check(current.error(), "making the device current"));
  int major = 0, minor = 0;
  DSOPT_CUDA_RETURN_IF_ERROR(
      Check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, index), "reading the capability"));
  DSOPT_CUDA_RETURN_IF_ERROR(
      Check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, index), "reading the capability"));
  limits.arch = major * 10 + minor;
  if (limits.arch < 80)
    return Fail(host, DSOPT_E_UNSUPPORTED, "cuda:%d: compute capability %d.%d, at least 8.0 expected", index, major,
                minor);
  DSOPT_CUDA_RETURN_IF_ERROR(
      Check(cudaDeviceGetAttribute(&limits.sms, cudaDevAttrMultiProcessorCount, index), "reading the limits"));
  DSOPT_CUDA_RETURN_IF_ERROR(
      Check(cudaDeviceGetAttribute(&limits.shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, index),
            "reading the limits"));
  bool usable = false;
  DSOPT_CUDA_RETURN_IF_ERROR(Check(dsopt_cuda::ProbeKernels(&usable, &limits.code_arch, &limits.has_sm90a), "loading the kernels"));
  if (!usable)
    return Fail(host, DSOPT_E_UNSUPPORTED, "cuda:%d: this build holds no code for compute capability %d.%d", index,
                major, minor);
  if (limits.code_arch >= 90) limits.tensor_map_encoder = dsopt_cuda::FindTensorMapEncoder();
  DSOPT_CUDA_RETURN_IF_ERROR(OpenUpload());
  cublas_lt = dsopt_cuda::CublasLt::Load(host);
  WriteReport();
  return DSOPT_OK;
}

dsopt_status dsopt_be_device::OpenUpload() {
  DSOPT_CUDA_RETURN_IF_ERROR(
      Check(cudaStreamCreateWithFlags(&upload_stream, cudaStreamNonBlocking), "creating the upload stream"));
  for (dsopt_cuda::UploadSlot& slot : slots) {
    slot.memory = host.allocator->alloc(host.allocator->user, dsopt_cuda::kUploadSlotBytes, 4096);
    if (slot.memory == nullptr)
      return Fail(host, DSOPT_E_OUT_OF_MEMORY, "cuda:%d: no host memory for an upload buffer of %zu bytes", index,
                  dsopt_cuda::kUploadSlotBytes);
    const dsopt_status pinned = Pin(slot.memory, dsopt_cuda::kUploadSlotBytes, "pinning an upload buffer");
    if (pinned != DSOPT_OK) {
      host.allocator->free(host.allocator->user, slot.memory, dsopt_cuda::kUploadSlotBytes, 4096);
      slot.memory = nullptr;
      return pinned;
    }
    DSOPT_CUDA_RETURN_IF_ERROR(
        Check(cudaEventCreateWithFlags(&slot.busy, cudaEventDisableTiming), "creating an upload event"));
  }
  return DSOPT_OK;
}

void dsopt_be_device::Close() {
  const dsopt_cuda::ScopedDevice current(index);
  if (upload_stream != nullptr) cudaStreamSynchronize(upload_stream);
  for (dsopt_cuda::UploadSlot& slot : slots) {
    if (slot.busy != nullptr) cudaEventDestroy(slot.busy);
    Free(slot.device_memory, dsopt_cuda::kUploadSlotBytes);
    if (slot.memory == nullptr) continue;
    cudaHostUnregister(slot.memory);
    host.allocator->free(host.allocator->user, slot.memory, dsopt_cuda::kUploadSlotBytes, 4096);
  }
  if (upload_stream != nullptr) cudaStreamDestroy(upload_stream);
  dsopt_cuda::CublasLt::Unload(host, cublas_lt);
}

dsopt_status dsopt_be_device::Allocate(uint64_t bytes, const char* what, void** out) {
  *out = nullptr;
  if (bytes == 0) bytes = 16;
  const uint64_t before = used_bytes.fetch_add(bytes);
  if (max_bytes != 0 && (bytes > max_bytes || before > max_bytes - bytes)) {
    used_bytes.fetch_sub(bytes);
    return Fail(host, DSOPT_E_DEVICE_MEMORY, "cuda:%d: %s: %llu bytes wanted, %llu used of a cap of %llu", index, what,
                static_cast<unsigned long long>(bytes), static_cast<unsigned long long>(before),
                static_cast<unsigned long long>(max_bytes));
  }
  const cudaError_t error = cudaMalloc(out, bytes);
  if (error == cudaSuccess) return DSOPT_OK;
  used_bytes.fetch_sub(bytes);
  *out = nullptr;
  if (error != cudaErrorMemoryAllocation) return Check(error, what);
  cudaGetLastError();
  size_t free_bytes = 0, total_bytes = 0;
  cudaMemGetInfo(&free_bytes, &total_bytes);
  return Fail(host, DSOPT_E_DEVICE_MEMORY, "cuda:%d: %s: %llu bytes wanted, %zu of %zu free", index, what,
              static_cast<unsigned long long>(bytes), free_bytes, total_bytes);
}

void dsopt_be_device::Free(void* memory, uint64_t bytes) {
  if (memory == nullptr) return;
  cudaFree(memory);
  used_bytes.fetch_sub(bytes == 0 ? 16 : bytes);
}

void dsopt_be_device::WriteReport() {
  const bool persistent = limits.has_sm90a, tensor_maps = dsopt_cuda::PlainFits(limits);
  std::snprintf(report, sizeof report,
                "cuda:%d: compute capability %d.%d, %d multiprocessors\n"
                "decode, batch 1, shapes of known models: %s\n"
                "decode of up to %d sequences, dense models of layers from about 64 MB on, bf16 or lossless12: %s\n"
                "other batches of up to %d rows: kernel by kernel, as one graph when they come again\n"
                "linear, one row: registers straight from memory; few rows: mma.sync with weights as A%s; from %s\n"
                "attention: split over the GPU and merged in the kernel (decode), %s tiles (prefill, latent)\n"
                "reference precision: f32 kernels",
                index, limits.arch / 10, limits.arch % 10, limits.sms,
                persistent ? "one persistent kernel per token, every type of cache" : "kernel by kernel (no sm_90a)",
                dsopt_cuda::kBatchRows, persistent && tensor_maps ? "one persistent kernel for all layers" : "kernel by kernel",
                dsopt_cuda::kSkinnyRows,
                tensor_maps ? ", up to 32 of them through tensor maps" : "",
                cublas_lt == nullptr ? "65 rows on: mma.sync tiles (cublasLt not found)"
                : tensor_maps        ? "33 rows on: cublasLt"
                                     : "5 rows on: cublasLt",
                limits.has_sm90a ? "wgmma" : "mma.sync");
}
