// stage_pages.cu - one layer's pages of a sequence, wherever they lie, side by side in device memory.
#include "common/launch.cuh"
#include "common/ptx.cuh"
#include "launch.h"

namespace dsopt_cuda {
namespace {

constexpr int kThreads = 256, kPieceVectors = 4 * kThreads;

// staged[page] = the layer's bytes of page table[page]; places[page] = page: the staged pages' own table
// bytes  (end - first) * layer_bytes * 2     bound: the bus, for pages on the host
// grid   (pieces of 16 KiB, pages, the latter at most 65535) x 256 threads, 4 vectors of 16 bytes each
__global__ __launch_bounds__(kThreads) void stage_pages(StageArgs a) {
  LetNextStart();
  WaitForPrevious();
  const int vectors = static_cast<int>(a.layer_bytes / 16), at = blockIdx.x * kPieceVectors + threadIdx.x;
  for (int page = a.first + blockIdx.y; page < a.end; page += gridDim.y) {
    const uint4* from =
        reinterpret_cast<const uint4*>(a.base + static_cast<uint64_t>(a.table[page]) * a.page_bytes);
    uint4* to = reinterpret_cast<uint4*>(a.staged + static_cast<uint64_t>(page) * a.layer_bytes);
    uint4 v[4];
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if (at + i * kThreads < vectors) v[i] = __ldcs(from + at + i * kThreads);
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if (at + i * kThreads < vectors) to[at + i * kThreads] = v[i];
    if (at == 0) a.places[page] = page;
  }
}

}  // namespace

cudaError_t StagePages(const Launch& launch, const StageArgs& args) {
  const int pages = args.end - args.first;
  const uint64_t pieces = (args.layer_bytes / 16 + kPieceVectors - 1) / kPieceVectors;
  const dim3 grid(static_cast<unsigned>(pieces),
                  static_cast<unsigned>(pages < 65535 ? pages : 65535));
  return Start(launch, stage_pages, grid, dim3(kThreads), 0, args);
}

}  // namespace dsopt_cuda
