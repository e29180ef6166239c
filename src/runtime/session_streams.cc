// session_streams.cc - streams of a session: create, fork, save, load, logits, release. Not the step loop.
#include <algorithm>
#include <chrono>
#include <thread>

#include "runtime/session.h"

namespace dsopt {

Result<std::shared_ptr<Stream>> Session::AddStream() {
  auto stream = std::make_shared<Stream>(*model_, &pool_, desc_.page_tokens, length_limit_);
  const size_t count = streams_.size() + 1;
  for (std::vector<uint32_t>* list : {&demand_streams_, &scratch_}) list->reserve(count);
  demands_.reserve(count);
  slices_.reserve(count);
  streams_.push_back(stream);
  return stream;
}

Result<std::shared_ptr<Stream>> Session::CreateStream() { return AddStream(); }

// The copy is made before the session knows the new stream, so a failure leaves nothing behind.
Result<std::shared_ptr<Stream>> Session::Fork(const Stream& parent) {
  ASSIGN_OR_RETURN(std::shared_ptr<Stream> stream, AddStream());
  struct Undo {
    std::vector<std::shared_ptr<Stream>>* streams;
    ~Undo() {
      if (streams != nullptr) streams->pop_back();
    }
  } undo{&streams_};
  stream->ForkFrom(parent);
  undo.streams = nullptr;
  return stream;
}

Status Session::Generate(Stream* stream, Generation generation) {
  if (!lost_.ok()) return lost_;
  RETURN_IF_ERROR(CompleteGeneration(model_->model().config().vocab, &generation));
  return stream->StartGeneration(std::move(generation), next_order_++);
}

SavedIdentity Session::identity() const {
  SavedIdentity identity;
  identity.fingerprint = model_->model().fingerprint();
  identity.page_bytes = desc_.page_bytes;
  identity.page_tokens = desc_.page_tokens;
  identity.kv_dtype = desc_.kv_dtype;
  identity.vocab = desc_.vocab;
  identity.context = model_->model().config().context;
  return identity;
}

Status Session::Save(const Stream& stream, std::span<uint8_t> buffer, uint64_t* bytes) {
  const SequenceCache& cache = stream.cache();
  const uint32_t page_count = cache.PagesFor(cache.tokens());
  const SavedLayout layout =
      LayoutSaved(static_cast<uint32_t>(stream.tokens().size()), page_count, desc_.page_bytes);
  *bytes = layout.total_bytes;
  if (buffer.size() < layout.total_bytes) {
    return Error(DSOPT_E_BUFFER_TOO_SMALL, "save: a buffer of %zu bytes, %llu needed", buffer.size(),
                 static_cast<unsigned long long>(layout.total_bytes));
  }
  RETURN_IF_ERROR(AbandonBatch());  // pages cannot be read while the device works on them
  for (uint32_t i = 0; i < page_count; ++i) {
    uint8_t* dst = buffer.data() + layout.pages_offset + i * desc_.page_bytes;
    RETURN_IF_ERROR(program_.ReadPage(cache.pages()[i], dst));
  }
  SealSaved(identity(), stream.tokens(), cache.tokens(), buffer.first(layout.total_bytes));
  return Status();
}

Status Session::Load(Stream* stream, std::span<const uint8_t> buffer) {
  if (stream->generating()) {
    return Error(DSOPT_E_INVALID_STATE, "load: the stream is generating; cancel it or poll to its end");
  }
  ASSIGN_OR_RETURN(SavedStream saved, ParseSaved(identity(), buffer));
  SequenceCache cache(&pool_, desc_.page_tokens);
  PageCopy copy;
  if (!cache.Reserve(saved.cached_tokens, &copy)) {
    return Error(DSOPT_E_DEVICE_MEMORY, "load: %u pages needed, %u of %u are free",
                 cache.PagesFor(saved.cached_tokens), pool_.free_pages(), pool_.limit());
  }
  RETURN_IF_ERROR(AbandonBatch());
  for (size_t i = 0; i < cache.pages().size(); ++i) {
    RETURN_IF_ERROR(program_.WritePage(cache.pages()[i], saved.pages.data() + i * desc_.page_bytes));
  }
  cache.Commit(saved.cached_tokens);
  stream->Restore(std::move(saved.tokens), &cache);
  return Status();
}

Status Session::ReadLogits(const Stream& stream, float* out) {
  if (batch_.state != BatchState::kEmpty || stream.logits_batch == 0 || stream.logits_batch != batch_number_) {
    return Error(
        DSOPT_E_INVALID_STATE,
        "logits: the stream's last token was not in the session's last batch, or a batch is in flight");
  }
  return program_.ReadLogits(stream.logits_index, out);
}

bool Session::TryEnter() {
  for (uint32_t tries = 0;; ++tries) {
    uint32_t found = kFree;
    if (use_.compare_exchange_strong(found, kCalled, std::memory_order_acquire)) return true;
    if (found == kCalled) return false;
    // Microseconds, unless the other thread lost its processor: then only sleeping lets one of lower priority
    // go on.
    if (tries >= 64) std::this_thread::sleep_for(std::chrono::microseconds(20));
  }
}

void Session::Leave() {
  uint32_t expected;
  do {
    DropReleased();
    use_.store(kFree, std::memory_order_seq_cst);
    expected = kFree;
    // Someone may have released a stream after DropReleased and found the session in use: look again.
  } while (released_count_.load(std::memory_order_seq_cst) != 0 &&
           use_.compare_exchange_strong(expected, kDropping, std::memory_order_seq_cst));
}

void Session::Release(Stream* stream) {
  released_count_.fetch_add(1, std::memory_order_seq_cst);
  stream->MarkReleased();
  uint32_t expected = kFree;
  if (use_.compare_exchange_strong(expected, kDropping, std::memory_order_seq_cst)) Leave();
  // Else whoever uses the session does it.
}

// Pages go back now; the object itself may live on in the batch in flight.
void Session::DropReleased() {
  if (released_count_.load(std::memory_order_seq_cst) == 0) return;
  for (size_t i = 0; i < streams_.size();) {
    if (!streams_[i]->released()) {
      ++i;
      continue;
    }
    const std::shared_ptr<Stream> stream = std::move(streams_[i]);
    streams_[i] = std::move(streams_.back());
    streams_.pop_back();
    released_count_.fetch_sub(1, std::memory_order_seq_cst);
    stream->Finish(DSOPT_FINISH_CANCELLED);
    stream->cache().Truncate(0);
    if (stream->free_handle != nullptr) stream->free_handle(stream->handle);
  }
}

}  // namespace dsopt
