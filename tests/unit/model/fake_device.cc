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
  const uint64_t elements = desc.batch * desc.rows * desc.cols;
  return desc.encoding == DSOPT_ENCODING_INT4 ? elements / 2 : elements * ElementBytes(desc.dtype);
}

uint64_t Groups(const dsopt_weight_desc& desc) {
  if (!HasScales(desc.encoding)) return 0;
  const uint64_t rows = desc.group_rows == 0 ? 1 : desc.group_rows;
  const uint64_t cols = desc.group_cols == 0 ? desc.cols : desc.group_cols;
  return desc.batch * ((desc.rows + rows - 1) / rows) * ((desc.cols + cols - 1) / cols);
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
  weight.scales.resize(Groups(*desc));
  weight.offsets.resize(desc->has_offset != 0 ? Groups(*desc) : 0);
  weight.scale_writes.resize(Groups(*desc));
  ++Fake().live_weights;
  *out = new dsopt_be_weight{&weight};
  return DSOPT_OK;
}

dsopt_status WeightWrite(dsopt_be_weight* handle, uint64_t first, uint64_t count, const void* src) {
  if (Fake().writes++ == Fake().fail_write_at) return DSOPT_E_DEVICE_LOST;
  FakeWeight& weight = *handle->weight;
  if (first + count > weight.writes.size()) return DSOPT_E_INVALID_ARGUMENT;
  const uint32_t element_bytes = ElementBytes(weight.desc.dtype);
  if (weight.desc.encoding == DSOPT_ENCODING_INT4) {
    if (first % 2 != 0 || count % 2 != 0) return DSOPT_E_INVALID_ARGUMENT;
    std::memcpy(weight.bytes.data() + first / 2, src, count / 2);
  } else {
    std::memcpy(weight.bytes.data() + first * element_bytes, src, count * element_bytes);
  }
  for (uint64_t i = first; i < first + count; ++i) ++weight.writes[i];
  return DSOPT_OK;
}

dsopt_status WeightWriteScales(dsopt_be_weight* handle, uint64_t first, uint64_t count, const float* scales,
                               const float* offsets) {
  FakeWeight& weight = *handle->weight;
  if (first + count > weight.scales.size() || (offsets != nullptr) != !weight.offsets.empty()) {
    return DSOPT_E_INVALID_ARGUMENT;
  }
  for (uint64_t i = 0; i < count; ++i) {
    weight.scales[first + i] = scales[i];
    if (offsets != nullptr) weight.offsets[first + i] = offsets[i];
    ++weight.scale_writes[first + i];
  }
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

dsopt_backend_api MakeApi(bool knows_scales) {
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
  api.weight_write_scales = knows_scales ? WeightWriteScales : nullptr;
  api.weight_finish = WeightFinish;
  api.weight_destroy = WeightDestroy;
  return api;
}

}  // namespace

FakeBackend& Fake() {
  static FakeBackend fake;
  return fake;
}

std::shared_ptr<Device> MakeFakeDevice(bool knows_scales) {
  static const dsopt_backend_api all = MakeApi(true), without_scales = MakeApi(false);
  Fake() = FakeBackend();
  dsopt_device_info info = {};
  info.struct_size = sizeof(info);
  DeviceInfo(0, &info);
  return std::make_shared<Device>(knows_scales ? &all : &without_scales, nullptr, info);
}

}  // namespace dsopt::test
