// python_support.h - C++ that python.i's typemaps call. Everything here holds the interpreter lock unless it
// says so.
#ifndef DSOPT_BINDINGS_PYTHON_SUPPORT_H_
#define DSOPT_BINDINGS_PYTHON_SUPPORT_H_

#include <Python.h>

#include "native.h"

// Raises what dsopt._errors.make(status, message) gives.
static void DsoptPyRaise(int status) {
  const char* message = RawError();
  PyObject* text = PyUnicode_DecodeUTF8(message, static_cast<Py_ssize_t>(std::strlen(message)), "replace");
  PyObject* module = text != nullptr ? PyImport_ImportModule("dsopt._errors") : nullptr;
  PyObject* error = module != nullptr ? PyObject_CallMethod(module, "make", "iO", status, text) : nullptr;
  if (error != nullptr) PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(error)), error);
  Py_XDECREF(error);
  Py_XDECREF(module);
  Py_XDECREF(text);
}

// ---- calls in progress --------------------------------------------------------------------------

// A thread that comes back from native code after the interpreter has ended is killed inside the C++ frames of
// the wrapper, which ends the process. So the end stops new calls and waits for those that run. Guarded by the
// lock.
struct DsoptPyCallState {
  long running = 0;
  bool stopped = false;
  unsigned long last_thread = 0;  // the one that ends the interpreter may still call
};
inline DsoptPyCallState& DsoptPyCalls() {
  static DsoptPyCallState state;
  return state;
}

struct DsoptPyRaised {};

// One call from Python into native code, and what a callback raised meanwhile: C frames cannot carry an
// exception.
class DsoptPyCall {
 public:
  DsoptPyCall() {}
  DsoptPyCall(const DsoptPyCall&) = delete;
  DsoptPyCall& operator=(const DsoptPyCall&) = delete;
  bool Enter() {
    DsoptPyCallState& state = DsoptPyCalls();
    if (state.stopped && state.last_thread != PyThread_get_thread_ident()) {
      PyErr_SetString(PyExc_RuntimeError, "dsopt: the interpreter is ending");
      return false;
    }
    ++state.running;
    outer_ = Innermost();
    Innermost() = this;
    return true;
  }
  // False: a callback raised, and its exception is set instead of that of the call.
  bool Leave() {
    Innermost() = outer_;
    --DsoptPyCalls().running;
    if (type_ == nullptr) return true;
    PyErr_Restore(type_, value_, traceback_);
    return false;
  }
  // Of this thread's call; the first exception wins. Not raised through a call: nobody to raise it to.
  static void Keep() {
    DsoptPyCall* call = Innermost();
    if (call == nullptr) {
      PyErr_WriteUnraisable(nullptr);
    } else if (call->type_ != nullptr) {
      PyErr_Clear();
    } else {
      PyErr_Fetch(&call->type_, &call->value_, &call->traceback_);
    }
  }

 private:
  static DsoptPyCall*& Innermost() {
    thread_local DsoptPyCall* call = nullptr;
    return call;
  }
  DsoptPyCall* outer_ = nullptr;
  PyObject *type_ = nullptr, *value_ = nullptr, *traceback_ = nullptr;
};

// ---- arguments ----------------------------------------------------------------------------------

// The buffer of an object until the call ends; its owner cannot resize or free it meanwhile.
class DsoptPyBuffer {
 public:
  DsoptPyBuffer() {}
  ~DsoptPyBuffer() {
    if (view_.obj != nullptr) PyBuffer_Release(&view_);
  }
  DsoptPyBuffer(const DsoptPyBuffer&) = delete;
  DsoptPyBuffer& operator=(const DsoptPyBuffer&) = delete;
  bool Get(PyObject* object, bool writable, size_t item) {
    if (PyObject_GetBuffer(object, &view_, writable ? PyBUF_WRITABLE : PyBUF_SIMPLE) != 0) return false;
    if (size() > 0 && (size() % item != 0 || reinterpret_cast<uintptr_t>(view_.buf) % item != 0)) {
      PyErr_Format(PyExc_TypeError, "a buffer of %zd bytes, expected whole aligned elements of %zu bytes",
                   view_.len, item);
      return false;
    }
    return true;
  }
  void* data() const { return view_.buf; }
  size_t size() const { return static_cast<size_t>(view_.len); }

 private:
  Py_buffer view_ = {};
};

// ---- handles ------------------------------------------------------------------------------------

inline void DsoptPyRelease(dsopt_runtime* handle) { dsopt_runtime_release(handle); }
inline void DsoptPyRelease(dsopt_model* handle) { dsopt_model_release(handle); }
inline void DsoptPyRelease(dsopt_session* handle) { dsopt_session_release(handle); }
inline void DsoptPyRelease(dsopt_stream* handle) { stream_release(handle); }

template <typename T, void (*release)(T*)>
void DsoptPyReleaseCapsule(PyObject* capsule) {
  T* handle = static_cast<T*>(PyCapsule_GetPointer(capsule, PyCapsule_GetName(capsule)));
  Py_BEGIN_ALLOW_THREADS release(handle);
  Py_END_ALLOW_THREADS
}

// ---- models in memory ---------------------------------------------------------------------------

static dsopt_status DSOPT_CALL DsoptPyReadBuffer(void* user, uint64_t offset, void* dst, size_t len) {
  const auto* view = static_cast<const Py_buffer*>(user);
  const auto size = static_cast<uint64_t>(view->len);
  if (offset > size || len > size - offset) return DSOPT_E_CALLBACK;
  if (len > 0) std::memcpy(dst, static_cast<const char*>(view->buf) + offset, len);
  return DSOPT_OK;
}
static void DSOPT_CALL DsoptPyCloseBuffer(void* user) {
  const PyGILState_STATE state = PyGILState_Ensure();
  auto* view = static_cast<Py_buffer*>(user);
  PyBuffer_Release(view);
  delete view;
  PyGILState_Release(state);
}
// Runs without the interpreter lock. A failure is DSOPT_E_INVALID_ARGUMENT with its Python exception gone: the
// caller has checked that the object has a buffer.
static dsopt_status DsoptPyOpenBuffer(PyObject* object, dsopt_io* io) {
  const PyGILState_STATE state = PyGILState_Ensure();
  auto* view = new (std::nothrow) Py_buffer();
  dsopt_status status = view != nullptr ? DSOPT_OK : NoThrow([] { throw std::bad_alloc(); });
  if (status == DSOPT_OK && PyObject_GetBuffer(object, view, PyBUF_SIMPLE) != 0) {
    PyErr_Clear();
    delete view;
    status = DSOPT_E_INVALID_ARGUMENT;
  } else if (status == DSOPT_OK) {
    io->user = view;
    io->size = static_cast<uint64_t>(view->len);
    io->read_at = &DsoptPyReadBuffer;
    io->close = &DsoptPyCloseBuffer;
  }
  PyGILState_Release(state);
  return status;
}

// ---- events -------------------------------------------------------------------------------------

static PyObject* DsoptPyTokens(const std::vector<dsopt_token>& tokens) {
  PyObject* list = PyList_New(static_cast<Py_ssize_t>(tokens.size()));
  for (size_t i = 0; list != nullptr && i < tokens.size(); ++i) {
    PyObject* item = PyLong_FromLong(tokens[i]);
    if (item == nullptr)
      Py_CLEAR(list);
    else
      PyList_SET_ITEM(list, static_cast<Py_ssize_t>(i), item);
  }
  return list;
}
static PyObject* DsoptPyLogprobs(const NativeEvent& event) {
  if (!event.has_logprobs()) Py_RETURN_NONE;
  const std::vector<float>& logprobs = event.logprob_list();
  PyObject* list = PyList_New(static_cast<Py_ssize_t>(logprobs.size()));
  for (size_t i = 0; list != nullptr && i < logprobs.size(); ++i) {
    PyObject* item = PyFloat_FromDouble(logprobs[i]);
    if (item == nullptr)
      Py_CLEAR(list);
    else
      PyList_SET_ITEM(list, static_cast<Py_ssize_t>(i), item);
  }
  return list;
}
static PyObject* DsoptPyTop(const NativeEvent& event) {
  const size_t count = event.top_count();
  if (count == 0) Py_RETURN_NONE;
  PyObject* rows = PyList_New(static_cast<Py_ssize_t>(event.token_list().size()));
  for (size_t row = 0; rows != nullptr && row < event.token_list().size(); ++row) {
    PyObject* list = PyList_New(static_cast<Py_ssize_t>(count));
    for (size_t i = 0; list != nullptr && i < count; ++i) {
      const size_t at = row * count + i;
      PyObject* item = Py_BuildValue("(if)", event.top_token_list()[at], event.top_logprob_list()[at]);
      if (item == nullptr)
        Py_CLEAR(list);
      else
        PyList_SET_ITEM(list, static_cast<Py_ssize_t>(i), item);
    }
    if (list == nullptr)
      Py_CLEAR(rows);
    else
      PyList_SET_ITEM(rows, static_cast<Py_ssize_t>(row), list);
  }
  return rows;
}
static PyObject* DsoptPyEvent(const NativeEvent& event) {
  const std::string& text = event.text_bytes();
  // "N" takes over the references and gives NULL if one of them is.
  return Py_BuildValue("(iNNiiNN)", event.kind(),
                       PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "replace"),
                       DsoptPyTokens(event.token_list()), event.finish(), event.status(),
                       DsoptPyLogprobs(event), DsoptPyTop(event));
}

#endif  // DSOPT_BINDINGS_PYTHON_SUPPORT_H_
