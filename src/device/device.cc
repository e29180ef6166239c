// device.cc - messages of backends, and weights of an opened device.
#include "device/device.h"

#include <cstddef>
#include <cstring>

#include "device/host_api.h"

namespace dsopt {
namespace {

constexpr size_t kMaxMessageBytes = 768;

// What a backend said last on this thread; taken by the BackendStatus that follows.
thread_local char t_backend_message[kMaxMessageBytes];

}  // namespace

void KeepBackendMessage(const char* message) {
  const size_t length = message != nullptr ? strnlen(message, kMaxMessageBytes - 1) : 0;
  if (length > 0) std::memcpy(t_backend_message, message, length);
  t_backend_message[length] = '\0';
}

Status BackendStatus(dsopt_status code, const char* what) {
  if (code >= 0) return Status();
  const bool has_message = t_backend_message[0] != '\0';
  Status status = Error(static_cast<dsopt_code>(code), "%s: %s", what,
                        has_message ? t_backend_message : "the backend gave no reason");
  t_backend_message[0] = '\0';
  return status;
}

uint64_t Device::FreeBytes() const {
  for (uint32_t i = 0, count = api_->device_count(); i < count; ++i) {
    dsopt_device_info now = {};
    now.struct_size = sizeof now;
    if (api_->device_info(i, &now) == DSOPT_OK && std::strncmp(now.id, info_.id, sizeof now.id) == 0) {
      return now.memory_free;
    }
  }
  return 0;
}

bool Device::CanWriteScales() const {
  constexpr size_t kEnd = offsetof(dsopt_backend_api, weight_write_scales) + sizeof(void*);
  return api_->struct_size >= kEnd && api_->weight_write_scales != nullptr;
}

Result<Weight> Device::CreateWeight(const dsopt_weight_desc& desc) const {
  dsopt_be_weight* handle = nullptr;
  RETURN_IF_ERROR(BackendStatus(api_->weight_create(handle_, &desc, &handle), info_.id));
  return Weight(api_, handle);
}

Result<uint64_t> Device::WeightBytes(const dsopt_weight_desc& desc) const {
  uint64_t bytes = 0;
  RETURN_IF_ERROR(BackendStatus(api_->weight_bytes(handle_, &desc, &bytes), info_.id));
  return bytes;
}

}  // namespace dsopt
