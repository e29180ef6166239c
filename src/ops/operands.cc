// operands.cc - see operands.h.
#include "ops/operands.h"

#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <vector>

#include "base/checked.h"
#include "base/versioned.h"

namespace dsopt {
namespace {

constexpr uint64_t kDeviceAlignment = 16;  // of tensors on a GPU: its widest load

const char* DtypeName(dsopt_dtype dtype) {
  switch (dtype) {
    case DSOPT_F32:
      return "F32";
    case DSOPT_F16:
      return "F16";
    case DSOPT_BF16:
      return "BF16";
    case DSOPT_F8_E4M3:
      return "F8_E4M3";
    case DSOPT_I8:
      return "I8";
    case DSOPT_I32:
      return "I32";
    case DSOPT_U8:
      return "U8";
    default:
      return "none";
  }
}

std::string DtypeNames(uint32_t set) {
  std::string names;
  for (int i = DSOPT_F32; i <= DSOPT_U8; ++i) {
    const auto dtype = static_cast<dsopt_dtype>(i);
    if ((set & DtypeBit(dtype)) != 0) names += (names.empty() ? "" : " or ") + std::string(DtypeName(dtype));
  }
  return names;
}

template <typename Extents>
std::string ShapeText(const Extents& shape) {
  std::string text = "[";
  for (const int64_t extent : shape) {
    if (text.size() > 1) text += ", ";
    text += extent == kAnyExtent ? "any" : Format("%lld", static_cast<long long>(extent));
  }
  return text + "]";
}

std::string ShapeText(const dsopt_tensor& view) {
  return ShapeText(std::vector<int64_t>(view.shape, view.shape + view.ndim));
}

// Strides of a dense tensor. The extents are small enough to multiply only if this returns true.
bool DenseStrides(const dsopt_tensor& view, int64_t* strides) {
  int64_t stride = 1;
  for (uint32_t i = view.ndim; i > 0; --i) {
    strides[i - 1] = stride;
    const auto next = CheckedMul(stride, view.shape[i - 1]);
    if (!next) return false;
    stride = *next;
  }
  return true;
}

// Elements from the first to behind the last one.
std::optional<int64_t> Extent(const dsopt_tensor& view, uint32_t first_dim) {
  int64_t extent = 1;
  for (uint32_t i = first_dim; i < view.ndim; ++i) {
    const auto reach = CheckedMul(view.shape[i] - 1, view.stride[i]);
    if (!reach) return std::nullopt;
    const auto sum = CheckedAdd(extent, *reach);
    if (!sum) return std::nullopt;
    extent = *sum;
  }
  return extent;
}

// One dimension repeats a span of bytes at a fixed distance, and all outer dimensions move by multiples of it.
struct Lattice {
  uint64_t pitch, span;  // bytes; pitch 0: no such lattice
};
Lattice LatticeOf(const dsopt_tensor& view, uint64_t element_bytes, uint32_t dim) {
  const int64_t pitch = view.stride[dim];
  const auto span = Extent(view, dim + 1);
  if (pitch <= 0 || !span || *span > pitch) return {0, 0};
  for (uint32_t i = 0; i < dim; ++i) {
    if (view.stride[i] % pitch != 0) return {0, 0};
  }
  return {static_cast<uint64_t>(pitch) * element_bytes, static_cast<uint64_t>(*span) * element_bytes};
}

}  // namespace

uint64_t DtypeBytes(dsopt_dtype dtype) { return dtype == DSOPT_F32 || dtype == DSOPT_I32 ? 4 : 2; }

Operands::Operands(const char* op, const Device& device) : op_(op), device_(device) {}

namespace {

Status Described(dsopt_code code, const char* op, const char* name, const char* format, va_list args) {
  char text[400];
  std::vsnprintf(text, sizeof text, format, args);
  return Error(code, "%s.%s: %s", op, name, text);
}

}  // namespace

Status Operands::Wrong(const char* name, const char* format, ...) const {
  va_list args;
  va_start(args, format);
  Status status = Described(DSOPT_E_INVALID_ARGUMENT, op_, name, format, args);
  va_end(args);
  return status;
}

Status Operands::Unsupported(const char* name, const char* format, ...) const {
  va_list args;
  va_start(args, format);
  Status status = Described(DSOPT_E_UNSUPPORTED, op_, name, format, args);
  va_end(args);
  return status;
}

Status Operands::CheckView(const Entry& entry, const Expected& expected) const {
  const dsopt_tensor& view = entry.view;
  const bool known = view.dtype > DSOPT_DTYPE_DEFAULT && view.dtype <= DSOPT_U8;
  if (!known || (DtypeBit(view.dtype) & expected.dtypes) == 0) {
    const std::string types = DtypeNames(expected.dtypes);
    if (!known) {
      return Wrong(entry.name, "dtype %d, expected %s", static_cast<int>(view.dtype), types.c_str());
    }
    return Unsupported(entry.name, "dtype %s, expected %s", DtypeName(view.dtype), types.c_str());
  }
  if (view.reserved != 0) return Unsupported(entry.name, "reserved is %u, expected 0", view.reserved);
  bool fits = view.ndim == expected.shape.size() && view.ndim <= DSOPT_MAX_DIMS;
  if (!fits) {
    return Wrong(entry.name, "%u dimensions, expected %zu: %s", view.ndim, expected.shape.size(),
                 ShapeText(expected.shape).c_str());
  }
  uint32_t dim = 0;
  for (const int64_t extent : expected.shape) {
    const int64_t found = view.shape[dim++];
    fits = fits && found > 0 && (extent == kAnyExtent ? found <= kMaxExtent : found == extent);
  }
  if (!fits) {
    return Wrong(entry.name, "shape %s, expected %s of 1 to %lld each", ShapeText(view).c_str(),
                 ShapeText(expected.shape).c_str(), static_cast<long long>(kMaxExtent));
  }
  return Status();
}

// No two elements of an output share a place: by ascending stride, each dimension steps over all smaller ones.
Status Operands::CheckDistinct(const Entry& entry) const {
  const dsopt_tensor& view = entry.view;
  bool done[DSOPT_MAX_DIMS] = {};
  int64_t reach = 0;  // of the dimensions done, minus one
  for (uint32_t n = 0; n < view.ndim; ++n) {
    uint32_t next = view.ndim;
    for (uint32_t i = view.ndim; i > 0; --i) {
      if (!done[i - 1] && (next == view.ndim || view.stride[i - 1] < view.stride[next])) next = i - 1;
    }
    done[next] = true;
    if (view.shape[next] == 1) continue;
    if (view.stride[next] <= reach) {
      return Wrong(entry.name, "stride %lld of dimension %u, expected more than %lld: elements share a place",
                   static_cast<long long>(view.stride[next]), next, static_cast<long long>(reach));
    }
    reach += (view.shape[next] - 1) * view.stride[next];
  }
  return Status();
}

Status Operands::AddView(const char* name, const dsopt_tensor* in, const Expected& expected,
                         const dsopt_tensor** out) {
  if (count_ == kMaxOperands) return Error(DSOPT_E_INTERNAL, "%s: more than %u operands", op_, kMaxOperands);
  Entry& entry = entries_[count_];
  RETURN_IF_ERROR(ReadStruct(in, name, &entry.view));
  entry.name = name;
  entry.access = expected.access;
  entry.same_as = -1;
  RETURN_IF_ERROR(CheckView(entry, expected));
  dsopt_tensor& view = entry.view;
  for (uint32_t i = view.ndim; i < DSOPT_MAX_DIMS; ++i) view.shape[i] = view.stride[i] = 0;
  int64_t dense[DSOPT_MAX_DIMS] = {};
  bool all_zero = true;
  for (uint32_t i = 0; i < view.ndim; ++i) all_zero = all_zero && view.stride[i] == 0;
  if (!DenseStrides(view, dense)) return Wrong(name, "shape %s is too large", ShapeText(view).c_str());
  if (all_zero) std::memcpy(view.stride, dense, sizeof dense);
  for (uint32_t i = 0; i < view.ndim; ++i) {
    const bool wrong = i + 1 == view.ndim ? view.stride[i] != 1 : view.stride[i] < 0;
    if (wrong) {
      return Wrong(name, "stride %lld of dimension %u, expected %s", static_cast<long long>(view.stride[i]), i,
                   i + 1 == view.ndim ? "1" : "0 or more");
    }
    if (view.shape[i] == 1) view.stride[i] = dense[i];  // never used: nothing has to look out for it
    if (expected.dense && view.stride[i] != dense[i]) {
      return Wrong(name, "stride %lld of dimension %u, expected %lld: this operand is dense",
                   static_cast<long long>(view.stride[i]), i, static_cast<long long>(dense[i]));
    }
  }
  entry.element_bytes = DtypeBytes(view.dtype);
  const auto extent = Extent(view, 0);
  const auto bytes = extent ? CheckedMul(static_cast<uint64_t>(*extent), entry.element_bytes) : std::nullopt;
  if (!bytes || *bytes > INT64_MAX) return Wrong(name, "strides reach beyond 2^63 bytes");
  entry.extent_bytes = *bytes;
  entry.alignment = on_host() ? entry.element_bytes : kDeviceAlignment;
  if (expected.access != Access::kRead) RETURN_IF_ERROR(CheckDistinct(entry));
  ++count_;
  *out = &view;
  return Status();
}

Status Operands::Required(const char* name, const dsopt_tensor* in, const Expected& expected,
                          const dsopt_tensor** out) {
  *out = nullptr;
  if (in == nullptr) return Wrong(name, "NULL, expected a tensor");
  return AddView(name, in, expected, out);
}

Status Operands::Optional(const char* name, const dsopt_tensor* in, const Expected& expected,
                          const dsopt_tensor** out) {
  *out = nullptr;
  return in == nullptr ? Status() : AddView(name, in, expected, out);
}

Status Operands::Array(const char* name, const void* data, uint64_t count, uint64_t element_bytes) {
  if (data == nullptr) return Status();
  if (count_ == kMaxOperands) return Error(DSOPT_E_INTERNAL, "%s: more than %u operands", op_, kMaxOperands);
  const auto bytes = CheckedMul(count, element_bytes);
  if (!bytes || *bytes > INT64_MAX) return Wrong(name, "too many elements");
  Entry& entry = entries_[count_++];
  entry = {name, {}, element_bytes, *bytes, element_bytes, Access::kRead, -1};
  entry.view.data = const_cast<void*>(data);
  return Status();
}

Status Operands::Workspace(void* data, uint64_t bytes, uint64_t alignment) {
  RETURN_IF_ERROR(Array("workspace", data, bytes, 1));
  if (data == nullptr) return Status();
  entries_[count_ - 1].alignment = alignment;
  entries_[count_ - 1].access = Access::kWrite;
  return Status();
}

void Operands::AllowSame(const dsopt_tensor* output, const dsopt_tensor* input) {
  int output_at = -1, input_at = -1;
  for (uint32_t i = 0; i < count_; ++i) {
    if (&entries_[i].view == output) output_at = static_cast<int>(i);
    if (&entries_[i].view == input) input_at = static_cast<int>(i);
  }
  if (output_at >= 0) entries_[output_at].same_as = input_at;
}

Status Operands::CheckPointer(const Entry& entry) const {
  const void* data = entry.view.data;
  const auto address = reinterpret_cast<uintptr_t>(data);
  if (data == nullptr) return Wrong(entry.name, "data is NULL, expected memory");
  if (address % entry.alignment != 0) {
    return Wrong(entry.name, "address %p, expected a multiple of %llu", data,
                 static_cast<unsigned long long>(entry.alignment));
  }
  if (entry.extent_bytes > UINTPTR_MAX - address) {
    return Wrong(entry.name, "%llu bytes at %p end behind the address space",
                 static_cast<unsigned long long>(entry.extent_bytes), data);
  }
  if (on_host()) return Status();
  const Status kind = BackendStatus(device_.api().op_pointer(device_.handle(), data), entry.name);
  return kind.ok() ? kind : Error(kind.code(), "%s.%s", op_, std::string(kind.message()).c_str());
}

namespace {

bool SameView(const dsopt_tensor& a, const dsopt_tensor& b) {
  return a.data == b.data && a.dtype == b.dtype && a.ndim == b.ndim &&
         std::memcmp(a.shape, b.shape, sizeof a.shape) == 0 &&
         std::memcmp(a.stride, b.stride, sizeof a.stride) == 0;
}

// True only if no byte belongs to both: separate ranges, or slices of the same rows next to each other.
bool Disjoint(const dsopt_tensor& a, uint64_t a_element, uint64_t a_extent, const dsopt_tensor& b,
              uint64_t b_element, uint64_t b_extent) {
  const auto a_at = reinterpret_cast<uintptr_t>(a.data), b_at = reinterpret_cast<uintptr_t>(b.data);
  if (a_at + a_extent <= b_at || b_at + b_extent <= a_at) return true;
  for (uint32_t i = 0; i < a.ndim; ++i) {
    const Lattice rows_a = LatticeOf(a, a_element, i);
    if (rows_a.pitch == 0) continue;
    for (uint32_t j = 0; j < b.ndim; ++j) {
      const Lattice rows_b = LatticeOf(b, b_element, j);
      if (rows_b.pitch != rows_a.pitch) continue;
      const uint64_t pitch = rows_a.pitch;
      const uint64_t between = b_at >= a_at ? (b_at - a_at) % pitch : (pitch - (a_at - b_at) % pitch) % pitch;
      if (between >= rows_a.span && rows_b.span <= pitch - between) return true;
    }
  }
  return false;
}

}  // namespace

Status Operands::CheckMemory() const {
  for (uint32_t i = 0; i < count_; ++i) RETURN_IF_ERROR(CheckPointer(entries_[i]));
  for (uint32_t i = 0; i < count_; ++i) {
    const Entry& output = entries_[i];
    if (output.access == Access::kRead) continue;
    for (uint32_t j = 0; j < count_; ++j) {
      const Entry& other = entries_[j];
      if (i == j || (output.same_as == static_cast<int>(j) && SameView(output.view, other.view)) ||
          (other.same_as == static_cast<int>(i) && SameView(output.view, other.view))) {
        continue;
      }
      if (Disjoint(output.view, output.element_bytes, output.extent_bytes, other.view, other.element_bytes,
                   other.extent_bytes)) {
        continue;
      }
      return Wrong(output.name, "%llu bytes at %p overlap %s (%llu bytes at %p), expected memory of its own",
                   static_cast<unsigned long long>(output.extent_bytes), output.view.data, other.name,
                   static_cast<unsigned long long>(other.extent_bytes), other.view.data);
    }
  }
  return Status();
}

}  // namespace dsopt
