// loader.cc - dlopen with RTLD_NOW | RTLD_LOCAL and the handshake of dsopt/backend.h.
#include "device/loader.h"

#include <dlfcn.h>

#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "device/device.h"
#include "device/plugin_file.h"

namespace dsopt {
namespace {

// A table that claims ABI 1 has every slot up to this one. Later slots may be missing: whoever uses one asks
// first.
constexpr size_t kTableBytes = offsetof(dsopt_backend_api, measure_read) + sizeof(void*);

bool IsComplete(const dsopt_backend_api& api) {
  return api.name != nullptr && api.build_id != nullptr && api.device_count != nullptr &&
         api.device_info != nullptr && api.device_open != nullptr && api.device_close != nullptr &&
         api.device_report != nullptr && api.weight_bytes != nullptr && api.weight_create != nullptr &&
         api.weight_write != nullptr && api.weight_fill != nullptr && api.weight_finish != nullptr &&
         api.weight_destroy != nullptr && api.program_plan != nullptr && api.program_create != nullptr &&
         api.program_destroy != nullptr && api.program_begin != nullptr && api.program_advance != nullptr &&
         api.program_result != nullptr && api.program_cancel != nullptr && api.program_read_logits != nullptr &&
         api.program_copy_page != nullptr && api.program_read_page != nullptr &&
         api.program_write_page != nullptr && api.measure_read != nullptr;
}

// The file that the kernel mapped at address. Its path is absolute whatever the loader was given; empty without
// /proc.
std::string MappedFile(const void* address) {
  const std::unique_ptr<FILE, decltype(&std::fclose)> maps(std::fopen("/proc/self/maps", "re"), &std::fclose);
  if (maps == nullptr) return {};
  std::unique_ptr<char, decltype(&std::free)> line(nullptr, &std::free);
  size_t capacity = 0;
  for (;;) {
    char* text = line.release();
    const ssize_t length = getline(&text, &capacity, maps.get());
    line.reset(text);
    if (length <= 0) return {};
    uintptr_t begin = 0, end = 0;
    if (std::sscanf(text, "%" SCNxPTR "-%" SCNxPTR, &begin, &end) != 2) continue;
    if (reinterpret_cast<uintptr_t>(address) < begin || reinterpret_cast<uintptr_t>(address) >= end) continue;
    const char* path = std::strchr(text, '/');
    return path != nullptr ? std::string(path, std::strcspn(path, "\n")) : std::string();
  }
}

}  // namespace

Result<const dsopt_backend_api*> NegotiateBackend(dsopt_backend_entry_fn entry, const dsopt_host_api& host,
                                                  const std::string& origin) {
  uint32_t abi = DSOPT_BACKEND_ABI;
  const dsopt_backend_api* api = nullptr;
  RETURN_IF_ERROR(BackendStatus(entry(&host, &abi, &api), origin.c_str()));
  if (api == nullptr) return Error(DSOPT_E_INTERNAL, "%s: its entry gave no table", origin.c_str());
  if (abi != DSOPT_BACKEND_ABI || api->abi != abi) {
    return Error(DSOPT_E_VERSION, "%s: it speaks backend interface %u (table %u), this library speaks %d",
                 origin.c_str(), abi, api->abi, DSOPT_BACKEND_ABI);
  }
  if (api->struct_size < kTableBytes || !IsComplete(*api)) {
    return Error(DSOPT_E_VERSION, "%s: its table has %u bytes or empty slots, %zu bytes of functions expected",
                 origin.c_str(), api->struct_size, kTableBytes);
  }
  return api;
}

Result<const dsopt_backend_api*> LoadBackendPlugin(const std::string& path, const dsopt_host_api& host) {
  // A name without '/' would make dlopen search LD_LIBRARY_PATH and the system directories.
  if (path.find('/') == std::string::npos) {
    return Error(DSOPT_E_INVALID_ARGUMENT, "backend '%s': a path with a directory is expected", path.c_str());
  }
  RETURN_IF_ERROR(CheckPluginFile(path));
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (library == nullptr) {
    const char* reason = dlerror();
    return Error(DSOPT_E_UNSUPPORTED, "backend '%s': it cannot be loaded: %s", path.c_str(),
                 reason != nullptr ? reason : "unknown error");
  }
  const auto entry = reinterpret_cast<dsopt_backend_entry_fn>(dlsym(library, DSOPT_BACKEND_ENTRY));
  Result<const dsopt_backend_api*> api =
      entry != nullptr
          ? NegotiateBackend(entry, host, "backend '" + path + "'")
          : Error(DSOPT_E_UNSUPPORTED, "backend '%s': it does not export " DSOPT_BACKEND_ENTRY, path.c_str());
  dlclose(library);  // RTLD_NODELETE: drops our count, keeps the mapping
  return api;
}

std::string LibraryDirectory() {
  const void* here = reinterpret_cast<const void*>(&LibraryDirectory);
  Dl_info info;
  if (dladdr(here, &info) == 0 || info.dli_fname == nullptr) return {};
  // A relative name is relative to the directory that was current when this library was loaded.
  const std::string loaded = info.dli_fname[0] == '/' ? info.dli_fname : MappedFile(here);
  const std::unique_ptr<char, decltype(&std::free)> real(realpath(loaded.c_str(), nullptr), &std::free);
  if (real == nullptr) return {};
  const std::string path(real.get());
  return path.substr(0, path.rfind('/'));
}

}  // namespace dsopt
