// session.cc - dsopt_session_*.
#include "capi/guard.h"
#include "capi/handles.h"
#include "capi/options.h"

namespace dsopt {
namespace {

Result<SessionOptions> ReadSessionOptions(const dsopt_session_options* in) {
  dsopt_session_options o;
  RETURN_IF_ERROR(ReadStruct(in, "options", &o));
  RETURN_IF_ERROR(CheckFlags("options.flags", o.flags, 0));
  if (o.precision != DSOPT_PRECISION_FAST && o.precision != DSOPT_PRECISION_REFERENCE) {
    return Error(DSOPT_E_INVALID_ARGUMENT, "options.precision: %d, expected 0 or 1",
                 static_cast<int>(o.precision));
  }
  SessionOptions options;
  options.max_streams = o.max_streams;
  options.max_tokens = o.max_tokens;
  options.prefill_chunk = o.prefill_chunk;
  options.device_slice_us = o.device_slice_us;
  options.kv_dtype = o.kv_dtype;
  options.precision = o.precision;
  options.native_stream = o.native_stream;
  options.max_cache_bytes = o.max_cache_bytes;
  options.max_device_bytes = o.max_device_bytes;
  options.max_host_cache_bytes = o.max_host_cache_bytes;
  return options;
}

}  // namespace
}  // namespace dsopt

using namespace dsopt;  // NOLINT: the functions below are the C face of this namespace

dsopt_status dsopt_session_plan(const dsopt_model* model, const dsopt_session_options* options,
                                dsopt_session_memory* memory) {
  return Guard([&]() -> Reply {
    RETURN_IF_NULL(model);
    RETURN_IF_NULL(memory);
    RETURN_IF_ERROR(CheckStructSize(memory, "memory"));
    ASSIGN_OR_RETURN(const SessionOptions session_options, ReadSessionOptions(options));
    ASSIGN_OR_RETURN(const dsopt_session_memory filled, Session::PlanMemory(*model->impl, session_options));
    WriteStruct(filled, memory);
    return DSOPT_OK;
  });
}

dsopt_status dsopt_session_create(dsopt_model* model, const dsopt_session_options* options,
                                  dsopt_session** out) {
  return Guard([&]() -> Reply {
    RETURN_IF_NULL(model);
    RETURN_IF_NULL(out);
    ASSIGN_OR_RETURN(const SessionOptions session_options, ReadSessionOptions(options));
    auto handle = std::make_unique<dsopt_session>();
    ASSIGN_OR_RETURN(handle->impl, Session::Create(model->impl, session_options));
    *out = handle.release();
    return DSOPT_OK;
  });
}

void dsopt_session_release(dsopt_session* session) { delete session; }

dsopt_status dsopt_session_poll(dsopt_session* session, uint64_t budget_us, dsopt_poll_result* result) {
  return Guard([&]() -> Reply {
    RETURN_IF_NULL(session);
    if (result != nullptr) RETURN_IF_ERROR(CheckStructSize(result, "result"));
    SerialCall call(session->impl);
    RETURN_IF_ERROR(call.status());
    const PollReport report = call.session().Poll(budget_us);
    if (result != nullptr) {
      dsopt_poll_result filled = {};
      filled.active_streams = report.active_streams;
      filled.ready_events = report.ready_events;
      filled.tokens_sampled = report.tokens_sampled;
      filled.spent_us = report.spent_us;
      filled.suggested_wait_us = report.suggested_wait_us;
      WriteStruct(filled, result);
    }
    return report.active_streams > 0 ? DSOPT_PENDING : DSOPT_OK;
  });
}

dsopt_status dsopt_session_wait(dsopt_session* session, uint64_t timeout_us) {
  return Guard([&]() -> Reply {
    RETURN_IF_NULL(session);
    SerialCall call(session->impl);
    RETURN_IF_ERROR(call.status());
    return call.session().Wait(timeout_us);
  });
}

void dsopt_session_interrupt(dsopt_session* session) {
  if (session != nullptr) session->impl->Interrupt();
}

dsopt_status dsopt_session_trim(dsopt_session* session) {
  return Guard([&]() -> Reply {
    RETURN_IF_NULL(session);
    SerialCall call(session->impl);
    RETURN_IF_ERROR(call.status());
    call.session().Trim();
    return DSOPT_OK;
  });
}

dsopt_status dsopt_session_set_cache_limit(dsopt_session* session, uint64_t bytes) {
  return Guard([&]() -> Reply {
    RETURN_IF_NULL(session);
    SerialCall call(session->impl);
    RETURN_IF_ERROR(call.status());
    call.session().SetCacheLimit(bytes);
    return DSOPT_OK;
  });
}

dsopt_status dsopt_session_get_stats(const dsopt_session* session, dsopt_session_stats* stats) {
  return Guard([&]() -> Reply {
    RETURN_IF_NULL(session);
    RETURN_IF_NULL(stats);
    RETURN_IF_ERROR(CheckStructSize(stats, "stats"));
    WriteStruct(session->impl->Stats(), stats);
    return DSOPT_OK;
  });
}
