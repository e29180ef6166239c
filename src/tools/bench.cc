#include "tools/bench.h"

#include <algorithm>
#include <cmath>

#include "base/clock.h"
#include "spec/cache_spec.h"
#include "tools/output.h"
#include "tools/shapes.h"
#include "tools/system_info.h"

namespace dsopt::tools {
namespace {

constexpr uint64_t kStepLimitUs = 600000000;

// One stream and when its tokens came.
struct Lane {
  StreamPtr stream;
  std::vector<uint64_t> token_ns;
};

int DSOPT_CALL OnEvent(void* user, dsopt_stream*, const dsopt_event* event) {
  Lane* const lane = static_cast<Lane*>(user);
  const uint64_t now_ns = NowNs();
  for (size_t i = 0; i < event->token_count; ++i) lane->token_ns.push_back(now_ns);
  return 0;
}

std::vector<dsopt_token> RandomTokens(uint32_t count, uint32_t vocab, uint64_t seed) {
  std::vector<dsopt_token> tokens(count);
  uint64_t state = seed * 0x9E3779B97F4A7C15u + 0x1234567u;
  for (dsopt_token& token : tokens) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    token = static_cast<dsopt_token>((state >> 33) % vocab);
  }
  return tokens;
}

Status Append(dsopt_stream* stream, std::span<const dsopt_token> tokens) {
  return FromApi(dsopt_stream_append_tokens(stream, tokens.data(), tokens.size()));
}

// Queues max_tokens greedy tokens; 0: only bring the appended ones into the cache.
Status Start(Lane* lane, uint32_t max_tokens) {
  dsopt_sampling greedy = {};
  greedy.struct_size = sizeof greedy;
  dsopt_generate_options generate = {};
  generate.struct_size = sizeof generate;
  generate.flags = max_tokens == 0 ? DSOPT_GENERATE_PREFILL_ONLY : DSOPT_GENERATE_IGNORE_EOS;
  generate.max_tokens = max_tokens;
  generate.sampling = &greedy;
  generate.on_event = OnEvent;
  generate.user = lane;
  return FromApi(dsopt_stream_generate(lane->stream.get(), &generate));
}

// Waits, one event at a time, until no stream generates.
Status Drive(dsopt_session* session, dsopt_stream* stream) {
  for (;;) {
    RETURN_IF_ERROR(FromApi(dsopt_session_wait(session, kStepLimitUs)));
    const dsopt_status status = dsopt_session_poll(session, 0, nullptr);
    RETURN_IF_ERROR(FromApi(status));
    if (status == DSOPT_OK) return Finish(session, stream);
  }
}

uint32_t Pages(uint32_t tokens) { return (tokens + kPageTokens - 1) / kPageTokens * kPageTokens; }

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return Percentile(values, 50);
}

// Milliseconds from the call to generate until the prompt is in the cache (max_tokens 0) or the first token came.
Result<double> TimePrompt(dsopt_session* session, std::span<const dsopt_token> prompt, uint32_t max_tokens) {
  Lane lane;
  ASSIGN_OR_RETURN(lane.stream, OpenStream(session));
  RETURN_IF_ERROR(Append(lane.stream.get(), prompt));
  const uint64_t start_ns = NowNs();
  RETURN_IF_ERROR(Start(&lane, max_tokens));
  RETURN_IF_ERROR(Drive(session, lane.stream.get()));
  const uint64_t end_ns = lane.token_ns.empty() ? NowNs() : lane.token_ns[0];
  return static_cast<double>(end_ns - start_ns) * 1e-6;
}

Status MeasurePrompt(dsopt_session* session, const BenchCase& bench, uint32_t vocab, BenchResult* result) {
  const uint32_t count = bench.prompt != 0 ? bench.prompt : bench.context;
  const std::vector<dsopt_token> prompt = RandomTokens(count, vocab, 7);
  std::vector<double> prefill_ms, first_ms;
  for (uint32_t i = 0; i <= bench.repeats; ++i) {  // the first round warms up
    ASSIGN_OR_RETURN(const double fill, TimePrompt(session, prompt, 0));
    ASSIGN_OR_RETURN(const double first, TimePrompt(session, prompt, 1));
    if (i == 0 && bench.repeats > 0) continue;
    prefill_ms.push_back(fill);
    first_ms.push_back(first);
  }
  result->prefill_tok_s = count / (Median(prefill_ms) * 1e-3);
  result->ttft_ms = Median(first_ms);
  return {};
}

// Brings bench.context - 1 tokens of each lane into the cache, then decodes all lanes together.
Status MeasureSteps(dsopt_session* session, const BenchCase& bench, uint32_t vocab, BenchResult* result) {
  std::vector<Lane> lanes(bench.batch);
  for (uint32_t i = 0; i < bench.batch; ++i) {
    const std::vector<dsopt_token> prompt = RandomTokens(bench.context, vocab, 100 + i);
    ASSIGN_OR_RETURN(lanes[i].stream, OpenStream(session));
    if (bench.context > 1) {
      RETURN_IF_ERROR(Append(lanes[i].stream.get(), std::span(prompt).first(bench.context - 1)));
      RETURN_IF_ERROR(Start(&lanes[i], 0));
      RETURN_IF_ERROR(Drive(session, lanes[i].stream.get()));
    }
    RETURN_IF_ERROR(Append(lanes[i].stream.get(), std::span(prompt).last(1)));
  }
  const uint32_t tokens = bench.warmup + bench.steps + 1;
  for (Lane& lane : lanes) RETURN_IF_ERROR(Start(&lane, tokens));
  RETURN_IF_ERROR(Drive(session, lanes[0].stream.get()));
  for (const Lane& lane : lanes) {
    if (lane.token_ns.size() != tokens) {
      return Error(DSOPT_E_INTERNAL, "a stream gave %zu tokens, expected %u", lane.token_ns.size(), tokens);
    }
  }
  dsopt_session_stats stats = {};
  stats.struct_size = sizeof stats;
  RETURN_IF_ERROR(FromApi(dsopt_session_get_stats(session, &stats)));
  result->cache_tokens = stats.kv_tokens_used;
  result->host_cache_tokens = stats.kv_host_tokens_used;
  const std::vector<uint64_t>& at_ns = lanes[0].token_ns;
  std::vector<double> step_ms;
  for (size_t i = bench.warmup + 1; i < at_ns.size(); ++i) {
    step_ms.push_back(static_cast<double>(at_ns[i] - at_ns[i - 1]) * 1e-6);
  }
  std::sort(step_ms.begin(), step_ms.end());
  result->decode_ms_p50 = Percentile(step_ms, 50);
  result->decode_ms_p99 = Percentile(step_ms, 99);
  const double seconds = static_cast<double>(at_ns.back() - at_ns[bench.warmup]) * 1e-9;
  result->decode_tok_s = static_cast<double>(bench.batch) * bench.steps / seconds;
  return {};
}

dsopt_dtype WeightDtype(const std::string& name) {
  return name == "f32" ? DSOPT_F32 : name == "f16" ? DSOPT_F16 : DSOPT_BF16;
}

// A machine that starts to swap, or kills the process, gives no figure: refuse before loading.
Status CheckRoom(const dsopt_runtime* runtime, const EngineOptions& engine, uint64_t weight_bytes) {
  const bool on_cpu = engine.device == "cpu" || (engine.device.empty() && dsopt_device_count(runtime) == 1);
  const uint64_t available = AvailableMemoryBytes();
  if (!on_cpu || available == 0 || weight_bytes < available) return {};
  return Error(DSOPT_E_OUT_OF_MEMORY, "the weights take %s, %s are available: fewer --layers fit",
               HumanBytes(weight_bytes).c_str(), HumanBytes(available).c_str());
}

}  // namespace

double Percentile(const std::vector<double>& ascending, double percent) {
  if (ascending.empty()) return 0;
  const double rank = std::ceil(percent / 100 * static_cast<double>(ascending.size()));
  return ascending[static_cast<size_t>(std::max(rank, 1.0)) - 1];
}

Result<Bench> Bench::Open(const BenchModel& model, const EngineOptions& engine, uint32_t max_context) {
  Bench bench;
  bench.engine_ = engine;
  ASSIGN_OR_RETURN(bench.spec_, MakeShape(model.shape, model.layers, WeightDtype(model.dtype)));
  EncodeShape(model.weights, &bench.spec_);
  bench.spec_.config.context = std::max(bench.spec_.config.context, max_context);
  ASSIGN_OR_RETURN(bench.file_, ShapeFile(bench.spec_));
  ASSIGN_OR_RETURN(bench.runtime_, OpenRuntime(engine));
  RETURN_IF_ERROR(CheckRoom(bench.runtime_.get(), engine, WeightBytes(bench.spec_)));
  ASSIGN_OR_RETURN(bench.model_, OpenModelMemory(bench.runtime_.get(), bench.file_, engine));
  ASSIGN_OR_RETURN(bench.info_, ModelInfo(bench.model_.get()));
  return bench;
}

Result<BenchResult> Bench::Decode(const BenchCase& bench) const {
  BenchResult result;
  result.device = info_.device;
  result.layers = info_.layer_count;
  result.weight_bytes = info_.weight_bytes;
  const uint32_t prompt = bench.prompt != 0 ? bench.prompt : bench.context;
  const uint32_t lane_tokens = Pages(bench.context + bench.warmup + bench.steps + 1);
  const uint32_t capacity = std::max(bench.batch * lane_tokens, Pages(prompt + 1));
  ASSIGN_OR_RETURN(const SessionPtr session, OpenSession(model_.get(), engine_, bench.batch, capacity));
  RETURN_IF_ERROR(MeasurePrompt(session.get(), bench, info_.vocab_size, &result));
  RETURN_IF_ERROR(MeasureSteps(session.get(), bench, info_.vocab_size, &result));
  dsopt_session_stats stats = {};
  stats.struct_size = sizeof stats;
  RETURN_IF_ERROR(FromApi(dsopt_session_get_stats(session.get(), &stats)));
  result.peak_device_bytes = info_.weight_bytes + stats.device_bytes;
  result.peak_host_bytes = PeakHostBytes();
  // Positions seen by the middle one of the measured steps.
  const uint32_t seen = bench.context + bench.warmup + bench.steps / 2;
  result.bytes_per_step =
      StepWeightBytes(spec_, bench.batch) + bench.batch * StepCacheBytes(spec_, seen, engine_.CacheDtype());
  RETURN_IF_ERROR(
      FromApi(dsopt_device_measure_read(runtime_.get(), info_.device, 0, &result.read_bytes_per_second)));
  result.roof_ratio = result.bytes_per_step / (result.decode_ms_p50 * 1e-3 * result.read_bytes_per_second);
  return result;
}

Result<PollResult> Bench::PollBudget(const PollCase& bench) const {
  PollResult result;
  result.device = info_.device;
  result.layers = info_.layer_count;
  ASSIGN_OR_RETURN(const SessionPtr session,
                   OpenSession(model_.get(), engine_, 1, Pages(bench.context + bench.steps)));
  Lane lane;
  ASSIGN_OR_RETURN(lane.stream, OpenStream(session.get()));
  uint64_t round = 0;
  dsopt_status status = DSOPT_OK;
  while (result.overrun_us.size() < bench.calls) {
    if (status == DSOPT_OK) {  // nothing is active: next prompt
      RETURN_IF_ERROR(FromApi(dsopt_stream_rewind(lane.stream.get(), 0)));
      RETURN_IF_ERROR(Append(lane.stream.get(), RandomTokens(bench.context, info_.vocab_size, ++round)));
      RETURN_IF_ERROR(Start(&lane, bench.steps));
    }
    const uint64_t start_ns = NowNs();
    status = dsopt_session_poll(session.get(), bench.budget_us, nullptr);
    const uint64_t spent_ns = NowNs() - start_ns;
    RETURN_IF_ERROR(FromApi(status));
    if (status == DSOPT_OK) continue;  // ended early: says nothing about the budget
    const double over_us = static_cast<double>(spent_ns) * 1e-3 - static_cast<double>(bench.budget_us);
    result.overrun_us.push_back(std::max(over_us, 0.0));
  }
  result.tokens = lane.token_ns.size();
  std::sort(result.overrun_us.begin(), result.overrun_us.end());
  return result;
}

}  // namespace dsopt::tools
