// reference.h - what the blocks of backend.h mean, in float64, one position after the other. Slow and obvious.
#ifndef DSOPT_TESTS_KERNELS_REFERENCE_H_
#define DSOPT_TESTS_KERNELS_REFERENCE_H_

#include <cstdint>
#include <vector>

#include "harness.h"

namespace dsopt::kernel_test {

struct ReferenceResult {
  std::vector<std::vector<double>> logits;  // of every position
  std::vector<double>
      route_margin;  // of every position: smallest gap between a chosen and a rejected probability
};

ReferenceResult RunReference(const TestModel& model, const std::vector<int32_t>& tokens);

}  // namespace dsopt::kernel_test
#endif  // DSOPT_TESTS_KERNELS_REFERENCE_H_
