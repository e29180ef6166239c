// scheduler.h - chooses what runs in the next batch. Pure: no clock, no device, no locks, no allocation once
// the vectors have their capacity.
#ifndef DSOPT_RUNTIME_SCHEDULER_H_
#define DSOPT_RUNTIME_SCHEDULER_H_

#include <cstdint>
#include <span>
#include <vector>

namespace dsopt {

// What one generating stream still has to push through the model before its next token can be sampled.
struct StreamDemand {
  uint32_t rows = 0;     // >= 1; exactly 1: ready to decode
  bool score = false;    // every row wants its logits, not only the last one
  int32_t priority = 0;  // larger first
  uint64_t order = 0;    // age of the generation; smaller first among equal priorities
};

struct BatchLimits {
  uint32_t rows = 0, seqs = 0, logit_rows = 0;
};

struct BatchSlice {
  uint32_t stream = 0;  // index of the demand
  uint32_t rows = 0;
  uint32_t logit_rows = 0;  // of those, at the end of the slice
};

// The streams with the highest priority, at most limits.seqs of them, take part. Those ready to decode get
// their row first; what is left of limits.rows goes to prompts, one after the other, so that the first prompt
// is done as early as possible. Deterministic. `scratch` keeps its capacity between calls.
void ChooseBatch(std::span<const StreamDemand> demands, const BatchLimits& limits,
                 std::vector<uint32_t>* scratch, std::vector<BatchSlice>* out);

}  // namespace dsopt
#endif  // DSOPT_RUNTIME_SCHEDULER_H_
