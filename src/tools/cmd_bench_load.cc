#include "tools/cmd_bench_load.h"

#include "tools/output.h"

namespace dsopt::tools {
namespace {

double PerSecond(uint64_t bytes, double seconds) {
  return seconds > 0 ? static_cast<double>(bytes) * 1e-9 / seconds : 0;
}

Json TimesJson(const LoadResult& result, const LoadTimes& times) {
  return {{"cached_share", times.cached_share},
          {"load_seconds", times.load_seconds},
          {"first_token_seconds", times.first_token_seconds},
          {"weights_gb_s", PerSecond(result.weight_bytes, times.load_seconds)},
          {"plain_read_seconds", times.plain_seconds},
          {"plain_read_gb_s", PerSecond(result.plain_bytes, times.plain_seconds)}};
}

std::string Line(const char* name, const LoadResult& result, const LoadTimes& times) {
  return Format(
      "  %-5s %8.3f s loaded, %8.3f s to the first token, %7.3f GB/s of weights; plain read %7.3f GB/s"
      "%s\n",
      name, times.load_seconds, times.first_token_seconds, PerSecond(result.weight_bytes, times.load_seconds),
      PerSecond(result.plain_bytes, times.plain_seconds),
      name[0] == 'c' && times.cached_share > 0.01 ? " (the system kept part of the file cached)" : "");
}

}  // namespace

Status RunBenchLoad(const LoadCase& bench, const EngineOptions& engine, bool json) {
  ASSIGN_OR_RETURN(const LoadResult result, BenchLoad(bench, engine));
  if (json) {
    PrintJson({{"file", bench.file},
               {"device", result.device},
               {"threads", engine.threads},
               {"repeats", bench.repeats},
               {"file_bytes", result.file_bytes},
               {"weight_bytes", result.weight_bytes},
               {"plain_read_bytes", result.plain_bytes},
               {"cold", TimesJson(result, result.cold)},
               {"warm", TimesJson(result, result.warm)}});
    return {};
  }
  return Print(Format("%s, %s: %s on disk, %s of weights\n", bench.file.c_str(), result.device.c_str(),
                      HumanBytes(result.file_bytes).c_str(), HumanBytes(result.weight_bytes).c_str()) +
               Line("cold", result, result.cold) + Line("warm", result, result.warm));
}

}  // namespace dsopt::tools
