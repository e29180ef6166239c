// cmd_bench.cc - dsopt bench: options, and results as a table or as JSON. The measuring is in bench.cc.
#include <algorithm>
#include <cmath>

#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "tools/bench.h"
#include "tools/cmd_bench_load.h"
#include "tools/output.h"
#include "tools/shapes.h"

namespace dsopt::tools {
namespace {

constexpr double kHistogramUs[] = {0, 10, 20, 50, 100, 200, 300, 500, 1000, 2000, 5000};

struct Request {
  std::string shapes = "tinyllama-1.1b", batches = "1", contexts = "128", weights = "bf16";
  BenchModel model;
  EngineOptions engine;
  BenchCase bench;
  PollCase poll;
  bool poll_mode = false;
  LoadCase load;  // file empty: a shape is measured
  std::vector<uint32_t> batch_list, context_list;
  bool json = false;
};

Status ReadList(const char* name, const std::string& text, std::vector<uint32_t>* out) {
  for (const std::string& word : static_cast<std::vector<std::string>>(absl::StrSplit(text, ','))) {
    uint32_t value = 0;
    if (!absl::SimpleAtoi(word, &value) || value == 0 || value > 1u << 20) {
      return Error(DSOPT_E_INVALID_ARGUMENT, "option '%s': '%s' is not a number from 1 to 1048576", name, word.c_str());
    }
    out->push_back(value);
  }
  return {};
}

// Of the cache that the measured steps read, the part in host memory.
double HostShare(const BenchResult& result) {
  return result.cache_tokens == 0 ? 0 : static_cast<double>(result.host_cache_tokens) / result.cache_tokens;
}

double Round(double value, double unit) { return std::round(value / unit) / std::round(1 / unit); }

Json CaseJson(const Request& request, const BenchResult& result) {
  const uint32_t prompt = request.bench.prompt != 0 ? request.bench.prompt : request.bench.context;
  return {{"shape", request.model.shape},
          {"dtype", request.model.dtype},
          {"weights", request.weights},
          {"group", request.model.weights.group},
          {"offsets", request.model.weights.offsets},
          {"device", result.device},
          {"precision", request.engine.precision},
          {"layers", result.layers},
          {"batch", request.bench.batch},
          {"context", request.bench.context},
          {"prompt", prompt},
          {"steps", request.bench.steps},
          {"decode_ms_p50", Round(result.decode_ms_p50, 1e-4)},
          {"decode_ms_p99", Round(result.decode_ms_p99, 1e-4)},
          {"decode_tok_s", Round(result.decode_tok_s, 1e-3)},
          {"prefill_tok_s", Round(result.prefill_tok_s, 1e-2)},
          {"ttft_ms", Round(result.ttft_ms, 1e-3)},
          {"bytes_per_step", std::llround(result.bytes_per_step)},
          {"read_ceiling_gb_s", Round(result.read_bytes_per_second * 1e-9, 1e-3)},
          {"roof_ratio", Round(result.roof_ratio, 1e-4)},
          {"weights_mb", Round(static_cast<double>(result.weight_bytes) * 1e-6, 0.1)},
          {"peak_host_mb", Round(static_cast<double>(result.peak_host_bytes) * 1e-6, 0.1)},
          {"peak_device_mb", Round(static_cast<double>(result.peak_device_bytes) * 1e-6, 0.1)},
          {"cache_tokens", result.cache_tokens},
          {"host_cache_tokens", result.host_cache_tokens},
          {"host_cache_share", Round(HostShare(result), 1e-4)}};
}

Status PrintCase(const Request& request, const BenchResult& result) {
  if (request.json) {
    PrintJson(CaseJson(request, result));
    return {};
  }
  return Print(Format("%s, %u layers, %s, %s, batch %u, context %u\n"
                      "  decode   p50 %.3f ms, p99 %.3f ms, %.2f tokens/s\n"
                      "  roof     %.1f MB a step, read ceiling %.2f GB/s, ratio %.3f\n"
                      "  prefill  %.1f tokens/s, first token after %.1f ms\n"
                      "  memory   host peak %.0f MB, device %.0f MB, %.1f %% of %u tokens of cache on the host\n",
                      request.model.shape.c_str(), result.layers,
                      (request.weights == "bf16" ? request.model.dtype : request.weights).c_str(), result.device.c_str(),
                      request.bench.batch, request.bench.context, result.decode_ms_p50, result.decode_ms_p99,
                      result.decode_tok_s, result.bytes_per_step * 1e-6, result.read_bytes_per_second * 1e-9,
                      result.roof_ratio, result.prefill_tok_s, result.ttft_ms,
                      static_cast<double>(result.peak_host_bytes) * 1e-6,
                      static_cast<double>(result.peak_device_bytes) * 1e-6, 100 * HostShare(result),
                      result.cache_tokens));
}

// Calls whose overrun is in (previous bound, bound]; the last has no bound.
std::vector<size_t> Histogram(const std::vector<double>& ascending) {
  std::vector<size_t> counts;
  auto from = ascending.begin();
  for (double bound : kHistogramUs) {
    const auto to = std::upper_bound(from, ascending.end(), bound);
    counts.push_back(static_cast<size_t>(to - from));
    from = to;
  }
  counts.push_back(static_cast<size_t>(ascending.end() - from));
  return counts;
}

Status PrintPoll(const Request& request, const PollResult& result) {
  const std::vector<double>& over = result.overrun_us;
  const std::vector<size_t> counts = Histogram(over);
  Json histogram = Json::array();
  std::string text = Format("%s, %u layers, %s: %zu polls of %llu us, %llu tokens\n  overrun  p50 %.0f us, p99 %.0f us, "
                            "max %.0f us\n",
                            request.model.shape.c_str(), result.layers, result.device.c_str(), over.size(),
                            static_cast<unsigned long long>(request.poll.budget_us),
                            static_cast<unsigned long long>(result.tokens), Percentile(over, 50), Percentile(over, 99),
                            over.empty() ? 0 : over.back());
  for (size_t i = 0; i < counts.size(); ++i) {
    const bool bounded = i < std::size(kHistogramUs);
    histogram.push_back({{"up_to_us", bounded ? Json(kHistogramUs[i]) : Json(nullptr)}, {"calls", counts[i]}});
    const size_t bar = over.empty() ? 0 : counts[i] * 50 / over.size();
    text += bounded ? Format("  <= %5.0f us %7zu %s\n", kHistogramUs[i], counts[i], std::string(bar, '#').c_str())
                    : Format("   > %5.0f us %7zu %s\n", kHistogramUs[i - 1], counts[i], std::string(bar, '#').c_str());
  }
  if (!request.json) return Print(text);
  PrintJson({{"shape", request.model.shape},
             {"dtype", request.model.dtype},
             {"device", result.device},
             {"layers", result.layers},
             {"context", request.poll.context},
             {"poll_budget_us", request.poll.budget_us},
             {"calls", over.size()},
             {"overrun_us_p50", Round(Percentile(over, 50), 0.1)},
             {"overrun_us_p99", Round(Percentile(over, 99), 0.1)},
             {"overrun_us_max", Round(over.empty() ? 0 : over.back(), 0.1)},
             {"tokens", result.tokens},
             {"histogram", histogram}});
  return {};
}

Status RunShape(Request request) {
  uint32_t longest = std::max(request.bench.prompt, *std::max_element(request.context_list.begin(),
                                                                      request.context_list.end()));
  longest += request.bench.warmup + request.bench.steps + 64;
  ASSIGN_OR_RETURN(const Bench bench, Bench::Open(request.model, request.engine, longest));
  if (request.poll_mode) {
    request.poll.context = request.context_list[0];
    request.poll.steps = request.bench.steps;
    ASSIGN_OR_RETURN(const PollResult result, bench.PollBudget(request.poll));
    return PrintPoll(request, result);
  }
  for (uint32_t batch : request.batch_list) {
    for (uint32_t context : request.context_list) {
      request.bench.batch = batch;
      request.bench.context = context;
      ASSIGN_OR_RETURN(const BenchResult result, bench.Decode(request.bench));
      RETURN_IF_ERROR(PrintCase(request, result));
    }
  }
  return {};
}

void Declare(Request* request, std::optional<float>* poll_budget, Options* options) {
  const std::string names = absl::StrJoin(ShapeNames(), ", ");
  options->Value("shape", "NAME[,NAME]", &request->shapes, "one or more of " + names + " (default tinyllama-1.1b)");
  options->Value("layers", "N", &request->model.layers, "only the first N layers; 0: all (default)");
  options->Choice("dtype", {"bf16", "f16", "f32"}, &request->model.dtype, "type of the weights (default bf16)");
  options->Choice("weights", {"bf16", "lossless12", "int8", "fp8", "int4"}, &request->weights,
                  "encoding of the matrices, as convert chooses it; bf16: none (default bf16)");
  options->Value("group", "N", &request->model.weights.group, "columns per scale, as of convert");
  options->Flag("offsets", &request->model.weights.offsets, "int4, int8: also an offset per group");
  options->Value("batch", "N[,N]", &request->batches, "streams that decode together (default 1)");
  options->Value("context", "N[,N]", &request->contexts, "tokens in the cache when decoding starts (default 128)");
  options->Value("prompt", "N", &request->bench.prompt, "tokens of the prefill measurement (default: as --context)");
  options->Value("steps", "N", &request->bench.steps, "decode steps to measure (default 64)");
  options->Value("warmup", "N", &request->bench.warmup, "decode steps before (default 8)");
  options->Value("repeats", "N", &request->bench.repeats, "prefill measurements or loads; the median counts (default 3)");
  options->Value("poll-budget", "US", poll_budget, "instead: how far session polls of US microseconds overrun");
  options->Value("load", "FILE", &request->load.file,
                 "instead: how long a .dsopt file takes to its first token, cold and warm, beside a plain read");
  options->Value("temp-dir", "DIR", &request->load.scratch_folder,
                 "with --load: where as many plain bytes lie meanwhile (default: beside FILE)");
  options->Value("calls", "N", &request->poll.calls, "with --poll-budget: polls to measure (default 10000)");
  options->Value("device", "ID", &request->engine.device, "cpu, cuda:0, ...; default: the best one with room");
  options->Choice("precision", {"fast", "reference"}, &request->engine.precision, "arithmetic (default fast)");
  request->engine.DeclareCache(options);
  request->engine.DeclareMemory(options);
  request->engine.DeclareRuntime(options);
  options->Flag("json", &request->json, "print one JSON object per case");
  options->Check([request, poll_budget]() {
    request->model.weights.encoding = EncodingOf(request->weights).value_or(DSOPT_ENCODING_PLAIN);
    RETURN_IF_ERROR(CheckRequest(request->model.weights));
    if (request->model.weights.encoding == DSOPT_ENCODING_LOSSLESS12 && request->model.dtype != "bf16") {
      return Error(DSOPT_E_INVALID_ARGUMENT, "--weights lossless12 with --dtype %s, expected bf16",
                   request->model.dtype.c_str());
    }
    RETURN_IF_ERROR(ReadList("--batch", request->batches, &request->batch_list));
    RETURN_IF_ERROR(ReadList("--context", request->contexts, &request->context_list));
    if (request->bench.steps == 0 || request->bench.steps > 1u << 20) {
      return Error(DSOPT_E_INVALID_ARGUMENT, "--steps is %u, expected 1 to 1048576", request->bench.steps);
    }
    if (*poll_budget && (**poll_budget < 1 || **poll_budget > 1e6f)) {
      return Error(DSOPT_E_INVALID_ARGUMENT, "--poll-budget is %g, expected 1 to 1000000 microseconds",
                   static_cast<double>(**poll_budget));
    }
    request->poll_mode = poll_budget->has_value();
    if (request->poll_mode) request->poll.budget_us = static_cast<uint64_t>(**poll_budget);
    return Status();
  });
}

}  // namespace

int CmdBench(const Arguments& arguments) {
  Request request;
  std::optional<float> poll_budget;
  Options options("bench", "[options]",
                  "Measures a model shape on random weights. The roof ratio compares a decode step with the time that\n"
                  "reading its weights and cache takes at the device's best streaming read, measured in this process.");
  Declare(&request, &poll_budget, &options);
  if (std::optional<int> code = options.Parse(arguments)) return *code;
  if (!request.load.file.empty()) {
    request.load.repeats = request.bench.repeats;
    const Status status = RunBenchLoad(request.load, request.engine, request.json);
    return status.ok() ? kExitOk : Fail("bench", status);
  }
  for (const std::string& shape : static_cast<std::vector<std::string>>(absl::StrSplit(request.shapes, ','))) {
    request.model.shape = shape;
    const Status status = RunShape(request);
    if (!status.ok()) return Fail("bench", status);
  }
  return kExitOk;
}

}  // namespace dsopt::tools
