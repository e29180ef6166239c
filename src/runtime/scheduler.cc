#include "runtime/scheduler.h"

#include <algorithm>

namespace dsopt {
namespace {

// Rows of a stream that fit into what is left. The last row of a stream wants logits; with score, all do.
BatchSlice Cut(const StreamDemand& demand, uint32_t index, uint32_t rows_left, uint32_t logit_rows_left) {
  BatchSlice slice;
  slice.stream = index;
  slice.rows = std::min(demand.rows, rows_left);
  if (demand.score) {
    slice.rows = std::min(slice.rows, logit_rows_left);
    slice.logit_rows = slice.rows;
    return slice;
  }
  if (slice.rows == demand.rows && logit_rows_left == 0) --slice.rows;
  slice.logit_rows = slice.rows == demand.rows ? 1 : 0;
  return slice;
}

}  // namespace

void ChooseBatch(std::span<const StreamDemand> demands, const BatchLimits& limits,
                 std::vector<uint32_t>* scratch, std::vector<BatchSlice>* out) {
  out->clear();
  scratch->clear();
  for (uint32_t i = 0; i < demands.size(); ++i) scratch->push_back(i);
  std::sort(scratch->begin(), scratch->end(), [&](uint32_t a, uint32_t b) {
    if (demands[a].priority != demands[b].priority) return demands[a].priority > demands[b].priority;
    return demands[a].order < demands[b].order;
  });
  if (scratch->size() > limits.seqs) scratch->resize(limits.seqs);

  uint32_t rows_left = limits.rows, logit_rows_left = limits.logit_rows;
  for (const bool decode : {true, false}) {
    for (uint32_t index : *scratch) {
      if ((demands[index].rows == 1) != decode) continue;
      const BatchSlice slice = Cut(demands[index], index, rows_left, logit_rows_left);
      if (slice.rows == 0) continue;
      rows_left -= slice.rows;
      logit_rows_left -= slice.logit_rows;
      out->push_back(slice);
    }
  }
}

}  // namespace dsopt
