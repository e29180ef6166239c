// weight.cc - creating weights and writing them through the pinned ring.
#include "weight.h"

#include <cmath>
#include <cstdio>
#include <cstring>

#include "launch.h"
#include "shared/check.h"
#include "weight_encoded.h"

namespace dsopt_cuda {
namespace {

bool ElemOf(dsopt_dtype dtype, Elem* elem) {
  switch (dtype) {
    case DSOPT_F32: *elem = Elem::kF32; return true;
    case DSOPT_F16: *elem = Elem::kF16; return true;
    case DSOPT_BF16: *elem = Elem::kBf16; return true;
    default: return false;
  }
}

float HalfToFloat(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
  const uint32_t exponent = (bits >> 10) & 31u, mantissa = bits & 1023u;
  float value;
  if (exponent == 0) {  // zero or subnormal: mantissa * 2^-24
    value = static_cast<float>(mantissa) * 5.9604644775390625e-8f;
    return sign != 0 ? -value : value;
  }
  const uint32_t word = sign | ((exponent == 31 ? 255u : exponent + 112u) << 23) | (mantissa << 13);
  std::memcpy(&value, &word, 4);
  return value;
}

// count elements of `from` to f32.
void ToFloat(Elem from, const void* src, uint64_t count, float* dst) {
  if (from == Elem::kF32) {
    std::memcpy(dst, src, count * 4);
    return;
  }
  for (uint64_t i = 0; i < count; ++i) {
    uint16_t bits;
    std::memcpy(&bits, static_cast<const char*>(src) + 2 * i, 2);
    if (from == Elem::kF16) {
      dst[i] = HalfToFloat(bits);
    } else {
      const uint32_t word = static_cast<uint32_t>(bits) << 16;
      std::memcpy(&dst[i], &word, 4);
    }
  }
}

struct Shape {
  Elem written, stored;
  uint64_t count, bytes;
};

dsopt_status CheckDesc(const dsopt_be_device& device, const dsopt_weight_desc& desc, Shape* shape) {
  const char* name = desc.name != nullptr ? desc.name : "(unnamed)";
  if (!ElemOf(desc.dtype, &shape->written))
    return Fail(device.host, DSOPT_E_UNSUPPORTED, "weight '%s': type %d, F32, F16 or BF16 expected", name,
                static_cast<int>(desc.dtype));
  if (const char* wrong = dsopt_shared::WeightShapeError(desc))
    return Fail(device.host, DSOPT_E_INVALID_ARGUMENT, "weight '%s': kind %d, shape [%llu, %llu, %llu]: %s", name,
                static_cast<int>(desc.kind), static_cast<unsigned long long>(desc.batch),
                static_cast<unsigned long long>(desc.rows), static_cast<unsigned long long>(desc.cols), wrong);
  const bool single = desc.kind == DSOPT_WEIGHT_VECTOR || desc.kind == DSOPT_WEIGHT_ROUTER;
  shape->stored = single ? Elem::kF32 : shape->written;
  shape->count = desc.batch * desc.rows * desc.cols;
  shape->bytes = shape->count * ElemBytes(shape->stored);
  return DSOPT_OK;
}

// One staged piece: elements [first, first + count) lie in slot memory; queue their copies.
cudaError_t PlaceInterleaved(const dsopt_be_weight& w, uint64_t first, uint64_t count, const char* staged) {
  const uint64_t cols = w.layout.cols, rows = w.layout.rows, inner = rows / 2, es = ElemBytes(w.elem == Elem::kPacked ? Elem::kBf16 : w.elem);
  cudaStream_t stream = w.device->upload_stream;
  while (count > 0) {
    const uint64_t row = first / cols, column = first % cols;  // logical row over all batches
    const uint64_t in_batch = row % rows, half = in_batch / inner, index = in_batch % inner;
    const uint64_t target = (row - in_batch) + 2 * index + half;
    char* dst = static_cast<char*>(w.data) + (target * cols + column) * es;
    uint64_t taken;
    cudaError_t error;
    if (column != 0 || count < cols) {
      taken = count < cols - column ? count : cols - column;
      error = cudaMemcpyAsync(dst, staged, taken * es, cudaMemcpyHostToDevice, stream);
    } else {
      uint64_t whole = count / cols;
      if (whole > inner - index) whole = inner - index;  // up to the end of the gate or of the up half
      taken = whole * cols;
      error = cudaMemcpy2DAsync(dst, 2 * cols * es, staged, cols * es, cols * es, whole, cudaMemcpyHostToDevice,
                                stream);
    }
    if (error != cudaSuccess) return error;
    first += taken;
    count -= taken;
    staged += taken * es;
  }
  return cudaSuccess;
}

cudaError_t Place(const dsopt_be_weight& w, uint64_t first, uint64_t count, void* staged) {
  if (w.layout.interleaved) return PlaceInterleaved(w, first, count, static_cast<const char*>(staged));
  if (w.layout.transposed) {
    void* mapped = nullptr;
    const cudaError_t error = cudaHostGetDevicePointer(&mapped, staged, 0);
    if (error != cudaSuccess) return error;
    return ScatterTransposed(w.device->upload_stream, w.elem, mapped, first, count, w.layout, w.data);
  }
  const uint64_t es = ElemBytes(w.elem == Elem::kPacked ? Elem::kBf16 : w.elem);
  return cudaMemcpyAsync(static_cast<char*>(w.data) + first * es, staged, count * es, cudaMemcpyHostToDevice,
                         w.device->upload_stream);
}

}  // namespace

dsopt_status WeightBytes(dsopt_be_device* device, const dsopt_weight_desc* desc, uint64_t* bytes) {
  if (desc->encoding != DSOPT_ENCODING_PLAIN) {
    EncodedPlan plan;
    DSOPT_CUDA_RETURN_IF_ERROR(PlanEncoded(*device, *desc, &plan));
    *bytes = plan.bytes;
    return DSOPT_OK;
  }
  Shape shape;
  DSOPT_CUDA_RETURN_IF_ERROR(CheckDesc(*device, *desc, &shape));
  *bytes = shape.bytes;
  return DSOPT_OK;
}

dsopt_status WeightCreate(dsopt_be_device* device, const dsopt_weight_desc* desc, dsopt_be_weight** out) {
  const bool encoded = desc->encoding != DSOPT_ENCODING_PLAIN;
  EncodedPlan plan;
  Shape shape{Elem::kBf16, Elem::kPacked, 0, 0};
  if (encoded) {
    DSOPT_CUDA_RETURN_IF_ERROR(PlanEncoded(*device, *desc, &plan));
    shape.count = plan.count;
    shape.bytes = plan.bytes;
  } else {
    DSOPT_CUDA_RETURN_IF_ERROR(CheckDesc(*device, *desc, &shape));
  }
  const ScopedDevice current(device->index);
  dsopt_be_weight* weight = HostNew<dsopt_be_weight>(device->host.allocator);
  weight->device = device;
  weight->kind = desc->kind;
  weight->written = shape.written;
  weight->elem = shape.stored;
  weight->layout = {desc->batch, desc->rows, desc->cols, desc->kind == DSOPT_WEIGHT_GATE_UP,
                    desc->kind == DSOPT_WEIGHT_TRANSPOSED};
  weight->count = shape.count;
  weight->bytes = shape.bytes;
  weight->tied = desc->kind == DSOPT_WEIGHT_EMBEDDING && desc->tied != 0;
  std::snprintf(weight->name, sizeof weight->name, "%s", desc->name != nullptr ? desc->name : "(unnamed)");
  std::snprintf(weight->label, sizeof weight->label, "weight '%s'", weight->name);
  dsopt_status status = device->Allocate(shape.bytes, weight->label, encoded ? &weight->memory : &weight->data);
  if (status == DSOPT_OK && encoded) status = StartEncoded(weight, plan);
  if (status != DSOPT_OK) {
    WeightDestroy(weight);
    return status;
  }
  *out = weight;
  return DSOPT_OK;
}

dsopt_status WeightWrite(dsopt_be_weight* weight, uint64_t first, uint64_t count, const void* src) {
  dsopt_be_device* device = weight->device;
  if (first > weight->count || count > weight->count - first || (src == nullptr && count > 0))
    return Fail(device->host, DSOPT_E_INVALID_ARGUMENT, "%s: write of elements [%llu, +%llu) of %llu from %s",
                weight->label, static_cast<unsigned long long>(first), static_cast<unsigned long long>(count),
                static_cast<unsigned long long>(weight->count), src == nullptr ? "NULL" : "memory");
  const ScopedDevice current(device->index);
  const bool lossless = weight->packed.layout.packing == Packing::kLossless12;
  if (weight->elem == Elem::kPacked && !lossless) return WriteCodes(weight, first, count, src);
  if (lossless && count > weight->count - weight->written_count)
    return Fail(device->host, DSOPT_E_INVALID_STATE, "%s: elements were written twice", weight->label);
  if (lossless) DSOPT_CUDA_RETURN_IF_ERROR(StartRaw(weight));
  const uint64_t arriving = count;
  const Elem stored = lossless ? Elem::kBf16 : weight->elem;
  const uint64_t source_bytes = ElemBytes(weight->written), stored_bytes = ElemBytes(stored);
  const uint64_t piece = kUploadSlotBytes / stored_bytes;
  const char* from = static_cast<const char*>(src);
  while (count > 0) {
    const uint64_t now = count < piece ? count : piece;
    UploadSlot& slot = device->slots[device->next_slot.fetch_add(1) % kUploadSlots];
    const std::lock_guard<std::mutex> lock(slot.mutex);
    DSOPT_CUDA_RETURN_IF_ERROR(device->Check(cudaEventSynchronize(slot.busy), weight->label));
    if (stored == weight->written) std::memcpy(slot.memory, from, now * stored_bytes);
    else ToFloat(weight->written, from, now, static_cast<float*>(slot.memory));
    DSOPT_CUDA_RETURN_IF_ERROR(device->Check(Place(*weight, first, now, slot.memory), weight->label));
    DSOPT_CUDA_RETURN_IF_ERROR(device->Check(cudaEventRecord(slot.busy, device->upload_stream), weight->label));
    first += now;
    count -= now;
    from += now * source_bytes;
  }
  if (!lossless) return DSOPT_OK;
  if (weight->written_count + arriving == weight->count) DSOPT_CUDA_RETURN_IF_ERROR(PackRaw(weight));
  weight->written_count += arriving;
  return DSOPT_OK;
}

dsopt_status WeightWriteScales(dsopt_be_weight* weight, uint64_t first, uint64_t count, const float* scales,
                               const float* offsets) {
  return WriteScales(weight, first, count, scales, offsets);
}

dsopt_status WeightFill(dsopt_be_weight* weight, uint64_t seed, float mean, float stddev) {
  if (!std::isfinite(mean) || !std::isfinite(stddev))
    return Fail(weight->device->host, DSOPT_E_INVALID_ARGUMENT, "%s: fill with mean %g, stddev %g", weight->label,
                static_cast<double>(mean), static_cast<double>(stddev));
  const ScopedDevice current(weight->device->index);
  if (weight->elem == Elem::kPacked) return FillEncoded(weight, seed, mean, stddev);
  return weight->device->Check(
      FillWeight(weight->device->upload_stream, weight->elem, weight->written, weight->layout, seed, mean, stddev,
                 weight->data),
      weight->label);
}

void WeightDestroy(dsopt_be_weight* weight) {
  if (weight == nullptr) return;
  dsopt_be_device* device = weight->device;
  const ScopedDevice current(device->index);
  if (weight->elem == Elem::kPacked) {
    cudaStreamSynchronize(device->upload_stream);
    device->Free(weight->memory, weight->bytes);
    device->Free(weight->data, weight->count * 2);
  } else {
    device->Free(weight->data, weight->bytes);
  }
  HostDelete(device->host.allocator, weight);
}

}  // namespace dsopt_cuda
