#include "tools/float_ops.h"

namespace dsopt::tools {
namespace {

constexpr uintptr_t kAlign = 256;

dsopt_tensor View(const std::vector<float>& values, std::initializer_list<uint64_t> shape) {
  dsopt_tensor tensor = {};
  tensor.struct_size = sizeof tensor;
  tensor.dtype = DSOPT_F32;
  for (uint64_t extent : shape) tensor.shape[tensor.ndim++] = static_cast<int64_t>(extent);
  tensor.data = const_cast<float*>(values.data());
  return tensor;
}

}  // namespace

Result<std::unique_ptr<FloatOps>> FloatOps::Create() {
  std::unique_ptr<FloatOps> ops(new FloatOps);
  ASSIGN_OR_RETURN(ops->runtime_, OpenRuntime(EngineOptions()));
  RETURN_IF_ERROR(FromApi(dsopt_ops_create(ops->runtime_.get(), "cpu", &ops->ops_)));
  return ops;
}

FloatOps::~FloatOps() { dsopt_ops_release(ops_); }

Result<dsopt_launch> FloatOps::Launch(dsopt_op op, const void* args) {
  size_t bytes = 0;
  RETURN_IF_ERROR(FromApi(dsopt_op_workspace(ops_, op, args, &bytes, nullptr)));
  if (workspace_.size() < bytes + kAlign) workspace_.resize(bytes + kAlign);
  dsopt_launch launch = {};
  launch.struct_size = sizeof launch;
  const auto at = (reinterpret_cast<uintptr_t>(workspace_.data()) + kAlign - 1) / kAlign * kAlign;
  launch.workspace = reinterpret_cast<void*>(at);
  launch.workspace_size = bytes;
  return launch;
}

Result<std::vector<float>> FloatOps::Linear(const std::vector<float>& x, const std::vector<float>& weight,
                                            uint64_t rows, uint64_t cols) {
  const uint64_t n = weight.size() / cols;
  std::vector<float> y(rows * n);
  const dsopt_tensor in = View(x, {rows, cols}), w = View(weight, {n, cols}), out = View(y, {rows, n});
  dsopt_linear_args args = {};
  args.struct_size = sizeof args;
  args.x = &in;
  args.weight = &w;
  args.out = &out;
  ASSIGN_OR_RETURN(const dsopt_launch launch, Launch(DSOPT_OP_LINEAR, &args));
  RETURN_IF_ERROR(FromApi(dsopt_op_linear(ops_, &args, &launch)));
  return y;
}

Result<std::vector<float>> FloatOps::Attention(const AttentionInput& input) {
  const uint64_t windows = input.tokens / input.window_tokens;
  std::vector<float> y(input.tokens * input.q_heads * input.head_dim);
  const dsopt_tensor q = View(input.q, {input.tokens, input.q_heads, input.head_dim});
  const dsopt_tensor k = View(input.k, {windows, input.window_tokens, input.kv_heads, input.head_dim});
  const dsopt_tensor v = View(input.v, {windows, input.window_tokens, input.kv_heads, input.head_dim});
  const dsopt_tensor out = View(y, {input.tokens, input.q_heads, input.head_dim});
  dsopt_attention_args args = {};
  args.struct_size = sizeof args;
  args.flags = DSOPT_ATTENTION_CAUSAL;
  args.scale = input.scale;
  args.window = input.sliding_window;
  args.batch = static_cast<uint32_t>(windows);
  args.q = &q;
  args.k = &k;
  args.v = &v;
  args.out = &out;
  ASSIGN_OR_RETURN(const dsopt_launch launch, Launch(DSOPT_OP_ATTENTION, &args));
  RETURN_IF_ERROR(FromApi(dsopt_op_attention(ops_, &args, &launch)));
  return y;
}

}  // namespace dsopt::tools
