// dsopt.i - the raw layer of every binding: 1:1 over dsopt.h, internal, made at build time. The hand-written package of
// each language is the only public part. What differs per language is in python.i, java.i and csharp.i.
//
// Conventions of the raw functions:
//   dsopt_status    < 0 becomes the language's exception with the library's message; else a bool: false is PENDING
//   dsopt_length    < 0 likewise; else the full length or count (see native.h)
//   T* returned     a new handle; null becomes the exception of RawStatus()
//   (bytes, size)   input bytes, UTF-8 where it is text; (buf, cap) and (tokens, cap) memory that is filled
//   UTF8 strings    NUL-terminated UTF-8 in whatever form the language passes it losslessly; null is NULL
%module(directors="1") DsoptNative
%{
#include "native.h"
%}
%include <stdint.i>
%include <std_except.i>

// ---- what has a stand-in in native.h, or is for native hosts only --------------------------------
%ignore DSOPT_CODE_FORCE32;
%ignore DSOPT_DTYPE_FORCE32;
%ignore DSOPT_PRECISION_FORCE32;
%ignore DSOPT_LOG_FORCE32;
%ignore DSOPT_DEVICE_KIND_FORCE32;
%ignore DSOPT_EVENT_KIND_FORCE32;
%ignore DSOPT_FINISH_FORCE32;
%ignore DSOPT_API;
%ignore DSOPT_CALL;
%ignore DSOPT_NTS;
%ignore dsopt_allocator;
%ignore dsopt_io;
%ignore dsopt_message;
%ignore dsopt_logit_bias;
%ignore dsopt_event;
%ignore dsopt_generate_options;
%ignore dsopt_runtime_options;
%ignore dsopt_model_options;
%ignore dsopt_session_options::native_stream;
%ignore dsopt_last_error;
%ignore dsopt_runtime_create;
%ignore dsopt_runtime_report;
%ignore dsopt_model_open;
%ignore dsopt_model_open_memory;
%ignore dsopt_model_open_io;
%ignore dsopt_model_get_metadata;
%ignore dsopt_tokenize;
%ignore dsopt_detokenize;
%ignore dsopt_chat_format;
%ignore dsopt_session_create;
%ignore dsopt_session_trim;
%ignore dsopt_stream_create;
%ignore dsopt_stream_fork;
%ignore dsopt_stream_release;
%ignore dsopt_stream_append_text;
%ignore dsopt_stream_generate;
%ignore dsopt_stream_read;
%ignore dsopt_stream_error;
%ignore dsopt_stream_get_tokens;
%ignore dsopt_stream_get_logprobs;
%ignore dsopt_stream_get_logits;
%ignore dsopt_stream_save;
%ignore dsopt_stream_load;

// A constructor that may find no memory.
%define DSOPT_NEEDS_MEMORY(T)
#if defined(SWIGCSHARP)  // null, from which csharp.i makes an exception: nothing may call back into C#
%exception T::T %{ try { $action } catch (...) { result = nullptr; } %}
#else
%catches(std::exception) T::T;
#endif
%enddef

// Structs know their size from birth. Output structs are only read by the host language.
%define DSOPT_SIZED_STRUCT(T)
%ignore T::struct_size;
%ignore T::reserved;
DSOPT_NEEDS_MEMORY(T)
%extend T {
  T() {
    T* self = new T();
    self->struct_size = sizeof(T);
    return self;
  }
}
%enddef
DSOPT_SIZED_STRUCT(dsopt_device_info)
DSOPT_SIZED_STRUCT(dsopt_model_info)
DSOPT_SIZED_STRUCT(dsopt_session_options)
DSOPT_SIZED_STRUCT(dsopt_poll_result)
DSOPT_SIZED_STRUCT(dsopt_session_memory)
DSOPT_SIZED_STRUCT(dsopt_session_stats)
DSOPT_SIZED_STRUCT(dsopt_sampling)
%immutable dsopt_device_info::id;
%immutable dsopt_device_info::name;
%immutable dsopt_model_info::architecture;
%immutable dsopt_model_info::device;

// ---- objects the host language subclasses --------------------------------------------------------
%define DSOPT_SINK(T)
%feature("director") T;
%feature("unref") T "$this->retire();"
%ignore T::retire;
DSOPT_NEEDS_MEMORY(T)
%enddef
#pragma SWIG nowarn=401  // the base class Sink is of no use to the host language
DSOPT_SINK(EventSink)
DSOPT_SINK(LogSink)
DSOPT_SINK(ProgressSink)
DSOPT_SINK(IoSource)
DSOPT_NEEDS_MEMORY(NativeEvent)
DSOPT_NEEDS_MEMORY(GenerateRequest)
DSOPT_NEEDS_MEMORY(ChatMessages)
DSOPT_NEEDS_MEMORY(HostMemory)

// ---- typemaps ------------------------------------------------------------------------------------
// Each language file defines typemaps for dsopt_status, dsopt_length, the input and output arrays, UTF8 strings, and
// the four handle types by DSOPT_HANDLE(T), and applies them to the other argument names.
%include <typemaps.i>
%apply float* OUTPUT { float* progress };
%apply double* OUTPUT { double* bytes_per_second };
#if defined(SWIGPYTHON)
%include "python.i"
#elif defined(SWIGJAVA)
%include "java.i"
#elif defined(SWIGCSHARP)
%include "csharp.i"
#endif
DSOPT_HANDLE(dsopt_runtime)
DSOPT_HANDLE(dsopt_model)
DSOPT_HANDLE(dsopt_session)
DSOPT_HANDLE(dsopt_stream)

%include "dsopt/dsopt.h"
%include "sink.h"
%include "host_memory.h"
%include "native.h"
%include "native_calls.h"
#if defined(SWIGPYTHON)
%include "python_extra.i"
#endif
