// sample.h - one row of logits to a token: what dsopt_sample_row means, to the letter. Other backends are
// compared with this file. Where the interface leaves a choice, it is made here:
//   * The probabilities of steps 6 to 9 are renormalised over the tokens that the steps before have left.
//   * top_n_sigma: the deviation is taken over all finite logits after steps 1 and 2, whatever top_k left.
//   * typical_p: equal distances keep the lower id first.
//   * A logit that is not a number counts as -inf; a token whose probability underflows is never drawn.
//   * The draw takes the first token, walking by descending logit (ties: ascending id), whose running sum of
//     probabilities exceeds u. counter fills the two low words of the Philox counter, the two others are 0.
#ifndef DSOPT_CPU_SAMPLE_H_
#define DSOPT_CPU_SAMPLE_H_

#include "common.h"

namespace dsopt_cpu {

struct SampleInput {
  const float* logits;  // [vocab]
  uint32_t vocab;
  const dsopt_sample_row* row;
  const int32_t* adjust_tokens;  // [row->adjust_count]
  const float* adjust_bias;
  const int32_t* history_tokens;  // [row->history_count]
  const uint32_t* history_counts;
};

struct SampleScratch {  // [vocab] each
  float* logits;
  float* probs;
  float* typical;
  int32_t* ids;
  int32_t* order;
};

struct SampleOutput {
  int32_t token;
  float logprob;
  int32_t* top_tokens;  // [DSOPT_MAX_TOP_LOGPROBS]; unused entries: -1 and -inf
  float* top_logprobs;
};

void SampleRow(const Kernels& kernels, const SampleInput& in, const SampleScratch& scratch, SampleOutput* out);

// The first word of Philox4x32-10 (Salmon, Moraes, Dror, Shaw, SC 2011).
uint32_t PhiloxWord(uint64_t key, uint64_t counter);

}  // namespace dsopt_cpu
#endif  // DSOPT_CPU_SAMPLE_H_
