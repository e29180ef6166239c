// cpu_test.cc - the CPU backend, every instruction set that this machine has.
#include <catch2/catch.hpp>

#include "bodies.h"

extern "C" dsopt_status dsopt_cpu_backend_entry(const dsopt_host_api* host, uint32_t* abi,
                                                const dsopt_backend_api** out);

namespace dsopt::kernel_test {
namespace {

const dsopt_backend_api* Api() {
  static const dsopt_backend_api* const api = [] {
    TestHost host;
    uint32_t abi = DSOPT_BACKEND_ABI;
    const dsopt_backend_api* table = nullptr;
    return dsopt_cpu_backend_entry(host.api(), &abi, &table) == DSOPT_OK ? table : nullptr;
  }();
  return api;
}

// All of them: a machine that lacks one takes the next lower in its place.
std::vector<Target> Targets() {
  static const char* const names[] = {"scalar", "avx2", "avx2_vnni", "avx512", "avx512_vnni", "avx512_bf16"};
  std::vector<Target> targets;
  for (const char* name : names) targets.push_back({Api(), 0, name, 2});
  return targets;
}

template <typename Body>
void ForEach(const Body& body) {
  for (const Target& target : Targets()) {
    DYNAMIC_SECTION(target.variant) { body(target); }
  }
}

TEST_CASE("every block computes what the interface says", "[cpu]") {
  ForEach([](const Target& target) {
    for (const ModelShape& shape : AllShapes()) CheckAgainstReference(target, shape);
  });
}

TEST_CASE("a row's bits do not depend on its batch, on chunks, slices or threads", "[cpu]") {
  ForEach([](const Target& target) {
    for (const ModelShape& shape : AllShapes()) CheckBatchInvariance(target, shape);
  });
}

TEST_CASE("a long context gives the same bits however it was read", "[cpu]") {
  ForEach([](const Target& target) {
    CheckLongContext(target, 0, 600);
    CheckLongContext(target, 300, 700);
  });
}

constexpr dsopt_dtype kCacheTypes[] = {DSOPT_F8_E4M3, DSOPT_I8, DSOPT_I4};

TEST_CASE("long prompts in chunks of any size give the same logits as float64", "[cpu][prefill]") {
  const ModelShape shape{"long 128, window of an odd length", 64, 40, {Block(AttentionShape{4, 2, 128, 201})}};
  ForEach([&](const Target& target) {
    CheckLongPrefill(target, shape, DSOPT_BF16);
    CheckLongPrefill(target, shape, DSOPT_F8_E4M3);
  });
}

TEST_CASE("every type of cache has a plan", "[cpu][cache]") { ForEach(CheckCachePlans); }

TEST_CASE("a coded cache holds the nearest codes, and attention reads what they say", "[cpu][cache]") {
  ForEach([](const Target& target) {
    for (const ModelShape& shape : CacheShapes()) {
      for (const dsopt_dtype type : kCacheTypes) {
        for (const dsopt_precision p : {DSOPT_PRECISION_REFERENCE, DSOPT_PRECISION_FAST}) {
          CheckCodedCache(target, shape, p, type);
        }
      }
    }
  });
}

TEST_CASE("with a coded cache, too, a row's bits depend on nothing but the row", "[cpu][cache]") {
  ForEach([](const Target& target) {
    for (const ModelShape& shape : CacheShapes()) {
      for (const dsopt_dtype type : kCacheTypes)
        CheckBatchInvariance(target, shape, DSOPT_PRECISION_FAST, type);
    }
  });
}

TEST_CASE("a long context in a coded cache gives the same bits however it was read", "[cpu][cache]") {
  ForEach([](const Target& target) {
    CheckLongContext(target, 0, 600, DSOPT_F8_E4M3);
    CheckLongContext(target, 300, 700, DSOPT_I4);
  });
}

TEST_CASE("long decoding over codes gives the same logits as float64", "[cpu][cache]") {
  const ModelShape heads{"steps 128, window", 64, 40, {Block(AttentionShape{4, 1, 128, 133})}};
  const ModelShape latents{"steps of latents", 64, 40, {Block(MlaShape{3, 0, 512, 8, 64, 8})}};
  ForEach([&](const Target& target) {
    for (const dsopt_dtype type : kCacheTypes) {
      CheckLongDecode(target, heads, 300, type);
      CheckLongDecode(target, latents, 150, type);
    }
  });
}

TEST_CASE("coded weights compute what their codes stand for", "[cpu][coded]") {
  ForEach([](const Target& target) {
    for (const ModelShape& shape : CodedShapes()) CheckAgainstReference(target, shape);
  });
}

TEST_CASE("with coded weights, too, a row's bits depend on nothing but the row", "[cpu][coded]") {
  ForEach([](const Target& target) {
    for (const ModelShape& shape : CodedShapes()) CheckBatchInvariance(target, shape);
  });
}

TEST_CASE("12-bit weights give the logits of bf16 to the bit", "[cpu][coded]") { ForEach(CheckLosslessBits); }
TEST_CASE("12-bit weights survive writes that find no memory", "[cpu][coded]") {
  ForEach(CheckLosslessRetries);
}
TEST_CASE("coded weights are filled with the numbers of plain ones", "[cpu][coded]") {
  ForEach(CheckCodedFill);
}
TEST_CASE("encodings that make no sense are refused with a message", "[cpu][coded]") {
  ForEach(CheckCodedCalls);
}
TEST_CASE("coded weights take the bits they promise", "[cpu][coded]") { CheckCodedBytes(Targets()[0]); }

TEST_CASE("weight_fill follows its recipe", "[cpu]") { ForEach(CheckFill); }
TEST_CASE("a token is the one a float64 sampler draws", "[cpu]") { ForEach(CheckSamplingSteps); }
TEST_CASE("drawn tokens follow the distribution", "[cpu]") { ForEach(CheckSamplingSpread); }
TEST_CASE("log probabilities are those of the unmodified logits", "[cpu]") { ForEach(CheckScoring); }
TEST_CASE("calls at the wrong moment are refused, cancelled batches leave no trace", "[cpu]") {
  ForEach(CheckRepeatedCalls);
}
TEST_CASE("hostile input is refused with a message", "[cpu]") { ForEach(CheckHostileInput); }
TEST_CASE("a refused allocation leaks nothing", "[cpu]") { ForEach(CheckFailingAllocator); }

}  // namespace
}  // namespace dsopt::kernel_test
