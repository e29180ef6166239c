#include "talk.h"

#include <stdio.h>
#include <string.h>

/* What every villager is told. Its tokens fill a whole page (64) of the cache, which the sixteen share. */
static const char kPrefix[] =
    "hey villager, could you please go to the village, take the small yellow basket from the bench, look at "
    "the castle, "
    "wave to the king, bow to the queen, say good morning to everyone, turn around and right after that, would "
    "you please";
enum { kPageTokens = 64, kMaxAnswer = 170 };

static int Failed(const char* what, dsopt_status status) {
  if (status >= 0) return 0;
  fprintf(stderr, "%s: %s: %s\n", what, dsopt_status_name(status), dsopt_last_error());
  return 1;
}

/* The whole prompt of a task; *shared becomes the length of what all tasks have in common. -1 on failure. */
static int Prompt(const Talk* talk, const char* task, char* buf, size_t cap, size_t* length, size_t* shared) {
  char content[512];
  const int count = snprintf(content, sizeof content, "%s %s", kPrefix, task);
  const dsopt_message message = {"user", content, DSOPT_NTS};
  const char* begin;
  if (count < 0 || (size_t)count >= sizeof content) {
    fprintf(stderr, "task of %zu bytes, at most %zu expected\n", strlen(task),
            sizeof content - sizeof kPrefix - 1);
    return -1;
  }
  if (Failed("template", dsopt_chat_format(talk->model, &message, 1, DSOPT_CHAT_ADD_PROMPT, buf, cap, length)))
    return -1;
  begin = strstr(buf, kPrefix);
  if (begin == NULL) {
    fprintf(stderr, "template: the prompt does not contain the message as it is\n");
    return -1;
  }
  *shared = (size_t)(begin - buf) + sizeof kPrefix - 1;
  return 0;
}

/* Computes the shared part of all prompts and keeps it in talk->prefix. */
static int ReadPrefix(Talk* talk) {
  char prompt[1024];
  size_t length = 0, shared = 0;
  const dsopt_generate_options prefill = {.struct_size = sizeof prefill, .flags = DSOPT_GENERATE_PREFILL_ONLY};
  dsopt_status status;
  if (Prompt(talk, "", prompt, sizeof prompt, &length, &shared) != 0) return -1;
  if (Failed("prefix", dsopt_stream_create(talk->session, &talk->prefix))) return -1;
  if (Failed("prefix", dsopt_stream_append_text(talk->prefix, prompt, shared, DSOPT_TOKENIZE_PARSE_SPECIAL)))
    return -1;
  if (Failed("prefix", dsopt_stream_generate(talk->prefix, &prefill))) return -1;
  do status = dsopt_session_poll(talk->session, 10000, NULL);
  while (status == DSOPT_PENDING);
  if (Failed("prefix", status) || Failed("prefix", dsopt_stream_error(talk->prefix, NULL, 0, NULL))) return -1;
  talk->prefix_tokens = dsopt_stream_token_count(talk->prefix);
  return 0;
}

int talk_open(Talk* talk, const TalkOptions* options) {
  const dsopt_runtime_options runtime = {
      .struct_size = sizeof runtime, .cpu_threads = options->threads, .cpu_variant = options->cpu_variant};
  const dsopt_session_options session = {
      .struct_size = sizeof session, .max_streams = kVoices, .max_tokens = kPageTokens * (4 * kVoices + 2)};
  if (Failed("runtime", dsopt_runtime_create(&runtime, &talk->runtime))) return -1;
  if (Failed("model", dsopt_model_open(talk->runtime, options->model, NULL, &talk->model))) return -1;
  if (Failed("session", dsopt_session_create(talk->model, &session, &talk->session))) return -1;
  return ReadPrefix(talk);
}

int talk_ask(Talk* talk, int who, const char* task) {
  Voice* voice = &talk->voice[who];
  char prompt[1024];
  size_t length = 0, shared = 0;
  const dsopt_sampling greedy = {.struct_size = sizeof greedy};
  const dsopt_generate_options generate = {
      .struct_size = sizeof generate, .max_tokens = kMaxAnswer, .sampling = &greedy};
  if (Prompt(talk, task, prompt, sizeof prompt, &length, &shared) != 0) return -1;
  dsopt_stream_release(voice->stream); /* of the answer before; NULL is allowed */
  voice->stream = NULL;
  speech_begin(&voice->speech);
  if (Failed("fork", dsopt_stream_fork(talk->prefix, &voice->stream))) return -1;
  if (Failed("task", dsopt_stream_append_text(voice->stream, prompt + shared, length - shared,
                                              DSOPT_TOKENIZE_PARSE_SPECIAL)))
    return -1;
  if (Failed("answer", dsopt_stream_generate(voice->stream, &generate))) return -1;
  if (talk->prefix_tokens >= kPageTokens) ++talk->kv_page_sharing;
  voice->speaking = 1;
  return 0;
}

static int ReadVoice(Talk* talk, Voice* voice) {
  for (;;) {
    dsopt_event event = {.struct_size = sizeof event};
    const dsopt_status status = dsopt_stream_read(voice->stream, &event);
    if (status == DSOPT_PENDING) return 0;
    if (Failed("read", status)) return -1;
    talk->tokens += event.token_count;
    if (event.kind == DSOPT_EVENT_TEXT) {
      speech_add(&voice->speech, event.text, event.text_len);
      continue;
    }
    voice->speaking = 0;
    if (event.kind == DSOPT_EVENT_DONE)
      ++voice->answers;
    else
      ++voice->failures;
  }
}

int talk_poll(Talk* talk, uint64_t budget_us) {
  dsopt_session_stats stats = {.struct_size = sizeof stats};
  if (Failed("poll", dsopt_session_poll(talk->session, budget_us, NULL))) return -1;
  for (int i = 0; i < kVoices; ++i)
    if (talk->voice[i].speaking && ReadVoice(talk, &talk->voice[i]) != 0) return -1;
  if (Failed("statistics", dsopt_session_get_stats(talk->session, &stats))) return -1;
  if (stats.kv_tokens_used > talk->kv_tokens_peak) talk->kv_tokens_peak = stats.kv_tokens_used;
  return 0;
}

void talk_close(Talk* talk) {
  for (int i = 0; i < kVoices; ++i) dsopt_stream_release(talk->voice[i].stream);
  dsopt_stream_release(talk->prefix);
  dsopt_session_release(talk->session);
  dsopt_model_release(talk->model);
  dsopt_runtime_release(talk->runtime);
  memset(talk, 0, sizeof *talk);
}
