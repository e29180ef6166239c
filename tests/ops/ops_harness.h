// ops_harness.h - drives the operators of dsopt/ops.h on any device through the C interface: guarded buffers
// with poisoned contents, views with odd strides, workspaces of exactly the size asked for. The bodies of
// ops_bodies.h use it; the drivers (cpu_test.cc, cuda_test.cc) bring a device.
#ifndef DSOPT_TESTS_OPS_OPS_HARNESS_H_
#define DSOPT_TESTS_OPS_OPS_HARNESS_H_

#include <catch2/catch.hpp>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "dsopt/ops.h"

namespace dsopt::ops_test {

// New for every run, printed; DSOPT_TEST_SEED repeats one.
uint64_t Seed();
using Random = std::mt19937_64;

// The memory of a device as the host reaches it.
class Memory {
 public:
  virtual ~Memory() = default;
  virtual void* Allocate(size_t bytes) = 0;
  virtual void Free(void* data) = 0;
  virtual void Write(void* dst, const void* src, size_t bytes) = 0;
  virtual void Read(void* dst, const void* src, size_t bytes) = 0;
  virtual void* stream() = 0;
  // Makes the call and waits for its results; a CUDA device may capture it into a graph and replay that.
  virtual dsopt_status Run(const std::function<dsopt_status()>& call) = 0;
  // Distance in bytes from an aligned address that data may have.
  virtual size_t Misalignment(size_t element_bytes) = 0;
  virtual bool on_host() = 0;
};

// A device with its operators.
class Device {
 public:
  Device(Memory* device_memory, dsopt_runtime* runtime, const char* id);
  Device(Memory* device_memory, dsopt_ops* created) : memory(device_memory), ops(created) {}
  ~Device() { dsopt_ops_release(ops); }
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;
  Memory* const memory;
  dsopt_ops* ops = nullptr;
};

// Bytes between guards that no operator may touch. Starts as NaNs of every type.
class Buffer {
 public:
  Buffer(Device* device, size_t bytes, size_t misalignment);
  ~Buffer();
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  void Write(const std::vector<uint8_t>& bytes) { device_->memory->Write(data_, bytes.data(), bytes.size()); }
  std::vector<uint8_t> Read() const;
  void CheckGuards() const;

 private:
  Device* device_;
  size_t bytes_;
  uint8_t *block_, *data_;
};

double RoundTo(dsopt_dtype dtype, double value);
size_t BytesOf(dsopt_dtype dtype);

// One operand: values here, and a view of them on the device. Output values start as NaNs.
class Tensor {
 public:
  using Values = std::vector<double>;
  // pad: elements between rows of the innermost dimension; 0: dense.
  Tensor(Device* device, dsopt_dtype dtype, std::vector<int64_t> shape, int64_t pad = 0);
  Tensor& Fill(const std::function<double()>& next);
  Tensor& Normal(Random* random, double stddev = 1.0, double mean = 0.0);
  Tensor& Set(const Values& row_major);
  // Reads the device's values; gaps between rows and guards must be as they were.
  const Values& Read();
  double at(std::initializer_list<int64_t> index) const { return values[Index(index)]; }
  size_t Index(std::initializer_list<int64_t> index) const;  // into values, row-major
  operator const dsopt_tensor*() const { return &view; }     // NOLINT: what arguments take

  dsopt_tensor view = {};
  Values values;

 private:
  size_t Offset(size_t index) const;  // in elements, of a row-major index
  void Upload();
  std::unique_ptr<Buffer> buffer_;
};

// A dense array of integers.
template <typename T>
class Array {
 public:
  Array(Device* device, const std::vector<T>& values) : buffer_(device, values.size() * sizeof(T), 0) {
    std::vector<uint8_t> bytes(values.size() * sizeof(T));
    std::memcpy(bytes.data(), values.data(), bytes.size());
    buffer_.Write(bytes);
  }
  operator const T*() const { return static_cast<const T*>(buffer_.data()); }  // NOLINT: what arguments take

 private:
  Buffer buffer_;
};

template <typename T>
T Sized() {
  T value = {};
  value.struct_size = sizeof value;
  return value;
}

dsopt_status Call(Device* device, dsopt_op op, const void* args, const dsopt_launch* launch);
// Asks for the workspace and runs; fails the test with the library's message.
void Run(Device* device, dsopt_op op, const void* args);

// |found - expected| <= tolerance, element by element; says which one is not.
void CheckClose(const Tensor::Values& found, const Tensor::Values& expected, const Tensor::Values& tolerance,
                const std::string& what);

}  // namespace dsopt::ops_test
#endif  // DSOPT_TESTS_OPS_OPS_HARNESS_H_
