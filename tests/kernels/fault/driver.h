// driver.h - the CUDA runtime under the plugin: every call is counted, any can be made to fail, and everything
// that is created must be destroyed. It stands on the real runtime, or on a fake one whose device memory is
// host memory and which starts no kernel, so that the plugin's host code runs on machines without a GPU.
// wraps.cc has the calls. One thread.
#ifndef DSOPT_TESTS_KERNELS_FAULT_DRIVER_H_
#define DSOPT_TESTS_KERNELS_FAULT_DRIVER_H_

#include <cuda_runtime_api.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace dsopt::fault {

enum class Call {
  kGetDeviceCount,
  kSetDevice,
  kDeviceGetAttribute,
  kFuncGetAttributes,
  kMalloc,
  kHostRegister,
  kHostGetDevicePointer,
  kMemcpyAsync,
  kMemcpy2DAsync,
  kMemsetAsync,
  kEventCreate,
  kEventRecord,
  kEventQuery,
  kEventSynchronize,
  kEventElapsedTime,
  kStreamCreate,
  kStreamSynchronize,
  kStreamBeginCapture,
  kStreamEndCapture,
  kGraphInstantiate,
  kGraphUpload,
  kGraphLaunch,
  kFuncSetAttribute,
  kLaunch,
  kCount
};
const char* NameOf(Call call);

// The GPU that the fake runtime shows.
struct FakeGpu {
  int count = 1;
  cudaError_t count_error = cudaSuccess;
  int major = 9, minor = 0, multiprocessors = 132, shared_bytes = 227 * 1024;
  size_t memory_bytes = size_t{1} << 30;
  bool has_code = true;  // the plugin's binary holds code for it
};

class Driver {
 public:
  static Driver& Get();

  bool fake() const { return fake_; }
  FakeGpu gpu;

  // Forgets faults, errors and counts, and puts the default GPU back.
  void Reset();
  // The nth call (from 0, counted from now) fails with error. Sticky: and every call after it.
  void FailAt(Call call, int64_t nth, cudaError_t error, bool sticky);
  bool fired() const { return fired_; }
  bool fired_in_capture() const { return fired_ && fired_in_capture_; }
  // What lives: device allocations, registered ranges, events, streams, graphs and what they were made into.
  size_t live() const {
    return memory_.size() + registered_.size() + events_.size() + streams_.size() + graphs_.size() +
           execs_.size();
  }
  std::string Living() const;
  // Calls that a real driver would answer with an error or a crash: ranges outside of allocations, dead
  // handles, ...
  std::string TakeMisuse();

  // For wraps.cc.
  cudaError_t Enter(Call call);
  cudaError_t Leave(cudaError_t error);
  cudaError_t TakeLastError();
  cudaError_t sticky() const { return sticky_; }
  void Misuse(const std::string& what) { misuse_.push_back(what); }
  void CheckDevice(const char* call, const void* at, size_t bytes);
  // At least one side is memory that the device knows, and what begins there does not leave it.
  void CheckEither(const char* call, const void* a, const void* b, size_t bytes);
  // captured: the call may go to a stream that is being captured, and is then not carried out.
  void CheckStream(const char* call, cudaStream_t stream, bool captured = false);
  void CheckEvent(const char* call, cudaEvent_t event);
  void CheckExec(const char* call, cudaGraphExec_t exec);
  void CheckLaunch(const void* function, dim3 grid, dim3 block, size_t shared, cudaStream_t stream);

  struct Event {
    bool recorded = false;
    int queries = 0;  // since it was recorded: the first is answered with "not ready"
  };
  // A launch: which kernel, with how many threads and how much shared memory.
  struct Kernel {
    const void* function;
    unsigned sizes[7];
    friend bool operator==(const Kernel&, const Kernel&) = default;
  };
  // Launches since it was asked last, those of graphs in their order.
  std::vector<Kernel> TakeLaunches();
  void Launch(cudaStream_t stream, const std::vector<Kernel>& kernels);

  struct Stream {
    bool captured = false;
    std::vector<Kernel> kernels;  // since the capture began
  };
  std::map<const void*, size_t> memory_, registered_;
  std::map<cudaEvent_t, Event> events_;
  std::map<cudaStream_t, Stream> streams_;
  std::map<cudaGraph_t, std::vector<Kernel>> graphs_;
  std::map<cudaGraphExec_t, std::vector<Kernel>> execs_;
  size_t most_execs = 0;  // that lived at a time, since Reset
  std::map<const void*, int> shared_limits_;
  int current_device = 0;

 private:
  Driver();
  const bool fake_;
  int64_t counts_[static_cast<int>(Call::kCount)] = {};
  Call fail_call_ = Call::kCount;
  int64_t fail_nth_ = 0;
  cudaError_t fail_error_ = cudaSuccess, sticky_ = cudaSuccess, last_ = cudaSuccess;
  bool fail_sticky_ = false, fired_ = false, fired_in_capture_ = false;
  std::vector<std::string> misuse_;
  std::vector<Kernel> launches_;
};

}  // namespace dsopt::fault
#endif  // DSOPT_TESTS_KERNELS_FAULT_DRIVER_H_
