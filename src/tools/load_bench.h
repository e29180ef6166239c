// load_bench.h - measures how fast a model file becomes a model that has said its first token, beside a plain
// read of as many bytes as its weights take, with the file out of and in the system's page cache. Prints
// nothing.
#ifndef DSOPT_TOOLS_LOAD_BENCH_H_
#define DSOPT_TOOLS_LOAD_BENCH_H_

#include <cstdint>
#include <string>

#include "base/status.h"
#include "tools/client.h"

namespace dsopt::tools {

struct LoadCase {
  std::string file;
  std::string
      scratch_folder;    // of the file for the plain read, removed afterwards; empty: that of the model file
  uint32_t repeats = 3;  // the median of each time counts
};

struct LoadTimes {
  double cached_share = 0;  // of the file, in the page cache before; 0 when cold, or cold was not to be had
  double load_seconds = 0;  // from open until the weights are resident
  double first_token_seconds = 0;  // from open until a token was sampled after a prompt of one
  double plain_seconds = 0;  // of reading plain_bytes from an uncompressed file in the same state of the cache
};

struct LoadResult {
  std::string device;
  uint64_t file_bytes = 0, weight_bytes = 0;  // on disk; resident after loading
  uint64_t plain_bytes = 0;                   // weight_bytes, at most kMostPlainBytes
  LoadTimes cold, warm;
};

inline constexpr uint64_t kMostPlainBytes = uint64_t{4} << 30;

Result<LoadResult> BenchLoad(const LoadCase& bench, const EngineOptions& engine);

}  // namespace dsopt::tools
#endif  // DSOPT_TOOLS_LOAD_BENCH_H_
