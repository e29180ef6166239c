#include "tools/validate.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <span>

#include "spec/cache_spec.h"
#include "tools/logits_dump.h"

namespace dsopt::tools {
namespace {

constexpr uint32_t kBatchRows = 64;   // positions whose logits are computed at once

// A model that reads windows and gives the logits of every position. dsopt.h gives those of a stream's last
// position only; so the tokens are brought into the cache first, then each position of a batch becomes the last
// one of a fork, and one batch computes them all.
class Side {
 public:
  static Result<Side> Open(const std::string& path, const EngineOptions& engine, uint32_t window) {
    Side side;
    ASSIGN_OR_RETURN(side.runtime_, OpenRuntime(engine));
    ASSIGN_OR_RETURN(side.model_, OpenModel(side.runtime_.get(), path, engine));
    ASSIGN_OR_RETURN(side.info_, ModelInfo(side.model_.get()));
    const uint32_t capacity = window + kPageTokens + kBatchRows * kPageTokens;
    ASSIGN_OR_RETURN(side.session_, OpenSession(side.model_.get(), engine, kBatchRows, capacity));
    side.logits_.resize(size_t{kBatchRows} * side.info_.vocab_size);
    return side;
  }

  const dsopt_model_info& info() const { return info_; }
  dsopt_model* model() const { return model_.get(); }
  // Of the last Append, counted from its first token.
  std::span<const float> Row(size_t row) const {
    return std::span(logits_).subspan(row * info_.vocab_size, info_.vocab_size);
  }

  Status StartWindow() {
    stream_.reset();
    ASSIGN_OR_RETURN(stream_, OpenStream(session_.get()));
    return {};
  }

  // The next tokens of the window, at most kBatchRows.
  Status Append(std::span<const dsopt_token> tokens) {
    const size_t first = dsopt_stream_token_count(stream_.get());
    RETURN_IF_ERROR(FromApi(dsopt_stream_append_tokens(stream_.get(), tokens.data(), tokens.size())));
    RETURN_IF_ERROR(Prefill(stream_.get()));
    RETURN_IF_ERROR(Finish(session_.get(), stream_.get()));
    std::vector<StreamPtr> forks;
    for (size_t i = 0; i < tokens.size(); ++i) {
      dsopt_stream* fork = nullptr;
      RETURN_IF_ERROR(FromApi(dsopt_stream_fork(stream_.get(), &fork)));
      forks.emplace_back(fork);
      RETURN_IF_ERROR(FromApi(dsopt_stream_rewind(fork, first + i + 1)));
      RETURN_IF_ERROR(Prefill(fork));  // all in the cache: only the last position is computed again
    }
    for (size_t i = 0; i < forks.size(); ++i) {
      RETURN_IF_ERROR(Finish(session_.get(), forks[i].get()));
      size_t count = 0;
      RETURN_IF_ERROR(FromApi(dsopt_stream_get_logits(forks[i].get(), logits_.data() + i * info_.vocab_size,
                                                      info_.vocab_size, &count)));
    }
    return {};
  }

 private:
  static Status Prefill(dsopt_stream* stream) {
    dsopt_generate_options generate = {};
    generate.struct_size = sizeof generate;
    generate.flags = DSOPT_GENERATE_PREFILL_ONLY;
    return FromApi(dsopt_stream_generate(stream, &generate));
  }

  RuntimePtr runtime_;
  ModelPtr model_;
  dsopt_model_info info_ = {};
  SessionPtr session_;
  StreamPtr stream_;  // of the window in progress
  std::vector<float> logits_;
};

ModelSummary Summarize(const std::string& file, const Side& side, const EngineOptions& engine) {
  return {file, side.info().device, engine.precision, side.info().weight_bytes};
}

// The two models, and what is gathered while they read.
class Validator {
 public:
  static Result<Validator> Open(const ValidateOptions& options) {
    Validator validator(options);
    ASSIGN_OR_RETURN(validator.model_, Side::Open(options.model, options.engine, options.windows.window));
    ASSIGN_OR_RETURN(validator.reference_,
                     Side::Open(options.reference, options.reference_engine, options.windows.window));
    const dsopt_model_info &a = validator.model_->info(), &b = validator.reference_->info();
    if (a.vocab_size != b.vocab_size || a.bos != b.bos) {
      return Error(DSOPT_E_INVALID_ARGUMENT,
                   "%s: vocabulary of %u with begin token %d, the reference has %u and %d: not the same model",
                   options.model.c_str(), a.vocab_size, a.bos, b.vocab_size, b.bos);
    }
    const uint32_t rows = options.windows.window - (b.bos >= 0 ? 0 : 1);
    if (const uint32_t context = std::min(a.context_length, b.context_length); rows > context) {
      return Error(DSOPT_E_INVALID_ARGUMENT, "a window of %u tokens, the models' context is %u",
                   options.windows.window, context);
    }
    validator.result_.model = Summarize(options.model, *validator.model_, options.engine);
    validator.result_.reference = Summarize(options.reference, *validator.reference_, options.reference_engine);
    if (!options.dump.empty()) {
      ASSIGN_OR_RETURN(validator.dump_, LogitsDump::Create(options.dump));
    }
    return validator;
  }

  Status AddText(const std::string& path) {
    ASSIGN_OR_RETURN(const std::vector<dsopt_token> ids, Ids(path));
    const uint32_t window = options_.windows.window;
    size_t total = ids.size() / window;
    if (options_.windows.windows != 0) total = std::min<size_t>(total, options_.windows.windows);
    if (total == 0) {
      return Error(DSOPT_E_INVALID_ARGUMENT, "%s: %zu tokens, expected at least one window of %u", path.c_str(),
                   ids.size(), window);
    }
    text_ = {};
    text_.text = path;
    for (size_t i = 0; i < total; ++i) {
      if (options_.progress) {
        options_.progress(path, static_cast<uint32_t>(i + 1), static_cast<uint32_t>(total));
      }
      RETURN_IF_ERROR(AddWindow(std::span(ids).subspan(i * window, window)));
    }
    result_.texts.push_back(std::move(text_));
    return {};
  }

  Result<Comparison> Finish() {
    if (!dump_) return std::move(result_);
    Json texts = Json::array();
    for (const TextComparison& text : result_.texts) {
      texts.push_back({{"text", text.text}, {"windows", text.windows}});
    }
    const dsopt_token bos = reference_->info().bos;
    RETURN_IF_ERROR(dump_->Finish({{"model", result_.model.file},
                                   {"reference", result_.reference.file},
                                   {"vocab", reference_->info().vocab_size},
                                   {"bos", bos},
                                   {"window", options_.windows.window},
                                   {"rows_per_window", options_.windows.window - (bos >= 0 ? 0 : 1)},
                                   {"max_chars", options_.max_chars},
                                   {"texts", texts}}));
    return std::move(result_);
  }

 private:
  explicit Validator(const ValidateOptions& options) : options_(options) {}

  // Both models must make the same of the text.
  Result<std::vector<dsopt_token>> Ids(const std::string& path) const {
    ASSIGN_OR_RETURN(const std::string bytes, ReadText(path));
    const std::string unix_text = UnixNewlines(bytes);
    const std::string text(FirstCharacters(unix_text, options_.max_chars));
    ASSIGN_OR_RETURN(std::vector<dsopt_token> ids,
                     Tokenize(reference_->model(), text, DSOPT_TOKENIZE_PARSE_SPECIAL));
    ASSIGN_OR_RETURN(const std::vector<dsopt_token> others,
                     Tokenize(model_->model(), text, DSOPT_TOKENIZE_PARSE_SPECIAL));
    const auto [at, other] = std::mismatch(ids.begin(), ids.end(), others.begin(), others.end());
    if (at != ids.end() || other != others.end()) {
      return Error(DSOPT_E_INVALID_ARGUMENT, "%s: the models' tokenizers differ at token %td of %zu and %zu",
                   path.c_str(), at - ids.begin(), ids.size(), others.size());
    }
    return ids;
  }

  Status AddWindow(std::span<const dsopt_token> window) {
    const dsopt_token bos = reference_->info().bos;
    ids_.clear();
    if (bos >= 0) ids_.push_back(bos);
    ids_.insert(ids_.end(), window.begin(), window.end());
    if (dump_) RETURN_IF_ERROR(dump_->AddWindow(ids_));
    RETURN_IF_ERROR(model_->StartWindow());
    RETURN_IF_ERROR(reference_->StartWindow());
    window_ = {};
    const size_t rows = ids_.size() - 1;  // the last token is predicted, and predicts nothing that is known
    for (size_t first = 0; first < rows;) {
      if (options_.cancel != nullptr && options_.cancel->load()) {
        return Error(DSOPT_E_CANCELLED, "interrupted after %u windows of %s", text_.windows,
                     text_.text.c_str());
      }
      const size_t count = std::min<size_t>(rows - first, kBatchRows);
      RETURN_IF_ERROR(model_->Append(std::span(ids_).subspan(first, count)));
      RETURN_IF_ERROR(reference_->Append(std::span(ids_).subspan(first, count)));
      for (size_t i = 0; i < count; ++i) RETURN_IF_ERROR(AddRow(i, first + i));
      first += count;
    }
    ++text_.windows;
    text_.window_perplexity.push_back({window_.reference_perplexity(), window_.perplexity()});
    return {};
  }

  // row: of the last batch; position: of the token before the predicted one, in ids_.
  Status AddRow(size_t row, size_t position) {
    const std::span<const float> logits = model_->Row(row), reference = reference_->Row(row);
    const RowDifference difference =
        comparer_.Compare(logits, reference, static_cast<size_t>(ids_[position + 1]));
    if (!difference.finite) {
      return Error(DSOPT_E_INTERNAL, "%s: window %u, position %zu: a logit of %s is not finite",
                   text_.text.c_str(), text_.windows, position,
                   std::all_of(logits.begin(), logits.end(), [](float x) { return std::isfinite(x); })
                       ? result_.reference.file.c_str()
                       : result_.model.file.c_str());
    }
    if (difference.kl > text_.sum.worst_kl()) {
      text_.worst_window = text_.windows;
      text_.worst_position = static_cast<uint32_t>(position + 1);
    }
    window_.Add(difference);
    text_.sum.Add(difference);
    result_.total.Add(difference);
    result_.top_probability.Add({difference.reference_top_probability, difference.top_probability});
    return dump_ ? dump_->AddRow(logits, reference) : Status();
  }

  const ValidateOptions& options_;
  std::optional<Side> model_, reference_;
  std::optional<LogitsDump> dump_;
  RowComparer comparer_;
  std::vector<dsopt_token> ids_;  // of the window in progress, with its begin token
  DifferenceSum window_;
  TextComparison text_;
  Comparison result_;
};

}  // namespace

Result<Comparison> Validate(const ValidateOptions& options) {
  if (options.windows.window < 2) {
    return Error(DSOPT_E_INVALID_ARGUMENT, "a window of %u tokens, expected 2 or more", options.windows.window);
  }
  ASSIGN_OR_RETURN(Validator validator, Validator::Open(options));
  for (const std::string& text : options.texts) RETURN_IF_ERROR(validator.AddText(text));
  return validator.Finish();
}

}  // namespace dsopt::tools
