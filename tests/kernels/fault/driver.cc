// driver.cc - see driver.h. DSOPT_FAULT_GPU in the environment asks for the real runtime.
#include "driver.h"

#include <cstdlib>
#include <utility>

namespace dsopt::fault {
namespace {

constexpr const char* kNames[] = {"cudaGetDeviceCount",
                                  "cudaSetDevice",
                                  "cudaDeviceGetAttribute",
                                  "cudaFuncGetAttributes",
                                  "cudaMalloc",
                                  "cudaHostRegister",
                                  "cudaHostGetDevicePointer",
                                  "cudaMemcpyAsync",
                                  "cudaMemcpy2DAsync",
                                  "cudaMemsetAsync",
                                  "cudaEventCreate",
                                  "cudaEventRecord",
                                  "cudaEventQuery",
                                  "cudaEventSynchronize",
                                  "cudaEventElapsedTime",
                                  "cudaStreamCreateWithFlags",
                                  "cudaStreamSynchronize",
                                  "cudaStreamBeginCapture",
                                  "cudaStreamEndCapture",
                                  "cudaGraphInstantiate",
                                  "cudaGraphUpload",
                                  "cudaGraphLaunch",
                                  "cudaFuncSetAttribute",
                                  "a kernel launch"};
static_assert(sizeof(kNames) / sizeof(*kNames) == static_cast<size_t>(Call::kCount));

bool Holds(const std::map<const void*, size_t>& ranges, const void* at, size_t bytes) {
  auto range = ranges.upper_bound(at);
  if (range == ranges.begin()) return false;
  --range;
  const size_t offset =
      static_cast<size_t>(static_cast<const char*>(at) - static_cast<const char*>(range->first));
  return offset <= range->second && bytes <= range->second - offset;
}

}  // namespace

const char* NameOf(Call call) { return kNames[static_cast<int>(call)]; }

Driver& Driver::Get() {
  static Driver* const driver = new Driver();  // outlives the destructors of the runtime
  return *driver;
}

Driver::Driver() : fake_(std::getenv("DSOPT_FAULT_GPU") == nullptr) {}

void Driver::Reset() {
  gpu = FakeGpu{};
  launches_.clear();
  shared_limits_.clear();
  most_execs = execs_.size();
  for (int64_t& count : counts_) count = 0;
  fail_call_ = Call::kCount;
  fail_error_ = sticky_ = last_ = cudaSuccess;
  fired_ = fired_in_capture_ = false;
}

void Driver::FailAt(Call call, int64_t nth, cudaError_t error, bool sticky) {
  fail_call_ = call;
  fail_nth_ = counts_[static_cast<int>(call)] + nth;
  fail_error_ = error;
  fail_sticky_ = sticky;
  fired_ = fired_in_capture_ = false;
}

cudaError_t Driver::Enter(Call call) {
  const int64_t number = counts_[static_cast<int>(call)]++;
  if (sticky_ != cudaSuccess) return sticky_;
  if (call != fail_call_ || number != fail_nth_) return cudaSuccess;
  fired_ = true;
  for (const auto& [stream, state] : streams_) fired_in_capture_ = fired_in_capture_ || state.captured;
  if (fail_sticky_) sticky_ = fail_error_;
  return fail_error_;
}

cudaError_t Driver::Leave(cudaError_t error) {
  if (error != cudaSuccess) last_ = error;
  return error;
}

cudaError_t Driver::TakeLastError() {
  return sticky_ != cudaSuccess ? sticky_ : std::exchange(last_, cudaSuccess);
}

std::string Driver::Living() const {
  return std::to_string(memory_.size()) + " device allocations, " + std::to_string(registered_.size()) +
         " registered ranges, " + std::to_string(events_.size()) + " events, " +
         std::to_string(streams_.size()) + " streams, " + std::to_string(graphs_.size()) + " graphs, " +
         std::to_string(execs_.size()) + " instantiated";
}

std::string Driver::TakeMisuse() {
  std::string all;
  for (const std::string& what : std::exchange(misuse_, {})) all += what + "\n";
  return all;
}

void Driver::CheckDevice(const char* call, const void* at, size_t bytes) {
  if (!Holds(memory_, at, bytes))
    Misuse(std::string(call) + ": " + std::to_string(bytes) + " bytes are not inside one device allocation");
}

void Driver::CheckEither(const char* call, const void* a, const void* b, size_t bytes) {
  const auto inside = [&](const void* at, size_t size) {
    return Holds(memory_, at, size) || Holds(registered_, at, size);
  };
  bool known = false;
  for (const void* at : {a, b}) {
    known = known || inside(at, bytes);
    if (inside(at, 1) && !inside(at, bytes))
      Misuse(std::string(call) + ": " + std::to_string(bytes) + " bytes leave an allocation");
  }
  if (!known) Misuse(std::string(call) + ": both sides are unknown to the device");
}

void Driver::CheckStream(const char* call, cudaStream_t stream, bool captured) {
  const auto found = streams_.find(stream);
  if (found == streams_.end())
    Misuse(std::string(call) + ": a stream that does not live");
  else if (found->second.captured && !captured)
    Misuse(std::string(call) + ": the stream is being captured");
}

void Driver::CheckEvent(const char* call, cudaEvent_t event) {
  if (events_.count(event) == 0) Misuse(std::string(call) + ": an event that does not live");
}

std::vector<Driver::Kernel> Driver::TakeLaunches() { return std::exchange(launches_, {}); }

void Driver::Launch(cudaStream_t stream, const std::vector<Kernel>& kernels) {
  const auto found = streams_.find(stream);
  std::vector<Kernel>& to =
      found != streams_.end() && found->second.captured ? found->second.kernels : launches_;
  to.insert(to.end(), kernels.begin(), kernels.end());
}

void Driver::CheckExec(const char* call, cudaGraphExec_t exec) {
  if (execs_.count(exec) == 0) Misuse(std::string(call) + ": a graph that does not live");
}

void Driver::CheckLaunch(const void* function, dim3 grid, dim3 block, size_t shared, cudaStream_t stream) {
  CheckStream("a kernel launch", stream, true);
  const unsigned bytes = static_cast<unsigned>(shared);
  Launch(stream, {{function, {grid.x, grid.y, grid.z, block.x, block.y, block.z, bytes}}});
  const unsigned threads = block.x * block.y * block.z;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535)
    Misuse("a kernel launch: a grid of " + std::to_string(grid.x) + " x " + std::to_string(grid.y) + " x " +
           std::to_string(grid.z));
  if (threads == 0 || threads > 1024) Misuse("a kernel launch: " + std::to_string(threads) + " threads");
  const auto limit = shared_limits_.find(function);
  const size_t allowed = limit != shared_limits_.end() ? static_cast<size_t>(limit->second) : 48 * 1024;
  if (shared > (allowed > 48 * 1024 ? allowed : 48 * 1024))
    Misuse("a kernel launch: " + std::to_string(shared) + " bytes of shared memory were not asked for");
}

}  // namespace dsopt::fault
