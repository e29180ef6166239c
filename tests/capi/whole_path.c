/* The whole path in C99 with nothing but dsopt.h: open, tokenize, prefill, generate, read, save, load, release.
 */
#include <dsopt/dsopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures = 0;

static int ok(dsopt_status status, const char* what) {
  if (status >= 0) return 1;
  fprintf(stderr, "%s: %s: %s\n", what, dsopt_status_name(status), dsopt_last_error());
  ++failures;
  return 0;
}

static void expect(int condition, const char* what) {
  if (condition) return;
  fprintf(stderr, "expected: %s\n", what);
  ++failures;
}

/* Reads to the end of a generation; returns the tokens seen. */
static size_t read_all(dsopt_session* session, dsopt_stream* stream, dsopt_finish* finish) {
  size_t tokens = 0;
  *finish = DSOPT_FINISH_NONE;
  while (*finish == DSOPT_FINISH_NONE) {
    dsopt_event event;
    dsopt_status status;
    memset(&event, 0, sizeof event);
    event.struct_size = sizeof event;
    status = dsopt_stream_read(stream, &event);
    if (!ok(status, "read")) return tokens;
    if (status == DSOPT_PENDING) {
      if (!ok(dsopt_session_wait(session, 10000000), "wait")) return tokens;
      continue;
    }
    tokens += event.token_count;
    if (event.kind != DSOPT_EVENT_TEXT) *finish = event.finish;
  }
  return tokens;
}

static void generate(dsopt_model* model) {
  dsopt_session* session = NULL;
  dsopt_stream *stream = NULL, *copy = NULL;
  dsopt_session_options options;
  dsopt_generate_options go;
  dsopt_finish finish;
  dsopt_token first[8], second[8];
  size_t bytes = 0, count = 0;
  void* buffer;
  memset(&options, 0, sizeof options);
  options.struct_size = sizeof options;
  options.max_streams = 2;
  memset(&go, 0, sizeof go);
  go.struct_size = sizeof go;
  go.max_tokens = 8;
  go.flags = DSOPT_GENERATE_IGNORE_EOS;
  if (!ok(dsopt_session_create(model, &options, &session), "session")) return;
  if (!ok(dsopt_stream_create(session, &stream), "stream")) return;
  ok(dsopt_stream_append_text(stream, "Once upon a time", DSOPT_NTS, DSOPT_TOKENIZE_ADD_BOS), "append");
  expect(dsopt_stream_token_count(stream) == 17, "17 tokens of prompt");

  expect(dsopt_stream_save(stream, NULL, 0, &bytes) == DSOPT_E_BUFFER_TOO_SMALL, "save asks for room");
  buffer = malloc(bytes);
  ok(dsopt_stream_save(stream, buffer, bytes, &bytes), "save");

  ok(dsopt_stream_generate(stream, &go), "generate");
  expect(read_all(session, stream, &finish) == 8, "8 tokens");
  expect(finish == DSOPT_FINISH_LENGTH, "finish length");
  ok(dsopt_stream_get_tokens(stream, 17, first, 8, &count), "tokens");
  expect(count == 8, "8 tokens to get");

  ok(dsopt_stream_create(session, &copy), "stream");
  ok(dsopt_stream_load(copy, buffer, bytes), "load");
  ok(dsopt_stream_generate(copy, &go), "generate");
  read_all(session, copy, &finish);
  ok(dsopt_stream_get_tokens(copy, 17, second, 8, &count), "tokens");
  expect(memcmp(first, second, sizeof first) == 0, "the same continuation after save and load");
  free(buffer);
  dsopt_session_release(session);
  dsopt_stream_release(stream);
  dsopt_stream_release(copy);
}

int main(int argc, char** argv) {
  dsopt_runtime* runtime = NULL;
  dsopt_model* model = NULL;
  dsopt_runtime_options options;
  dsopt_model_info info;
  dsopt_token tokens[64];
  char text[64];
  size_t count = 0, len = 0;
  if (argc != 2) return 2;
  expect(dsopt_version_number() == DSOPT_VERSION_NUMBER, "header and library of one version");
  expect(dsopt_abi_level() == DSOPT_ABI_LEVEL, "header and library of one ABI level");
  memset(&options, 0, sizeof options);
  options.struct_size = sizeof options;
  options.abi_level = DSOPT_ABI_LEVEL;
  options.cpu_threads = 1;
  if (!ok(dsopt_runtime_create(&options, &runtime), "runtime")) return 1;
  expect(dsopt_device_count(runtime) >= 1, "a device");
  if (!ok(dsopt_model_open(runtime, argv[1], NULL, &model), "model")) return 1;
  memset(&info, 0, sizeof info);
  info.struct_size = sizeof info;
  ok(dsopt_model_get_info(model, &info), "info");
  expect(info.loaded == 1 && strcmp(info.architecture, "llama") == 0, "a loaded llama");
  ok(dsopt_tokenize(model, "h\xC3\xA9!", DSOPT_NTS, 0, tokens, 64, &count), "tokenize");
  expect(count == 4, "four bytes");
  ok(dsopt_detokenize(model, tokens, count, 0, text, sizeof text, &len), "detokenize");
  expect(len == 4 && strcmp(text, "h\xC3\xA9!") == 0, "the same text");
  generate(model);
  dsopt_model_release(model);
  dsopt_runtime_release(runtime);
  return failures == 0 ? 0 : 1;
}
