// bench.h - measures a model shape on random weights through dsopt.h: time of a decode step against the memory read
// it needs, prefill, time to first token, and how well poll keeps its budget. Prints nothing.
#ifndef DSOPT_TOOLS_BENCH_H_
#define DSOPT_TOOLS_BENCH_H_

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "quant/policy.h"
#include "spec/model_spec.h"
#include "tools/client.h"

namespace dsopt::tools {

struct BenchModel {
  std::string shape;
  uint32_t layers = 0;             // 0: all
  std::string dtype = "bf16";      // of plain weights
  WeightsRequest weights;          // encodings of the matrices: see policy.h
};

struct BenchCase {
  uint32_t batch = 1;              // streams that decode together
  uint32_t context = 128;          // tokens in the cache when decoding starts
  uint32_t prompt = 0;             // tokens of the prefill measurement; 0: context
  uint32_t steps = 64, warmup = 8; // decode steps measured, and before
  uint32_t repeats = 3;            // of the prefill measurement; the median counts
};

struct BenchResult {
  std::string device;
  uint32_t layers = 0;
  double decode_ms_p50 = 0, decode_ms_p99 = 0, decode_tok_s = 0;
  double prefill_tok_s = 0, ttft_ms = 0;
  double bytes_per_step = 0;       // weights and cache that one step must read
  double read_bytes_per_second = 0;  // the device's best streaming read
  double roof_ratio = 0;           // bytes_per_step / (decode_ms_p50 x read ceiling): 1 is the limit
  uint64_t weight_bytes = 0;       // on the device
  uint64_t peak_host_bytes = 0, peak_device_bytes = 0;
  uint32_t cache_tokens = 0, host_cache_tokens = 0;  // held while decoding, in whole pages; of those, on the host
};

struct PollCase {
  uint64_t budget_us = 2000;
  uint32_t calls = 10000;
  uint32_t context = 128;          // prompt tokens of each generation
  uint32_t steps = 64;             // tokens of each generation, then the next prompt starts
};

struct PollResult {
  std::string device;
  uint32_t layers = 0;
  std::vector<double> overrun_us;  // of each call that had work for its whole budget, ascending; 0: within budget
  uint64_t tokens = 0;             // sampled meanwhile
};

// A loaded model of random weights. The file image outlives the model.
class Bench {
 public:
  // max_context: most positions that a case will use.
  static Result<Bench> Open(const BenchModel& model, const EngineOptions& engine, uint32_t max_context);
  Result<BenchResult> Decode(const BenchCase& bench) const;
  Result<PollResult> PollBudget(const PollCase& bench) const;

 private:
  Bench() = default;
  EngineOptions engine_;
  ModelSpec spec_;
  std::vector<uint8_t> file_;
  RuntimePtr runtime_;
  ModelPtr model_;
  dsopt_model_info info_ = {};
};

// Nearest rank of ascending values; 0 when there are none.
double Percentile(const std::vector<double>& ascending, double percent);

}  // namespace dsopt::tools
#endif  // DSOPT_TOOLS_BENCH_H_
