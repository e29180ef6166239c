#include "import/hf_description.h"

#include <algorithm>
#include <sstream>

#include "base/utf8.h"
#include "import/hf_config.h"
#include "import/json_file.h"
#include "import/tokenizer_import.h"

namespace dsopt {
namespace {

constexpr uint64_t kMostConfigBytes = 4u << 20, kMostTextBytes = 1u << 20;
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

Status ReadTexts(const std::filesystem::path& folder, ModelSpec* spec) {
  Result<TokenizerSpec> tokenizer = ImportTokenizer(folder);
  if (tokenizer.ok())
    spec->tokenizer = *std::move(tokenizer);
  else if (tokenizer.status().code() != DSOPT_E_NOT_FOUND)
    return tokenizer.status();
  Result<std::string> chat_template = ImportChatTemplate(folder);
  if (chat_template.ok())
    spec->chat_template = *std::move(chat_template);
  else if (chat_template.status().code() != DSOPT_E_NOT_FOUND)
    return chat_template.status();
  return {};
}

Status ReadGeneration(const std::filesystem::path& folder, ModelSpec* spec) {
  const std::filesystem::path path = folder / "generation_config.json";
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return {};
  ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path, kMostConfigBytes));
  ASSIGN_OR_RETURN(HfGeneration generation, ParseHfGeneration(text));
  spec->sampling = generation.sampling;
  std::vector<int32_t>& ends = spec->tokenizer.end_tokens;
  for (int32_t token : generation.end_tokens) {
    const bool known = static_cast<size_t>(token) < spec->tokenizer.pieces.size();
    if (known && std::find(ends.begin(), ends.end(), token) == ends.end()) ends.push_back(token);
  }
  return {};
}

}  // namespace

void FillMetadata(const std::string& source, const std::string& license, ModelSpec* spec) {
  if (!source.empty()) spec->metadata["source"] = MetadataText(source);
  if (!license.empty()) spec->metadata["license"] = MetadataText(license);
  spec->metadata["generator"] =
      Format("dsopt %d.%d.%d", DSOPT_VERSION_MAJOR, DSOPT_VERSION_MINOR, DSOPT_VERSION_PATCH);
}

Result<HfDescription> ReadHfDescription(const std::filesystem::path& folder, const std::string& license) {
  HfDescription out;
  ASSIGN_OR_RETURN(const std::string config, ReadTextFile(folder / "config.json", kMostConfigBytes));
  ASSIGN_OR_RETURN(out.spec.config, ParseHfConfig(config));
  ASSIGN_OR_RETURN(out.quantization, ParseHfQuantization(config));
  RETURN_IF_ERROR(ReadTexts(folder, &out.spec));
  RETURN_IF_ERROR(ReadGeneration(folder, &out.spec));
  if (out.spec.tokenizer.pieces.size() > out.spec.config.vocab) {
    return Error(DSOPT_E_UNSUPPORTED, "%s: the tokenizer has %zu pieces, config.json a vocab_size of %u",
                 folder.c_str(), out.spec.tokenizer.pieces.size(), out.spec.config.vocab);
  }
  std::error_code error;
  const std::filesystem::path absolute = std::filesystem::canonical(folder, error);
  const std::string found = license.empty() ? FindLicense(folder).substr(0, kMostLicenseBytes) : license;
  FillMetadata((error ? folder : absolute).filename().string(), found, &out.spec);
  return out;
}

}  // namespace dsopt
