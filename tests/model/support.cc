#include "support.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <set>
#include <stdexcept>

#include <unistd.h>

#include "import/convert.h"
#include "tools/perplexity.h"

namespace dsopt::testing {
namespace {

namespace fs = std::filesystem;

// Made on first use, removed with everything in it at the end of the process.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (fs::temp_directory_path() / "dsopt_model_test_XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp " + pattern + " failed");
    path_ = pattern;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

const fs::path& Temporary() {
  static const TemporaryFolder folder;
  return folder.path();
}

GoldenPrompt ReadFlatGolden(const nlohmann::json& golden, const fs::path& folder) {
  GoldenPrompt prompt;
  const Tokens all = golden.at("ids").get<Tokens>();
  prompt.ids = golden.at("prompt_ids").get<Tokens>();
  prompt.greedy.assign(all.begin() + static_cast<ptrdiff_t>(prompt.ids.size()), all.end());
  prompt.logits.rows = golden.at("positions").get<size_t>();
  prompt.logits.vocab = golden.at("vocab").get<size_t>();
  prompt.logits.values = Floats(ReadFile(folder / "golden_logits_f32.bin"));
  return prompt;
}

}  // namespace

fs::path DataFolder() { return fs::path(DSOPT_SOURCE_DIR) / ".." / "shared" / "data"; }

bool HaveData() { return fs::exists(DataFolder()); }

bool HaveOrSkip(const fs::path& path) {
  static std::set<std::string> told;
  if (fs::exists(path)) return true;
  const std::string shown = path.lexically_relative(DSOPT_SOURCE_DIR).string();
  if (told.insert(shown).second) std::cout << "skipped: " << shown << " is absent" << std::endl;
  return false;
}

fs::path CheckpointFolder(const std::string& name) { return DataFolder() / "checkpoints" / name; }

std::string TemporaryPath(const std::string& name) { return (Temporary() / name).string(); }

std::string ConvertedCheckpoint(const std::string& name) {
  static std::map<std::string, std::string> done;
  if (const auto found = done.find(name); found != done.end()) return found->second;
  const std::string path = TemporaryPath(name + ".dsopt");
  const Result<ConvertSummary> summary = ConvertHfFolder(CheckpointFolder(name), path, ConvertOptions());
  if (!summary.ok()) throw std::runtime_error("convert " + name + ": " + std::string(summary.status().message()));
  return done[name] = path;
}

std::string ReadFile(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(path.string() + ": cannot be opened");
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

void WriteFile(const std::string& path, std::span<const uint8_t> bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  if (!file.flush()) throw std::runtime_error(path + ": cannot be written");
}

nlohmann::json ReadJson(const fs::path& path) { return nlohmann::json::parse(ReadFile(path)); }

std::vector<float> Floats(std::string_view bytes) {
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
  return values;
}

std::vector<GoldenPrompt> ReadGolden(const std::string& checkpoint) {
  const fs::path folder = CheckpointFolder(checkpoint);
  const nlohmann::json golden = ReadJson(folder / "golden.json");
  if (!golden.contains("prompts")) return {ReadFlatGolden(golden, folder)};
  const std::string tensors = ReadFile(folder / "golden.safetensors");
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, tensors.data(), sizeof header_bytes);
  const nlohmann::json header = nlohmann::json::parse(tensors.substr(8, header_bytes));
  std::vector<GoldenPrompt> prompts;
  for (const nlohmann::json& entry : golden.at("prompts")) {
    GoldenPrompt prompt;
    prompt.ids = entry.at("ids").get<Tokens>();
    prompt.greedy = entry.at("greedy_ids").get<Tokens>();
    const nlohmann::json& tensor = header.at("prompt" + std::to_string(prompts.size()) + ".logits");
    const auto range = tensor.at("data_offsets").get<std::vector<size_t>>();
    prompt.logits.rows = tensor.at("shape").at(0);
    prompt.logits.vocab = tensor.at("shape").at(1);
    prompt.logits.values = Floats(std::string_view(tensors).substr(8 + header_bytes + range[0], range[1] - range[0]));
    prompts.push_back(std::move(prompt));
  }
  return prompts;
}

double RowError(std::span<const float> found, std::span<const float> golden) {
  double largest = 0, error = 0;
  for (size_t i = 0; i < golden.size(); ++i) {
    largest = std::max(largest, std::abs(static_cast<double>(golden[i])));
    const double difference = std::abs(static_cast<double>(found[i]) - static_cast<double>(golden[i]));
    error = std::isnan(difference) ? INFINITY : std::max(error, difference);
  }
  return error / largest;
}

void Check(dsopt_status status) {
  if (status < 0) throw std::runtime_error(std::string(dsopt_status_name(status)) + ": " + dsopt_last_error());
}

LoadedFile OpenFile(const std::string& path) {
  LoadedFile file;
  dsopt_runtime_options runtime_options = {};
  runtime_options.struct_size = sizeof runtime_options;
  runtime_options.abi_level = DSOPT_ABI_LEVEL;
  runtime_options.disable_backend_scan = 1;  // these tests are about the CPU
  dsopt_runtime* runtime = nullptr;
  Check(dsopt_runtime_create(&runtime_options, &runtime));
  file.runtime.reset(runtime);
  dsopt_model_options options = {};
  options.struct_size = sizeof options;
  options.device = "cpu";
  dsopt_model* model = nullptr;
  Check(dsopt_model_open(runtime, path.c_str(), &options, &model));
  file.model.reset(model);
  file.info.struct_size = sizeof file.info;
  Check(dsopt_model_get_info(model, &file.info));
  return file;
}

SessionPtr NewSession(const LoadedFile& file, dsopt_precision precision, uint32_t streams, uint32_t tokens) {
  dsopt_session_options options = {};
  options.struct_size = sizeof options;
  options.max_streams = streams;
  options.max_tokens = tokens;
  options.precision = precision;
  dsopt_session* session = nullptr;
  Check(dsopt_session_create(file.model.get(), &options, &session));
  return SessionPtr(session);
}

StreamPtr NewStream(const SessionPtr& session) {
  dsopt_stream* stream = nullptr;
  Check(dsopt_stream_create(session.get(), &stream));
  return StreamPtr(stream);
}

void Append(const StreamPtr& stream, std::span<const dsopt_token> tokens) {
  Check(dsopt_stream_append_tokens(stream.get(), tokens.data(), tokens.size()));
}

void Start(const StreamPtr& stream, uint32_t count, float temperature) {
  dsopt_sampling sampling = {};
  sampling.struct_size = sizeof sampling;
  sampling.temperature = temperature;
  sampling.seed = 42;
  dsopt_generate_options options = {};
  options.struct_size = sizeof options;
  options.flags = DSOPT_GENERATE_IGNORE_EOS;
  options.max_tokens = count;
  options.sampling = &sampling;
  Check(dsopt_stream_generate(stream.get(), &options));
}

void Finish(const SessionPtr& session, const StreamPtr& stream, uint64_t budget_us) {
  dsopt_status status = DSOPT_PENDING;
  while (status == DSOPT_PENDING) {
    status = dsopt_session_poll(session.get(), budget_us, nullptr);
    Check(status);
  }
  char message[512] = "";
  size_t length = 0;
  const dsopt_status failure = dsopt_stream_error(stream.get(), message, sizeof message, &length);
  if (failure < 0) throw std::runtime_error(std::string(dsopt_status_name(failure)) + ": " + message);
}

void Prefill(const SessionPtr& session, const StreamPtr& stream) {
  dsopt_generate_options options = {};
  options.struct_size = sizeof options;
  options.flags = DSOPT_GENERATE_PREFILL_ONLY;
  Check(dsopt_stream_generate(stream.get(), &options));
  Finish(session, stream);
}

Tokens TokensFrom(const StreamPtr& stream, size_t first) {
  Tokens tokens(dsopt_stream_token_count(stream.get()) - first);
  size_t count = 0;
  Check(dsopt_stream_get_tokens(stream.get(), first, tokens.data(), tokens.size(), &count));
  tokens.resize(count);
  return tokens;
}

Tokens Continue(const SessionPtr& session, std::span<const dsopt_token> prompt, uint32_t count, float temperature,
                uint64_t budget_us) {
  const StreamPtr stream = NewStream(session);
  Append(stream, prompt);
  Start(stream, count, temperature);
  Finish(session, stream, budget_us);
  return TokensFrom(stream, prompt.size());
}

std::vector<float> Logits(const StreamPtr& stream, uint32_t vocab) {
  std::vector<float> logits(vocab);
  size_t count = 0;
  Check(dsopt_stream_get_logits(stream.get(), logits.data(), logits.size(), &count));
  if (count != vocab) throw std::runtime_error("get_logits gave " + std::to_string(count) + " values");
  return logits;
}

Tokens PerplexityIds(const LoadedFile& file, const std::string& text_name) {
  const std::string text = tools::UnixNewlines(ReadFile(DataFolder() / "text" / text_name));
  const std::string used(tools::FirstCharacters(text, 400000));
  const auto ids = tools::Tokenize(file.model.get(), used, DSOPT_TOKENIZE_PARSE_SPECIAL);
  if (!ids.ok()) throw std::runtime_error("tokenize " + text_name + ": " + std::string(ids.status().message()));
  return *ids;
}

}  // namespace dsopt::testing
