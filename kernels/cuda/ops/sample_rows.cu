// sample_rows.cu - the rows of sampling.cu from what the caller of an operator has.
#include "common/launch.cuh"
#include "common/ptx.cuh"
#include "ops/op.h"

namespace dsopt_cuda {
namespace {

// Rows by value, the history without its gaps and without tokens that do not exist.
// bytes  count * history_length * 16      bound: latency
// grid   count x 32 threads
__global__ __launch_bounds__(32) void sample_prepare(SampleRowsArgs a) {
  LetNextStart();
  WaitForPrevious();
  const int lane = threadIdx.x, row = a.first + blockIdx.x;
  const int64_t base = static_cast<int64_t>(row) * a.history_length;
  int kept = 0;
  for (int begin = 0; begin < a.history_length; begin += 32) {
    const int i = begin + lane;
    const int token = i < a.history_length ? a.history[base + i] : -1;
    const bool valid = token >= 0 && token < a.vocab;
    const unsigned all = __ballot_sync(~0u, valid);
    if (valid) {
      const int64_t at = base + kept + __popc(all & ((1u << lane) - 1));
      a.kept_tokens[at] = token;
      a.kept_counts[at] = static_cast<uint32_t>(a.history_counts[base + i]);
    }
    kept += __popc(all);
  }
  if (lane != 0) return;
  dsopt_sample_row out = a.rows[blockIdx.x];
  out.counter = a.counters != nullptr ? a.counters[row] : static_cast<uint64_t>(row);
  out.history_first = static_cast<uint32_t>(base);
  out.history_count = static_cast<uint32_t>(kept);
  a.out[row] = out;
}

}  // namespace

cudaError_t PrepareSampleRows(const Launch& launch, const SampleRowsArgs& args) {
  return Start(launch, sample_prepare, dim3(static_cast<unsigned>(args.count)), dim3(32), 0, args);
}

}  // namespace dsopt_cuda
