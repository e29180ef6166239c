// product.h - products with weights as they lie in the caller's memory: row-major is what every kernel reads,
// so only activations are ever staged.
#ifndef DSOPT_CUDA_OPS_PRODUCT_H_
#define DSOPT_CUDA_OPS_PRODUCT_H_

#include "ops/op.h"

namespace dsopt_cuda {

// Rows of activations as a product takes them: bf16 with 16-byte aligned rows, or f32.
struct Input {
  const dsopt_tensor* x;
  const void* data;
  int64_t stride;
  bool half;   // bf16, for the tensor-core kernels
  void* copy;  // null: the caller's rows serve
};
// True if the tensor-core kernels can multiply activations of this type with these weights.
bool HalfProduct(dsopt_dtype activations, const dsopt_tensor* weight);
Input PlanInput(OpContext* c, const dsopt_tensor* x, bool half);
cudaError_t FillInput(const OpContext& c, const Input& input);

// A vector as f32: the caller's, or a copy; null stays null.
struct Vector {
  const dsopt_tensor* given;
  const float* data;
  float* copy;
};
Vector PlanVector(OpContext* c, const dsopt_tensor* vector);
cudaError_t FillVector(const OpContext& c, const Vector& vector);

// y = in W^T for one matrix of `weight` [.., n, k], f32 results at `out`. The caller sets what is different.
LinearArgs ProductOf(const dsopt_tensor* weight, const void* in, int64_t in_stride, bool half, int rows,
                     void* out);
// Runs it with the best kernel; *name receives which.
cudaError_t RunProduct(const Launch& launch, const LinearArgs& args, const char** name);
const char* ProductName(const Limits& limits, const LinearArgs& args);

// f32 rows to the caller's output.
cudaError_t StoreRows(const OpContext& c, const float* rows, const dsopt_tensor* out,
                      dsopt_activation activation);
// True if a product may write there itself.
inline bool StoresDirectly(const dsopt_tensor* out, bool half, dsopt_activation activation) {
  return activation == DSOPT_ACT_NONE && (half || out->dtype == DSOPT_F32);
}

}  // namespace dsopt_cuda
#endif  // DSOPT_CUDA_OPS_PRODUCT_H_
