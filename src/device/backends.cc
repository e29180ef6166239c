// backends.cc - the backends and devices of one runtime. No state outside of the object: two runtimes of a
// process share nothing but the plugin's code.
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <mutex>

#include "device/device.h"
#include "device/host_api.h"
#include "device/loader.h"

namespace dsopt {
namespace {

constexpr char kPluginFile[] = "libdsopt_cuda.so";

void HostLog(void* context, dsopt_log_level level, const char* component, const char* message) {
  static_cast<const Logger*>(context)->Log(level, component, "%s", message);
}

void HostSetError(void*, const char* message) { KeepBackendMessage(message); }

struct DeviceSlot {
  const dsopt_backend_api* api;
  uint32_t index;  // inside its backend
  dsopt_device_info info;
  std::weak_ptr<Device> opened;
};

bool IsCpu(const DeviceSlot& slot) { return slot.info.kind == DSOPT_DEVICE_CPU; }

Status ReadInfo(const dsopt_backend_api& api, uint32_t index, dsopt_device_info* info) {
  *info = {};
  info->struct_size = sizeof *info;
  RETURN_IF_ERROR(BackendStatus(api.device_info(index, info), api.name));
  info->id[sizeof info->id - 1] = '\0';
  info->name[sizeof info->name - 1] = '\0';
  return Status();
}

std::string MiB(uint64_t bytes) { return Format("%llu MiB", static_cast<unsigned long long>(bytes >> 20)); }

}  // namespace

struct Backends::Impl {
  BackendOptions options;
  dsopt_host_api host = {};
  mutable std::mutex mutex;  // guards everything below
  std::vector<const dsopt_backend_api*> tables;
  std::vector<DeviceSlot> devices;
  std::vector<std::string> notes;  // for Report

  Status Add(const dsopt_backend_api* api);
  Status Load(const std::string& path);
  void Scan();
  void Note(dsopt_log_level level, std::string text);
  Result<std::shared_ptr<Device>> OpenSlot(DeviceSlot* slot);
};

void Backends::Impl::Note(dsopt_log_level level, std::string text) {
  options.log.Log(level, "device", "%s", text.c_str());
  if (std::find(notes.begin(), notes.end(), text) != notes.end()) return;  // a retry: say it once
  notes.push_back(std::move(text));
}

// Appends the devices of a backend; all of them or none.
Status Backends::Impl::Add(const dsopt_backend_api* api) {
  if (std::find(tables.begin(), tables.end(), api) != tables.end()) return Status();  // loaded before
  std::vector<DeviceSlot> found;
  const uint32_t count = api->device_count();
  for (uint32_t i = 0; i < count; ++i) {
    DeviceSlot slot = {api, i, {}, {}};
    RETURN_IF_ERROR(ReadInfo(*api, i, &slot.info));
    found.push_back(std::move(slot));
  }
  tables.reserve(tables.size() + 1);
  devices.reserve(devices.size() + found.size());
  tables.push_back(api);
  for (DeviceSlot& slot : found) devices.push_back(std::move(slot));
  return Status();
}

Status Backends::Impl::Load(const std::string& path) {
  ASSIGN_OR_RETURN(const dsopt_backend_api* api, LoadBackendPlugin(path, host));
  RETURN_IF_ERROR(Add(api));
  Note(DSOPT_LOG_INFO, Format("backend %s: loaded '%s', build %s, %u devices", api->name, path.c_str(),
                              api->build_id, api->device_count()));
  return Status();
}

// Only the configured directory or the one of libdsopt.so: a plugin is code, so guessing is not an option.
void Backends::Impl::Scan() {
  const std::string directory =
      options.plugin_directory.empty() ? LibraryDirectory() : options.plugin_directory;
  if (directory.empty()) return Note(DSOPT_LOG_INFO, "backend scan: the directory of this library is unknown");
  const std::string path = directory + "/" + kPluginFile;
  if (access(path.c_str(), F_OK) != 0 && (errno == ENOENT || errno == ENOTDIR)) {
    return Note(DSOPT_LOG_DEBUG, Format("backend cuda: '%s' is absent", path.c_str()));
  }
  if (Status status = Load(path); !status.ok()) {
    const dsopt_log_level level = status.code() == DSOPT_E_NOT_FOUND ? DSOPT_LOG_INFO : DSOPT_LOG_WARN;
    Note(level, Format("backend cuda: not used: %s", std::string(status.message()).c_str()));
  }
}

Result<std::shared_ptr<Device>> Backends::Impl::OpenSlot(DeviceSlot* slot) {
  if (std::shared_ptr<Device> device = slot->opened.lock()) return device;
  dsopt_device_options request = {};
  request.struct_size = sizeof request;
  request.host = &host;
  if (IsCpu(*slot)) {
    request.threads = options.cpu_threads;
    request.variant = options.cpu_variant.empty() ? nullptr : options.cpu_variant.c_str();
  }
  dsopt_device_info info;
  RETURN_IF_ERROR(ReadInfo(*slot->api, slot->index, &info));
  dsopt_be_device* handle = nullptr;
  RETURN_IF_ERROR(BackendStatus(slot->api->device_open(slot->index, &request, &handle), slot->info.id));
  // Owns the handle in case make_shared throws.
  std::unique_ptr<dsopt_be_device, decltype(slot->api->device_close)> owner(handle, slot->api->device_close);
  auto device = std::make_shared<Device>(slot->api, handle, info);
  (void)owner.release();
  slot->opened = device;
  return device;
}

Backends::Backends(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Backends::~Backends() = default;

Result<std::unique_ptr<Backends>> Backends::Create(const BackendOptions& options) {
  auto impl = std::make_unique<Impl>();
  impl->options = options;
  impl->host = {sizeof(dsopt_host_api),   DSOPT_BACKEND_ABI, &impl->options.log,
                &impl->options.allocator, HostLog,           HostSetError};
  ASSIGN_OR_RETURN(const dsopt_backend_api* cpu, NegotiateBackend(dsopt_cpu_backend_entry, impl->host, "cpu"));
  RETURN_IF_ERROR(impl->Add(cpu));
  if (options.scan) impl->Scan();
  return std::unique_ptr<Backends>(new Backends(std::move(impl)));
}

Status Backends::LoadPlugin(const std::string& path) {
  std::lock_guard<std::mutex> lock(impl_->mutex);
  return impl_->Load(path);
}

std::vector<dsopt_device_info> Backends::Devices() const {
  std::lock_guard<std::mutex> lock(impl_->mutex);
  std::vector<dsopt_device_info> infos;
  for (const DeviceSlot& slot : impl_->devices) {
    dsopt_device_info now;  // memory_free changes
    infos.push_back(ReadInfo(*slot.api, slot.index, &now).ok() ? now : slot.info);
  }
  return infos;
}

Result<std::shared_ptr<Device>> Backends::Open(const std::string& id, uint64_t bytes_needed) {
  std::lock_guard<std::mutex> lock(impl_->mutex);
  if (id.empty()) {
    for (DeviceSlot& slot : impl_->devices) {
      dsopt_device_info now;
      if (IsCpu(slot) || !ReadInfo(*slot.api, slot.index, &now).ok() || now.memory_free < bytes_needed)
        continue;
      Result<std::shared_ptr<Device>> device = impl_->OpenSlot(&slot);
      if (device.ok()) return device;
      impl_->Note(DSOPT_LOG_WARN, Format("device %s: not used: %s", slot.info.id,
                                         std::string(device.status().message()).c_str()));
    }
  }
  std::string known;
  for (DeviceSlot& slot : impl_->devices) {
    if (id.empty() ? IsCpu(slot) : id == slot.info.id) return impl_->OpenSlot(&slot);
    known += known.empty() ? slot.info.id : std::string(", ") + slot.info.id;
  }
  return Error(DSOPT_E_NOT_FOUND, "device '%s': not present; there are: %s", id.c_str(), known.c_str());
}

std::string Backends::Report() {
  std::lock_guard<std::mutex> lock(impl_->mutex);
  std::string text = Format("dsopt %d.%d.%d, backend interface %d\n", DSOPT_VERSION_MAJOR, DSOPT_VERSION_MINOR,
                            DSOPT_VERSION_PATCH, DSOPT_BACKEND_ABI);
  for (const dsopt_backend_api* api : impl_->tables) {
    text += Format("backend %s: build %s\n", api->name, api->build_id);
  }
  for (DeviceSlot& slot : impl_->devices) {
    const dsopt_device_info& info = slot.info;
    text += Format("device %s: %s, arch %u, %u multiprocessors, %s, preferred rows %u\n", info.id, info.name,
                   info.arch, info.multiprocessors, MiB(info.memory_total).c_str(), info.preferred_rows);
    Result<std::shared_ptr<Device>> device = impl_->OpenSlot(&slot);  // kernels are chosen when it is opened
    if (!device.ok()) {
      text += Format("  cannot be opened: %s\n", std::string(device.status().message()).c_str());
      continue;
    }
    const char* kernels = slot.api->device_report((*device)->handle());
    if (kernels != nullptr && kernels[0] != '\0') {
      text += kernels;
      if (text.back() != '\n') text += '\n';
    }
  }
  for (const std::string& note : impl_->notes) text += note + "\n";
  return text;
}

}  // namespace dsopt
