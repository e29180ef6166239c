// scalar.cc - the kernels compiled for any machine.
#define DSOPT_ISA_NAME "scalar"
#define DSOPT_ISA_ARCH 0
#define DSOPT_ISA_FLOPS 500000
#define DSOPT_ISA_ENTRY KernelsScalar
#include "isa/table.inc"
