// avx512_vnni.cc - the kernels compiled for AVX-512 F, BW, DQ, VL and dot products of bytes (VNNI).
#define DSOPT_ISA_NAME "avx512_vnni"
#define DSOPT_ISA_ARCH 5
#define DSOPT_ISA_FLOPS 5000000
#define DSOPT_ISA_ENTRY KernelsAvx512Vnni
#include "isa/table.inc"
