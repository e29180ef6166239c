// avx2_vnni.cc - the kernels compiled for AVX2, FMA, F16C and dot products of bytes (AVX-VNNI).
#define DSOPT_ISA_NAME "avx2_vnni"
#define DSOPT_ISA_ARCH 4
#define DSOPT_ISA_FLOPS 3000000
#define DSOPT_ISA_ENTRY KernelsAvx2Vnni
#include "isa/table.inc"
