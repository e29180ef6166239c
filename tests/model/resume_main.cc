// resume_main.cc - the other process of "save here, load there": prints the tokens that follow a saved stream.
//   model_resume MODEL.dsopt STATE COUNT TEMPERATURE
#include <cstdio>
#include <exception>
#include <string>

#include "support.h"

namespace {

using namespace dsopt::testing;

void Resume(const std::string& path, const std::string& state_path, uint32_t count, float temperature) {
  const LoadedFile file = OpenFile(path);
  const SessionPtr session = NewSession(file, DSOPT_PRECISION_FAST, 1, 512);
  const StreamPtr stream = NewStream(session);
  const std::string state = ReadFile(state_path);
  Check(dsopt_stream_load(stream.get(), state.data(), state.size()));
  const size_t first = dsopt_stream_token_count(stream.get());
  Start(stream, count, temperature);
  Finish(session, stream);
  for (dsopt_token token : TokensFrom(stream, first)) std::printf("%d ", token);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) return 2;
  try {
    Resume(argv[1], argv[2], static_cast<uint32_t>(std::stoul(argv[3])), std::stof(argv[4]));
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "model_resume: %s\n", error.what());
    return 1;
  }
}
