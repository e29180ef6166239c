// attention_prefill.h - between attention_prefill.cu, which chooses, and attention_prefill_wgmma.cu.
#ifndef DSOPT_CUDA_ATTENTION_PREFILL_H_
#define DSOPT_CUDA_ATTENTION_PREFILL_H_

#include "launch.h"

namespace dsopt_cuda {

bool PrefillWgmmaSupported(const Limits& limits);
// Plain bf16 caches.
cudaError_t AttentionPrefillWgmma(const Launch& launch, const AttentionArgs& args);

}  // namespace dsopt_cuda
#endif  // DSOPT_CUDA_ATTENTION_PREFILL_H_
