// lossless.h - LOSSLESS12: bf16 values are packed 128 columns of a row at a time, as soon as a run is complete;
// escapes are collected and sorted when the last element has come.
#ifndef DSOPT_CPU_LOSSLESS_H_
#define DSOPT_CPU_LOSSLESS_H_

#include "coded.h"

namespace dsopt_cpu {

constexpr uint64_t kLosslessRun = kPackColumns;  // columns that share a base exponent

dsopt_status CreateLossless(dsopt_be_weight* w);
void DestroyLossless(dsopt_be_weight* w);
// Bytes to count for escapes before any is known.
uint64_t EscapeReserve(const dsopt_be_weight& w);

// Checked elements of bf16. With the last one the weight is finished: its escapes are sorted, or, when there
// are so many that plain bf16 is smaller, it becomes that.
dsopt_status PackLossless(dsopt_be_weight* w, uint64_t first, uint64_t count, const void* src);
// One whole run of a row; thread-safe for runs of different tiles.
dsopt_status PackRun(dsopt_be_weight* w, uint64_t matrix, uint64_t output, uint64_t run, const uint16_t* values,
                     uint64_t count);
// After the last run. On failure the weight waits for what came last, or for this call, again.
dsopt_status FinishLossless(dsopt_be_weight* w);
// Before all runs are packed without PackLossless: forgets what a failed attempt left. INVALID_STATE once
// elements are there.
dsopt_status RestartLossless(dsopt_be_weight* w);

// The bits of one element.
uint16_t LosslessBits(const dsopt_be_weight* w, uint64_t matrix, uint64_t output, uint64_t input);

}  // namespace dsopt_cpu
#endif  // DSOPT_CPU_LOSSLESS_H_
