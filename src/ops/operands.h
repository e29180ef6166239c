// operands.h - the operands of one operator call: reads their views, holds them to what the operator expects,
// and at the end to what all operators expect (alignment, kind of memory, no overlap). Computes nothing,
// allocates nothing unless something is wrong.
#ifndef DSOPT_OPS_OPERANDS_H_
#define DSOPT_OPS_OPERANDS_H_

#include <initializer_list>

#include "base/status.h"
#include "device/device.h"

namespace dsopt {

inline constexpr int64_t kAnyExtent = -1;
inline constexpr int64_t kMaxExtent = INT32_MAX;  // of a shape: kernels count in 32 bits

// Sets of dtypes, as bits by value.
constexpr uint32_t DtypeBit(dsopt_dtype dtype) { return 1u << dtype; }
inline constexpr uint32_t kActivationTypes = DtypeBit(DSOPT_F32) | DtypeBit(DSOPT_BF16);
inline constexpr uint32_t kWeightTypes = kActivationTypes | DtypeBit(DSOPT_F16);
inline constexpr uint32_t kFloatType = DtypeBit(DSOPT_F32);
inline constexpr uint32_t kIndexType = DtypeBit(DSOPT_I32);

uint64_t DtypeBytes(dsopt_dtype dtype);  // of the types above

enum class Access : uint8_t { kRead, kWrite, kReadWrite };

struct Expected {
  uint32_t dtypes;
  std::initializer_list<int64_t> shape;  // kAnyExtent: any
  Access access = Access::kRead;
  bool dense = false;
};

class Operands {
 public:
  // op: for messages.
  Operands(const char* op, const Device& device);
  Operands(const Operands&) = delete;
  Operands& operator=(const Operands&) = delete;

  // The view `in` as *out: complete, strides explicit, alive as long as this object. An Optional one stays
  // NULL.
  Status Required(const char* name, const dsopt_tensor* in, const Expected& expected, const dsopt_tensor** out);
  Status Optional(const char* name, const dsopt_tensor* in, const Expected& expected, const dsopt_tensor** out);
  // A plain dense array. NULL is accepted.
  Status Array(const char* name, const void* data, uint64_t count, uint64_t element_bytes);
  // Scratch of the call: written, of any alignment that is a multiple of `alignment`.
  Status Workspace(void* data, uint64_t bytes, uint64_t alignment);
  // `output` may be the same view as `input`.
  void AllowSame(const dsopt_tensor* output, const dsopt_tensor* input);

  // Everything about addresses. After the last operand.
  Status CheckMemory() const;

  // "op.name: ..." as DSOPT_E_INVALID_ARGUMENT (Wrong) or DSOPT_E_UNSUPPORTED.
  Status Wrong(const char* name, const char* format, ...) const __attribute__((format(printf, 3, 4)));
  Status Unsupported(const char* name, const char* format, ...) const __attribute__((format(printf, 3, 4)));

  bool on_host() const { return device_.info().kind == DSOPT_DEVICE_CPU; }

 private:
  static constexpr uint32_t kMaxOperands = 20;  // of any operator, with its workspace
  struct Entry {
    const char* name;
    dsopt_tensor view;
    uint64_t element_bytes;
    uint64_t extent_bytes;  // from the first to behind the last element
    uint64_t alignment;
    Access access;
    int same_as;  // index of the operand that it may be; -1: none
  };

  Status CheckView(const Entry& entry, const Expected& expected) const;
  Status CheckDistinct(const Entry& entry) const;
  Status CheckPointer(const Entry& entry) const;
  Status AddView(const char* name, const dsopt_tensor* in, const Expected& expected, const dsopt_tensor** out);

  const char* op_;
  const Device& device_;
  uint32_t count_ = 0;
  Entry entries_[kMaxOperands];
};

}  // namespace dsopt
#endif  // DSOPT_OPS_OPERANDS_H_
