// main.cc - speed of the CUDA plugin on the shapes of real models (random weights made on the device), and on
// the same shapes its fast paths against its f32 ones. What users see is measured by `dsopt bench`; this drives
// the backend table directly, so that one call on a GPU machine checks and measures together.
//   bench_cuda_blocks [plugin=PATH] [host=PERCENT] [graphs=0] read|check|encodings|attention|check=<shape>|<shape> ...
// A shape may be followed by :what, what of decode (default), long, longest, batch8, batch32, prefill, jitter,
// beside, replay, and by @encoding: lossless12, int8, fp8, int4 (groups of 128), int4by64. :cache=bf16, fp8, int8 or
// int4 among them (behind attention, too) is the cache of decode and prefill; check=<shape>:cache=... compares
// decode steps over such a cache, one row against two and against f32. host: so many of the pages of every
// program lie in host memory. graphs=0: no step is replayed as a graph. Ends with 1 if a check failed.
#include <dlfcn.h>
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "bench.h"

namespace dsopt::bench {

const dsopt_backend_api* g_api;
dsopt_be_device* g_device;
double g_read_ceiling = 0;
uint32_t g_host_percent = 0;
uint32_t g_program_flags = 0;

double Now() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

void Must(dsopt_status status, const char* what) {
  if (status >= 0) return;
  std::printf("FAILED %s: %d\n", what, status);
  std::fflush(stdout);
  std::exit(1);
}

namespace {

dsopt_allocator g_allocator;
dsopt_host_api g_host;

void RunShape(const Shape& shape, const Encoding& encoding, dsopt_dtype kv,
              const std::vector<std::string>& what) {
  Model model(shape, encoding);
  const double start = Now();
  model.Build(shape.layers);
  std::printf("-- %s: %.2f GB of weights filled in %.2f s\n", shape.name, model.total_bytes * 1e-9,
              Now() - start);
  for (const std::string& w : what) {
    if (w == "decode") Decode(&model, kv, 1, 512, "b1", 100);
    if (w == "long") Decode(&model, kv, 1, 32768, "b1 32K", 60);
    if (w == "longest") Decode(&model, kv, 1, 131072 - 64, "b1 128K", g_host_percent > 0 ? 10 : 40);
    if (w == "batch8") Decode(&model, kv, 8, 512, "b8", 60);
    if (w == "batch32") Decode(&model, kv, 32, 512, "b32", 60);
    if (w == "prefill") Prefill(&model, kv, 8192, 2048);
    if (w == "jitter") Jitter(&model);
    if (w == "beside") Beside(&model);
    if (w == "replay") Replays(&model);
  }
}

// Every figure of attention alone; attention.cc says what is in them.
void RunAttention(dsopt_dtype kv) {
  DecodeAttention(32768, kv);
  DecodeAttention(131072, kv);
  for (const uint32_t head_dim : {128u, 64u}) {
    PrefillAttention(2048, head_dim, kv);
    PrefillAttention(16384, head_dim, kv);
  }
  LatentAttention(32768, kv);
}

Encoding EncodingOf(const std::string& name) {
  if (name == "lossless12") return {DSOPT_ENCODING_LOSSLESS12};
  if (name == "int8") return {DSOPT_ENCODING_INT8};
  if (name == "fp8") return {DSOPT_ENCODING_FP8};
  if (name == "int4") return {DSOPT_ENCODING_INT4};
  if (name == "int4by64") return {DSOPT_ENCODING_INT4, 64};
  std::printf("unknown encoding '%s'\n", name.c_str());
  std::exit(1);
}

dsopt_dtype CacheOf(const std::string& name) {
  if (name == "bf16") return DSOPT_BF16;
  if (name == "fp8") return DSOPT_F8_E4M3;
  if (name == "int8") return DSOPT_I8;
  if (name == "int4") return DSOPT_I4;
  std::printf("unknown cache '%s'\n", name.c_str());
  std::exit(1);
}

void OpenDevice(const std::string& path) {
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    std::printf("%s\n", dlerror());
    std::exit(1);
  }
  const auto entry = reinterpret_cast<dsopt_backend_entry_fn>(dlsym(library, DSOPT_BACKEND_ENTRY));
  g_allocator.struct_size = sizeof(g_allocator);
  g_allocator.alloc = [](void*, size_t size, size_t align) {
    return std::aligned_alloc(align, (size + align - 1) / align * align);
  };
  g_allocator.free = [](void*, void* ptr, size_t, size_t) { std::free(ptr); };
  g_host.struct_size = sizeof(g_host);
  g_host.allocator = &g_allocator;
  g_host.set_error = [](void*, const char* message) { std::printf("error: %s\n", message); };
  uint32_t abi = DSOPT_BACKEND_ABI;
  const dsopt_status status = entry(&g_host, &abi, &g_api);
  if (status == DSOPT_E_NOT_FOUND) std::exit(77);
  Must(status, "entry");
  dsopt_device_options options = {};
  options.struct_size = sizeof(options);
  options.host = &g_host;
  Must(g_api->device_open(0, &options, &g_device), "device_open");
  dsopt_device_info info = {};
  info.struct_size = sizeof(info);
  Must(g_api->device_info(0, &info), "device_info");
  std::printf("%s, %.1f of %.1f GiB free\n%s\n", info.name, static_cast<double>(info.memory_free) / (1 << 30),
              static_cast<double>(info.memory_total) / (1 << 30), g_api->device_report(g_device));
}

}  // namespace
}  // namespace dsopt::bench

using namespace dsopt::bench;

int main(int argc, char** argv) {
  std::string plugin = DSOPT_CUDA_PLUGIN;
  for (int i = 1; i < argc; ++i)
    if (std::strncmp(argv[i], "plugin=", 7) == 0)
      plugin = argv[i] + 7;
    else if (std::strncmp(argv[i], "host=", 5) == 0)
      g_host_percent = static_cast<uint32_t>(std::min(std::atoi(argv[i] + 5), 100));
    else if (std::strcmp(argv[i], "graphs=0") == 0)
      g_program_flags = DSOPT_PROGRAM_NO_REPLAY;
  OpenDevice(plugin);
  bool right = true;  // whatever was checked
  for (int i = 1; i < argc; ++i) {
    std::string name = argv[i];
    if (name == "read") {
      Must(g_api->measure_read(g_device, uint64_t{8} << 30, &g_read_ceiling), "measure_read");
      std::printf("read ceiling %.3f TB/s\n", g_read_ceiling * 1e-12);
    }
    if (name == "check") {
      for (const Shape& shape : Shapes())
        if (shape.hidden < 8192) right &= Check(shape);
    }
    std::vector<std::string> what;
    for (size_t colon = name.find(':'); colon != std::string::npos; colon = name.find(':')) {
      const size_t next = name.find(':', colon + 1);
      what.push_back(name.substr(colon + 1, next == std::string::npos ? next : next - colon - 1));
      name.erase(colon, next == std::string::npos ? next : next - colon);
    }
    dsopt_dtype kv = DSOPT_BF16;
    bool cache_given = false;
    for (size_t w = 0; w < what.size(); ++w) {
      if (what[w].rfind("cache=", 0) != 0) continue;
      kv = CacheOf(what[w].substr(6));
      cache_given = true;
      what.erase(what.begin() + static_cast<std::ptrdiff_t>(w--));
    }
    if (what.empty()) what.push_back("decode");
    Encoding encoding;
    const size_t at = name.find('@');
    if (at != std::string::npos) {
      encoding = EncodingOf(name.substr(at + 1));
      name.erase(at);
    }
    if (name == "encodings") right &= CheckEncodings();
    if (name == "attention") RunAttention(kv);
    for (const Shape& shape : Shapes())
      if (name == shape.name) RunShape(shape, encoding, kv, what);
    if (name.rfind("check=", 0) == 0) {
      for (const Shape& shape : Shapes())
        if (name.substr(6) == shape.name)
          right &= cache_given ? CheckCache(shape, encoding, kv) : Check(shape, encoding);
    }
  }
  g_api->device_close(g_device);
  return right ? 0 : 1;
}
