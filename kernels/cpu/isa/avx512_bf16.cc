// avx512_bf16.cc - the kernels compiled for AVX-512 with dot products of bf16 and of bytes (VNNI), which every machine
// with the former has.
#define DSOPT_ISA_NAME "avx512_bf16"
#define DSOPT_ISA_ARCH 3
#define DSOPT_ISA_FLOPS 8000000
#define DSOPT_ISA_ENTRY KernelsAvx512Bf16
#include "isa/table.inc"
