// ops_bodies.h - what every device must do, as functions over one. A driver (cpu_test.cc) wraps them in test
// cases.
#ifndef DSOPT_TESTS_OPS_OPS_BODIES_H_
#define DSOPT_TESTS_OPS_OPS_BODIES_H_

#include "ops_harness.h"

namespace dsopt::ops_test {

// Against loops in float64, over odd shapes, every type, views with gaps.
void CheckRmsNorm(Device* device);
void CheckLinear(Device* device);
void CheckQkv(Device* device);
void CheckAttention(Device* device);
void CheckGatedMlp(Device* device);
void CheckMoe(Device* device);
void CheckSample(Device* device);

// Every operand of every operator, wrong in every way: the status, a message with its name, outputs untouched.
void CheckWrongUse(Device* device);

// Devices with memory of their own: index values that the host cannot see, memory that is not theirs.
void CheckHostileIndices(Device* device);
void CheckForeignMemory(Device* device);

}  // namespace dsopt::ops_test
#endif  // DSOPT_TESTS_OPS_OPS_BODIES_H_
