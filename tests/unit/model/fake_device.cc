#include "tests/unit/model/fake_device.h"

#include <cstdio>
#include <cstring>

#include "spec/model_spec.h"

// Opaque to the core.
struct dsopt_be_weight {
  dsopt::test::FakeWeight* weight;
};

namespace dsopt::test {
namespace {

uint64_t Bytes(const dsopt_weight_desc& desc) {
  return desc.batch * desc.rows * desc.cols * ElementBytes(desc.dtype);
}

uint32_t DeviceCount() { return 1; }

dsopt_status DeviceInfo(uint32_t, dsopt_device_info* info) {
  std::snprintf(info->id, sizeof(info->id), "fake");
  info->memory_total = 1u << 30;
  info->memory_free = Fake().memory_free;
  return DSOPT_OK;
}

void DeviceClose(dsopt_be_device*) {}

dsopt_status WeightBytes(dsopt_be_device*, const dsopt_weight_desc* desc, uint64_t* bytes) {
  *bytes = Bytes(*desc);
  return DSOPT_OK;
}

dsopt_status WeightCreate(dsopt_be_device*, const dsopt_weight_desc* desc, dsopt_be_weight** out) {
  FakeWeight& weight = Fake().weights[desc->name];
  weight = FakeWeight();
  weight.desc = *desc;
  weight.desc.name = nullptr;
  weight.bytes.resize(Bytes(*desc));
  weight.writes.resize(desc->batch * desc->rows * desc->cols);
  ++Fake().live_weights;
  *out = new dsopt_be_weight{&weight};
  return DSOPT_OK;
}

dsopt_status WeightWrite(dsopt_be_weight* handle, uint64_t first, uint64_t count, const void* src) {
  if (Fake().writes++ == Fake().fail_write_at) return DSOPT_E_DEVICE_LOST;
  FakeWeight& weight = *handle->weight;
  if (first + count > weight.writes.size()) return DSOPT_E_INVALID_ARGUMENT;
  const uint32_t element_bytes = ElementBytes(weight.desc.dtype);
  std::memcpy(weight.bytes.data() + first * element_bytes, src, count * element_bytes);
  for (uint64_t i = first; i < first + count; ++i) ++weight.writes[i];
  return DSOPT_OK;
}

dsopt_status WeightFill(dsopt_be_weight* handle, uint64_t seed, float, float) {
  handle->weight->filled = true;
  handle->weight->seed = seed;
  return DSOPT_OK;
}

dsopt_status WeightFinish(dsopt_be_device*) {
  ++Fake().finishes;
  return DSOPT_OK;
}

void WeightDestroy(dsopt_be_weight* handle) {
  if (handle == nullptr) return;
  --Fake().live_weights;
  delete handle;
}

dsopt_backend_api MakeApi() {
  dsopt_backend_api api = {};
  api.struct_size = sizeof(api);
  api.abi = DSOPT_BACKEND_ABI;
  api.name = "fake";
  api.device_count = DeviceCount;
  api.device_info = DeviceInfo;
  api.device_close = DeviceClose;
  api.weight_bytes = WeightBytes;
  api.weight_create = WeightCreate;
  api.weight_write = WeightWrite;
  api.weight_fill = WeightFill;
  api.weight_finish = WeightFinish;
  api.weight_destroy = WeightDestroy;
  return api;
}

}  // namespace

FakeBackend& Fake() {
  static FakeBackend fake;
  return fake;
}

std::shared_ptr<Device> MakeFakeDevice() {
  static const dsopt_backend_api api = MakeApi();
  Fake() = FakeBackend();
  dsopt_device_info info = {};
  info.struct_size = sizeof(info);
  DeviceInfo(0, &info);
  return std::make_shared<Device>(&api, nullptr, info);
}

}  // namespace dsopt::test
