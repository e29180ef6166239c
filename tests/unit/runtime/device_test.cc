#include "device/device.h"

#include <catch2/catch.hpp>
#include <string>

#include "device/loader.h"
#include "tests/unit/runtime/fake_backend.h"

namespace dsopt::testing {
namespace {

BackendOptions Options() {
  BackendOptions options = {};
  options.allocator = DefaultAllocator();
  options.scan = false;
  return options;
}

TEST_CASE("a device is opened once, shared, and closed with its last holder", "[device]") {
  g_fake = FakeDevice();
  auto backends = Backends::Create(Options());
  REQUIRE(backends.ok());
  auto first = (*backends)->Open("cpu", 0);
  auto second = (*backends)->Open("", 0);
  REQUIRE(first.ok());
  REQUIRE(second.ok());
  CHECK(first->get() == second->get());
  CHECK(g_fake.open_devices == 1);
  *first = nullptr;
  *second = nullptr;
  CHECK(g_fake.open_devices == 0);
}

TEST_CASE("two runtimes open devices of their own with their own host", "[device]") {
  g_fake = FakeDevice();
  auto a = Backends::Create(Options());
  auto b = Backends::Create(Options());
  auto device_a = (*a)->Open("cpu", 0);
  const dsopt_host_api* host_a = g_fake.last_host;
  auto device_b = (*b)->Open("cpu", 0);
  CHECK(g_fake.open_devices == 2);
  CHECK(device_a->get() != device_b->get());
  CHECK(host_a != g_fake.last_host);
}

TEST_CASE("an unknown device is named together with those that exist", "[device]") {
  g_fake = FakeDevice();
  auto backends = Backends::Create(Options());
  const Status status = (*backends)->Open("cuda:7", 0).status();
  CHECK(status.code() == DSOPT_E_NOT_FOUND);
  CHECK(std::string(status.message()) == "device 'cuda:7': not present; there are: cpu");
}

TEST_CASE("the best device has room, else the CPU is taken", "[device]") {
  g_fake = FakeDevice();
  g_fake.kind = DSOPT_DEVICE_CUDA;
  auto backends = Backends::Create(Options());
  CHECK((*backends)->Open("", 1u << 20).ok());
  CHECK((*backends)->Open("", 1ull << 40).status().code() == DSOPT_E_NOT_FOUND);  // and this fake has no CPU
}

TEST_CASE("plugins come from a path with a directory and say why they are not used", "[device]") {
  g_fake = FakeDevice();
  auto backends = Backends::Create(Options());
  CHECK((*backends)->LoadPlugin("libdsopt_cuda.so").code() == DSOPT_E_INVALID_ARGUMENT);
  CHECK((*backends)->LoadPlugin("/nonexistent/libdsopt_cuda.so").code() == DSOPT_E_NOT_FOUND);
  BackendOptions options = Options();
  options.scan = true;
  options.plugin_directory = "/nonexistent";
  auto scanning = Backends::Create(options);
  REQUIRE(scanning.ok());  // a plugin that is absent is no failure
  CHECK((*scanning)->Report().find("'/nonexistent/libdsopt_cuda.so' is absent") != std::string::npos);
  CHECK((*scanning)->Report().find("hash: fake") != std::string::npos);
}

TEST_CASE("a table of another version or with holes is refused", "[device]") {
  static dsopt_backend_api table;
  static uint32_t abi_out;
  const dsopt_host_api host = {};
  const auto entry = [](const dsopt_host_api*, uint32_t* abi, const dsopt_backend_api** out) -> dsopt_status {
    *abi = abi_out;
    *out = &table;
    return DSOPT_OK;
  };
  const dsopt_backend_api* good = nullptr;
  uint32_t abi = DSOPT_BACKEND_ABI;
  REQUIRE(dsopt_cpu_backend_entry(&host, &abi, &good) == DSOPT_OK);
  table = *good;
  abi_out = DSOPT_BACKEND_ABI;
  CHECK(NegotiateBackend(entry, host, "test").ok());
  abi_out = DSOPT_BACKEND_ABI + 1;
  CHECK(NegotiateBackend(entry, host, "test").status().code() == DSOPT_E_VERSION);
  abi_out = DSOPT_BACKEND_ABI;
  table.program_cancel = nullptr;
  CHECK(NegotiateBackend(entry, host, "test").status().code() == DSOPT_E_VERSION);
  table = *good;
  table.struct_size = 16;
  CHECK(NegotiateBackend(entry, host, "test").status().code() == DSOPT_E_VERSION);
}

}  // namespace
}  // namespace dsopt::testing
