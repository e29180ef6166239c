// stream.cc - dsopt_stream_*. A prompt goes from here to runtime/stream.cc, and is worked on by
// runtime/session.cc when the host polls (capi/session.cc).
#include <cstring>

#include "capi/guard.h"
#include "capi/handles.h"
#include "capi/options.h"

namespace dsopt {
namespace {

constexpr uint32_t kGenerateFlags =
    DSOPT_GENERATE_PREFILL_ONLY | DSOPT_GENERATE_SCORE | DSOPT_GENERATE_IGNORE_EOS;
constexpr uint32_t kTokenizeFlags = DSOPT_TOKENIZE_ADD_BOS | DSOPT_TOKENIZE_PARSE_SPECIAL;

// Copies one of the option's arrays; the limit keeps a hostile count from being copied first.
template <typename T>
Status CopyArray(const char* name, const T* data, size_t count, size_t limit, std::vector<T>* out) {
  RETURN_IF_ERROR(CheckArray(name, data, count));
  if (count > limit)
    return Error(DSOPT_E_INVALID_ARGUMENT, "options.%s: %zu, expected at most %zu", name, count, limit);
  out->assign(data, data + count);
  return Status();
}

Status CopyStops(const char* const* stops, size_t count, std::vector<std::string>* out) {
  std::vector<const char*> pointers;
  RETURN_IF_ERROR(CopyArray("stop", stops, count, kMaxStops, &pointers));
  for (const char* stop : pointers) {
    if (stop == nullptr || *stop == '\0') {
      return Error(DSOPT_E_INVALID_ARGUMENT, "options.stop: a stop string is NULL or empty");
    }
    out->emplace_back(stop, strnlen(stop, kMaxStopBytes + 1));
  }
  return Status();
}

Result<Generation> ReadGenerateOptions(const dsopt_generate_options* in, const SamplingSpec& defaults) {
  dsopt_generate_options o;
  RETURN_IF_ERROR(ReadStruct(in, "options", &o));
  RETURN_IF_ERROR(CheckFlags("options.flags", o.flags, kGenerateFlags));
  Generation generation;
  generation.max_tokens = o.max_tokens;
  generation.priority = o.priority;
  generation.prefill_only = (o.flags & DSOPT_GENERATE_PREFILL_ONLY) != 0;
  generation.score = (o.flags & DSOPT_GENERATE_SCORE) != 0;
  generation.ignore_eos = (o.flags & DSOPT_GENERATE_IGNORE_EOS) != 0;
  generation.sampling = DefaultSampling(defaults);
  if (o.sampling != nullptr) RETURN_IF_ERROR(ReadStruct(o.sampling, "options.sampling", &generation.sampling));
  RETURN_IF_ERROR(CopyStops(o.stop, o.stop_count, &generation.stop));
  RETURN_IF_ERROR(
      CopyArray("stop_tokens", o.stop_tokens, o.stop_token_count, kMaxStopTokens, &generation.stop_tokens));
  RETURN_IF_ERROR(CopyArray("bias", o.bias, o.bias_count, kMaxBiases, &generation.bias));
  generation.on_event = o.on_event;
  generation.user = o.user;
  generation.logprobs = o.logprobs != 0;
  generation.top_logprobs = o.top_logprobs;
  return generation;
}

// Hands the new stream to its handle. From here on the session frees the handle.
dsopt_stream* Bind(std::unique_ptr<dsopt_stream> handle, std::shared_ptr<Session> session,
                   std::shared_ptr<Stream> stream) {
  stream->handle = handle.get();
  stream->free_handle = [](dsopt_stream* released) { delete released; };
  handle->session = std::move(session);
  handle->impl = std::move(stream);
  return handle.release();
}

}  // namespace
}  // namespace dsopt

using namespace dsopt;  // NOLINT: the functions below are the C face of this namespace

dsopt_status dsopt_stream_create(dsopt_session* session, dsopt_stream** out) {
  return Guard([&]() -> Reply {
    RETURN_IF_NULL(session);
    RETURN_IF_NULL(out);
    SerialCall call(session->impl);
    RETURN_IF_ERROR(call.status());
    auto handle = std::make_unique<dsopt_stream>();
    ASSIGN_OR_RETURN(std::shared_ptr<Stream> stream, call.session().CreateStream());
    *out = Bind(std::move(handle), session->impl, std::move(stream));
    return DSOPT_OK;
  });
}

void dsopt_stream_release(dsopt_stream* stream) {
  if (stream == nullptr) return;
  const std::shared_ptr<Session> session = stream->session;  // the handle's own share goes with the handle
  session->Release(stream->impl.get());
}

dsopt_status dsopt_stream_append_text(dsopt_stream* stream, const char* text, size_t len, uint32_t flags) {
  return Guard([&]() -> Reply {
    RETURN_IF_NULL(stream);
    SerialCall call(stream->session);
    RETURN_IF_ERROR(call.status());
    RETURN_IF_ERROR(CheckFlags("flags", flags, kTokenizeFlags));
    std::string_view view;
    RETURN_IF_ERROR(ReadText("text", text, len, &view));
    return stream->impl->AppendText(view, flags);
  });
}

dsopt_status dsopt_stream_append_tokens(dsopt_stream* stream, const dsopt_token* tokens, size_t count) {
  return Guard([&]() -> Reply {
    RETURN_IF_NULL(stream);
    RETURN_IF_ERROR(CheckArray("tokens", tokens, count));
    SerialCall call(stream->session);
    RETURN_IF_ERROR(call.status());
    return stream->impl->AppendTokens({tokens, count});
  });
}

dsopt_status dsopt_stream_generate(dsopt_stream* stream, const dsopt_generate_options* options) {
  return Guard([&]() -> Reply {
    RETURN_IF_NULL(stream);
    SerialCall call(stream->session);
    RETURN_IF_ERROR(call.status());
    ASSIGN_OR_RETURN(Generation generation,
                     ReadGenerateOptions(options, call.session().model().model().spec().sampling));
    return call.session().Generate(stream->impl.get(), std::move(generation));
  });
}

void dsopt_stream_cancel(dsopt_stream* stream) {
  if (stream != nullptr) stream->impl->Cancel();
}

dsopt_status dsopt_stream_read(dsopt_stream* stream, dsopt_event* event) {
  return Guard([&]() -> Reply {
    RETURN_IF_NULL(stream);
    RETURN_IF_NULL(event);
    RETURN_IF_ERROR(CheckStructSize(event, "event"));
    SerialCall call(stream->session);
    RETURN_IF_ERROR(call.status());
    dsopt_event next;
    if (!stream->impl->events().Read(&next)) return DSOPT_PENDING;
    WriteStruct(next, event);
    return DSOPT_OK;
  });
}

dsopt_status dsopt_stream_error(const dsopt_stream* stream, char* buf, size_t cap, size_t* out_len) {
  return Guard([&]() -> Reply {
    RETURN_IF_NULL(stream);
    RETURN_IF_ERROR(CheckArray("buf", buf, cap));
    Status status = stream->impl->LastError();
    const std::string_view message = status.message();
    if (out_len != nullptr) *out_len = message.size();
    if (cap > 0) {
      const size_t length = std::min(cap - 1, message.size());
      std::memcpy(buf, message.data(), length);
      buf[length] = '\0';
    }
    return status;
  });
}

size_t dsopt_stream_token_count(const dsopt_stream* stream) {
  return stream != nullptr ? stream->impl->TokenCount() : 0;
}

dsopt_status dsopt_stream_get_tokens(const dsopt_stream* stream, size_t first, dsopt_token* tokens, size_t cap,
                                     size_t* out_count) {
  return Guard([&]() -> Reply {
    RETURN_IF_NULL(stream);
    RETURN_IF_NULL(out_count);
    RETURN_IF_ERROR(CheckArray("tokens", tokens, cap));
    *out_count = stream->impl->CopyTokens(first, {tokens, cap});
    return DSOPT_OK;
  });
}

dsopt_status dsopt_stream_get_logprobs(const dsopt_stream* stream, size_t first, float* logprobs, size_t cap,
                                       size_t* out_count) {
  return Guard([&]() -> Reply {
    RETURN_IF_NULL(stream);
    RETURN_IF_NULL(out_count);
    RETURN_IF_ERROR(CheckArray("logprobs", logprobs, cap));
    *out_count = stream->impl->CopyLogprobs(first, {logprobs, cap});
    return DSOPT_OK;
  });
}

dsopt_status dsopt_stream_rewind(dsopt_stream* stream, size_t count) {
  return Guard([&]() -> Reply {
    RETURN_IF_NULL(stream);
    SerialCall call(stream->session);
    RETURN_IF_ERROR(call.status());
    return stream->impl->Rewind(count);
  });
}

dsopt_status dsopt_stream_fork(dsopt_stream* stream, dsopt_stream** out) {
  return Guard([&]() -> Reply {
    RETURN_IF_NULL(stream);
    RETURN_IF_NULL(out);
    SerialCall call(stream->session);
    RETURN_IF_ERROR(call.status());
    auto handle = std::make_unique<dsopt_stream>();
    ASSIGN_OR_RETURN(std::shared_ptr<Stream> fork, call.session().Fork(*stream->impl));
    *out = Bind(std::move(handle), stream->session, std::move(fork));
    return DSOPT_OK;
  });
}

dsopt_status dsopt_stream_save(dsopt_stream* stream, void* buf, size_t cap, size_t* out_len) {
  return Guard([&]() -> Reply {
    RETURN_IF_NULL(stream);
    RETURN_IF_NULL(out_len);
    RETURN_IF_ERROR(CheckArray("buf", buf, cap));
    SerialCall call(stream->session);
    RETURN_IF_ERROR(call.status());
    uint64_t bytes = 0;
    Status status = call.session().Save(*stream->impl, {static_cast<uint8_t*>(buf), cap}, &bytes);
    *out_len = bytes;
    return status;
  });
}

dsopt_status dsopt_stream_load(dsopt_stream* stream, const void* buf, size_t len) {
  return Guard([&]() -> Reply {
    RETURN_IF_NULL(stream);
    RETURN_IF_NULL(buf);
    SerialCall call(stream->session);
    RETURN_IF_ERROR(call.status());
    return call.session().Load(stream->impl.get(), {static_cast<const uint8_t*>(buf), len});
  });
}

dsopt_status dsopt_stream_get_logits(dsopt_stream* stream, float* logits, size_t cap, size_t* out_count) {
  return Guard([&]() -> Reply {
    RETURN_IF_NULL(stream);
    RETURN_IF_NULL(out_count);
    RETURN_IF_ERROR(CheckArray("logits", logits, cap));
    SerialCall call(stream->session);
    RETURN_IF_ERROR(call.status());
    const uint32_t vocab = call.session().model().model().config().vocab;
    *out_count = vocab;
    if (cap < vocab) return Error(DSOPT_E_BUFFER_TOO_SMALL, "logits: room for %zu, %u needed", cap, vocab);
    return call.session().ReadLogits(*stream->impl, logits);
  });
}
