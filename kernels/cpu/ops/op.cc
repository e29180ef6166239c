// op.cc - the entries of the table, and staging of operands. See op.h.
#include "ops/op.h"

#include <cstring>

namespace dsopt_cpu {
namespace {

dsopt_status Dispatch(OpContext* c, dsopt_op op, const void* args) {
  switch (op) {
    case DSOPT_OP_RMSNORM:
      return OpRmsNorm(c, *static_cast<const dsopt_rmsnorm_args*>(args));
    case DSOPT_OP_LINEAR:
      return OpLinear(c, *static_cast<const dsopt_linear_args*>(args));
    case DSOPT_OP_QKV:
      return OpQkv(c, *static_cast<const dsopt_qkv_args*>(args));
    case DSOPT_OP_ATTENTION:
      return OpAttention(c, *static_cast<const dsopt_attention_args*>(args));
    case DSOPT_OP_GATED_MLP:
      return OpGatedMlp(c, *static_cast<const dsopt_gated_mlp_args*>(args));
    case DSOPT_OP_MOE:
      return OpMoe(c, *static_cast<const dsopt_moe_args*>(args));
    case DSOPT_OP_SAMPLE:
      return OpSample(c, *static_cast<const dsopt_sample_args*>(args));
    default:
      return Fail(c->device->host, DSOPT_E_UNSUPPORTED, "cpu: operator %d is unknown", static_cast<int>(op));
  }
}

}  // namespace

dsopt_status OpPointer(dsopt_be_device*, const void*) { return DSOPT_OK; }

dsopt_status OpWorkspace(dsopt_be_device* device, dsopt_op op, const void* args, uint64_t* bytes,
                         const char** kernel) {
  OpContext context = {device, *device->kernels, Arena(nullptr)};
  const dsopt_status status = Dispatch(&context, op, args);
  if (status != DSOPT_OK) return status;
  *bytes = context.arena.bytes();
  *kernel = device->kernels->name;
  return DSOPT_OK;
}

dsopt_status OpRun(dsopt_be_device* device, dsopt_op op, const void* args, const dsopt_launch* launch) {
  if (launch->workspace == nullptr) {  // would count instead of work
    return Fail(device->host, DSOPT_E_INVALID_ARGUMENT, "cpu: workspace is NULL, every operator needs one");
  }
  OpContext context = {device, *device->kernels, Arena(launch->workspace)};
  return Dispatch(&context, op, args);
}

void Widen(const void* src, Storage storage, uint64_t count, float* dst) {
  if (storage == kF32) {
    std::memcpy(dst, src, count * 4);
    return;
  }
  const uint16_t* from = static_cast<const uint16_t*>(src);
  if (storage == kBf16) {
    for (uint64_t i = 0; i < count; ++i) dst[i] = FloatFromBf16(from[i]);
  } else {
    for (uint64_t i = 0; i < count; ++i) dst[i] = FloatFromF16(from[i]);
  }
}

const float* StageVector(OpContext* c, const dsopt_tensor* vector) {
  if (vector == nullptr) return nullptr;
  const uint64_t count = Extent(vector, 0);
  float* staged = c->arena.Take<float>(count + 64);
  if (c->arena.counting()) return staged;
  Widen(vector->data, StorageOf(vector->dtype), count, staged);
  std::memset(staged + count, 0, 64 * sizeof(float));
  return staged;
}

bool HalfProducts(const OpContext& c, dsopt_dtype activations, dsopt_dtype weights) {
  return c.k.linear_bf16 != nullptr && activations == DSOPT_BF16 && weights == DSOPT_BF16;
}

StagedRows PlanRows(OpContext* c, const dsopt_tensor* x, bool half) {
  const uint64_t values = Extent(x, 1);
  const bool direct = values % 2 == 0 && (x->dtype == DSOPT_F32 || half);
  if (direct) return {{Bytes(x), Pitch(x, 0), half}, nullptr};
  const uint64_t row_bytes = RowBytes(values, half);
  uint8_t* copy = c->arena.Take<uint8_t>(Extent(x, 0) * row_bytes);
  return {{copy, row_bytes, half}, copy};
}

void FillRows(const OpContext& c, const dsopt_tensor* x, const StagedRows& staged) {
  if (staged.copy == nullptr) return;
  const uint64_t values = Extent(x, 1);
  ForEach(c, Extent(x, 0), [&](uint64_t row, uint32_t) {
    const uint8_t* from = Bytes(x) + row * Pitch(x, 0);
    uint8_t* to = staged.copy + row * staged.rows.row_bytes;
    if (staged.rows.half) {
      std::memcpy(to, from, values * 2);
      std::memset(to + values * 2, 0, 2);
    } else {
      float* wide = reinterpret_cast<float*>(to);
      Widen(from, StorageOf(x->dtype), values, wide);
      if (values % 2 != 0) wide[values] = 0.0f;
    }
  });
}

}  // namespace dsopt_cpu
