// Writes a tiny random model to the file named on the command line.
#include <cstdio>
#include <exception>
#include <fstream>

#include "tests/tiny_model.h"

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  try {
    const std::vector<uint8_t> bytes = dsopt::testing::TinyModelBytes();
    std::ofstream out(argv[1], std::ios::binary);
    out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    return out.good() ? 0 : 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
