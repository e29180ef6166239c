// python_extra.i - raw functions that only Python has, after the typemaps of dsopt.i. They build Python objects: they
// hold the interpreter lock and release it themselves where they wait.
%nothread stream_next;
%nothread event_tuple;
%nothread session_poll;
%nothread stop_calls;
%typemap(out) PyObject* %{
  $result = $1;
  if ($result == NULL) SWIG_fail;
%}
%{
// (kind, text, tokens, finish, status, logprobs or None, top or None); top has a list of (token, logprob) per token.
static PyObject* event_tuple(const NativeEvent* event) { return DsoptPyEvent(*event); }

// The next event as event_tuple gives it, or None.
static PyObject* stream_next(dsopt_stream* stream) {
  NativeEvent event;
  dsopt_status status;
  Py_BEGIN_ALLOW_THREADS
  status = stream_read(stream, &event);
  Py_END_ALLOW_THREADS
  if (status < 0) {
    DsoptPyRaise(status);
    return NULL;
  }
  if (status == DSOPT_PENDING) Py_RETURN_NONE;
  return DsoptPyEvent(event);
}

// (pending, active_streams, ready_events, tokens_sampled, spent_us, suggested_wait_us)
static PyObject* session_poll(dsopt_session* session, uint64_t budget_us) {
  auto poll = Sized<dsopt_poll_result>();
  dsopt_status status;
  Py_BEGIN_ALLOW_THREADS
  status = dsopt_session_poll(session, budget_us, &poll);
  Py_END_ALLOW_THREADS
  if (status < 0) {
    DsoptPyRaise(status);
    return NULL;
  }
  return Py_BuildValue("(NIIIKK)", PyBool_FromLong(status == DSOPT_PENDING), poll.active_streams, poll.ready_events,
                       poll.tokens_sampled, (unsigned long long)poll.spent_us,
                       (unsigned long long)poll.suggested_wait_us);
}

// model_open_io over an object with a buffer, which is held until the library closes it.
static dsopt_model* model_open_buffer(dsopt_runtime* runtime, PyObject* object, uint32_t flags, const char* device,
                                      uint64_t max_device_bytes, ProgressSink* progress) {
  const dsopt_model_options options = ModelOptions(flags, device, max_device_bytes, progress);
  dsopt_io io = Sized<dsopt_io>();
  const dsopt_status status = DsoptPyOpenBuffer(object, &io);
  return NewHandle<dsopt_model>(
      [&](dsopt_model** out) { return status < 0 ? status : dsopt_model_open_io(runtime, &io, &options, out); });
}

// Before the interpreter ends: no call of another thread begins any more,
// and no callback comes. Number of calls still running.
static long stop_calls() {
  DsoptPyCalls().last_thread = PyThread_get_thread_ident();
  DsoptPyCalls().stopped = true;
  Sink::RetireAll();
  return DsoptPyCalls().running - 1;  // this one is counted too
}
%}
PyObject* event_tuple(const NativeEvent* event);
PyObject* stream_next(dsopt_stream* stream);
PyObject* session_poll(dsopt_session* session, uint64_t budget_us);
dsopt_model* model_open_buffer(dsopt_runtime* runtime, PyObject* object, uint32_t flags, const char* device,
                               uint64_t max_device_bytes, ProgressSink* progress);
long stop_calls();
