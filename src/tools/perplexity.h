// perplexity.h - perplexity as the goldens define it: [BOS] + window in one forward pass, for consecutive windows.
#ifndef DSOPT_TOOLS_PERPLEXITY_H_
#define DSOPT_TOOLS_PERPLEXITY_H_

#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "base/status.h"
#include "dsopt/dsopt.h"

namespace dsopt::tools {

// "\r\n" and "\r" become "\n", as reading a file as text does in Python: the goldens' texts were read so.
std::string UnixNewlines(std::string_view text);

// The first `characters` code points; 0: all. Bytes that are not UTF-8 count one each.
std::string_view FirstCharacters(std::string_view text, uint64_t characters);

struct PerplexityOptions {
  uint32_t window = 512;   // tokens scored in one forward pass
  uint32_t windows = 64;   // at most this many; 0: as many as the text fills
};

struct PerplexityResult {
  double perplexity = 0;
  uint32_t windows = 0;
  uint64_t tokens = 0;     // scored
};

// session: room for window + 1 tokens. Without a BOS token (bos < 0) the first token of a window is not scored.
// progress, if given, is called after each window. DSOPT_E_INVALID_ARGUMENT when the ids fill no window.
Result<PerplexityResult> Perplexity(dsopt_session* session, std::span<const dsopt_token> ids, dsopt_token bos,
                                    const PerplexityOptions& options,
                                    const std::function<void(const PerplexityResult& so_far, uint32_t total)>& progress);

}  // namespace dsopt::tools
#endif  // DSOPT_TOOLS_PERPLEXITY_H_
