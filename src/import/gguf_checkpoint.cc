#include "import/gguf_checkpoint.h"

#include <algorithm>
#include <utility>

#include "base/checked.h"

namespace dsopt {
namespace {

constexpr uint32_t kMostFiles = 1000;

}  // namespace

Status GgufCheckpoint::AddFile(std::unique_ptr<Source> source) {
  ASSIGN_OR_RETURN(GgufHeader header, ReadGgufHeader(*source));
  for (GgufTensor& tensor : header.tensors) tensor.file = static_cast<uint32_t>(files_.size());
  if (files_.empty()) {
    header_ = std::move(header);
  } else {
    header_.tensors.insert(header_.tensors.end(), header.tensors.begin(), header.tensors.end());
  }
  files_.push_back(std::move(source));
  return {};
}

// The other files of "NAME-00001-of-00003.gguf".
Status GgufCheckpoint::AddOthers(const std::filesystem::path& first) {
  const GgufKeys keys(header_, "split");
  ASSIGN_OR_RETURN(const uint32_t count, keys.Uint("count", 1));
  if (count <= 1) return {};
  ASSIGN_OR_RETURN(const uint32_t number, keys.Uint("no", 0));
  const std::string name = first.filename().string(), end = Format("-00001-of-%05u.gguf", count);
  if (count > kMostFiles || number != 0 || !name.ends_with(end)) {
    return Error(DSOPT_E_UNSUPPORTED, "%s: file %u of %u, expected the first, called '...%s'", first.c_str(),
                 number + 1, count, end.c_str());
  }
  const std::string prefix = name.substr(0, name.size() - end.size());
  for (uint32_t i = 1; i < count; ++i) {
    const std::filesystem::path path =
        first.parent_path() / (prefix + Format("-%05u-of-%05u.gguf", i + 1, count));
    ASSIGN_OR_RETURN(std::unique_ptr<Source> source, OpenFileSource(path.string(), false));
    RETURN_IF_ERROR(AddFile(std::move(source)));
  }
  std::vector<GgufTensor>& tensors = header_.tensors;
  std::sort(tensors.begin(), tensors.end(),
            [](const GgufTensor& a, const GgufTensor& b) { return a.name < b.name; });
  const auto twice =
      std::adjacent_find(tensors.begin(), tensors.end(),
                         [](const GgufTensor& a, const GgufTensor& b) { return a.name == b.name; });
  if (twice == tensors.end()) return {};
  return Error(DSOPT_E_CORRUPT, "%s: tensor '%.80s' is in two files", first.c_str(), twice->name.c_str());
}

Result<GgufCheckpoint> GgufCheckpoint::Open(const std::filesystem::path& path) {
  ASSIGN_OR_RETURN(std::unique_ptr<Source> source, OpenFileSource(path.string(), false));
  ASSIGN_OR_RETURN(GgufCheckpoint checkpoint, FromSource(std::move(source)));
  RETURN_IF_ERROR(checkpoint.AddOthers(path));
  return checkpoint;
}

Result<GgufCheckpoint> GgufCheckpoint::FromSource(std::unique_ptr<Source> source) {
  GgufCheckpoint checkpoint;
  RETURN_IF_ERROR(checkpoint.AddFile(std::move(source)));
  return checkpoint;
}

Status GgufCheckpoint::Read(const GgufTensor& tensor, uint64_t offset, std::span<uint8_t> dst) const {
  if (!RangeFits(offset, dst.size(), tensor.bytes)) {
    return Error(DSOPT_E_INVALID_ARGUMENT, "tensor '%s': %zu bytes from %llu, it has %llu", tensor.name.c_str(),
                 dst.size(), static_cast<unsigned long long>(offset),
                 static_cast<unsigned long long>(tensor.bytes));
  }
  return files_[tensor.file]->ReadAt(tensor.offset + offset, dst);
}

}  // namespace dsopt
