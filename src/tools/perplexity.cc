#include "tools/perplexity.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/utf8.h"
#include "tools/client.h"

namespace dsopt::tools {
namespace {

// Sum of -log p over the window; count receives how many were scored.
Result<double> ScoreWindow(dsopt_session* session, std::span<const dsopt_token> window, dsopt_token bos,
                           uint64_t* count) {
  ASSIGN_OR_RETURN(const StreamPtr stream, OpenStream(session));
  if (bos >= 0) RETURN_IF_ERROR(FromApi(dsopt_stream_append_tokens(stream.get(), &bos, 1)));
  RETURN_IF_ERROR(FromApi(dsopt_stream_append_tokens(stream.get(), window.data(), window.size())));
  dsopt_generate_options generate = {};
  generate.struct_size = sizeof generate;
  generate.flags = DSOPT_GENERATE_PREFILL_ONLY | DSOPT_GENERATE_SCORE;
  RETURN_IF_ERROR(FromApi(dsopt_stream_generate(stream.get(), &generate)));
  RETURN_IF_ERROR(Finish(session, stream.get()));
  std::vector<float> logprobs(window.size() - (bos >= 0 ? 0 : 1));
  size_t read = 0;
  RETURN_IF_ERROR(FromApi(dsopt_stream_get_logprobs(stream.get(), 1, logprobs.data(), logprobs.size(), &read)));
  if (read != logprobs.size()) {
    return Error(DSOPT_E_INTERNAL, "%zu log probabilities, expected %zu", read, logprobs.size());
  }
  double sum = 0;
  for (float logprob : logprobs) sum -= static_cast<double>(logprob);
  if (!std::isfinite(sum)) return Error(DSOPT_E_INTERNAL, "a log probability of the window is not finite");
  *count += read;
  return sum;
}

}  // namespace

std::string UnixNewlines(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\r' && i + 1 < text.size() && text[i + 1] == '\n') continue;
    out += text[i] == '\r' ? '\n' : text[i];
  }
  return out;
}

std::string_view FirstCharacters(std::string_view text, uint64_t characters) {
  if (characters == 0) return text;
  size_t at = 0;
  for (uint64_t i = 0; i < characters && at < text.size(); ++i) {
    at += std::max(DecodeUtf8(text.substr(at)).length, 1u);
  }
  return text.substr(0, at);
}

Result<PerplexityResult> Perplexity(
    dsopt_session* session, std::span<const dsopt_token> ids, dsopt_token bos, const PerplexityOptions& options,
    const std::function<void(const PerplexityResult& so_far, uint32_t total)>& progress) {
  const size_t full = options.window == 0 ? 0 : ids.size() / options.window;
  const size_t total = options.windows == 0 ? full : std::min<size_t>(full, options.windows);
  if (total == 0 || options.window < 2) {
    return Error(DSOPT_E_INVALID_ARGUMENT, "the text has %zu tokens, expected at least one window of %u (2 or more)",
                 ids.size(), options.window);
  }
  PerplexityResult result;
  double sum = 0;
  for (size_t i = 0; i < total; ++i) {
    ASSIGN_OR_RETURN(const double nll, ScoreWindow(session, ids.subspan(i * options.window, options.window), bos,
                                                   &result.tokens));
    sum += nll;
    result.windows = static_cast<uint32_t>(i + 1);
    result.perplexity = std::exp(sum / static_cast<double>(result.tokens));
    if (progress) progress(result, static_cast<uint32_t>(total));
  }
  return result;
}

}  // namespace dsopt::tools
