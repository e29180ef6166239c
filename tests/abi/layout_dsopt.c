/* Freezes the layout of every struct of dsopt.h on 64-bit Linux: compiling is the test. A failure means that
 * an existing field moved: append at the end instead. New fields add a line and change the size. */
#include <stddef.h>

#include "dsopt/dsopt.h"

#define AT(type, field, offset) \
  _Static_assert(offsetof(type, field) == (offset), #type "." #field " moved")
#define SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), "sizeof " #type " changed")


SIZE(dsopt_allocator, 32);
AT(dsopt_allocator, struct_size, 0);
AT(dsopt_allocator, reserved, 4);
AT(dsopt_allocator, user, 8);
AT(dsopt_allocator, alloc, 16);
AT(dsopt_allocator, free, 24);

SIZE(dsopt_io, 40);
AT(dsopt_io, struct_size, 0);
AT(dsopt_io, reserved, 4);
AT(dsopt_io, user, 8);
AT(dsopt_io, size, 16);
AT(dsopt_io, read_at, 24);
AT(dsopt_io, close, 32);

SIZE(dsopt_runtime_options, 64);
AT(dsopt_runtime_options, struct_size, 0);
AT(dsopt_runtime_options, abi_level, 4);
AT(dsopt_runtime_options, allocator, 8);
AT(dsopt_runtime_options, log, 16);
AT(dsopt_runtime_options, log_user, 24);
AT(dsopt_runtime_options, log_level, 32);
AT(dsopt_runtime_options, cpu_threads, 36);
AT(dsopt_runtime_options, backend_path, 40);
AT(dsopt_runtime_options, disable_backend_scan, 48);
AT(dsopt_runtime_options, reserved, 52);
AT(dsopt_runtime_options, cpu_variant, 56);

SIZE(dsopt_device_info, 168);
AT(dsopt_device_info, struct_size, 0);
AT(dsopt_device_info, kind, 4);
AT(dsopt_device_info, arch, 8);
AT(dsopt_device_info, multiprocessors, 12);
AT(dsopt_device_info, memory_total, 16);
AT(dsopt_device_info, memory_free, 24);
AT(dsopt_device_info, id, 32);
AT(dsopt_device_info, name, 64);
AT(dsopt_device_info, preferred_rows, 160);
AT(dsopt_device_info, reserved, 164);

SIZE(dsopt_model_options, 40);
AT(dsopt_model_options, struct_size, 0);
AT(dsopt_model_options, flags, 4);
AT(dsopt_model_options, device, 8);
AT(dsopt_model_options, max_device_bytes, 16);
AT(dsopt_model_options, progress, 24);
AT(dsopt_model_options, progress_user, 32);

SIZE(dsopt_model_info, 120);
AT(dsopt_model_info, struct_size, 0);
AT(dsopt_model_info, vocab_size, 4);
AT(dsopt_model_info, context_length, 8);
AT(dsopt_model_info, layer_count, 12);
AT(dsopt_model_info, parameter_count, 16);
AT(dsopt_model_info, weight_bytes, 24);
AT(dsopt_model_info, kv_bytes_per_token, 32);
AT(dsopt_model_info, bos, 40);
AT(dsopt_model_info, eos, 44);
AT(dsopt_model_info, pad, 48);
AT(dsopt_model_info, loaded, 52);
AT(dsopt_model_info, architecture, 56);
AT(dsopt_model_info, device, 88);

SIZE(dsopt_message, 24);
AT(dsopt_message, role, 0);
AT(dsopt_message, content, 8);
AT(dsopt_message, content_len, 16);

SIZE(dsopt_session_options, 64);
AT(dsopt_session_options, struct_size, 0);
AT(dsopt_session_options, flags, 4);
AT(dsopt_session_options, max_streams, 8);
AT(dsopt_session_options, max_tokens, 12);
AT(dsopt_session_options, prefill_chunk, 16);
AT(dsopt_session_options, device_slice_us, 20);
AT(dsopt_session_options, kv_dtype, 24);
AT(dsopt_session_options, precision, 28);
AT(dsopt_session_options, native_stream, 32);
AT(dsopt_session_options, max_cache_bytes, 40);
AT(dsopt_session_options, max_device_bytes, 48);
AT(dsopt_session_options, max_host_cache_bytes, 56);

SIZE(dsopt_session_memory, 72);
AT(dsopt_session_memory, struct_size, 0);
AT(dsopt_session_memory, page_tokens, 4);
AT(dsopt_session_memory, wanted_tokens, 8);
AT(dsopt_session_memory, tokens, 12);
AT(dsopt_session_memory, wanted_cache_bytes, 16);
AT(dsopt_session_memory, cache_bytes, 24);
AT(dsopt_session_memory, workspace_bytes, 32);
AT(dsopt_session_memory, host_bytes, 40);
AT(dsopt_session_memory, device_free_bytes, 48);
AT(dsopt_session_memory, host_cache_bytes, 56);
AT(dsopt_session_memory, host_tokens, 64);
AT(dsopt_session_memory, reserved, 68);

SIZE(dsopt_poll_result, 32);
AT(dsopt_poll_result, struct_size, 0);
AT(dsopt_poll_result, active_streams, 4);
AT(dsopt_poll_result, ready_events, 8);
AT(dsopt_poll_result, tokens_sampled, 12);
AT(dsopt_poll_result, spent_us, 16);
AT(dsopt_poll_result, suggested_wait_us, 24);

SIZE(dsopt_session_stats, 80);
AT(dsopt_session_stats, struct_size, 0);
AT(dsopt_session_stats, kv_tokens_used, 4);
AT(dsopt_session_stats, kv_tokens_total, 8);
AT(dsopt_session_stats, batches, 12);
AT(dsopt_session_stats, prefill_tokens, 16);
AT(dsopt_session_stats, prefill_us, 24);
AT(dsopt_session_stats, decode_tokens, 32);
AT(dsopt_session_stats, decode_us, 40);
AT(dsopt_session_stats, host_bytes, 48);
AT(dsopt_session_stats, device_bytes, 56);
AT(dsopt_session_stats, kv_host_tokens_used, 64);
AT(dsopt_session_stats, kv_host_tokens_total, 68);
AT(dsopt_session_stats, replayed_batches, 72);
AT(dsopt_session_stats, reserved, 76);

SIZE(dsopt_event, 80);
AT(dsopt_event, struct_size, 0);
AT(dsopt_event, kind, 4);
AT(dsopt_event, text, 8);
AT(dsopt_event, text_len, 16);
AT(dsopt_event, tokens, 24);
AT(dsopt_event, token_count, 32);
AT(dsopt_event, finish, 40);
AT(dsopt_event, status, 44);
AT(dsopt_event, logprobs, 48);
AT(dsopt_event, top_tokens, 56);
AT(dsopt_event, top_logprobs, 64);
AT(dsopt_event, top_count, 72);
AT(dsopt_event, reserved, 76);

SIZE(dsopt_sampling, 56);
AT(dsopt_sampling, struct_size, 0);
AT(dsopt_sampling, top_k, 4);
AT(dsopt_sampling, temperature, 8);
AT(dsopt_sampling, top_p, 12);
AT(dsopt_sampling, min_p, 16);
AT(dsopt_sampling, typical_p, 20);
AT(dsopt_sampling, top_n_sigma, 24);
AT(dsopt_sampling, repeat_penalty, 28);
AT(dsopt_sampling, presence_penalty, 32);
AT(dsopt_sampling, frequency_penalty, 36);
AT(dsopt_sampling, penalty_window, 40);
AT(dsopt_sampling, reserved, 44);
AT(dsopt_sampling, seed, 48);

SIZE(dsopt_logit_bias, 8);
AT(dsopt_logit_bias, token, 0);
AT(dsopt_logit_bias, bias, 4);

SIZE(dsopt_generate_options, 96);
AT(dsopt_generate_options, struct_size, 0);
AT(dsopt_generate_options, flags, 4);
AT(dsopt_generate_options, max_tokens, 8);
AT(dsopt_generate_options, priority, 12);
AT(dsopt_generate_options, sampling, 16);
AT(dsopt_generate_options, stop, 24);
AT(dsopt_generate_options, stop_count, 32);
AT(dsopt_generate_options, stop_tokens, 40);
AT(dsopt_generate_options, stop_token_count, 48);
AT(dsopt_generate_options, bias, 56);
AT(dsopt_generate_options, bias_count, 64);
AT(dsopt_generate_options, on_event, 72);
AT(dsopt_generate_options, user, 80);
AT(dsopt_generate_options, logprobs, 88);
AT(dsopt_generate_options, top_logprobs, 92);

/* Enumerators are part of the ABI too. */
#define VALUE(name, value) _Static_assert((int)(name) == (value), #name " was renumbered")
VALUE(DSOPT_OK, 0);
VALUE(DSOPT_PENDING, 1);
VALUE(DSOPT_E_INVALID_ARGUMENT, -1);
VALUE(DSOPT_E_INVALID_STATE, -2);
VALUE(DSOPT_E_OUT_OF_MEMORY, -3);
VALUE(DSOPT_E_DEVICE_MEMORY, -4);
VALUE(DSOPT_E_IO, -5);
VALUE(DSOPT_E_CORRUPT, -6);
VALUE(DSOPT_E_UNSUPPORTED, -7);
VALUE(DSOPT_E_VERSION, -8);
VALUE(DSOPT_E_NOT_FOUND, -9);
VALUE(DSOPT_E_BUFFER_TOO_SMALL, -10);
VALUE(DSOPT_E_CANCELLED, -11);
VALUE(DSOPT_E_TIMEOUT, -12);
VALUE(DSOPT_E_DEVICE_LOST, -13);
VALUE(DSOPT_E_BUSY, -14);
VALUE(DSOPT_E_CALLBACK, -15);
VALUE(DSOPT_E_INTERNAL, -99);
VALUE(DSOPT_F32, 1);
VALUE(DSOPT_F16, 2);
VALUE(DSOPT_BF16, 3);
VALUE(DSOPT_F8_E4M3, 4);
VALUE(DSOPT_I8, 5);
VALUE(DSOPT_I32, 6);
VALUE(DSOPT_U8, 7);
VALUE(DSOPT_I4, 8);
VALUE(DSOPT_EVENT_TEXT, 1);
VALUE(DSOPT_EVENT_DONE, 2);
VALUE(DSOPT_EVENT_ERROR, 3);
VALUE(DSOPT_FINISH_EOS, 1);
VALUE(DSOPT_FINISH_STOP, 2);
VALUE(DSOPT_FINISH_LENGTH, 3);
VALUE(DSOPT_FINISH_CANCELLED, 4);
VALUE(DSOPT_FINISH_ERROR, 5);

int main(void) { return 0; }
