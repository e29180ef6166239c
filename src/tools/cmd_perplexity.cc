// cmd_perplexity.cc - dsopt perplexity.
#include <cstdio>

#include "base/clock.h"
#include "tools/client.h"
#include "tools/output.h"
#include "tools/perplexity.h"

namespace dsopt::tools {
namespace {

struct Request {
  std::string model, text;
  EngineOptions engine;
  PerplexityOptions perplexity;
  uint64_t max_chars = 400000;
  bool json = false;
};

void ShowWindow(const PerplexityResult& so_far, uint32_t total) {
  std::fprintf(stderr, "\rwindow %u of %u: %.4f%s", so_far.windows, total, so_far.perplexity,
               so_far.windows == total ? "\r\033[K" : "");
}

Status Measure(const Request& request) {
  ASSIGN_OR_RETURN(const std::string bytes, ReadText(request.text));
  const std::string text = UnixNewlines(bytes);
  ASSIGN_OR_RETURN(const RuntimePtr runtime, OpenRuntime(request.engine));
  ASSIGN_OR_RETURN(const ModelPtr model, OpenModel(runtime.get(), request.model, request.engine));
  ASSIGN_OR_RETURN(const dsopt_model_info info, ModelInfo(model.get()));
  const std::string used(FirstCharacters(text, request.max_chars));
  ASSIGN_OR_RETURN(const std::vector<dsopt_token> ids, Tokenize(model.get(), used, DSOPT_TOKENIZE_PARSE_SPECIAL));
  ASSIGN_OR_RETURN(const SessionPtr session,
                   OpenSession(model.get(), request.engine, 1, request.perplexity.window + 1));
  const uint64_t start_ns = NowNs();
  ASSIGN_OR_RETURN(const PerplexityResult result,
                   Perplexity(session.get(), ids, info.bos, request.perplexity,
                              ShowProgress() ? ShowWindow : std::function<void(const PerplexityResult&, uint32_t)>()));
  const double seconds = static_cast<double>(NowNs() - start_ns) * 1e-9;
  if (request.json) {
    PrintJson({{"perplexity", result.perplexity},
               {"windows", result.windows},
               {"tokens", result.tokens},
               {"window", request.perplexity.window},
               {"precision", request.engine.precision},
               {"kv_dtype", request.engine.CacheName()},
               {"device", info.device},
               {"seconds", seconds}});
    return {};
  }
  return Print(Format("perplexity %.6f over %u windows of %u tokens (%llu scored) in %.1f s, %s, %s, cache %s\n",
                      result.perplexity, result.windows, request.perplexity.window,
                      static_cast<unsigned long long>(result.tokens), seconds, info.device,
                      request.engine.precision.c_str(), request.engine.CacheName()));
}

}  // namespace

int CmdPerplexity(const Arguments& arguments) {
  Request request;
  Options options("perplexity", "FILE TEXT [options]",
                  "Tokenizes the first characters of TEXT, cuts the ids into consecutive windows, runs [BOS] + window\n"
                  "in one forward pass and prints exp of the mean negative log likelihood of the window tokens. Line ends\n"
                  "\\r\\n and \\r count as \\n; a control token written in the text, such as <unk>, is that token.");
  options.Positional("FILE", &request.model, "a .dsopt file");
  options.Positional("TEXT", &request.text, "a text file; - reads standard input");
  options.Value("window", "N", &request.perplexity.window, "tokens of a window (default 512)");
  options.Value("windows", "N", &request.perplexity.windows, "at most so many; 0: all (default 64)");
  options.Value("max-chars", "N", &request.max_chars, "use this many characters of the text; 0: all (default 400000)");
  request.engine.Declare(&options);
  options.Flag("json", &request.json, "print one JSON object: perplexity, windows, tokens");
  if (std::optional<int> code = options.Parse(arguments)) return *code;
  const Status status = Measure(request);
  return status.ok() ? kExitOk : Fail("perplexity", status);
}

}  // namespace dsopt::tools
