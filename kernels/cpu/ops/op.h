// op.h - what the operators of dsopt/ops.h share on the CPU: the caller's workspace, the threads, staged
// operands, products with row-major weights. Arguments come checked. Nothing here allocates.
//
// An operator runs twice: once with a counting arena, which ends where the work would begin, and once for good.
#ifndef DSOPT_CPU_OPS_OP_H_
#define DSOPT_CPU_OPS_OP_H_

#include <atomic>

#include "device.h"

namespace dsopt_cpu {

class Arena {
 public:
  explicit Arena(void* base) : base_(reinterpret_cast<uintptr_t>(base)) {}
  bool counting() const { return base_ == 0; }
  uint64_t bytes() const { return bytes_; }
  // Room for `count` values, 64-byte aligned. While counting the pointer means nothing.
  template <typename T>
  T* Take(uint64_t count) {
    T* memory = reinterpret_cast<T*>(base_ + bytes_);
    bytes_ += RoundUp(count * sizeof(T), 64);
    return memory;
  }

 private:
  uintptr_t base_;
  uint64_t bytes_ = 0;
};

struct OpContext {
  dsopt_be_device* device;
  const Kernels& k;
  Arena arena;

  uint32_t threads() const { return device->pool->threads(); }
};

// body(index, slot) for every index below count, on the device's threads; slot < threads(), one thread each.
template <typename Body>
void ForEach(const OpContext& c, uint64_t count, const Body& body) {
  c.device->pool->ForEach(count, body);
}

inline Storage StorageOf(dsopt_dtype dtype) {
  return dtype == DSOPT_F32 ? kF32 : dtype == DSOPT_F16 ? kF16 : kBf16;
}
inline uint8_t* Bytes(const dsopt_tensor* t) { return static_cast<uint8_t*>(t->data); }
// Distance of two neighbours of dimension `dim`.
inline uint64_t Pitch(const dsopt_tensor* t, uint32_t dim) {
  return static_cast<uint64_t>(t->stride[dim]) * StorageBytes(StorageOf(t->dtype));
}
inline uint64_t Extent(const dsopt_tensor* t, uint32_t dim) { return static_cast<uint64_t>(t->shape[dim]); }

// `count` stored values as f32.
void Widen(const void* src, Storage storage, uint64_t count, float* dst);
// A vector as f32 with at least 64 zeros behind, in the arena; NULL stays NULL.
const float* StageVector(OpContext* c, const dsopt_tensor* vector);

// Rows of activations as a product takes them: f32 or bf16, with a zero behind an odd row where the pairs of
// bf16 weights want one.
struct InputRows {
  const uint8_t* data;
  uint64_t row_bytes;
  bool half;  // bf16
};
// True if products of these rows with these weights multiply bf16 pairs.
bool HalfProducts(const OpContext& c, dsopt_dtype activations, dsopt_dtype weights);
inline uint64_t RowBytes(uint64_t values, bool half) {
  return RoundUp(RoundUp(values, 2) * (half ? 2 : 4), 64);
}
// Decides between the caller's rows and a copy; FillRows makes the copy.
struct StagedRows {
  InputRows rows;
  uint8_t* copy;  // NULL: none
};
StagedRows PlanRows(OpContext* c, const dsopt_tensor* x, bool half);
void FillRows(const OpContext& c, const dsopt_tensor* x, const StagedRows& staged);

// out[row] = act(in[row] W^T + bias), or act(gate) * up, for one matrix or, with slots by expert, for many.
struct Product {
  const uint8_t* weight;  // [matrices, outputs, inputs], dense; gate: outputs are gate rows, then up rows
  Storage storage;
  uint64_t outputs, inputs;
  bool gate;
  dsopt_activation activation;
  const dsopt_tensor* bias;  // [outputs], not with gate; NULL: none
  InputRows in;
  uint8_t* out;
  Storage out_storage;  // kF32 or kBf16
  uint64_t out_row_bytes;
  uint64_t rows;  // all slots of a mixture
  // Mixture: matrix e has rows order[first[e]] .. order[first[e + 1] - 1]; the input of slot s is row s /
  // in_div.
  uint64_t matrices;
  const uint32_t* order;  // NULL: one matrix, row i is row i
  const uint32_t* first;
  uint32_t in_div;
};

// Scratch of all threads for products; one serves every product of a call.
struct ProductScratch {
  uint8_t* base;
  uint64_t* unit_first;  // [matrices + 1]
};
ProductScratch PlanProducts(OpContext* c, uint64_t matrices);
void RunProduct(const OpContext& c, const Product& product, const ProductScratch& scratch);

dsopt_status OpRmsNorm(OpContext* c, const dsopt_rmsnorm_args& a);
dsopt_status OpLinear(OpContext* c, const dsopt_linear_args& a);
dsopt_status OpQkv(OpContext* c, const dsopt_qkv_args& a);
dsopt_status OpAttention(OpContext* c, const dsopt_attention_args& a);
dsopt_status OpGatedMlp(OpContext* c, const dsopt_gated_mlp_args& a);
dsopt_status OpMoe(OpContext* c, const dsopt_moe_args& a);
dsopt_status OpSample(OpContext* c, const dsopt_sample_args& a);

// Entries of the table.
dsopt_status OpPointer(dsopt_be_device* device, const void* memory);
dsopt_status OpWorkspace(dsopt_be_device* device, dsopt_op op, const void* args, uint64_t* bytes,
                         const char** kernel);
dsopt_status OpRun(dsopt_be_device* device, dsopt_op op, const void* args, const dsopt_launch* launch);

}  // namespace dsopt_cpu
#endif  // DSOPT_CPU_OPS_OP_H_
