// java.i - Java's typemaps of the raw layer (see dsopt.i). Handles are longs; text is byte[] in UTF-8, because JNI's
// own strings are modified UTF-8 and break characters above U+FFFF.
%apply long long { uint64_t, size_t };  // else java.math.BigInteger

%typemap(jni) dsopt_status "jboolean"
%typemap(jtype) dsopt_status "boolean"
%typemap(jstype) dsopt_status "boolean"
%typemap(javaout) dsopt_status { return $jnicall; }
%typemap(out) dsopt_status %{
  if ($1 < 0) { DsoptJavaThrow(jenv, $1); return $null; }
  $result = (jboolean)($1 == DSOPT_OK);
%}
%typemap(jni) dsopt_length "jlong"
%typemap(jtype) dsopt_length "long"
%typemap(jstype) dsopt_length "long"
%typemap(javaout) dsopt_length { return $jnicall; }
%typemap(out) dsopt_length %{
  if ($1 < 0) { DsoptJavaThrow(jenv, (int)$1); return $null; }
  $result = (jlong)$1;
%}
%{
// ai.dsopt.DsoptException.of(int status, byte[] utf8) is to give the exception to throw.
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
  if (exception != nullptr) jenv->Throw((jthrowable)exception);
}
%}

// ---- arrays: byte[], int[] and float[] both ways ---------------------------------------------------
%apply (char* STRING, size_t LENGTH) { (const void* bytes, size_t size), (const void* role, size_t role_size),
                                       (const void* content, size_t content_size) };
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
DSOPT_JAVA_ARRAY((void* buf, size_t cap), jbyte, byte, Byte, 0)
DSOPT_JAVA_ARRAY((dsopt_token* tokens, size_t cap), jint, int, Int, 0)
DSOPT_JAVA_ARRAY((float* logprobs, size_t cap), jfloat, float, Float, 0)
DSOPT_JAVA_ARRAY((const dsopt_token* tokens, size_t count), jint, int, Int, JNI_ABORT)
%apply (void* buf, size_t cap) { (char* buf, size_t cap) };
%apply (float* logprobs, size_t cap) { (float* logits, size_t cap) };

// ---- NUL-terminated UTF-8 in a byte[]; null is NULL --------------------------------------------------
%typemap(jni) const char* UTF8 "jbyteArray"
%typemap(jtype) const char* UTF8 "byte[]"
%typemap(jstype) const char* UTF8 "byte[]"
%typemap(javain) const char* UTF8 "$javainput"
%typemap(in) const char* UTF8 %{
  $1 = $input != nullptr ? (char*)jenv->GetByteArrayElements($input, nullptr) : nullptr;
  if ($input != nullptr && $1 == nullptr) return $null;
%}
%typemap(freearg) const char* UTF8 %{
  if ($input != nullptr && $1 != nullptr) jenv->ReleaseByteArrayElements($input, (jbyte*)$1, JNI_ABORT);
%}
%apply const char* UTF8 { const char* path, const char* device, const char* key, const char* backend_path,
                          const char* cpu_variant };

// ---- handles: long, 0 is NULL -------------------------------------------------------------------------
%define DSOPT_HANDLE(T)
%typemap(jni) T* "jlong"
%typemap(jtype) T* "long"
%typemap(jstype) T* "long"
%typemap(javain) T* "$javainput"
%typemap(javaout) T* { return $jnicall; }
%typemap(in) T* %{ $1 = (T*)(intptr_t)$input; %}
%typemap(out) T* %{
  if ($1 == nullptr) { DsoptJavaThrow(jenv, RawStatus()); return $null; }
  $result = (jlong)(intptr_t)$1;
%}
%enddef
