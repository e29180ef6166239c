// The rules at the top of dsopt.h: NULL, struct_size, flags, messages, two-phase strings.
#include <cstring>

#include "tests/capi/capi_harness.h"

namespace dsopt::testing {
namespace {

struct Fixture {
  RuntimePtr runtime = NewRuntime();
  ModelPtr model = OpenModel(runtime.get());
  SessionPtr session = NewSession(model.get());
  StreamPtr stream = NewStream(session.get(), "abc");
};

TEST_CASE("NULL handles and NULL out pointers are invalid arguments with a message", "[capi]") {
  Fixture f;
  dsopt_runtime* runtime = f.runtime.get();
  dsopt_model* model = f.model.get();
  dsopt_session* session = f.session.get();
  dsopt_stream* stream = f.stream.get();
  constexpr dsopt_status kCode = DSOPT_E_INVALID_ARGUMENT;
  dsopt_model* out_model = nullptr;
  dsopt_session* out_session = nullptr;
  dsopt_stream* out_stream = nullptr;
  size_t size = 0;
  float value = 0;
  double rate = 0;
  dsopt_token token = 0;
  auto info = Sized<dsopt_device_info>();
  auto model_info = Sized<dsopt_model_info>();
  auto stats = Sized<dsopt_session_stats>();
  auto event = Sized<dsopt_event>();
  CHECK_FAILS(kCode, dsopt_runtime_create(nullptr, nullptr));
  CHECK_FAILS(kCode, dsopt_runtime_load_backend(nullptr, "/x/y"));
  CHECK_FAILS(kCode, dsopt_runtime_load_backend(runtime, nullptr));
  CHECK_FAILS(kCode, dsopt_device_get_info(nullptr, 0, &info));
  CHECK_FAILS(kCode, dsopt_device_get_info(runtime, 0, nullptr));
  CHECK_FAILS(kCode, dsopt_runtime_report(nullptr, nullptr, 0, &size));
  CHECK_FAILS(kCode, dsopt_runtime_report(runtime, nullptr, 0, nullptr));
  CHECK_FAILS(kCode, dsopt_device_measure_read(nullptr, "cpu", 1, &rate));
  CHECK_FAILS(kCode, dsopt_device_measure_read(runtime, "cpu", 1, nullptr));
  CHECK_FAILS(kCode, dsopt_model_open(nullptr, "x", nullptr, &out_model));
  CHECK_FAILS(kCode, dsopt_model_open(runtime, nullptr, nullptr, &out_model));
  CHECK_FAILS(kCode, dsopt_model_open(runtime, "x", nullptr, nullptr));
  CHECK_FAILS(kCode, dsopt_model_open_memory(runtime, nullptr, 5, nullptr, &out_model));
  CHECK_FAILS(kCode, dsopt_model_open_io(runtime, nullptr, nullptr, &out_model));
  CHECK_FAILS(kCode, dsopt_model_poll(nullptr, 0, &value));
  CHECK_FAILS(kCode, dsopt_model_get_info(nullptr, &model_info));
  CHECK_FAILS(kCode, dsopt_model_get_info(model, nullptr));
  CHECK_FAILS(kCode, dsopt_model_get_metadata(model, nullptr, nullptr, 0, &size));
  CHECK_FAILS(kCode, dsopt_model_get_metadata(nullptr, "license", nullptr, 0, &size));
  CHECK_FAILS(kCode, dsopt_tokenize(nullptr, "a", 1, 0, &token, 1, &size));
  CHECK_FAILS(kCode, dsopt_tokenize(model, nullptr, 1, 0, &token, 1, &size));
  CHECK_FAILS(kCode, dsopt_tokenize(model, "a", 1, 0, nullptr, 1, &size));
  CHECK_FAILS(kCode, dsopt_tokenize(model, "a", 1, 0, &token, 1, nullptr));
  CHECK_FAILS(kCode, dsopt_detokenize(model, nullptr, 1, 0, nullptr, 0, &size));
  CHECK_FAILS(kCode, dsopt_chat_format(model, nullptr, 1, 0, nullptr, 0, &size));
  CHECK_FAILS(kCode, dsopt_session_create(nullptr, nullptr, &out_session));
  CHECK_FAILS(kCode, dsopt_session_create(model, nullptr, nullptr));
  CHECK_FAILS(kCode, dsopt_session_poll(nullptr, 0, nullptr));
  CHECK_FAILS(kCode, dsopt_session_wait(nullptr, 0));
  CHECK_FAILS(kCode, dsopt_session_trim(nullptr));
  CHECK_FAILS(kCode, dsopt_session_get_stats(nullptr, &stats));
  CHECK_FAILS(kCode, dsopt_session_get_stats(session, nullptr));
  CHECK_FAILS(kCode, dsopt_stream_create(nullptr, &out_stream));
  CHECK_FAILS(kCode, dsopt_stream_create(session, nullptr));
  CHECK_FAILS(kCode, dsopt_stream_append_text(nullptr, "a", 1, 0));
  CHECK_FAILS(kCode, dsopt_stream_append_text(stream, nullptr, 1, 0));
  CHECK_FAILS(kCode, dsopt_stream_append_tokens(stream, nullptr, 1));
  CHECK_FAILS(kCode, dsopt_stream_generate(nullptr, nullptr));
  CHECK_FAILS(kCode, dsopt_stream_read(nullptr, &event));
  CHECK_FAILS(kCode, dsopt_stream_read(stream, nullptr));
  CHECK_FAILS(kCode, dsopt_stream_error(nullptr, nullptr, 0, nullptr));
  CHECK_FAILS(kCode, dsopt_stream_get_tokens(stream, 0, nullptr, 1, &size));
  CHECK_FAILS(kCode, dsopt_stream_get_tokens(stream, 0, &token, 1, nullptr));
  CHECK_FAILS(kCode, dsopt_stream_get_logprobs(nullptr, 0, &value, 1, &size));
  CHECK_FAILS(kCode, dsopt_stream_rewind(nullptr, 0));
  CHECK_FAILS(kCode, dsopt_stream_fork(stream, nullptr));
  CHECK_FAILS(kCode, dsopt_stream_save(stream, nullptr, 0, nullptr));
  CHECK_FAILS(kCode, dsopt_stream_load(stream, nullptr, 10));
  CHECK_FAILS(kCode, dsopt_stream_get_logits(stream, nullptr, 1, &size));
  CHECK(dsopt_device_count(nullptr) == 0);
  CHECK(dsopt_stream_token_count(nullptr) == 0);
  dsopt_runtime_release(nullptr);
  dsopt_model_release(nullptr);
  dsopt_model_cancel(nullptr);
  dsopt_session_release(nullptr);
  dsopt_session_interrupt(nullptr);
  dsopt_stream_release(nullptr);
  dsopt_stream_cancel(nullptr);
}

TEST_CASE("a smaller struct gets defaults and a larger one is accepted while its tail is zero", "[capi]") {
  struct Larger {
    dsopt_runtime_options known;
    uint64_t future[2];
  } larger = {};
  larger.known.struct_size = sizeof larger;
  larger.known.disable_backend_scan = 1;
  dsopt_runtime* runtime = nullptr;
  REQUIRE_OK(dsopt_runtime_create(&larger.known, &runtime));
  dsopt_runtime_release(runtime);
  larger.future[1] = 1;
  CHECK_FAILS(DSOPT_E_UNSUPPORTED, dsopt_runtime_create(&larger.known, &runtime));
  dsopt_runtime_options smaller = {};
  smaller.struct_size = 8;
  smaller.log_level = static_cast<dsopt_log_level>(77);  // past the end of the struct: not read
  REQUIRE_OK(dsopt_runtime_create(&smaller, &runtime));
  dsopt_runtime_release(runtime);
  for (uint32_t size : {0u, 3u, 9u, 100000u, 0xFFFFFFF8u}) {
    CAPTURE(size);
    smaller.struct_size = size;
    CHECK_FAILS(DSOPT_E_INVALID_ARGUMENT, dsopt_runtime_create(&smaller, &runtime));
  }
}

TEST_CASE("nested structs follow the same rules", "[capi]") {
  Fixture f;
  auto sampling = Sized<dsopt_sampling>();
  auto options = Options(1);
  options.sampling = &sampling;
  sampling.struct_size = 0;
  CHECK_FAILS(DSOPT_E_INVALID_ARGUMENT, dsopt_stream_generate(f.stream.get(), &options));
  struct Larger {
    dsopt_sampling known;
    uint64_t future;
  } larger = {};
  larger.known.struct_size = sizeof larger;
  larger.future = 1;
  options.sampling = &larger.known;
  CHECK_FAILS(DSOPT_E_UNSUPPORTED, dsopt_stream_generate(f.stream.get(), &options));
  larger.future = 0;
  CHECK(Generate(f.session.get(), f.stream.get(), options).tokens.size() == 1);
  dsopt_allocator allocator = {};
  allocator.struct_size = sizeof allocator;
  auto runtime_options = Sized<dsopt_runtime_options>();
  runtime_options.allocator = &allocator;
  dsopt_runtime* runtime = nullptr;
  CHECK_FAILS(DSOPT_E_INVALID_ARGUMENT, dsopt_runtime_create(&runtime_options, &runtime));
}

TEST_CASE("output structs are filled up to their struct_size and not beyond", "[capi]") {
  Fixture f;
  dsopt_model_info info;
  std::memset(&info, 0x77, sizeof info);
  info.struct_size = 16;
  REQUIRE_OK(dsopt_model_get_info(f.model.get(), &info));
  CHECK(info.struct_size == 16);
  CHECK(info.vocab_size == kTinyVocab);
  CHECK(info.layer_count == 2);
  CHECK(info.parameter_count == 0x7777777777777777u);
  struct Larger {
    dsopt_model_info known;
    uint64_t future;
  } larger;
  std::memset(&larger, 0x77, sizeof larger);
  larger.known.struct_size = sizeof larger;
  REQUIRE_OK(dsopt_model_get_info(f.model.get(), &larger.known));
  CHECK(larger.known.loaded == 1);
  CHECK(std::string(larger.known.device) == "cpu");
  CHECK(larger.future == 0);
  info.struct_size = 0;
  CHECK_FAILS(DSOPT_E_INVALID_ARGUMENT, dsopt_model_get_info(f.model.get(), &info));
}

TEST_CASE("unknown flags are unsupported", "[capi]") {
  Fixture f;
  auto model_options = Sized<dsopt_model_options>();
  model_options.flags = 0x100;
  dsopt_model* model = nullptr;
  CHECK_FAILS(DSOPT_E_UNSUPPORTED, dsopt_model_open_memory(f.runtime.get(), ModelBytes().data(),
                                                           ModelBytes().size(), &model_options, &model));
  auto session_options = Sized<dsopt_session_options>();
  session_options.flags = 1;
  dsopt_session* session = nullptr;
  CHECK_FAILS(DSOPT_E_UNSUPPORTED, dsopt_session_create(f.model.get(), &session_options, &session));
  session_options.flags = 0;
  session_options.kv_dtype = DSOPT_U8;
  CHECK_FAILS(DSOPT_E_UNSUPPORTED, dsopt_session_create(f.model.get(), &session_options, &session));
  session_options.kv_dtype = DSOPT_DTYPE_DEFAULT;
  session_options.precision = static_cast<dsopt_precision>(9);
  CHECK_FAILS(DSOPT_E_INVALID_ARGUMENT, dsopt_session_create(f.model.get(), &session_options, &session));
  session_options.precision = DSOPT_PRECISION_FAST;
  session_options.max_tokens = 0xFFFFFFFF;
  session_options.max_streams = 0xFFFFFFFF;
  CHECK_FAILS(DSOPT_E_INVALID_ARGUMENT, dsopt_session_create(f.model.get(), &session_options, &session));
  auto options = Options(1);
  options.flags = 0x80;
  CHECK_FAILS(DSOPT_E_UNSUPPORTED, dsopt_stream_generate(f.stream.get(), &options));
  size_t count = 0;
  CHECK_FAILS(DSOPT_E_UNSUPPORTED, dsopt_tokenize(f.model.get(), "a", 1, 8, nullptr, 0, &count));
  CHECK_FAILS(DSOPT_E_UNSUPPORTED, dsopt_stream_append_text(f.stream.get(), "a", 1, 4));
}

TEST_CASE("a header that is newer than the library is a version error naming both", "[capi]") {
  auto options = Sized<dsopt_runtime_options>();
  options.abi_level = DSOPT_ABI_LEVEL + 1;
  dsopt_runtime* runtime = nullptr;
  CHECK_FAILS(DSOPT_E_VERSION, dsopt_runtime_create(&options, &runtime));
  CHECK(std::string(dsopt_last_error()).find("level 2") != std::string::npos);
}

TEST_CASE("strings say their length first and need room for the NUL", "[capi]") {
  Fixture f;
  size_t length = 0;
  CHECK_FAILS(DSOPT_E_BUFFER_TOO_SMALL,
              dsopt_model_get_metadata(f.model.get(), "license", nullptr, 0, &length));
  CHECK(length == std::strlen("none: random numbers"));
  std::string text(length + 1, 'x');
  CHECK_FAILS(DSOPT_E_BUFFER_TOO_SMALL,
              dsopt_model_get_metadata(f.model.get(), "license", text.data(), length, &length));
  CHECK(text[0] == 'x');
  REQUIRE_OK(dsopt_model_get_metadata(f.model.get(), "license", text.data(), length + 1, &length));
  CHECK(std::string(text.c_str()) == "none: random numbers");
  CHECK_FAILS(DSOPT_E_NOT_FOUND, dsopt_model_get_metadata(f.model.get(), "x", nullptr, 0, &length));
  std::vector<dsopt_token> tokens(3);
  CHECK_FAILS(DSOPT_E_BUFFER_TOO_SMALL, dsopt_tokenize(f.model.get(), "abcd", 4, 0, tokens.data(), 3, &length));
  CHECK(length == 4);
}

TEST_CASE("the message of a failure is gone after the next success", "[capi]") {
  Fixture f;
  CHECK_FAILS(DSOPT_E_INVALID_ARGUMENT, dsopt_stream_rewind(f.stream.get(), 1000));
  const std::string message = dsopt_last_error();
  CHECK(message.find("1000") != std::string::npos);
  CHECK(message.find('\n') == std::string::npos);
  REQUIRE_OK(dsopt_stream_rewind(f.stream.get(), 1));
  CHECK(std::string(dsopt_last_error()).empty());
}

TEST_CASE("every code has a name", "[capi]") {
  CHECK(std::string(dsopt_status_name(DSOPT_OK)) == "DSOPT_OK");
  for (int32_t code = DSOPT_E_INVALID_ARGUMENT; code >= DSOPT_E_CALLBACK; --code) {
    CAPTURE(code);
    CHECK(std::string(dsopt_status_name(code)).rfind("DSOPT_E_", 0) == 0);
  }
  CHECK(std::string(dsopt_status_name(-55)) == "unknown status");
  CHECK(std::string(dsopt_build_info()).find("dsopt 1.0.0") == 0);
}

TEST_CASE("arguments of generate are checked before anything is queued", "[capi]") {
  Fixture f;
  auto options = Options(1);
  const char* stops[] = {"x", nullptr};
  options.stop = stops;
  options.stop_count = 2;
  CHECK_FAILS(DSOPT_E_INVALID_ARGUMENT, dsopt_stream_generate(f.stream.get(), &options));
  options.stop_count = SIZE_MAX;
  CHECK_FAILS(DSOPT_E_INVALID_ARGUMENT, dsopt_stream_generate(f.stream.get(), &options));
  options = Options(1);
  options.bias_count = 1;
  CHECK_FAILS(DSOPT_E_INVALID_ARGUMENT, dsopt_stream_generate(f.stream.get(), &options));
  const dsopt_token stop_tokens[] = {static_cast<dsopt_token>(kTinyVocab)};
  options = Options(1);
  options.stop_tokens = stop_tokens;
  options.stop_token_count = 1;
  CHECK_FAILS(DSOPT_E_INVALID_ARGUMENT, dsopt_stream_generate(f.stream.get(), &options));
  CHECK(dsopt_session_poll(f.session.get(), 100, nullptr) == DSOPT_OK);  // nothing is generating
  const dsopt_token bad[] = {5, -1};
  CHECK_FAILS(DSOPT_E_INVALID_ARGUMENT, dsopt_stream_append_tokens(f.stream.get(), bad, 2));
  CHECK(dsopt_stream_token_count(f.stream.get()) == 4);
  CHECK_FAILS(DSOPT_E_INVALID_ARGUMENT, dsopt_stream_append_text(f.stream.get(), "\xFF", 1, 0));
}

TEST_CASE("appends, rewind and load are refused while generating", "[capi]") {
  Fixture f;
  const std::vector<uint8_t> saved = Save(f.stream.get());
  auto options = Options(500);
  REQUIRE_OK(dsopt_stream_generate(f.stream.get(), &options));
  const dsopt_token token = 1;
  CHECK_FAILS(DSOPT_E_INVALID_STATE, dsopt_stream_append_text(f.stream.get(), "a", 1, 0));
  CHECK_FAILS(DSOPT_E_INVALID_STATE, dsopt_stream_append_tokens(f.stream.get(), &token, 1));
  CHECK_FAILS(DSOPT_E_INVALID_STATE, dsopt_stream_rewind(f.stream.get(), 0));
  CHECK_FAILS(DSOPT_E_INVALID_STATE, dsopt_stream_load(f.stream.get(), saved.data(), saved.size()));
  CHECK_FAILS(DSOPT_E_INVALID_STATE, dsopt_stream_generate(f.stream.get(), &options));
}

}  // namespace
}  // namespace dsopt::testing
