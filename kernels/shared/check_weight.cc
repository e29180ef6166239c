// check_weight.cc - shapes that no backend takes, and the text of every refusal. Rules of encodings belong to
// the backends: they differ.
#include <cstdarg>
#include <cstdio>

#include "check.h"

namespace dsopt_shared {
namespace {

constexpr uint64_t kMaxElements = uint64_t{1} << 44;
constexpr uint64_t kMaxSide = uint64_t{1} << 28;

}  // namespace

dsopt_status Refuse(const dsopt_host_api& host, dsopt_status code, const char* format, ...) {
  char text[512];
  va_list args;
  va_start(args, format);
  std::vsnprintf(text, sizeof(text), format, args);
  va_end(args);
  if (host.set_error != nullptr) host.set_error(host.context, text);
  return code;
}

const char* WeightShapeError(const dsopt_weight_desc& d) {
  if (d.batch == 0 || d.rows == 0 || d.cols == 0) return "no side may be 0";
  if (d.batch > kMaxSide || d.rows > kMaxSide || d.cols > kMaxSide) return "a side is beyond 2^28";
  uint64_t elements;
  if (__builtin_mul_overflow(d.batch, d.rows, &elements) ||
      __builtin_mul_overflow(elements, d.cols, &elements) || elements > kMaxElements) {
    return "more than 2^44 elements";
  }
  switch (d.kind) {
    case DSOPT_WEIGHT_VECTOR:
      return d.batch == 1 && d.rows == 1 ? nullptr : "a vector has batch 1 and rows 1";
    case DSOPT_WEIGHT_GATE_UP:
      return d.rows % 2 == 0 ? nullptr : "gate and up need an even number of rows";
    case DSOPT_WEIGHT_EMBEDDING:
    case DSOPT_WEIGHT_ROUTER:
      return d.batch == 1 ? nullptr : "batch 1 expected";
    case DSOPT_WEIGHT_MATRIX:
    case DSOPT_WEIGHT_TRANSPOSED:
    case DSOPT_WEIGHT_EXPERTS:
      break;
    default:
      return "unknown kind";
  }
  return nullptr;
}

}  // namespace dsopt_shared
