// avx2.cc - the kernels compiled for AVX2, FMA and F16C.
#define DSOPT_ISA_NAME "avx2"
#define DSOPT_ISA_ARCH 1
#define DSOPT_ISA_FLOPS 3000000
#define DSOPT_ISA_ENTRY KernelsAvx2
#include "isa/table.inc"
