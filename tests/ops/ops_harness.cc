// ops_harness.cc - see ops_harness.h.
#include "ops_harness.h"

#include <cmath>
#include <cstdlib>
#include <cstring>

namespace dsopt::ops_test {
namespace {

constexpr size_t kGuardBytes = 512;
constexpr uint8_t kPoison = 0xff;  // a NaN in F32, F16 and BF16

float RoundToBits(float value, int kept_bits) {  // of the mantissa, to nearest even
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  const int drop = 23 - kept_bits;
  const uint32_t half = 1u << (drop - 1);
  bits += half - 1 + ((bits >> drop) & 1u);
  bits &= ~((1u << drop) - 1);
  std::memcpy(&value, &bits, 4);
  return value;
}

void Store(dsopt_dtype dtype, double value, uint8_t* dst) {
  const float f = static_cast<float>(value);
  uint32_t bits;
  std::memcpy(&bits, &f, 4);
  if (dtype == DSOPT_F32) {
    std::memcpy(dst, &f, 4);
  } else if (dtype == DSOPT_I32) {
    const int32_t i = static_cast<int32_t>(value);
    std::memcpy(dst, &i, 4);
  } else if (dtype == DSOPT_BF16) {
    const uint16_t h = static_cast<uint16_t>(bits >> 16);
    std::memcpy(dst, &h, 2);
  } else {  // F16: values of the tests are rounded and normal, or zero
    uint16_t h = static_cast<uint16_t>((bits >> 16) & 0x8000u);
    if (f != 0.0f) h = static_cast<uint16_t>(h | (((bits & 0x7fffffffu) - 0x38000000u) >> 13));
    std::memcpy(dst, &h, 2);
  }
}

double Load(dsopt_dtype dtype, const uint8_t* src) {
  if (dtype == DSOPT_F32) {
    float f;
    std::memcpy(&f, src, 4);
    return static_cast<double>(f);
  }
  if (dtype == DSOPT_I32) {
    int32_t i;
    std::memcpy(&i, src, 4);
    return i;
  }
  uint16_t h;
  std::memcpy(&h, src, 2);
  const uint32_t bits = static_cast<uint32_t>(h) << 16;  // outputs are never F16
  float f;
  std::memcpy(&f, &bits, 4);
  return static_cast<double>(f);
}

}  // namespace

uint64_t Seed() {
  static const uint64_t seed = [] {
    const char* given = std::getenv("DSOPT_TEST_SEED");
    return given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
  }();
  return seed;
}

size_t BytesOf(dsopt_dtype dtype) { return dtype == DSOPT_F32 || dtype == DSOPT_I32 ? 4 : 2; }

double RoundTo(dsopt_dtype dtype, double value) {
  const float f = static_cast<float>(value);
  if (dtype == DSOPT_BF16) return static_cast<double>(RoundToBits(f, 7));
  if (dtype != DSOPT_F16) return static_cast<double>(f);
  return std::fabs(value) < 6.2e-5 ? 0.0 : static_cast<double>(RoundToBits(f, 10));
}

Device::Device(Memory* device_memory, dsopt_runtime* runtime, const char* id) : memory(device_memory) {
  const dsopt_status status = dsopt_ops_create(runtime, id, &ops);
  INFO(dsopt_last_error());
  REQUIRE(status == DSOPT_OK);
}

Buffer::Buffer(Device* device, size_t bytes, size_t misalignment) : device_(device), bytes_(bytes) {
  block_ = static_cast<uint8_t*>(device->memory->Allocate(bytes + 2 * kGuardBytes));
  REQUIRE(block_ != nullptr);
  data_ = block_ + kGuardBytes + misalignment;
  const std::vector<uint8_t> poison(bytes + 2 * kGuardBytes, kPoison);
  device->memory->Write(block_, poison.data(), poison.size());
}
Buffer::~Buffer() { device_->memory->Free(block_); }

std::vector<uint8_t> Buffer::Read() const {
  std::vector<uint8_t> bytes(bytes_);
  device_->memory->Read(bytes.data(), data_, bytes_);
  return bytes;
}

void Buffer::CheckGuards() const {
  std::vector<uint8_t> all(bytes_ + 2 * kGuardBytes);
  device_->memory->Read(all.data(), block_, all.size());
  const size_t first = static_cast<size_t>(data_ - block_);
  size_t changed = 0;
  for (size_t i = 0; i < all.size(); ++i) {
    if ((i < first || i >= first + bytes_) && all[i] != kPoison) ++changed;
  }
  CHECK(changed == 0);
}

Tensor::Tensor(Device* device, dsopt_dtype dtype, std::vector<int64_t> shape, int64_t pad) {
  view.struct_size = sizeof view;
  view.dtype = dtype;
  view.ndim = static_cast<uint32_t>(shape.size());
  int64_t stride = 1, count = 1;
  for (size_t i = shape.size(); i > 0; --i) {
    view.shape[i - 1] = shape[i - 1];
    view.stride[i - 1] = stride;
    stride = stride * shape[i - 1] + (i == shape.size() && shape.size() > 1 ? pad : 0);
    count *= shape[i - 1];
  }
  const size_t elements = static_cast<size_t>(stride);
  buffer_ =
      std::make_unique<Buffer>(device, elements * BytesOf(dtype), device->memory->Misalignment(BytesOf(dtype)));
  view.data = buffer_->data();
  values.assign(static_cast<size_t>(count), std::nan(""));
}

size_t Tensor::Index(std::initializer_list<int64_t> index) const {
  size_t at = 0, dim = 0;
  for (const int64_t i : index) at = at * static_cast<size_t>(view.shape[dim++]) + static_cast<size_t>(i);
  return at;
}

size_t Tensor::Offset(size_t index) const {
  size_t offset = 0;
  for (size_t dim = view.ndim; dim > 0; --dim) {
    const size_t extent = static_cast<size_t>(view.shape[dim - 1]);
    offset += index % extent * static_cast<size_t>(view.stride[dim - 1]);
    index /= extent;
  }
  return offset;
}

void Tensor::Upload() {
  std::vector<uint8_t> bytes(buffer_->bytes(), kPoison);
  for (size_t i = 0; i < values.size(); ++i) {
    Store(view.dtype, values[i], bytes.data() + Offset(i) * BytesOf(view.dtype));
  }
  buffer_->Write(bytes);
}

Tensor& Tensor::Fill(const std::function<double()>& next) {
  for (double& v : values) v = RoundTo(view.dtype, next());
  Upload();
  return *this;
}
Tensor& Tensor::Normal(Random* random, double stddev, double mean) {
  std::normal_distribution<double> normal(mean, stddev);
  return Fill([&] { return normal(*random); });
}
Tensor& Tensor::Set(const Values& row_major) {
  size_t i = 0;
  return Fill([&] { return row_major[i++]; });
}

const Tensor::Values& Tensor::Read() {
  const std::vector<uint8_t> bytes = buffer_->Read();
  std::vector<bool> owned(bytes.size(), false);
  const size_t element = BytesOf(view.dtype);
  for (size_t i = 0; i < values.size(); ++i) {
    const size_t at = Offset(i) * element;
    values[i] = Load(view.dtype, bytes.data() + at);
    for (size_t b = 0; b < element; ++b) owned[at + b] = true;
  }
  size_t changed = 0;
  for (size_t i = 0; i < bytes.size(); ++i) changed += !owned[i] && bytes[i] != kPoison ? 1 : 0;
  CHECK(changed == 0);
  buffer_->CheckGuards();
  return values;
}

dsopt_status Call(Device* device, dsopt_op op, const void* args, const dsopt_launch* launch) {
  const dsopt_ops* ops = device->ops;
  switch (op) {
    case DSOPT_OP_RMSNORM:
      return dsopt_op_rmsnorm(ops, static_cast<const dsopt_rmsnorm_args*>(args), launch);
    case DSOPT_OP_LINEAR:
      return dsopt_op_linear(ops, static_cast<const dsopt_linear_args*>(args), launch);
    case DSOPT_OP_QKV:
      return dsopt_op_qkv(ops, static_cast<const dsopt_qkv_args*>(args), launch);
    case DSOPT_OP_ATTENTION:
      return dsopt_op_attention(ops, static_cast<const dsopt_attention_args*>(args), launch);
    case DSOPT_OP_GATED_MLP:
      return dsopt_op_gated_mlp(ops, static_cast<const dsopt_gated_mlp_args*>(args), launch);
    case DSOPT_OP_MOE:
      return dsopt_op_moe(ops, static_cast<const dsopt_moe_args*>(args), launch);
    default:
      return dsopt_op_sample(ops, static_cast<const dsopt_sample_args*>(args), launch);
  }
}

void Run(Device* device, dsopt_op op, const void* args) {
  size_t bytes = 0;
  const char* kernel = nullptr;
  dsopt_status status = dsopt_op_workspace(device->ops, op, args, &bytes, &kernel);
  INFO(dsopt_last_error());
  REQUIRE(status == DSOPT_OK);
  REQUIRE(kernel != nullptr);
  CAPTURE(kernel);
  Buffer workspace(device, bytes, 0);
  auto launch = Sized<dsopt_launch>();
  launch.stream = device->memory->stream();
  launch.workspace = bytes > 0 ? workspace.data() : nullptr;
  launch.workspace_size = bytes;
  status = device->memory->Run([&] { return Call(device, op, args, &launch); });
  UNSCOPED_INFO(dsopt_last_error());
  REQUIRE(status == DSOPT_OK);
  workspace.CheckGuards();
}

void CheckClose(const Tensor::Values& found, const Tensor::Values& expected, const Tensor::Values& tolerance,
                const std::string& what) {
  REQUIRE(found.size() == expected.size());
  REQUIRE(tolerance.size() == expected.size());
  for (size_t i = 0; i < found.size(); ++i) {
    if (std::fabs(found[i] - expected[i]) <= tolerance[i]) continue;  // false for NaN
    CAPTURE(what, i, found[i], expected[i], tolerance[i]);
    FAIL("too far from the reference");
  }
}

}  // namespace dsopt::ops_test
