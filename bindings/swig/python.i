// python.i - Python's typemaps of the raw layer (see dsopt.i). Handles are objects that release their native object
// when the last reference goes, calls in progress included; text is bytes.
%{
#define DSOPT_PY_ERRORS "dsopt._errors"
// Raises what dsopt._errors.make(status, message) gives.
static void DsoptPyRaise(int status) {
  const char* message = RawError();
  PyObject* text = PyUnicode_DecodeUTF8(message, (Py_ssize_t)strlen(message), "replace");
  PyObject* module = text != NULL ? PyImport_ImportModule(DSOPT_PY_ERRORS) : NULL;
  PyObject* error = module != NULL ? PyObject_CallMethod(module, "make", "iO", status, text) : NULL;
  if (error != NULL) PyErr_SetObject((PyObject*)Py_TYPE(error), error);
  Py_XDECREF(error);
  Py_XDECREF(module);
  Py_XDECREF(text);
}
%}

%typemap(out) dsopt_status %{
  if ($1 < 0) { DsoptPyRaise($1); SWIG_fail; }
  $result = PyBool_FromLong($1 == DSOPT_OK);
%}
%typemap(out) dsopt_length %{
  if ($1 < 0) { DsoptPyRaise((int)$1); SWIG_fail; }
  $result = PyLong_FromLongLong($1);
%}

// ---- arrays: any object with a contiguous buffer; memory is filled in place, without a copy -----------
%{
// The object's buffer until the call ends; the exporter cannot resize or free it meanwhile.
struct DsoptPyBuffer {
  Py_buffer view = {};
  ~DsoptPyBuffer() {
    if (view.obj != NULL) PyBuffer_Release(&view);
  }
  bool Get(PyObject* object, bool writable, size_t item) {
    if (PyObject_GetBuffer(object, &view, writable ? PyBUF_WRITABLE : PyBUF_SIMPLE) != 0) return false;
    if (item > 1 && ((size_t)view.len % item != 0 || (uintptr_t)view.buf % item != 0)) {
      PyErr_Format(PyExc_TypeError, "buffer of %zd bytes, expected aligned elements of %zu bytes", view.len, item);
      return false;
    }
    return true;
  }
};
%}
%define DSOPT_PY_ARRAY(ARGS, ITEM, WRITABLE)
%typemap(in) ARGS (DsoptPyBuffer buffer) %{
  if (!buffer.Get($input, WRITABLE, ITEM)) SWIG_fail;
  $1 = ($1_ltype)buffer.view.buf;
  $2 = (size_t)buffer.view.len / ITEM;
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

// ---- bytes without a NUL inside, or None --------------------------------------------------------------
%typemap(in) const char* UTF8 %{
  if ($input == Py_None) {
    $1 = NULL;
  } else if (PyBytes_AsStringAndSize($input, (char**)&$1, NULL) != 0) {
    SWIG_fail;
  }
%}
%apply const char* UTF8 { const char* path, const char* device, const char* key, const char* backend_path,
                          const char* cpu_variant };

// ---- handles -------------------------------------------------------------------------------------------
%define DSOPT_HANDLE(T)
%enddef
