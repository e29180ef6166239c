// timing.cc - decode steps and prefill of a shape.
#include <algorithm>
#include <cstdio>

#include "bench.h"

namespace dsopt::bench {
namespace {

void Report(const char* shape, const char* what, double bytes, double plain, uint32_t rows,
            std::vector<double> wall, std::vector<double> device) {
  const double step = Median(wall), best = *std::min_element(wall.begin(), wall.end());
  std::sort(wall.begin(), wall.end());
  const double p99 = wall[wall.size() * 99 / 100];
  std::printf(
      "%-18s %-9s %9.1f us (device %9.1f, best %9.1f, p99 %9.1f) %9.1f tok/s  needs %7.3f GB  %.3f TB/s  ratio "
      "%.3f  bf16-equivalent %.3f\n",
      shape, what, step * 1e6, Median(device) * 1e3, best * 1e6, p99 * 1e6, rows / step, bytes * 1e-9,
      bytes / step * 1e-12, g_read_ceiling > 0 ? bytes / step / g_read_ceiling : 0.0,
      g_read_ceiling > 0 ? plain / step / g_read_ceiling : 0.0);
  std::fflush(stdout);
}

}  // namespace

void Decode(Model* model, dsopt_dtype kv, uint32_t sequences, uint32_t context, const char* what, int steps) {
  Program program(model, DSOPT_PRECISION_FAST, kv, sequences, context + 256, std::max(sequences, 16u),
                  sequences);
  program.FillCache();
  std::vector<double> wall, device;
  std::vector<int32_t> tokens = Tokens(sequences, model->shape.vocab, 9);
  for (int i = 0; i < steps + 8; ++i) {
    const double t = program.Run(sequences, context + static_cast<uint32_t>(i), 1, tokens, sequences);
    if (i < 8) continue;
    wall.push_back(t);
    device.push_back(program.device_ms);
  }
  const double tokens_read = (context + steps / 2.0) * sequences;
  const auto cache = [&](dsopt_dtype type) {
    return static_cast<double>(CacheBytes(type, model->cache_values, model->shape)) / 64 * tokens_read;
  };
  double bytes = model->step_bytes + cache(kv);
  if (sequences > 1 && model->shape.experts != 0)
    bytes = 0;  // which experts several rows need is not known here
  Report(model->shape.name, what, bytes, model->plain_bytes + cache(DSOPT_BF16), sequences, wall, device);
}

void Prefill(Model* model, dsopt_dtype kv, uint32_t total, uint32_t chunk) {
  Program program(model, DSOPT_PRECISION_FAST, kv, 1, total, chunk, 1);
  for (int pass = 0; pass < 2; ++pass) {
    double seconds = 0;
    for (uint32_t at = 0; at < total; at += chunk)
      seconds += program.Run(1, at, chunk, Tokens(chunk, model->shape.vocab, at + 1), 1);
    if (pass == 1)
      std::printf("%-18s prefill %u in chunks of %u: %.1f ms, %.0f tok/s\n", model->shape.name, total, chunk,
                  seconds * 1e3, total / seconds);
  }
  std::fflush(stdout);
}

}  // namespace dsopt::bench
