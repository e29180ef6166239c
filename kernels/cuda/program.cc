// program.cc - life of a program and of its batches: create, begin (pack and upload), advance (submit and
// query, never block), cancel, pages.
#include "program.h"

#include <time.h>

#include <algorithm>
#include <cstring>

using namespace dsopt_cuda;

namespace {

uint64_t NowNs() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1000000000u + static_cast<uint64_t>(t.tv_nsec);
}

// Host memory from the host's allocator, pinned and mapped.
dsopt_status AllocatePinned(const dsopt_be_device& device, uint64_t bytes, char** out) {
  void* memory = device.host.allocator->alloc(device.host.allocator->user, bytes, 4096);
  if (memory == nullptr)
    return Fail(device.host, DSOPT_E_OUT_OF_MEMORY, "program: no host memory for %llu bytes of staging",
                static_cast<unsigned long long>(bytes));
  const cudaError_t error = cudaHostRegister(memory, bytes, cudaHostRegisterPortable | cudaHostRegisterMapped);
  if (error != cudaSuccess) {
    device.host.allocator->free(device.host.allocator->user, memory, bytes, 4096);
    return device.Check(error, "pinning host memory of a program");
  }
  *out = static_cast<char*>(memory);
  return DSOPT_OK;
}
void FreePinned(const dsopt_be_device& device, uint64_t bytes, char* memory) {
  if (memory == nullptr) return;
  cudaHostUnregister(memory);
  device.host.allocator->free(device.host.allocator->user, memory, bytes, 4096);
}

DenseMatrix MatrixOf(const dsopt_be_weight& weight) {
  if (weight.elem != Elem::kPacked) return {weight.data, nullptr, nullptr, nullptr};
  const PackedWeight& packed = weight.packed;
  return {packed.data, packed.row_scales, packed.overflow_first, packed.overflow};
}

// Sequences with at most so many rows go row by row through the decode kernel.
constexpr int kDecodeRows = 4;

}  // namespace

dsopt_status dsopt_be_program::Create(const dsopt_program_desc& description) {
  DSOPT_CUDA_RETURN_IF_ERROR(MakePlan(*device, description, &plan));
  const ScopedDevice current(device->index);
  desc = description;
  blocks.assign(description.blocks, description.blocks + description.block_count);
  DSOPT_CUDA_RETURN_IF_ERROR(AllocateAll());
  DSOPT_CUDA_RETURN_IF_ERROR(UploadRopes(description));
  desc.blocks = blocks.data();
  desc.ropes = nullptr;
  buffers.resize(blocks.size());
  for (size_t i = 0; i < blocks.size(); ++i)
    LayOutBlock(device->limits, desc, blocks[i], plan.fast, At<char>(plan.branch), &buffers[i]);
  launch_ = {stream_, &device->limits};
  if (plan.persistent) DSOPT_CUDA_RETURN_IF_ERROR(PreparePersistent());
  return device->Check(cudaStreamSynchronize(stream_), "preparing a program");
}

dsopt_status dsopt_be_program::AllocateAll() {
  void* memory = nullptr;
  DSOPT_CUDA_RETURN_IF_ERROR(device->Allocate(plan.cache_bytes, "KV cache", &memory));
  cache_ = static_cast<char*>(memory);
  DSOPT_CUDA_RETURN_IF_ERROR(device->Allocate(plan.workspace_bytes, "program workspace", &memory));
  workspace_ = static_cast<char*>(memory);
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
  for (cudaEvent_t* event : {&started_, &finished_, &slice_started_, &slice_done_})
    DSOPT_CUDA_RETURN_IF_ERROR(device->Check(cudaEventCreate(event), "creating an event"));
  // Masked keys are multiplied by zero, so what was never written must be finite.
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

// Tables and buffers of the persistent kernel.
dsopt_status dsopt_be_program::PreparePersistent() {
  const dsopt_attention_block& first = blocks[1].u.attention;
  HostVector<DenseLayer> layers((HostAllocator<DenseLayer>(device->host.allocator)));
  for (size_t i = 1; i + 1 < blocks.size(); i += 2) {
    const dsopt_attention_block& a = blocks[i].u.attention;
    DenseLayer layer = {};
    layer.qkv = MatrixOf(*a.qkv);
    layer.out = MatrixOf(*a.out);
    layer.attention_norm = static_cast<const float*>(a.norm->data);
    layer.cache_offset = a.cache_offset;
    layer.window = static_cast<int>(a.window);
    if (blocks[i + 1].kind == DSOPT_BLOCK_MOE) {
      const dsopt_moe_block& m = blocks[i + 1].u.moe;
      layer.gate_up = MatrixOf(*m.gate_up);
      layer.down = MatrixOf(*m.down);
      layer.mlp_norm = static_cast<const float*>(m.norm->data);
      layer.router = static_cast<const float*>(m.router->data);
      dense_.renormalise = m.renormalise;
      dense_.route_scale = m.route_scale == 0.0f ? 1.0f : m.route_scale;
    } else {
      const dsopt_mlp_block& m = blocks[i + 1].u.mlp;
      layer.gate_up = MatrixOf(*m.gate_up);
      layer.down = MatrixOf(*m.down);
      layer.mlp_norm = static_cast<const float*>(m.norm->data);
    }
    layers.push_back(layer);
  }
  dense_.layers = At<DenseLayer>(plan.dense_layers);
  const dsopt_be_weight& table = *blocks.front().u.embed.table;
  dense_.embed = table.data;
  dense_.embedded = table.elem == Elem::kPacked ? At<float>(plan.x) : nullptr;
  dense_.head = MatrixOf(*blocks.back().u.head.weight);
  dense_.final_norm = static_cast<const float*>(blocks.back().u.head.norm->data);
  dense_.inv_freq = ropes[first.rope].inv_freq;
  dense_.cache = cache_;
  dense_.page_bytes = desc.page_bytes;
  dense_.activations = At<float>(plan.dense_activations);
  dense_.partial = At<float>(plan.dense_partial);
  dense_.counters = At<uint32_t>(plan.dense_counters);
  dense_.logits = At<float>(plan.logits);
  const float embed_scale = blocks.front().u.embed.scale;
  dense_.embed_scale = embed_scale != 0.0f ? embed_scale : 1.0f;
  dense_.rope_scale = ropes[first.rope].scale;
  dense_.score_scale =
      first.scale != 0.0f ? first.scale : 1.0f / __builtin_sqrtf(static_cast<float>(first.head_dim));
  dense_.norm_eps = first.norm_eps;
  DSOPT_CUDA_RETURN_IF_ERROR(
      device->Check(cudaMemcpyAsync(At<char>(plan.dense_layers), layers.data(),
                                    layers.size() * sizeof(DenseLayer), cudaMemcpyHostToDevice, stream_),
                    "uploading the layer table"));
  DSOPT_CUDA_RETURN_IF_ERROR(device->Check(
      cudaMemsetAsync(dense_.activations, 0xff, plan.dense_marked_bytes, stream_), "marking activations"));
  return device->Check(cudaStreamSynchronize(stream_), "uploading the layer table");
}

void dsopt_be_program::Destroy() {
  const ScopedDevice current(device->index);
  if (stream_ != nullptr) cudaStreamSynchronize(stream_);
  for (cudaEvent_t event : {started_, finished_, slice_started_, slice_done_})
    if (event != nullptr) cudaEventDestroy(event);
  device->Free(cache_, plan.cache_bytes);
  device->Free(workspace_, plan.workspace_bytes);
  FreePinned(*device, plan.input_bytes, staging_);
  FreePinned(*device, plan.result_bytes, results_);
  if (owns_stream_) cudaStreamDestroy(stream_);
}

dsopt_status dsopt_be_program::CheckBatch(const dsopt_batch& b) const {
  const dsopt_host_api& host = device->host;
  if (b.rows == 0 || b.rows > desc.max_rows || b.seqs == 0 || b.seqs > desc.max_seqs ||
      b.logit_rows > desc.max_logit_rows || b.adjust_count > desc.max_adjust ||
      b.history_count > desc.max_history)
    return dsopt_cuda::Fail(
        host, DSOPT_E_INVALID_ARGUMENT,
        "batch: %u rows, %u sequences, %u logit rows, %u biases, %u penalties; at most %u, %u, "
        "%u, %u, %u expected",
        b.rows, b.seqs, b.logit_rows, b.adjust_count, b.history_count, desc.max_rows, desc.max_seqs,
        desc.max_logit_rows, desc.max_adjust, desc.max_history);
  for (uint32_t r = 0; r < b.rows; ++r) {
    const int32_t seq = b.row_seq[r], position = b.positions[r], token = b.tokens[r];
    const bool next_seq = r == 0 ? seq == 0 : seq == b.row_seq[r - 1] + 1;
    const bool same_seq = r > 0 && seq == b.row_seq[r - 1] && position == b.positions[r - 1] + 1;
    if (token < 0 || static_cast<uint32_t>(token) >= desc.vocab || position < 0 || !(next_seq || same_seq) ||
        static_cast<uint32_t>(seq) >= b.seqs)
      return dsopt_cuda::Fail(host, DSOPT_E_INVALID_ARGUMENT,
                              "batch: row %u has token %d, sequence %d, position %d: not possible there", r,
                              token, seq, position);
    const uint32_t page = static_cast<uint32_t>(position) / kPageTokens;
    if (page >= b.page_table_stride || page >= desc.max_pages_per_seq)
      return dsopt_cuda::Fail(host, DSOPT_E_INVALID_ARGUMENT,
                              "batch: row %u is at position %d, past its page table", r, position);
    const bool last = r + 1 == b.rows || b.row_seq[r + 1] != seq;
    for (uint32_t i = 0; last && i <= page; ++i) {
      const int32_t id = b.page_table[static_cast<uint64_t>(seq) * b.page_table_stride + i];
      if (id < 0 || static_cast<uint32_t>(id) >= desc.page_count)
        return dsopt_cuda::Fail(host, DSOPT_E_INVALID_ARGUMENT,
                                "batch: sequence %d has page %d at %u, 0 to %u expected", seq, id, i,
                                desc.page_count - 1);
    }
  }
  for (uint32_t i = 0; i < b.logit_rows; ++i) {
    const dsopt_sample_row& s = b.sample[i];
    const bool target =
        s.mode != DSOPT_SCORE || (s.target >= 0 && static_cast<uint32_t>(s.target) < desc.vocab);
    if (s.row < 0 || static_cast<uint32_t>(s.row) >= b.rows || (i > 0 && s.row <= b.sample[i - 1].row) ||
        !target || s.top_logprobs > DSOPT_MAX_TOP_LOGPROBS || s.adjust_count > b.adjust_count ||
        s.adjust_first > b.adjust_count - s.adjust_count || s.history_count > b.history_count ||
        s.history_first > b.history_count - s.history_count)
      return dsopt_cuda::Fail(host, DSOPT_E_INVALID_ARGUMENT, "batch: sample entry %u (row %d) is not possible",
                              i, s.row);
  }
  for (uint32_t i = 0; i < b.adjust_count + b.history_count; ++i) {
    const int32_t token = i < b.adjust_count ? b.adjust_tokens[i] : b.history_tokens[i - b.adjust_count];
    if (token < 0 || static_cast<uint32_t>(token) >= desc.vocab)
      return dsopt_cuda::Fail(host, DSOPT_E_INVALID_ARGUMENT,
                              "batch: token %d in biases or penalties, 0 to %u expected", token,
                              desc.vocab - 1);
  }
  return DSOPT_OK;
}

// Lays the batch out in pinned memory, with the work lists of attention, and queues one copy.
dsopt_status dsopt_be_program::PackBatch(const dsopt_batch& b) {
  BatchState s;
  s.rows = static_cast<int>(b.rows);
  s.seqs = static_cast<int>(b.seqs);
  s.logit_rows = static_cast<int>(b.logit_rows);
  for (uint32_t r = 0; r < b.rows; ++r) s.longest = std::max(s.longest, b.positions[r] + 1);
  s.page_stride = (s.longest + kPageTokens - 1) / kPageTokens;
  const InputCounts counts = {b.rows,
                              b.seqs,
                              b.logit_rows,
                              b.adjust_count,
                              b.history_count,
                              b.rows,
                              2 * (b.rows / uint64_t{kPrefillRows} + b.seqs),
                              static_cast<uint64_t>(s.page_stride)};
  const InputLayout l = LayOutInput(counts);
  const auto put = [&](uint64_t offset, const void* src, uint64_t bytes) {
    if (bytes != 0) std::memcpy(staging_ + offset, src, bytes);
  };
  put(l.tokens, b.tokens, b.rows * uint64_t{4});
  put(l.positions, b.positions, b.rows * uint64_t{4});
  put(l.row_seq, b.row_seq, b.rows * uint64_t{4});
  put(l.sample, b.sample, b.logit_rows * sizeof(dsopt_sample_row));
  put(l.adjust_tokens, b.adjust_tokens, b.adjust_count * uint64_t{4});
  put(l.adjust_bias, b.adjust_bias, b.adjust_count * uint64_t{4});
  put(l.history_tokens, b.history_tokens, b.history_count * uint64_t{4});
  put(l.history_counts, b.history_counts, b.history_count * uint64_t{4});
  int* logit_rows = reinterpret_cast<int*>(staging_ + l.logit_rows);
  for (uint32_t i = 0; i < b.logit_rows; ++i) logit_rows[i] = b.sample[i].row;
  int* decode_rows = reinterpret_cast<int*>(staging_ + l.decode_rows);
  int4* tiles = reinterpret_cast<int4*>(staging_ + l.tiles);
  int4* mla_tiles = tiles + (b.rows / kPrefillRows + b.seqs);
  int* table = reinterpret_cast<int*>(staging_ + l.page_table);
  for (int first = 0; first < s.rows;) {
    const int seq = b.row_seq[first];
    int end = first;
    while (end < s.rows && b.row_seq[end] == seq) ++end;
    std::memcpy(table + static_cast<int64_t>(seq) * s.page_stride,
                b.page_table + static_cast<uint64_t>(seq) * b.page_table_stride,
                std::min<uint64_t>(static_cast<uint64_t>(s.page_stride), b.page_table_stride) * 4);
    const bool single = end - first <= kDecodeRows;
    for (int row = first; single && row < end; ++row) {
      decode_rows[s.decode_count++] = row;
      s.longest_decode = std::max(s.longest_decode, b.positions[row] + 1);
    }
    for (int row = first; row < end; row += kPrefillRows) {
      const int4 tile = {row, std::min(kPrefillRows, end - row), b.positions[row], 0};
      if (!single) tiles[s.tile_count++] = tile;
      mla_tiles[s.mla_tile_count++] = tile;
      s.mla_tile_rows = std::max(s.mla_tile_rows, tile.y);
    }
    first = end;
  }
  char* input = At<char>(plan.input);
  s.tokens = reinterpret_cast<const int*>(input + l.tokens);
  s.positions = reinterpret_cast<const int*>(input + l.positions);
  s.row_seq = reinterpret_cast<const int*>(input + l.row_seq);
  s.logit_rows_list = reinterpret_cast<const int*>(input + l.logit_rows);
  s.sample = reinterpret_cast<const dsopt_sample_row*>(input + l.sample);
  s.adjust_tokens = reinterpret_cast<const int*>(input + l.adjust_tokens);
  s.adjust_bias = reinterpret_cast<const float*>(input + l.adjust_bias);
  s.history_tokens = reinterpret_cast<const int*>(input + l.history_tokens);
  s.history_counts = reinterpret_cast<const uint32_t*>(input + l.history_counts);
  s.decode_rows = reinterpret_cast<const int*>(input + l.decode_rows);
  s.tiles = reinterpret_cast<const int4*>(input + l.tiles);
  s.mla_tiles = s.tiles + (b.rows / kPrefillRows + b.seqs);
  s.page_table = reinterpret_cast<const int*>(input + l.page_table);
  batch_ = s;
  DSOPT_CUDA_RETURN_IF_ERROR(device->Check(cudaEventRecord(started_, stream_), "starting a batch"));
  return device->Check(cudaMemcpyAsync(input, staging_, l.end, cudaMemcpyHostToDevice, stream_),
                       "uploading a batch");
}

dsopt_status dsopt_be_program::Begin(const dsopt_batch& batch) {
  if (phase_ == Phase::kSubmitting || phase_ == Phase::kRunning)
    return dsopt_cuda::Fail(device->host, DSOPT_E_INVALID_STATE, "program_begin: a batch is still running");
  DSOPT_CUDA_RETURN_IF_ERROR(CheckBatch(batch));
  const ScopedDevice current(device->index);
  const dsopt_status status = PackBatch(batch);
  if (status != DSOPT_OK) return Fail(status);
  phase_ = Phase::kSubmitting;
  next_block_ = 0;
  slice_pending_ = false;
  submitted_ns_ = NowNs();
  persistent_batch_ = plan.persistent && batch_.rows == 1 && batch_.logit_rows == 1;
  if (desc.slice_us != 0 && batch_ns_[0] > 1000.0 * desc.slice_us) persistent_batch_ = false;
  return DSOPT_OK;
}

dsopt_status dsopt_be_program::Fail(dsopt_status status) {
  phase_ = Phase::kIdle;
  slice_pending_ = false;
  return status;
}

// Submits blocks until the batch, the slice or the deadline ends.
dsopt_status dsopt_be_program::SubmitSlice(uint64_t deadline_ns) {
  const uint32_t count = static_cast<uint32_t>(blocks.size());
  const double estimate = block_ns_[batch_.rows > kSkinnyRows];
  const bool sliced = desc.slice_us != 0;
  if (sliced) DSOPT_CUDA_RETURN_IF_ERROR(device->Check(cudaEventRecord(slice_started_, stream_), "submitting"));
  slice_blocks_ = 0;
  if (persistent_batch_) {
    const cudaError_t error = RecordPersistent();
    if (error ==
        cudaErrorCooperativeLaunchTooLarge) {  // fewer SMs for us than the device has: kernel by kernel then
      cudaGetLastError();
      plan.persistent = persistent_batch_ = false;
    } else {
      DSOPT_CUDA_RETURN_IF_ERROR(device->Check(error, "launching the persistent kernel"));
      DSOPT_CUDA_RETURN_IF_ERROR(device->Check(RecordSample(), "launching the sampler"));
      next_block_ = count;
    }
  }
  while (next_block_ < count) {
    DSOPT_CUDA_RETURN_IF_ERROR(Record(next_block_));
    ++next_block_;
    ++slice_blocks_;
    if (sliced && (estimate + 1.0) * (slice_blocks_ + 1) > 1000.0 * desc.slice_us) break;
    if (!sliced && (slice_blocks_ & 7u) == 0 && deadline_ns != 0 && NowNs() > deadline_ns) break;
  }
  if (next_block_ == count) {
    phase_ = Phase::kRunning;
    DSOPT_CUDA_RETURN_IF_ERROR(device->Check(cudaEventRecord(finished_, stream_), "submitting"));
  }
  if (sliced) {
    slice_pending_ = true;
    return device->Check(cudaEventRecord(slice_done_, stream_), "submitting");
  }
  return DSOPT_OK;
}

dsopt_status dsopt_be_program::Advance(uint64_t deadline_ns, uint64_t* wait_us) {
  uint64_t unused = 0;
  if (wait_us == nullptr) wait_us = &unused;
  *wait_us = 0;
  if (phase_ == Phase::kDone) return DSOPT_OK;
  if (phase_ == Phase::kIdle)
    return dsopt_cuda::Fail(device->host, DSOPT_E_INVALID_STATE, "program_advance: no batch was begun");
  const ScopedDevice current(device->index);
  const int kind = batch_.rows > kSkinnyRows;
  if (phase_ == Phase::kSubmitting) {
    if (slice_pending_) {
      const cudaError_t state = cudaEventQuery(slice_done_);
      if (state == cudaErrorNotReady) {
        *wait_us = std::max<uint64_t>(20, desc.slice_us / 8);
        return DSOPT_PENDING;
      }
      if (state != cudaSuccess) return Fail(device->Check(state, "a slice of a batch"));
      float ms = 0;
      if (cudaEventElapsedTime(&ms, slice_started_, slice_done_) == cudaSuccess && slice_blocks_ > 0)
        block_ns_[kind] = 1e6 * static_cast<double>(ms) / slice_blocks_;
      slice_pending_ = false;
    }
    const dsopt_status status = SubmitSlice(deadline_ns);
    if (status != DSOPT_OK) return Fail(status);
    if (phase_ == Phase::kSubmitting) return DSOPT_PENDING;
  }
  const cudaError_t state = cudaEventQuery(finished_);
  if (state == cudaSuccess) {
    float ms = 0;
    if (cudaEventElapsedTime(&ms, started_, finished_) == cudaSuccess)
      batch_ns_[kind] = 1e6 * static_cast<double>(ms);
    phase_ = Phase::kDone;
    return DSOPT_OK;
  }
  if (state != cudaErrorNotReady) return Fail(device->Check(state, "a batch"));
  const double left_us = (batch_ns_[kind] - static_cast<double>(NowNs() - submitted_ns_)) / 1000.0;
  *wait_us = left_us > 10.0 ? static_cast<uint64_t>(left_us) : 10;
  return DSOPT_PENDING;
}

dsopt_status dsopt_be_program::Result(dsopt_batch_result* result) {
  if (phase_ != Phase::kDone)
    return dsopt_cuda::Fail(device->host, DSOPT_E_INVALID_STATE, "program_result: no batch has finished");
  const uint64_t rows = desc.max_logit_rows;
  result->logit_rows = static_cast<uint32_t>(batch_.logit_rows);
  result->tokens = reinterpret_cast<const int32_t*>(results_);
  result->logprobs = reinterpret_cast<const float*>(results_ + rows * 4);
  result->top_tokens = reinterpret_cast<const int32_t*>(results_ + rows * 8);
  result->top_logprobs =
      reinterpret_cast<const float*>(results_ + rows * 8 + rows * 4 * DSOPT_MAX_TOP_LOGPROBS);
  result->device_ns = static_cast<uint64_t>(batch_ns_[batch_.rows > kSkinnyRows]);
  return DSOPT_OK;
}

dsopt_status dsopt_be_program::Cancel() {
  if (phase_ == Phase::kIdle) return DSOPT_OK;
  const ScopedDevice current(device->index);
  phase_ = Phase::kIdle;
  slice_pending_ = false;
  return device->Check(cudaStreamSynchronize(stream_), "cancelling a batch");
}

dsopt_status dsopt_be_program::ReadLogits(uint32_t index, float* dst) {
  if (phase_ != Phase::kDone || index >= static_cast<uint32_t>(batch_.logit_rows))
    return dsopt_cuda::Fail(device->host, DSOPT_E_INVALID_STATE, "program_read_logits: entry %u of %d", index,
                            phase_ == Phase::kDone ? batch_.logit_rows : 0);
  const ScopedDevice current(device->index);
  DSOPT_CUDA_RETURN_IF_ERROR(
      device->Check(cudaMemcpyAsync(dst, At<float>(plan.logits) + uint64_t{index} * desc.vocab,
                                    uint64_t{desc.vocab} * 4, cudaMemcpyDeviceToHost, stream_),
                    "reading logits"));
  return device->Check(cudaStreamSynchronize(stream_), "reading logits");
}

dsopt_status dsopt_be_program::CopyPage(uint32_t dst, uint32_t src) {
  if (dst >= desc.page_count || src >= desc.page_count || phase_ == Phase::kSubmitting ||
      phase_ == Phase::kRunning)
    return dsopt_cuda::Fail(device->host, DSOPT_E_INVALID_ARGUMENT,
                            "program_copy_page: %u to %u of %u pages, while no batch runs", src, dst,
                            desc.page_count);
  const ScopedDevice current(device->index);
  DSOPT_CUDA_RETURN_IF_ERROR(
      device->Check(cudaMemcpyAsync(cache_ + dst * desc.page_bytes, cache_ + src * desc.page_bytes,
                                    desc.page_bytes, cudaMemcpyDeviceToDevice, stream_),
                    "copying a page"));
  return device->Check(cudaStreamSynchronize(stream_), "copying a page");
}

dsopt_status dsopt_be_program::MovePage(uint32_t page, void* host_memory, bool to_host) {
  if (page >= desc.page_count || phase_ == Phase::kSubmitting || phase_ == Phase::kRunning)
    return dsopt_cuda::Fail(device->host, DSOPT_E_INVALID_ARGUMENT,
                            "program: page %u of %u, while no batch runs", page, desc.page_count);
  const ScopedDevice current(device->index);
  char* at = cache_ + page * desc.page_bytes;
  const cudaError_t error =
      cudaMemcpyAsync(to_host ? host_memory : at, to_host ? at : host_memory, desc.page_bytes,
                      to_host ? cudaMemcpyDeviceToHost : cudaMemcpyHostToDevice, stream_);
  DSOPT_CUDA_RETURN_IF_ERROR(device->Check(error, "moving a page"));
  return device->Check(cudaStreamSynchronize(stream_), "moving a page");
}
