// cuda_test.cc - the operators on a GPU, the same bodies as on the CPU: launched as they are, and captured into
// a CUDA graph that is replayed. DSOPT_CUDA_PLUGIN in the environment names another plugin file. Without a GPU
// the program says so and returns 77.
#include <cuda_runtime.h>

#include <cstdio>
#include <cstdlib>

#include "ops_bodies.h"

namespace dsopt::ops_test {
namespace {

class DeviceMemory : public Memory {
 public:
  explicit DeviceMemory(bool in_graph) : in_graph_(in_graph) {
    Must(cudaSetDevice(0));
    Must(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
  }
  ~DeviceMemory() override { cudaStreamDestroy(stream_); }
  void* Allocate(size_t bytes) override {
    void* data = nullptr;
    Must(cudaMalloc(&data, bytes));
    return data;
  }
  void Free(void* data) override { cudaFree(data); }
  // In the stream: cudaMemcpy may return before pageable memory has arrived, and this stream does not wait for
  // the one that it uses.
  void Write(void* dst, const void* src, size_t bytes) override {
    Copy(dst, src, bytes, cudaMemcpyHostToDevice);
  }
  void Read(void* dst, const void* src, size_t bytes) override {
    Copy(dst, src, bytes, cudaMemcpyDeviceToHost);
  }
  void* stream() override { return stream_; }
  dsopt_status Run(const std::function<dsopt_status()>& call) override {
    return in_graph_ ? Replay(call) : Launch(call);
  }
  size_t Misalignment(size_t) override { return 0; }
  bool on_host() override { return false; }

 private:
  static void Must(cudaError_t error) {
    INFO(cudaGetErrorString(error));
    REQUIRE(error == cudaSuccess);
  }
  void Copy(void* dst, const void* src, size_t bytes, cudaMemcpyKind kind) {
    Must(cudaMemcpyAsync(dst, src, bytes, kind, stream_));
    Must(cudaStreamSynchronize(stream_));
  }
  dsopt_status Launch(const std::function<dsopt_status()>& call) {
    const dsopt_status status = call();
    Must(cudaStreamSynchronize(stream_));
    return status;
  }
  // Nothing runs while it is captured; what the test then sees was computed by the replay.
  dsopt_status Replay(const std::function<dsopt_status()>& call) {
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    Must(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeGlobal));
    const dsopt_status status = call();
    Must(cudaStreamEndCapture(stream_, &graph));
    Must(cudaGraphInstantiate(&exec, graph, 0));
    Must(cudaGraphLaunch(exec, stream_));
    Must(cudaStreamSynchronize(stream_));
    Must(cudaGraphExecDestroy(exec));
    Must(cudaGraphDestroy(graph));
    return status;
  }

  const bool in_graph_;
  cudaStream_t stream_ = nullptr;
};

// Ends the program with 77 where there is no GPU.
dsopt_runtime* Runtime() {
  static dsopt_runtime* const runtime = [] {
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess || count == 0) {
      std::printf("skipped: %s\n", error != cudaSuccess ? cudaGetErrorString(error) : "no GPU");
      std::exit(77);
    }
    auto options = Sized<dsopt_runtime_options>();
    options.disable_backend_scan = 1;
    dsopt_runtime* created = nullptr;
    const char* given = std::getenv("DSOPT_CUDA_PLUGIN");
    if (dsopt_runtime_create(&options, &created) != DSOPT_OK ||
        dsopt_runtime_load_backend(created, given != nullptr ? given : DSOPT_CUDA_PLUGIN) != DSOPT_OK) {
      std::printf("%s\n", dsopt_last_error());
      std::exit(1);
    }
    return created;
  }();
  return runtime;
}

template <typename Body>
void ForBoth(const Body& body) {
  for (const bool in_graph : {false, true}) {
    DYNAMIC_SECTION((in_graph ? "captured and replayed" : "launched")) {
      dsopt_runtime* runtime = Runtime();
      DeviceMemory memory(in_graph);
      Device device(&memory, runtime, "cuda:0");
      body(&device);
    }
  }
}

TEST_CASE("rmsnorm on the GPU computes what the header says", "[cuda]") { ForBoth(CheckRmsNorm); }
TEST_CASE("linear on the GPU computes what the header says", "[cuda]") { ForBoth(CheckLinear); }
TEST_CASE("qkv on the GPU computes what the header says", "[cuda]") { ForBoth(CheckQkv); }
TEST_CASE("attention on the GPU computes what the header says", "[cuda]") { ForBoth(CheckAttention); }
TEST_CASE("the gated MLP on the GPU computes what the header says", "[cuda]") { ForBoth(CheckGatedMlp); }
TEST_CASE("the mixture on the GPU computes what the header says", "[cuda]") { ForBoth(CheckMoe); }
TEST_CASE("sample on the GPU draws the token that a float64 sampler draws", "[cuda]") { ForBoth(CheckSample); }

TEST_CASE("wrong use on the GPU is refused by name before anything is written", "[cuda]") {
  dsopt_runtime* runtime = Runtime();
  DeviceMemory memory(false);
  Device device(&memory, runtime, "cuda:0");
  CheckWrongUse(&device);
}

TEST_CASE("hostile indices on the GPU touch nothing outside of the operands", "[cuda]") {
  dsopt_runtime* runtime = Runtime();
  DeviceMemory memory(false);
  Device device(&memory, runtime, "cuda:0");
  CheckHostileIndices(&device);
}

TEST_CASE("host memory and a missing stream are refused on the GPU", "[cuda]") {
  dsopt_runtime* runtime = Runtime();
  DeviceMemory memory(false);
  Device device(&memory, runtime, "cuda:0");
  CheckForeignMemory(&device);
}

}  // namespace
}  // namespace dsopt::ops_test
