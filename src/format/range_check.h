// range_check.h - "where: field is value, expected low to high": the one form of message for numbers of a file.
#ifndef DSOPT_FORMAT_RANGE_CHECK_H_
#define DSOPT_FORMAT_RANGE_CHECK_H_

#include <cstdint>
#include <initializer_list>
#include <string>

#include "base/status.h"

namespace dsopt {

struct IntRange {
  const char* field;
  uint64_t value, low, high;
};
struct FloatRange {
  const char* field;
  double value, low, high;
};

// DSOPT_E_CORRUPT for the first value outside of its range. NaN is outside of every range.
inline Status CheckRanges(const std::string& where, std::initializer_list<IntRange> ranges) {
  for (const IntRange& r : ranges) {
    if (r.value >= r.low && r.value <= r.high) continue;
    return Error(DSOPT_E_CORRUPT, "%s: %s is %llu, expected %llu to %llu", where.c_str(), r.field,
                 static_cast<unsigned long long>(r.value), static_cast<unsigned long long>(r.low),
                 static_cast<unsigned long long>(r.high));
  }
  return {};
}
inline Status CheckRanges(const std::string& where, std::initializer_list<FloatRange> ranges) {
  for (const FloatRange& r : ranges) {
    if (r.value >= r.low && r.value <= r.high) continue;
    return Error(DSOPT_E_CORRUPT, "%s: %s is %g, expected %g to %g", where.c_str(), r.field, r.value, r.low,
                 r.high);
  }
  return {};
}

}  // namespace dsopt
#endif  // DSOPT_FORMAT_RANGE_CHECK_H_
