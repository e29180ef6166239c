// bodies.h - what every backend must do, as functions over a target. A driver (cpu_test.cc) wraps them in test
// cases.
#ifndef DSOPT_TESTS_KERNELS_BODIES_H_
#define DSOPT_TESTS_KERNELS_BODIES_H_

#include <functional>

#include "harness.h"

namespace dsopt::kernel_test {

// One attention block and one MLP: for tests of calls, not of numbers.
const ModelShape& SmallShape();

// Every block kind against the float64 reference, one model per entry.
std::vector<ModelShape> AllShapes();
// host_pages: of the 64 of each program.
void CheckAgainstReference(const Target& target, const ModelShape& shape, uint32_t host_pages = 0);

// The same rows alone, together, chunked, sliced, with other thread counts: the same bits.
void CheckBatchInvariance(const Target& target, const ModelShape& shape);
void CheckBatchInvariance(const Target& target, const ModelShape& shape, dsopt_precision precision,
                          dsopt_dtype kv_dtype);
// A long context (several spans and waves), chunked differently and against the reference.
void CheckLongContext(const Target& target, uint32_t window, uint32_t length, dsopt_dtype kv_dtype = DSOPT_F32);
// The same batches with pages on the device, on both sides and on the host: the same bits. kv_dtype: also coded
// ones.
void CheckHostPages(const Target& target, const ModelShape& shape, dsopt_precision precision,
                    dsopt_dtype kv_dtype);

// Steps of changing sequences, contexts, pages and sampling, replayed and launched piece by piece: the same
// bits. played is called after the one and after the other.
struct ReplayCase {
  ModelShape shape;
  dsopt_precision precision = DSOPT_PRECISION_FAST;
  dsopt_dtype kv_dtype = DSOPT_BF16;
  uint32_t host_pages = 0;
};
std::vector<ReplayCase> ReplayCases();
void CheckReplay(
    const Target& target, const ReplayCase& what, const std::function<void()>& played = [] {});

// Prompts of several pages and row tiles, in chunks of many sizes that start anywhere in a page, two sequences
// at once.
void CheckLongPrefill(const Target& target, const ModelShape& shape, dsopt_dtype kv_dtype);
// Sequences of `length`, half of it and few rows, the last rows of each one or few at a time.
void CheckLongDecode(const Target& target, const ModelShape& shape, size_t length,
                     dsopt_dtype kv_dtype = DSOPT_BF16);
// Up to 32 sequences of 1 to 150 tokens, one row of each in a batch, in any order; bf16 cache.
void CheckManyDecode(const Target& target, const ModelShape& shape);

// A cache of F8_E4M3, I8 or I4: what is in it, and what attention makes of that.
std::vector<ModelShape> CacheShapes();
void CheckCodedCache(const Target& target, const ModelShape& shape, dsopt_precision precision,
                     dsopt_dtype kv_dtype);

// Every type of cache has a plan, of the bytes that backend.h says, whatever the shape and precision.
void CheckCachePlans(const Target& target);

// coded_body.cc: weights with an encoding. CodedShapes go through the checks above.
std::vector<ModelShape> CodedShapes();
void CheckLosslessBits(const Target& target);  // the logits of LOSSLESS12 are those of bf16, to the bit
void CheckCodedFill(const Target& target);     // weight_fill gives the same numbers, as far as the codes can
void CheckLosslessRetries(
    const Target& target);                   // a write that found no memory may come again; nothing comes twice
void CheckCodedCalls(const Target& target);  // what is refused, with a message
void CheckCodedBytes(const Target& target);  // bits of a weight in memory

void CheckFill(const Target& target);            // weight_fill is the documented formula
void CheckSamplingSteps(const Target& target);   // tokens of a plain float64 sampler, all options
void CheckSamplingSpread(const Target& target);  // drawn frequencies follow the distribution
void CheckScoring(const Target& target);         // logprobs and top logprobs
void CheckRepeatedCalls(const Target& target);   // pages, cancel, wrong moments
void CheckHostileInput(
    const Target& target);  // hostile_body.cc: every refusal has a message and changes nothing
void CheckFailingAllocator(const Target& target);  // the n-th allocation fails, for all n
void CheckHostPageCalls(const Target& target);     // plan, moves between both sides, wrong numbers, no memory

}  // namespace dsopt::kernel_test
#endif  // DSOPT_TESTS_KERNELS_BODIES_H_
