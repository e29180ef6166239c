#include "base/status.h"

#include <catch2/catch.hpp>
#include <string>

namespace dsopt {
namespace {

Result<int> Half(int value) {
  if (value % 2 != 0) return Error(DSOPT_E_INVALID_ARGUMENT, "value is %d, expected an even number", value);
  return value / 2;
}

Result<int> Quarter(int value) {
  ASSIGN_OR_RETURN(const int half, Half(value));
  ASSIGN_OR_RETURN(const int quarter, Half(half));
  return quarter;
}

Status CheckBoth(int a, int b) {
  RETURN_IF_ERROR(Half(a).status());
  RETURN_IF_ERROR(Half(b).status());
  return {};
}

TEST_CASE("a default status is ok and has no message", "[base]") {
  const Status status;
  CHECK(status.ok());
  CHECK(status.code() == DSOPT_OK);
  CHECK(status.message().empty());
  CHECK(sizeof(Status) == sizeof(void*));
}

TEST_CASE("an error keeps its code and message through copies and moves", "[base]") {
  const Status error = Error(DSOPT_E_IO, "%s: %u bytes", "file", 7u);
  Status copy = error;
  CHECK(copy.code() == DSOPT_E_IO);
  CHECK(copy.message() == "file: 7 bytes");
  copy = Status();
  CHECK(copy.ok());
  CHECK_FALSE(error.ok());
  copy = error;
  copy = *&copy;
  CHECK(copy.message() == "file: 7 bytes");
  const Status moved = std::move(copy);
  CHECK(moved.message() == "file: 7 bytes");
}

TEST_CASE("a message is one line of any length", "[base]") {
  CHECK(Error(DSOPT_E_IO, "a\nb\r\nc").message() == "a b  c");
  const std::string text(100000, 'x');
  CHECK(Error(DSOPT_E_IO, "%s", text.c_str()).message() == text);
  CHECK(Format("%05d", 42) == "00042");
  CHECK(Format("%s", "").empty());
}

TEST_CASE("a result is a value or an error", "[base]") {
  CHECK(*Half(4) == 2);
  CHECK(Half(4).status().ok());
  CHECK_FALSE(Half(3).ok());
  CHECK(Half(3).status().message() == "value is 3, expected an even number");
  Result<std::unique_ptr<int>> owner(std::make_unique<int>(5));
  const std::unique_ptr<int> value = *std::move(owner);
  CHECK(*value == 5);
}

TEST_CASE("the macros return the first error and assign values", "[base]") {
  CHECK(*Quarter(8) == 2);
  CHECK(Quarter(6).status().message() == "value is 3, expected an even number");
  CHECK(Quarter(5).status().message() == "value is 5, expected an even number");
  CHECK(CheckBoth(2, 4).ok());
  CHECK(CheckBoth(1, 3).message() == "value is 1, expected an even number");
  CHECK(CheckBoth(2, 3).message() == "value is 3, expected an even number");
}

}  // namespace
}  // namespace dsopt
