// batch.h - the rows of one step as the backend wants them (dsopt_batch), and which stream each came from.
// Holds references to the streams and cache pages while the step is in flight, so that both may be released
// meanwhile.
#ifndef DSOPT_RUNTIME_BATCH_H_
#define DSOPT_RUNTIME_BATCH_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "dsopt/backend.h"
#include "runtime/kv_cache.h"
#include "runtime/stream.h"

namespace dsopt {

struct BatchSlot {
  std::shared_ptr<Stream> stream;
  uint32_t first = 0, rows = 0;                 // positions
  uint32_t first_sample = 0, sample_count = 0;  // of the batch's sample rows
  bool complete = false;  // reaches the stream's last token: its last sample row gives the next token
  bool dropped = false;   // the stream ended meanwhile: results are ignored
};

enum class BatchState : uint8_t {
  kEmpty,     // may be filled
  kInFlight,  // begun
  kDone,      // results can be read
  kDead,      // the backend gave it up; its streams have not been told yet
};

// Arrays keep their capacity: filling a batch allocates nothing. [thread-compatible]
class Batch {
 public:
  Batch() = default;
  explicit Batch(const dsopt_program_desc& desc);

  BatchState state = BatchState::kEmpty;
  std::vector<BatchSlot> slots;

  // Appends rows of a stream from its first position outside of the cache. logit_rows of them, the last ones,
  // want logits. The cache pages must have been reserved.
  void Add(std::shared_ptr<Stream> stream, uint32_t rows, uint32_t logit_rows);
  // Takes page references and lays out the page table. The result is valid until Clear.
  dsopt_batch Seal(PagePool* pool);
  // Gives references back; state becomes kEmpty.
  void Clear(PagePool* pool);

  uint32_t rows() const { return static_cast<uint32_t>(tokens_.size()); }

 private:
  void AddSampleRow(const Stream& stream, uint32_t position, int32_t row);
  void AddHistory(const Stream& stream, dsopt_sample_row* sample);

  std::vector<int32_t> tokens_, positions_, row_seq_, page_table_;
  std::vector<dsopt_sample_row> sample_;
  std::vector<int32_t> adjust_tokens_, history_tokens_;
  std::vector<float> adjust_bias_;
  std::vector<uint32_t> history_counts_;
  std::vector<int32_t> window_;  // scratch of AddHistory
};

}  // namespace dsopt
#endif  // DSOPT_RUNTIME_BATCH_H_
