// checked.h - size arithmetic on numbers that come from outside. Every parser uses it; a raw * or + on a
// file-supplied value is a bug.
#ifndef DSOPT_BASE_CHECKED_H_
#define DSOPT_BASE_CHECKED_H_

#include <cstdint>
#include <initializer_list>
#include <limits>
#include <optional>

namespace dsopt {

template <typename T>
[[nodiscard]] inline std::optional<T> CheckedAdd(T a, T b) {
  T out;
  if (__builtin_add_overflow(a, b, &out)) return std::nullopt;
  return out;
}

template <typename T>
[[nodiscard]] inline std::optional<T> CheckedMul(T a, T b) {
  T out;
  if (__builtin_mul_overflow(a, b, &out)) return std::nullopt;
  return out;
}

// Product of all factors, or nullopt on overflow.
[[nodiscard]] inline std::optional<uint64_t> CheckedProduct(std::initializer_list<uint64_t> factors) {
  uint64_t out = 1;
  for (uint64_t factor : factors) {
    if (__builtin_mul_overflow(out, factor, &out)) return std::nullopt;
  }
  return out;
}

// [offset, offset + length) lies inside [0, size).
[[nodiscard]] inline bool RangeFits(uint64_t offset, uint64_t length, uint64_t size) {
  return offset <= size && length <= size - offset;
}

}  // namespace dsopt
#endif  // DSOPT_BASE_CHECKED_H_
