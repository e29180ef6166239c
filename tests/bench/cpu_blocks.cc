// cpu_blocks.cc - decode and prefill speed of the CPU backend alone, on a TinyLlama-1.1B shape with random bf16
// weights. For tuning kernels; what users see is measured by `dsopt bench`.
//   bench_cpu_blocks [threads [variant [layers [context]]]]
#include <time.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "dsopt/backend.h"

extern "C" dsopt_status dsopt_cpu_backend_entry(const dsopt_host_api* host, uint32_t* abi,
                                                const dsopt_backend_api** out);

namespace {

constexpr uint32_t kHidden = 2048, kInner = 5632, kHeads = 32, kKvHeads = 4, kHeadDim = 64, kVocab = 32000;
constexpr uint32_t kPrompt = 128;

double Now() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

// Processor time: what one thread alone would have taken on a machine that others use too.
double CpuNow() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

uint64_t NowNs() { return static_cast<uint64_t>(Now() * 1e9); }

void Must(dsopt_status status, const char* what) {
  if (status >= 0) return;
  std::printf("%s failed: %d\n", what, status);
  std::exit(1);
}

struct Bench {
  const dsopt_backend_api* api = nullptr;
  dsopt_be_device* device = nullptr;
  dsopt_be_program* program = nullptr;
  std::vector<dsopt_block> blocks;
  std::vector<float> frequencies;
  dsopt_rope rope{};
  uint64_t weight_bytes = 0;
  uint64_t seed = 1;
  std::vector<int32_t> pages;

  const dsopt_be_weight* Add(dsopt_weight_kind kind, uint64_t rows, uint64_t cols, bool streamed = true) {
    dsopt_weight_desc d = {};
    d.struct_size = sizeof(d);
    d.kind = kind;
    d.dtype = DSOPT_BF16;
    d.batch = 1;
    d.rows = rows;
    d.cols = cols;
    d.name = "bench";
    dsopt_be_weight* w = nullptr;
    Must(api->weight_create(device, &d, &w), "weight_create");
    const bool vector = kind == DSOPT_WEIGHT_VECTOR;
    Must(api->weight_fill(w, seed++, vector ? 1.0f : 0.0f,
                          vector ? 0.1f : 1.0f / std::sqrt(static_cast<float>(cols))),
         "fill");
    if (streamed) weight_bytes += rows * cols * 2;
    return w;
  }

  void Build(uint32_t layers, uint32_t context) {
    dsopt_block b = {};
    b.kind = DSOPT_BLOCK_EMBED;
    b.u.embed = {Add(DSOPT_WEIGHT_EMBEDDING, kVocab, kHidden, false), 0.0f, 0};
    blocks.push_back(b);
    uint64_t offset = 0;
    for (uint32_t layer = 0; layer < layers; ++layer) {
      b = {};
      b.kind = DSOPT_BLOCK_ATTENTION;
      b.layer = layer;
      dsopt_attention_block& a = b.u.attention;
      a.norm = Add(DSOPT_WEIGHT_VECTOR, 1, kHidden);
      a.qkv = Add(DSOPT_WEIGHT_MATRIX, (kHeads + 2 * kKvHeads) * kHeadDim, kHidden);
      a.out = Add(DSOPT_WEIGHT_MATRIX, kHidden, kHeads * kHeadDim);
      a.q_heads = kHeads;
      a.kv_heads = kKvHeads;
      a.head_dim = kHeadDim;
      a.norm_eps = 1e-5f;
      a.cache_offset = offset;
      offset += 64 * 2 * kKvHeads * kHeadDim * 2;
      blocks.push_back(b);
      b = {};
      b.kind = DSOPT_BLOCK_MLP;
      b.layer = layer;
      dsopt_mlp_block& m = b.u.mlp;
      m.norm = Add(DSOPT_WEIGHT_VECTOR, 1, kHidden);
      m.gate_up = Add(DSOPT_WEIGHT_GATE_UP, 2 * kInner, kHidden);
      m.down = Add(DSOPT_WEIGHT_MATRIX, kHidden, kInner);
      m.inner = kInner;
      m.activation = DSOPT_ACT_SILU;
      m.norm_eps = 1e-5f;
      blocks.push_back(b);
    }
    b = {};
    b.kind = DSOPT_BLOCK_HEAD;
    b.u.head = {Add(DSOPT_WEIGHT_VECTOR, 1, kHidden), Add(DSOPT_WEIGHT_MATRIX, kVocab, kHidden), 1e-5f, 0};
    blocks.push_back(b);
    for (uint32_t i = 0; i < kHeadDim / 2; ++i)
      frequencies.push_back(std::pow(10000.0f, -2.0f * static_cast<float>(i) / kHeadDim));
    rope = {kHeadDim, 0, 1.0f, 0, frequencies.data()};
    dsopt_program_desc d = {};
    d.struct_size = sizeof(d);
    d.blocks = blocks.data();
    d.block_count = static_cast<uint32_t>(blocks.size());
    d.rope_count = 1;
    d.ropes = &rope;
    d.hidden = kHidden;
    d.vocab = kVocab;
    d.max_rows = kPrompt;
    d.max_seqs = 1;
    d.max_logit_rows = 1;
    d.page_tokens = 64;
    d.page_count = d.max_pages_per_seq = context / 64 + 4;
    d.page_bytes = offset;
    d.kv_dtype = DSOPT_BF16;
    for (uint32_t i = 0; i < d.page_count; ++i) pages.push_back(static_cast<int32_t>(i));
    Must(api->program_create(device, &d, &program), "program_create");
  }

  // Seconds of one batch of rows tokens from position on. slice_us != 0: cut so, *overrun_us is the worst
  // overrun.
  double cpu_seconds = 0.0;  // of the calling thread in the last Run
  double Run(uint32_t position, uint32_t rows, uint64_t slice_us = 0, double* overrun_us = nullptr) {
    std::vector<int32_t> tokens(rows), positions(rows), row_seq(rows, 0);
    for (uint32_t r = 0; r < rows; ++r) {
      tokens[r] = static_cast<int32_t>((position + r) * 7919u % kVocab);
      positions[r] = static_cast<int32_t>(position + r);
    }
    dsopt_sample_row sample = {};
    sample.row = static_cast<int32_t>(rows) - 1;
    dsopt_batch batch = {};
    batch.struct_size = sizeof(batch);
    batch.rows = rows;
    batch.seqs = batch.logit_rows = 1;
    batch.tokens = tokens.data();
    batch.positions = positions.data();
    batch.row_seq = row_seq.data();
    batch.page_table = pages.data();
    batch.page_table_stride = static_cast<uint32_t>(pages.size());
    batch.sample = &sample;
    const double start = Now(), cpu_start = CpuNow();
    Must(api->program_begin(program, &batch), "program_begin");
    while (true) {
      const uint64_t deadline = slice_us != 0 ? NowNs() + slice_us * 1000 : UINT64_MAX;
      uint64_t wait;
      const dsopt_status status = api->program_advance(program, deadline, &wait);
      Must(status, "program_advance");
      if (status == DSOPT_OK) break;
      if (overrun_us != nullptr)
        *overrun_us = std::max(*overrun_us, (Now() - static_cast<double>(deadline) * 1e-9) * 1e6);
    }
    cpu_seconds = CpuNow() - cpu_start;
    return Now() - start;
  }
};

double Median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
  const uint32_t threads = argc > 1 ? static_cast<uint32_t>(std::atoi(argv[1])) : 0;
  const char* variant = argc > 2 && std::string(argv[2]) != "best" ? argv[2] : nullptr;
  const uint32_t layers = argc > 3 ? static_cast<uint32_t>(std::atoi(argv[3])) : 22;
  const uint32_t context = argc > 4 ? static_cast<uint32_t>(std::atoi(argv[4])) : 256;
  dsopt_allocator allocator = {};
  allocator.struct_size = sizeof(allocator);
  allocator.alloc = [](void*, size_t size, size_t align) {
    return std::aligned_alloc(align, (size + align - 1) / align * align);
  };
  allocator.free = [](void*, void* ptr, size_t, size_t) { std::free(ptr); };
  dsopt_host_api host = {};
  host.struct_size = sizeof(host);
  host.allocator = &allocator;
  host.set_error = [](void*, const char* message) { std::printf("error: %s\n", message); };

  Bench bench;
  uint32_t abi = DSOPT_BACKEND_ABI;
  Must(dsopt_cpu_backend_entry(&host, &abi, &bench.api), "entry");
  dsopt_device_options options = {};
  options.struct_size = sizeof(options);
  options.threads = threads;
  options.variant = variant;
  options.host = &host;
  Must(bench.api->device_open(0, &options, &bench.device), "device_open");
  std::printf("%s", bench.api->device_report(bench.device));
  double start = Now();
  bench.Build(layers, context);
  std::printf("weights: %.2f GB streamed per token, filled in %.1f s\n",
              static_cast<double>(bench.weight_bytes) * 1e-9, Now() - start);

  for (uint32_t p = 0; p + kPrompt <= context; p += kPrompt) {
    const double seconds = bench.Run(p, kPrompt);
    std::printf("prefill at %5u: %7.1f tok/s (%.1f per processor second)\n", p, kPrompt / seconds,
                kPrompt / bench.cpu_seconds);
  }
  for (int repeat = 0; repeat < 3; ++repeat) {
    double read = 0.0;
    Must(bench.api->measure_read(bench.device, uint64_t{1} << 30, &read), "measure_read");
    std::vector<double> times, cpu;
    for (uint32_t i = 0; i < 20; ++i) {
      times.push_back(bench.Run(context + i, 1));
      cpu.push_back(bench.cpu_seconds);
    }
    const double step = Median(times), best = *std::min_element(times.begin(), times.end());
    const double rate = static_cast<double>(bench.weight_bytes) / step;
    double after = 0.0;
    Must(bench.api->measure_read(bench.device, uint64_t{1} << 30, &after), "measure_read");
    std::printf(
        "decode at %u: median %.2f ms (best %.2f; processor %.2f), %.1f tok/s, %.2f GB/s; read ceiling %.2f "
        "and %.2f GB/s: %.3f of the mean\n",
        context, step * 1e3, best * 1e3, Median(cpu) * 1e3, 1.0 / step, rate * 1e-9, read * 1e-9, after * 1e-9,
        rate / (read + after) * 2);
  }
  std::vector<double> times;
  for (int i = 0; i < 3; ++i) times.push_back(bench.Run(0, kPrompt));
  std::printf("prefill %u: %.1f tok/s\n", kPrompt, kPrompt / Median(times));
  double overrun = 0.0;
  bench.Run(0, kPrompt, 2000, &overrun);
  std::printf("prefill in slices of 2 ms: worst overrun %.0f us\n", overrun);
  overrun = 0.0;
  bench.Run(context, 1, 2000, &overrun);
  std::printf("decode in slices of 2 ms: worst overrun %.0f us\n", overrun);
  return 0;
}
