// java.i - Java's typemaps of the raw layer (see dsopt.i). Handles are longs, enumerators ints; text is byte[] in
// UTF-8, because JNI's own strings are modified UTF-8 and break characters above U+FFFF.
%include <enumtypeunsafe.swg>
%apply long long { uint64_t, size_t };  // else java.math.BigInteger

%begin %{
#define SWIG_JAVA_ATTACH_CURRENT_THREAD_AS_DAEMON  // a library thread that logs does not keep the JVM alive
%}
%{
// ai.dsopt.DsoptException.of(int status, byte[] utf8) gives the exception that the call throws when it has returned.
static void DsoptJavaThrow(JNIEnv* jenv, int status) {
  const char* message = RawError();
  const jsize length = (jsize)strlen(message);
  jbyteArray bytes = jenv->NewByteArray(length);
  if (bytes == nullptr) return;
  jenv->SetByteArrayRegion(bytes, 0, length, (const jbyte*)message);
  jclass type = jenv->FindClass("ai/dsopt/DsoptException");
  if (type == nullptr) return;
  jmethodID of = jenv->GetStaticMethodID(type, "of", "(I[B)Lai/dsopt/DsoptException;");
  if (of == nullptr) return;
  jobject exception = jenv->CallStaticObjectMethod(type, of, (jint)status, bytes);
  if (exception != nullptr && !jenv->ExceptionCheck()) jenv->Throw((jthrowable)exception);
}
static jbyteArray DsoptJavaBytes(JNIEnv* jenv, const void* data, size_t size) {
  jbyteArray array = jenv->NewByteArray((jsize)size);
  if (array != nullptr) jenv->SetByteArrayRegion(array, 0, (jsize)size, (const jbyte*)data);
  return array;
}
%}

// ---- results: what a failed call has thrown is pending while the arguments are given back --------------------
%define DSOPT_JAVA_RESULT(TYPE, JNITYPE, JAVATYPE)
%typemap(jni) TYPE #JNITYPE
%typemap(jtype) TYPE #JAVATYPE
%typemap(jstype) TYPE #JAVATYPE
%typemap(javaout) TYPE { return $jnicall; }
%enddef
DSOPT_JAVA_RESULT(dsopt_status, jboolean, boolean)
%typemap(out) dsopt_status %{
  if ($1 < 0) DsoptJavaThrow(jenv, $1);
  $result = (jboolean)($1 == DSOPT_OK);
%}
DSOPT_JAVA_RESULT(dsopt_length, jlong, long)
%typemap(out) dsopt_length %{
  if ($1 < 0) DsoptJavaThrow(jenv, (int)$1);
  $result = (jlong)$1;
%}

%typemap(argout) float* progress %{
  if (!jenv->ExceptionCheck()) jenv->SetFloatArrayRegion($input, 0, 1, (const jfloat*)&temp$argnum);
%}
%typemap(argout) double* bytes_per_second %{
  if (!jenv->ExceptionCheck()) jenv->SetDoubleArrayRegion($input, 0, 1, (const jdouble*)&temp$argnum);
%}

// ---- arrays: byte[], int[] and float[]; null is NULL and 0 -----------------------------------------------------
%define DSOPT_JAVA_ARRAY(ARGS, JNITYPE, JAVATYPE, ELEMENT, RELEASE_MODE)
%typemap(jni) ARGS #JNITYPE "Array"
%typemap(jtype) ARGS #JAVATYPE "[]"
%typemap(jstype) ARGS #JAVATYPE "[]"
%typemap(javain) ARGS "$javainput"
%typemap(in) ARGS %{
  $2 = $input != nullptr ? (size_t)jenv->GetArrayLength($input) : 0;
  $1 = $input != nullptr ? ($1_ltype)jenv->Get##ELEMENT##ArrayElements($input, nullptr) : nullptr;
  if ($input != nullptr && $1 == nullptr) return $null;
%}
%typemap(freearg) ARGS %{
  if ($input != nullptr && $1 != nullptr)
    jenv->Release##ELEMENT##ArrayElements($input, (JNITYPE*)$1, RELEASE_MODE);
%}
%enddef
DSOPT_JAVA_ARRAY((const void* bytes, size_t size), jbyte, byte, Byte, JNI_ABORT)
DSOPT_JAVA_ARRAY((void* buf, size_t cap), jbyte, byte, Byte, 0)
DSOPT_JAVA_ARRAY((dsopt_token* tokens, size_t cap), jint, int, Int, 0)
DSOPT_JAVA_ARRAY((float* logprobs, size_t cap), jfloat, float, Float, 0)
DSOPT_JAVA_ARRAY((const dsopt_token* tokens, size_t count), jint, int, Int, JNI_ABORT)
%apply (const void* bytes, size_t size) { (const void* role, size_t role_size),
                                          (const void* content, size_t content_size) };
%apply (void* buf, size_t cap) { (char* buf, size_t cap) };
%ignore stream_get_logits;  // stream_get_logits_direct

// ---- memory of a whole direct java.nio buffer; the Java layer has checked that it is one --------------------------
%define DSOPT_JAVA_DIRECT(ARGS, BUFFER)
%typemap(jni) ARGS "jobject"
%typemap(jtype) ARGS #BUFFER
%typemap(jstype) ARGS #BUFFER
%typemap(javain) ARGS "$javainput"
%typemap(in) ARGS %{
  $1 = ($1_ltype)jenv->GetDirectBufferAddress($input);
  $2 = (size_t)jenv->GetDirectBufferCapacity($input);
%}
%enddef
DSOPT_JAVA_DIRECT((const void* direct, size_t size), java.nio.ByteBuffer)
DSOPT_JAVA_DIRECT((float* direct, size_t cap), java.nio.FloatBuffer)
%extend IoSource {
  bool fill_direct(const void* direct, size_t size) { return self->fill(direct, size); }
}

// ---- NUL-terminated UTF-8 as a byte[] with or without its NUL; null is NULL ------------------------------------
%typemap(jni) const char*, char[ANY] "jbyteArray"
%typemap(jtype) const char*, char[ANY] "byte[]"
%typemap(jstype) const char*, char[ANY] "byte[]"
%typemap(javain) const char* "$javainput"
%typemap(javaout) const char*, char[ANY] { return $jnicall; }
%typemap(in) const char* (std::string text) %{
  if ($input != nullptr) {
    try {
      text.resize((size_t)jenv->GetArrayLength($input));
    } catch (const std::exception&) {
      SWIG_JavaThrowException(jenv, SWIG_JavaOutOfMemoryError, "copying an argument");
      return $null;
    }
    jenv->GetByteArrayRegion($input, 0, (jsize)text.size(), (jbyte*)text.data());
  }
  $1 = $input != nullptr ? (char*)text.c_str() : nullptr;
%}
%typemap(freearg) const char* ""
%typemap(out) const char* %{ $result = $1 != nullptr ? DsoptJavaBytes(jenv, $1, strlen($1)) : nullptr; %}
%typemap(out) char[ANY] %{ $result = DsoptJavaBytes(jenv, $1, strnlen($1, $1_dim0)); %}
%typemap(directorin, descriptor="[B", noblock=1) const char* {
  $input = DsoptJavaBytes(jenv, $1, strlen($1));
  Swig::LocalRefGuard $1_refguard(jenv, $input);
}
%typemap(javadirectorin) const char* "$jniinput"

// ---- the parts of an event as Java arrays; null where there is none ---------------------------------------------
%{
template <typename T>
struct DsoptJavaPart {
  const T* data = nullptr;
  size_t count = 0;
};
typedef DsoptJavaPart<char> DsoptBytes;
typedef DsoptJavaPart<dsopt_token> DsoptInts;
typedef DsoptJavaPart<float> DsoptFloats;
template <typename T>
DsoptJavaPart<T> DsoptPart(const std::vector<T>& list) {
  return {list.data(), list.size()};
}
%}
DSOPT_JAVA_RESULT(DsoptBytes, jbyteArray, byte[])
DSOPT_JAVA_RESULT(DsoptInts, jintArray, int[])
DSOPT_JAVA_RESULT(DsoptFloats, jfloatArray, float[])
%typemap(out) DsoptBytes %{ $result = DsoptJavaBytes(jenv, $1.data, $1.count); %}
%typemap(out) DsoptInts %{
  $result = jenv->NewIntArray((jsize)$1.count);
  if ($result != nullptr) jenv->SetIntArrayRegion($result, 0, (jsize)$1.count, (const jint*)$1.data);
%}
%typemap(out) DsoptFloats %{
  $result = jenv->NewFloatArray((jsize)$1.count);
  if ($result != nullptr) jenv->SetFloatArrayRegion($result, 0, (jsize)$1.count, $1.data);
%}
%extend NativeEvent {
  DsoptBytes text_array() const { return {self->text_bytes().data(), self->text_bytes().size()}; }
  DsoptInts token_array() const { return DsoptPart(self->token_list()); }
  DsoptFloats logprob_array() const { return DsoptPart(self->logprob_list()); }
  DsoptInts top_token_array() const { return DsoptPart(self->top_token_list()); }
  DsoptFloats top_logprob_array() const { return DsoptPart(self->top_logprob_list()); }
}
%ignore NativeEvent::text;
%ignore NativeEvent::tokens;
%ignore NativeEvent::logprobs;
%ignore NativeEvent::top_tokens;
%ignore NativeEvent::top_logprobs;

// ---- handles: long, 0 is NULL; objects: deleted by the Java layer only --------------------------------------------
%typemap(javafinalize) SWIGTYPE ""
%define DSOPT_HANDLE(T)
%typemap(jni) T* "jlong"
%typemap(jtype) T* "long"
%typemap(jstype) T* "long"
%typemap(javain) T* "$javainput"
%typemap(javaout) T* { return $jnicall; }
%typemap(in) T* %{ $1 = (T*)(intptr_t)$input; %}
%typemap(out) T* %{
  if ($1 == nullptr) DsoptJavaThrow(jenv, RawStatus());
  $result = (jlong)(intptr_t)$1;
%}
%enddef

// ---- what Java calls besides native_calls.h -----------------------------------------------------------------------
DSOPT_HANDLE(dsopt_runtime)
DSOPT_HANDLE(dsopt_model)
DSOPT_HANDLE(dsopt_stream)
%inline %{
inline dsopt_model* model_open_direct(dsopt_runtime* runtime, const void* direct, size_t size, uint32_t flags,
                                      const char* device, uint64_t max_device_bytes, ProgressSink* progress) {
  const dsopt_model_options options = ModelOptions(flags, device, max_device_bytes, progress);
  return NewHandle<dsopt_model>(
      [&](dsopt_model** out) { return dsopt_model_open_memory(runtime, direct, size, &options, out); });
}
inline dsopt_length stream_get_logits_direct(dsopt_stream* stream, float* direct, size_t cap) {
  return stream_get_logits(stream, direct, cap);
}
%}
