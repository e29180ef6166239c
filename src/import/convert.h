// convert.h - a Hugging Face folder becomes a .dsopt file, in bounded memory. Not for: command lines,
// terminals.
#ifndef DSOPT_IMPORT_CONVERT_H_
#define DSOPT_IMPORT_CONVERT_H_

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/status.h"
#include "dsopt/dsopt.h"
#include "format/writer.h"

namespace dsopt {

struct ConvertOptions {
  WriterOptions writer;
  dsopt_dtype dtype = DSOPT_DTYPE_DEFAULT;    // of matrices: F32, F16, BF16; DEFAULT keeps the checkpoint's
  std::string license;                        // metadata; empty: what the folder's README or LICENSE says
  const std::atomic<bool>* cancel = nullptr;  // read between buffers; set: DSOPT_E_CANCELLED
  std::function<void(uint64_t done_bytes, uint64_t total_bytes)> progress;  // of tensor data, after each buffer
};

struct ConvertSummary {
  std::string architecture;
  bool has_tokenizer = false;
  uint64_t tensors = 0, parameters = 0;
  uint64_t raw_bytes = 0;  // of all tensors, as written before compression
  uint64_t file_bytes = 0;
  std::vector<std::string> ignored;  // tensors of the checkpoint that are not needed
};

// On failure nothing is left at `output`; a file that was there before stays.
Result<ConvertSummary> ConvertHfFolder(const std::filesystem::path& folder, const std::filesystem::path& output,
                                       const ConvertOptions& options);

}  // namespace dsopt
#endif  // DSOPT_IMPORT_CONVERT_H_
