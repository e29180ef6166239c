// program.cc - life of a program: everything it will ever need is made here. Its batches: batch.cc.
#include "program.h"

#include <algorithm>
#include <cstring>

using namespace dsopt_cuda;

namespace {

// Host memory from the host's allocator, pinned and mapped.
dsopt_status AllocatePinned(const dsopt_be_device& device, uint64_t bytes, char** out) {
  void* memory = device.host.allocator->alloc(device.host.allocator->user, bytes, 4096);
  if (memory == nullptr)
    return Fail(device.host, DSOPT_E_OUT_OF_MEMORY, "program: no host memory for %llu bytes of staging",
                static_cast<unsigned long long>(bytes));
  const dsopt_status pinned = device.Pin(memory, bytes, "pinning host memory of a program");
  if (pinned != DSOPT_OK) {
    device.host.allocator->free(device.host.allocator->user, memory, bytes, 4096);
    return pinned;
  }
  *out = static_cast<char*>(memory);
  return DSOPT_OK;
}
void FreePinned(const dsopt_be_device& device, uint64_t bytes, char* memory) {
  if (memory == nullptr) return;
  cudaHostUnregister(memory);
  device.host.allocator->free(device.host.allocator->user, memory, bytes, 4096);
}

}  // namespace

dsopt_status dsopt_be_program::Create(const dsopt_program_desc& description) {
  DSOPT_CUDA_RETURN_IF_ERROR(MakePlan(*device, description, &plan));
  const ScopedDevice current(device->index);
  desc = description;
  blocks.assign(description.blocks, description.blocks + description.block_count);
  page_stamps_.assign(description.page_count, 0);
  page_seqs_.assign(description.page_count, 0);
  writers_ = {page_stamps_.data(), page_seqs_.data(), 0};
  replays_.resize(kReplayStates);
  DSOPT_CUDA_RETURN_IF_ERROR(AllocateAll());
  DSOPT_CUDA_RETURN_IF_ERROR(UploadRopes(description));
  desc.blocks = blocks.data();
  desc.ropes = nullptr;
  buffers.resize(blocks.size());
  for (size_t i = 0; i < blocks.size(); ++i)
    LayOutBlock(device->limits, desc, blocks[i], plan.fast, At<char>(plan.branch), &buffers[i]);
  launch_ = {stream_, &device->limits};
  if (plan.persistent.kind != PersistentKind::kNone) DSOPT_CUDA_RETURN_IF_ERROR(PreparePersistent());
  if (plan.persistent.batch_rows != 0) DSOPT_CUDA_RETURN_IF_ERROR(PrepareBatch());
  return device->Check(cudaStreamSynchronize(stream_), "preparing a program");
}

dsopt_status dsopt_be_program::AllocateAll() {
  void* memory = nullptr;
  DSOPT_CUDA_RETURN_IF_ERROR(device->Allocate(plan.cache_bytes, "KV cache", &memory));
  cache_ = static_cast<char*>(memory);
  DSOPT_CUDA_RETURN_IF_ERROR(device->Allocate(plan.workspace_bytes, "program workspace", &memory));
  workspace_ = static_cast<char*>(memory);
  if (has_host_pages()) DSOPT_CUDA_RETURN_IF_ERROR(AllocateHostPages());
  DSOPT_CUDA_RETURN_IF_ERROR(AllocatePinned(*device, plan.input_bytes, &staging_));
  DSOPT_CUDA_RETURN_IF_ERROR(AllocatePinned(*device, plan.result_bytes, &results_));
  DSOPT_CUDA_RETURN_IF_ERROR(
      device->Check(cudaHostGetDevicePointer(&memory, results_, 0), "mapping the results of a program"));
  results_device_ = static_cast<char*>(memory);
  if (desc.native_stream != nullptr) {
    stream_ = static_cast<cudaStream_t>(desc.native_stream);
  } else {
    DSOPT_CUDA_RETURN_IF_ERROR(
        device->Check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "creating a stream"));
    owns_stream_ = true;
  }
  DSOPT_CUDA_RETURN_IF_ERROR(
      device->Check(cudaStreamCreateWithFlags(&capture_stream_, cudaStreamNonBlocking), "creating a stream"));
  for (cudaEvent_t* event : {&started_, &finished_, &slice_started_, &slice_done_})
    DSOPT_CUDA_RETURN_IF_ERROR(device->Check(cudaEventCreate(event), "creating an event"));
  // Masked keys are multiplied by zero, so what was never written must be finite.
  if (plan.cache_bytes != 0)
    DSOPT_CUDA_RETURN_IF_ERROR(
        device->Check(cudaMemsetAsync(cache_, 0, plan.cache_bytes, stream_), "clearing the KV cache"));
  return device->Check(cudaMemsetAsync(workspace_, 0, plan.workspace_bytes, stream_), "clearing the workspace");
}

dsopt_status dsopt_be_program::UploadRopes(const dsopt_program_desc& description) {
  uint64_t at = plan.ropes;
  ropes.reserve(description.rope_count);
  for (uint32_t i = 0; i < description.rope_count; ++i) {
    const dsopt_rope& rope = description.ropes[i];
    DSOPT_CUDA_RETURN_IF_ERROR(device->Check(
        cudaMemcpyAsync(At<char>(at), rope.inv_freq, rope.dim / 2 * 4, cudaMemcpyHostToDevice, stream_),
        "uploading rotary frequencies"));
    ropes.push_back({At<float>(at), static_cast<int>(rope.dim), rope.interleaved != 0, rope.scale});
    at += (rope.dim / 2 + 63) / 64 * 64 * 4;
  }
  // The source is the caller's memory.
  return device->Check(cudaStreamSynchronize(stream_), "uploading rotary frequencies");
}

void dsopt_be_program::Destroy() {
  const ScopedDevice current(device->index);
  if (stream_ != nullptr) cudaStreamSynchronize(stream_);
  for (ReplayState& state : replays_) DropGraph(&state);
  if (capture_stream_ != nullptr) cudaStreamDestroy(capture_stream_);
  for (cudaEvent_t event : {started_, finished_, slice_started_, slice_done_})
    if (event != nullptr) cudaEventDestroy(event);
  device->Free(cache_, plan.cache_bytes);
  FreeHostPages();
  device->Free(workspace_, plan.workspace_bytes);
  FreePinned(*device, plan.input_bytes, staging_);
  FreePinned(*device, plan.result_bytes, results_);
  if (owns_stream_) cudaStreamDestroy(stream_);
}
