/* Freezes the layout of every struct of backend.h on 64-bit Linux: compiling is the test. A failure means that
 * an existing field moved: append at the end instead. New fields add a line and change the size. */
#include <stddef.h>

#include "dsopt/backend.h"

#define AT(type, field, offset) \
  _Static_assert(offsetof(type, field) == (offset), #type "." #field " moved")
#define SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), "sizeof " #type " changed")


SIZE(dsopt_host_api, 40);
AT(dsopt_host_api, struct_size, 0);
AT(dsopt_host_api, core_abi, 4);
AT(dsopt_host_api, context, 8);
AT(dsopt_host_api, allocator, 16);
AT(dsopt_host_api, log, 24);
AT(dsopt_host_api, set_error, 32);

SIZE(dsopt_device_options, 32);
AT(dsopt_device_options, struct_size, 0);
AT(dsopt_device_options, threads, 4);
AT(dsopt_device_options, variant, 8);
AT(dsopt_device_options, max_bytes, 16);
AT(dsopt_device_options, host, 24);

SIZE(dsopt_weight_desc, 72);
AT(dsopt_weight_desc, struct_size, 0);
AT(dsopt_weight_desc, kind, 4);
AT(dsopt_weight_desc, dtype, 8);
AT(dsopt_weight_desc, tied, 12);
AT(dsopt_weight_desc, batch, 16);
AT(dsopt_weight_desc, rows, 24);
AT(dsopt_weight_desc, cols, 32);
AT(dsopt_weight_desc, name, 40);
AT(dsopt_weight_desc, encoding, 48);
AT(dsopt_weight_desc, group_rows, 52);
AT(dsopt_weight_desc, group_cols, 56);
AT(dsopt_weight_desc, has_offset, 60);
AT(dsopt_weight_desc, scale_dtype, 64);
AT(dsopt_weight_desc, reserved, 68);

SIZE(dsopt_embed_block, 16);
AT(dsopt_embed_block, table, 0);
AT(dsopt_embed_block, scale, 8);
AT(dsopt_embed_block, reserved, 12);

SIZE(dsopt_attention_block, 80);
AT(dsopt_attention_block, norm, 0);
AT(dsopt_attention_block, qkv, 8);
AT(dsopt_attention_block, qkv_bias, 16);
AT(dsopt_attention_block, out, 24);
AT(dsopt_attention_block, out_bias, 32);
AT(dsopt_attention_block, q_heads, 40);
AT(dsopt_attention_block, kv_heads, 44);
AT(dsopt_attention_block, head_dim, 48);
AT(dsopt_attention_block, window, 52);
AT(dsopt_attention_block, rope, 56);
AT(dsopt_attention_block, scale, 60);
AT(dsopt_attention_block, norm_eps, 64);
AT(dsopt_attention_block, reserved, 68);
AT(dsopt_attention_block, cache_offset, 72);

SIZE(dsopt_mla_block, 128);
AT(dsopt_mla_block, norm, 0);
AT(dsopt_mla_block, down, 8);
AT(dsopt_mla_block, down_bias, 16);
AT(dsopt_mla_block, q_norm, 24);
AT(dsopt_mla_block, q_up, 32);
AT(dsopt_mla_block, latent_norm, 40);
AT(dsopt_mla_block, k_up, 48);
AT(dsopt_mla_block, v_up, 56);
AT(dsopt_mla_block, out, 64);
AT(dsopt_mla_block, out_bias, 72);
AT(dsopt_mla_block, heads, 80);
AT(dsopt_mla_block, q_rank, 84);
AT(dsopt_mla_block, latent, 88);
AT(dsopt_mla_block, nope, 92);
AT(dsopt_mla_block, rope_dim, 96);
AT(dsopt_mla_block, v_dim, 100);
AT(dsopt_mla_block, rope, 104);
AT(dsopt_mla_block, scale, 108);
AT(dsopt_mla_block, norm_eps, 112);
AT(dsopt_mla_block, latent_eps, 116);
AT(dsopt_mla_block, cache_offset, 120);

SIZE(dsopt_mlp_block, 56);
AT(dsopt_mlp_block, norm, 0);
AT(dsopt_mlp_block, gate_up, 8);
AT(dsopt_mlp_block, gate_up_bias, 16);
AT(dsopt_mlp_block, down, 24);
AT(dsopt_mlp_block, down_bias, 32);
AT(dsopt_mlp_block, inner, 40);
AT(dsopt_mlp_block, activation, 44);
AT(dsopt_mlp_block, norm_eps, 48);
AT(dsopt_mlp_block, reserved, 52);

SIZE(dsopt_moe_block, 88);
AT(dsopt_moe_block, norm, 0);
AT(dsopt_moe_block, router, 8);
AT(dsopt_moe_block, gate_up, 16);
AT(dsopt_moe_block, down, 24);
AT(dsopt_moe_block, shared_gate_up, 32);
AT(dsopt_moe_block, shared_down, 40);
AT(dsopt_moe_block, experts, 48);
AT(dsopt_moe_block, top_k, 52);
AT(dsopt_moe_block, inner, 56);
AT(dsopt_moe_block, shared_inner, 60);
AT(dsopt_moe_block, groups, 64);
AT(dsopt_moe_block, top_groups, 68);
AT(dsopt_moe_block, renormalise, 72);
AT(dsopt_moe_block, activation, 76);
AT(dsopt_moe_block, route_scale, 80);
AT(dsopt_moe_block, norm_eps, 84);

SIZE(dsopt_head_block, 24);
AT(dsopt_head_block, norm, 0);
AT(dsopt_head_block, weight, 8);
AT(dsopt_head_block, norm_eps, 16);
AT(dsopt_head_block, reserved, 20);

SIZE(dsopt_block, 136);
AT(dsopt_block, kind, 0);
AT(dsopt_block, layer, 4);
AT(dsopt_block, u, 8);

SIZE(dsopt_rope, 24);
AT(dsopt_rope, dim, 0);
AT(dsopt_rope, interleaved, 4);
AT(dsopt_rope, scale, 8);
AT(dsopt_rope, reserved, 12);
AT(dsopt_rope, inv_freq, 16);

SIZE(dsopt_program_desc, 104);
AT(dsopt_program_desc, struct_size, 0);
AT(dsopt_program_desc, precision, 4);
AT(dsopt_program_desc, blocks, 8);
AT(dsopt_program_desc, block_count, 16);
AT(dsopt_program_desc, rope_count, 20);
AT(dsopt_program_desc, ropes, 24);
AT(dsopt_program_desc, hidden, 32);
AT(dsopt_program_desc, vocab, 36);
AT(dsopt_program_desc, max_rows, 40);
AT(dsopt_program_desc, max_seqs, 44);
AT(dsopt_program_desc, max_logit_rows, 48);
AT(dsopt_program_desc, max_pages_per_seq, 52);
AT(dsopt_program_desc, page_tokens, 56);
AT(dsopt_program_desc, page_count, 60);
AT(dsopt_program_desc, page_bytes, 64);
AT(dsopt_program_desc, kv_dtype, 72);
AT(dsopt_program_desc, max_adjust, 76);
AT(dsopt_program_desc, max_history, 80);
AT(dsopt_program_desc, slice_us, 84);
AT(dsopt_program_desc, native_stream, 88);
AT(dsopt_program_desc, host_pages, 96);
AT(dsopt_program_desc, flags, 100);

SIZE(dsopt_program_memory, 40);
AT(dsopt_program_memory, struct_size, 0);
AT(dsopt_program_memory, reserved, 4);
AT(dsopt_program_memory, cache_bytes, 8);
AT(dsopt_program_memory, workspace_bytes, 16);
AT(dsopt_program_memory, host_bytes, 24);
AT(dsopt_program_memory, host_cache_bytes, 32);

SIZE(dsopt_sample_row, 88);
AT(dsopt_sample_row, row, 0);
AT(dsopt_sample_row, mode, 4);
AT(dsopt_sample_row, target, 8);
AT(dsopt_sample_row, top_logprobs, 12);
AT(dsopt_sample_row, temperature, 16);
AT(dsopt_sample_row, top_p, 20);
AT(dsopt_sample_row, min_p, 24);
AT(dsopt_sample_row, typical_p, 28);
AT(dsopt_sample_row, top_n_sigma, 32);
AT(dsopt_sample_row, top_k, 36);
AT(dsopt_sample_row, repeat_penalty, 40);
AT(dsopt_sample_row, presence_penalty, 44);
AT(dsopt_sample_row, frequency_penalty, 48);
AT(dsopt_sample_row, adjust_first, 52);
AT(dsopt_sample_row, adjust_count, 56);
AT(dsopt_sample_row, history_first, 60);
AT(dsopt_sample_row, history_count, 64);
AT(dsopt_sample_row, reserved, 68);
AT(dsopt_sample_row, seed, 72);
AT(dsopt_sample_row, counter, 80);

SIZE(dsopt_batch, 104);
AT(dsopt_batch, struct_size, 0);
AT(dsopt_batch, rows, 4);
AT(dsopt_batch, seqs, 8);
AT(dsopt_batch, logit_rows, 12);
AT(dsopt_batch, tokens, 16);
AT(dsopt_batch, positions, 24);
AT(dsopt_batch, row_seq, 32);
AT(dsopt_batch, page_table, 40);
AT(dsopt_batch, page_table_stride, 48);
AT(dsopt_batch, adjust_count, 52);
AT(dsopt_batch, history_count, 56);
AT(dsopt_batch, reserved, 60);
AT(dsopt_batch, sample, 64);
AT(dsopt_batch, adjust_tokens, 72);
AT(dsopt_batch, adjust_bias, 80);
AT(dsopt_batch, history_tokens, 88);
AT(dsopt_batch, history_counts, 96);

SIZE(dsopt_batch_result, 56);
AT(dsopt_batch_result, struct_size, 0);
AT(dsopt_batch_result, logit_rows, 4);
AT(dsopt_batch_result, tokens, 8);
AT(dsopt_batch_result, logprobs, 16);
AT(dsopt_batch_result, top_tokens, 24);
AT(dsopt_batch_result, top_logprobs, 32);
AT(dsopt_batch_result, device_ns, 40);
AT(dsopt_batch_result, replayed, 48);
AT(dsopt_batch_result, reserved, 52);

SIZE(dsopt_backend_api, 240);
AT(dsopt_backend_api, struct_size, 0);
AT(dsopt_backend_api, abi, 4);
AT(dsopt_backend_api, name, 8);
AT(dsopt_backend_api, build_id, 16);
AT(dsopt_backend_api, device_count, 24);
AT(dsopt_backend_api, device_info, 32);
AT(dsopt_backend_api, device_open, 40);
AT(dsopt_backend_api, device_close, 48);
AT(dsopt_backend_api, device_report, 56);
AT(dsopt_backend_api, weight_bytes, 64);
AT(dsopt_backend_api, weight_create, 72);
AT(dsopt_backend_api, weight_write, 80);
AT(dsopt_backend_api, weight_fill, 88);
AT(dsopt_backend_api, weight_finish, 96);
AT(dsopt_backend_api, weight_destroy, 104);
AT(dsopt_backend_api, program_plan, 112);
AT(dsopt_backend_api, program_create, 120);
AT(dsopt_backend_api, program_destroy, 128);
AT(dsopt_backend_api, program_begin, 136);
AT(dsopt_backend_api, program_advance, 144);
AT(dsopt_backend_api, program_result, 152);
AT(dsopt_backend_api, program_cancel, 160);
AT(dsopt_backend_api, program_read_logits, 168);
AT(dsopt_backend_api, program_copy_page, 176);
AT(dsopt_backend_api, program_read_page, 184);
AT(dsopt_backend_api, program_write_page, 192);
AT(dsopt_backend_api, measure_read, 200);
AT(dsopt_backend_api, weight_write_scales, 208);
AT(dsopt_backend_api, op_pointer, 216);
AT(dsopt_backend_api, op_workspace, 224);
AT(dsopt_backend_api, op_run, 232);
