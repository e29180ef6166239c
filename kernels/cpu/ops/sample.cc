// sample.cc - a token per row of the caller's logits, by ../sample.cc.
#include "sample.h"

#include "ops/op.h"

namespace dsopt_cpu {
namespace {

// Per thread.
struct Scratch {
  float* wide;  // [vocab] of bf16 logits
  SampleScratch work;
  int32_t* history;
  uint32_t* counts;
};

// Element i of the caller's params, whatever version they have.
dsopt_sampling ParamsOf(const dsopt_sample_args& a, uint64_t row) {
  dsopt_sampling s;
  const uint64_t at = a.params_count == 1 ? 0 : row * a.params->struct_size;
  CopyStruct(reinterpret_cast<const dsopt_sampling*>(reinterpret_cast<const uint8_t*>(a.params) + at), &s);
  return s;
}

dsopt_sample_row RowOf(const dsopt_sample_args& a, uint64_t row) {
  const dsopt_sampling s = ParamsOf(a, row);
  dsopt_sample_row r = {};
  r.mode = DSOPT_SAMPLE;
  r.temperature = s.temperature;
  r.top_p = s.top_p;
  r.min_p = s.min_p;
  r.typical_p = s.typical_p;
  r.top_n_sigma = s.top_n_sigma;
  r.top_k = s.top_k;
  r.repeat_penalty = s.repeat_penalty;
  r.presence_penalty = s.presence_penalty;
  r.frequency_penalty = s.frequency_penalty;
  r.seed = s.seed;
  r.counter = a.counters != nullptr ? a.counters[row] : row;
  return r;
}

void SampleOne(const OpContext& c, const dsopt_sample_args& a, uint64_t row, const Scratch& s) {
  dsopt_sample_row rule = RowOf(a, row);
  SampleInput in = {};
  in.vocab = static_cast<uint32_t>(Extent(a.logits, 1));
  in.row = &rule;
  const uint8_t* logits = Bytes(a.logits) + row * Pitch(a.logits, 0);
  in.logits = reinterpret_cast<const float*>(logits);
  if (a.logits->dtype != DSOPT_F32) {
    Widen(logits, StorageOf(a.logits->dtype), in.vocab, s.wide);
    in.logits = s.wide;
  }
  if (a.history != nullptr) {
    const uint64_t length = Extent(a.history, 1);
    const int32_t* tokens = static_cast<const int32_t*>(a.history->data) + row * length;
    const int32_t* counts = static_cast<const int32_t*>(a.history_counts->data) + row * length;
    for (uint64_t i = 0; i < length; ++i) {
      if (tokens[i] < 0) continue;
      s.history[rule.history_count] = tokens[i];
      s.counts[rule.history_count++] = static_cast<uint32_t>(counts[i]);
    }
    in.history_tokens = s.history;
    in.history_counts = s.counts;
  }
  int32_t top_tokens[DSOPT_MAX_TOP_LOGPROBS];
  float top_logprobs[DSOPT_MAX_TOP_LOGPROBS];
  SampleOutput out = {0, 0.0f, top_tokens, top_logprobs};
  SampleRow(c.k, in, s.work, &out);
  static_cast<int32_t*>(a.tokens->data)[row] = out.token;
  if (a.logprobs != nullptr) static_cast<float*>(a.logprobs->data)[row] = out.logprob;
}

}  // namespace

dsopt_status OpSample(OpContext* c, const dsopt_sample_args& a) {
  const uint64_t vocab = Extent(a.logits, 1), length = a.history != nullptr ? Extent(a.history, 1) : 0;
  Scratch* scratch = c->arena.Take<Scratch>(c->threads());
  const bool counting = c->arena.counting();
  for (uint32_t i = 0; i < c->threads(); ++i) {
    const Scratch s = {c->arena.Take<float>(a.logits->dtype == DSOPT_F32 ? 0 : vocab),
                       {c->arena.Take<float>(vocab), c->arena.Take<float>(vocab), c->arena.Take<float>(vocab),
                        c->arena.Take<int32_t>(vocab), c->arena.Take<int32_t>(vocab)},
                       c->arena.Take<int32_t>(length),
                       c->arena.Take<uint32_t>(length)};
    if (!counting) scratch[i] = s;
  }
  if (counting) return DSOPT_OK;
  ForEach(*c, Extent(a.logits, 0), [&](uint64_t row, uint32_t slot) { SampleOne(*c, a, row, scratch[slot]); });
  return DSOPT_OK;
}

}  // namespace dsopt_cpu
