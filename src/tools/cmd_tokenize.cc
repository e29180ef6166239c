// cmd_tokenize.cc - dsopt tokenize and dsopt detokenize. Neither reads weights.
#include <cstdio>

#include "absl/strings/numbers.h"
#include "tools/client.h"
#include "tools/output.h"

namespace dsopt::tools {
namespace {

struct TextModel {
  RuntimePtr runtime;
  ModelPtr model;
};

Result<TextModel> OpenTextModel(const std::string& path) {
  EngineOptions engine;
  engine.threads = 1;
  TextModel out;
  ASSIGN_OR_RETURN(out.runtime, OpenRuntime(engine));
  ASSIGN_OR_RETURN(out.model, OpenModel(out.runtime.get(), path, engine, DSOPT_MODEL_METADATA_ONLY));
  return out;
}

Status TokenizeText(const std::string& path, const PromptOptions& prompt, uint32_t flags, bool json) {
  ASSIGN_OR_RETURN(const std::string text, prompt.Read());
  ASSIGN_OR_RETURN(const TextModel opened, OpenTextModel(path));
  ASSIGN_OR_RETURN(const std::vector<dsopt_token> ids, Tokenize(opened.model.get(), text, flags));
  if (json) {
    PrintJson({{"ids", ids}});
    return {};
  }
  std::string line;
  for (dsopt_token id : ids) line += Format(line.empty() ? "%d" : " %d", id);
  return Print(line + "\n");
}

Status DetokenizeIds(const std::string& path, const std::vector<dsopt_token>& ids, uint32_t flags, bool json) {
  ASSIGN_OR_RETURN(const TextModel opened, OpenTextModel(path));
  ASSIGN_OR_RETURN(const std::string text, Detokenize(opened.model.get(), ids, flags));
  if (json) {
    PrintJson({{"text", text}});
    return {};
  }
  return Print(text + "\n");
}

}  // namespace

int CmdTokenize(const Arguments& arguments) {
  std::string path;
  PromptOptions prompt;
  bool bos = false, special = false, json = false;
  Options options("tokenize", "FILE -p TEXT [options]", "Prints the token ids of a text.");
  options.Positional("FILE", &path, "a .dsopt file");
  prompt.Declare(&options);
  options.Flag("bos", &bos, "add the begin token as the model's tokenizer does");
  options.Flag("special", &special, "let text such as <|eot|> become control tokens");
  options.Flag("json", &json, "print one JSON object: ids");
  if (std::optional<int> code = options.Parse(arguments)) return *code;
  const uint32_t flags = (bos ? DSOPT_TOKENIZE_ADD_BOS : 0u) | (special ? DSOPT_TOKENIZE_PARSE_SPECIAL : 0u);
  const Status status = TokenizeText(path, prompt, flags, json);
  return status.ok() ? kExitOk : Fail("tokenize", status);
}

int CmdDetokenize(const Arguments& arguments) {
  std::string path;
  std::vector<std::string> words;
  std::vector<dsopt_token> ids;
  bool skip_special = false, json = false;
  Options options("detokenize", "FILE ID... [options]", "Prints the text of token ids.");
  options.Positional("FILE", &path, "a .dsopt file");
  options.Rest("ID...", &words, "token ids, separated by spaces or commas");
  options.Flag("skip-special", &skip_special, "leave control tokens out");
  options.Flag("json", &json, "print one JSON object: text (invalid UTF-8 becomes U+FFFD)");
  options.Check([&]() {
    for (const std::string& word : words) {
      for (size_t start = 0; start < word.size();) {
        const size_t end = std::min(word.find(',', start), word.size());
        dsopt_token id = 0;
        if (!absl::SimpleAtoi(word.substr(start, end - start), &id)) {
          return Error(DSOPT_E_INVALID_ARGUMENT, "'%s' is not a token id", word.c_str());
        }
        ids.push_back(id);
        start = end + 1;
      }
    }
    return ids.empty() ? Error(DSOPT_E_INVALID_ARGUMENT, "token ids are missing") : Status();
  });
  if (std::optional<int> code = options.Parse(arguments)) return *code;
  const Status status = DetokenizeIds(path, ids, skip_special ? DSOPT_DETOKENIZE_SKIP_SPECIAL : 0u, json);
  return status.ok() ? kExitOk : Fail("detokenize", status);
}

}  // namespace dsopt::tools
