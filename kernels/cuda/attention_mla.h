// attention_mla.h - between attention_mla.cu, which chooses, and attention_mla_wgmma.cu.
#ifndef DSOPT_CUDA_ATTENTION_MLA_H_
#define DSOPT_CUDA_ATTENTION_MLA_H_

#include "common/cache_codes.cuh"
#include "launch.h"

namespace dsopt_cuda {

// A tile is 64 (row, head) pairs of one sequence. What a split of its keys leaves to the others: per pair 512
// outputs, maximum and sum.
inline constexpr int kMlaPairs = 64, kMlaLatent = 512, kMlaRope = 64, kMlaPartial = kMlaLatent + 2;

// Where a coded position's parts lie: rows of codes of all 64 tokens, then rows of words.
template <CacheCode kCode>
struct MlaCodes {
  static constexpr int kLatentBytes = CodeBytes<kCode>(kMlaLatent),
                       kRowBytes = kLatentBytes + CodeBytes<kCode>(kMlaRope);
  static constexpr int kLatentWords = CodeWords<kCode>(kMlaLatent),
                       kRowWords = kLatentWords + CodeWords<kCode>(kMlaRope);
  static constexpr int kWordsAt = kPageTokens * kRowBytes;
};

bool MlaWgmmaSupported(const Limits& limits);
cudaError_t AttentionMlaWgmma(const Launch& launch, const AttentionArgs& args, int pair_tiles);

}  // namespace dsopt_cuda
#endif  // DSOPT_CUDA_ATTENTION_MLA_H_
