// Operators allocate nothing: neither through the host's allocator nor with operator new. Counts every operator
// new of the process, so it is a program of its own.
#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <new>
#include <vector>

#include "dsopt/ops.h"

namespace {

std::atomic<uint64_t> g_news{0}, g_host_allocs{0};

}  // namespace

// Not inlined: gcc would compare the malloc and free inside with new and delete.
[[gnu::noinline]] void* operator new(size_t size) {
  g_news.fetch_add(1, std::memory_order_relaxed);
  if (void* memory = std::malloc(size > 0 ? size : 1)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept { std::free(memory); }
// The sanitizers have one of their own otherwise, which does not match the delete above.
[[gnu::noinline]] void* operator new(size_t size, const std::nothrow_t&) noexcept {
  try {
    return operator new(size);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

namespace dsopt::ops_test {
namespace {

void* DSOPT_CALL CountedAlloc(void*, size_t size, size_t align) {
  g_host_allocs.fetch_add(1, std::memory_order_relaxed);
  return std::aligned_alloc(std::max<size_t>(align, 64), (size + 63) / 64 * 64 + (size == 0 ? 64 : 0));
}
void DSOPT_CALL CountedFree(void*, void* memory, size_t, size_t) { std::free(memory); }

template <typename T>
T Sized() {
  T value = {};
  value.struct_size = sizeof value;
  return value;
}

dsopt_tensor View(dsopt_dtype dtype, std::initializer_list<int64_t> shape, std::vector<float>* memory,
                  size_t at) {
  auto t = Sized<dsopt_tensor>();
  t.dtype = dtype;
  for (const int64_t extent : shape) t.shape[t.ndim++] = extent;
  t.data = memory->data() + at;
  return t;
}

struct Calls {
  dsopt_rmsnorm_args norm = Sized<dsopt_rmsnorm_args>();
  dsopt_linear_args linear = Sized<dsopt_linear_args>();
  dsopt_qkv_args qkv = Sized<dsopt_qkv_args>();
  dsopt_attention_args attention = Sized<dsopt_attention_args>();
  dsopt_gated_mlp_args mlp = Sized<dsopt_gated_mlp_args>();
  dsopt_moe_args moe = Sized<dsopt_moe_args>();
  dsopt_sample_args sample = Sized<dsopt_sample_args>();
};

uint64_t Workspace(const dsopt_ops* ops, const Calls& c) {
  const std::pair<dsopt_op, const void*> all[] = {
      {DSOPT_OP_RMSNORM, &c.norm},        {DSOPT_OP_LINEAR, &c.linear}, {DSOPT_OP_QKV, &c.qkv},
      {DSOPT_OP_ATTENTION, &c.attention}, {DSOPT_OP_GATED_MLP, &c.mlp}, {DSOPT_OP_MOE, &c.moe},
      {DSOPT_OP_SAMPLE, &c.sample}};
  size_t most = 0;
  for (const auto& [op, args] : all) {
    size_t bytes = 0;
    const dsopt_status status = dsopt_op_workspace(ops, op, args, &bytes, nullptr);
    INFO(dsopt_last_error());
    REQUIRE(status == DSOPT_OK);
    most = std::max(most, bytes);
  }
  return most;
}

bool RunAll(const dsopt_ops* ops, const Calls& c,
            const dsopt_launch* launch) {  // no Catch macro: those allocate
  return dsopt_op_rmsnorm(ops, &c.norm, launch) == DSOPT_OK &&
         dsopt_op_linear(ops, &c.linear, launch) == DSOPT_OK && dsopt_op_qkv(ops, &c.qkv, launch) == DSOPT_OK &&
         dsopt_op_attention(ops, &c.attention, launch) == DSOPT_OK &&
         dsopt_op_gated_mlp(ops, &c.mlp, launch) == DSOPT_OK && dsopt_op_moe(ops, &c.moe, launch) == DSOPT_OK &&
         dsopt_op_sample(ops, &c.sample, launch) == DSOPT_OK;
}

TEST_CASE("no operator allocates", "[ops]") {
  auto allocator = Sized<dsopt_allocator>();
  allocator.alloc = CountedAlloc;
  allocator.free = CountedFree;
  auto options = Sized<dsopt_runtime_options>();
  options.allocator = &allocator;
  options.cpu_threads = 2;
  options.disable_backend_scan = 1;
  dsopt_runtime* runtime = nullptr;
  REQUIRE(dsopt_runtime_create(&options, &runtime) == DSOPT_OK);
  dsopt_ops* ops = nullptr;
  REQUIRE(dsopt_ops_create(runtime, "cpu", &ops) == DSOPT_OK);
  dsopt_runtime_release(runtime);  // ops keeps what it needs

  std::vector<float> in(4096, 0.01f), out(4096);
  const dsopt_tensor x = View(DSOPT_F32, {5, 16}, &in, 0), gain = View(DSOPT_F32, {16}, &in, 0);
  const dsopt_tensor square = View(DSOPT_BF16, {32, 16}, &in, 0), down = View(DSOPT_BF16, {16, 16}, &in, 0);
  const dsopt_tensor y = View(DSOPT_F32, {5, 16}, &out, 0), wide = View(DSOPT_F32, {5, 32}, &out, 0);
  const dsopt_tensor q = View(DSOPT_F32, {5, 2, 8}, &out, 0), k = View(DSOPT_F32, {5, 1, 8}, &out, 1000);
  const dsopt_tensor v = View(DSOPT_F32, {5, 1, 8}, &out, 2000), heads = View(DSOPT_F32, {5, 2, 8}, &in, 0);
  const dsopt_tensor keys = View(DSOPT_F32, {1, 5, 1, 8}, &in, 100),
                     values = View(DSOPT_F32, {1, 5, 1, 8}, &in, 200);
  const dsopt_tensor experts_up = View(DSOPT_F32, {3, 32, 16}, &in, 0),
                     router = View(DSOPT_F32, {3, 16}, &in, 0);
  const dsopt_tensor experts_down = View(DSOPT_F32, {3, 16, 16}, &in, 0),
                     logits = View(DSOPT_F32, {2, 500}, &in, 0);
  const dsopt_tensor tokens = View(DSOPT_I32, {2}, &out, 0);
  auto sampling = Sized<dsopt_sampling>();
  sampling.temperature = 1.0f;
  sampling.top_p = 0.9f;
  sampling.typical_p = 0.9f;
  Calls c;
  c.norm.x = &x, c.norm.weight = &gain, c.norm.out = &y;
  c.linear.x = &x, c.linear.weight = &square, c.linear.out = &wide;
  c.qkv.x = &x, c.qkv.weight = &square, c.qkv.q = &q, c.qkv.k = &k, c.qkv.v = &v, c.qkv.norm = &gain;
  c.attention.batch = 1, c.attention.q = &heads, c.attention.k = &keys, c.attention.v = &values,
  c.attention.out = &q;
  c.mlp.activation = DSOPT_ACT_SILU, c.mlp.x = &x, c.mlp.gate_up = &square, c.mlp.down = &down, c.mlp.out = &y;
  c.moe.activation = DSOPT_ACT_SILU, c.moe.top_k = 2, c.moe.x = &x, c.moe.router = &router;
  c.moe.gate_up = &experts_up, c.moe.down = &experts_down, c.moe.out = &y;
  c.sample.params_count = 1, c.sample.params = &sampling, c.sample.logits = &logits, c.sample.tokens = &tokens;
  const uint64_t bytes = Workspace(ops, c);
  auto launch = Sized<dsopt_launch>();
  launch.workspace = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  launch.workspace_size = bytes;

  const uint64_t news = g_news, host_allocs = g_host_allocs;
  bool ok = true;
  for (int i = 0; i < 20; ++i) ok = ok && RunAll(ops, c, &launch);
  const uint64_t news_after = g_news, host_allocs_after = g_host_allocs;
  INFO(dsopt_last_error());
  CHECK(ok);
  CHECK(news_after - news == 0);
  CHECK(host_allocs_after - host_allocs == 0);
  CHECK(news > 0);  // the counters do count
  CHECK(host_allocs > 0);
  dsopt_ops_release(ops);
  std::free(launch.workspace);
}

}  // namespace
}  // namespace dsopt::ops_test
