// weight.cc - shape checks, allocation and life of a tensor. How it is laid out: pack.cc.
#include "weight.h"

#include <cmath>
#include <cstdio>
#include <cstring>
#include <new>

#include "coded.h"
#include "fill.h"
#include "lossless.h"

namespace dsopt_cpu {
namespace {

bool ToStorage(dsopt_dtype dtype, Storage* storage) {
  switch (dtype) {
    case DSOPT_F32:
      *storage = kF32;
      return true;
    case DSOPT_F16:
      *storage = kF16;
      return true;
    case DSOPT_BF16:
      *storage = kBf16;
      return true;
    default:
      return false;
  }
}

// Fills everything of *w but memory. Fails with a message.
dsopt_status Describe(dsopt_be_device* device, const dsopt_weight_desc* desc, dsopt_be_weight* w) {
  dsopt_weight_desc d;
  if (!CopyStruct(desc, &d))
    return Fail(device->host, DSOPT_E_INVALID_ARGUMENT, "weight: the description has no size");
  std::snprintf(w->name, sizeof(w->name), "%s", d.name != nullptr ? d.name : "(no name)");
  if (d.encoding == DSOPT_ENCODING_PLAIN && !ToStorage(d.dtype, &w->written)) {
    return Fail(device->host, DSOPT_E_UNSUPPORTED, "weight '%s': dtype %d, F32, F16 or BF16 expected", w->name,
                static_cast<int>(d.dtype));
  }
  if (const char* wrong = dsopt_shared::WeightShapeError(d)) {
    return Fail(device->host, DSOPT_E_INVALID_ARGUMENT, "weight '%s': kind %d, shape [%llu, %llu, %llu]: %s",
                w->name, static_cast<int>(d.kind), static_cast<unsigned long long>(d.batch),
                static_cast<unsigned long long>(d.rows), static_cast<unsigned long long>(d.cols), wrong);
  }
  w->device = device;
  w->kind = d.kind;
  w->tied = d.kind == DSOPT_WEIGHT_EMBEDDING && d.tied != 0;
  w->batch = d.batch;
  w->rows = d.rows;
  w->cols = d.cols;
  w->outputs = d.kind == DSOPT_WEIGHT_TRANSPOSED ? d.cols : d.rows;
  w->inputs = d.kind == DSOPT_WEIGHT_TRANSPOSED ? d.rows : d.cols;
  w->tiles = d.kind == DSOPT_WEIGHT_GATE_UP ? DivUp(w->outputs / 2, 32) : DivUp(w->outputs, kTileRows);
  if (d.encoding != DSOPT_ENCODING_PLAIN) return DescribeCoded(device, d, w);
  DescribePlain(w);
  return DSOPT_OK;
}

bool HasPadding(const dsopt_be_weight& w) {
  if (w.coded.on) return true;
  if (!w.packed) return w.kind == DSOPT_WEIGHT_VECTOR;
  const uint64_t per_tile = w.kind == DSOPT_WEIGHT_GATE_UP ? w.outputs / 2 % 32 : w.outputs % kTileRows;
  return per_tile != 0 || (w.storage == kBf16 && w.inputs % 2 != 0);
}

}  // namespace

void DescribePlain(dsopt_be_weight* w) {
  const bool widen = w->kind == DSOPT_WEIGHT_VECTOR || w->kind == DSOPT_WEIGHT_ROUTER;
  w->storage = widen ? kF32 : w->written;
  w->packed = w->kind != DSOPT_WEIGHT_VECTOR && !(w->kind == DSOPT_WEIGHT_EMBEDDING && w->tied == 0);
  if (w->kind == DSOPT_WEIGHT_VECTOR) {
    w->bytes = (RoundUp(w->cols, 64) + 64) * 4;
  } else if (!w->packed) {
    w->bytes = RoundUp(w->rows * w->cols * StorageBytes(w->storage), 64);
  } else {
    w->steps = w->storage == kBf16 ? DivUp(w->inputs, 2) : w->inputs;
    w->tile_bytes = w->steps * kTileRows * (w->storage == kF16 ? 2 : 4);
    w->matrix_bytes = w->tiles * w->tile_bytes;
    w->bytes = w->batch * w->matrix_bytes;
  }
}

dsopt_status WeightBytes(dsopt_be_device* device, const dsopt_weight_desc* desc, uint64_t* bytes) {
  dsopt_be_weight w = {};
  const dsopt_status status = Describe(device, desc, &w);
  if (status != DSOPT_OK) return status;
  if (bytes == nullptr)
    return Fail(device->host, DSOPT_E_INVALID_ARGUMENT, "weight '%s': bytes is NULL", w.name);
  *bytes = w.bytes;
  return DSOPT_OK;
}

dsopt_status WeightCreate(dsopt_be_device* device, const dsopt_weight_desc* desc, dsopt_be_weight** out) {
  dsopt_be_weight w = {};
  dsopt_status status = Describe(device, desc, &w);
  if (status != DSOPT_OK) return status;
  if (out == nullptr) return Fail(device->host, DSOPT_E_INVALID_ARGUMENT, "weight '%s': out is NULL", w.name);
  *out = nullptr;
  status = Charge(device, w.bytes, w.name);
  if (status != DSOPT_OK) return status;
  const uint64_t data_bytes = w.coded.on ? w.batch * w.matrix_bytes : w.bytes;
  status = Allocate(device->host, sizeof(w), w.name, &w.memory);
  if (status == DSOPT_OK) status = Allocate(device->host, data_bytes, w.name, &w.values);
  if (status == DSOPT_OK && w.coded.code == kLossless12) status = CreateLossless(&w);
  if (status != DSOPT_OK) {
    Release(device->host, &w.values);
    Release(device->host, &w.memory);
    Refund(device, w.bytes);
    return status;
  }
  w.data = w.values.data;
  if (HasPadding(w)) std::memset(w.data, 0, w.values.bytes);
  *out = new (w.memory.data) dsopt_be_weight(w);
  return DSOPT_OK;
}

dsopt_status WeightWrite(dsopt_be_weight* weight, uint64_t first_element, uint64_t count, const void* src) {
  const uint64_t elements = weight->batch * weight->rows * weight->cols;
  if (count > elements || first_element > elements - count || (src == nullptr && count > 0)) {
    return Fail(weight->device->host, DSOPT_E_INVALID_ARGUMENT,
                "weight '%s': write of elements [%llu, +%llu) of %llu from %s", weight->name,
                static_cast<unsigned long long>(first_element), static_cast<unsigned long long>(count),
                static_cast<unsigned long long>(elements), src == nullptr ? "NULL" : "memory");
  }
  if (!weight->coded.on) {
    PackElements(weight, first_element, count, src);
    return DSOPT_OK;
  }
  if (weight->coded.code == kLossless12) return PackLossless(weight, first_element, count, src);
  if (weight->coded.code == kInt4 && (first_element % 2 != 0 || count % 2 != 0)) {
    return Fail(weight->device->host, DSOPT_E_INVALID_ARGUMENT,
                "weight '%s': write of int4 elements [%llu, +%llu), even numbers expected", weight->name,
                static_cast<unsigned long long>(first_element), static_cast<unsigned long long>(count));
  }
  PackCodes(weight, first_element, count, static_cast<const uint8_t*>(src));
  return DSOPT_OK;
}

namespace {

struct FillJob {
  dsopt_be_weight* weight;
  uint64_t seed;
  float mean, stddev;
  uint64_t elements, piece;  // piece: elements of one claim
  uint8_t* scratch;          // piece elements per thread
  std::atomic<uint64_t> next;
};

void Encode(float value, float* dst) { *dst = value; }
struct Half {
  uint16_t bits;
};
void Encode(float value, Half* dst) { dst->bits = F16FromFloat(value); }
struct Brain {
  uint16_t bits;
};
void Encode(float value, Brain* dst) {  // finite: no NaN to keep
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  dst->bits = static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// Elements [first, first + count); first is even.
template <typename T>
void FillRun(const FillJob& job, uint64_t first, uint64_t count, T* dst) {
  for (uint64_t i = 0; i < count; i += 2) {
    const uint64_t bits = FillBits(job.seed, (first + i) / 2);
    Encode(FillValue(static_cast<uint32_t>(bits), job.mean, job.stddev), dst + i);
    if (i + 1 < count) Encode(FillValue(static_cast<uint32_t>(bits >> 32), job.mean, job.stddev), dst + i + 1);
  }
}

void FillPieces(void* context, uint32_t slot) {
  FillJob* job = static_cast<FillJob*>(context);
  const Storage storage = job->weight->written;
  uint8_t* scratch = job->scratch + slot * job->piece * StorageBytes(storage);
  while (true) {
    const uint64_t first = job->next.fetch_add(job->piece);
    if (first >= job->elements) return;
    const uint64_t count = Min(job->piece, job->elements - first);
    if (storage == kF32) FillRun(*job, first, count, reinterpret_cast<float*>(scratch));
    if (storage == kF16) FillRun(*job, first, count, reinterpret_cast<Half*>(scratch));
    if (storage == kBf16) FillRun(*job, first, count, reinterpret_cast<Brain*>(scratch));
    PackElements(job->weight, first, count, scratch);
  }
}

}  // namespace

dsopt_status WeightFill(dsopt_be_weight* weight, uint64_t seed, float mean, float stddev) {
  if (!std::isfinite(mean) || !std::isfinite(stddev)) {
    return Fail(weight->device->host, DSOPT_E_INVALID_ARGUMENT, "weight '%s': fill with mean %g, stddev %g",
                weight->name, static_cast<double>(mean), static_cast<double>(stddev));
  }
  if (weight->coded.on) return FillCoded(weight, seed, mean, stddev);
  FillJob job{weight, seed, mean, stddev, weight->batch * weight->rows * weight->cols, 0, nullptr, {}};
  job.piece = Min(job.elements, weight->cols * Max<uint64_t>(16, RoundUp(65536 / weight->cols, 16)));
  Memory memory;
  const uint64_t bytes = job.piece * StorageBytes(weight->written) * weight->device->pool->threads();
  const dsopt_status status = Allocate(weight->device->host, bytes, "weight_fill", &memory);
  if (status != DSOPT_OK) return status;
  job.scratch = memory.data;
  weight->device->pool->Run(FillPieces, &job);
  Release(weight->device->host, &memory);
  return DSOPT_OK;
}

dsopt_status WeightFinish(dsopt_be_device*) { return DSOPT_OK; }

void WeightDestroy(dsopt_be_weight* weight) {
  if (weight == nullptr) return;
  dsopt_be_device* device = weight->device;
  DestroyLossless(weight);
  Refund(device, weight->bytes);
  Release(device->host, &weight->values);
  Memory memory = weight->memory;
  Release(device->host, &memory);
}

}  // namespace dsopt_cpu
