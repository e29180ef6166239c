// batch.cc - a program's batches: begin (check, pack, upload), advance (submit and query, never block), results,
// cancel, and the pages of the cache between batches.
#include <time.h>

#include <algorithm>
#include <cstring>

#include "program.h"

using namespace dsopt_cuda;

namespace {

// Blocks of the first slice, before their time is known: the embedding and a layer.
constexpr uint32_t kFirstSliceBlocks = 3;

uint64_t NowNs() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1000000000u + static_cast<uint64_t>(t.tv_nsec);
}

// The first of least, 2 least, 4 least, ... that is not less than count; no more than most.
uint64_t RoundUp(uint64_t count, uint64_t least, uint64_t most) {
  uint64_t bucket = least;
  while (bucket < count) bucket *= 2;
  return std::min(bucket, most);
}

// Pages for a context: 4, 8, 16, and from there on 24, 32, 48, 64, ... Few, so that steps of a growing context seldom
// come to a new one; not fewer, because attention cuts its keys as if the context were so long.
uint64_t RoundUpPages(uint64_t pages, uint64_t most) {
  const uint64_t bucket = RoundUp(pages, 4, most), between = bucket / 4 * 3;
  return bucket > 16 && pages <= between ? between : bucket;
}

}  // namespace

// Lays the batch out in pinned memory, with the work lists of attention, and queues one copy.
dsopt_status dsopt_be_program::PackBatch(const dsopt_batch& b) {
  BatchState s;
  s.rows = static_cast<int>(b.rows);
  s.seqs = static_cast<int>(b.seqs);
  s.logit_rows = static_cast<int>(b.logit_rows);
  int run = 0, most_of_seq = 0;
  for (uint32_t r = 0; r < b.rows; ++r) {
    s.longest = std::max(s.longest, b.positions[r] + 1);
    run = r > 0 && b.row_seq[r] == b.row_seq[r - 1] ? run + 1 : 1;
    most_of_seq = std::max(most_of_seq, run);
  }
  s.single_rows = most_of_seq == 1;
  s.few_rows = s.rows <= kSkinnyRows && most_of_seq <= kDecodeRows;
  uint64_t pages = (static_cast<uint64_t>(s.longest) + kPageTokens - 1) / kPageTokens;
  uint64_t adjust = b.adjust_count, history = b.history_count;
  if (s.few_rows) {  // what changes from step to step is rounded, so that most steps are like the one before
    pages = RoundUpPages(pages, desc.max_pages_per_seq);
    adjust = RoundUp(adjust, 64, desc.max_adjust);
    history = RoundUp(history, 64, desc.max_history);
    s.longest = static_cast<int>(pages) * kPageTokens;
  }
  s.page_stride = static_cast<int>(pages);
  const InputCounts counts = {b.rows,
                              b.seqs,
                              b.logit_rows,
                              adjust,
                              history,
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
    int* own = table + static_cast<int64_t>(seq) * s.page_stride;
    const uint64_t known = std::min<uint64_t>(pages, b.page_table_stride);
    std::memcpy(own, b.page_table + static_cast<uint64_t>(seq) * b.page_table_stride, known * 4);
    std::fill(own + known, own + pages, -1);
    if (has_host_pages()) TranslatePages(own, known);
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
  if (s.few_rows) s.longest_decode = s.longest;
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
  s.host_row_seq = reinterpret_cast<const int*>(staging_ + l.row_seq);
  s.host_page_table = table;
  s.host_tiles = tiles;
  s.host_mla_tiles = mla_tiles;
  s.page_table = reinterpret_cast<const int*>(input + l.page_table);
  batch_ = s;
  DSOPT_CUDA_RETURN_IF_ERROR(device->Check(cudaEventRecord(started_, stream_), "starting a batch"));
  return device->Check(cudaMemcpyAsync(input, staging_, l.end, cudaMemcpyHostToDevice, stream_),
                       "uploading a batch");
}

dsopt_status dsopt_be_program::Begin(const dsopt_batch& batch) {
  if (phase_ == Phase::kSubmitting || phase_ == Phase::kRunning)
    return dsopt_cuda::Fail(device->host, DSOPT_E_INVALID_STATE, "program_begin: a batch is still running");
  // Window 0: every page up to a row's own must be there, whatever the windows of the blocks are.
  DSOPT_CUDA_RETURN_IF_ERROR(dsopt_shared::CheckBatch(device->host, desc, 0, &writers_, batch));
  const ScopedDevice current(device->index);
  // What is left of a batch that failed may still read the staging memory.
  if (undrained_) DSOPT_CUDA_RETURN_IF_ERROR(device->Check(cudaStreamSynchronize(stream_), "after a failed batch"));
  undrained_ = replayed_ = false;
  const dsopt_status status = PackBatch(batch);
  if (status != DSOPT_OK) return Fail(status);
  phase_ = Phase::kSubmitting;
  next_block_ = 0;
  slice_pending_ = false;
  submitted_ns_ = NowNs();
  path_ = Path::kBlocks;
  if (desc.slice_us == 0 || batch_ns_[0] <= 1000.0 * desc.slice_us) {
    if (plan.persistent.kind != PersistentKind::kNone && batch_.rows == 1 && batch_.logit_rows == 1)
      path_ = Path::kStep;
    else if (batch_.single_rows && batch_.rows <= plan.persistent.batch_rows)
      path_ = Path::kLayers;
  }
  return DSOPT_OK;
}

dsopt_status dsopt_be_program::Fail(dsopt_status status) {
  phase_ = Phase::kIdle;
  slice_pending_ = false;
  undrained_ = true;
  return status;
}

// Mean device time of the blocks of the slice that has ended with `end`.
void dsopt_be_program::MeasureSlice(cudaEvent_t end) {
  float ms = 0;
  if (slice_blocks_ == 0) return;
  if (cudaEventElapsedTime(&ms, slice_started_, end) != cudaSuccess) cudaGetLastError();
  else block_ns_[batch_.rows > kSkinnyRows] = 1e6 * static_cast<double>(ms) / slice_blocks_;
}

// Submits blocks until the batch, the slice or the deadline ends.
dsopt_status dsopt_be_program::SubmitSlice(uint64_t deadline_ns) {
  const uint32_t count = static_cast<uint32_t>(blocks.size());
  const double estimate = block_ns_[batch_.rows > kSkinnyRows];
  const bool sliced = desc.slice_us != 0;
  if (sliced) DSOPT_CUDA_RETURN_IF_ERROR(device->Check(cudaEventRecord(slice_started_, stream_), "submitting"));
  slice_blocks_ = 0;
  if (path_ != Path::kBlocks) {
    const cudaError_t error = path_ == Path::kStep ? RecordPersistent() : RecordLayers();
    if (error == cudaErrorCooperativeLaunchTooLarge) {  // fewer SMs for us than the device has: kernel by kernel then
      cudaGetLastError();
      plan.persistent.kind = PersistentKind::kNone;
      plan.persistent.batch_rows = 0;
      path_ = Path::kBlocks;
    } else {
      DSOPT_CUDA_RETURN_IF_ERROR(device->Check(error, "launching the persistent kernel"));
      const char* what = "launching the sampler";
      const cudaError_t rest = path_ == Path::kStep ? RecordSample() : Record(count - 1, &what);
      DSOPT_CUDA_RETURN_IF_ERROR(device->Check(rest, what));
      next_block_ = count;
    }
  }
  if (next_block_ == 0) {
    DSOPT_CUDA_RETURN_IF_ERROR(Replay());
    if (replayed_) next_block_ = slice_blocks_ = count;
  }
  while (next_block_ < count) {
    const char* what = nullptr;
    const cudaError_t error = Record(next_block_, &what);
    DSOPT_CUDA_RETURN_IF_ERROR(device->Check(error, what));
    ++next_block_;
    ++slice_blocks_;
    if (sliced && estimate == 0 && slice_blocks_ == kFirstSliceBlocks) break;
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
        cudaGetLastError();  // it counts as an error for who asks next
        *wait_us = std::max<uint64_t>(20, desc.slice_us / 8);
        return DSOPT_PENDING;
      }
      if (state != cudaSuccess) return Fail(device->Check(state, "a slice of a batch"));
      MeasureSlice(slice_done_);
      slice_pending_ = false;
    }
    const dsopt_status status = SubmitSlice(deadline_ns);
    if (status != DSOPT_OK) return Fail(status);
    if (phase_ == Phase::kSubmitting) return DSOPT_PENDING;
  }
  const cudaError_t state = cudaEventQuery(finished_);
  if (state == cudaSuccess) {
    float ms = 0;
    if (cudaEventElapsedTime(&ms, started_, finished_) != cudaSuccess) cudaGetLastError();
    else batch_ns_[kind] = 1e6 * static_cast<double>(ms);
    if (slice_pending_) MeasureSlice(finished_);
    phase_ = Phase::kDone;
    return DSOPT_OK;
  }
  if (state != cudaErrorNotReady) return Fail(device->Check(state, "a batch"));
  cudaGetLastError();
  const double left_us = (batch_ns_[kind] - static_cast<double>(NowNs() - submitted_ns_)) / 1000.0;
  *wait_us = left_us > 10.0 ? static_cast<uint64_t>(left_us) : 10;
  return DSOPT_PENDING;
}

dsopt_status dsopt_be_program::Result(dsopt_batch_result* result) {
  if (phase_ != Phase::kDone)
    return dsopt_cuda::Fail(device->host, DSOPT_E_INVALID_STATE, "program_result: no batch is finished");
  const uint64_t rows = desc.max_logit_rows;
  dsopt_batch_result full{};
  full.logit_rows = static_cast<uint32_t>(batch_.logit_rows);
  full.tokens = reinterpret_cast<const int32_t*>(results_);
  full.logprobs = reinterpret_cast<const float*>(results_ + rows * 4);
  full.top_tokens = reinterpret_cast<const int32_t*>(results_ + rows * 8);
  full.top_logprobs = reinterpret_cast<const float*>(results_ + rows * 8 + rows * 4 * DSOPT_MAX_TOP_LOGPROBS);
  full.device_ns = static_cast<uint64_t>(batch_ns_[batch_.rows > kSkinnyRows]);
  full.replayed = replayed_ ? 1 : 0;
  if (!dsopt_shared::FillStruct(full, result))
    return dsopt_cuda::Fail(device->host, DSOPT_E_INVALID_ARGUMENT,
                            "program_result: the result is NULL or has no size");
  return DSOPT_OK;
}

dsopt_status dsopt_be_program::Cancel() {
  if (phase_ == Phase::kIdle) return DSOPT_OK;
  const ScopedDevice current(device->index);
  phase_ = Phase::kIdle;
  slice_pending_ = false;
  const cudaError_t error = cudaStreamSynchronize(stream_);
  undrained_ = error != cudaSuccess;
  return device->Check(error, "cancelling a batch");
}

dsopt_status dsopt_be_program::ReadLogits(uint32_t index, float* dst) {
  if (phase_ != Phase::kDone)
    return dsopt_cuda::Fail(device->host, DSOPT_E_INVALID_STATE, "program_read_logits: no batch is finished");
  if (index >= static_cast<uint32_t>(batch_.logit_rows) || dst == nullptr)
    return dsopt_cuda::Fail(device->host, DSOPT_E_INVALID_ARGUMENT, "program_read_logits: entry %u of %d%s", index,
                            batch_.logit_rows, dst == nullptr ? ", dst is NULL" : "");
  const ScopedDevice current(device->index);
  DSOPT_CUDA_RETURN_IF_ERROR(device->Check(
      cudaMemcpyAsync(dst, At<float>(plan.logits) + uint64_t{index} * desc.vocab, uint64_t{desc.vocab} * 4,
                      cudaMemcpyDeviceToHost, stream_),
      "reading logits"));
  return device->Check(cudaStreamSynchronize(stream_), "reading logits");
}

dsopt_status dsopt_be_program::CheckPage(uint32_t page, const void* memory, const char* what) const {
  if (phase_ == Phase::kSubmitting || phase_ == Phase::kRunning)
    return dsopt_cuda::Fail(device->host, DSOPT_E_INVALID_STATE, "%s: a batch is in flight", what);
  if (page >= desc.page_count || memory == nullptr)
    return dsopt_cuda::Fail(device->host, DSOPT_E_INVALID_ARGUMENT, "%s: page %u of %u%s", what, page,
                            desc.page_count, memory == nullptr ? ", memory is NULL" : "");
  return DSOPT_OK;
}

dsopt_status dsopt_be_program::CopyPage(uint32_t dst, uint32_t src) {
  DSOPT_CUDA_RETURN_IF_ERROR(CheckPage(dst, this, "program_copy_page"));
  DSOPT_CUDA_RETURN_IF_ERROR(CheckPage(src, this, "program_copy_page"));
  if (dst == src) return DSOPT_OK;
  const ScopedDevice current(device->index);
  DSOPT_CUDA_RETURN_IF_ERROR(device->Check(
      cudaMemcpyAsync(PageAddress(dst), PageAddress(src), desc.page_bytes, cudaMemcpyDefault, stream_),
      "copying a page"));
  return device->Check(cudaStreamSynchronize(stream_), "copying a page");
}

dsopt_status dsopt_be_program::MovePage(uint32_t page, void* host_memory, bool to_host) {
  DSOPT_CUDA_RETURN_IF_ERROR(
      CheckPage(page, host_memory, to_host ? "program_read_page" : "program_write_page"));
  const ScopedDevice current(device->index);
  char* at = PageAddress(page);
  const cudaError_t error = cudaMemcpyAsync(to_host ? host_memory : at, to_host ? at : host_memory, desc.page_bytes,
                                            cudaMemcpyDefault, stream_);
  DSOPT_CUDA_RETURN_IF_ERROR(device->Check(error, "moving a page"));
  return device->Check(cudaStreamSynchronize(stream_), "moving a page");
}
