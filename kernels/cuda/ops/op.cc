// op.cc - the entries of the table: versions of structs, kinds of memory, and which operator it is.
#include "ops/op.h"

#include <cstring>

namespace dsopt_cuda {
namespace {

// Arguments of a core of any version. A newer core's members must be zero.
template <typename Args>
dsopt_status Read(const dsopt_be_device& device, const void* given, Args* out) {
  uint32_t bytes;
  std::memcpy(&bytes, given, sizeof bytes);
  *out = Args{};
  const unsigned char* from = static_cast<const unsigned char*>(given);
  for (uint32_t i = sizeof(Args); i < bytes; ++i) {
    if (from[i] != 0)
      return Fail(device.host, DSOPT_E_UNSUPPORTED,
                  "cuda: byte %u of the arguments is set, this plugin knows %zu", i, sizeof(Args));
  }
  std::memcpy(static_cast<void*>(out), from, bytes < sizeof(Args) ? bytes : sizeof(Args));
  return DSOPT_OK;
}

template <typename Args>
dsopt_status ReadAndRun(OpContext* c, const void* given, dsopt_status (*run)(OpContext*, const Args&)) {
  Args args;
  DSOPT_CUDA_RETURN_IF_ERROR(Read(*c->device, given, &args));
  return run(c, args);
}

dsopt_status Dispatch(OpContext* c, dsopt_op op, const void* args) {
  switch (op) {
    case DSOPT_OP_RMSNORM:
      return ReadAndRun(c, args, OpRmsNorm);
    case DSOPT_OP_LINEAR:
      return ReadAndRun(c, args, OpLinear);
    case DSOPT_OP_QKV:
      return ReadAndRun(c, args, OpQkv);
    case DSOPT_OP_ATTENTION:
      return ReadAndRun(c, args, OpAttention);
    case DSOPT_OP_GATED_MLP:
      return ReadAndRun(c, args, OpGatedMlp);
    case DSOPT_OP_MOE:
      return ReadAndRun(c, args, OpMoe);
    case DSOPT_OP_SAMPLE:
      return ReadAndRun(c, args, OpSample);
    default:
      return Fail(c->device->host, DSOPT_E_UNSUPPORTED, "cuda: operator %d is unknown", static_cast<int>(op));
  }
}

const char* KindOf(cudaMemoryType type) {
  switch (type) {
    case cudaMemoryTypeHost:
      return "pinned host memory";
    case cudaMemoryTypeDevice:
      return "device memory";
    case cudaMemoryTypeManaged:
      return "managed memory";
    default:
      return "ordinary host memory";
  }
}

}  // namespace

dsopt_status OpPointer(dsopt_be_device* device, const void* memory) {
  const ScopedDevice current(device->index);
  cudaPointerAttributes attributes{};
  const cudaError_t error = cudaPointerGetAttributes(&attributes, memory);
  if (error == cudaErrorInvalidValue) {
    cudaGetLastError();
    attributes.type = cudaMemoryTypeUnregistered;
  } else if (error != cudaSuccess) {
    return device->Check(error, "asking what a pointer is");
  }
  if (attributes.type == cudaMemoryTypeManaged) return DSOPT_OK;
  if (attributes.type == cudaMemoryTypeDevice && attributes.device == device->index) return DSOPT_OK;
  if (attributes.type == cudaMemoryTypeHost && attributes.devicePointer == memory) return DSOPT_OK;
  if (attributes.type == cudaMemoryTypeDevice)
    return Fail(device->host, DSOPT_E_INVALID_ARGUMENT, "%p is memory of cuda:%d, memory of cuda:%d expected",
                memory, attributes.device, device->index);
  return Fail(device->host, DSOPT_E_INVALID_ARGUMENT,
              "%p is %s, device memory of cuda:%d, managed or mapped pinned memory expected", memory,
              KindOf(attributes.type), device->index);
}

dsopt_status OpWorkspace(dsopt_be_device* device, dsopt_op op, const void* args, uint64_t* bytes,
                         const char** kernel) {
  OpContext context = {device, {nullptr, &device->limits}, Arena(nullptr), ""};
  DSOPT_CUDA_RETURN_IF_ERROR(Dispatch(&context, op, args));
  *bytes = context.arena.bytes();
  *kernel = context.kernel;
  return DSOPT_OK;
}

dsopt_status OpRun(dsopt_be_device* device, dsopt_op op, const void* args, const dsopt_launch* launch) {
  const ScopedDevice current(device->index);
  // An operator without scratch: any base that is not null, which would mean counting.
  void* base = launch->workspace != nullptr ? launch->workspace : device;
  OpContext context = {device, {static_cast<cudaStream_t>(launch->stream), &device->limits}, Arena(base), ""};
  return Dispatch(&context, op, args);
}

}  // namespace dsopt_cuda
