// weight_encoded.cc - see weight_encoded.h. Codes go to their places as they arrive. lossless12 needs whole
// rows to choose its windows: the bf16 rows of a weight wait on the device until the last has come, so that
// loading needs room for one such weight (two where parts of different weights alternate in the file) on top of
// the plan.
#include "weight_encoded.h"

#include <algorithm>
#include <cstring>

#include "shared/check.h"

namespace dsopt_cuda {
namespace {

uint64_t Align(uint64_t bytes) { return (bytes + 255) & ~uint64_t{255}; }

const char* NameOf(const dsopt_weight_desc& desc) { return desc.name != nullptr ? desc.name : "(unnamed)"; }

bool KindTaken(const dsopt_weight_desc& desc) {
  return (desc.kind == DSOPT_WEIGHT_MATRIX && desc.batch == 1) || desc.kind == DSOPT_WEIGHT_GATE_UP ||
         desc.kind == DSOPT_WEIGHT_EXPERTS || (desc.kind == DSOPT_WEIGHT_EMBEDDING && desc.batch == 1);
}

// Packing and group of the description; false: not one that the kernels take.
bool LayoutOf(const dsopt_weight_desc& desc, PackedLayout* layout) {
  const uint32_t rows = desc.group_rows, columns = desc.group_cols;
  const bool one_row = rows <= 1;
  layout->group = static_cast<int16_t>(columns <= 128 ? columns : 0);
  layout->offsets = desc.has_offset != 0 && columns != 0;
  switch (desc.encoding) {
    case DSOPT_ENCODING_LOSSLESS12:
      layout->packing = Packing::kLossless12;
      return desc.dtype == DSOPT_BF16;
    case DSOPT_ENCODING_INT8:
      layout->packing = Packing::kInt8;
      return desc.dtype == DSOPT_I8 && one_row &&
             (columns == 0 || columns == 16 || columns == 32 || columns == 64 || columns == 128);
    case DSOPT_ENCODING_FP8:
      layout->packing = Packing::kFp8;
      return desc.dtype == DSOPT_F8_E4M3 && desc.has_offset == 0 &&
             ((one_row && columns == 0) || (rows == 128 && columns == 128));
    case DSOPT_ENCODING_INT4:
      layout->packing = Packing::kInt4;
      return desc.dtype == DSOPT_U8 && one_row && desc.cols % 2 == 0 &&
             (columns == 32 || columns == 64 || columns == 128);
    default:
      return false;
  }
}

// Moves `count` items through the upload slots: `stage` fills at most one slot with some of them from `done` on
// and returns how many; `place` queues what the device does with the slot's copy.
template <typename StageFn, typename PlaceFn>
dsopt_status ThroughSlots(dsopt_be_weight* weight, uint64_t count, StageFn stage, PlaceFn place) {
  dsopt_be_device* device = weight->device;
  for (uint64_t done = 0; done < count;) {
    UploadSlot& slot = device->slots[device->next_slot.fetch_add(1) % kUploadSlots];
    const std::lock_guard<std::mutex> lock(slot.mutex);
    if (slot.device_memory == nullptr)
      DSOPT_CUDA_RETURN_IF_ERROR(device->Allocate(kUploadSlotBytes, "upload buffer", &slot.device_memory));
    DSOPT_CUDA_RETURN_IF_ERROR(device->Check(cudaEventSynchronize(slot.busy), weight->label));
    uint64_t bytes = 0;
    const uint64_t now = stage(done, static_cast<char*>(slot.memory), &bytes);
    DSOPT_CUDA_RETURN_IF_ERROR(device->Check(
        cudaMemcpyAsync(slot.device_memory, slot.memory, bytes, cudaMemcpyHostToDevice, device->upload_stream),
        weight->label));
    DSOPT_CUDA_RETURN_IF_ERROR(
        device->Check(place(done, now, static_cast<char*>(slot.device_memory)), weight->label));
    DSOPT_CUDA_RETURN_IF_ERROR(device->Check(cudaEventRecord(slot.busy, device->upload_stream), weight->label));
    done += now;
  }
  return DSOPT_OK;
}

}  // namespace

dsopt_status PlanEncoded(const dsopt_be_device& device, const dsopt_weight_desc& desc, EncodedPlan* plan) {
  EncodedPlan p;
  if (!KindTaken(desc) || !LayoutOf(desc, &p.layout))
    return Fail(
        device.host, DSOPT_E_UNSUPPORTED,
        "weight '%s': encoding %d of kind %d with type %d and groups of %u x %u is not supported on the GPU",
        NameOf(desc), static_cast<int>(desc.encoding), static_cast<int>(desc.kind),
        static_cast<int>(desc.dtype), desc.group_rows, desc.group_cols);
  const char* wrong = dsopt_shared::WeightShapeError(desc);
  if (wrong == nullptr && (desc.batch > 65536 || desc.rows > (1u << 24) || desc.cols > (1u << 24)))
    wrong = "at most 65536 matrices and 2^24 rows and columns expected";
  if (wrong != nullptr)
    return Fail(device.host, DSOPT_E_INVALID_ARGUMENT, "weight '%s': kind %d, shape [%llu, %llu, %llu]: %s",
                NameOf(desc), static_cast<int>(desc.kind), static_cast<unsigned long long>(desc.batch),
                static_cast<unsigned long long>(desc.rows), static_cast<unsigned long long>(desc.cols), wrong);
  p.layout.n = static_cast<int>(desc.rows);
  p.layout.k = static_cast<int>(desc.cols);
  p.matrices = desc.batch;
  p.count = desc.batch * desc.rows * desc.cols;
  p.grid.group_rows = desc.group_rows > 1 ? desc.group_rows : 1;
  p.grid.group_columns = desc.group_cols != 0 ? desc.group_cols : static_cast<uint32_t>(desc.cols);
  p.grid.rows = (desc.rows + p.grid.group_rows - 1) / p.grid.group_rows;
  p.grid.columns = (desc.cols + p.grid.group_columns - 1) / p.grid.group_columns;
  uint64_t at = Align(p.matrices * static_cast<uint64_t>(p.layout.matrix_bytes()));
  const auto take = [&](uint64_t bytes) {
    const uint64_t here = at;
    at += Align(bytes);
    return here;
  };
  const bool lossless = p.layout.packing == Packing::kLossless12;
  if (lossless) {
    p.overflow_capacity = p.count / 4096 + 256;
    p.first = take((p.matrices * static_cast<uint64_t>(p.layout.blocks()) + 1) * 4);
    p.overflow = take(p.overflow_capacity * sizeof(Overflow));
  } else if (p.layout.group == 0) {
    p.row_scales = take(p.matrices * desc.rows * 4);
    if (desc.has_offset != 0) p.row_offsets = take(p.matrices * desc.rows * 4);
  }
  p.bytes = at;
  // A kernel's ring needs two slots of the widest panel with 64 input rows.
  *plan = p;
  return DSOPT_OK;
}

dsopt_status StartEncoded(dsopt_be_weight* weight, const EncodedPlan& plan) {
  uint8_t* base = static_cast<uint8_t*>(weight->memory);
  PackedWeight& packed = weight->packed;
  packed.layout = plan.layout;
  packed.matrices = static_cast<int>(plan.matrices);
  packed.data = base;
  if (plan.row_scales != 0) packed.row_scales = reinterpret_cast<float*>(base + plan.row_scales);
  if (plan.row_offsets != 0) packed.row_offsets = reinterpret_cast<float*>(base + plan.row_offsets);
  if (plan.first != 0) packed.overflow_first = reinterpret_cast<int*>(base + plan.first);
  if (plan.overflow != 0) packed.overflow = reinterpret_cast<Overflow*>(base + plan.overflow);
  weight->grid = plan.grid;
  weight->overflow_capacity = plan.overflow_capacity;
  return weight->device->Check(cudaMemsetAsync(base, 0, plan.bytes, weight->device->upload_stream),
                               weight->label);
}

dsopt_status WriteCodes(dsopt_be_weight* weight, uint64_t first, uint64_t count, const void* src) {
  const bool nibbles = weight->packed.layout.packing == Packing::kInt4;
  if (nibbles && (first % 2 != 0 || count % 2 != 0))
    return Fail(weight->device->host, DSOPT_E_INVALID_ARGUMENT,
                "%s: codes %llu + %llu written, even numbers expected", weight->label,
                static_cast<unsigned long long>(first), static_cast<unsigned long long>(count));
  const uint64_t per_byte = nibbles ? 2 : 1;
  const auto* from = static_cast<const char*>(src);
  return ThroughSlots(
      weight, count,
      [&](uint64_t done, char* slot, uint64_t* bytes) {
        const uint64_t now = std::min<uint64_t>(count - done, kUploadSlotBytes * per_byte);
        *bytes = now / per_byte;
        std::memcpy(slot, from + done / per_byte, *bytes);
        return now;
      },
      [&](uint64_t done, uint64_t now, const char* staged) {
        return PackCodes(weight->device->upload_stream, weight->packed.layout, weight->layout,
                         reinterpret_cast<const uint8_t*>(staged), first + done, now,
                         const_cast<uint8_t*>(weight->packed.data));
      });
}

dsopt_status WriteScales(dsopt_be_weight* weight, uint64_t first, uint64_t count, const float* scales,
                         const float* offsets) {
  dsopt_be_device* device = weight->device;
  const PackedLayout& layout = weight->packed.layout;
  const uint64_t total = weight->layout.batch * weight->grid.rows * weight->grid.columns;
  const bool wanted = layout.offsets || weight->packed.row_offsets != nullptr;
  if (weight->elem != Elem::kPacked || layout.packing == Packing::kLossless12)
    return Fail(device->host, DSOPT_E_INVALID_ARGUMENT, "%s: it has no scales", weight->label);
  if (scales == nullptr || (offsets != nullptr) != wanted || first > total || count > total - first)
    return Fail(device->host, DSOPT_E_INVALID_ARGUMENT,
                "%s: scales %llu + %llu %s offsets written, it has %llu %s", weight->label,
                static_cast<unsigned long long>(first), static_cast<unsigned long long>(count),
                offsets != nullptr ? "with" : "without", static_cast<unsigned long long>(total),
                wanted ? "with" : "without");
  const ScopedDevice current(device->index);
  constexpr uint64_t kPiece = kUploadSlotBytes / 8;
  return ThroughSlots(
      weight, count,
      [&](uint64_t done, char* slot, uint64_t* bytes) {
        const uint64_t now = std::min(count - done, kPiece);
        std::memcpy(slot, scales + done, now * 4);
        if (wanted) std::memcpy(slot + now * 4, offsets + done, now * 4);
        *bytes = now * (wanted ? 8 : 4);
        return now;
      },
      [&](uint64_t done, uint64_t now, const char* staged) {
        const auto* values = reinterpret_cast<const float*>(staged);
        return PackScales(
            device->upload_stream, layout, weight->layout, weight->grid, values,
            wanted ? values + now : nullptr, first + done, now, const_cast<uint8_t*>(weight->packed.data),
            const_cast<float*>(weight->packed.row_scales), const_cast<float*>(weight->packed.row_offsets));
      });
}

dsopt_status FillEncoded(dsopt_be_weight* weight, uint64_t seed, float mean, float stddev) {
  dsopt_be_device* device = weight->device;
  if (weight->packed.layout.packing != Packing::kLossless12)
    return device->Check(
        FillCodes(device->upload_stream, weight->packed.layout, weight->layout, weight->grid, seed, stddev,
                  const_cast<uint8_t*>(weight->packed.data), const_cast<float*>(weight->packed.row_scales),
                  const_cast<float*>(weight->packed.row_offsets)),
        weight->label);
  if (weight->written_count != 0)
    return Fail(device->host, DSOPT_E_INVALID_STATE, "%s: elements were written twice", weight->label);
  DSOPT_CUDA_RETURN_IF_ERROR(StartRaw(weight));
  DSOPT_CUDA_RETURN_IF_ERROR(device->Check(
      FillSmooth(device->upload_stream, weight->count, seed, mean, stddev, weight->data), weight->label));
  DSOPT_CUDA_RETURN_IF_ERROR(PackRaw(weight));
  weight->written_count = weight->count;
  return DSOPT_OK;
}

dsopt_status StartRaw(dsopt_be_weight* weight) {
  if (weight->data != nullptr || weight->written_count == weight->count) return DSOPT_OK;
  return weight->device->Allocate(weight->count * 2, weight->label, &weight->data);
}

dsopt_status PackRaw(dsopt_be_weight* weight) {
  dsopt_be_device* device = weight->device;
  PackedWeight& packed = weight->packed;
  cudaStream_t stream = device->upload_stream;
  const int blocks = packed.matrices * packed.layout.blocks();
  int* first = const_cast<int*>(packed.overflow_first);
  int total = 0;
  cudaError_t error = PackLossless12(stream, packed.layout, packed.matrices, weight->data,
                                     const_cast<uint8_t*>(packed.data), first, nullptr);
  if (error == cudaSuccess) error = ExclusiveSum(stream, first, blocks);
  if (error == cudaSuccess) error = cudaMemcpyAsync(&total, first + blocks, 4, cudaMemcpyDeviceToHost, stream);
  if (error == cudaSuccess) error = cudaStreamSynchronize(stream);
  const bool fits = static_cast<uint64_t>(total) <= weight->overflow_capacity;
  if (error == cudaSuccess && fits)
    error = PackLossless12(stream, packed.layout, packed.matrices, weight->data,
                           const_cast<uint8_t*>(packed.data), first, const_cast<Overflow*>(packed.overflow));
  if (error == cudaSuccess) error = cudaStreamSynchronize(stream);
  DSOPT_CUDA_RETURN_IF_ERROR(device->Check(error, weight->label));  // the rows stay: the last write may come again
  if (!fits)
    return Fail(device->host, DSOPT_E_UNSUPPORTED,
                "%s: %d weights outside of their windows find no slot, %llu expected at most: keep it as bf16",
                weight->label, total, static_cast<unsigned long long>(weight->overflow_capacity));
  device->Free(weight->data, weight->count * 2);
  weight->data = nullptr;
  if (total == 0) packed.overflow_first = nullptr;  // kernels then look for none
  return DSOPT_OK;
}

}  // namespace dsopt_cuda
