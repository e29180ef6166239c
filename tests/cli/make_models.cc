// make_models.cc - writes the model files that the tests of the program run it on: cli_make_models FOLDER
#include <cstdio>
#include <exception>
#include <fstream>
#include <string>

#include "tests/tiny_model.h"

namespace {

void Write(const std::string& path, const dsopt::testing::TinyOptions& options) {
  const std::vector<uint8_t> bytes = dsopt::testing::TinyModelBytes(options);
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  if (!file.flush()) throw std::runtime_error(path + ": cannot be written");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const std::string folder = argv[1];
  try {
    dsopt::testing::TinyOptions options;
    Write(folder + "/tiny.dsopt", options);
    options.seed = 2;
    Write(folder + "/other.dsopt", options);
    options.seed = 1;
    options.chat_template = false;
    Write(folder + "/no_template.dsopt", options);
    options.context = 100000;  // takes a while: something to interrupt
    Write(folder + "/long.dsopt", options);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "cli_make_models: %s\n", error.what());
    return 1;
  }
}
