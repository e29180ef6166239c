// feedback.h - what a column of a matrix can make up for of the rounding errors of other columns, from the
// second moments of the matrix's inputs (GPTQ, arXiv 2210.17323, in the form without an inverse of QuIP's LDLQ,
// arXiv 2307.13304). Arithmetic on memory: no files, no models.
#ifndef DSOPT_QUANT_FEEDBACK_H_
#define DSOPT_QUANT_FEEDBACK_H_

#include <cstdint>
#include <optional>
#include <vector>

namespace dsopt {

// X^T X of inputs X [tokens, columns], of some neighbouring columns.
struct MomentBlock {
  uint64_t first = 0, cols = 0;  // columns of the matrix
  std::vector<float> sums;       // [cols, cols], symmetric
};

// Blocks that together cover `cols` columns: one, or as many equal ones as keep each within kMostBlock. Between
// blocks no error is fed: so moments, factors and ratios take at most 4 * kMostBlock bytes a column, each.
constexpr uint64_t kMostBlock = 4096;
std::vector<MomentBlock> MakeMomentBlocks(uint64_t cols);

// How errors are fed inside of one block. Columns are rounded in the order of falling moments. With H = (I + U)
// D (I + U)^T in that order, a squared error e H e^T of the products is the sum of D_k (e_k + sum_{i<k} e_i
// U_ik)^2: rounding w_k + sum_{i<k} e_i U_ik instead of w_k leaves of each term what rounding leaves.
// Afterwards a column can be rounded anew with all others as they are: w_k + sum_{i!=k} e_i H_ik / H_kk is what
// it should be then.
struct Feedback {
  uint64_t first = 0, cols = 0;
  std::vector<uint32_t> order;  // [cols], counted from `first`
  std::vector<float> factors;   // [cols, cols] in that order: row k holds U_ik for i < k
  std::vector<float> ratios;    // [cols, cols] in that order: row k holds H_ik / H_kk, and 0 at k

  // To the diagonal a hundredth of its mean is added, and tenfold more as often as factors cannot be had;
  // nullopt: never, as of sums that are all zero or not finite. The same to the bit for every number of
  // threads.
  static std::optional<Feedback> Create(const MomentBlock& block, uint32_t threads);
};

}  // namespace dsopt
#endif  // DSOPT_QUANT_FEEDBACK_H_
