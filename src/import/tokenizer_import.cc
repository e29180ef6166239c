// tokenizer_import.cc - finds the tokenizer of a checkpoint folder.
#include "import/tokenizer_import.h"

#include <cstdio>
#include <memory>

#include "import/tokenizer_json_read.h"

namespace dsopt {
namespace {

constexpr uint64_t kMaxFileBytes = uint64_t{256} << 20;

// DSOPT_E_NOT_FOUND if there is no such file.
Result<std::string> ReadText(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) {
    return Error(DSOPT_E_NOT_FOUND, "'%s': no such file", path.c_str());
  }
  const uint64_t size = std::filesystem::file_size(path, error);
  if (error) return Error(DSOPT_E_IO, "'%s': %s", path.c_str(), error.message().c_str());
  if (size > kMaxFileBytes) {
    return Error(DSOPT_E_UNSUPPORTED, "'%s': %llu bytes, at most %llu are read", path.c_str(),
                 static_cast<unsigned long long>(size), static_cast<unsigned long long>(kMaxFileBytes));
  }
  const std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen(path.c_str(), "rb"), std::fclose);
  if (file == nullptr) return Error(DSOPT_E_IO, "'%s': cannot be opened", path.c_str());
  std::string out(size, '\0');
  const size_t count = std::fread(out.data(), 1, out.size(), file.get());
  if (count != out.size()) {
    return Error(DSOPT_E_IO, "'%s': %zu bytes read, %zu expected", path.c_str(), count, out.size());
  }
  return out;
}

// An absent file is empty text.
Result<std::string> ReadOptional(const std::filesystem::path& path) {
  Result<std::string> text = ReadText(path);
  if (!text.ok() && text.status().code() == DSOPT_E_NOT_FOUND) return std::string();
  return text;
}

// What the configuration files add to a tokenizer read from elsewhere.
Status ApplyConfigs(std::string_view special_map, std::string_view config_text,
                    std::string_view generation_text, TokenizerSpec* spec) {
  const auto find = [&](std::string_view text) -> int32_t {
    for (const AddedToken& token : spec->added) {
      if (spec->pieces[token.id] == text) return static_cast<int32_t>(token.id);
    }
    return -1;
  };
  if (!special_map.empty()) {
    ASSIGN_OR_RETURN(const Json map, ParseJson(special_map, "special_tokens_map.json"));
    ReadSpecialTokens(map, find, spec);
  }
  if (!config_text.empty()) {
    ASSIGN_OR_RETURN(const Json config, ParseJson(config_text, "tokenizer_config.json"));
    ReadSpecialTokens(config, find, spec);
    ReadAddFlags(config, spec);
  }
  if (!generation_text.empty()) {
    ASSIGN_OR_RETURN(const Json config, ParseJson(generation_text, "generation_config.json"));
    RETURN_IF_ERROR(ReadGenerationConfig(config, spec));
  }
  FinishEndTokens(spec);
  return {};
}

// A rank file starts with base64 and a space; a ModelProto with the tag of its first piece.
bool LooksLikeTiktoken(std::string_view bytes) {
  const size_t space = bytes.substr(0, 2048).find_first_of(" \n");
  if (space == std::string_view::npos || space == 0 || bytes[space] != ' ') return false;
  return bytes.substr(0, space).find_first_not_of(
             "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=") == std::string_view::npos;
}

}  // namespace

Result<TokenizerSpec> ImportTokenizer(const std::filesystem::path& folder) {
  ASSIGN_OR_RETURN(const std::string config, ReadOptional(folder / "tokenizer_config.json"));
  ASSIGN_OR_RETURN(const std::string generation, ReadOptional(folder / "generation_config.json"));
  ASSIGN_OR_RETURN(const std::string special_map, ReadOptional(folder / "special_tokens_map.json"));
  ASSIGN_OR_RETURN(const std::string json, ReadOptional(folder / "tokenizer.json"));
  if (!json.empty()) {
    ASSIGN_OR_RETURN(TokenizerSpec spec, ImportTokenizerJson(json, config, generation));
    if (spec.bos < 0 || spec.eos < 0) RETURN_IF_ERROR(ApplyConfigs(special_map, config, generation, &spec));
    return spec;
  }
  ASSIGN_OR_RETURN(const std::string model, ReadOptional(folder / "tokenizer.model"));
  if (model.empty()) {
    return Error(DSOPT_E_NOT_FOUND, "'%s': neither tokenizer.json nor tokenizer.model", folder.c_str());
  }
  Result<TokenizerSpec> spec =
      LooksLikeTiktoken(model) ? ImportTiktoken(model, "llama3") : ImportSentencePiece(model);
  if (!spec.ok()) return spec.status();
  RETURN_IF_ERROR(ApplyConfigs(special_map, config, generation, &*spec));
  return spec;
}

Result<std::string> ImportChatTemplate(const std::filesystem::path& folder) {
  ASSIGN_OR_RETURN(std::string text, ReadOptional(folder / "chat_template.jinja"));
  if (!text.empty()) return text;
  ASSIGN_OR_RETURN(const std::string config, ReadOptional(folder / "tokenizer_config.json"));
  if (!config.empty()) {
    ASSIGN_OR_RETURN(const Json json, ParseJson(config, "tokenizer_config.json"));
    const Json& value = Member(json, "chat_template");
    if (const std::string* found = value.get_ptr<const std::string*>()) return *found;
    for (const Json& entry : value) {  // a list of named templates
      if (StringMember(entry, "name") == "default") return std::string(StringMember(entry, "template"));
    }
  }
  return Error(DSOPT_E_NOT_FOUND, "'%s': no chat template", folder.c_str());
}

}  // namespace dsopt
