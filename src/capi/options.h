// options.h - how arguments cross the C interface: structs with struct_size in both directions, strings,
// arrays. The rules are those at the top of dsopt.h.
#ifndef DSOPT_CAPI_OPTIONS_H_
#define DSOPT_CAPI_OPTIONS_H_

#include <algorithm>
#include <cstring>
#include <string_view>

#include "base/status.h"
#include "dsopt/dsopt.h"

namespace dsopt {

inline constexpr uint32_t kMaxStructBytes = 4096;  // no struct of any version will be larger: a garbage check

inline Status NullArgument(const char* name) {
  return Error(DSOPT_E_INVALID_ARGUMENT, "%s: NULL, expected a valid pointer", name);
}

#define RETURN_IF_NULL(pointer)                                       \
  do {                                                                \
    if ((pointer) == nullptr) return ::dsopt::NullArgument(#pointer); \
  } while (0)

// struct_size is the first member of every struct. A whole number of members fits when it is a multiple of the
// alignment, so that no pointer is ever read by halves.
template <typename T>
Status CheckStructSize(const T* in, const char* name) {
  const uint32_t size = in->struct_size;
  if (size >= sizeof(uint32_t) && size <= kMaxStructBytes && size % alignof(T) == 0) return Status();
  return Error(DSOPT_E_INVALID_ARGUMENT, "%s.struct_size: %u, expected sizeof the struct (%zu here)", name,
               size, sizeof(T));
}

// Input struct of any version. NULL and missing members become zero, which means default. Members that this
// library does not know must be zero.
template <typename T>
Status ReadStruct(const T* in, const char* name, T* out) {
  *out = T{};
  out->struct_size = sizeof(T);
  if (in == nullptr) return Status();
  RETURN_IF_ERROR(CheckStructSize(in, name));
  const size_t size = in->struct_size;
  const auto* bytes = reinterpret_cast<const unsigned char*>(in);
  for (size_t i = sizeof(T); i < size; ++i) {
    if (bytes[i] == 0) continue;
    return Error(DSOPT_E_UNSUPPORTED, "%s: byte %zu is set, this library knows %zu bytes of the struct", name,
                 i, sizeof(T));
  }
  std::memcpy(static_cast<void*>(out), in, std::min(size, sizeof(T)));
  out->struct_size = sizeof(T);
  return Status();
}

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
