// threads_test.cc - one dsopt_ops, several threads. For ThreadSanitizer, too.
#include <atomic>
#include <thread>

#include "host_device.h"

namespace dsopt::ops_test {
namespace {

TEST_CASE("several threads use the same operators at once", "[ops]") {
  HostMemory memory;
  Device device(&memory, NewRuntime(nullptr, 2).get(), "cpu");
  Random random(Seed() + 10);
  Tensor x(&device, DSOPT_BF16, {40, 64}), weight(&device, DSOPT_BF16, {200, 64});
  Tensor expected(&device, DSOPT_F32, {40, 200});
  x.Normal(&random);
  weight.Normal(&random);
  auto args = Sized<dsopt_linear_args>();
  args.x = x;
  args.weight = weight;
  args.out = expected;
  Run(&device, DSOPT_OP_LINEAR, &args);
  expected.Read();
  size_t bytes = 0;
  REQUIRE(dsopt_op_workspace(device.ops, DSOPT_OP_LINEAR, &args, &bytes, nullptr) == DSOPT_OK);
  constexpr int kThreads = 4;
  std::vector<std::unique_ptr<Tensor>> outs;
  std::vector<std::unique_ptr<Buffer>> workspaces;
  std::vector<std::thread> threads;
  std::atomic<int> failures{0};
  for (int t = 0; t < kThreads; ++t) {
    outs.push_back(std::make_unique<Tensor>(&device, DSOPT_F32, std::vector<int64_t>{40, 200}));
    workspaces.push_back(std::make_unique<Buffer>(&device, bytes, 0));
  }
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      dsopt_linear_args mine = args;
      mine.out = *outs[static_cast<size_t>(t)];
      auto launch = Sized<dsopt_launch>();
      launch.workspace = workspaces[static_cast<size_t>(t)]->data();
      launch.workspace_size = bytes;
      for (int i = 0; i < 50; ++i) failures += dsopt_op_linear(device.ops, &mine, &launch) == DSOPT_OK ? 0 : 1;
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(failures == 0);
  for (const std::unique_ptr<Tensor>& out : outs) CHECK(out->Read() == expected.values);
}

}  // namespace
}  // namespace dsopt::ops_test
