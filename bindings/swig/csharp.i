// csharp.i - C#'s typemaps of the raw layer (see dsopt.i). Handles are IntPtr; text is byte[] in UTF-8. An array and its
// length stay two arguments: byte[] and ulong.
%apply unsigned long long { size_t };
%typemap(ctype) dsopt_status "int"
%typemap(imtype) dsopt_status "int"
%typemap(cstype) dsopt_status "bool"
%typemap(csout, excode=SWIGEXCODE) dsopt_status {
    int status = $imcall;$excode
    if (status < 0) throw DsoptException.Of(status, $modulePINVOKE.raw_error());
    return status == 0;
  }
%typemap(out) dsopt_status %{ $result = (int)$1; %}

%typemap(ctype) dsopt_length "long long"
%typemap(imtype) dsopt_length "long"
%typemap(cstype) dsopt_length "long"
%typemap(csout, excode=SWIGEXCODE) dsopt_length {
    long length = $imcall;$excode
    if (length < 0) throw DsoptException.Of((int)length, $modulePINVOKE.raw_error());
    return length;
  }
%typemap(out) dsopt_length %{ $result = (long long)$1; %}

%define DSOPT_CSHARP_ARRAY(ARG, ELEMENT)
%typemap(ctype) ARG "void*"
%typemap(imtype) ARG #ELEMENT "[]"
%typemap(cstype) ARG #ELEMENT "[]"
%typemap(csin) ARG "$csinput"
%typemap(in) ARG %{ $1 = ($1_ltype)$input; %}
%enddef
DSOPT_CSHARP_ARRAY(const void* bytes, byte)
DSOPT_CSHARP_ARRAY(const void* role, byte)
DSOPT_CSHARP_ARRAY(const void* content, byte)
DSOPT_CSHARP_ARRAY(void* buf, byte)
DSOPT_CSHARP_ARRAY(char* buf, byte)
DSOPT_CSHARP_ARRAY(dsopt_token* tokens, int)
DSOPT_CSHARP_ARRAY(const dsopt_token* tokens, int)
DSOPT_CSHARP_ARRAY(float* logprobs, float)
DSOPT_CSHARP_ARRAY(float* logits, float)
DSOPT_CSHARP_ARRAY(const char* UTF8, byte)
%apply const char* UTF8 { const char* path, const char* device, const char* key, const char* backend_path,
                          const char* cpu_variant };

%define DSOPT_HANDLE(T)
%typemap(ctype) T* "void*"
%typemap(imtype) T* "global::System.IntPtr"
%typemap(cstype) T* "global::System.IntPtr"
%typemap(csin) T* "$csinput"
%typemap(csout, excode=SWIGEXCODE) T* {
    global::System.IntPtr handle = $imcall;$excode
    if (handle == global::System.IntPtr.Zero)
      throw DsoptException.Of($modulePINVOKE.raw_status(), $modulePINVOKE.raw_error());
    return handle;
  }
%typemap(in) T* %{ $1 = (T*)$input; %}
%typemap(out) T* %{ $result = (void*)$1; %}
%enddef

// Of the calling thread's last raw call.
%inline %{
inline const char* raw_error() { return RawError(); }
inline int raw_status() { return RawStatus(); }
%}
