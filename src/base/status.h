// status.h - errors as values. A Status is a dsopt_code and a one-line message that names the thing, the
// value found and the value expected. Result<T> is a T or a Status. Not for: programming errors in dsopt.
#ifndef DSOPT_BASE_STATUS_H_
#define DSOPT_BASE_STATUS_H_

#include <cstdarg>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "dsopt/dsopt.h"

namespace dsopt {

// Small: a null pointer when ok. [thread-compatible]
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(dsopt_code code, std::string message)
      : rep_(std::make_unique<Rep>(Rep{code, std::move(message)})) {}
  Status(const Status& other) : rep_(other.rep_ ? std::make_unique<Rep>(*other.rep_) : nullptr) {}
  Status& operator=(const Status& other) {
    if (this != &other) rep_ = other.rep_ ? std::make_unique<Rep>(*other.rep_) : nullptr;
    return *this;
  }
  Status(Status&&) noexcept = default;
  Status& operator=(Status&&) noexcept = default;

  bool ok() const { return rep_ == nullptr; }
  dsopt_code code() const { return rep_ ? rep_->code : DSOPT_OK; }
  // Empty when ok.
  std::string_view message() const { return rep_ ? std::string_view(rep_->message) : std::string_view(); }

 private:
  struct Rep {
    dsopt_code code;
    std::string message;
  };
  std::unique_ptr<Rep> rep_;
};

// printf-style constructor of a failure.
Status Error(dsopt_code code, const char* format, ...) __attribute__((format(printf, 2, 3)));
// printf into a std::string.
std::string Format(const char* format, ...) __attribute__((format(printf, 1, 2)));

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}              // NOLINT: implicit on purpose
  Result(Status status) : status_(std::move(status)) {}      // NOLINT: implicit on purpose; not ok
  bool ok() const { return value_.has_value(); }
  const Status& status() const { return status_; }
  T& operator*() & { return *value_; }
  const T& operator*() const& { return *value_; }
  T&& operator*() && { return std::move(*value_); }
  T* operator->() { return &*value_; }
  const T* operator->() const { return &*value_; }

 private:
  std::optional<T> value_;
  Status status_;
};

#define DSOPT_CONCAT_INNER(a, b) a##b
#define DSOPT_CONCAT(a, b) DSOPT_CONCAT_INNER(a, b)
#define RETURN_IF_ERROR(expr)                          \
  do {                                                 \
    if (::dsopt::Status status_ = (expr); !status_.ok()) return status_; \
  } while (0)
#define ASSIGN_OR_RETURN(lhs, expr) ASSIGN_OR_RETURN_IMPL(DSOPT_CONCAT(result_, __LINE__), lhs, expr)
#define ASSIGN_OR_RETURN_IMPL(result, lhs, expr) \
  auto result = (expr);                          \
  if (!result.ok()) return result.status();      \
  lhs = *std::move(result)

}  // namespace dsopt
#endif  // DSOPT_BASE_STATUS_H_
