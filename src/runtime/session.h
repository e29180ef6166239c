// session.h - cache memory and the step loop of a set of streams on one model. Poll() is the heart: Harvest,
// Deliver, Schedule, Submit. Creates no thread: everything happens inside the host's calls.
#ifndef DSOPT_RUNTIME_SESSION_H_
#define DSOPT_RUNTIME_SESSION_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "base/memory.h"
#include "base/status.h"
#include "runtime/batch.h"
#include "runtime/kv_cache.h"
#include "runtime/loaded_model.h"
#include "runtime/program.h"
#include "runtime/saved_stream.h"
#include "runtime/scheduler.h"
#include "runtime/stream.h"

namespace dsopt {

struct SessionOptions {
  uint32_t max_streams = 0;    // 0: 1
  uint32_t max_tokens = 0;     // 0: the context
  uint32_t prefill_chunk = 0;  // 0: the device's preference
  uint32_t device_slice_us = 0;
  dsopt_dtype kv_dtype = DSOPT_DTYPE_DEFAULT;
  dsopt_precision precision = DSOPT_PRECISION_FAST;
  void* native_stream = nullptr;
  uint64_t max_cache_bytes = 0;       // on the device; 0: no cap
  uint64_t max_device_bytes = 0;      // of weights and session; 0: no cap
  uint64_t max_host_cache_bytes = 0;  // 0: no page may lie on the host
};

struct PollReport {
  uint32_t active_streams = 0, ready_events = 0, delivered_events = 0, tokens_sampled = 0;
  uint64_t spent_us = 0, suggested_wait_us = 0;
  bool interrupted = false;
};

// All methods are serial (the caller holds the flag of TryEnter) unless tagged.
class Session {
 public:
  static Result<std::shared_ptr<Session>> Create(std::shared_ptr<LoadedModel> model,
                                                 const SessionOptions& options);
  // What Create would take, fit or not.
  static Result<dsopt_session_memory> PlanMemory(const LoadedModel& model, const SessionOptions& options);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // ---- step loop (session.cc) -----
  // until_event: return as soon as an event was delivered or is ready.
  PollReport Poll(uint64_t budget_us, bool until_event = false);
  // DSOPT_OK, DSOPT_E_TIMEOUT or DSOPT_E_CANCELLED.
  Status Wait(uint64_t timeout_us);
  void Interrupt() { interrupt_.store(true, std::memory_order_relaxed); }  // [any]
  void Trim();
  // In whole pages; 0: all that were created.
  void SetCacheLimit(uint64_t bytes);
  dsopt_session_stats Stats() const;  // [shared]

  // ---- streams (session_streams.cc) -----
  Result<std::shared_ptr<Stream>> CreateStream();
  Result<std::shared_ptr<Stream>> Fork(const Stream& parent);
  Status Generate(Stream* stream, Generation generation);
  // Empty buffer: only the size. DSOPT_E_BUFFER_TOO_SMALL if it is too small.
  Status Save(const Stream& stream, std::span<uint8_t> buffer, uint64_t* bytes);
  Status Load(Stream* stream, std::span<const uint8_t> buffer);
  // Logits that follow the last token in the cache; out has room for the vocabulary.
  Status ReadLogits(const Stream& stream, float* out);

  const LoadedModel& model() const { return *model_; }

  // ---- serial calls and deferred release (session_streams.cc) -----
  // False: another serial call is running. A thread that drops what it released is waited for: it is no call.
  bool TryEnter();  // [any]
  // Ends a serial call and drops the streams that were released meanwhile.
  void Leave();
  void Release(Stream* stream);  // [any]

 private:
  Session(std::shared_ptr<LoadedModel> model, const dsopt_program_desc& desc,
          const dsopt_program_memory& memory);

  void ApplyCancellations();
  void Harvest(PollReport* report);
  void Deliver(PollReport* report);
  bool Schedule();
  bool Submit(uint64_t deadline_ns, PollReport* report);

  void HarvestSlot(const BatchSlot& slot, const dsopt_batch_result& result, PollReport* report);
  void CountTime(const dsopt_batch_result& result);
  // Reserves cache pages, which may copy one, and adds the slice; a failure ends that stream only.
  void AddSlice(const std::shared_ptr<Stream>& stream, const BatchSlice& slice);
  void FailBatch(const Status& status);
  // Throws the batch in flight away; its streams go on from where they were.
  Status AbandonBatch();
  void CountStreams(PollReport* report) const;
  Result<std::shared_ptr<Stream>> AddStream();
  SavedIdentity identity() const;
  void DropReleased();

  std::shared_ptr<LoadedModel> model_;  // first: the program refers to its weights
  const dsopt_program_desc desc_;       // its pointers are not used after Create
  const bool asynchronous_;             // the device works on between two calls
  const uint32_t length_limit_;         // most tokens of one stream
  PagePool pool_;                       // before everything that holds pages
  Program program_;
  std::vector<std::shared_ptr<Stream>> streams_;
  Batch batch_;
  uint64_t batch_number_ = 0;  // of the batch in flight or, if none is, of the last one
  uint64_t batch_begin_ns_ = 0;
  uint64_t next_order_ = 0;
  Status lost_;  // DSOPT_E_DEVICE_LOST: nothing runs any more

  std::vector<StreamDemand> demands_;  // scratch of Schedule
  std::vector<uint32_t> demand_streams_, scratch_;
  std::vector<BatchSlice> slices_;

  enum Use : uint32_t { kFree, kCalled, kDropping };
  std::atomic<uint32_t> use_{kFree};
  std::atomic<uint32_t> released_count_{0};
  std::atomic<bool> interrupt_{false};
  mutable std::mutex stats_mutex_;  // guards stats_
  dsopt_session_stats stats_ = {};
};

}  // namespace dsopt
#endif  // DSOPT_RUNTIME_SESSION_H_
