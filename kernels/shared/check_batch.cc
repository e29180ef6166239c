// check_batch.cc - refuses a batch that would read or write anything it should not. Changes nothing that a
// later batch could notice.
#include <algorithm>
#include <cmath>

#include "check.h"

namespace dsopt_shared {
namespace {

class BatchCheck {
 public:
  BatchCheck(const dsopt_host_api& host, const dsopt_program_desc& desc, uint32_t window, PageWriters* pages,
             const dsopt_batch& batch)
      : host_(host), d_(desc), window_(window), pages_(pages), b_(batch) {}

  dsopt_status All() const {
    dsopt_status status = Counts();
    if (status == DSOPT_OK) status = RowsAndPages();
    for (uint32_t i = 0; status == DSOPT_OK && i < b_.logit_rows; ++i) status = Sample(i);
    if (status == DSOPT_OK) status = Lists();
    return status;
  }

 private:
  template <typename... Arguments>
  dsopt_status Wrong(const char* format, Arguments... arguments) const {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-security"
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    return Refuse(host_, DSOPT_E_INVALID_ARGUMENT, format, arguments...);
#pragma GCC diagnostic pop
  }

  dsopt_status Counts() const {
    if (b_.rows == 0 || b_.rows > d_.max_rows)
      return Wrong("batch: %u rows, 1 to %u expected", b_.rows, d_.max_rows);
    if (b_.seqs == 0 || b_.seqs > d_.max_seqs)
      return Wrong("batch: %u sequences, 1 to %u expected", b_.seqs, d_.max_seqs);
    if (b_.logit_rows > d_.max_logit_rows) {
      return Wrong("batch: %u logit rows, at most %u expected", b_.logit_rows, d_.max_logit_rows);
    }
    if (b_.adjust_count > d_.max_adjust) {
      return Wrong("batch: %u adjustments, at most %u expected", b_.adjust_count, d_.max_adjust);
    }
    if (b_.history_count > d_.max_history) {
      return Wrong("batch: %u history entries, at most %u expected", b_.history_count, d_.max_history);
    }
    if (b_.tokens == nullptr || b_.positions == nullptr || b_.row_seq == nullptr || b_.page_table == nullptr) {
      return Wrong("batch: tokens, positions, row_seq or page_table is NULL");
    }
    if ((b_.logit_rows != 0 && b_.sample == nullptr) ||
        (b_.adjust_count != 0 && (b_.adjust_tokens == nullptr || b_.adjust_bias == nullptr)) ||
        (b_.history_count != 0 && (b_.history_tokens == nullptr || b_.history_counts == nullptr))) {
      return Wrong("batch: sample, adjust or history is NULL but its count is not 0");
    }
    return DSOPT_OK;
  }

  dsopt_status RowsAndPages() const {
    const uint32_t pages = std::min(d_.max_pages_per_seq, b_.page_table_stride);
    for (uint32_t r = 0; r < b_.rows; ++r) {
      const int32_t token = b_.tokens[r], position = b_.positions[r], seq = b_.row_seq[r];
      if (token < 0 || static_cast<uint32_t>(token) >= d_.vocab) {
        return Wrong("batch: row %u has token %d, the vocabulary has %u", r, token, d_.vocab);
      }
      if (position < 0 || static_cast<uint32_t>(position) / kPageTokens >= pages) {
        return Wrong("batch: row %u has position %d, its page table has room for %llu", r, position,
                     static_cast<unsigned long long>(uint64_t{pages} * kPageTokens));
      }
      const int32_t last = r == 0 ? -1 : b_.row_seq[r - 1];
      if (seq != last && seq != last + 1) {
        return Wrong("batch: row %u belongs to sequence %d after a row of %d", r, seq, last);
      }
      if (static_cast<int64_t>(seq) >= b_.seqs || seq < 0) {
        return Wrong("batch: row %u belongs to sequence %d of %u", r, seq, b_.seqs);
      }
      if (seq == last && position != b_.positions[r - 1] + 1) {
        return Wrong("batch: row %u has position %d, %d expected", r, position, b_.positions[r - 1] + 1);
      }
    }
    if (static_cast<uint32_t>(b_.row_seq[b_.rows - 1]) + 1 != b_.seqs) {
      return Wrong("batch: rows of %d sequences, %u expected", b_.row_seq[b_.rows - 1] + 1, b_.seqs);
    }
    for (uint32_t first = 0, r = 0; r < b_.rows; ++r) {
      if (r + 1 < b_.rows && b_.row_seq[r + 1] == b_.row_seq[r]) continue;
      const dsopt_status status = Pages(first, r);
      if (status != DSOPT_OK) return status;
      first = r + 1;
    }
    return DSOPT_OK;
  }

  // The pages that rows [first, last] of one sequence read or write.
  dsopt_status Pages(uint32_t first, uint32_t last) const {
    const uint32_t seq = static_cast<uint32_t>(b_.row_seq[first]);
    const uint32_t from = static_cast<uint32_t>(b_.positions[first]),
                   to = static_cast<uint32_t>(b_.positions[last]);
    const uint32_t seen = window_ != 0 && from + 1 > window_ ? from + 1 - window_ : 0;
    const int32_t* table = b_.page_table + uint64_t{seq} * b_.page_table_stride;
    for (uint32_t i = seen / kPageTokens; i <= to / kPageTokens; ++i) {
      if (table[i] < 0 || static_cast<uint32_t>(table[i]) >= d_.page_count) {
        return Wrong("batch: sequence %u has page %d at index %u, 0 to %u expected", seq, table[i], i,
                     d_.page_count - 1);
      }
      if (i < from / kPageTokens) continue;
      const int32_t page = table[i];
      if (pages_->stamps[page] == pages_->stamp) {
        return Wrong("batch: page %d is written by sequences %u and %u", page, pages_->seqs[page], seq);
      }
      pages_->stamps[page] = pages_->stamp;
      pages_->seqs[page] = seq;
    }
    return DSOPT_OK;
  }

  dsopt_status Sample(uint32_t i) const {
    const dsopt_sample_row& s = b_.sample[i];
    const int32_t last = i == 0 ? 0 : b_.sample[i - 1].row;
    if (s.row < last || static_cast<uint32_t>(s.row) >= b_.rows) {
      return Wrong("batch: sample entry %u wants row %d, %d to %u expected", i, s.row, last, b_.rows - 1);
    }
    if (s.mode != DSOPT_SAMPLE && s.mode != DSOPT_SCORE) {
      return Wrong("batch: sample entry %u has mode %d", i, static_cast<int>(s.mode));
    }
    if (s.mode == DSOPT_SCORE && (s.target < 0 || static_cast<uint32_t>(s.target) >= d_.vocab)) {
      return Wrong("batch: sample entry %u scores token %d, the vocabulary has %u", i, s.target, d_.vocab);
    }
    if (s.top_logprobs > DSOPT_MAX_TOP_LOGPROBS) {
      return Wrong("batch: sample entry %u wants %u top logprobs, at most %d expected", i, s.top_logprobs,
                   DSOPT_MAX_TOP_LOGPROBS);
    }
    if (s.adjust_first > b_.adjust_count || s.adjust_count > b_.adjust_count - s.adjust_first ||
        s.history_first > b_.history_count || s.history_count > b_.history_count - s.history_first) {
      return Wrong("batch: sample entry %u has adjustments [%u, +%u) of %u, history [%u, +%u) of %u", i,
                   s.adjust_first, s.adjust_count, b_.adjust_count, s.history_first, s.history_count,
                   b_.history_count);
    }
    const float wanted[] = {s.temperature, s.top_p, s.min_p, s.typical_p, s.top_n_sigma, s.repeat_penalty};
    for (float value : wanted) {
      if (!(value >= 0.0f) || !std::isfinite(value)) {
        return Wrong("batch: sample entry %u has the parameter %g, a finite number >= 0 expected", i,
                     static_cast<double>(value));
      }
    }
    if (!std::isfinite(s.presence_penalty) || !std::isfinite(s.frequency_penalty)) {
      return Wrong("batch: sample entry %u has a penalty that is not finite", i);
    }
    return DSOPT_OK;
  }

  dsopt_status Lists() const {
    for (uint32_t i = 0; i < b_.adjust_count; ++i) {
      if (b_.adjust_tokens[i] < 0 || static_cast<uint32_t>(b_.adjust_tokens[i]) >= d_.vocab) {
        return Wrong("batch: adjustment %u is of token %d, the vocabulary has %u", i, b_.adjust_tokens[i],
                     d_.vocab);
      }
    }
    for (uint32_t i = 0; i < b_.history_count; ++i) {
      if (b_.history_tokens[i] < 0 || static_cast<uint32_t>(b_.history_tokens[i]) >= d_.vocab) {
        return Wrong("batch: history entry %u is of token %d, the vocabulary has %u", i, b_.history_tokens[i],
                     d_.vocab);
      }
    }
    return DSOPT_OK;
  }

  const dsopt_host_api& host_;
  const dsopt_program_desc& d_;
  const uint32_t window_;
  PageWriters* const pages_;
  const dsopt_batch& b_;
};

}  // namespace

dsopt_status CheckBatch(const dsopt_host_api& host, const dsopt_program_desc& desc, uint32_t window,
                        PageWriters* pages, const dsopt_batch& batch) {
  if (++pages->stamp == 0) {  // all stamps are used up: none may match an old one
    std::fill_n(pages->stamps, desc.page_count, 0u);
    pages->stamp = 1;
  }
  return BatchCheck(host, desc, window, pages, batch).All();
}

}  // namespace dsopt_shared
