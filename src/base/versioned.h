// versioned.h - reading structs of the C interface of any version: struct_size is their first member. The rules
// are those at the top of dsopt.h.
#ifndef DSOPT_BASE_VERSIONED_H_
#define DSOPT_BASE_VERSIONED_H_

#include <algorithm>
#include <cstring>

#include "base/status.h"

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

}  // namespace dsopt
#endif  // DSOPT_BASE_VERSIONED_H_
