// weight_encoded.h - weights that arrive as codes, or as bf16 to be kept in 12 bits: sizes, writing, packing.
#ifndef DSOPT_CUDA_WEIGHT_ENCODED_H_
#define DSOPT_CUDA_WEIGHT_ENCODED_H_

#include "pack.h"
#include "weight.h"

namespace dsopt_cuda {

// What an encoded description comes to: the layout and the offsets of its parts in one piece of device memory.
struct EncodedPlan {
  PackedLayout layout;
  ScaleGrid grid{};
  uint64_t matrices = 0, count = 0;
  uint64_t row_scales = 0, row_offsets = 0, first = 0,
           overflow = 0;  // byte offsets; 0: the part does not exist
  uint64_t overflow_capacity = 0;
  uint64_t bytes = 0;
};
dsopt_status PlanEncoded(const dsopt_be_device& device, const dsopt_weight_desc& desc, EncodedPlan* plan);

// Points weight->packed into its memory, which is cleared.
dsopt_status StartEncoded(dsopt_be_weight* weight, const EncodedPlan& plan);
dsopt_status WriteCodes(dsopt_be_weight* weight, uint64_t first, uint64_t count, const void* src);
dsopt_status WriteScales(dsopt_be_weight* weight, uint64_t first, uint64_t count, const float* scales,
                         const float* offsets);
dsopt_status FillEncoded(dsopt_be_weight* weight, uint64_t seed, float mean, float stddev);
// Room for the bf16 rows of a lossless12 weight, until they are packed.
dsopt_status StartRaw(dsopt_be_weight* weight);
// All rows have arrived: packs them and gives the room back. [blocks]
dsopt_status PackRaw(dsopt_be_weight* weight);

}  // namespace dsopt_cuda
#endif  // DSOPT_CUDA_WEIGHT_ENCODED_H_
