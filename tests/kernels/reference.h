// reference.h - what the blocks of backend.h mean, in float64, one position after the other. Slow and obvious.
#ifndef DSOPT_TESTS_KERNELS_REFERENCE_H_
#define DSOPT_TESTS_KERNELS_REFERENCE_H_

#include <cstdint>
#include <vector>

#include "cache_image.h"
#include "harness.h"

namespace dsopt::kernel_test {

struct ReferenceResult {
  std::vector<std::vector<double>> logits;  // of every position
  std::vector<double>
      route_margin;  // of every position: smallest gap between a chosen and a rejected probability
  // With a cache image: largest distance of a cached value from the one computed here, beyond what its type's
  // rounding allows, in root mean squares of its vector.
  double worst_cache_error = 0.0;
};

// cache: what attention reads, also of the position itself, in place of what is computed here. NULL: that.
ReferenceResult RunReference(const TestModel& model, const std::vector<int32_t>& tokens,
                             const CacheImage* cache = nullptr);

}  // namespace dsopt::kernel_test
#endif  // DSOPT_TESTS_KERNELS_REFERENCE_H_
