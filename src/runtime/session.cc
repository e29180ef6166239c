// session.cc - the step loop. The order of reading: Poll, then what it calls.
#include "runtime/session.h"

#include <time.h>

#include <algorithm>

#include "base/clock.h"

namespace dsopt {
namespace {

constexpr uint64_t kSliceNs = 1000000;     // longest stretch between two looks at cancel and interrupt
constexpr uint64_t kWaitPollUs = 2000;     // budget of the polls inside Wait
constexpr uint64_t kLongestSleepUs = 500;  // of Wait, while a device works

void SleepUs(uint64_t us) {
  const timespec t = {static_cast<time_t>(us / 1000000), static_cast<long>(us % 1000000 * 1000)};
  nanosleep(&t, nullptr);
}

}  // namespace

// The whole life of a token: Schedule picks rows, Submit pushes them through the model, Harvest gives the
// sampled tokens to their streams, Deliver tells the host.
PollReport Session::Poll(uint64_t budget_us, bool until_event) {
  PollReport report;
  const uint64_t start_ns = NowNs();
  const uint64_t deadline_ns = DeadlineNs(start_ns, budget_us);
  // Without budget nothing is begun, but a device may have finished something since the last call.
  if (budget_us == 0 && asynchronous_) Submit(start_ns, &report);
  for (;;) {
    ApplyCancellations();
    Harvest(&report);
    Deliver(&report);
    if (interrupt_.load(std::memory_order_relaxed) || NowNs() >= deadline_ns) break;
    if (until_event) {
      CountStreams(&report);
      if (report.delivered_events + report.ready_events > 0) break;
    }
    if (!Schedule()) break;                    // nothing to do
    if (!Submit(deadline_ns, &report)) break;  // out of time, or the device is at work
  }
  CountStreams(&report);
  if (batch_.state != BatchState::kInFlight) report.suggested_wait_us = 0;
  report.interrupted = interrupt_.exchange(false, std::memory_order_relaxed);
  report.spent_us = (NowNs() - start_ns) / 1000;
  return report;
}

// Ends streams that were cancelled or released. A batch in which nobody is interested any more is stopped.
void Session::ApplyCancellations() {
  for (const std::shared_ptr<Stream>& stream : streams_) {
    if (stream->generating() && (stream->cancelled() || stream->released()))
      stream->Finish(DSOPT_FINISH_CANCELLED);
  }
  bool wanted = false;
  for (BatchSlot& slot : batch_.slots) {
    slot.dropped |= !slot.stream->generating();
    wanted |= !slot.dropped;
  }
  if (!wanted && batch_.state == BatchState::kInFlight) {
    if (Status status = AbandonBatch(); !status.ok()) FailBatch(status);
  }
}

void Session::Harvest(PollReport* report) {
  if (batch_.state == BatchState::kDead) {  // telling the streams had failed for want of memory
    return FailBatch(Error(DSOPT_E_INTERNAL, "batch: given up by the device"));
  }
  if (batch_.state != BatchState::kDone) return;
  dsopt_batch_result result;
  if (Status status = program_.GetResult(&result); !status.ok()) return FailBatch(status);
  for (const BatchSlot& slot : batch_.slots) {
    if (!slot.dropped) HarvestSlot(slot, result, report);
  }
  CountTime(result);
  batch_.Clear(&pool_);
}

void Session::HarvestSlot(const BatchSlot& slot, const dsopt_batch_result& result, PollReport* report) {
  Stream& stream = *slot.stream;
  stream.cache().Commit(slot.rows);
  const uint32_t scored = slot.sample_count - (slot.complete ? 1 : 0);
  for (uint32_t i = 0; i < scored; ++i) {  // the sample rows are the last ones of the slot
    const uint32_t position = slot.first + slot.rows - slot.sample_count + i;
    stream.SetLogprob(position + 1, result.logprobs[slot.first_sample + i]);
  }
  if (!slot.complete) return;
  const uint32_t index = slot.first_sample + slot.sample_count - 1;
  stream.logits_batch = batch_number_;
  stream.logits_index = index;
  if (stream.generation().prefill_only) return stream.FinishPrefill();
  const size_t first_top = static_cast<size_t>(index) * DSOPT_MAX_TOP_LOGPROBS;
  stream.Accept({result.tokens[index], result.logprobs[index], result.top_tokens + first_top,
                 result.top_logprobs + first_top});
  ++report->tokens_sampled;
}

// Hands events to the callbacks; streams without one keep theirs for dsopt_stream_read. No lock is held here.
void Session::Deliver(PollReport* report) {
  for (const std::shared_ptr<Stream>& stream : streams_) {
    const dsopt_event_fn on_event = stream->generation().on_event;
    dsopt_event event;
    while (on_event != nullptr && !stream->released() && stream->events().Read(&event)) {
      ++report->delivered_events;
      if (on_event(stream->generation().user, stream->handle, &event) != 0) stream->Cancel();
    }
  }
}

// Fills and begins the next batch. False: no stream wants anything. A stream that cannot get cache pages ends
// here.
bool Session::Schedule() {
  if (batch_.state != BatchState::kEmpty) return true;
  batch_.Clear(&pool_);  // what an allocation failure left half filled
  demands_.clear();
  demand_streams_.clear();
  for (uint32_t i = 0; i < streams_.size(); ++i) {
    const Stream& stream = *streams_[i];
    if (!stream.generating()) continue;
    demands_.push_back(
        {stream.pending_rows(), stream.generation().score, stream.generation().priority, stream.order()});
    demand_streams_.push_back(i);
  }
  if (demands_.empty()) return false;
  ChooseBatch(demands_, {desc_.max_rows, desc_.max_seqs, desc_.max_logit_rows}, &scratch_, &slices_);
  for (const BatchSlice& slice : slices_) AddSlice(streams_[demand_streams_[slice.stream]], slice);
  if (batch_.slots.empty()) return true;  // all of them failed: deliver that, then look again
  const dsopt_batch batch = batch_.Seal(&pool_);
  batch_begin_ns_ = NowNs();
  ++batch_number_;
  batch_.state = BatchState::kInFlight;
  if (Status status = program_.Begin(batch); !status.ok()) FailBatch(status);
  return true;
}

void Session::AddSlice(const std::shared_ptr<Stream>& stream, const BatchSlice& slice) {
  stream->PrepareForToken();
  SequenceCache& cache = stream->cache();
  PageCopy copy;
  if (!cache.Reserve(slice.rows, &copy)) {
    return stream->Fail(Error(DSOPT_E_DEVICE_MEMORY,
                              "cache: no free page for %u more tokens after %u; %u of %u pages are in use",
                              slice.rows, cache.tokens(), pool_.used_pages(), pool_.limit()));
  }
  if (copy.needed()) {
    if (Status status = program_.CopyPage(copy.to, copy.from); !status.ok()) {
      cache.Truncate(cache.tokens() / desc_.page_tokens *
                     desc_.page_tokens);  // without the page that has no content
      return stream->Fail(status);
    }
  }
  batch_.Add(stream, slice.rows, slice.logit_rows);
}

// Works on the batch in flight in slices of at most 1 ms. True: there is something to harvest or deliver.
bool Session::Submit(uint64_t deadline_ns, PollReport* report) {
  while (batch_.state == BatchState::kInFlight) {
    const uint64_t slice_ns = std::min(deadline_ns, NowNs() + kSliceNs);
    report->suggested_wait_us = 0;
    const dsopt_status code = program_.Advance(slice_ns, &report->suggested_wait_us);
    if (code == DSOPT_OK) {
      batch_.state = BatchState::kDone;
    } else if (code < 0) {
      batch_.state = BatchState::kDead;
      FailBatch(BackendStatus(code, "batch"));
    } else {
      if (asynchronous_ || NowNs() >= deadline_ns || interrupt_.load(std::memory_order_relaxed)) return false;
      ApplyCancellations();
    }
  }
  return true;
}

void Session::FailBatch(const Status& status) {
  batch_.state = BatchState::kDead;
  if (status.code() == DSOPT_E_DEVICE_LOST) lost_ = status;
  for (const BatchSlot& slot : batch_.slots) {
    if (!slot.dropped) slot.stream->Fail(status);
  }
  batch_.Clear(&pool_);
}

Status Session::AbandonBatch() {
  if (batch_.state != BatchState::kInFlight) return Status();
  RETURN_IF_ERROR(program_.Cancel());
  batch_.Clear(&pool_);
  return Status();
}

Status Session::Wait(uint64_t timeout_us) {
  const uint64_t deadline_ns = DeadlineNs(NowNs(), timeout_us);
  for (;;) {
    const uint64_t now_ns = NowNs();
    const uint64_t left_us = now_ns < deadline_ns ? (deadline_ns - now_ns) / 1000 : 0;
    const PollReport report = Poll(std::min(left_us, kWaitPollUs), true);
    if (report.interrupted) return Error(DSOPT_E_CANCELLED, "wait: dsopt_session_interrupt was called");
    if (report.delivered_events + report.ready_events > 0 || report.active_streams == 0) return Status();
    if (NowNs() >= deadline_ns) {
      return Error(DSOPT_E_TIMEOUT, "wait: no event within %llu us",
                   static_cast<unsigned long long>(timeout_us));
    }
    if (report.suggested_wait_us > 0) SleepUs(std::min({report.suggested_wait_us, kLongestSleepUs, left_us}));
  }
}

void Session::CountStreams(PollReport* report) const {
  report->active_streams = report->ready_events = 0;
  for (const std::shared_ptr<Stream>& stream : streams_) {
    if (stream->released()) continue;
    report->active_streams += stream->generating() ? 1 : 0;
    if (stream->generation().on_event == nullptr) report->ready_events += stream->events().count();
  }
}

// The time of a batch is divided among its rows; a row counts as decoding when it is its stream's only one.
void Session::CountTime(const dsopt_batch_result& result) {
  uint64_t decode_rows = 0, prefill_rows = 0;
  for (const BatchSlot& slot : batch_.slots) (slot.rows == 1 ? decode_rows : prefill_rows) += slot.rows;
  const uint64_t time_us = (result.device_ns != 0 ? result.device_ns : NowNs() - batch_begin_ns_) / 1000;
  const uint64_t decode_us = time_us * decode_rows / (decode_rows + prefill_rows);
  std::lock_guard<std::mutex> lock(stats_mutex_);
  ++stats_.batches;
  stats_.replayed_batches += result.replayed;
  stats_.decode_tokens += decode_rows;
  stats_.decode_us += decode_us;
  stats_.prefill_tokens += prefill_rows;
  stats_.prefill_us += time_us - decode_us;
}

dsopt_session_stats Session::Stats() const {
  std::lock_guard<std::mutex> lock(stats_mutex_);
  dsopt_session_stats stats = stats_;
  stats.kv_tokens_used = pool_.used_pages() * desc_.page_tokens;
  stats.kv_tokens_total = pool_.limit() * desc_.page_tokens;
  stats.kv_host_tokens_used = pool_.used_host_pages() * desc_.page_tokens;
  stats.kv_host_tokens_total = pool_.host_limit() * desc_.page_tokens;
  return stats;
}

void Session::SetCacheLimit(uint64_t bytes) {
  const uint64_t pages = bytes != 0 ? bytes / desc_.page_bytes : desc_.page_count;
  pool_.SetLimit(static_cast<uint32_t>(std::min<uint64_t>(pages, desc_.page_count)));
}

void Session::Trim() {
  for (const std::shared_ptr<Stream>& stream : streams_) stream->Trim();
  streams_.shrink_to_fit();
}

}  // namespace dsopt
