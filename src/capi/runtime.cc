// runtime.cc - dsopt_runtime_* and dsopt_device_*.
#include "capi/guard.h"
#include "capi/handles.h"
#include "capi/options.h"

namespace dsopt {
namespace {

constexpr uint64_t kMeasureBytes = 1u << 30;

Status ReadAllocator(const dsopt_allocator* in, dsopt_allocator* out) {
  if (in == nullptr) {
    *out = DefaultAllocator();
    return Status();
  }
  RETURN_IF_ERROR(ReadStruct(in, "allocator", out));
  if (out->alloc == nullptr || out->free == nullptr) {
    return Error(DSOPT_E_INVALID_ARGUMENT, "allocator: alloc or free is NULL, both are needed");
  }
  return Status();
}

Result<BackendOptions> ReadRuntimeOptions(const dsopt_runtime_options* in) {
  dsopt_runtime_options o;
  RETURN_IF_ERROR(ReadStruct(in, "options", &o));
  if (o.abi_level > DSOPT_ABI_LEVEL) {
    return Error(DSOPT_E_VERSION,
                 "options.abi_level: the caller's header has level %u, this library %d: it is older",
                 o.abi_level, DSOPT_ABI_LEVEL);
  }
  if (o.log_level < DSOPT_LOG_DEFAULT || o.log_level > DSOPT_LOG_OFF) {
    return Error(DSOPT_E_INVALID_ARGUMENT, "options.log_level: %d, expected 0 to %d",
                 static_cast<int>(o.log_level), static_cast<int>(DSOPT_LOG_OFF));
  }
  BackendOptions options = {};
  RETURN_IF_ERROR(ReadAllocator(o.allocator, &options.allocator));
  options.log = Logger(o.log, o.log_user, o.log_level);
  options.cpu_threads = o.cpu_threads;
  options.cpu_variant = o.cpu_variant != nullptr ? o.cpu_variant : "";
  options.plugin_directory = o.backend_path != nullptr ? o.backend_path : "";
  options.scan = o.disable_backend_scan == 0;
  return options;
}

}  // namespace
}  // namespace dsopt

using namespace dsopt;  // NOLINT: the functions below are the C face of this namespace

dsopt_status dsopt_runtime_create(const dsopt_runtime_options* options, dsopt_runtime** out) {
  return Guard([&]() -> Reply {
    RETURN_IF_NULL(out);
    ASSIGN_OR_RETURN(const BackendOptions backend_options, ReadRuntimeOptions(options));
    auto handle = std::make_unique<dsopt_runtime>();
    ASSIGN_OR_RETURN(handle->impl, Runtime::Create(backend_options));
    *out = handle.release();
    return DSOPT_OK;
  });
}

void dsopt_runtime_release(dsopt_runtime* runtime) { delete runtime; }

dsopt_status dsopt_runtime_load_backend(dsopt_runtime* runtime, const char* path) {
  return Guard([&]() -> Reply {
    RETURN_IF_NULL(runtime);
    RETURN_IF_NULL(path);
    return runtime->impl->backends().LoadPlugin(path);
  });
}

uint32_t dsopt_device_count(const dsopt_runtime* runtime) {
  uint32_t count = 0;
  Guard([&]() -> Reply {
    RETURN_IF_NULL(runtime);
    count = static_cast<uint32_t>(runtime->impl->backends().Devices().size());
    return DSOPT_OK;
  });
  return count;
}

dsopt_status dsopt_device_get_info(const dsopt_runtime* runtime, uint32_t index, dsopt_device_info* info) {
  return Guard([&]() -> Reply {
    RETURN_IF_NULL(runtime);
    RETURN_IF_NULL(info);
    RETURN_IF_ERROR(CheckStructSize(info, "info"));
    const std::vector<dsopt_device_info> devices = runtime->impl->backends().Devices();
    if (index >= devices.size()) {
      return Error(DSOPT_E_NOT_FOUND, "device: index %u, there are %zu", index, devices.size());
    }
    WriteStruct(devices[index], info);
    return DSOPT_OK;
  });
}

dsopt_status dsopt_runtime_report(const dsopt_runtime* runtime, char* buf, size_t cap, size_t* out_len) {
  return Guard([&]() -> Reply {
    RETURN_IF_NULL(runtime);
    return WriteText(runtime->impl->backends().Report(), buf, cap, out_len);
  });
}

dsopt_status dsopt_device_measure_read(dsopt_runtime* runtime, const char* device, uint64_t bytes,
                                       double* bytes_per_second) {
  return Guard([&]() -> Reply {
    RETURN_IF_NULL(runtime);
    RETURN_IF_NULL(bytes_per_second);
    ASSIGN_OR_RETURN(const std::shared_ptr<Device> opened,
                     runtime->impl->backends().Open(device != nullptr ? device : "cpu", 0));
    return BackendStatus(
        opened->api().measure_read(opened->handle(), bytes != 0 ? bytes : kMeasureBytes, bytes_per_second),
        "measure_read");
  });
}
