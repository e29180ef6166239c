// fault_test.cc - the CUDA plugin over a driver that fails: the n-th call of every kind, a driver that is
// absent, a GPU that is too old or too small. By default on a fake driver, without a GPU (driver.h); with
// DSOPT_FAULT_GPU in the environment on the real one, and 77 is returned where there is none.
#include <catch2/catch.hpp>
#include <cstdio>
#include <cstdlib>

#include "../bodies.h"
#include "driver.h"
#include "life.h"

extern "C" dsopt_status dsopt_backend_entry(const dsopt_host_api* host, uint32_t* abi,
                                            const dsopt_backend_api** out);

namespace dsopt::fault {
namespace {

const dsopt_backend_api* Api() {
  Driver::Get().Reset();
  Host host;
  uint32_t abi = DSOPT_BACKEND_ABI;
  const dsopt_backend_api* api = nullptr;
  const dsopt_status status = dsopt_backend_entry(host.api(), &abi, &api);
  if (status == DSOPT_E_NOT_FOUND && !Driver::Get().fake()) {
    std::printf("skipped: %s\n", host.message.c_str());
    std::exit(77);
  }
  REQUIRE(status == DSOPT_OK);
  return api;
}

void CheckNothingLeft(const Life& life) {
  CHECK(life.host.live == 0);
  CAPTURE(Driver::Get().Living());
  CHECK(Driver::Get().live() == 0);
  CHECK(Driver::Get().TakeMisuse() == "");
}

void CheckMessage(const Life& life) {
  CHECK(life.host.message.size() > 10);
  CHECK(life.host.message.find('\n') == std::string::npos);
}

const char* NameOf(Kind kind) {
  switch (kind) {
    case Kind::kBlocks:
      return "all blocks";
    case Kind::kSliced:
      return "in slices";
    case Kind::kHostPages:
      return "pages on the host";
    default:
      return "persistent";
  }
}

// What failed cost nothing but a measurement or a graph.
bool Tolerated(Call call) {
  return call == Call::kEventElapsedTime || call == Call::kStreamBeginCapture ||
         call == Call::kStreamEndCapture || call == Call::kGraphInstantiate || call == Call::kGraphUpload ||
         Driver::Get().fired_in_capture();
}

dsopt_status Expected(Call call, cudaError_t error) {
  if (call == Call::kGetDeviceCount) return DSOPT_E_NOT_FOUND;
  if (error == cudaErrorMemoryAllocation)
    return call == Call::kHostRegister ? DSOPT_E_OUT_OF_MEMORY : DSOPT_E_DEVICE_MEMORY;
  return error == cudaErrorLaunchFailure ? DSOPT_E_DEVICE_LOST : DSOPT_E_INTERNAL;
}

// One life in which the nth `call` fails. False: it has fewer of them.
bool LiveThrough(const dsopt_backend_api* api, Kind kind, Call call, int64_t nth, cudaError_t error,
                 bool sticky) {
  Driver& driver = Driver::Get();
  CAPTURE(NameOf(kind), NameOf(call), nth, cudaGetErrorName(error), sticky);
  driver.Reset();
  driver.FailAt(call, nth, error, sticky);
  {
    Life life(api, kind);
    const bool opened = life.Open();
    const bool worked = opened && life.Work();
    if (!driver.fired()) {
      CHECK(worked);
      life.Close();
      CheckNothingLeft(life);
      return false;
    }
    CAPTURE(life.step, life.status, life.host.message);
    if (!Tolerated(call) || sticky) {
      CHECK(life.status == Expected(call, error));
      CheckMessage(life);
    } else {
      CHECK(worked);
      CHECK(life.host.message == "");
    }
    if (sticky) {  // dead, and says so for as long as it is asked
      const bool again = life.Open() && life.Work();
      CHECK(!again);
      CHECK((life.status == DSOPT_E_DEVICE_LOST || life.status == DSOPT_E_NOT_FOUND));
    } else {  // what was there can go on
      const bool again = life.Open() && life.Work();
      CAPTURE(life.step, life.status, life.host.message);
      CHECK(again);
    }
    life.Close();
    CheckNothingLeft(life);
  }
  return true;
}

void FailEachCall(Kind kind, cudaError_t error, bool sticky) {
  const dsopt_backend_api* api = Api();
  int64_t faults = 0;
  for (int call = 0; call < static_cast<int>(Call::kCount); ++call) {
    for (int64_t nth = 0; LiveThrough(api, kind, static_cast<Call>(call), nth, error, sticky); ++nth, ++faults)
      REQUIRE(nth < 5000);
  }
  std::printf("%s, %s: %lld faults\n", NameOf(kind), cudaGetErrorName(error), static_cast<long long>(faults));
  CHECK(faults > 50);
  Driver::Get().Reset();
}

TEST_CASE("a call of the driver that is not permitted is a typed error, and the session goes on",
          "[cuda][fault]") {
  for (const Kind kind : {Kind::kBlocks, Kind::kSliced, Kind::kHostPages, Kind::kPersistent})
    DYNAMIC_SECTION(NameOf(kind)) { FailEachCall(kind, cudaErrorNotPermitted, false); }
}

TEST_CASE("a call of the driver without memory is a typed error, and the session goes on", "[cuda][fault]") {
  for (const Kind kind : {Kind::kBlocks, Kind::kHostPages}) DYNAMIC_SECTION(NameOf(kind)) {
      FailEachCall(kind, cudaErrorMemoryAllocation, false);
    }
}

TEST_CASE("after a device is lost every call says so, and everything can be destroyed", "[cuda][fault]") {
  for (const Kind kind : {Kind::kBlocks, Kind::kPersistent}) DYNAMIC_SECTION(NameOf(kind)) {
      FailEachCall(kind, cudaErrorLaunchFailure, true);
    }
}

TEST_CASE("where the persistent kernel finds no room the step runs kernel by kernel", "[cuda][fault]") {
  const dsopt_backend_api* api = Api();
  Driver& driver = Driver::Get();
  int64_t last = 0;
  {  // counts the launches of a life, the last of which are those of its decode step
    Life life(api, Kind::kPersistent);
    REQUIRE(life.Open());
    REQUIRE(life.Work());
  }
  for (bool fired = true; fired; ++last) {
    driver.Reset();
    driver.FailAt(Call::kLaunch, last, cudaErrorCooperativeLaunchTooLarge, false);
    Life life(api, Kind::kPersistent);
    const bool worked = life.Open() && life.Work();
    fired = driver.fired();
    if (fired && worked) {
      CHECK(driver.TakeMisuse() == "");
      return;  // that was the persistent kernel
    }
    life.Close();
    CheckNothingLeft(life);
  }
  FAIL("no launch was that of the persistent kernel");
}

TEST_CASE("a step that came twice is one graph from then on, and without a graph what it was",
          "[cuda][fault]") {
  const dsopt_backend_api* api = Api();
  Driver& driver = Driver::Get();
  const auto replayed = [&](Kind kind, Call call) {
    driver.Reset();
    if (call != Call::kCount) driver.FailAt(call, 0, cudaErrorMemoryAllocation, false);
    Life life(api, kind);
    const bool worked = life.Open() && life.Work();
    CAPTURE(NameOf(kind), life.step, life.host.message);
    CHECK(worked);
    CHECK(driver.fired() == (call != Call::kCount));
    const uint32_t first = life.replayed;
    CHECK(life.Work());
    const uint32_t second = life.replayed - first;
    life.Close();
    CheckNothingLeft(life);
    return std::pair<uint32_t, uint32_t>(first, second);
  };
  using Two = std::pair<uint32_t, uint32_t>;
  for (const Kind kind : {Kind::kBlocks, Kind::kHostPages}) {
    CHECK(replayed(kind, Call::kCount) == Two(2, 4));
    for (const Call call :
         {Call::kStreamBeginCapture, Call::kStreamEndCapture, Call::kGraphInstantiate, Call::kGraphUpload})
      CHECK(replayed(kind, call) == Two(0, 0));  // the next try comes much later
  }
  if (driver.fake())
    CHECK(replayed(Kind::kPersistent, Call::kCount) == Two(0, 0));  // other GPUs may have no such kernel
  CHECK(replayed(Kind::kSliced, Call::kCount) == Two(0, 0));        // a slice of 1 us is no whole step
  driver.Reset();
}

// ---- what the machine lacks; on the fake driver only --------------------------------------------------

TEST_CASE("a batch longer than a slice is submitted slice by slice", "[cuda][fault]") {
  const dsopt_backend_api* api = Api();
  if (!Driver::Get().fake()) return;
  Life whole(api, Kind::kBlocks), sliced(api, Kind::kSliced);
  REQUIRE((whole.Open() && whole.Work()));
  REQUIRE((sliced.Open() && sliced.Work()));
  // The fake driver's slices take 250 us, more than the limit: 6 blocks are 6 slices, each seen twice, but of
  // the first batch, whose first slice is longer.
  CHECK(whole.polls == 5 * 2);
  CHECK(sliced.polls == 4 * 2 + 4 * 6 * 2);
}

TEST_CASE("a missing driver and missing GPUs are named", "[cuda][fault]") {
  Api();
  Driver& driver = Driver::Get();
  if (!driver.fake()) return;
  Host host;
  uint32_t abi = DSOPT_BACKEND_ABI;
  const dsopt_backend_api* api = nullptr;
  driver.gpu.count_error = cudaErrorInsufficientDriver;
  CHECK(dsopt_backend_entry(host.api(), &abi, &api) == DSOPT_E_NOT_FOUND);
  CHECK(host.message.find("driver version is insufficient") != std::string::npos);
  driver.gpu.count_error = cudaSuccess;
  driver.gpu.count = 0;
  CHECK(dsopt_backend_entry(host.api(), &abi, &api) == DSOPT_E_NOT_FOUND);
  CHECK(host.message.find("no device") != std::string::npos);
  abi = 0;
  CHECK(dsopt_backend_entry(host.api(), &abi, &api) == DSOPT_E_VERSION);
  driver.Reset();
}

TEST_CASE("a GPU that is too old, unknown to the build or too small is named with what it has",
          "[cuda][fault]") {
  const dsopt_backend_api* api = Api();
  Driver& driver = Driver::Get();
  if (!driver.fake()) return;
  const auto refused = [&](dsopt_status code, const char* text) {
    {
      Life life(api, Kind::kBlocks);
      CHECK(!life.Open());
      CHECK(life.status == code);
      CAPTURE(life.host.message);
      CHECK(life.host.message.find(text) != std::string::npos);
      life.Close();
      CheckNothingLeft(life);
    }
    driver.Reset();
  };
  driver.gpu.major = 7;
  driver.gpu.minor = 5;
  refused(DSOPT_E_UNSUPPORTED, "compute capability 7.5, at least 8.0 expected");
  driver.gpu.has_code = false;
  refused(DSOPT_E_UNSUPPORTED, "no code for compute capability 9.0");
  driver.gpu.memory_bytes = 4096;
  refused(DSOPT_E_DEVICE_MEMORY, "of 4096 free");
  driver.gpu.memory_bytes = 1 << 20;  // the weights fit, the program does not
  refused(DSOPT_E_DEVICE_MEMORY, "of 1048576 free");

  driver.gpu.major = 8;  // and one without the kernels of sm_90a works
  driver.gpu.minor = 6;
  driver.gpu.multiprocessors = 28;
  driver.gpu.shared_bytes = 99 * 1024;
  for (const Kind kind : {Kind::kBlocks, Kind::kPersistent}) {
    Life life(api, kind);
    const bool worked = life.Open() && life.Work();
    CAPTURE(life.step, life.host.message);
    CHECK(worked);
    life.Close();
    CheckNothingLeft(life);
  }
  driver.Reset();
}

// ---- the checks of every backend: what is refused does not depend on a GPU -----------------------------

kernel_test::Target Gpu() { return {Api(), 0, "", 1}; }

TEST_CASE("the plugin refuses calls at the wrong moment, and cancelled batches leave no trace",
          "[cuda][fault]") {
  kernel_test::CheckRepeatedCalls(Gpu());
  CHECK(Driver::Get().TakeMisuse() == "");
}
TEST_CASE("the plugin refuses hostile input with a message", "[cuda][fault]") {
  kernel_test::CheckHostileInput(Gpu());
  CHECK(Driver::Get().TakeMisuse() == "");
}
TEST_CASE("pages in host memory move like the device's, and what fails leaves nothing", "[cuda][fault]") {
  kernel_test::CheckHostPageCalls(Gpu());
  CHECK(Driver::Get().live() == 0);
  CHECK(Driver::Get().TakeMisuse() == "");
}
TEST_CASE("a graph launches what its step would, graphs are few, and they go with their program",
          "[cuda][fault]") {
  Driver& driver = Driver::Get();
  for (const kernel_test::ReplayCase& what : kernel_test::ReplayCases()) {
    DYNAMIC_SECTION(what.shape.name << ", type " << what.kv_dtype) {
      std::vector<std::vector<Driver::Kernel>> launches;
      const kernel_test::Target target = Gpu();
      kernel_test::CheckReplay(target, what, [&] { launches.push_back(driver.TakeLaunches()); });
      // The first of them also wrote the weights.
      std::vector<Driver::Kernel>& replayed = launches.at(0);
      const std::vector<Driver::Kernel>& launched = launches.at(1);
      REQUIRE(launched.size() > 1000);
      REQUIRE(replayed.size() >= launched.size());
      replayed.erase(replayed.begin(), replayed.end() - static_cast<std::ptrdiff_t>(launched.size()));
      CHECK((replayed == launched));
      CHECK(driver.most_execs == 16);
      CHECK(driver.live() == 0);
      CHECK(driver.TakeMisuse() == "");
    }
  }
}
TEST_CASE("a refused allocation of host memory leaks nothing in the plugin", "[cuda][fault]") {
  kernel_test::CheckFailingAllocator(Gpu());
  CHECK(Driver::Get().live() == 0);
  CHECK(Driver::Get().TakeMisuse() == "");
}

}  // namespace
}  // namespace dsopt::fault
