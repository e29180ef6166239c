// product.cc - see product.h.
#include "ops/product.h"

namespace dsopt_cuda {

bool HalfProduct(dsopt_dtype activations, const dsopt_tensor* weight) {
  return activations == DSOPT_BF16 && weight->dtype == DSOPT_BF16 && weight->shape[weight->ndim - 1] % 8 == 0;
}

Input PlanInput(OpContext* c, const dsopt_tensor* x, bool half) {
  const int64_t rows = x->shape[0], cols = x->shape[1], stride = x->stride[0];
  const bool direct = half ? stride % 8 == 0 : x->dtype == DSOPT_F32 && (cols % 4 != 0 || stride % 4 == 0);
  if (direct) return {x, x->data, stride, half, nullptr};
  void* copy = half ? static_cast<void*>(c->arena.Take<uint16_t>(static_cast<uint64_t>(rows * cols)))
                    : static_cast<void*>(c->arena.Take<float>(static_cast<uint64_t>(rows * cols)));
  return {x, copy, cols, half, copy};
}

cudaError_t FillInput(const OpContext& c, const Input& input) {
  if (input.copy == nullptr) return cudaSuccess;
  const dsopt_tensor* x = input.x;
  return ConvertRows(
      c.launch, {x->data, ElemOf(x->dtype), x->stride[0], input.copy, input.half ? Elem::kBf16 : Elem::kF32,
                 input.stride, x->shape[0], Extent(x, 1), DSOPT_ACT_NONE});
}

Vector PlanVector(OpContext* c, const dsopt_tensor* vector) {
  if (vector == nullptr) return {nullptr, nullptr, nullptr};
  if (vector->dtype == DSOPT_F32) return {vector, static_cast<const float*>(vector->data), nullptr};
  float* copy = c->arena.Take<float>(static_cast<uint64_t>(vector->shape[0]));
  return {vector, copy, copy};
}

cudaError_t FillVector(const OpContext& c, const Vector& vector) {
  if (vector.copy == nullptr) return cudaSuccess;
  const int count = Extent(vector.given, 0);
  return ConvertRows(c.launch, {vector.given->data, ElemOf(vector.given->dtype), count, vector.copy, Elem::kF32,
                                count, 1, count, DSOPT_ACT_NONE});
}

LinearArgs ProductOf(const dsopt_tensor* weight, const void* in, int64_t in_stride, bool half, int rows,
                     void* out) {
  LinearArgs a{};
  a.weight = weight->data;
  a.elem = ElemOf(weight->dtype);
  a.n = Extent(weight, weight->ndim - 2);
  a.k = Extent(weight, weight->ndim - 1);
  a.weight_stride = static_cast<int64_t>(a.n) * a.k;
  a.in = in;
  a.in_row_stride = in_stride;
  a.out = out;
  a.out_row_stride = a.n;
  a.rows = rows;
  a.batch = 1;
  a.epilogue = Epilogue::kStore;
  a.bf16 = half;
  a.out_f32 = true;
  a.in_div = 1;
  return a;
}

namespace {

struct Variant {
  cudaError_t (*run)(const Launch& launch, const LinearArgs& args);
  const char* name;
};

Variant VariantFor(const Limits& limits, const LinearArgs& a) {
  if (!a.bf16) return {LinearReference, "linear_reference"};
  if (a.sorted_slots != nullptr) return {LinearTiles, "linear_tiles"};
  if (GemvSupported(limits, a)) return {LinearGemv, "linear_gemv"};
  if (a.slot_expert != nullptr || a.rows <= kSkinnyRows) return {LinearSkinny, "linear_skinny"};
  return {LinearTiles, "linear_tiles"};
}

}  // namespace

cudaError_t RunProduct(const Launch& launch, const LinearArgs& args, const char** name) {
  const Variant variant = VariantFor(*launch.limits, args);
  *name = variant.name;
  return variant.run(launch, args);
}

const char* ProductName(const Limits& limits, const LinearArgs& args) { return VariantFor(limits, args).name; }

cudaError_t StoreRows(const OpContext& c, const float* rows, const dsopt_tensor* out,
                      dsopt_activation activation) {
  const int cols = Extent(out, 1);
  return ConvertRows(c.launch, {rows, Elem::kF32, cols, out->data, ElemOf(out->dtype), out->stride[0],
                                out->shape[0], cols, activation});
}

}  // namespace dsopt_cuda
