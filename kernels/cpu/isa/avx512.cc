// avx512.cc - the kernels compiled for AVX-512 F, BW, DQ and VL.
#define DSOPT_ISA_NAME "avx512"
#define DSOPT_ISA_ARCH 2
#define DSOPT_ISA_FLOPS 5000000
#define DSOPT_ISA_ENTRY KernelsAvx512
#include "isa/table.inc"
