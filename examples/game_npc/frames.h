/* frames.h - what each frame cost, and the report: percentiles and histogram with and without inference. */
#ifndef GAME_NPC_FRAMES_H_
#define GAME_NPC_FRAMES_H_

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef struct Frame {
  int inference;   /* it polled with a budget */
  int64_t work_ns; /* update and drawing */
  int64_t poll_ns;
  int64_t cpu_ns; /* of this thread, for both */
} Frame;

int64_t clock_ns(void);       /* CLOCK_MONOTONIC */
int64_t cpu_ns(void);         /* CLOCK_THREAD_CPUTIME_ID */
void sleep_until(int64_t ns); /* CLOCK_MONOTONIC */

/* 0, or -1 after a line on stderr when memory is short. */
int frames_report(FILE* out, const Frame* frames, size_t count, int64_t budget_us);

#endif /* GAME_NPC_FRAMES_H_ */
