// ops_reference.h - what the operators of dsopt/ops.h mean, in float64 and plain loops, with how far f32 (and
// bf16 where the contract allows it) may be off.
#ifndef DSOPT_TESTS_OPS_OPS_REFERENCE_H_
#define DSOPT_TESTS_OPS_OPS_REFERENCE_H_

#include "ops_harness.h"

namespace dsopt::ops_test {

using Values = Tensor::Values;

// Values with the error each may have before it is rounded to an output's type.
struct Bounded {
  Values value, error;
};

inline constexpr double kF32Error = 4e-6;  // of a sum, relative to the sum of its terms' magnitudes
inline double RoundingOf(dsopt_dtype dtype) { return dtype == DSOPT_BF16 ? 1.0 / 256 : 1e-6; }

double Activate(dsopt_activation activation, double x);

// [rows, cols] of x; weight [cols]
Bounded RmsNormReference(const Values& x, size_t cols, const Values* weight, double eps);
// x [rows, in], weight [out, in], bias [out] or NULL. x has errors of its own.
Bounded LinearReference(const Bounded& x, size_t inputs, const double* weight, size_t outputs,
                        const Values* bias);
// Gated MLP over weights [2 inner, hidden], [hidden, inner]. middle: the type of the intermediate.
Bounded GatedReference(const Bounded& x, size_t hidden, const double* gate_up, const double* down, size_t inner,
                       dsopt_activation activation, dsopt_dtype middle);

Bounded Exactly(const Values& values);
// found is expected, rounded to its type.
void CheckOutput(Tensor* found, const Bounded& expected, const std::string& what);

}  // namespace dsopt::ops_test
#endif  // DSOPT_TESTS_OPS_OPS_REFERENCE_H_
