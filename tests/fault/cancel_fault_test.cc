// Cancel after every number of short polls: the stream ends as cancelled or complete, and can always go on.
#include "tests/capi/capi_harness.h"

namespace dsopt::testing {
namespace {

TEST_CASE("a stream cancelled at any point continues like one that never was", "[fault]") {
  const TinyFamily family = GENERATE(from_range(std::begin(kTinyFamilies), std::end(kTinyFamilies)));
  CAPTURE(static_cast<int>(family));
  RuntimePtr runtime = NewRuntime();
  ModelPtr model = OpenModel(runtime.get(), ModelBytes(family));
  SessionPtr session = NewSession(model.get(), 2, 0, 16);
  const std::string prompt = std::string(120, 'k') + "cancel";
  std::vector<dsopt_token> expected;
  {
    StreamPtr stream = NewStream(session.get(), prompt);
    expected = Generate(session.get(), stream.get(), 20).tokens;
  }
  for (int polls = 0; polls < 60; ++polls) {
    CAPTURE(polls);
    StreamPtr stream = NewStream(session.get(), prompt);
    StreamPtr company = polls % 2 == 0 ? StreamPtr() : NewStream(session.get(), "company");
    const auto options = Options(20);
    REQUIRE_OK(dsopt_stream_generate(stream.get(), &options));
    if (company) REQUIRE_OK(dsopt_stream_generate(company.get(), &options));
    for (int i = 0; i < polls; ++i) REQUIRE(dsopt_session_poll(session.get(), 20, nullptr) >= 0);
    dsopt_stream_cancel(stream.get());
    const Output cancelled = ReadAll(session.get(), stream.get(), 20);
    CHECK((cancelled.finish == DSOPT_FINISH_CANCELLED || cancelled.finish == DSOPT_FINISH_LENGTH));
    std::vector<dsopt_token> tokens = cancelled.tokens;
    if (tokens.size() < 20) {
      const Output rest = Generate(session.get(), stream.get(), static_cast<uint32_t>(20 - tokens.size()));
      tokens.insert(tokens.end(), rest.tokens.begin(), rest.tokens.end());
    }
    REQUIRE(tokens == expected);
  }
}

TEST_CASE("a load cancelled after any number of polls fails for good and leaves nothing", "[fault]") {
  RuntimePtr runtime = NewRuntime();
  for (int polls = 0;; ++polls) {
    CAPTURE(polls);
    ModelPtr model = OpenModel(runtime.get(), ModelBytes(), DSOPT_MODEL_LAZY);
    dsopt_status status = DSOPT_PENDING;
    for (int i = 0; i < polls && status == DSOPT_PENDING; ++i)
      status = dsopt_model_poll(model.get(), 0, nullptr);
    dsopt_model_cancel(model.get());
    if (status == DSOPT_OK) break;  // it was complete before
    REQUIRE(status == DSOPT_PENDING);
    CHECK_FAILS(DSOPT_E_CANCELLED, dsopt_model_poll(model.get(), 1000000, nullptr));
    dsopt_session* session = nullptr;
    CHECK_FAILS(DSOPT_E_INVALID_STATE, dsopt_session_create(model.get(), nullptr, &session));
  }
}

}  // namespace
}  // namespace dsopt::testing
