/* Freezes the layout of every struct of ops.h on 64-bit Linux: compiling is the test. A failure means that an
 * existing field moved: append at the end instead. New fields add a line and change the size. */
#include <stddef.h>

#include "dsopt/ops.h"

#define AT(type, field, offset) \
  _Static_assert(offsetof(type, field) == (offset), #type "." #field " moved")
#define SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), "sizeof " #type " changed")


SIZE(dsopt_tensor, 104);
AT(dsopt_tensor, struct_size, 0);
AT(dsopt_tensor, dtype, 4);
AT(dsopt_tensor, ndim, 8);
AT(dsopt_tensor, reserved, 12);
AT(dsopt_tensor, shape, 16);
AT(dsopt_tensor, stride, 56);
AT(dsopt_tensor, data, 96);

SIZE(dsopt_launch, 32);
AT(dsopt_launch, struct_size, 0);
AT(dsopt_launch, flags, 4);
AT(dsopt_launch, stream, 8);
AT(dsopt_launch, workspace, 16);
AT(dsopt_launch, workspace_size, 24);

SIZE(dsopt_rmsnorm_args, 40);
AT(dsopt_rmsnorm_args, struct_size, 0);
AT(dsopt_rmsnorm_args, eps, 4);
AT(dsopt_rmsnorm_args, x, 8);
AT(dsopt_rmsnorm_args, residual, 16);
AT(dsopt_rmsnorm_args, weight, 24);
AT(dsopt_rmsnorm_args, out, 32);

SIZE(dsopt_linear_args, 40);
AT(dsopt_linear_args, struct_size, 0);
AT(dsopt_linear_args, activation, 4);
AT(dsopt_linear_args, x, 8);
AT(dsopt_linear_args, weight, 16);
AT(dsopt_linear_args, bias, 24);
AT(dsopt_linear_args, out, 32);

SIZE(dsopt_qkv_args, 112);
AT(dsopt_qkv_args, struct_size, 0);
AT(dsopt_qkv_args, eps, 4);
AT(dsopt_qkv_args, x, 8);
AT(dsopt_qkv_args, norm, 16);
AT(dsopt_qkv_args, weight, 24);
AT(dsopt_qkv_args, bias, 32);
AT(dsopt_qkv_args, q_norm, 40);
AT(dsopt_qkv_args, k_norm, 48);
AT(dsopt_qkv_args, rope, 56);
AT(dsopt_qkv_args, positions, 64);
AT(dsopt_qkv_args, token_slots, 72);
AT(dsopt_qkv_args, q, 80);
AT(dsopt_qkv_args, k, 88);
AT(dsopt_qkv_args, v, 96);
AT(dsopt_qkv_args, interleaved, 104);
AT(dsopt_qkv_args, reserved, 108);

SIZE(dsopt_attention_args, 80);
AT(dsopt_attention_args, struct_size, 0);
AT(dsopt_attention_args, flags, 4);
AT(dsopt_attention_args, scale, 8);
AT(dsopt_attention_args, window, 12);
AT(dsopt_attention_args, batch, 16);
AT(dsopt_attention_args, max_pages, 20);
AT(dsopt_attention_args, q, 24);
AT(dsopt_attention_args, k, 32);
AT(dsopt_attention_args, v, 40);
AT(dsopt_attention_args, q_offsets, 48);
AT(dsopt_attention_args, kv_lengths, 56);
AT(dsopt_attention_args, page_table, 64);
AT(dsopt_attention_args, out, 72);

SIZE(dsopt_gated_mlp_args, 40);
AT(dsopt_gated_mlp_args, struct_size, 0);
AT(dsopt_gated_mlp_args, activation, 4);
AT(dsopt_gated_mlp_args, x, 8);
AT(dsopt_gated_mlp_args, gate_up, 16);
AT(dsopt_gated_mlp_args, down, 24);
AT(dsopt_gated_mlp_args, out, 32);

SIZE(dsopt_moe_args, 104);
AT(dsopt_moe_args, struct_size, 0);
AT(dsopt_moe_args, activation, 4);
AT(dsopt_moe_args, top_k, 8);
AT(dsopt_moe_args, groups, 12);
AT(dsopt_moe_args, top_groups, 16);
AT(dsopt_moe_args, renormalise, 20);
AT(dsopt_moe_args, route_scale, 24);
AT(dsopt_moe_args, reserved, 28);
AT(dsopt_moe_args, x, 32);
AT(dsopt_moe_args, router, 40);
AT(dsopt_moe_args, expert_ids, 48);
AT(dsopt_moe_args, expert_weights, 56);
AT(dsopt_moe_args, gate_up, 64);
AT(dsopt_moe_args, down, 72);
AT(dsopt_moe_args, shared_gate_up, 80);
AT(dsopt_moe_args, shared_down, 88);
AT(dsopt_moe_args, out, 96);

SIZE(dsopt_sample_args, 64);
AT(dsopt_sample_args, struct_size, 0);
AT(dsopt_sample_args, params_count, 4);
AT(dsopt_sample_args, logits, 8);
AT(dsopt_sample_args, params, 16);
AT(dsopt_sample_args, counters, 24);
AT(dsopt_sample_args, history, 32);
AT(dsopt_sample_args, history_counts, 40);
AT(dsopt_sample_args, tokens, 48);
AT(dsopt_sample_args, logprobs, 56);

/* Enumerators are part of the ABI too. */
#define VALUE(name, value) _Static_assert((int)(name) == (value), #name " was renumbered")
VALUE(DSOPT_OP_RMSNORM, 1);
VALUE(DSOPT_OP_LINEAR, 2);
VALUE(DSOPT_OP_QKV, 3);
VALUE(DSOPT_OP_ATTENTION, 4);
VALUE(DSOPT_OP_GATED_MLP, 5);
VALUE(DSOPT_OP_MOE, 6);
VALUE(DSOPT_OP_SAMPLE, 7);
VALUE(DSOPT_ACT_NONE, 0);
VALUE(DSOPT_ACT_SILU, 1);
VALUE(DSOPT_ACT_GELU_TANH, 2);
