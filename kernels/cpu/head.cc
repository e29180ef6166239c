// head.cc - the last phases of a batch: logits of the wanted rows, then one unit of sampling per row.
#include "build.h"
#include "sample.h"

namespace dsopt_cpu {
namespace {

uint32_t PrepareSample(dsopt_be_program* p, const Phase&) { return p->batch.logit_rows; }

void RunSample(dsopt_be_program* p, const Phase&, uint32_t index, Scratch* scratch) {
  const dsopt_sample_row& row = p->sample[index];
  SampleInput in;
  in.logits = reinterpret_cast<const float*>(p->buffers[kBufLogits]) + uint64_t{index} * p->desc.vocab;
  in.vocab = p->desc.vocab;
  in.row = &row;
  in.adjust_tokens = p->adjust_tokens + row.adjust_first;
  in.adjust_bias = p->adjust_bias + row.adjust_first;
  in.history_tokens = p->history_tokens + row.history_first;
  in.history_counts = p->history_counts + row.history_first;
  SampleScratch work{scratch->logits, scratch->probs, scratch->typical, scratch->ids, scratch->order};
  SampleOutput out;
  out.top_tokens = p->result_top_tokens + uint64_t{index} * DSOPT_MAX_TOP_LOGPROBS;
  out.top_logprobs = p->result_top_logprobs + uint64_t{index} * DSOPT_MAX_TOP_LOGPROBS;
  SampleRow(*p->device->kernels, in, work, &out);
  p->result_tokens[index] = out.token;
  p->result_logprobs[index] = out.logprob;
}

}  // namespace

void Builder::BuildHead(const dsopt_head_block& b) {
  const uint8_t* h = AddNorm(b.norm, b.norm_eps, b.weight, false, RowSet::kLogits);
  LinearOp* logits = AddLinear(b.weight, h, StagedBytes(b.weight), RowSet::kLogits);
  logits->out = Buffer(kBufLogits, desc().max_logit_rows, uint64_t{desc().vocab} * 4);
  logits->out_row_bytes = uint64_t{desc().vocab} * 4;
  logits->epilogue.kind = kStoreSum;
  Phase* sample = Add();
  sample->prepare = PrepareSample;
  sample->run = RunSample;
}

}  // namespace dsopt_cpu
