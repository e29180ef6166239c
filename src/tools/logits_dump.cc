#include "tools/logits_dump.h"

#include <bit>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

namespace dsopt::tools {

static_assert(std::endian::native == std::endian::little, "numbers are written as they are in memory");

Result<LogitsDump::File> LogitsDump::Open(const std::string& path) {
  File file(std::fopen(path.c_str(), "wb"));
  if (file == nullptr) return Error(DSOPT_E_IO, "%s: %s", path.c_str(), std::strerror(errno));
  return file;
}

Result<LogitsDump> LogitsDump::Create(const std::string& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) return Error(DSOPT_E_IO, "%s: %s", folder.c_str(), error.message().c_str());
  LogitsDump dump;
  dump.folder_ = folder;
  ASSIGN_OR_RETURN(dump.tokens_, Open(folder + "/tokens.i32"));
  ASSIGN_OR_RETURN(dump.model_, Open(folder + "/model.f32"));
  ASSIGN_OR_RETURN(dump.reference_, Open(folder + "/reference.f32"));
  return dump;
}

Status LogitsDump::Write(FILE* file, const void* bytes, size_t count, const char* name) const {
  if (std::fwrite(bytes, 1, count, file) == count) return {};
  return Error(DSOPT_E_IO, "%s/%s: %s", folder_.c_str(), name, std::strerror(errno));
}

Status LogitsDump::AddWindow(std::span<const dsopt_token> ids) {
  return Write(tokens_.get(), ids.data(), ids.size_bytes(), "tokens.i32");
}

Status LogitsDump::AddRow(std::span<const float> model, std::span<const float> reference) {
  RETURN_IF_ERROR(Write(model_.get(), model.data(), model.size_bytes(), "model.f32"));
  return Write(reference_.get(), reference.data(), reference.size_bytes(), "reference.f32");
}

Status LogitsDump::Finish(const Json& description) {
  ASSIGN_OR_RETURN(File file, Open(folder_ + "/dump.json"));
  const std::string text = description.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
  RETURN_IF_ERROR(Write(file.get(), text.data(), text.size(), "dump.json"));
  for (File* each : {&tokens_, &model_, &reference_, &file}) {
    if (std::fclose(each->release()) != 0) {
      return Error(DSOPT_E_IO, "%s: %s", folder_.c_str(), std::strerror(errno));
    }
  }
  return {};
}

}  // namespace dsopt::tools
