// invariance_test.cc - the same tokens whatever else the session does: alone, beside seven others, after fork,
// rewind, save and load in another process, and in slices of 0.2 ms. On the checkpoints of ../shared/data, on tiny
// random models of the four families, and on the demo model of the examples, in FAST precision.
#include <cstdio>
#include <memory>
#include <sstream>

#include <catch2/catch.hpp>

#include "support.h"
#include "tests/tiny_model.h"

namespace dsopt::testing {
namespace {

constexpr uint32_t kCount = 48;          // tokens generated
constexpr uint32_t kCapacity = 8 * 192;  // KV tokens: eight streams of three pages

struct Subject {
  std::string name, path;
  std::vector<Tokens> prompts;  // eight
};

std::vector<Tokens> RandomPrompts(uint32_t vocab) {
  std::vector<Tokens> prompts(8);
  uint64_t state = 12345;
  for (size_t i = 0; i < prompts.size(); ++i) {
    for (size_t k = 0; k < 5 + 9 * i; ++k) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      prompts[i].push_back(static_cast<dsopt_token>((state >> 33) % vocab));
    }
  }
  return prompts;
}

Subject TinySubject(TinyFamily family) {
  static const char* const kNames[] = {"tiny llama", "tiny mistral", "tiny mixtral", "tiny deepseek_v2"};
  const size_t index = static_cast<size_t>(family);
  TinyOptions options;
  options.family = family;
  const std::string path = TemporaryPath("tiny" + std::to_string(index) + ".dsopt");
  WriteFile(path, TinyModelBytes(options));
  return {kNames[index], path, RandomPrompts(256)};
}

std::vector<std::string> SubjectNames() {
  std::vector<std::string> names = {"tiny 0", "tiny 1", "tiny 2", "tiny 3"};
  names.insert(names.end(), std::begin(kCheckpoints), std::end(kCheckpoints));
  names.push_back("robot");
  return names;
}

// Path empty: absent, and said so.
Subject MakeSubject(const std::string& name) {
  if (name.starts_with("tiny ")) return TinySubject(kTinyFamilies[name[5] - '0']);
  if (name == "robot") {
    const std::filesystem::path path = std::filesystem::path(DSOPT_SOURCE_DIR) / "examples/robot_model/robot.dsopt";
    if (!HaveOrSkip(path)) return {name, "", {}};
    const LoadedFile file = OpenFile(path.string());
    return {name, path.string(), RandomPrompts(file.info.vocab_size)};
  }
  if (!HaveOrSkip(CheckpointFolder(name))) return {name, "", {}};
  Subject subject{name, ConvertedCheckpoint(name), {}};
  for (const GoldenPrompt& prompt : ReadGolden(name)) subject.prompts.push_back(prompt.ids);
  const std::vector<Tokens> more = RandomPrompts(1000);
  while (subject.prompts.size() < 8) subject.prompts.push_back(more[subject.prompts.size()]);
  return subject;
}

// A model, and what each prompt gives when it is alone.
struct Reference {
  LoadedFile file;
  std::vector<Tokens> tokens;
};

Reference Alone(const Subject& subject, float temperature) {
  Reference reference{OpenFile(subject.path), {}};
  for (const Tokens& prompt : subject.prompts) {
    const SessionPtr session = NewSession(reference.file, DSOPT_PRECISION_FAST, 1, 512);
    reference.tokens.push_back(Continue(session, prompt, kCount, temperature));
  }
  return reference;
}

#define MODEL_CASE()                                                          \
  const std::string name = GENERATE(from_range(SubjectNames()));              \
  const float temperature = GENERATE(0.0f, 0.9f);                             \
  const Subject subject = MakeSubject(name);                                  \
  if (subject.path.empty()) return;                                           \
  CAPTURE(subject.name, temperature);                                         \
  const Reference reference = Alone(subject, temperature);                    \
  const SessionPtr session = NewSession(reference.file, DSOPT_PRECISION_FAST, 8, kCapacity)

TEST_CASE("a stream gives the same tokens beside seven others as alone", "[model]") {
  MODEL_CASE();
  std::vector<StreamPtr> streams;
  for (const Tokens& prompt : subject.prompts) {
    streams.push_back(NewStream(session));
    Append(streams.back(), prompt);
    Start(streams.back(), kCount, temperature);
  }
  for (size_t i = 0; i < streams.size(); ++i) {
    CAPTURE(i);
    Finish(session, streams[i]);
    REQUIRE(TokensFrom(streams[i], subject.prompts[i].size()) == reference.tokens[i]);
  }
}

TEST_CASE("a stream that joins late does not change those that run", "[model]") {
  MODEL_CASE();
  std::vector<StreamPtr> streams;
  for (const Tokens& prompt : subject.prompts) {
    streams.push_back(NewStream(session));
    Append(streams.back(), prompt);
    Start(streams.back(), kCount, temperature);
    for (int i = 0; i < 3; ++i) Check(dsopt_session_poll(session.get(), 500, nullptr));
  }
  Finish(session, streams[0]);
  for (size_t i = 0; i < streams.size(); ++i) {
    CAPTURE(i);
    REQUIRE(TokensFrom(streams[i], subject.prompts[i].size()) == reference.tokens[i]);
  }
}

TEST_CASE("a forked stream continues exactly like its parent", "[model]") {
  MODEL_CASE();
  const Tokens& prompt = subject.prompts[7];
  const StreamPtr parent = NewStream(session);
  Append(parent, prompt);
  Start(parent, 10, temperature);
  Finish(session, parent);
  dsopt_stream* forked = nullptr;
  Check(dsopt_stream_fork(parent.get(), &forked));
  const StreamPtr child(forked);
  Start(parent, kCount - 10, temperature);
  Start(child, kCount - 10, temperature);
  Finish(session, child);
  REQUIRE(TokensFrom(child, prompt.size()) == reference.tokens[7]);
  REQUIRE(TokensFrom(parent, prompt.size()) == reference.tokens[7]);
}

TEST_CASE("a stream that went back continues as it did before", "[model]") {
  MODEL_CASE();
  const Tokens& prompt = subject.prompts[6];
  const StreamPtr stream = NewStream(session);
  Append(stream, prompt);
  Start(stream, kCount, temperature);
  Finish(session, stream);
  for (size_t kept : {size_t{30}, size_t{1}, size_t{0}}) {
    CAPTURE(kept);
    Check(dsopt_stream_rewind(stream.get(), prompt.size() + kept));
    Append(stream, subject.prompts[0]);  // another branch, then back
    Start(stream, 5, temperature);
    Finish(session, stream);
    Check(dsopt_stream_rewind(stream.get(), prompt.size() + kept));
    Start(stream, static_cast<uint32_t>(kCount - kept), temperature);
    Finish(session, stream);
    REQUIRE(TokensFrom(stream, prompt.size()) == reference.tokens[6]);
  }
}

TEST_CASE("slices of 0.2 ms give the same tokens as one long poll", "[model]") {
  MODEL_CASE();
  REQUIRE(Continue(session, subject.prompts[7], kCount, temperature, 200) == reference.tokens[7]);
}

TEST_CASE("a saved stream continues in another process as it would have here", "[model]") {
  MODEL_CASE();
  const Tokens& prompt = subject.prompts[5];
  const StreamPtr stream = NewStream(session);
  Append(stream, prompt);
  Start(stream, 20, temperature);
  Finish(session, stream);
  size_t bytes = 0;
  REQUIRE(dsopt_stream_save(stream.get(), nullptr, 0, &bytes) == DSOPT_E_BUFFER_TOO_SMALL);
  std::vector<uint8_t> state(bytes);
  Check(dsopt_stream_save(stream.get(), state.data(), state.size(), &bytes));
  const std::string state_path = TemporaryPath("state");
  WriteFile(state_path, state);

  const std::string command = std::string("'") + DSOPT_MODEL_RESUME + "' '" + subject.path + "' '" + state_path + "' " +
                              std::to_string(kCount - 20) + " " + std::to_string(temperature);
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "r"), pclose);
  REQUIRE(pipe != nullptr);
  std::string output(16384, '\0');
  output.resize(fread(output.data(), 1, output.size(), pipe.get()));
  std::istringstream words(output);
  Tokens resumed = TokensFrom(stream, prompt.size());
  for (dsopt_token token; words >> token;) resumed.push_back(token);
  REQUIRE(resumed == reference.tokens[5]);
}

}  // namespace
}  // namespace dsopt::testing
