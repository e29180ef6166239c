// plugin.cc - libdsopt_cuda.so: the one export and the table behind it. Every entry catches what the standard library
// may throw; nothing else happens here.
#include <cuda_runtime.h>

#include <cstdio>
#include <cstring>
#include <new>

#include "device.h"
#include "launch.h"
#include "ops/op.h"
#include "program.h"
#include "shared/check.h"
#include "weight.h"

using namespace dsopt_cuda;
using dsopt_shared::CopyStruct;
using dsopt_shared::FillStruct;

namespace {

// Runs body; std::bad_alloc becomes a status.
template <typename Body>
dsopt_status Guard(const dsopt_host_api& host, Body body) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return Fail(host, DSOPT_E_OUT_OF_MEMORY, "cuda: out of host memory");
  } catch (...) {
    return Fail(host, DSOPT_E_INTERNAL, "cuda: unexpected exception");
  }
}

dsopt_status NoSize(const dsopt_host_api& host, const char* call) {
  return Fail(host, DSOPT_E_INVALID_ARGUMENT, "%s: a pointer is NULL or the struct has no size", call);
}

uint32_t DeviceCount() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) {
    cudaGetLastError();
    return 0;
  }
  return count > 0 ? static_cast<uint32_t>(count) : 0;
}

dsopt_status DeviceInfo(uint32_t index, dsopt_device_info* info) {
  if (info == nullptr || info->struct_size < sizeof(uint32_t)) return DSOPT_E_INVALID_ARGUMENT;
  if (index >= DeviceCount()) return DSOPT_E_NOT_FOUND;
  cudaDeviceProp properties{};
  const int device = static_cast<int>(index);
  if (cudaGetDeviceProperties(&properties, device) != cudaSuccess) {
    cudaGetLastError();
    return DSOPT_E_INTERNAL;
  }
  dsopt_device_info out{};
  out.kind = DSOPT_DEVICE_CUDA;
  out.arch = static_cast<uint32_t>(properties.major * 10 + properties.minor);
  out.multiprocessors = static_cast<uint32_t>(properties.multiProcessorCount);
  out.memory_total = properties.totalGlobalMem;
  {
    const ScopedDevice current(device);
    size_t free_bytes = 0, total_bytes = 0;
    if (cudaMemGetInfo(&free_bytes, &total_bytes) == cudaSuccess) out.memory_free = free_bytes;
    else cudaGetLastError();
  }
  std::snprintf(out.id, sizeof out.id, "cuda:%u", index);
  std::snprintf(out.name, sizeof out.name, "%.95s", properties.name);
  out.preferred_rows = 2048;
  FillStruct(out, info);
  return DSOPT_OK;
}

// Closes and deletes a device that could not be opened.
dsopt_status Abandon(dsopt_be_device* device, dsopt_status status) {
  const dsopt_allocator* allocator = device->host.allocator;
  device->Close();
  HostDelete(allocator, device);
  return status;
}

dsopt_status DeviceOpen(uint32_t index, const dsopt_device_options* options, dsopt_be_device** out) {
  dsopt_device_options known;
  if (out == nullptr || !CopyStruct(options, &known) || known.host == nullptr || known.host->allocator == nullptr)
    return DSOPT_E_INVALID_ARGUMENT;
  *out = nullptr;
  const dsopt_host_api& host = *known.host;
  return Guard(host, [&]() -> dsopt_status {
    const uint32_t count = DeviceCount();
    if (index >= count) return Fail(host, DSOPT_E_NOT_FOUND, "cuda:%u: %u devices are present", index, count);
    if (known.variant != nullptr)
      return Fail(host, DSOPT_E_INVALID_ARGUMENT, "cuda:%u: variant '%.40s' is unknown: there are none", index,
                  known.variant);
    dsopt_be_device* device = HostNew<dsopt_be_device>(host.allocator, host, static_cast<int>(index));
    dsopt_status status = DSOPT_E_INTERNAL;
    try {
      status = device->Open(known.max_bytes);
    } catch (...) {
      Abandon(device, status);
      throw;
    }
    if (status != DSOPT_OK) return Abandon(device, status);
    *out = device;
    return DSOPT_OK;
  });
}

void DeviceClose(dsopt_be_device* device) {
  if (device == nullptr) return;
  device->Close();
  HostDelete(device->host.allocator, device);
}

const char* DeviceReport(dsopt_be_device* device) { return device->report; }

dsopt_status TableWeightBytes(dsopt_be_device* device, const dsopt_weight_desc* desc, uint64_t* bytes) {
  dsopt_weight_desc known;
  if (!CopyStruct(desc, &known) || bytes == nullptr) return NoSize(device->host, "weight_bytes");
  return Guard(device->host, [&] { return WeightBytes(device, &known, bytes); });
}
dsopt_status TableWeightCreate(dsopt_be_device* device, const dsopt_weight_desc* desc, dsopt_be_weight** out) {
  dsopt_weight_desc known;
  if (!CopyStruct(desc, &known) || out == nullptr) return NoSize(device->host, "weight_create");
  *out = nullptr;
  return Guard(device->host, [&] { return WeightCreate(device, &known, out); });
}
dsopt_status TableWeightWrite(dsopt_be_weight* weight, uint64_t first, uint64_t count, const void* src) {
  return Guard(weight->device->host, [&] { return WeightWrite(weight, first, count, src); });
}
dsopt_status TableWeightWriteScales(dsopt_be_weight* weight, uint64_t first, uint64_t count, const float* scales,
                                    const float* offsets) {
  return Guard(weight->device->host, [&] { return WeightWriteScales(weight, first, count, scales, offsets); });
}
dsopt_status TableWeightFill(dsopt_be_weight* weight, uint64_t seed, float mean, float stddev) {
  return Guard(weight->device->host, [&] { return WeightFill(weight, seed, mean, stddev); });
}
dsopt_status WeightFinish(dsopt_be_device* device) {
  const ScopedDevice current(device->index);
  return device->Check(cudaStreamSynchronize(device->upload_stream), "waiting for uploads");
}

dsopt_status ProgramPlanEntry(dsopt_be_device* device, const dsopt_program_desc* desc, dsopt_program_memory* memory) {
  dsopt_program_desc known;
  if (!CopyStruct(desc, &known)) return NoSize(device->host, "program_plan");
  return Guard(device->host, [&]() -> dsopt_status {
    ProgramPlan plan;
    DSOPT_CUDA_RETURN_IF_ERROR(MakePlan(*device, known, &plan));
    const dsopt_program_memory full = {0, 0, plan.cache_bytes, plan.workspace_bytes, plan.host_bytes,
                                       plan.host_cache_bytes};
    return FillStruct(full, memory) ? DSOPT_OK : NoSize(device->host, "program_plan");
  });
}

dsopt_status ProgramCreate(dsopt_be_device* device, const dsopt_program_desc* desc, dsopt_be_program** out) {
  dsopt_program_desc known;
  if (!CopyStruct(desc, &known) || out == nullptr) return NoSize(device->host, "program_create");
  *out = nullptr;
  return Guard(device->host, [&]() -> dsopt_status {
    dsopt_be_program* program =
        HostNew<dsopt_be_program>(device->host.allocator, device, device->host.allocator);
    dsopt_status status = DSOPT_E_INTERNAL;
    try {
      program->desc.native_stream = known.native_stream;
      status = program->Create(known);
    } catch (const std::bad_alloc&) {
      status = Fail(device->host, DSOPT_E_OUT_OF_MEMORY, "cuda: out of host memory");
    } catch (...) {
      status = Fail(device->host, DSOPT_E_INTERNAL, "cuda: unexpected exception");
    }
    if (status != DSOPT_OK) {
      program->Destroy();
      HostDelete(device->host.allocator, program);
      return status;
    }
    *out = program;
    return DSOPT_OK;
  });
}

void ProgramDestroy(dsopt_be_program* program) {
  if (program == nullptr) return;
  const dsopt_allocator* allocator = program->device->host.allocator;
  program->Destroy();
  HostDelete(allocator, program);
}

dsopt_status ProgramBegin(dsopt_be_program* program, const dsopt_batch* batch) {
  dsopt_batch known;
  if (!CopyStruct(batch, &known)) return NoSize(program->device->host, "program_begin");
  return Guard(program->device->host, [&] { return program->Begin(known); });
}
dsopt_status ProgramAdvance(dsopt_be_program* program, uint64_t deadline_ns, uint64_t* wait_us) {
  return Guard(program->device->host, [&] { return program->Advance(deadline_ns, wait_us); });
}
dsopt_status ProgramResult(dsopt_be_program* program, dsopt_batch_result* result) { return program->Result(result); }
dsopt_status ProgramCancel(dsopt_be_program* program) { return program->Cancel(); }
dsopt_status ProgramReadLogits(dsopt_be_program* program, uint32_t index, float* dst) {
  return program->ReadLogits(index, dst);
}
dsopt_status ProgramCopyPage(dsopt_be_program* program, uint32_t dst, uint32_t src) {
  return program->CopyPage(dst, src);
}
dsopt_status ProgramReadPage(dsopt_be_program* program, uint32_t page, void* dst) {
  return program->MovePage(page, dst, true);
}
dsopt_status ProgramWritePage(dsopt_be_program* program, uint32_t page, const void* src) {
  return program->MovePage(page, const_cast<void*>(src), false);
}

// Best of the read kernels, three timed passes each.
dsopt_status MeasureRead(dsopt_be_device* device, uint64_t bytes, double* bytes_per_second) {
  const ScopedDevice current(device->index);
  bytes = bytes / (1u << 20) * (1u << 20);
  if (bytes == 0 || bytes_per_second == nullptr)
    return Fail(device->host, DSOPT_E_INVALID_ARGUMENT, "measure_read: %llu MiB, at least 1 MiB expected%s",
                static_cast<unsigned long long>(bytes >> 20), bytes_per_second == nullptr ? ", a pointer is NULL" : "");
  void* memory = nullptr;
  DSOPT_CUDA_RETURN_IF_ERROR(device->Allocate(bytes + 256, "read measurement", &memory));
  cudaEvent_t begin = nullptr, end = nullptr;
  cudaError_t error = cudaEventCreate(&begin);
  if (error == cudaSuccess) error = cudaEventCreate(&end);
  const Launch launch = {device->upload_stream, &device->limits};
  uint32_t* sink = reinterpret_cast<uint32_t*>(static_cast<char*>(memory) + bytes);
  if (error == cudaSuccess)
    error = FillWeight(launch.stream, Elem::kBf16, Elem::kBf16, {1, 1, bytes / 2, false, false}, 1, 0.0f, 1.0f, memory);
  double best_ms = 0;
  for (int variant = 0; variant < kReadVariants && error == cudaSuccess; ++variant) {
    for (int pass = 0; pass < 4 && error == cudaSuccess; ++pass) {
      float ms = 0;
      error = cudaEventRecord(begin, launch.stream);
      if (error == cudaSuccess) error = ReadMemory(launch, variant, memory, bytes, sink);
      if (error == cudaSuccess) error = cudaEventRecord(end, launch.stream);
      if (error == cudaSuccess) error = cudaEventSynchronize(end);
      if (error == cudaSuccess) error = cudaEventElapsedTime(&ms, begin, end);
      const double time = static_cast<double>(ms);
      if (pass > 0 && time > 0 && (best_ms == 0 || time < best_ms)) best_ms = time;
    }
  }
  if (begin != nullptr) cudaEventDestroy(begin);
  if (end != nullptr) cudaEventDestroy(end);
  device->Free(memory, bytes + 256);
  DSOPT_CUDA_RETURN_IF_ERROR(device->Check(error, "measuring reads"));
  if (best_ms <= 0) return Fail(device->host, DSOPT_E_INTERNAL, "cuda:%d: measuring reads: no time passed", device->index);
  *bytes_per_second = static_cast<double>(bytes) / (best_ms * 1e-3);
  return DSOPT_OK;
}

constexpr dsopt_backend_api kTable = {
    sizeof(dsopt_backend_api), DSOPT_BACKEND_ABI, "cuda",
    "dsopt_cuda " DSOPT_CUDA_VERSION ", CUDA " DSOPT_CUDA_TOOLKIT ", code for " DSOPT_CUDA_CODE,
    DeviceCount, DeviceInfo, DeviceOpen, DeviceClose, DeviceReport,
    TableWeightBytes, TableWeightCreate, TableWeightWrite, TableWeightFill, WeightFinish, WeightDestroy,
    ProgramPlanEntry, ProgramCreate, ProgramDestroy, ProgramBegin, ProgramAdvance, ProgramResult, ProgramCancel,
    ProgramReadLogits, ProgramCopyPage, ProgramReadPage, ProgramWritePage, MeasureRead,
    TableWeightWriteScales, OpPointer, OpWorkspace, OpRun};

}  // namespace

extern "C" __attribute__((visibility("default"))) dsopt_status dsopt_backend_entry(const dsopt_host_api* host,
                                                                                   uint32_t* abi,
                                                                                   const dsopt_backend_api** out) {
  if (host == nullptr || abi == nullptr || out == nullptr) return DSOPT_E_INVALID_ARGUMENT;
  if (*abi < DSOPT_BACKEND_ABI)
    return Fail(*host, DSOPT_E_VERSION, "cuda: the core speaks backend ABI %u, this plugin %u", *abi,
                static_cast<unsigned>(DSOPT_BACKEND_ABI));
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess || count == 0) {
    cudaGetLastError();
    return Fail(*host, DSOPT_E_NOT_FOUND, "cuda: no usable NVIDIA driver or GPU: %s",
                error != cudaSuccess ? cudaGetErrorString(error) : "no device");
  }
  *abi = DSOPT_BACKEND_ABI;
  *out = &kTable;
  return DSOPT_OK;
}
