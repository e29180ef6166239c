// attention.cc - attention alone, through the table like everything else: programs whose layers are nothing but
// an attention block over a hidden size of 64, so that its projections are small, at two lengths of the cache.
// What is printed as net is the difference of the two, per layer: the shorter one holds all that does not
// depend on the length (projections, rope, append, launches). The gross figure has all of that in it. Layers
// keep their caches apart, so each finds its cache outside of L2 as soon as the other layers' caches are larger
// than it.
#include <algorithm>
#include <cstdio>

#include "bench.h"

namespace dsopt::bench {
namespace {

constexpr uint32_t kHidden = 64, kVocab = 256, kWarmup = 5, kRuns = 30;

Shape AttentionShape(uint32_t layers, uint32_t window, uint32_t head_dim = 128) {
  Shape s = {};
  s.name = "attention";
  s.hidden = kHidden;
  s.layers = layers;
  s.vocab = kVocab;
  s.q_heads = 32;
  s.kv_heads = 8;
  s.head_dim = head_dim;
  s.window = window;
  return s;
}

// Median seconds of a layer, for `rows` rows from `position` on.
double LayerSeconds(Program* program, uint32_t position, uint32_t rows) {
  const std::vector<int32_t> tokens = Tokens(rows, kVocab, 5);
  std::vector<double> seconds;
  for (uint32_t i = 0; i < kWarmup + kRuns; ++i) {
    program->Run(1, position, rows, tokens, 1);
    if (i >= kWarmup) seconds.push_back(program->device_ms * 1e-3);
  }
  return Median(seconds) / program->model->shape.layers;
}

}  // namespace

// One row at the end of `context` tokens: the split over the GPU and the merge are inside.
void DecodeAttention(uint32_t context, dsopt_dtype kv) {
  const uint32_t layers = context > 65536 ? 4 : 12;
  Model model(AttentionShape(layers, 0));
  model.Build(layers);
  Program program(&model, DSOPT_PRECISION_FAST, kv, 1, context, 16, 1);
  program.FillCache();
  const double gross = LayerSeconds(&program, context - 1, 1), rest = LayerSeconds(&program, 63, 1);
  const double token_bytes = static_cast<double>(CacheBytes(kv, 2 * 8 * 128, model.shape));
  const double bytes = token_bytes * context, rest_bytes = token_bytes * 64;
  std::printf(
      "attention decode  32/8 x 128, %6u tokens, %s: layer %.2f us = %.3f TB/s gross (projections of hidden "
      "64, "
      "rope, append "
      "in it); net %.2f us = %.3f TB/s; the rest %.2f us\n",
      context, CacheName(kv), gross * 1e6, bytes / gross * 1e-12, (gross - rest) * 1e6,
      (bytes - rest_bytes) / (gross - rest) * 1e-12, rest * 1e6);
  std::fflush(stdout);
}

// `rows` rows at once, causal; the other program sees a window of one page only.
void PrefillAttention(uint32_t rows, uint32_t head_dim, dsopt_dtype kv) {
  constexpr uint32_t kLayers = 4;
  double seconds[2];
  for (int windowed = 0; windowed < 2; ++windowed) {
    Model model(AttentionShape(kLayers, windowed != 0 ? 64 : 0, head_dim));
    model.Build(kLayers);
    Program program(&model, DSOPT_PRECISION_FAST, kv, 1, rows, rows, 1);
    seconds[windowed] = LayerSeconds(&program, 0, rows);
  }
  const double n = rows, flops = 2 * 2 * 32 * head_dim * (n * (n + 1) / 2),
               windowed_flops = 2 * 2 * 32 * head_dim * 64 * n;
  std::printf(
      "attention prefill 32/8 x %u, %6u rows, %s: layer %.3f ms = %.0f TFLOP/s gross (projections of hidden "
      "64, "
      "rope, append "
      "in it); net of a window of 64 %.3f ms = %.0f TFLOP/s\n",
      head_dim, rows, CacheName(kv), seconds[0] * 1e3, flops / seconds[0] * 1e-12,
      (seconds[0] - seconds[1]) * 1e3, (flops - windowed_flops) / (seconds[0] - seconds[1]) * 1e-12);
  std::fflush(stdout);
}

// One row, 128 heads over latents of 512 + 64; the absorbing products are per head and small.
void LatentAttention(uint32_t context, dsopt_dtype kv) {
  constexpr uint32_t kLayers = 12;
  Shape s = {};
  s.name = "latent attention";
  s.hidden = kHidden;
  s.layers = kLayers;
  s.vocab = kVocab;
  s.heads = 128;
  s.latent = 512;
  s.nope = 16;
  s.rope_dim = 64;
  s.v_dim = 16;
  Model model(s);
  model.Build(kLayers);
  Program program(&model, DSOPT_PRECISION_FAST, kv, 1, context, 16, 1);
  program.FillCache();
  const double gross = LayerSeconds(&program, context - 1, 1), rest = LayerSeconds(&program, 63, 1);
  const double bytes = static_cast<double>(CacheBytes(kv, 576, model.shape)) * context;
  std::printf(
      "attention latent  128 heads, 512 + 64, %6u tokens, %s: layer %.2f us gross (projections of hidden 64, "
      "absorbing "
      "products of 16, append in it); net %.2f us = %.3f TB/s of cache; the rest %.2f us\n",
      context, CacheName(kv), gross * 1e6, (gross - rest) * 1e6, bytes / (gross - rest) * 1e-12, rest * 1e6);
  std::fflush(stdout);
}

}  // namespace dsopt::bench
