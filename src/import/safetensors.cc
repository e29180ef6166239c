#include "import/safetensors.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/checked.h"
#include "import/json_file.h"

namespace dsopt {
namespace {

constexpr uint64_t kMostHeaderBytes = 100'000'000;  // as the reference implementation
constexpr uint64_t kMostIndexBytes = 16u << 20;
constexpr size_t kMostDimensions = 8;
constexpr size_t kMostNameBytes = 1024;

struct TypeInfo {
  const char* name;
  uint32_t bytes;
  dsopt_dtype dtype;
};
constexpr TypeInfo kTypes[] = {{"BF16", 2, DSOPT_BF16},
                               {"F16", 2, DSOPT_F16},
                               {"F32", 4, DSOPT_F32},
                               {"BOOL", 1, DSOPT_DTYPE_DEFAULT},
                               {"U8", 1, DSOPT_U8},
                               {"I8", 1, DSOPT_I8},
                               {"F8_E5M2", 1, DSOPT_DTYPE_DEFAULT},
                               {"F8_E4M3", 1, DSOPT_F8_E4M3},
                               {"F8_E8M0", 1, DSOPT_DTYPE_DEFAULT},
                               {"I16", 2, DSOPT_DTYPE_DEFAULT},
                               {"U16", 2, DSOPT_DTYPE_DEFAULT},
                               {"I32", 4, DSOPT_I32},
                               {"U32", 4, DSOPT_DTYPE_DEFAULT},
                               {"I64", 8, DSOPT_DTYPE_DEFAULT},
                               {"U64", 8, DSOPT_DTYPE_DEFAULT},
                               {"F64", 8, DSOPT_DTYPE_DEFAULT}};

const TypeInfo* FindType(std::string_view name) {
  for (const TypeInfo& type : kTypes) {
    if (name == type.name) return &type;
  }
  return nullptr;
}

// Receives the header's JSON event by event and accepts nothing but its fixed structure, so that a hostile
// header cannot make a large tree:  {"__metadata__": {string: string}, name: {"dtype":, "shape": [],
// "data_offsets": [a, b]}}
class HeaderHandler : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit HeaderHandler(SafetensorsHeader* header) : header_(header) {}
  const std::string& error() const { return error_; }

  bool start_object(std::size_t) override {
    if (state_ == State::kStart) return Go(State::kRoot);
    if (state_ == State::kEntryValue) {
      entry_ = SafetensorsEntry();
      entry_.name = key_;
      offsets_.clear();
      has_dtype_ = has_shape_ = has_offsets_ = false;
      return Go(State::kEntry);
    }
    if (state_ == State::kMetadataValue) return Go(State::kMetadata);
    return Fail("an object where none belongs");
  }
  bool end_object() override {
    if (state_ == State::kRoot) return Go(State::kEnd);
    if (state_ == State::kMetadata) return Go(State::kRoot);
    if (state_ != State::kEntry) return Fail("an object ends too early");
    if (!has_dtype_ || !has_shape_ || !has_offsets_ || offsets_.size() != 2) {
      return Fail("needs dtype, shape and two data_offsets");
    }
    if (offsets_[1] < offsets_[0]) return Fail("data_offsets descend");
    entry_.offset = offsets_[0];
    entry_.bytes = offsets_[1] - offsets_[0];
    header_->tensors.push_back(std::move(entry_));
    return Go(State::kRoot);
  }
  bool key(string_t& name) override {
    if (name.size() > kMostNameBytes) return Fail("a name longer than 1024 bytes");
    key_ = name;
    if (state_ == State::kRoot) {
      where_ = name;
      return Go(name == "__metadata__" ? State::kMetadataValue : State::kEntryValue);
    }
    if (state_ == State::kMetadata) return true;
    if (name == "dtype" && !has_dtype_) return Go(State::kDtype);
    if (name == "shape" && !has_shape_) return Go(State::kShape);
    if (name == "data_offsets" && !has_offsets_) return Go(State::kOffsets);
    return Fail("an unknown or repeated key");
  }
  bool string(string_t& value) override {
    if (state_ == State::kMetadata) {
      header_->metadata[key_] = value;
      return true;
    }
    if (state_ != State::kDtype) return Fail("a string where none belongs");
    const TypeInfo* type = FindType(value);
    if (type == nullptr) return Fail("an unknown dtype");
    entry_.dtype_name = type->name;
    entry_.dtype = type->dtype;
    has_dtype_ = true;
    return Go(State::kEntry);
  }
  bool start_array(std::size_t) override {
    if (state_ == State::kShape) return Go(State::kShapeItems);
    if (state_ == State::kOffsets) return Go(State::kOffsetItems);
    return Fail("an array where none belongs");
  }
  bool end_array() override {
    if (state_ != State::kShapeItems && state_ != State::kOffsetItems) return Fail("an array ends too early");
    (state_ == State::kShapeItems ? has_shape_ : has_offsets_) = true;
    return Go(State::kEntry);
  }
  bool number_unsigned(number_unsigned_t value) override {
    if (state_ == State::kShapeItems && entry_.shape.size() < kMostDimensions) {
      entry_.shape.push_back(value);
      return true;
    }
    if (state_ == State::kOffsetItems && offsets_.size() < 2) {
      offsets_.push_back(value);
      return true;
    }
    return Fail("a number where none belongs");
  }
  bool null() override { return Fail("null where a value belongs"); }
  bool boolean(bool) override { return Fail("a boolean where none belongs"); }
  bool number_integer(number_integer_t) override { return Fail("a negative number"); }
  bool number_float(number_float_t, const string_t&) override { return Fail("a number that is not whole"); }
  bool binary(binary_t&) override { return Fail("binary data"); }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    error_ = Format("not valid JSON at byte %zu", position);
    return false;
  }

 private:
  enum class State {
    kStart,
    kRoot,
    kMetadataValue,
    kMetadata,
    kEntryValue,
    kEntry,
    kDtype,
    kShape,
    kShapeItems,
    kOffsets,
    kOffsetItems,
    kEnd
  };
  bool Go(State state) {
    state_ = state;
    return true;
  }
  bool Fail(const char* what) {
    error_ = Format("entry '%s': %s", where_.substr(0, 200).c_str(), what);
    return false;
  }

  SafetensorsHeader* header_;
  State state_ = State::kStart;
  std::string key_, where_, error_;
  SafetensorsEntry entry_;
  std::vector<uint64_t> offsets_;
  bool has_dtype_ = false, has_shape_ = false, has_offsets_ = false;
};

Status CheckSize(const SafetensorsEntry& entry) {
  std::optional<uint64_t> bytes = FindType(entry.dtype_name)->bytes;
  for (uint64_t dimension : entry.shape) {
    bytes = CheckedMul(*bytes, dimension);
    if (!bytes) break;
  }
  if (bytes && *bytes == entry.bytes) return {};
  return Error(DSOPT_E_CORRUPT, "safetensors: tensor '%s' %s %s has %llu bytes, expected %s",
               entry.name.c_str(), entry.dtype_name.c_str(), ShapeText(entry.shape).c_str(),
               static_cast<unsigned long long>(entry.bytes),
               bytes ? std::to_string(*bytes).c_str() : "a size below 2^64");
}

// Ranges in ascending order must follow each other and end where the data ends.
Status CheckRanges(const std::vector<SafetensorsEntry>& tensors, uint64_t data_bytes) {
  std::vector<const SafetensorsEntry*> by_offset;
  by_offset.reserve(tensors.size());
  for (const SafetensorsEntry& entry : tensors) by_offset.push_back(&entry);
  std::sort(by_offset.begin(), by_offset.end(), [](const SafetensorsEntry* a, const SafetensorsEntry* b) {
    return a->offset != b->offset ? a->offset < b->offset : a->bytes < b->bytes;
  });
  uint64_t end = 0;
  for (const SafetensorsEntry* entry : by_offset) {
    if (entry->offset != end || !RangeFits(entry->offset, entry->bytes, data_bytes)) {
      return Error(
          DSOPT_E_CORRUPT,
          "safetensors: tensor '%s' takes %llu bytes from %llu, expected to start at %llu and to fit in %llu",
          entry->name.c_str(), static_cast<unsigned long long>(entry->bytes),
          static_cast<unsigned long long>(entry->offset), static_cast<unsigned long long>(end),
          static_cast<unsigned long long>(data_bytes));
    }
    end += entry->bytes;
  }
  if (end == data_bytes) return {};
  return Error(DSOPT_E_CORRUPT, "safetensors: tensors take %llu bytes of data, the file has %llu",
               static_cast<unsigned long long>(end), static_cast<unsigned long long>(data_bytes));
}

bool ByName(const SafetensorsEntry& a, const SafetensorsEntry& b) { return a.name < b.name; }

const SafetensorsEntry* FindByName(const std::vector<SafetensorsEntry>& sorted, const std::string& name) {
  const auto it =
      std::lower_bound(sorted.begin(), sorted.end(), name,
                       [](const SafetensorsEntry& entry, const std::string& n) { return entry.name < n; });
  return it != sorted.end() && it->name == name ? &*it : nullptr;
}

Status CheckNamesDiffer(const std::vector<SafetensorsEntry>& sorted) {
  for (size_t i = 1; i < sorted.size(); ++i) {
    if (sorted[i].name == sorted[i - 1].name) {
      return Error(DSOPT_E_CORRUPT, "safetensors: tensor '%s' appears twice", sorted[i].name.c_str());
    }
  }
  return {};
}

}  // namespace

Result<SafetensorsHeader> ParseSafetensorsHeader(std::string_view json, uint64_t data_bytes) {
  SafetensorsHeader header;
  HeaderHandler handler(&header);
  // The format pads the header with spaces.
  const size_t last = json.find_last_not_of(' ');
  json = json.substr(0, last == std::string_view::npos ? 0 : last + 1);
  if (!nlohmann::json::sax_parse(json.begin(), json.end(), &handler)) {
    return Error(DSOPT_E_CORRUPT, "safetensors header: %s",
                 handler.error().empty() ? "not valid JSON" : handler.error().c_str());
  }
  for (const SafetensorsEntry& entry : header.tensors) RETURN_IF_ERROR(CheckSize(entry));
  std::sort(header.tensors.begin(), header.tensors.end(), ByName);
  RETURN_IF_ERROR(CheckNamesDiffer(header.tensors));
  RETURN_IF_ERROR(CheckRanges(header.tensors, data_bytes));
  return header;
}

Result<SafetensorsHeader> ReadSafetensorsHeader(Source& source, uint64_t* data_offset) {
  uint8_t length[8];
  if (source.size() < sizeof(length)) {
    return Error(DSOPT_E_CORRUPT, "%s: %llu bytes, expected at least 8 of a safetensors file",
                 source.name().c_str(), static_cast<unsigned long long>(source.size()));
  }
  RETURN_IF_ERROR(source.ReadAt(0, length));
  uint64_t header_bytes = 0;
  for (int i = 7; i >= 0; --i) header_bytes = header_bytes << 8 | length[i];
  const uint64_t limit = std::min(kMostHeaderBytes, source.size() - sizeof(length));
  if (header_bytes > limit) {
    return Error(DSOPT_E_CORRUPT, "%s: a header of %llu bytes, expected at most %llu", source.name().c_str(),
                 static_cast<unsigned long long>(header_bytes), static_cast<unsigned long long>(limit));
  }
  std::string json(header_bytes, '\0');
  RETURN_IF_ERROR(source.ReadAt(sizeof(length), {reinterpret_cast<uint8_t*>(json.data()), json.size()}));
  *data_offset = sizeof(length) + header_bytes;
  Result<SafetensorsHeader> header = ParseSafetensorsHeader(json, source.size() - *data_offset);
  if (!header.ok()) {
    return Error(header.status().code(), "%s: %s", source.name().c_str(),
                 std::string(header.status().message()).c_str());
  }
  return header;
}

Status SafetensorsCheckpoint::AddFile(std::unique_ptr<Source> source, SafetensorsHeader* header) {
  uint64_t data_offset = 0;
  ASSIGN_OR_RETURN(*header, ReadSafetensorsHeader(*source, &data_offset));
  for (SafetensorsEntry& entry : header->tensors) {
    entry.offset += data_offset;
    entry.file = static_cast<uint32_t>(files_.size());
  }
  files_.push_back(std::move(source));
  aliases_.insert(header->metadata.begin(), header->metadata.end());
  return {};
}

Status SafetensorsCheckpoint::OpenSharded(const std::filesystem::path& folder,
                                          const std::filesystem::path& index) {
  ASSIGN_OR_RETURN(const std::string text, ReadTextFile(index, kMostIndexBytes));
  ASSIGN_OR_RETURN(const nlohmann::json json, ParseJsonObject(text, index.string()));
  const auto map = json.find("weight_map");
  if (map == json.end() || !map->is_object()) {
    return Error(DSOPT_E_CORRUPT, "%s: no object 'weight_map'", index.c_str());
  }
  std::map<std::string, std::vector<std::string>> shards;  // file -> tensors
  for (const auto& [tensor, file] : map->items()) {
    const std::string name = file.is_string() ? file.get<std::string>() : std::string();
    if (name.empty() || name != std::filesystem::path(name).filename() || name == "." || name == "..") {
      return Error(DSOPT_E_CORRUPT, "%s: tensor '%s' is not in a plain file name of this folder", index.c_str(),
                   tensor.c_str());
    }
    shards[name].push_back(tensor);
  }
  for (const auto& [file, names] : shards) {
    SafetensorsHeader header;
    ASSIGN_OR_RETURN(std::unique_ptr<Source> source, OpenFileSource((folder / file).string(), false));
    RETURN_IF_ERROR(AddFile(std::move(source), &header));
    for (const std::string& name : names) {
      const SafetensorsEntry* entry = FindByName(header.tensors, name);
      if (entry == nullptr) {
        return Error(DSOPT_E_CORRUPT, "%s: tensor '%s' is not in %s", index.c_str(), name.c_str(),
                     file.c_str());
      }
      tensors_.push_back(*entry);
    }
  }
  return {};
}

Result<SafetensorsCheckpoint> SafetensorsCheckpoint::Open(const std::filesystem::path& folder) {
  SafetensorsCheckpoint checkpoint;
  const std::filesystem::path single = folder / "model.safetensors",
                              index = folder / "model.safetensors.index.json";
  std::error_code error;
  if (std::filesystem::exists(index, error)) {
    RETURN_IF_ERROR(checkpoint.OpenSharded(folder, index));
  } else if (std::filesystem::exists(single, error)) {
    ASSIGN_OR_RETURN(std::unique_ptr<Source> source, OpenFileSource(single.string(), false));
    return FromSource(std::move(source));
  } else {
    return Error(DSOPT_E_NOT_FOUND, "%s: neither model.safetensors nor model.safetensors.index.json is there",
                 folder.c_str());
  }
  RETURN_IF_ERROR(checkpoint.SortTensors());
  return checkpoint;
}

Result<SafetensorsCheckpoint> SafetensorsCheckpoint::FromSource(std::unique_ptr<Source> source) {
  SafetensorsCheckpoint checkpoint;
  SafetensorsHeader header;
  RETURN_IF_ERROR(checkpoint.AddFile(std::move(source), &header));
  checkpoint.tensors_ = std::move(header.tensors);
  RETURN_IF_ERROR(checkpoint.SortTensors());
  return checkpoint;
}

Status SafetensorsCheckpoint::SortTensors() {
  std::sort(tensors_.begin(), tensors_.end(), ByName);
  return CheckNamesDiffer(tensors_);
}

const SafetensorsEntry* SafetensorsCheckpoint::Find(const std::string& name) const {
  const SafetensorsEntry* entry = FindByName(tensors_, name);
  if (entry != nullptr) return entry;
  const auto alias = aliases_.find(name);
  return alias == aliases_.end() ? nullptr : FindByName(tensors_, alias->second);
}

Status SafetensorsCheckpoint::Read(const SafetensorsEntry& tensor, uint64_t offset,
                                   std::span<uint8_t> dst) const {
  if (!RangeFits(offset, dst.size(), tensor.bytes)) {
    return Error(DSOPT_E_INVALID_ARGUMENT, "tensor '%s': %zu bytes from %llu, it has %llu", tensor.name.c_str(),
                 dst.size(), static_cast<unsigned long long>(offset),
                 static_cast<unsigned long long>(tensor.bytes));
  }
  return files_[tensor.file]->ReadAt(tensor.offset + offset, dst);
}

}  // namespace dsopt
