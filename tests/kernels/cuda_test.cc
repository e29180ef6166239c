// cuda_test.cc - the CUDA plugin, every kernel family by shape, against the float64 reference.
// DSOPT_CUDA_PLUGIN in the environment names another plugin file. Without a GPU the program says so and
// returns 77.
#include <dlfcn.h>

#include <catch2/catch.hpp>
#include <cstdio>
#include <cstdlib>

#include "bodies.h"

namespace dsopt::kernel_test {
namespace {

const dsopt_backend_api* Api() {
  static const dsopt_backend_api* const api = []() -> const dsopt_backend_api* {
    const char* given = std::getenv("DSOPT_CUDA_PLUGIN");
    const char* path = given != nullptr ? given : DSOPT_CUDA_PLUGIN;
    void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
      std::printf("%s\n", dlerror());
      std::exit(1);
    }
    const auto entry = reinterpret_cast<dsopt_backend_entry_fn>(dlsym(library, DSOPT_BACKEND_ENTRY));
    TestHost host;
    uint32_t abi = DSOPT_BACKEND_ABI;
    const dsopt_backend_api* table = nullptr;
    const dsopt_status status = entry(host.api(), &abi, &table);
    if (status == DSOPT_E_NOT_FOUND) {
      std::printf("skipped: %s\n", host.TakeError().c_str());
      std::exit(77);
    }
    return status == DSOPT_OK ? table : nullptr;
  }();
  return api;
}

Target Gpu() {
  REQUIRE(Api() != nullptr);
  return {Api(), 0, "", 1};
}

TEST_CASE("every block computes what the interface says on the GPU", "[cuda]") {
  for (const ModelShape& shape : AllShapes()) {
    DYNAMIC_SECTION(shape.name) { CheckAgainstReference(Gpu(), shape); }
  }
}

// Shapes that reach the tensor-core kernels; the first list mostly falls back to the f32 ones.
std::vector<ModelShape> TensorCoreShapes() {
  return {
      {"linear_skinny, linear_tiles, attention 64",
       256,
       520,
       {Block(AttentionShape{8, 2, 64}), Block(MlpShape{344})}},
      {"attention 128, groups of 4, window", 136, 97, {Block(AttentionShape{8, 2, 128, 37})}},
      {"attention 128, groups of 16", 128, 130, {Block(AttentionShape{16, 1, 128})}},
      {"attention 64, one head each, biases",
       192,
       256,
       {Block(AttentionShape{3, 3, 64, 0, true}), Block(MlpShape{200, DSOPT_ACT_GELU_TANH, true})}},
      {"latent attention 512 + 64", 128, 160, {Block(MlaShape{6, 48, 512, 32, 64, 40})}},
      {"latent attention 512 + 64, many heads", 64, 96, {Block(MlaShape{70, 0, 512, 16, 64, 16})}},
      {"latent attention 512 + 64, 128 heads", 64, 96, {Block(MlaShape{128, 0, 512, 8, 64, 8})}},
      {"sorted mixture with shared expert", 128, 96, {Block(MoeShape{16, 4, 72, 136, 4, 2, false, 2.0f})}},
      {"mixture of two", 256, 96, {Block(MoeShape{8, 2, 264})}},
  };
}

TEST_CASE("tensor-core kernels compute what the interface says", "[cuda]") {
  for (const ModelShape& shape : TensorCoreShapes()) {
    DYNAMIC_SECTION(shape.name) { CheckAgainstReference(Gpu(), shape); }
  }
}

constexpr dsopt_dtype kCodedTypes[] = {DSOPT_F8_E4M3, DSOPT_I8, DSOPT_I4};

TEST_CASE("a coded cache on the GPU holds the nearest codes, and attention reads what they say",
          "[cuda][cache]") {
  const ModelShape shapes[] = {
      {"coded attention 64", 256, 520, {Block(AttentionShape{8, 2, 64}), Block(MlpShape{344})}},
      {"coded attention 128, groups of 4, window", 136, 97, {Block(AttentionShape{8, 2, 128, 37})}},
      {"coded attention 128, groups of 16", 128, 130, {Block(AttentionShape{16, 1, 128})}},
      {"coded attention 128, partial interleaved rotation",
       128,
       130,
       {Block(AttentionShape{3, 1, 128, 0, false, 48, true})}},
      {"coded attention 64, one head each, biases", 192, 256, {Block(AttentionShape{3, 3, 64, 0, true})}},
      {"coded latents 512 + 64", 128, 160, {Block(MlaShape{6, 48, 512, 32, 64, 40})}},
      {"coded latents 512 + 64, many heads", 64, 96, {Block(MlaShape{70, 0, 512, 16, 64, 16})}},
      {"coded latents 512 + 64, 128 heads", 64, 96, {Block(MlaShape{128, 0, 512, 8, 64, 8})}},
  };
  for (const ModelShape& shape : shapes) {
    for (const dsopt_dtype type : kCodedTypes) {
      DYNAMIC_SECTION(shape.name << ", type " << type) {
        CheckCodedCache(Gpu(), shape, DSOPT_PRECISION_FAST, type);
      }
    }
  }
}

// Heads and latents of any size, and f32 arithmetic, take the kernels without tensor cores.
TEST_CASE("codes of vectors of any size are read in f32", "[cuda][cache]") {
  std::vector<ModelShape> shapes = CacheShapes();
  shapes.push_back({"coded heads of 128, in f32", 64, 97, {Block(AttentionShape{4, 2, 128, 21})}});
  shapes.push_back({"coded latents 512 + 64, in f32", 64, 96, {Block(MlaShape{3, 0, 512, 16, 64, 16})}});
  for (const ModelShape& shape : shapes) {
    for (const dsopt_dtype type : kCodedTypes) {
      DYNAMIC_SECTION(shape.name << ", type " << type) {
        CheckCodedCache(Gpu(), shape, DSOPT_PRECISION_REFERENCE, type);
        CheckCodedCache(Gpu(), shape, DSOPT_PRECISION_FAST, type);
      }
    }
  }
}

TEST_CASE("every type of cache has a plan on the GPU", "[cuda][cache]") { CheckCachePlans(Gpu()); }

// Plain caches take the kernel of the GPU (wgmma or mma.sync), coded ones mma.sync.
TEST_CASE("long prompts in chunks of any size give the same logits as float64", "[cuda][prefill]") {
  const ModelShape shapes[] = {
      {"long 64, grouped", 64, 40, {Block(AttentionShape{8, 2, 64})}},
      {"long 128, groups of 4", 64, 40, {Block(AttentionShape{4, 1, 128})}},
      {"long 128, one head each, window of a page", 64, 40, {Block(AttentionShape{2, 2, 128, 64})}},
      {"long 128, window of an odd length", 64, 40, {Block(AttentionShape{4, 2, 128, 201})}},
      {"long 64, short window", 64, 40, {Block(AttentionShape{4, 2, 64, 37})}},
      {"long 64, window of two pages and one", 64, 40, {Block(AttentionShape{2, 1, 64, 129})}},
  };
  for (const ModelShape& shape : shapes) {
    for (const dsopt_dtype type : {DSOPT_BF16, DSOPT_F8_E4M3, DSOPT_I4}) {
      DYNAMIC_SECTION(shape.name << ", type " << type) { CheckLongPrefill(Gpu(), shape, type); }
    }
  }
}

// Steps of sequences side by side, whose keys are split over the GPU.
TEST_CASE("long decoding over codes gives the same logits as float64", "[cuda][cache]") {
  const ModelShape shapes[] = {
      {"steps 128, groups of 4", 64, 40, {Block(AttentionShape{4, 1, 128})}},
      {"steps 64, groups of 9, window", 64, 40, {Block(AttentionShape{9, 1, 64, 333})}},
  };
  for (const ModelShape& shape : shapes) {
    for (const dsopt_dtype type : kCodedTypes) {
      DYNAMIC_SECTION(shape.name << ", type " << type) { CheckLongDecode(Gpu(), shape, 1100, type); }
    }
  }
}

// Batches of few (row, head) pairs split the keys over the GPU, others do not.
TEST_CASE("long latent attention in chunks of any size gives the same logits as float64", "[cuda][latent]") {
  const ModelShape few{"long latent, 4 heads", 64, 40, {Block(MlaShape{4, 0, 512, 8, 64, 8})}};
  const ModelShape twice{"two layers of 3 heads",
                         64,
                         40,
                         {Block(MlaShape{3, 40, 512, 8, 64, 8}), Block(MlaShape{3, 0, 512, 8, 64, 8})}};
  const ModelShape many{"128 heads", 64, 40, {Block(MlaShape{128, 0, 512, 8, 64, 8})}};
  const ModelShape longer{"2 heads", 64, 40, {Block(MlaShape{2, 0, 512, 8, 64, 8})}};
  for (const dsopt_dtype type : {DSOPT_BF16, DSOPT_F8_E4M3, DSOPT_I8, DSOPT_I4})
    DYNAMIC_SECTION(few.name << ", type " << type) { CheckLongPrefill(Gpu(), few, type); }
  // Float64 takes seconds for each: one coded type a shape.
  for (const dsopt_dtype type : {DSOPT_BF16, DSOPT_F8_E4M3})
    DYNAMIC_SECTION(twice.name << ", type " << type) { CheckLongDecode(Gpu(), twice, 700, type); }
  for (const dsopt_dtype type : {DSOPT_BF16, DSOPT_I8})
    DYNAMIC_SECTION(many.name << ", type " << type) { CheckLongDecode(Gpu(), many, 150, type); }
  for (const dsopt_dtype type : {DSOPT_BF16, DSOPT_I4})
    DYNAMIC_SECTION(longer.name << ", type " << type) { CheckLongDecode(Gpu(), longer, 1100, type); }
}

// What the persistent step of few rows takes, in its sizes and around them: panels and units that are not whole, query
// heads of one KV head in two parts, a window, every format of weights.
TEST_CASE("one row of each of many sequences gives the logits of float64", "[cuda][batch]") {
  const ModelShape plain[] = {
      {"batch 64, groups of 4",
       320,
       130,
       {Block(AttentionShape{8, 2, 64}), Block(MlpShape{448}), Block(AttentionShape{8, 2, 64}), Block(MlpShape{448})}},
      {"batch 128, groups of 8, window",
       128,
       97,
       {Block(AttentionShape{8, 1, 128, 37}), Block(MlpShape{64}), Block(AttentionShape{8, 1, 128, 37}),
        Block(MlpShape{64})}},
      {"batch 64, one head each", 192, 96, {Block(AttentionShape{3, 3, 64}), Block(MlpShape{320})}},
      {"batch 128, groups of 6", 64, 96, {Block(AttentionShape{6, 1, 128}), Block(MlpShape{128})}},
  };
  for (const ModelShape& shape : plain) {
    DYNAMIC_SECTION(shape.name) { CheckManyDecode(Gpu(), shape); }
    const std::pair<const char*, CodedShape> codings[] = {
        {"lossless12", {DSOPT_ENCODING_LOSSLESS12, 0, 0, false, false, 0.001}},
        {"int8", {DSOPT_ENCODING_INT8, 1, 0, false, false}},
        {"fp8", {DSOPT_ENCODING_FP8, 1, 0, false, false}},
        {"int4 32", {DSOPT_ENCODING_INT4, 1, 32, false, true}},
        {"int4 64", {DSOPT_ENCODING_INT4, 1, 64, false, true}},
        {"int4 128", {DSOPT_ENCODING_INT4, 1, 128, false, true}},
    };
    for (const auto& [name, coding] : codings) {
      ModelShape coded = shape;
      coded.coded = coding;
      DYNAMIC_SECTION(shape.name << ", " << name) { CheckManyDecode(Gpu(), coded); }
    }
  }
}

TEST_CASE("blocks compute the same over pages in host memory", "[cuda][host_pages]") {
  for (const ModelShape& shape : TensorCoreShapes()) {
    DYNAMIC_SECTION(shape.name) { CheckAgainstReference(Gpu(), shape, 40); }
  }
  const ModelShape small{"attention 64, f32 matrices", 64, 97, {Block(AttentionShape{4, 2, 64})}, DSOPT_F32};
  DYNAMIC_SECTION(small.name) { CheckAgainstReference(Gpu(), small, 40); }
}

TEST_CASE("where the pages of a cache lie changes no bit", "[cuda][host_pages]") {
  const ModelShape shape{
      "attention 128 and 64", 128, 97, {Block(AttentionShape{8, 2, 128}), Block(AttentionShape{4, 4, 64})}};
  for (const dsopt_dtype type : {DSOPT_BF16, DSOPT_F8_E4M3, DSOPT_I8, DSOPT_I4}) {
    DYNAMIC_SECTION("type " << type) { CheckHostPages(Gpu(), shape, DSOPT_PRECISION_FAST, type); }
  }
  const ModelShape latent{"latent attention", 128, 160, {Block(MlaShape{6, 48, 512, 32, 64, 40})}};
  for (const dsopt_dtype type : {DSOPT_BF16, DSOPT_F8_E4M3, DSOPT_I4}) {
    DYNAMIC_SECTION("latent, type " << type) { CheckHostPages(Gpu(), latent, DSOPT_PRECISION_FAST, type); }
  }
  DYNAMIC_SECTION("f32") { CheckHostPages(Gpu(), shape, DSOPT_PRECISION_REFERENCE, DSOPT_F32); }
}

TEST_CASE("a replayed step gives the bits of one that is launched kernel by kernel", "[cuda][replay]") {
  for (const ReplayCase& what : ReplayCases()) {
    DYNAMIC_SECTION(what.shape.name << ", type " << what.kv_dtype) { CheckReplay(Gpu(), what); }
  }
}

TEST_CASE("pages in host memory move like the device's, and what fails leaves nothing", "[cuda][host_pages]") {
  CheckHostPageCalls(Gpu());
}

TEST_CASE("weight_fill on the GPU follows its recipe", "[cuda]") { CheckFill(Gpu()); }
TEST_CASE("a token drawn on the GPU is the one a float64 sampler draws", "[cuda]") {
  CheckSamplingSteps(Gpu());
}
TEST_CASE("tokens drawn on the GPU follow the distribution", "[cuda]") { CheckSamplingSpread(Gpu()); }
TEST_CASE("log probabilities on the GPU are those of the unmodified logits", "[cuda]") { CheckScoring(Gpu()); }
TEST_CASE("the GPU refuses calls at the wrong moment, and cancelled batches leave no trace", "[cuda]") {
  CheckRepeatedCalls(Gpu());
}
TEST_CASE("the GPU refuses hostile input with a message", "[cuda]") { CheckHostileInput(Gpu()); }
TEST_CASE("a refused allocation leaks nothing on the GPU", "[cuda]") { CheckFailingAllocator(Gpu()); }

}  // namespace
}  // namespace dsopt::kernel_test
