// validate.h - compares a model with a reference over texts: both see the same windows of tokens, as
// perplexity.h cuts them, and every row of logits is compared. Memory: both models, one batch of logits of
// each. Prints nothing.
#ifndef DSOPT_TOOLS_VALIDATE_H_
#define DSOPT_TOOLS_VALIDATE_H_

#include <atomic>
#include <functional>
#include <string>
#include <vector>

#include "base/status.h"
#include "tools/client.h"
#include "tools/logits_compare.h"
#include "tools/perplexity.h"

namespace dsopt::tools {

struct ValidateOptions {
  std::string model, reference;    // .dsopt files
  std::vector<std::string> texts;  // files
  EngineOptions engine, reference_engine;
  PerplexityOptions windows;    // of each text
  uint64_t max_chars = 400000;  // of each text; 0: all
  std::string dump;             // folder to write tokens and logits to (logits_dump.h); empty: none
  const std::atomic<bool>* cancel = nullptr;  // read between batches; set: DSOPT_E_CANCELLED
  std::function<void(const std::string& text, uint32_t window, uint32_t windows)> progress;
};

struct TextComparison {
  std::string text;
  DifferenceSum sum;
  uint32_t windows = 0;
  uint32_t worst_window = 0, worst_position = 0;  // where the worst KL is; position: of the predicted token
  // Of each window, in order; x: the reference's perplexity, y: the model's.
  std::vector<Point> window_perplexity;
};

struct ModelSummary {
  std::string file, device, precision;
  uint64_t weight_bytes = 0;  // resident
};

struct Comparison {
  ModelSummary model, reference;
  std::vector<TextComparison> texts;
  DifferenceSum total;
  // Probability of the reference's most probable token; x: by the reference, y: by the model.
  PointSample top_probability{2000};
};

// DSOPT_E_INVALID_ARGUMENT when the models' vocabularies or token ids differ, or a text fills no window.
Result<Comparison> Validate(const ValidateOptions& options);

}  // namespace dsopt::tools
#endif  // DSOPT_TOOLS_VALIDATE_H_
