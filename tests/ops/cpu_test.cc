// cpu_test.cc - the operators on the CPU: every instruction set of this machine, alone and with threads.
#include <algorithm>

#include "host_device.h"
#include "ops_bodies.h"

namespace dsopt::ops_test {
namespace {

// All sets of instructions: a machine that lacks one takes the next lower in its place.
template <typename Body>
void ForEach(const Body& body) {
  uint32_t threads = 0;
  const char* const variants[] = {"scalar", "avx2", "avx2_vnni", "avx512", "avx512_vnni", "avx512_bf16"};
  for (const char* variant : variants) {
    threads = threads % 3 + 1;
    DYNAMIC_SECTION(variant) {
      HostMemory memory;
      Device device(&memory, NewRuntime(variant, threads).get(), "cpu");
      body(&device);
    }
  }
}

TEST_CASE("rmsnorm computes what the header says", "[ops]") { ForEach(CheckRmsNorm); }
TEST_CASE("linear computes what the header says", "[ops]") { ForEach(CheckLinear); }
TEST_CASE("qkv computes what the header says", "[ops]") { ForEach(CheckQkv); }
TEST_CASE("attention computes what the header says", "[ops]") { ForEach(CheckAttention); }
TEST_CASE("the gated MLP computes what the header says", "[ops]") { ForEach(CheckGatedMlp); }
TEST_CASE("the mixture computes what the header says", "[ops]") { ForEach(CheckMoe); }
TEST_CASE("sample draws the token that a float64 sampler draws", "[ops]") { ForEach(CheckSample); }

TEST_CASE("wrong use of any operand is refused by name before anything is written", "[ops]") {
  HostMemory memory;
  Device device(&memory, NewRuntime(nullptr, 2).get(), "cpu");
  CheckWrongUse(&device);
}

TEST_CASE("a row of linear has the same bits alone and among others", "[ops]") {
  ForEach([](Device* device) {
    Random random(Seed() + 9);
    Tensor x(device, DSOPT_BF16, {130, 97}), weight(device, DSOPT_BF16, {70, 97}),
        out(device, DSOPT_F32, {130, 70});
    Tensor alone(device, DSOPT_F32, {1, 70});
    x.Normal(&random);
    weight.Normal(&random);
    auto args = Sized<dsopt_linear_args>();
    args.x = x;
    args.weight = weight;
    args.out = out;
    Run(device, DSOPT_OP_LINEAR, &args);
    out.Read();
    for (int64_t row = 0; row < 130; row += 43) {
      dsopt_tensor one = x.view;
      one.shape[0] = 1;
      one.data = static_cast<uint16_t*>(one.data) + row * 97;
      args.x = &one;
      args.out = alone;
      Run(device, DSOPT_OP_LINEAR, &args);
      alone.Read();
      CHECK(std::equal(alone.values.begin(), alone.values.end(), &out.values[out.Index({row, 0})]));
    }
  });
}

TEST_CASE("operators of an older and of a newer header are understood or refused", "[ops]") {
  HostMemory memory;
  Device device(&memory, NewRuntime(nullptr, 1).get(), "cpu");
  Tensor x(&device, DSOPT_F32, {2, 8}), weight(&device, DSOPT_F32, {8}), out(&device, DSOPT_F32, {2, 8});
  x.Fill([] { return 1.0; });
  weight.Fill([] { return 1.0; });
  struct Newer {
    dsopt_rmsnorm_args args;
    uint64_t unknown;
  } newer = {Sized<dsopt_rmsnorm_args>(), 0};
  newer.args.struct_size = sizeof newer;
  newer.args.x = x;
  newer.args.weight = weight;
  newer.args.out = out;
  Run(&device, DSOPT_OP_RMSNORM, &newer);
  newer.unknown = 1;
  size_t bytes = 0;
  CHECK(dsopt_op_workspace(device.ops, DSOPT_OP_RMSNORM, &newer, &bytes, nullptr) == DSOPT_E_UNSUPPORTED);
}

TEST_CASE("creating operators names what is missing", "[ops]") {
  const RuntimePtr runtime = NewRuntime(nullptr, 1);
  dsopt_ops* ops = nullptr;
  CHECK(dsopt_ops_create(nullptr, "cpu", &ops) == DSOPT_E_INVALID_ARGUMENT);
  CHECK(dsopt_ops_create(runtime.get(), nullptr, &ops) == DSOPT_E_INVALID_ARGUMENT);
  CHECK(dsopt_ops_create(runtime.get(), "cpu", nullptr) == DSOPT_E_INVALID_ARGUMENT);
  CHECK(dsopt_ops_create(runtime.get(), "cuda:7", &ops) == DSOPT_E_NOT_FOUND);
  CHECK(std::string(dsopt_last_error()).find("cuda:7") != std::string::npos);
  CHECK(ops == nullptr);
  dsopt_ops_release(nullptr);
}

}  // namespace
}  // namespace dsopt::ops_test
