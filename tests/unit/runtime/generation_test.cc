#include "runtime/generation.h"

#include <catch2/catch.hpp>
#include <cmath>

namespace dsopt {
namespace {

template <typename Change>
dsopt_code CodeOf(Change change) {
  Generation generation;
  change(&generation);
  return CompleteGeneration(100, &generation).code();
}

TEST_CASE("zero means default: a seed from the OS and a window of 64", "[generation]") {
  Generation a, b;
  REQUIRE(CompleteGeneration(100, &a).ok());
  REQUIRE(CompleteGeneration(100, &b).ok());
  CHECK(a.sampling.seed != 0);
  CHECK(a.sampling.seed != b.sampling.seed);
  CHECK(a.sampling.penalty_window == 64);
  CHECK(!a.has_penalties());
}

TEST_CASE("values out of range are refused", "[generation]") {
  CHECK(CodeOf([](Generation* g) { g->sampling.temperature = -1; }) == DSOPT_E_INVALID_ARGUMENT);
  CHECK(CodeOf([](Generation* g) { g->sampling.temperature = NAN; }) == DSOPT_E_INVALID_ARGUMENT);
  CHECK(CodeOf([](Generation* g) { g->sampling.top_p = 1.5f; }) == DSOPT_E_INVALID_ARGUMENT);
  CHECK(CodeOf([](Generation* g) { g->sampling.frequency_penalty = INFINITY; }) == DSOPT_E_INVALID_ARGUMENT);
  CHECK(CodeOf([](Generation* g) { g->sampling.penalty_window = 1025; }) == DSOPT_E_INVALID_ARGUMENT);
  CHECK(CodeOf([](Generation* g) { g->top_logprobs = 21; }) == DSOPT_E_INVALID_ARGUMENT);
  CHECK(CodeOf([](Generation* g) { g->stop_tokens = {100}; }) == DSOPT_E_INVALID_ARGUMENT);
  CHECK(CodeOf([](Generation* g) { g->bias = {{-1, 0}}; }) == DSOPT_E_INVALID_ARGUMENT);
  CHECK(CodeOf([](Generation* g) { g->bias = {{1, NAN}}; }) == DSOPT_E_INVALID_ARGUMENT);
  CHECK(CodeOf([](Generation* g) { g->bias = {{1, INFINITY}}; }) == DSOPT_E_INVALID_ARGUMENT);
  CHECK(CodeOf([](Generation* g) { g->bias = {{1, -INFINITY}}; }) == DSOPT_OK);
  CHECK(CodeOf([](Generation* g) { g->stop = {"\xFF"}; }) == DSOPT_E_INVALID_ARGUMENT);
  CHECK(CodeOf([](Generation* g) { g->stop = {std::string(5000, 'x')}; }) == DSOPT_E_INVALID_ARGUMENT);
}

}  // namespace
}  // namespace dsopt
