// device.cc - opening the CPU, what it is, what it can read.
#include "device.h"

#include <sched.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <new>

namespace dsopt_cpu {
namespace {

constexpr uint32_t kMaxThreads = 1024;

uint32_t UsableCores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return static_cast<uint32_t>(Max(CPU_COUNT(&set), 1));
  const long online = sysconf(_SC_NPROCESSORS_ONLN);
  return online > 0 ? static_cast<uint32_t>(online) : 1;
}

// Physical cores among the usable ones: those that are the first of their siblings.
uint32_t PhysicalCores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return UsableCores();
  uint32_t cores = 0;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &set)) continue;
    char path[96];
    std::snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
    int first = cpu;
    if (std::FILE* file = std::fopen(path, "r")) {
      if (std::fscanf(file, "%d", &first) != 1) first = cpu;
      std::fclose(file);
    }
    if (first == cpu || first < 0 || first >= CPU_SETSIZE || !CPU_ISSET(first, &set)) ++cores;
  }
  return Max(cores, 1u);
}

void ReadCpuName(char* name, size_t cap) {
  std::snprintf(name, cap, "CPU");
  std::FILE* file = std::fopen("/proc/cpuinfo", "r");
  if (file == nullptr) return;
  char line[256];
  while (std::fgets(line, sizeof(line), file) != nullptr) {
    const char* colon = std::strchr(line, ':');
    if (std::strncmp(line, "model name", 10) != 0 || colon == nullptr) continue;
    std::snprintf(name, cap, "%.*s", static_cast<int>(std::strcspn(colon + 2, "\n")), colon + 2);
    break;
  }
  std::fclose(file);
}

// The first number of a file after `key` (may be ""); false: there is none.
bool ReadNumber(const char* path, const char* key, uint64_t* value) {
  std::FILE* file = std::fopen(path, "r");
  if (file == nullptr) return false;
  char line[128];
  bool found = false;
  const size_t length = std::strlen(key);
  while (!found && std::fgets(line, sizeof(line), file) != nullptr) {
    unsigned long long number = 0;
    found = std::strncmp(line, key, length) == 0 && std::sscanf(line + length, " %llu", &number) == 1;
    if (found) *value = number;
  }
  std::fclose(file);
  return found;
}

// What a control group leaves of its limit; what its page cache holds counts as left. No limit: UINT64_MAX.
uint64_t LeftOfGroup(const char* folder, const char* limit_file, const char* usage_file,
                     const char* cache_key) {
  char path[512];
  uint64_t limit = 0, used = 0, cached = 0;
  std::snprintf(path, sizeof(path), "%s/%s", folder, limit_file);
  if (!ReadNumber(path, "", &limit)) return UINT64_MAX;
  std::snprintf(path, sizeof(path), "%s/%s", folder, usage_file);
  if (!ReadNumber(path, "", &used)) return UINT64_MAX;
  std::snprintf(path, sizeof(path), "%s/memory.stat", folder);
  ReadNumber(path, cache_key, &cached);
  used -= Min(used, cached);
  return limit > used ? limit - used : 0;
}

// The least that any control group of this process leaves: cgroups v2 from its own up to the root, v1 the
// mounted one.
uint64_t LeftOfGroups() {
  uint64_t left = LeftOfGroup("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
                              "total_inactive_file");
  char folder[384] = "/sys/fs/cgroup";
  const size_t root = std::strlen(folder);
  if (std::FILE* file = std::fopen("/proc/self/cgroup", "r")) {
    char line[300];
    while (std::fgets(line, sizeof(line), file) != nullptr) {
      if (std::strncmp(line, "0::/", 4) != 0) continue;
      line[std::strcspn(line, "\n")] = 0;
      std::snprintf(folder + root, sizeof(folder) - root, "%s", line + 3);
    }
    std::fclose(file);
  }
  for (;;) {
    left = Min(left, LeftOfGroup(folder, "memory.max", "memory.current", "inactive_file"));
    char* last = std::strrchr(folder + root, '/');
    if (last == nullptr) return left;
    *last = 0;
  }
}

void ReadMemory(uint64_t* total, uint64_t* available) {
  *total = *available = 0;
  uint64_t kib = 0;
  if (ReadNumber("/proc/meminfo", "MemTotal:", &kib)) *total = kib << 10;
  if (ReadNumber("/proc/meminfo", "MemAvailable:", &kib)) *available = Min(kib << 10, LeftOfGroups());
}

void WriteReport(dsopt_be_device* device, const char* variant) {
  const Kernels* k = device->kernels;
  char cap[64] = "no cap was asked for";
  if (variant != nullptr) std::snprintf(cap, sizeof(cap), "at most %.20s was asked for", variant);
  const char* best = SelectKernels(nullptr)->name;
  std::snprintf(device->report, sizeof(device->report),
                "cpu threads: %u including the caller\n"
                "cpu linear, bf16 weights, fast: %s, %s (the machine has %s; %s)\n"
                "cpu linear, reference precision and f16/f32 weights: %s, f32 multiply-add\n"
                "cpu linear, int8 and int4 weights: %s, %s in fast precision\n"
                "cpu linear, fp8 and 12-bit weights: %s, expanded in registers, %s in fast precision\n"
                "cpu attention: %s, %s, f32 sums over spans of %u positions\n"
                "cpu norm, softmax, sampling: %s\n",
                device->pool->threads(), k->name,
                k->linear_bf16 != nullptr ? "bf16 dot products" : "f32 multiply-add: no bf16 dot product", best,
                cap, k->name, k->name,
                k->coded_fixed[kInt8] != nullptr ? "as integers, times activations of 16 bits"
                                                 : "expanded in registers, f32 multiply-add",
                k->name, k->coded_bf16[kFp8] != nullptr ? "bf16 dot products" : "f32 multiply-add", k->name,
                k->linear_bf16 != nullptr ? "bf16 products when the cache is bf16" : "f32 products",
                kSpanTokens, k->name);
}

}  // namespace

uint32_t DeviceCount() { return 1; }

dsopt_status DeviceInfo(uint32_t index, dsopt_device_info* info) {
  if (index != 0) return DSOPT_E_NOT_FOUND;
  if (info == nullptr || info->struct_size < sizeof(uint32_t)) return DSOPT_E_INVALID_ARGUMENT;
  dsopt_device_info full = {};
  full.struct_size = info->struct_size;
  full.kind = DSOPT_DEVICE_CPU;
  full.arch = SelectKernels(nullptr)->arch;
  full.multiprocessors = PhysicalCores();
  ReadMemory(&full.memory_total, &full.memory_free);
  std::snprintf(full.id, sizeof(full.id), "cpu");
  ReadCpuName(full.name, sizeof(full.name));
  full.preferred_rows = 128;
  std::memcpy(info, &full, Min<size_t>(full.struct_size, sizeof(full)));
  return DSOPT_OK;
}

dsopt_status DeviceOpen(uint32_t index, const dsopt_device_options* options, dsopt_be_device** out) {
  dsopt_device_options o;
  if (out == nullptr || !CopyStruct(options, &o) || o.host == nullptr || o.host->allocator == nullptr) {
    return DSOPT_E_INVALID_ARGUMENT;
  }
  *out = nullptr;
  const dsopt_host_api* host = o.host;
  if (index != 0) return Fail(host, DSOPT_E_NOT_FOUND, "cpu: device %u does not exist, there is one", index);
  if (o.threads > kMaxThreads) {
    return Fail(host, DSOPT_E_INVALID_ARGUMENT, "cpu: %u threads, at most %u expected", o.threads, kMaxThreads);
  }
  const Kernels* kernels = SelectKernels(o.variant);
  if (kernels == nullptr) {
    return Fail(
        host, DSOPT_E_INVALID_ARGUMENT,
        "cpu: variant '%.40s' is unknown, expected scalar, avx2, avx2_vnni, avx512, avx512_vnni or avx512_bf16",
        o.variant);
  }
  Memory memory;
  dsopt_status status = Allocate(host, sizeof(dsopt_be_device), "cpu device", &memory);
  if (status != DSOPT_OK) return status;
  dsopt_be_device* device = new (memory.data) dsopt_be_device{};
  device->host = host;
  device->kernels = kernels;
  device->max_bytes = o.max_bytes;
  device->memory = memory;
  status = Pool::Create(host, o.threads != 0 ? o.threads : PhysicalCores(), &device->pool);
  if (status != DSOPT_OK) {
    DeviceClose(device);
    return status;
  }
  WriteReport(device, o.variant);
  *out = device;
  return DSOPT_OK;
}

void DeviceClose(dsopt_be_device* device) {
  if (device == nullptr) return;
  const dsopt_host_api* host = device->host;
  Pool::Destroy(device->pool);
  Memory memory = device->memory;
  device->~dsopt_be_device();
  Release(host, &memory);
}

const char* DeviceReport(dsopt_be_device* device) { return device->report; }

dsopt_status Charge(dsopt_be_device* device, uint64_t bytes, const char* what) {
  const uint64_t before = device->used_bytes.fetch_add(bytes);
  if (device->max_bytes == 0 || (before <= device->max_bytes && bytes <= device->max_bytes - before))
    return DSOPT_OK;
  Refund(device, bytes);
  return Fail(device->host, DSOPT_E_DEVICE_MEMORY,
              "%s: %llu bytes, but %llu of the device's cap of %llu are in use", what,
              static_cast<unsigned long long>(bytes), static_cast<unsigned long long>(before),
              static_cast<unsigned long long>(device->max_bytes));
}

void Refund(dsopt_be_device* device, uint64_t bytes) { device->used_bytes.fetch_sub(bytes); }

namespace {

struct ReadJob {
  const Kernels* kernels;
  const uint8_t* data;
  size_t bytes;
  uint32_t method;
  std::atomic<size_t> next;
  std::atomic<uint64_t> sum;
};

constexpr size_t kReadPiece = size_t{1} << 20;

void ReadPieces(void* context, uint32_t) {
  ReadJob* job = static_cast<ReadJob*>(context);
  while (true) {
    const size_t first = job->next.fetch_add(kReadPiece);
    if (first >= job->bytes) return;
    job->sum += job->kernels->read(job->data + first, Min(kReadPiece, job->bytes - first), job->method);
  }
}

}  // namespace

dsopt_status MeasureRead(dsopt_be_device* device, uint64_t bytes, double* bytes_per_second) {
  if (bytes_per_second == nullptr || bytes < kReadPiece) {
    return Fail(device->host, DSOPT_E_INVALID_ARGUMENT, "measure_read: %llu bytes, at least %llu expected",
                static_cast<unsigned long long>(bytes), static_cast<unsigned long long>(kReadPiece));
  }
  bytes = bytes / kReadPiece * kReadPiece;
  Memory memory;
  const dsopt_status status = Allocate(device->host, bytes, "measure_read", &memory);
  if (status != DSOPT_OK) return status;
  std::memset(memory.data, 1, bytes);
  double best = 0.0;
  for (int repeat = 0; repeat < 5; ++repeat) {
    for (uint32_t method = 0; method < 4; ++method) {
      ReadJob job{device->kernels, memory.data, bytes, method, {}, {}};
      const uint64_t start = NowNs();
      device->pool->Run(ReadPieces, &job);
      const double seconds = static_cast<double>(NowNs() - start) * 1e-9;
      best = Max(best, static_cast<double>(bytes) / seconds);
    }
  }
  Release(device->host, &memory);
  *bytes_per_second = best;
  return DSOPT_OK;
}

}  // namespace dsopt_cpu
