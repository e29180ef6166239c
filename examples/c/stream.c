/* stream.c - the smallest useful program: open a model, stream an answer, stop on errors.
 *   stream MODEL.dsopt "bring me the red cup from the kitchen"
 *   stream --cpu-variant avx2 MODEL.dsopt TEXT       for tools that know no newer CPU instructions
 * Link with -ldsopt; needs nothing but dsopt.h. */
#include <dsopt/dsopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int Failed(const char* what, dsopt_status status) {
  if (status >= 0) return 0;
  fprintf(stderr, "%s: %s: %s\n", what, dsopt_status_name(status), dsopt_last_error());
  return 1;
}

int main(int argc, char** argv) {
  dsopt_runtime* runtime = NULL;
  dsopt_model* model = NULL;
  dsopt_session* session = NULL;
  dsopt_stream* stream = NULL;
  char prompt[4096];
  size_t prompt_len = 0;
  int failed = 1;
  const int has_variant = argc == 5 && strcmp(argv[1], "--cpu-variant") == 0;
  if (argc != 3 && !has_variant) {
    fprintf(stderr,
            "usage: %s [--cpu-variant scalar|avx2|avx2_vnni|avx512|avx512_vnni|avx512_bf16] MODEL.dsopt TEXT\n",
            argv[0]);
    return 2;
  }
  const char* path = argv[argc - 2];
  const dsopt_runtime_options options = {.struct_size = sizeof options,
                                         .cpu_variant = has_variant ? argv[2] : NULL};
  const dsopt_message message = {"user", argv[argc - 1], DSOPT_NTS};
  const dsopt_generate_options generate = {.struct_size = sizeof generate, .max_tokens = 256};

  if (Failed("runtime", dsopt_runtime_create(&options, &runtime))) goto done;
  if (Failed("model", dsopt_model_open(runtime, path, NULL, &model))) goto done;
  if (Failed("session", dsopt_session_create(model, NULL, &session))) goto done;
  if (Failed("stream", dsopt_stream_create(session, &stream))) goto done;
  if (Failed("template",
             dsopt_chat_format(model, &message, 1, DSOPT_CHAT_ADD_PROMPT, prompt, sizeof prompt, &prompt_len)))
    goto done;
  if (Failed("prompt", dsopt_stream_append_text(stream, prompt, prompt_len, DSOPT_TOKENIZE_PARSE_SPECIAL)))
    goto done;
  if (Failed("generate", dsopt_stream_generate(stream, &generate))) goto done;

  for (;;) { /* a game would call dsopt_session_poll(session, 2000, NULL) once per frame instead of waiting */
    dsopt_event event = {.struct_size = sizeof event};
    dsopt_status status = dsopt_stream_read(stream, &event);
    if (status == DSOPT_PENDING) {
      status = dsopt_session_wait(session, 1000000);
      if (status != DSOPT_E_TIMEOUT && Failed("wait", status)) goto done; /* a long prompt takes its time */
      continue;
    }
    if (Failed("read", status)) goto done;
    if (event.kind == DSOPT_EVENT_TEXT) {
      fwrite(event.text, 1, event.text_len, stdout);
      fflush(stdout);
    } else {
      failed = event.kind == DSOPT_EVENT_ERROR;
      break;
    }
  }
  putchar('\n');
done:
  dsopt_stream_release(stream);
  dsopt_session_release(session);
  dsopt_model_release(model);
  dsopt_runtime_release(runtime);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
