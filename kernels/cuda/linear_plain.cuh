// linear_plain.cuh - few rows and bf16 weights as they are: a unit of weights as boxes of a tensor map in
// shared memory, and its consumer. Weights are the A operand of mma.m16n8k16, activations the B operand.
#ifndef DSOPT_CUDA_LINEAR_PLAIN_CUH_
#define DSOPT_CUDA_LINEAR_PLAIN_CUH_

#include "linear_stream.cuh"

namespace dsopt_cuda {

inline constexpr int kBoxColumns = 64, kBoxPitch = kBoxColumns * 2;

// kUnitColumns: of a unit, and of a chunk of the row image; its pitch is 8 more: 16 mod 128 bytes, no
// conflicts.
template <typename S, int kUnitColumns>
struct PlainUnit {
  static constexpr int kBoxes = kUnitColumns / kBoxColumns, kPitch = kUnitColumns + 8;
  static constexpr int kInputsAt = S::kRows * kUnitColumns * 2;
  static constexpr int kSlot =
      (kInputsAt + S::kM * kPitch * 2 + 1023) / 1024 * 1024;  // boxes are aligned to that
  static_assert(kUnitColumns != kImageColumns || kPitch == kPlainPitch);

  // What a launch derives from the matrix and the rows of the input image.
  static void SetGeometry(StreamLinear& p) {
    const LinearArgs& a = p.args;
    StreamGeometry& g = p.geometry;
    g.blocks = (a.n + kBlockRows - 1) / kBlockRows;
    g.panels = (a.n + S::kRows - 1) / S::kRows;
    g.units_per_group = (a.k + kUnitColumns - 1) / kUnitColumns;
    g.last_columns = a.k - (g.units_per_group - 1) * kUnitColumns;
    g.inputs_at = kInputsAt;
    g.input_pitch = kPitch * 2;
    g.input_chunk = g.last_input_bytes = static_cast<uint32_t>((a.rows + 7) / 8 * 8 * kPitch * 2);
    p.slot_bytes = kSlot;
  }
};

// kSides: warps that share a unit's columns; each has kBoxes / kSides boxes of its row blocks.
template <typename S_, int kUnitColumns, int kSides, int kPer>
struct PlainConsumer {
  using S = S_;
  using U = PlainUnit<S, kUnitColumns>;
  static constexpr int kGroups = S::kM / 8, kSteps = kBoxColumns / 16, kOwn = U::kBoxes / kSides;
  // One group of inputs alone would be a chain of products that wait for each other.
  static constexpr int kChains = kGroups == 1 && kPer == 1 ? 2 : 1;
  const StreamLinear& p;
  int lane, side, half,
      wr;  // this warp: its boxes, its half of the sums, row blocks wr .. wr + kPer - 1 of a panel
  float acc[kChains * kPer][kGroups][4];

  __device__ void Clear() { ClearSums(acc); }
  __device__ void SetRows(int) {}
  __device__ void EndGroup(int, int) {}

  // weights, x: shared addresses of the box and of its columns in the first input row.
  __device__ __forceinline__ void Box(uint32_t weights, uint32_t x) {
    constexpr int kPitch = U::kPitch * 2;
    const int row = wr * kBlockRows + lane % 16;
    // Two groups of 8 input rows and a step, or one group and two steps.
    const uint32_t inputs = kGroups > 1 ? x + (lane / 16 * 8 + lane % 8) * kPitch + lane / 8 % 2 * 16
                                        : x + lane % 8 * kPitch + lane / 8 * 16;
    uint4 b[kSteps][kGroups > 1 ? kGroups / 2 : 1];
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
      if constexpr (kGroups > 1) {
#pragma unroll
        for (int g = 0; g < kGroups / 2; ++g) b[s][g] = LoadMatrix(inputs + g * 16 * kPitch + s * 32);
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
          Mma(acc[s % kChains * kPer + r][0], a.x, a.y, a.z, a.w, s % 2 == 0 ? v.x : v.z,
              s % 2 == 0 ? v.y : v.w);
        }
      }
  }
  template <typename AnyRing>
  __device__ void Units(AnyRing& ring, int first, int count) {
    EachUnit(*this, ring, first, count, p.geometry.units_per_group);
  }
  __device__ void Unit(uint32_t slot, bool last) {
    const int boxes = last ? p.geometry.last_columns / kBoxColumns : U::kBoxes;
    const uint32_t x = slot + U::kInputsAt;
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      const int box = kOwn * side + i;
      if (box < boxes) Box(slot + box * S::kRows * kBoxPitch, x + box * kBoxPitch);
    }
  }
  __device__ void Store(float* sums) {
    if constexpr (kChains == 2)
#pragma unroll
      for (int j = 0; j < 4; ++j) acc[0][0][j] += acc[1][0][j];
    float(&whole)[kPer][kGroups][4] = reinterpret_cast<float(&)[kPer][kGroups][4]>(acc);
    StoreSums<S>(whole, sums, half, wr, lane);
  }
};

}  // namespace dsopt_cuda
#endif  // DSOPT_CUDA_LINEAR_PLAIN_CUH_
