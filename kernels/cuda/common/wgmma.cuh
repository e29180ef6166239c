// wgmma.cuh - products of a warpgroup (4 warps, the first a multiple of 4) on the tensor cores of sm_90a,
// d += a b, with b and perhaps a from shared memory through descriptors. Facts are those of the PTX ISA,
// "Asynchronous Warpgroup Level Matrix Instructions". Only sm_90a code has these functions: DSOPT_CUDA_WGMMA.
//
// Matrices in shared memory, 128-byte swizzle. The unit is an atom: 8 lines of 128 bytes (64 bf16), 1024-byte
// aligned; 16-byte chunk c of line r lies at chunk c ^ r. A tile is columns of atoms; WgmmaAt gives addresses.
//   K-major    a line is 64 k of one m (of A) or n (of B). A product takes 16 k: the address goes on by 32
//              bytes within the line, 4 times, then to the next column of atoms.
//              stride offset: from 8 lines to the next 8. leading offset: not used.
//   MN-major   a line is 64 n of one k (of B). A product takes 16 k, two atoms: the address goes on by 2048.
//              stride offset: from 8 k to the next 8. leading offset: from 64 n to the next 64.
// The swizzle is a function of address bits (4-6 xor 7-9), so starting inside of an atom's line is fine.
//
// Registers: of the 16 rows of warp w % 4, thread `lane` holds rows lane / 4 and + 8. d[4 j + 2 h + e] is row
// lane / 4 + 8 h, column 8 j + 2 (lane % 4) + e. A from registers is four pairs: row +0 and +8 of columns
// 2 (lane % 4), then of columns 8 + 2 (lane % 4): d of two neighbouring j, rounded, is A as it is.
#ifndef DSOPT_CUDA_COMMON_WGMMA_CUH_
#define DSOPT_CUDA_COMMON_WGMMA_CUH_

#include "common/ptx.cuh"

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define DSOPT_CUDA_WGMMA 1
#endif

namespace dsopt_cuda {

inline constexpr int kAtomBytes = 1024, kWarpgroup = 128;

// 16-byte chunk c of line r of a tile of kLines lines.
template <int kLines>
__device__ __forceinline__ uint32_t WgmmaAt(uint32_t base, int r, int c) {
  return base + c / 8 * (kLines * 128) + r * 128 + ((c ^ r) % 8 << 4);
}

// leading, stride: bytes.  Bits 0-13 address / 16, 16-29 leading / 16, 32-45 stride / 16, 49-51 0: atoms are
// aligned, 62-63 1: 128-byte swizzle.
__device__ __forceinline__ uint64_t WgmmaDescriptor(uint32_t address, uint32_t leading, uint32_t stride) {
  return static_cast<uint64_t>((address & 0x3ffff) >> 4) | static_cast<uint64_t>(leading >> 4) << 16 |
         static_cast<uint64_t>(stride >> 4) << 32 | uint64_t{1} << 62;
}
__device__ __forceinline__ uint64_t WgmmaKMajor(uint32_t tile) { return WgmmaDescriptor(tile, 16, kAtomBytes); }
template <int kLines>
__device__ __forceinline__ uint64_t WgmmaMnMajor(uint32_t tile) {
  return WgmmaDescriptor(tile, kLines * 128, kAtomBytes);
}
// What is added to a descriptor of a tile of kLines lines for the product of k 16 step .. 16 step + 15.
template <int kLines>
__host__ __device__ constexpr uint64_t WgmmaKMajorStep(int step) {
  return static_cast<uint64_t>(step / 4 * (kLines * 128) + step % 4 * 32) >> 4;
}
__host__ __device__ constexpr uint64_t WgmmaMnMajorStep(int step) {
  return static_cast<uint64_t>(step * 2 * kAtomBytes) >> 4;
}

#ifdef DSOPT_CUDA_WGMMA

// Registers that products use were written by other instructions before; precedes the first product.
__device__ __forceinline__ void WgmmaFence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void WgmmaCommit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Waits until at most kPending of the committed groups are under way. Name the sums with WgmmaTouch after it.
template <int kPending>
__device__ __forceinline__ void WgmmaWait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}
// Keeps what uses d on its side of this line: the compiler does not know that products run on.
template <int kCount>
__device__ __forceinline__ void WgmmaTouch(float (&d)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

// The limit of registers of the warps of this warpgroup; all of them execute it.
template <int kRegisters>
__device__ __forceinline__ void TakeRegisters() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ __forceinline__ void GiveRegisters() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

#define DSOPT_WGMMA_8(d, i)                                                                                   \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), \
      "+f"(d[i + 7])
#define DSOPT_WGMMA_16(d, i) DSOPT_WGMMA_8(d, i), DSOPT_WGMMA_8(d, i + 8)
#define DSOPT_WGMMA_32(d, i) \
  DSOPT_WGMMA_8(d, i), DSOPT_WGMMA_8(d, i + 8), DSOPT_WGMMA_8(d, i + 16), DSOPT_WGMMA_8(d, i + 24)
#define DSOPT_WGMMA_D16 "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15}"
#define DSOPT_WGMMA_D32                                                                                      \
  "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%" \
  "28,"                                                                                                      \
  "%29,%30,%31}"
#define DSOPT_WGMMA_D64                                                                                       \
  "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%"  \
  "28,"                                                                                                       \
  "%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%" \
  "55,"                                                                                                       \
  "%56,%57,%58,%59,%60,%61,%62,%63}"

// d[64 x 128] = a b, or += if kAdd: a and b K-major in shared memory.
template <bool kAdd>
__device__ __forceinline__ void Wgmma(float (&d)[64], uint64_t a, uint64_t b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 " DSOPT_WGMMA_D64
               ", %64, %65, %66, 1, 1, 0, 0;"
               : DSOPT_WGMMA_32(d, 0), DSOPT_WGMMA_32(d, 32)
               : "l"(a), "l"(b), "n"(kAdd ? 1 : 0));
}
// d[64 x 128] += a b: a from registers, b MN-major in shared memory.
__device__ __forceinline__ void Wgmma(float (&d)[64], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                                      uint64_t b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 " DSOPT_WGMMA_D64
               ", {%64,%65,%66,%67}, %68, 1, 1, 1, 1;"
               : DSOPT_WGMMA_32(d, 0), DSOPT_WGMMA_32(d, 32)
               : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "l"(b));
}
// d[64 x 64] = a b, or += if kAdd: a and b K-major in shared memory.
template <bool kAdd>
__device__ __forceinline__ void Wgmma(float (&d)[32], uint64_t a, uint64_t b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 " DSOPT_WGMMA_D32
               ", %32, %33, %34, 1, 1, 0, 0;"
               : DSOPT_WGMMA_32(d, 0)
               : "l"(a), "l"(b), "n"(kAdd ? 1 : 0));
}
// d[64 x 64] += a b: a from registers, b MN-major in shared memory.
__device__ __forceinline__ void Wgmma(float (&d)[32], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                                      uint64_t b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 " DSOPT_WGMMA_D32
               ", {%32,%33,%34,%35}, %36, 1, 1, 1, 1;"
               : DSOPT_WGMMA_32(d, 0)
               : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "l"(b));
}
// d[64 x 32], d[64 x 64] = a b, or += if kAdd: a from registers, b K-major in shared memory.
template <bool kAdd>
__device__ __forceinline__ void WgmmaFromRegisters(float (&d)[16], const uint32_t (&a)[4], uint64_t b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 " DSOPT_WGMMA_D16
               ", {%16,%17,%18,%19}, %20, %21, 1, 1, 0;"
               : DSOPT_WGMMA_16(d, 0)
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(kAdd ? 1 : 0));
}
template <bool kAdd>
__device__ __forceinline__ void WgmmaFromRegisters(float (&d)[32], const uint32_t (&a)[4], uint64_t b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 " DSOPT_WGMMA_D32
               ", {%32,%33,%34,%35}, %36, %37, 1, 1, 0;"
               : DSOPT_WGMMA_32(d, 0)
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(kAdd ? 1 : 0));
}

#undef DSOPT_WGMMA_8
#undef DSOPT_WGMMA_16
#undef DSOPT_WGMMA_32
#undef DSOPT_WGMMA_D16
#undef DSOPT_WGMMA_D32
#undef DSOPT_WGMMA_D64

#endif  // DSOPT_CUDA_WGMMA

}  // namespace dsopt_cuda
#endif  // DSOPT_CUDA_COMMON_WGMMA_CUH_
