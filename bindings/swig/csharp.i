// csharp.i - C#'s typemaps of the raw layer (see dsopt.i). Handles are SafeHandles, which a call keeps from being
// freed; arrays are pinned, never copied; text is UTF-8 in byte[], NUL-terminated where it comes without a size. A
// dsopt_status stays a number, for bindings/csharp/Dsopt/Status.cs to judge. Nothing here calls back into C#: SWIG's
// own helpers and directors use delegates that Unity's IL2CPP cannot make. See csharp_sinks.h.
%pragma(csharp) moduleclassmodifiers="internal class"
%pragma(csharp) imclassclassmodifiers="internal class"
%typemap(csclassmodifiers) SWIGTYPE "internal class"
%typemap(csclassmodifiers) enum SWIGTYPE "internal enum"
%csconst(1);

// DSOPT_RAW(<C type>, <type of a parameter>, <type of a result>, <patterns...>): passed on as it is.
%define DSOPT_RAW(CTYPE, IN, OUT, PATTERN...)
%typemap(ctype) PATTERN "CTYPE"
%typemap(imtype, out="OUT") PATTERN "IN"
%typemap(cstype, out="OUT") PATTERN "IN"
%typemap(csin) PATTERN "$csinput"
%typemap(csout, excode=SWIGEXCODE) PATTERN {
    OUT ret = $imcall;$excode
    return ret;
  }
%typemap(csvarout, excode=SWIGEXCODE2) PATTERN %{
    get {
      OUT ret = $imcall;$excode
      return ret;
    } %}
%typemap(in) PATTERN %{ $1 = ($1_ltype)$input; %}
%typemap(out) PATTERN %{ $result = (CTYPE)$1; %}
%typemap(freearg) PATTERN ""
%enddef
DSOPT_RAW(int, int, int, dsopt_status)
DSOPT_RAW(long long, long, long, dsopt_length)
// Not SWIG's own 32 bits: a size of 4 GiB and more must arrive whole.
DSOPT_RAW(unsigned long long, ulong, ulong, size_t)
DSOPT_RAW(void *, global::System.IntPtr, global::System.IntPtr, void *, const char *, char [ANY], Sink *)
DSOPT_RAW(void *, byte[], global::System.IntPtr, const void *bytes, const void *role, const void *content, void *buf,
          char *buf, const char *path, const char *device, const char *key,
          const char *backend_path, const char *cpu_variant)
DSOPT_RAW(void *, int[], global::System.IntPtr, dsopt_token *, const dsopt_token *)
DSOPT_RAW(void *, float[], global::System.IntPtr, float *logprobs, float *logits)

// The SafeHandle class of a parameter; results stay pointers until the caller has put them into one.
%define DSOPT_SAFE(CLASS, PATTERN...)
DSOPT_RAW(void *, CLASS, global::System.IntPtr, PATTERN)
%enddef
%define DSOPT_HANDLE(T)
%enddef
DSOPT_SAFE(RuntimeHandle, dsopt_runtime *, const dsopt_runtime *)
DSOPT_SAFE(ModelHandle, dsopt_model *, const dsopt_model *)
DSOPT_SAFE(SessionHandle, dsopt_session *, const dsopt_session *)
DSOPT_SAFE(StreamHandle, dsopt_stream *, const dsopt_stream *)
DSOPT_SAFE(SinkHandle, EventSink *, LogSink *, ProgressSink *, IoSource *)
%typemap(in) EventSink *, LogSink *, ProgressSink *, IoSource * %{ $1 = static_cast<$1_ltype>((Sink *)$input); %}
%ignore Sink;
%ignore EventSink;
%ignore LogSink;
%ignore ProgressSink;
%ignore IoSource;
%ignore dsopt_runtime_release;
%ignore dsopt_model_release;
%ignore dsopt_session_release;
%ignore stream_release;

// A constructor that found no memory gives null, and the managed object is not made.
%typemap(csconstruct,
         excode="\n    if (swigCPtr.Handle == global::System.IntPtr.Zero) throw new global::System.OutOfMemoryException();")
    SWIGTYPE %{: this($imcall, true) {$excode
  }
%}

%{
#include "csharp_sinks.h"
%}
// Of the last raw call of the calling thread.
%inline %{
inline const char* raw_error() { return RawError(); }
inline int raw_status() { return RawStatus(); }
%}
%include "csharp_sinks.h"
