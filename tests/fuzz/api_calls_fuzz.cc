// Sequences of API calls decoded from bytes, over a tiny model: whatever the order and the arguments, a call
// returns a known status, a failed one says why, and nothing is lost or torn.
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "dsopt/dsopt.h"
#include "tests/tiny_model.h"

namespace {

constexpr size_t kStreams = 5, kMaxCalls = 200;

void Require(bool condition) {
  if (!condition) std::abort();  // what a fuzzer reports
}

dsopt_status Known(dsopt_status status) {
  Require(std::strcmp(dsopt_status_name(status), "unknown status") != 0);
  Require(status != DSOPT_E_INTERNAL && status != DSOPT_E_BUSY && status != DSOPT_E_OUT_OF_MEMORY);
  Require((status < 0) == (dsopt_last_error()[0] != '\0'));
  return status;
}

class Reader {
 public:
  Reader(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  bool empty() const { return size_ == 0; }
  uint8_t Byte() {
    if (size_ == 0) return 0;
    --size_;
    return *data_++;
  }
  uint32_t Word() {
    uint32_t word = 0;
    for (int i = 0; i < 4; ++i) word = word << 8 | Byte();
    return word;
  }
  float Float() {
    const uint32_t word = Word();
    float value;
    std::memcpy(&value, &word, sizeof value);
    return value;
  }

 private:
  const uint8_t* data_;
  size_t size_;
};

struct Model {
  dsopt_runtime* runtime = nullptr;
  dsopt_model* model = nullptr;
  Model() {
    static const std::vector<uint8_t> bytes = dsopt::testing::TinyModelBytes();
    dsopt_runtime_options options = {};
    options.struct_size = sizeof options;
    options.cpu_threads = 1;
    options.disable_backend_scan = 1;
    Require(dsopt_runtime_create(&options, &runtime) == DSOPT_OK);
    Require(dsopt_model_open_memory(runtime, bytes.data(), bytes.size(), nullptr, &model) == DSOPT_OK);
  }
};

int DSOPT_CALL OnEvent(void* user, dsopt_stream* stream, const dsopt_event* event) {
  Require(event->text != nullptr || event->text_len == 0);
  Require(dsopt_session_poll(static_cast<dsopt_session*>(user), 0, nullptr) == DSOPT_E_BUSY);
  return dsopt_stream_token_count(stream) % 7 == 0 ? 1 : 0;
}

class Player {
 public:
  Player(dsopt_model* model, Reader* in) : in_(in) {
    dsopt_session_options options = {};
    options.struct_size = sizeof options;
    options.max_streams = 1 + in_->Byte() % 4;
    options.max_tokens = 64u * (1 + in_->Byte() % 6);
    options.prefill_chunk = in_->Byte() % 40;
    options.precision = static_cast<dsopt_precision>(in_->Byte() % 2);
    Require(dsopt_session_create(model, &options, &session_) == DSOPT_OK);
  }
  ~Player() {
    dsopt_session_release(session_);
    for (dsopt_stream* stream : streams_) dsopt_stream_release(stream);
  }

  void Call() {
    const uint8_t op = in_->Byte() % 16;
    dsopt_stream*& stream = streams_[in_->Byte() % kStreams];
    if (stream == nullptr) Require(Known(dsopt_stream_create(session_, &stream)) == DSOPT_OK);
    switch (op) {
      case 0:
        dsopt_stream_release(stream), stream = nullptr;
        break;
      case 1:
      case 2:
        Append(stream);
        break;
      case 3:
      case 4:
      case 5:
        Generate(stream);
        break;
      case 6:
      case 7:
      case 8:
        Known(dsopt_session_poll(session_, in_->Byte(), nullptr));
        break;
      case 9:
        Read(stream);
        break;
      case 10:
        dsopt_stream_cancel(stream);
        break;
      case 11:
        Known(dsopt_stream_rewind(stream, in_->Byte()));
        break;
      case 12:
        Fork(stream);
        break;
      case 13:
        Save(stream);
        break;
      case 14:
        Known(dsopt_stream_load(stream, saved_.data(), saved_.size()));
        break;
      default:
        Look(stream);
        break;
    }
  }

  // Every generation comes to its end, and every event can be read.
  void Finish() {
    for (int i = 0; i < 100000; ++i) {
      if (Known(dsopt_session_poll(session_, 2000, nullptr)) == DSOPT_OK) break;
      Require(i < 99999);
    }
    for (dsopt_stream* stream : streams_) {
      if (stream != nullptr) Read(stream);
    }
    for (dsopt_stream*& stream : streams_) dsopt_stream_release(stream), stream = nullptr;
    dsopt_session_stats stats = {};
    stats.struct_size = sizeof stats;
    Require(Known(dsopt_session_get_stats(session_, &stats)) == DSOPT_OK);
    Require(stats.kv_tokens_used == 0);
  }

 private:
  void Append(dsopt_stream* stream) {
    dsopt_token tokens[256];
    const size_t count = in_->Byte();
    const int32_t first = static_cast<int32_t>(in_->Byte()) - 2;
    for (size_t i = 0; i < count; ++i) tokens[i] = (first + static_cast<int32_t>(i) * 5) % 274;
    Known(dsopt_stream_append_tokens(stream, tokens, count));
  }
  void Generate(dsopt_stream* stream) {
    dsopt_sampling sampling = {};
    dsopt_generate_options options = {};
    const char* stops[] = {"a", "\xC3\xA9", "long stop string"};
    const dsopt_token stop_token = in_->Byte();
    dsopt_logit_bias bias[2] = {};
    options.struct_size = sizeof options;
    sampling.struct_size = sizeof sampling;
    const uint8_t bits = in_->Byte();
    options.flags = in_->Byte() % 9;
    options.max_tokens = in_->Byte();
    options.priority = static_cast<int8_t>(in_->Byte());
    if (bits & 1) {
      options.sampling = &sampling;
      sampling.temperature = in_->Float();
      sampling.top_k = in_->Byte();
      sampling.top_p = in_->Float();
      sampling.min_p = in_->Float();
      sampling.typical_p = in_->Float();
      sampling.top_n_sigma = in_->Float();
      sampling.repeat_penalty = in_->Float();
      sampling.presence_penalty = in_->Float();
      sampling.frequency_penalty = in_->Float();
      sampling.penalty_window = in_->Word() % 2000;
      sampling.seed = in_->Word();
    }
    if (bits & 2) options.stop = stops, options.stop_count = 3;
    if (bits & 4) options.stop_tokens = &stop_token, options.stop_token_count = 1;
    if (bits & 8) {
      for (dsopt_logit_bias& b : bias) b = {static_cast<dsopt_token>(in_->Word() % 300), in_->Float()};
      options.bias = bias;
      options.bias_count = 2;
    }
    if (bits & 16) options.on_event = OnEvent, options.user = session_;
    if (bits & 32) options.logprobs = 1;
    if (bits & 64) options.top_logprobs = in_->Byte() % 23;
    Known(dsopt_stream_generate(stream, &options));
  }
  void Read(dsopt_stream* stream) {
    for (int i = 0; i < 3; ++i) {
      dsopt_event event = {};
      event.struct_size = sizeof event;
      if (Known(dsopt_stream_read(stream, &event)) == DSOPT_PENDING) return;
      uint64_t sum = 0;  // touches all that the event points to
      for (size_t j = 0; j < event.text_len; ++j) sum += static_cast<unsigned char>(event.text[j]);
      for (size_t j = 0; j < event.token_count; ++j) sum += static_cast<uint64_t>(event.tokens[j]);
      for (size_t j = 0; j < event.token_count * event.top_count; ++j)
        sum += static_cast<uint64_t>(event.top_tokens[j]);
      Require(sum < UINT64_MAX);
    }
  }
  void Fork(dsopt_stream* stream) {
    dsopt_stream*& target = streams_[in_->Byte() % kStreams];
    if (target == stream) return;
    dsopt_stream_release(target);
    target = nullptr;
    Require(Known(dsopt_stream_fork(stream, &target)) == DSOPT_OK);
    Require(dsopt_stream_token_count(target) == dsopt_stream_token_count(stream));
  }
  void Save(dsopt_stream* stream) {
    size_t length = 0;
    Require(Known(dsopt_stream_save(stream, nullptr, 0, &length)) == DSOPT_E_BUFFER_TOO_SMALL);
    saved_.resize(length);
    Require(Known(dsopt_stream_save(stream, saved_.data(), length, &length)) == DSOPT_OK);
  }
  void Look(dsopt_stream* stream) {
    float values[272];
    dsopt_token tokens[16];
    size_t count = 0;
    Known(dsopt_stream_get_logits(stream, values, 272, &count));
    Require(Known(dsopt_stream_get_logprobs(stream, in_->Byte(), values, 272, &count)) == DSOPT_OK);
    Require(Known(dsopt_stream_get_tokens(stream, in_->Byte(), tokens, 16, &count)) == DSOPT_OK);
    for (size_t i = 0; i < count; ++i) Require(tokens[i] >= 0 && tokens[i] < 272);
    Known(dsopt_session_trim(session_));
    if (in_->Byte() % 8 == 0) dsopt_session_interrupt(session_);
    Known(dsopt_stream_error(stream, nullptr, 0, nullptr));
  }

  Reader* in_;
  dsopt_session* session_ = nullptr;
  dsopt_stream* streams_[kStreams] = {};
  std::vector<uint8_t> saved_ = std::vector<uint8_t>(1);
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Model model;
  Reader reader(data, size);
  Player player(model.model, &reader);
  for (size_t i = 0; i < kMaxCalls && !reader.empty(); ++i) player.Call();
  player.Finish();
  return 0;
}
