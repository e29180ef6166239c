// dsopt_stream_load on hostile buffers. First byte even: the rest is the buffer. Odd: the rest edits a good
// buffer (offset, value) and the checksum is made right again, so that the checks behind it and the use of
// arbitrary cache contents are reached. What loads must then be able to generate.
#include <xxhash.h>

#include <cstdlib>
#include <cstring>

#include "dsopt/dsopt.h"
#include "runtime/saved_stream.h"
#include "tests/tiny_model.h"

namespace {

void Require(bool condition) {
  if (!condition) std::abort();  // what a fuzzer reports
}

struct State {
  dsopt_runtime* runtime = nullptr;
  dsopt_model* model = nullptr;
  dsopt_session* session = nullptr;
  std::vector<uint8_t> good;

  State() {
    static const std::vector<uint8_t> bytes = dsopt::testing::TinyModelBytes();
    dsopt_runtime_options options = {};
    options.struct_size = sizeof options;
    options.cpu_threads = 1;
    options.disable_backend_scan = 1;
    Require(dsopt_runtime_create(&options, &runtime) == DSOPT_OK);
    Require(dsopt_model_open_memory(runtime, bytes.data(), bytes.size(), nullptr, &model) == DSOPT_OK);
    Require(dsopt_session_create(model, nullptr, &session) == DSOPT_OK);
    dsopt_stream* stream = nullptr;
    Require(dsopt_stream_create(session, &stream) == DSOPT_OK);
    Require(dsopt_stream_append_text(stream, "A saved stream", DSOPT_NTS, 0) == DSOPT_OK);
    dsopt_generate_options go = {};
    go.struct_size = sizeof go;
    go.max_tokens = 3;
    Require(dsopt_stream_generate(stream, &go) == DSOPT_OK);
    while (dsopt_session_poll(session, 10000, nullptr) == DSOPT_PENDING) {
    }
    size_t length = 0;
    Require(dsopt_stream_save(stream, nullptr, 0, &length) == DSOPT_E_BUFFER_TOO_SMALL);
    good.resize(length);
    Require(dsopt_stream_save(stream, good.data(), good.size(), &length) == DSOPT_OK);
    dsopt_stream_release(stream);
  }
};

std::vector<uint8_t> Edited(std::vector<uint8_t> buffer, const uint8_t* data, size_t size) {
  for (; size >= 3; data += 3, size -= 3) {
    const size_t offset = (data[0] | static_cast<size_t>(data[1]) << 8) % buffer.size();
    buffer[offset] = data[2];
  }
  dsopt::SavedHeader header;
  std::memcpy(&header, buffer.data(), sizeof header);
  header.checksum = 0;
  const uint64_t head = XXH64(&header, sizeof header, 0);
  header.checksum = XXH64(buffer.data() + sizeof header, buffer.size() - sizeof header, head);
  std::memcpy(buffer.data(), &header, sizeof header);
  return buffer;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const State state;
  if (size == 0) return 0;
  std::vector<uint8_t> buffer(data + 1, data + size);
  if (data[0] % 2 == 1) buffer = Edited(state.good, data + 1, size - 1);
  dsopt_stream* stream = nullptr;
  Require(dsopt_stream_create(state.session, &stream) == DSOPT_OK);
  Require(dsopt_stream_append_text(stream, "before", DSOPT_NTS, 0) == DSOPT_OK);
  uint8_t nothing = 0;
  const dsopt_status status =
      dsopt_stream_load(stream, buffer.empty() ? &nothing : buffer.data(), buffer.size());
  if (status != DSOPT_OK) {
    Require(status == DSOPT_E_CORRUPT || status == DSOPT_E_UNSUPPORTED || status == DSOPT_E_VERSION);
    Require(dsopt_last_error()[0] != '\0');
    Require(dsopt_stream_token_count(stream) == 6);
  } else if (dsopt_stream_token_count(stream) > 0) {
    dsopt_generate_options go = {};
    go.struct_size = sizeof go;
    go.max_tokens = 2;
    Require(dsopt_stream_generate(stream, &go) == DSOPT_OK);
    while (dsopt_session_poll(state.session, 10000, nullptr) == DSOPT_PENDING) {
    }
  }
  dsopt_stream_release(stream);
  return 0;
}
