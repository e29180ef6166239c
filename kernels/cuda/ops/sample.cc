// sample.cc - the operator sample: the caller's parameters become rows of sampling.cu.
#include <cstring>

#include "ops/op.h"

namespace dsopt_cuda {
namespace {

// Element i of the caller's params, whatever version they have.
dsopt_sample_row RowOf(const dsopt_sample_args& a, int row) {
  const uint32_t bytes = a.params->struct_size;
  const auto* from = reinterpret_cast<const unsigned char*>(a.params);
  if (a.params_count != 1) from += static_cast<uint64_t>(row) * bytes;
  dsopt_sampling s{};
  std::memcpy(static_cast<void*>(&s), from, bytes < sizeof s ? bytes : sizeof s);
  dsopt_sample_row r{};
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
  return r;
}

cudaError_t PrepareRows(const OpContext& c, const dsopt_sample_args& a, SampleRowsArgs* p, int rows) {
  for (p->first = 0; p->first < rows; p->first += kRowsPerLaunch) {
    p->count = rows - p->first < kRowsPerLaunch ? rows - p->first : kRowsPerLaunch;
    for (int i = 0; i < p->count; ++i) p->rows[i] = RowOf(a, p->first + i);
    RETURN_IF_CUDA_ERROR(PrepareSampleRows(c.launch, *p));
  }
  return cudaSuccess;
}

}  // namespace

dsopt_status OpSample(OpContext* c, const dsopt_sample_args& a) {
  const int rows = Extent(a.logits, 0), vocab = Extent(a.logits, 1);
  const uint64_t count = static_cast<uint64_t>(rows);
  const uint64_t length = a.history != nullptr ? static_cast<uint64_t>(a.history->shape[1]) : 0;
  if (rows > kMaxGridRows)
    return Fail(c->device->host, DSOPT_E_UNSUPPORTED, "cuda: %d rows of logits, at most %d expected", rows,
                kMaxGridRows);
  if (count * length > INT32_MAX)
    return Fail(c->device->host, DSOPT_E_UNSUPPORTED, "cuda: %d rows with a history of %d each, less expected",
                rows, static_cast<int>(length));
  const bool dense = a.logits->dtype == DSOPT_F32 && a.logits->stride[0] == vocab;
  SampleArgs s{};
  s.logits =
      dense ? static_cast<float*>(a.logits->data) : c->arena.Take<float>(count * static_cast<uint64_t>(vocab));
  s.count = rows;
  s.vocab = vocab;
  dsopt_sample_row* sample_rows = c->arena.Take<dsopt_sample_row>(count);
  int* kept_tokens = c->arena.Take<int>(count * length);
  uint32_t* kept_counts = c->arena.Take<uint32_t>(count * length);
  s.rows = sample_rows;
  s.history_tokens = kept_tokens;
  s.history_counts = kept_counts;
  s.saved = c->arena.Take<float>(count * length);
  s.partial = c->arena.Take<float4>(count * kSampleParts);
  s.tokens = static_cast<int*>(a.tokens->data);
  s.logprobs = a.logprobs != nullptr ? static_cast<float*>(a.logprobs->data) : c->arena.Take<float>(count);
  s.top_tokens = c->arena.Take<int>(count * DSOPT_MAX_TOP_LOGPROBS);
  s.top_logprobs = c->arena.Take<float>(count * DSOPT_MAX_TOP_LOGPROBS);
  c->kernel = "sample_rows";
  if (c->arena.counting()) return DSOPT_OK;
  SampleRowsArgs p{};
  p.counters = a.counters;
  p.history_length = static_cast<int>(length);
  p.vocab = vocab;
  if (a.history != nullptr) {
    p.history = static_cast<const int*>(a.history->data);
    p.history_counts = static_cast<const int*>(a.history_counts->data);
  }
  p.out = sample_rows;
  p.kept_tokens = kept_tokens;
  p.kept_counts = kept_counts;
  const auto run = [&] {
    if (!dense)
      RETURN_IF_CUDA_ERROR(ConvertRows(c->launch, {a.logits->data, ElemOf(a.logits->dtype), a.logits->stride[0],
                                                   s.logits, Elem::kF32, vocab, rows, vocab, DSOPT_ACT_NONE}));
    RETURN_IF_CUDA_ERROR(PrepareRows(*c, a, &p, rows));
    return Sample(c->launch, s);
  };
  return c->device->Check(run(), "launching sample");
}

}  // namespace dsopt_cuda
