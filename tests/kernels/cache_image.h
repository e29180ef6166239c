// cache_image.h - what a program keeps in its cache, as numbers: pages read back and decoded as
// dsopt_program_desc says, independently of any backend.
#ifndef DSOPT_TESTS_KERNELS_CACHE_IMAGE_H_
#define DSOPT_TESTS_KERNELS_CACHE_IMAGE_H_

#include <cstdint>
#include <vector>

#include "dsopt/backend.h"

namespace dsopt::kernel_test {

class TestProgram;

// Bytes of one vector: codes and words.
uint64_t CacheVectorBytes(dsopt_dtype kv_dtype, uint64_t values);

// One vector (what a position has of a head) and the most by which each value may be off for its type's
// rounding.
struct CachedVector {
  std::vector<double> values, allowed;
};

// Of one position in one layer: K of all heads then V of all heads; MLA: latent and rotated part.
struct CachedPosition {
  std::vector<CachedVector> vectors;
};

// [block of the model][position]; empty for blocks without a cache. F8_E4M3, I8 and I4 only.
using CacheImage = std::vector<std::vector<CachedPosition>>;
CacheImage ReadCache(const TestProgram& program, uint32_t sequence);

}  // namespace dsopt::kernel_test
#endif  // DSOPT_TESTS_KERNELS_CACHE_IMAGE_H_
