// python.i - Python's typemaps of the raw layer (see dsopt.i). Text is bytes, or str where an event is read. A handle
// is a capsule that releases its native object when the last reference to it goes, calls in progress included.
%{
#include "python_support.h"
%}

// ---- every call --------------------------------------------------------------------------------------
// What a callback raises is kept in the call that it interrupts, and comes out of that.
%exception {
  DsoptPyCall call;
  if (!call.Enter()) SWIG_fail;
  $action
  if (!call.Leave()) SWIG_fail;
}
%define DSOPT_PY_MAKES_HANDLE(NAME)
%exception NAME {
  DsoptPyCall call;
  if (!call.Enter()) SWIG_fail;
  $action
  if (!call.Leave()) {
    if (result != NULL) DsoptPyRelease(result);
    SWIG_fail;
  }
}
%enddef
DSOPT_PY_MAKES_HANDLE(model_open)
DSOPT_PY_MAKES_HANDLE(model_open_io)
DSOPT_PY_MAKES_HANDLE(model_open_buffer)
// Garbage is collected until the very end, and while an exception is on its way.
%exception EventSink::~EventSink "$action"
%exception LogSink::~LogSink "$action"
%exception ProgressSink::~ProgressSink "$action"
%exception IoSource::~IoSource "$action"
%feature("director:except") {
  if ($error != NULL) {
    DsoptPyCall::Keep();
    throw DsoptPyRaised();  // as far as the trampoline
  }
}
// May come in the middle of anything, on any thread.
%feature("director:except") LogSink::on_log {
  if ($error != NULL) PyErr_WriteUnraisable(swig_get_self());
}
%feature("director:except") IoSource::on_close {
  if ($error != NULL) PyErr_WriteUnraisable(swig_get_self());
}

%typemap(out) dsopt_status %{
  if ($1 < 0) { DsoptPyRaise($1); SWIG_fail; }
  $result = PyBool_FromLong($1 == DSOPT_OK);
%}
%typemap(out) dsopt_length %{
  if ($1 < 0) { DsoptPyRaise((int)$1); SWIG_fail; }
  $result = PyLong_FromLongLong($1);
%}

// ---- arrays: any object with a contiguous buffer; memory is filled in place, without a copy ----------
%define DSOPT_PY_ARRAY(ARGS, ITEM, WRITABLE)
%typemap(in) ARGS (DsoptPyBuffer buffer) %{
  if (!buffer.Get($input, WRITABLE, ITEM)) SWIG_fail;
  $1 = ($1_ltype)buffer.data();
  $2 = buffer.size() / ITEM;
%}
%enddef
DSOPT_PY_ARRAY((const void* bytes, size_t size), 1, false)
DSOPT_PY_ARRAY((void* buf, size_t cap), 1, true)
DSOPT_PY_ARRAY((dsopt_token* tokens, size_t cap), 4, true)
DSOPT_PY_ARRAY((const dsopt_token* tokens, size_t count), 4, false)
DSOPT_PY_ARRAY((float* logprobs, size_t cap), 4, true)
%apply (const void* bytes, size_t size) { (const void* role, size_t role_size),
                                          (const void* content, size_t content_size) };
%apply (void* buf, size_t cap) { (char* buf, size_t cap) };
%apply (float* logprobs, size_t cap) { (float* logits, size_t cap) };

// ---- bytes without a NUL inside, or None -------------------------------------------------------------
%typemap(in) const char* UTF8 %{
  if ($input == Py_None) {
    $1 = NULL;
  } else if (PyBytes_AsStringAndSize($input, (char**)&$1, NULL) != 0) {
    SWIG_fail;
  }
%}
%apply const char* UTF8 { const char* path, const char* device, const char* key, const char* backend_path,
                          const char* cpu_variant };

// ---- handles; None is NULL ---------------------------------------------------------------------------
%define DSOPT_HANDLE(T)
%typemap(in) T* %{
  $1 = NULL;
  if ($input != Py_None) {
    $1 = ($1_ltype)PyCapsule_GetPointer($input, #T);
    if ($1 == NULL) SWIG_fail;
  }
%}
%typemap(out) T* %{
  if ($1 == NULL) { DsoptPyRaise(RawStatus()); SWIG_fail; }
  $result = PyCapsule_New($1, #T, &DsoptPyReleaseCapsule<T, &DsoptPyRelease>);
  if ($result == NULL) { DsoptPyRelease($1); SWIG_fail; }
%}
%enddef
%ignore dsopt_runtime_release;
%ignore dsopt_model_release;
%ignore dsopt_session_release;
%ignore stream_release;
