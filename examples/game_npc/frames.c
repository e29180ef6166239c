#define _POSIX_C_SOURCE 200112L
#include "frames.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

static int64_t Read(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t clock_ns(void) { return Read(CLOCK_MONOTONIC); }
int64_t cpu_ns(void) { return Read(CLOCK_THREAD_CPUTIME_ID); }

void sleep_until(int64_t ns) {
  const struct timespec at = {(time_t)(ns / 1000000000), (long)(ns % 1000000000)};
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR) {
  }
}

static int Compare(const void* a, const void* b) {
  const int64_t x = *(const int64_t*)a, y = *(const int64_t*)b;
  return (x > y) - (x < y);
}

typedef enum What { kTime, kCpu, kWork, kPoll, kBeyond } What;

static int64_t ValueOf(const Frame* f, What what, int64_t budget_us) {
  switch (what) {
    case kTime:
      return f->work_ns + f->poll_ns;
    case kCpu:
      return f->cpu_ns;
    case kWork:
      return f->work_ns;
    case kPoll:
      return f->poll_ns;
    case kBeyond:
      return f->poll_ns > budget_us * 1000 ? f->poll_ns - budget_us * 1000 : 0;
  }
  return 0;
}

/* The sorted values of the frames of one side; returns how many. */
static size_t Collect(const Frame* frames, size_t count, What what, int inference, int64_t budget_us,
                      int64_t* out) {
  size_t kept = 0;
  for (size_t i = 0; i < count; ++i)
    if (frames[i].inference == inference) out[kept++] = ValueOf(&frames[i], what, budget_us);
  qsort(out, kept, sizeof *out, Compare);
  return kept;
}

static double Percentile(const int64_t* sorted, size_t count, int per_mille) {
  if (count == 0) return 0;
  size_t rank = (count * (size_t)per_mille + 999) / 1000;
  if (rank == 0) rank = 1;
  return (double)sorted[rank - 1] / 1e6;
}

static void Histogram(FILE* out, const int64_t* sorted, size_t count) {
  size_t at = 0;
  for (int64_t edge = 250000; at < count; edge += 250000) { /* a quarter of a millisecond a line */
    size_t end = at;
    while (end < count && (sorted[end] < edge || edge > 10000000)) ++end;
    if (end == at) continue;
    fprintf(out, "  %s %5.2f ms %7zu  ", edge > 10000000 ? "from" : "to  ",
            (double)(edge > 10000000 ? 10000000 : edge) / 1e6, end - at);
    for (size_t i = 0; i < (60 * (end - at) + count - 1) / count; ++i) fputc('#', out);
    fputc('\n', out);
    at = end;
  }
}

int frames_report(FILE* out, const Frame* frames, size_t count, int64_t budget_us) {
  static const struct {
    const char* name;
    What what;
  } kRows[] = {{"frame time (work + poll)", kTime},
               {"frame CPU time", kCpu},
               {"work: update and drawing", kWork},
               {"poll", kPoll},
               {"poll beyond its budget", kBeyond}};
  double p99[2] = {0, 0}, cpu99[2] = {0, 0};
  int64_t* values = malloc((count > 0 ? count : 1) * sizeof *values);
  if (values == NULL) {
    fprintf(stderr, "report: %zu bytes of memory are not there\n", count * sizeof *values);
    return -1;
  }
  fprintf(out,
          "\nmilliseconds                 without inference: p50    p99  p99.9    max   with inference: p50    "
          "p99  p99.9    max\n");
  for (size_t row = 0; row < sizeof kRows / sizeof kRows[0]; ++row) {
    fprintf(out, "%-28s", kRows[row].name);
    for (int side = 0; side < 2; ++side) {
      const size_t kept = Collect(frames, count, kRows[row].what, side, budget_us, values);
      const double high = Percentile(values, kept, 990);
      if (kRows[row].what == kTime) p99[side] = high;
      if (kRows[row].what == kCpu) cpu99[side] = high;
      fprintf(out, "%*s%7.3f%7.3f%7.3f%7.3f", side == 0 ? 17 : 15, "", Percentile(values, kept, 500), high,
              Percentile(values, kept, 999), Percentile(values, kept, 1000));
    }
    fputc('\n', out);
  }
  for (int side = 0; side < 2; ++side) {
    const size_t kept = Collect(frames, count, kTime, side, budget_us, values);
    fprintf(out, "\nframe time %s inference, %zu frames\n", side == 0 ? "without" : "with", kept);
    Histogram(out, values, kept);
  }
  fprintf(out, "\np99 frame time rises by %.3f ms with inference (at most 2 wanted); CPU time p99 by %.3f ms\n",
          p99[1] - p99[0], cpu99[1] - cpu99[0]);
  free(values);
  return 0;
}
