// needs_data.h - include once in a test program all of whose cases need ../shared/data: without it the program ends
// with 77, which ctest shows as skipped.
#ifndef DSOPT_TESTS_MODEL_NEEDS_DATA_H_
#define DSOPT_TESTS_MODEL_NEEDS_DATA_H_

#define CATCH_CONFIG_EXTERNAL_INTERFACES  // the listener interface of Catch2; before its first inclusion

#include <cstdlib>

#include <catch2/catch.hpp>

#include "support.h"

namespace dsopt::testing {

class SkipWithoutData : public Catch::TestEventListenerBase {
 public:
  using TestEventListenerBase::TestEventListenerBase;
  void testRunStarting(const Catch::TestRunInfo&) override {
    if (!HaveOrSkip(DataFolder() / "checkpoints")) std::exit(77);
  }
};
CATCH_REGISTER_LISTENER(SkipWithoutData)

}  // namespace dsopt::testing
#endif  // DSOPT_TESTS_MODEL_NEEDS_DATA_H_
