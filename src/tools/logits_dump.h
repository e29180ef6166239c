// logits_dump.h - writes the logits of a comparison to a folder, for programs that check it independently:
//   dump.json        vocab, bos, rows_per_window, and of each text its path and number of windows
//   tokens.i32       of each window rows_per_window + 1 ids; row i follows id i and predicts id i + 1
//   model.f32, reference.f32   rows of vocab values, in the order of the tokens
// All numbers are little-endian.
#ifndef DSOPT_TOOLS_LOGITS_DUMP_H_
#define DSOPT_TOOLS_LOGITS_DUMP_H_

#include <cstdio>
#include <memory>
#include <span>
#include <string>

#include "base/status.h"
#include "dsopt/dsopt.h"
#include "tools/output.h"

namespace dsopt::tools {

class LogitsDump {
 public:
  // Makes the folder if it is not there; files of an earlier dump are replaced.
  static Result<LogitsDump> Create(const std::string& folder);
  Status AddWindow(std::span<const dsopt_token> ids);
  Status AddRow(std::span<const float> model, std::span<const float> reference);
  Status Finish(const Json& description);

 private:
  struct Close {
    void operator()(FILE* file) const { std::fclose(file); }
  };
  using File = std::unique_ptr<FILE, Close>;
  static Result<File> Open(const std::string& path);
  Status Write(FILE* file, const void* bytes, size_t count, const char* name) const;
  std::string folder_;
  File tokens_, model_, reference_;
};

}  // namespace dsopt::tools
#endif  // DSOPT_TOOLS_LOGITS_DUMP_H_
