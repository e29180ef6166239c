// pack.h - encoded weights onto the device and single values back: see packed.h for the layout.
#ifndef DSOPT_CUDA_PACK_H_
#define DSOPT_CUDA_PACK_H_

#include "launch.h"
#include "packed.h"

namespace dsopt_cuda {

// Logical elements [first, first + count) of codes at `codes` (device memory; int4: two per byte, first even)
// to their places. shape: the logical weight; interleaved rows go to the rows they are stored in.
cudaError_t PackCodes(cudaStream_t stream, const PackedLayout& layout, const WeightLayout& shape,
                      const uint8_t* codes, uint64_t first, uint64_t count, uint8_t* data);

// Grid entries [first, first + count); offsets may be null.
cudaError_t PackScales(cudaStream_t stream, const PackedLayout& layout, const WeightLayout& shape,
                       const ScaleGrid& grid, const float* scales, const float* offsets, uint64_t first,
                       uint64_t count, uint8_t* data, float* row_scales, float* row_offsets);

// Stored bf16 rows [matrices * n, k] to lossless12. Two calls: the first (overflow null) only counts the
// weights of each row block that find no slot into `first` ([matrices * blocks]); after an exclusive sum of it
// the second writes all.
cudaError_t PackLossless12(cudaStream_t stream, const PackedLayout& layout, int matrices, const void* weights,
                           uint8_t* data, int* first, Overflow* overflow);
// first[0 .. count] becomes the exclusive sum of first[0 .. count - 1]; first[count] is the total.
cudaError_t ExclusiveSum(cudaStream_t stream, int* first, int count);

// Pseudo-random codes and scales of a benchmark weight: values have about this mean 0 and deviation.
cudaError_t FillCodes(cudaStream_t stream, const PackedLayout& layout, const WeightLayout& shape,
                      const ScaleGrid& grid, uint64_t seed, float stddev, uint8_t* data, float* row_scales,
                      float* row_offsets);

// bf16 values of about this mean and deviation for a lossless12 weight. Unlike FillWeight's they are no
// multiples of a step: exact zeros, which have no code, are as rare as in trained weights.
cudaError_t FillSmooth(cudaStream_t stream, uint64_t count, uint64_t seed, float mean, float stddev,
                       void* data);

// Rows [first, first + count) of a weight of one matrix as bf16 rows [count, k]: for products of so many rows that the
// expansion is paid once for all of them. first is a multiple of 16. lossless12: the exact weights.
cudaError_t UnpackRows(const Launch& launch, const PackedWeight& weight, int first, int count, void* out);

// x[r, :] = decoded row tokens[r] * scale.
cudaError_t EmbedPacked(const Launch& launch, const PackedWeight& table, const int* tokens, int rows,
                        float scale, float* x);
// As LinearReference, for encoded weights.
cudaError_t LinearPackedReference(const Launch& launch, const LinearArgs& args, const PackedWeight& weight);

}  // namespace dsopt_cuda
#endif  // DSOPT_CUDA_PACK_H_
