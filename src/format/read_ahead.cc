#include "format/read_ahead.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>

#include "format/chunk_read.h"

namespace dsopt {
namespace {

enum class SlotState : uint8_t { kFree, kFetched, kDecoding, kDone };

// A chunk under way. A slot that is kDecoding belongs to the thread that made it so; otherwise the mutex guards
// it.
struct Slot {
  SlotState state = SlotState::kFree;
  uint32_t chunk = 0;
  Buffer stored_buffer, raw_buffer;
  std::span<const uint8_t> stored, decoded;
  Status status;               // of the fetch or of the decoding
  bool out_of_memory = false;  // not even the status could be made
};

// New threads of a library must not be the ones that get the host's signals.
class BlockSignals {
 public:
  BlockSignals() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old_);
  }
  ~BlockSignals() { pthread_sigmask(SIG_SETMASK, &old_, nullptr); }
  BlockSignals(const BlockSignals&) = delete;
  BlockSignals& operator=(const BlockSignals&) = delete;

 private:
  sigset_t old_;
};

}  // namespace

// The ring: slots of chunks order[consumed] .. order[fetched - 1]; chunk number n is in slot n % slots.size().
struct ReadAhead::Impl {
  Impl(const ModelSpec& model_spec, Source& bytes, bool verify_raw)
      : spec(model_spec), source(bytes), verify(verify_raw) {}

  const ModelSpec& spec;
  Source& source;
  const bool verify;
  std::vector<uint32_t> order;
  std::vector<Slot> slots;
  std::vector<ChunkDecoder> decoders;  // the consumer's, then one of each worker
  // Of the consumer alone.
  bool started = false, fetch_failed = false;
  size_t consumed = 0, next_read = 0, fetched = 0;  // chunks given back, given out, in the ring
  std::vector<std::thread> threads;

  std::mutex mutex;
  std::condition_variable fetched_more, decoded_one;
  size_t next_decode = 0;  // chunk numbers below are claimed; guarded by mutex
  size_t ready_end = 0;    // = fetched, for workers; guarded by mutex
  bool stop = false;       // guarded by mutex

  Slot& SlotOf(size_t number) { return slots[number % slots.size()]; }

  void Start();
  void Fetch();
  void Decode(Slot* slot, ChunkDecoder* decoder) noexcept;
  void Work(ChunkDecoder* decoder);
  void AwaitDecoded(size_t number);
};

ReadAhead::ReadAhead(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Result<std::unique_ptr<ReadAhead>> ReadAhead::Create(const ModelSpec& spec, Source& source,
                                                     const dsopt_allocator& allocator,
                                                     std::vector<uint32_t> order,
                                                     const ReadAheadOptions& options) {
  auto impl = std::make_unique<Impl>(spec, source, options.verify);
  const ChunkBufferBytes bytes = LargestChunk(spec, source);
  const uint64_t slot_bytes = std::max<uint64_t>(uint64_t{bytes.stored} + bytes.raw, 1);
  // Each thread at one chunk, one waiting for each, and the one that the consumer holds.
  const uint64_t wanted = options.workers == 0 ? 1 : uint64_t{2} * options.workers + 2;
  const uint64_t count = std::min(
      {wanted, std::max<uint64_t>(options.max_bytes / slot_bytes, 1), std::max<uint64_t>(order.size(), 1)});
  const uint64_t workers = std::min<uint64_t>(options.workers, count - 1);
  impl->order = std::move(order);
  impl->slots.resize(count);
  for (Slot& slot : impl->slots) {
    ASSIGN_OR_RETURN(slot.stored_buffer, Buffer::Allocate(allocator, bytes.stored, "chunk"));
    ASSIGN_OR_RETURN(slot.raw_buffer, Buffer::Allocate(allocator, bytes.raw, "chunk"));
  }
  for (uint64_t i = 0; i <= workers; ++i) {
    ASSIGN_OR_RETURN(ChunkDecoder decoder, ChunkDecoder::Create(allocator, bytes.raw));
    impl->decoders.push_back(std::move(decoder));
  }
  return std::unique_ptr<ReadAhead>(new ReadAhead(std::move(impl)));
}

ReadAhead::~ReadAhead() {
  {
    std::lock_guard<std::mutex> lock(impl_->mutex);
    impl_->stop = true;
  }
  impl_->fetched_more.notify_all();
  for (std::thread& thread : impl_->threads) thread.join();
}

// A thread that cannot be had is done without.
void ReadAhead::Impl::Start() {
  started = true;
  const BlockSignals block;
  try {
    threads.reserve(decoders.size() - 1);
    for (size_t i = 1; i < decoders.size(); ++i) threads.emplace_back([this, i] { Work(&decoders[i]); });
  } catch (const std::exception&) {
  }
}

// Reads one more chunk if there is room. After a failure nothing is read any more.
void ReadAhead::Impl::Fetch() {
  if (fetch_failed || fetched == order.size() || fetched - consumed == slots.size()) return;
  Slot& slot = SlotOf(fetched);
  slot.chunk = order[fetched];
  slot.out_of_memory = false;
  Result<std::span<const uint8_t>> stored = FetchChunk(spec, source, slot.chunk, slot.stored_buffer.span());
  fetch_failed = !stored.ok();
  slot.status = stored.status();
  if (stored.ok()) slot.stored = *stored;
  {
    std::lock_guard<std::mutex> lock(mutex);
    slot.state = fetch_failed ? SlotState::kDone : SlotState::kFetched;
    ready_end = fetched + 1;
  }
  ++fetched;
  fetched_more.notify_one();
}

void ReadAhead::Impl::Decode(Slot* slot, ChunkDecoder* decoder) noexcept {
  try {
    Result<std::span<const uint8_t>> decoded =
        DecodeChunk(spec, source, slot->chunk, verify, slot->stored, decoder, slot->raw_buffer.span());
    if (decoded.ok()) slot->decoded = *decoded;
    slot->status = decoded.status();
  } catch (const std::exception&) {  // a message could not be allocated
    slot->out_of_memory = true;
  }
  {
    std::lock_guard<std::mutex> lock(mutex);
    slot->state = SlotState::kDone;
  }
  decoded_one.notify_one();
}

void ReadAhead::Impl::Work(ChunkDecoder* decoder) {
  std::unique_lock<std::mutex> lock(mutex);
  for (;;) {
    fetched_more.wait(lock, [this] { return stop || next_decode < ready_end; });
    if (stop) return;
    Slot& slot = SlotOf(next_decode++);
    if (slot.state != SlotState::kFetched) continue;  // its fetch failed
    slot.state = SlotState::kDecoding;
    lock.unlock();
    Decode(&slot, decoder);
    lock.lock();
  }
}

// The consumer decodes itself what no worker has begun.
void ReadAhead::Impl::AwaitDecoded(size_t number) {
  Slot& slot = SlotOf(number);
  std::unique_lock<std::mutex> lock(mutex);
  if (next_decode <= number) {
    next_decode = number + 1;
    if (slot.state == SlotState::kFetched) {
      slot.state = SlotState::kDecoding;
      lock.unlock();
      Decode(&slot, &decoders[0]);
      return;
    }
  }
  decoded_one.wait(lock, [&slot] { return slot.state == SlotState::kDone; });
}

Result<std::span<const uint8_t>> ReadAhead::Read(uint32_t index) {
  Impl& ring = *impl_;
  if (ring.next_read == ring.order.size() || ring.order[ring.next_read] != index) {
    return Error(DSOPT_E_INTERNAL, "chunk %u is not the next one in the order of reading", index);
  }
  if (!ring.started) ring.Start();
  ring.consumed = ring.next_read;  // what was returned last is free now
  ring.Fetch();
  ring.Fetch();
  if (ring.fetched == ring.next_read) {
    return Error(DSOPT_E_INTERNAL, "chunk %u: an earlier one could not be read", index);
  }
  ring.AwaitDecoded(ring.next_read);
  Slot& slot = ring.SlotOf(ring.next_read++);
  if (slot.out_of_memory)
    return Error(DSOPT_E_OUT_OF_MEMORY, "chunk %u: a message could not be allocated", index);
  if (!slot.status.ok()) return slot.status;
  return slot.decoded;
}

}  // namespace dsopt
