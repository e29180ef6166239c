#include "import/convert.h"

#include <algorithm>
#include <sstream>

#include "base/checked.h"
#include "base/float_types.h"
#include "base/utf8.h"
#include "import/hf_checkpoint.h"
#include "import/hf_config.h"
#include "import/json_file.h"
#include "import/safetensors.h"
#include "import/tokenizer_import.h"

namespace dsopt {
namespace {

constexpr uint64_t kMostConfigBytes = 4u << 20, kMostTextBytes = 1u << 20;
constexpr uint64_t kBufferElements = 1u << 20;  // per read
constexpr size_t kMostLicenseBytes = 200;

std::string Trimmed(std::string text) {
  const char* blanks = " \t\r\n\"'";
  text.erase(0, std::min(text.find_first_not_of(blanks), text.size()));
  text.erase(text.find_last_not_of(blanks) + 1);
  return text;
}

// "license: mit" of a model card's front matter, else the first line of a LICENSE file; empty if there is
// neither.
std::string FindLicense(const std::filesystem::path& folder) {
  if (Result<std::string> card = ReadTextFile(folder / "README.md", kMostTextBytes); card.ok()) {
    std::istringstream lines(*card);
    std::string line;
    if (std::getline(lines, line) && Trimmed(line) == "---") {
      while (std::getline(lines, line) && Trimmed(line) != "---") {
        if (line.rfind("license:", 0) == 0) return Trimmed(line.substr(8));
      }
    }
  }
  for (const char* name : {"LICENSE", "LICENSE.txt", "LICENSE.md"}) {
    Result<std::string> file = ReadTextFile(folder / name, kMostTextBytes);
    if (!file.ok()) continue;
    std::istringstream lines(*file);
    for (std::string line; std::getline(lines, line);) {
      if (!Trimmed(line).empty()) return Trimmed(line);
    }
  }
  return {};
}

std::string MetadataText(const std::string& text) {
  return IsValidUtf8(text) ? text : std::string("not valid UTF-8");
}

void FillMetadata(const std::filesystem::path& folder, const ConvertOptions& options, ModelSpec* spec) {
  std::error_code error;
  const std::filesystem::path absolute = std::filesystem::canonical(folder, error);
  spec->metadata["source"] = MetadataText((error ? folder : absolute).filename().string());
  spec->metadata["generator"] =
      Format("dsopt %d.%d.%d", DSOPT_VERSION_MAJOR, DSOPT_VERSION_MINOR, DSOPT_VERSION_PATCH);
  std::string license = options.license.empty() ? FindLicense(folder) : options.license;
  if (options.license.empty() && license.size() > kMostLicenseBytes) license.resize(kMostLicenseBytes);
  if (!license.empty()) spec->metadata["license"] = MetadataText(license);
}

// Everything but the tensors.
Result<ModelSpec> ReadDescription(const std::filesystem::path& folder, const ConvertOptions& options) {
  ModelSpec spec;
  ASSIGN_OR_RETURN(const std::string config, ReadTextFile(folder / "config.json", kMostConfigBytes));
  ASSIGN_OR_RETURN(spec.config, ParseHfConfig(config));
  // A folder without a tokenizer gives a model that works on token ids only.
  Result<TokenizerSpec> tokenizer = ImportTokenizer(folder);
  if (tokenizer.ok())
    spec.tokenizer = *std::move(tokenizer);
  else if (tokenizer.status().code() != DSOPT_E_NOT_FOUND)
    return tokenizer.status();
  Result<std::string> chat_template = ImportChatTemplate(folder);
  if (chat_template.ok())
    spec.chat_template = *std::move(chat_template);
  else if (chat_template.status().code() != DSOPT_E_NOT_FOUND)
    return chat_template.status();
  const std::filesystem::path generation_path = folder / "generation_config.json";
  std::error_code error;
  if (std::filesystem::exists(generation_path, error)) {
    ASSIGN_OR_RETURN(const std::string text, ReadTextFile(generation_path, kMostConfigBytes));
    ASSIGN_OR_RETURN(HfGeneration generation, ParseHfGeneration(text));
    spec.sampling = generation.sampling;
    std::vector<int32_t>& ends = spec.tokenizer.end_tokens;
    for (int32_t token : generation.end_tokens) {
      const bool known = static_cast<size_t>(token) < spec.tokenizer.pieces.size();
      if (known && std::find(ends.begin(), ends.end(), token) == ends.end()) ends.push_back(token);
    }
  }
  if (spec.tokenizer.pieces.size() > spec.config.vocab) {
    return Error(DSOPT_E_UNSUPPORTED, "%s: the tokenizer has %zu pieces, config.json a vocab_size of %u",
                 folder.c_str(), spec.tokenizer.pieces.size(), spec.config.vocab);
  }
  FillMetadata(folder, options, &spec);
  return spec;
}

// Copies tensor data from the checkpoint to the writer through two buffers.
class Streamer {
 public:
  Streamer(SafetensorsCheckpoint& checkpoint, Writer& writer, const ConvertOptions& options,
           uint64_t total_bytes)
      : checkpoint_(checkpoint),
        writer_(writer),
        options_(options),
        total_bytes_(total_bytes),
        in_(kBufferElements * sizeof(float)),
        out_(kBufferElements * sizeof(float)) {}

  Status Copy(const TensorSource& source) {
    for (const SafetensorsEntry* piece : source.pieces) RETURN_IF_ERROR(CopyPiece(*piece, source.spec.dtype));
    return {};
  }

 private:
  Status CopyPiece(const SafetensorsEntry& piece, dsopt_dtype to) {
    const uint64_t from_bytes = ElementBytes(piece.dtype), to_bytes = ElementBytes(to);
    const uint64_t count = piece.bytes / from_bytes;
    for (uint64_t at = 0; at < count; at += kBufferElements) {
      if (options_.cancel != nullptr && options_.cancel->load(std::memory_order_relaxed)) {
        return Error(DSOPT_E_CANCELLED, "cancelled after %llu of %llu bytes",
                     static_cast<unsigned long long>(done_bytes_),
                     static_cast<unsigned long long>(total_bytes_));
      }
      const uint64_t part = std::min(kBufferElements, count - at);
      const std::span<uint8_t> in(in_.data(), part * from_bytes);
      RETURN_IF_ERROR(checkpoint_.Read(piece, at * from_bytes, in));
      std::span<const uint8_t> out = in;
      if (piece.dtype != to) {
        ConvertElements(piece.dtype, in_.data(), to, out_.data(), part);
        out = {out_.data(), part * to_bytes};
      }
      RETURN_IF_ERROR(writer_.Append(out));
      done_bytes_ += out.size();
      if (options_.progress) options_.progress(done_bytes_, total_bytes_);
    }
    return {};
  }

  SafetensorsCheckpoint& checkpoint_;
  Writer& writer_;
  const ConvertOptions& options_;
  const uint64_t total_bytes_;
  uint64_t done_bytes_ = 0;
  std::vector<uint8_t> in_, out_;
};

Result<uint64_t> ElementCount(const TensorSpec& tensor) {
  std::optional<uint64_t> count = 1;
  for (uint64_t dimension : tensor.shape) {
    count = CheckedMul(*count, dimension);
    if (!count) return Error(DSOPT_E_CORRUPT, "tensor '%s' has more than 2^64 elements", tensor.name.c_str());
  }
  return *count;
}

}  // namespace

Result<ConvertSummary> ConvertHfFolder(const std::filesystem::path& folder, const std::filesystem::path& output,
                                       const ConvertOptions& options) {
  ASSIGN_OR_RETURN(ModelSpec spec, ReadDescription(folder, options));
  ASSIGN_OR_RETURN(SafetensorsCheckpoint checkpoint, SafetensorsCheckpoint::Open(folder));
  ASSIGN_OR_RETURN(CheckpointMap map, MapHfCheckpoint(checkpoint, options.dtype, &spec.config));
  ConvertSummary summary;
  summary.architecture = spec.config.architecture;
  summary.has_tokenizer = spec.tokenizer.kind != TokenizerKind::kNone;
  summary.ignored = std::move(map.ignored);
  for (TensorSource& source : map.tensors) {
    ASSIGN_OR_RETURN(const uint64_t elements, ElementCount(source.spec));
    source.spec.raw_bytes = elements * ElementBytes(source.spec.dtype);
    summary.parameters += elements;
    summary.raw_bytes += source.spec.raw_bytes;
    ++summary.tensors;
    spec.tensors.push_back(source.spec);
  }
  ASSIGN_OR_RETURN(Writer writer, Writer::Create(output.string(), std::move(spec), options.writer));
  Streamer streamer(checkpoint, writer, options, summary.raw_bytes);
  for (const TensorSource& source : map.tensors) RETURN_IF_ERROR(streamer.Copy(source));
  RETURN_IF_ERROR(writer.Finish());
  std::error_code error;
  summary.file_bytes = std::filesystem::file_size(output, error);
  return summary;
}

}  // namespace dsopt
