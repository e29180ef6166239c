// options.h - how arguments cross the C interface: structs with struct_size out (in: base/versioned.h),
// strings, arrays. The rules are those at the top of dsopt.h.
#ifndef DSOPT_CAPI_OPTIONS_H_
#define DSOPT_CAPI_OPTIONS_H_

#include <algorithm>
#include <cstring>
#include <string_view>

#include "base/status.h"
#include "base/versioned.h"
#include "dsopt/dsopt.h"

namespace dsopt {

// Output struct of any version: filled up to its struct_size, which stays; members this library does not know
// become zero. CheckStructSize has been called.
template <typename T>
void WriteStruct(const T& value, T* out) {
  const size_t size = out->struct_size;
  auto* bytes = reinterpret_cast<unsigned char*>(out);
  const auto* from = reinterpret_cast<const unsigned char*>(&value);
  const size_t known = std::min(size, sizeof(T));
  std::memcpy(bytes + sizeof(uint32_t), from + sizeof(uint32_t), known - sizeof(uint32_t));
  if (size > sizeof(T)) std::memset(bytes + sizeof(T), 0, size - sizeof(T));
}

inline Status CheckFlags(const char* name, uint32_t flags, uint32_t known) {
  if ((flags & ~known) == 0) return Status();
  return Error(DSOPT_E_UNSUPPORTED, "%s: 0x%x, this library knows 0x%x", name, flags, known);
}

// (ptr, len) with DSOPT_NTS.
inline Status ReadText(const char* name, const char* text, size_t len, std::string_view* out) {
  *out = {};
  if (text == nullptr) return len == 0 ? Status() : NullArgument(name);
  *out = std::string_view(text, len == DSOPT_NTS ? std::strlen(text) : len);
  return Status();
}

inline Status CheckArray(const char* name, const void* data, size_t count) {
  return data != nullptr || count == 0 ? Status() : NullArgument(name);
}

// (buf, cap, out_len): the full length always, the text only if it and its NUL fit.
inline Status WriteText(std::string_view text, char* buf, size_t cap, size_t* out_len) {
  RETURN_IF_NULL(out_len);
  RETURN_IF_ERROR(CheckArray("buf", buf, cap));
  *out_len = text.size();
  if (cap <= text.size()) {
    return Error(DSOPT_E_BUFFER_TOO_SMALL, "buf: %zu bytes, %zu needed with the NUL", cap, text.size() + 1);
  }
  std::memcpy(buf, text.data(), text.size());
  buf[text.size()] = '\0';
  return Status();
}

}  // namespace dsopt
#endif  // DSOPT_CAPI_OPTIONS_H_
