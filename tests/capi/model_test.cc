// Opening models: memory, file, host i/o, lazily, cancelled, refused.
#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "tests/capi/capi_harness.h"

namespace dsopt::testing {
namespace {

TEST_CASE("all four families open and generate the same greedy tokens every time", "[capi]") {
  const TinyFamily family = GENERATE(from_range(std::begin(kTinyFamilies), std::end(kTinyFamilies)));
  CAPTURE(static_cast<int>(family));
  RuntimePtr runtime = NewRuntime();
  ModelPtr model = OpenModel(runtime.get(), ModelBytes(family));
  std::vector<dsopt_token> first;
  for (int i = 0; i < 2; ++i) {
    SessionPtr session = NewSession(model.get());
    StreamPtr stream = NewStream(session.get(), "The quick brown fox");
    const Output output = Generate(session.get(), stream.get(), 100);
    CHECK(output.finish == DSOPT_FINISH_LENGTH);
    REQUIRE(output.tokens.size() == 100);
    if (i == 0) first = output.tokens;
    CHECK(output.tokens == first);
  }
}

TEST_CASE("a lazy model loads in slices and refuses sessions until it is complete", "[capi]") {
  RuntimePtr runtime = NewRuntime();
  ModelPtr model = OpenModel(runtime.get(), ModelBytes(), DSOPT_MODEL_LAZY | DSOPT_MODEL_VERIFY);
  auto info = Sized<dsopt_model_info>();
  REQUIRE_OK(dsopt_model_get_info(model.get(), &info));
  CHECK(info.loaded == 0);
  dsopt_session* none = nullptr;
  CHECK_FAILS(DSOPT_E_INVALID_STATE, dsopt_session_create(model.get(), nullptr, &none));
  float progress = -1, last = 0;
  int polls = 0;
  dsopt_status status;
  while ((status = dsopt_model_poll(model.get(), 0, &progress)) == DSOPT_PENDING) {
    CHECK(progress >= last);
    last = progress;
    ++polls;
  }
  REQUIRE(status == DSOPT_OK);
  CHECK(progress == 1.0f);
  CHECK(polls > 3);
  REQUIRE_OK(dsopt_model_poll(model.get(), 0, &progress));
  REQUIRE_OK(dsopt_model_get_info(model.get(), &info));
  CHECK(info.loaded == 1);
  CHECK(info.weight_bytes > 0);
  CHECK(NewSession(model.get()) != nullptr);
}

TEST_CASE("a model opened for its metadata has text functions and no weights", "[capi]") {
  RuntimePtr runtime = NewRuntime();
  ModelPtr model = OpenModel(runtime.get(), ModelBytes(), DSOPT_MODEL_METADATA_ONLY);
  size_t count = 0;
  dsopt_token tokens[4];
  REQUIRE_OK(dsopt_tokenize(model.get(), "abc", DSOPT_NTS, 0, tokens, 4, &count));
  CHECK(count == 3);
  CHECK_FAILS(DSOPT_E_INVALID_STATE, dsopt_model_poll(model.get(), 0, nullptr));
  dsopt_session* session = nullptr;
  CHECK_FAILS(DSOPT_E_INVALID_STATE, dsopt_session_create(model.get(), nullptr, &session));
}

struct Progress {
  int calls = 0, cancel_at = 0;
  float last = 0;
  static int DSOPT_CALL Call(void* user, float progress) {
    auto* self = static_cast<Progress*>(user);
    self->last = progress;
    return ++self->calls == self->cancel_at ? 1 : 0;
  }
};

TEST_CASE("the progress callback sees the end and can cancel an open", "[capi]") {
  RuntimePtr runtime = NewRuntime();
  Progress progress;
  auto options = Sized<dsopt_model_options>();
  options.progress = Progress::Call;
  options.progress_user = &progress;
  options.flags = DSOPT_MODEL_LAZY;
  dsopt_model* model = nullptr;
  REQUIRE_OK(
      dsopt_model_open_memory(runtime.get(), ModelBytes().data(), ModelBytes().size(), &options, &model));
  while (dsopt_model_poll(model, 0, nullptr) == DSOPT_PENDING) {
  }
  CHECK(progress.calls > 3);
  CHECK(progress.last == 1.0f);
  dsopt_model_release(model);
  progress = {0, 2, 0};
  model = nullptr;
  REQUIRE_OK(
      dsopt_model_open_memory(runtime.get(), ModelBytes().data(), ModelBytes().size(), &options, &model));
  CHECK(dsopt_model_poll(model, 0, nullptr) == DSOPT_PENDING);
  CHECK_FAILS(DSOPT_E_CANCELLED, dsopt_model_poll(model, 0, nullptr));
  CHECK_FAILS(DSOPT_E_CANCELLED, dsopt_model_poll(model, 0, nullptr));  // final
  dsopt_model_release(model);
}

TEST_CASE("cancelling a load from outside ends it, and has no effect afterwards", "[capi]") {
  RuntimePtr runtime = NewRuntime();
  ModelPtr model = OpenModel(runtime.get(), ModelBytes(), DSOPT_MODEL_LAZY);
  dsopt_model_cancel(model.get());
  CHECK_FAILS(DSOPT_E_CANCELLED, dsopt_model_poll(model.get(), 1000000, nullptr));
  ModelPtr complete = OpenModel(runtime.get());
  dsopt_model_cancel(complete.get());
  REQUIRE_OK(dsopt_model_poll(complete.get(), 0, nullptr));
  CHECK(NewSession(complete.get()) != nullptr);
}

TEST_CASE("weights that exceed max_device_bytes are refused before they are read", "[capi]") {
  RuntimePtr runtime = NewRuntime();
  auto options = Sized<dsopt_model_options>();
  options.max_device_bytes = 1000;
  dsopt_model* model = nullptr;
  CHECK_FAILS(DSOPT_E_DEVICE_MEMORY, dsopt_model_open_memory(runtime.get(), ModelBytes().data(),
                                                             ModelBytes().size(), &options, &model));
  CHECK(model == nullptr);
  options.max_device_bytes = 0;
  options.device = "cuda:9";
  CHECK_FAILS(DSOPT_E_NOT_FOUND, dsopt_model_open_memory(runtime.get(), ModelBytes().data(),
                                                         ModelBytes().size(), &options, &model));
}

// Bytes with a switch to fail or fall short.
struct HostFile {
  std::vector<uint8_t> bytes = ModelBytes();
  int reads = 0, fail_at = -1, closes = 0;
  static dsopt_status DSOPT_CALL ReadAt(void* user, uint64_t offset, void* dst, size_t len) {
    auto* self = static_cast<HostFile*>(user);
    if (self->reads++ == self->fail_at) return DSOPT_E_IO;
    std::memcpy(dst, self->bytes.data() + offset, len);
    return DSOPT_OK;
  }
  static void DSOPT_CALL Close(void* user) { ++static_cast<HostFile*>(user)->closes; }
  dsopt_io Io() {
    auto io = Sized<dsopt_io>();
    io.user = this;
    io.size = bytes.size();
    io.read_at = ReadAt;
    io.close = Close;
    return io;
  }
};

TEST_CASE("a host file is closed exactly once, whether the open succeeds or fails", "[capi]") {
  RuntimePtr runtime = NewRuntime();
  int reads = 0;
  {
    HostFile file;
    dsopt_io io = file.Io();
    dsopt_model* model = nullptr;
    REQUIRE_OK(dsopt_model_open_io(runtime.get(), &io, nullptr, &model));
    CHECK(file.closes == 1);  // complete: the file is not needed any more
    reads = file.reads;
    dsopt_model_release(model);
    CHECK(file.closes == 1);
  }
  CHECK(reads > 3);
  for (int fail_at = 0; fail_at < reads; ++fail_at) {
    CAPTURE(fail_at);
    HostFile file;
    file.fail_at = fail_at;
    dsopt_io io = file.Io();
    dsopt_model* model = nullptr;
    CHECK_FAILS(DSOPT_E_CALLBACK, dsopt_model_open_io(runtime.get(), &io, nullptr, &model));
    CHECK(model == nullptr);
    CHECK(file.closes == 1);
  }
  HostFile file;
  dsopt_io io = file.Io();
  dsopt_model* model = nullptr;
  CHECK_FAILS(DSOPT_E_INVALID_ARGUMENT, dsopt_model_open_io(nullptr, &io, nullptr, &model));
  CHECK(file.closes == 1);
  io.read_at = nullptr;
  CHECK_FAILS(DSOPT_E_INVALID_ARGUMENT, dsopt_model_open_io(runtime.get(), &io, nullptr, &model));
}

TEST_CASE("a model opens from a file, read or mapped, and a missing one is not found", "[capi]") {
  RuntimePtr runtime = NewRuntime();
  const std::string path = (std::filesystem::temp_directory_path() / "dsopt_capi_test.dsopt").string();
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(ModelBytes().data()),
             static_cast<std::streamsize>(ModelBytes().size()));
  for (uint32_t flags : {0u, DSOPT_MODEL_MMAP}) {
    auto options = Sized<dsopt_model_options>();
    options.flags = flags;
    dsopt_model* model = nullptr;
    REQUIRE_OK(dsopt_model_open(runtime.get(), path.c_str(), &options, &model));
    dsopt_model_release(model);
  }
  std::filesystem::remove(path);
  dsopt_model* model = nullptr;
  CHECK_FAILS(DSOPT_E_NOT_FOUND, dsopt_model_open(runtime.get(), path.c_str(), nullptr, &model));
  CHECK(std::string(dsopt_last_error()).find("dsopt_capi_test.dsopt") != std::string::npos);
}

TEST_CASE("the report names the CPU and its kernels", "[capi]") {
  RuntimePtr runtime = NewRuntime();
  size_t length = 0;
  CHECK_FAILS(DSOPT_E_BUFFER_TOO_SMALL, dsopt_runtime_report(runtime.get(), nullptr, 0, &length));
  std::string text(length + 200, '\0');
  REQUIRE_OK(dsopt_runtime_report(runtime.get(), text.data(), text.size(), &length));
  CHECK(text.find("device cpu:") != std::string::npos);
  auto info = Sized<dsopt_device_info>();
  REQUIRE_OK(dsopt_device_get_info(runtime.get(), 0, &info));
  CHECK(info.kind == DSOPT_DEVICE_CPU);
  CHECK(std::string(info.id) == "cpu");
  CHECK_FAILS(DSOPT_E_NOT_FOUND, dsopt_device_get_info(runtime.get(), 99, &info));
  double rate = 0;
  REQUIRE_OK(dsopt_device_measure_read(runtime.get(), "cpu", 1 << 22, &rate));
  CHECK(rate > 1e6);
  CHECK_FAILS(DSOPT_E_NOT_FOUND, dsopt_device_measure_read(runtime.get(), "cuda:9", 1 << 22, &rate));
}

TEST_CASE("a chat is formatted by the model's template", "[capi]") {
  RuntimePtr runtime = NewRuntime();
  ModelPtr model = OpenModel(runtime.get());
  const dsopt_message messages[] = {{"system", "Be brief.", DSOPT_NTS}, {"user", "Hi there", 2}};
  char text[200];
  size_t length = 0;
  REQUIRE_OK(dsopt_chat_format(model.get(), messages, 2, DSOPT_CHAT_ADD_PROMPT, text, sizeof text, &length));
  CHECK(std::string(text) == "<|system|>Be brief.<|eot|><|user|>Hi<|eot|><|assistant|>");
  const dsopt_message broken[] = {messages[0], {"user", "Hi\xff", DSOPT_NTS}};
  CHECK_FAILS(DSOPT_E_INVALID_ARGUMENT, dsopt_chat_format(model.get(), broken, 2, 0, text, sizeof text, &length));
  CHECK(std::string(dsopt_last_error()) == "messages[1].content: invalid UTF-8 at byte 2");
  TinyOptions options;
  options.chat_template = false;
  const std::vector<uint8_t> plain = TinyModelBytes(options);
  ModelPtr without = OpenModel(runtime.get(), plain, DSOPT_MODEL_METADATA_ONLY);
  CHECK_FAILS(DSOPT_E_NOT_FOUND, dsopt_chat_format(without.get(), messages, 2, 0, text, sizeof text, &length));
}

}  // namespace
}  // namespace dsopt::testing
