// ring.cuh - a ring of slots in shared memory between one producer warp and consumer warps. On sm_90 the slots
// are filled by bulk copies, before by cp.async; consumers see no difference.
//   shared at `barriers`: full[slots], empty[slots] (8 bytes each); data: slots x slot_bytes
#ifndef DSOPT_CUDA_COMMON_RING_CUH_
#define DSOPT_CUDA_COMMON_RING_CUH_

#include "common/ptx.cuh"

namespace dsopt_cuda {

struct Ring {
  uint32_t barriers, data;
  int slots, slot_bytes;
  int slot = 0;
  uint32_t parity = 0;

  __device__ Ring(uint32_t barriers_at, uint32_t data_at, int slot_count, int bytes)
      : barriers(barriers_at), data(data_at), slots(slot_count), slot_bytes(bytes) {}
  __device__ uint32_t Full() const { return barriers + 8 * slot; }
  __device__ uint32_t Empty() const { return barriers + 8 * (slots + slot); }
  __device__ uint32_t Slot() const { return data + slot * slot_bytes; }

  // One thread; synchronise the CTA afterwards.
  __device__ void Init(int consumer_warps) const {
    for (int i = 0; i < slots; ++i) {
#if __CUDA_ARCH__ >= 900
      BarrierInit(barriers + 8 * i, 1);
#else
      BarrierInit(barriers + 8 * i, 32);  // Commit
#endif
      BarrierInit(barriers + 8 * (slots + i), consumer_warps);
    }
#if __CUDA_ARCH__ >= 900
    BarrierInitFence();
#endif
  }
  // Whether the next slot is this warp's to consume: where warps take turns, see BatchRing.
  __device__ static constexpr bool Mine() { return true; }
  __device__ void Advance() {
    if (++slot == slots) {
      slot = 0;
      parity ^= 1;
    }
  }
  __device__ void WaitFull() const { BarrierWait(Full(), parity); }
  __device__ void WaitEmpty() const { BarrierWait(Empty(), parity ^ 1); }
  // A consumer warp is done with the slot.
  __device__ void Release(int lane) const {
    __syncwarp();
    if (lane == 0) BarrierArrive(Empty());
  }
  // Producer, lane 0: all bytes that will be copied into this slot.
  __device__ void Expect(uint32_t bytes) const {
#if __CUDA_ARCH__ >= 900
    BarrierExpect(Full(), bytes);
#endif
  }
  // Producer warp: lane `owner` has the source and copies `bytes` (a multiple of 16) to `offset` of the slot.
  __device__ void CopyFrom(int owner, uint32_t offset, const void* from, uint32_t bytes, uint64_t policy,
                           int lane) const {
#if __CUDA_ARCH__ >= 900
    if (lane == owner) BulkLoad(Slot() + offset, from, bytes, Full(), policy);
#else
    const auto source =
        reinterpret_cast<const char*>(__shfl_sync(~0u, reinterpret_cast<uint64_t>(from), owner));
    for (uint32_t i = lane * 16; i < bytes; i += 512) CopyAsync16(Slot() + offset + i, source + i, true);
#endif
  }
  // The same for what is read again soon.
  __device__ void CopyFrom(int owner, uint32_t offset, const void* from, uint32_t bytes, int lane) const {
#if __CUDA_ARCH__ >= 900
    if (lane == owner) BulkLoad(Slot() + offset, from, bytes, Full());
#else
    CopyFrom(owner, offset, from, bytes, 0, lane);
#endif
  }
  // Producer warp: each lane that `has` one copies its row to offset + lane * pitch; rows of them in all.
  __device__ void CopyEach(bool has, uint32_t offset, uint32_t pitch, int rows, const void* from, uint32_t bytes,
                           int lane) const {
#if __CUDA_ARCH__ >= 900
    if (has) BulkLoad(Slot() + offset + lane * pitch, from, bytes, Full());
#else
    for (int r = 0; r < rows; ++r) CopyFrom(r, offset + r * pitch, from, bytes, 0, lane);
#endif
  }
  // Producer warp: nothing more will be copied into this slot.
  __device__ void Commit() const {
#if __CUDA_ARCH__ < 900
    asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(Full()) : "memory");
#endif
  }
};

}  // namespace dsopt_cuda
#endif  // DSOPT_CUDA_COMMON_RING_CUH_
