#include "runtime/batch.h"

#include <algorithm>

namespace dsopt {

Batch::Batch(const dsopt_program_desc& desc) {
  slots.reserve(desc.max_seqs);
  tokens_.reserve(desc.max_rows);
  positions_.reserve(desc.max_rows);
  row_seq_.reserve(desc.max_rows);
  page_table_.reserve(static_cast<size_t>(desc.max_seqs) * desc.max_pages_per_seq);
  sample_.reserve(desc.max_logit_rows);
  adjust_tokens_.reserve(desc.max_adjust);
  adjust_bias_.reserve(desc.max_adjust);
  history_tokens_.reserve(desc.max_history);
  history_counts_.reserve(desc.max_history);
  window_.reserve(kMaxPenaltyWindow);
}

void Batch::Add(std::shared_ptr<Stream> stream, uint32_t rows, uint32_t logit_rows) {
  BatchSlot slot;
  slot.first = stream->cache().tokens();
  slot.rows = rows;
  slot.complete = rows == stream->pending_rows();
  slot.first_sample = static_cast<uint32_t>(sample_.size());
  slot.sample_count = logit_rows;
  const int32_t seq = static_cast<int32_t>(slots.size());
  for (uint32_t i = 0; i < rows; ++i) {
    const uint32_t position = slot.first + i;
    const int32_t row = static_cast<int32_t>(tokens_.size());
    tokens_.push_back(stream->tokens()[position]);
    positions_.push_back(static_cast<int32_t>(position));
    row_seq_.push_back(seq);
    if (i + logit_rows >= rows) AddSampleRow(*stream, position, row);
  }
  slot.stream = std::move(stream);
  slots.push_back(std::move(slot));
}

// The row at `position` predicts the token at position + 1: known tokens are scored, the unknown one is
// sampled.
void Batch::AddSampleRow(const Stream& stream, uint32_t position, int32_t row) {
  dsopt_sample_row sample = {};
  sample.row = row;
  const std::span<const dsopt_token> tokens = stream.tokens();
  const Generation& generation = stream.generation();
  if (position + 1 < tokens.size()) {
    sample.mode = DSOPT_SCORE;
    sample.target = tokens[position + 1];
  } else if (!generation.prefill_only) {  // else greedy and ignored: the row is there for its logits
    const dsopt_sampling& s = generation.sampling;
    sample.top_logprobs = generation.top_logprobs;
    sample.temperature = s.temperature;
    sample.top_p = s.top_p;
    sample.min_p = s.min_p;
    sample.typical_p = s.typical_p;
    sample.top_n_sigma = s.top_n_sigma;
    sample.top_k = s.top_k;
    sample.repeat_penalty = s.repeat_penalty;
    sample.presence_penalty = s.presence_penalty;
    sample.frequency_penalty = s.frequency_penalty;
    sample.seed = s.seed;
    sample.counter = position + 1;  // of the token to be sampled: independent of batches, forks and saves
    sample.adjust_first = static_cast<uint32_t>(adjust_tokens_.size());
    sample.adjust_count = static_cast<uint32_t>(generation.bias.size());
    for (const dsopt_logit_bias& bias : generation.bias) {
      adjust_tokens_.push_back(bias.token);
      adjust_bias_.push_back(bias.bias);
    }
    if (generation.has_penalties()) AddHistory(stream, &sample);
  }
  sample_.push_back(sample);
}

// Distinct tokens of the penalty window with their counts.
void Batch::AddHistory(const Stream& stream, dsopt_sample_row* sample) {
  const std::span<const dsopt_token> tokens = stream.tokens();
  const size_t length = std::min<size_t>(stream.generation().sampling.penalty_window, tokens.size());
  window_.assign(tokens.end() - static_cast<ptrdiff_t>(length), tokens.end());
  std::sort(window_.begin(), window_.end());
  sample->history_first = static_cast<uint32_t>(history_tokens_.size());
  for (size_t i = 0; i < window_.size(); ++i) {
    if (i > 0 && window_[i] == window_[i - 1]) {
      ++history_counts_.back();
    } else {
      history_tokens_.push_back(window_[i]);
      history_counts_.push_back(1);
    }
  }
  sample->history_count = static_cast<uint32_t>(history_tokens_.size()) - sample->history_first;
}

dsopt_batch Batch::Seal(PagePool* pool) {
  size_t stride = 0;
  for (const BatchSlot& slot : slots) stride = std::max(stride, slot.stream->cache().pages().size());
  page_table_.assign(stride * slots.size(), -1);
  for (size_t seq = 0; seq < slots.size(); ++seq) {
    const std::span<const int32_t> pages = slots[seq].stream->cache().pages();
    std::copy(pages.begin(), pages.end(), page_table_.begin() + static_cast<ptrdiff_t>(seq * stride));
    for (int32_t page : pages) pool->Ref(page);
  }
  dsopt_batch batch = {};
  batch.struct_size = sizeof batch;
  batch.rows = rows();
  batch.seqs = static_cast<uint32_t>(slots.size());
  batch.logit_rows = static_cast<uint32_t>(sample_.size());
  batch.tokens = tokens_.data();
  batch.positions = positions_.data();
  batch.row_seq = row_seq_.data();
  batch.page_table = page_table_.data();
  batch.page_table_stride = static_cast<uint32_t>(stride);
  batch.adjust_count = static_cast<uint32_t>(adjust_tokens_.size());
  batch.history_count = static_cast<uint32_t>(history_tokens_.size());
  batch.sample = sample_.data();
  batch.adjust_tokens = adjust_tokens_.data();
  batch.adjust_bias = adjust_bias_.data();
  batch.history_tokens = history_tokens_.data();
  batch.history_counts = history_counts_.data();
  return batch;
}

void Batch::Clear(PagePool* pool) {
  for (int32_t page : page_table_) {
    if (page >= 0) pool->Unref(page);
  }
  page_table_.clear();
  slots.clear();
  tokens_.clear();
  positions_.clear();
  row_seq_.clear();
  sample_.clear();
  adjust_tokens_.clear();
  adjust_bias_.clear();
  history_tokens_.clear();
  history_counts_.clear();
  state = BatchState::kEmpty;
}

}  // namespace dsopt
