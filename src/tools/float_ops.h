// float_ops.h - operators of dsopt/ops.h on vectors of floats, on the CPU.
#ifndef DSOPT_TOOLS_FLOAT_OPS_H_
#define DSOPT_TOOLS_FLOAT_OPS_H_

#include <memory>
#include <vector>

#include "base/status.h"
#include "dsopt/ops.h"
#include "tools/client.h"

namespace dsopt::tools {

struct AttentionInput {
  const std::vector<float>&q, &k, &v;  // [tokens, heads, head_dim]
  uint64_t tokens, window_tokens;      // windows that do not see each other; tokens is a multiple
  uint64_t q_heads, kv_heads, head_dim;
  uint32_t sliding_window;  // 0: none
  float scale;
};

// [thread-compatible]
class FloatOps {
 public:
  static Result<std::unique_ptr<FloatOps>> Create();
  ~FloatOps();
  // [rows, cols] times the transpose of a weight [n, cols].
  Result<std::vector<float>> Linear(const std::vector<float>& x, const std::vector<float>& weight,
                                    uint64_t rows, uint64_t cols);
  // Causal; [tokens, q_heads, head_dim].
  Result<std::vector<float>> Attention(const AttentionInput& input);

 private:
  FloatOps() = default;
  Result<dsopt_launch> Launch(dsopt_op op, const void* args);

  RuntimePtr runtime_;
  dsopt_ops* ops_ = nullptr;
  std::vector<uint8_t> workspace_;
};

}  // namespace dsopt::tools
#endif  // DSOPT_TOOLS_FLOAT_OPS_H_
