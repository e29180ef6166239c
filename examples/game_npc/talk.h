/* talk.h - sixteen voices on one model. The prompt that all share is computed once; each answer begins as a
 * fork of it. All work happens inside talk_poll(), for about the budget it is given. */
#ifndef GAME_NPC_TALK_H_
#define GAME_NPC_TALK_H_

#include <dsopt/dsopt.h>
#include <stddef.h>
#include <stdint.h>

#include "speech.h"

enum { kVoices = 16 };

typedef struct TalkOptions {
  const char* model;
  const char* cpu_variant; /* NULL: the best of this machine */
  uint32_t threads;        /* 1: no work outside talk_poll */
} TalkOptions;

typedef struct Voice {
  dsopt_stream* stream; /* NULL: has not spoken yet */
  Speech speech;
  int speaking;
  int answers;  /* complete ones */
  int failures; /* answers that ended as an error */
} Voice;

typedef struct Talk {
  dsopt_runtime* runtime;
  dsopt_model* model;
  dsopt_session* session;
  dsopt_stream* prefix;
  size_t prefix_tokens;
  uint64_t tokens;          /* sampled by all voices */
  uint32_t kv_tokens_peak;  /* most cache in use */
  uint32_t kv_page_sharing; /* forks that began with whole pages of the prefix */
  Voice voice[kVoices];
} Talk;

/* Each returns 0, or -1 after a line on stderr. *talk is all zero before talk_open; talk_close also after a
 * failure. */
int talk_open(Talk* talk, const TalkOptions* options);
int talk_ask(Talk* talk, int who, const char* task);
int talk_poll(Talk* talk, uint64_t budget_us);
void talk_close(Talk* talk);

#endif /* GAME_NPC_TALK_H_ */
