// linear_plain.cuh - few rows and bf16 weights as they are: a unit of weights as boxes of a tensor map in shared
// memory, and its consumer. Weights are the A operand of mma.m16n8k16, activations the B operand.
#ifndef DSOPT_CUDA_LINEAR_PLAIN_CUH_
#define DSOPT_CUDA_LINEAR_PLAIN_CUH_

#include "linear_stream.cuh"

namespace dsopt_cuda {

inline constexpr int kBoxColumns = 64, kUnitBoxes = kImageColumns / kBoxColumns, kBoxPitch = kBoxColumns * 2;

template <int kM>
constexpr int PlainSlot() {  // boxes are aligned to 1024 bytes
  return (Stream<kM>::kRows * kImageColumns * 2 + kM * kPlainPitch * 2 + 1023) / 1024 * 1024;
}
// Sets what a launch derives from the matrix and the rows of the input image.
template <typename S>
void SetPlainGeometry(StreamLinear& p) {
  const LinearArgs& a = p.args;
  StreamGeometry& g = p.geometry;
  g.blocks = (a.n + kBlockRows - 1) / kBlockRows;
  g.panels = (a.n + S::kRows - 1) / S::kRows;
  g.units_per_group = (a.k + kImageColumns - 1) / kImageColumns;
  g.last_columns = a.k - (g.units_per_group - 1) * kImageColumns;
  g.inputs_at = S::kRows * kImageColumns * 2;
  g.input_pitch = kPlainPitch * 2;
  g.input_chunk = g.last_input_bytes = static_cast<uint32_t>(ImageChunk(a.rows, kPlainPitch) * 2);
  p.slot_bytes = PlainSlot<S::kM>();
}

template <int kM>
struct PlainConsumer {
  using S = Stream<kM>;
  static constexpr int kGroups = kM / 8, kPer = S::kPerWarp, kSteps = kBoxColumns / 16;
  const StreamLinear& p;
  int lane, wk, wr;  // this warp: boxes 2 wk, 2 wk + 1 of a unit, row blocks wr .. wr + kPer - 1 of a panel
  float acc[kPer][kGroups][4];

  __device__ void Clear() {
    ClearSums(acc);
  }
  __device__ void SetRows(int) {}
  __device__ void EndGroup(int, int) {}

  // weights, x: shared addresses of the box and of its columns in the first input row.
  __device__ __forceinline__ void Box(uint32_t weights, uint32_t x) {
    const int row = wr * kBlockRows + lane % 16;
    // Two groups of 8 input rows and a step, or one group and two steps.
    const uint32_t inputs = kGroups > 1 ? x + (lane / 16 * 8 + lane % 8) * kPlainPitch * 2 + lane / 8 % 2 * 16
                                        : x + lane % 8 * kPlainPitch * 2 + lane / 8 * 16;
    uint4 b[kSteps][kGroups > 1 ? kGroups / 2 : 1];
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
      if constexpr (kGroups > 1) {
#pragma unroll
        for (int g = 0; g < kGroups / 2; ++g) b[s][g] = LoadMatrix(inputs + g * 16 * kPlainPitch * 2 + s * 32);
      } else if (s % 2 == 0) {
        b[s][0] = LoadMatrix(inputs + s * 32);
      }
    }
#pragma unroll
    for (int s = 0; s < kSteps; ++s)
#pragma unroll
      for (int r = 0; r < kPer; ++r) {
        const int line = row + r * kBlockRows;
        const uint4 a = LoadMatrix(weights + line * kBoxPitch + (((2 * s + lane / 16) ^ (line & 7)) << 4));
        if constexpr (kGroups > 1) {
#pragma unroll
          for (int g = 0; g < kGroups / 2; ++g) {
            Mma(acc[r][2 * g], a.x, a.y, a.z, a.w, b[s][g].x, b[s][g].y);
            Mma(acc[r][2 * g + 1], a.x, a.y, a.z, a.w, b[s][g].z, b[s][g].w);
          }
        } else {
          const uint4 v = b[s / 2 * 2][0];
          Mma(acc[r][0], a.x, a.y, a.z, a.w, s % 2 == 0 ? v.x : v.z, s % 2 == 0 ? v.y : v.w);
        }
      }
  }
  template <typename AnyRing>
  __device__ void Units(AnyRing& ring, int first, int count) {
    EachUnit(*this, ring, first, count, p.geometry.units_per_group);
  }
  __device__ void Unit(uint32_t slot, bool last) {
    const int boxes = last ? p.geometry.last_columns / kBoxColumns : kUnitBoxes;
    const uint32_t x = slot + p.geometry.inputs_at;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int box = 2 * wk + i;
      if (box < boxes) Box(slot + box * S::kRows * kBoxPitch, x + box * kBoxPitch);
    }
  }
  template <bool kAdd>
  __device__ void Store(float* sums) const {
    StoreSums<S, kAdd>(acc, sums, wk, wr, lane);
  }
};

}  // namespace dsopt_cuda
#endif  // DSOPT_CUDA_LINEAR_PLAIN_CUH_
