/* game_npc - sixteen villagers answer at 60 frames a second, inside a budget per frame: options and the frame
 * loop. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "frames.h"
#include "png.h"
#include "scene.h"
#include "talk.h"
#include "window.h"

enum { kBlock = 60, kRest = 90, kHistory = 240, kTasks = 24 };

static const int64_t kFrameNs = 1000000000 / 60;

static const char* const kTask[kTasks] = {"wave to the guard",
                                          "bring a lantern to the blacksmith",
                                          "dance",
                                          "say good morning to the queen",
                                          "follow the merchant",
                                          "guide the guests to the castle",
                                          "open the gate",
                                          "clap",
                                          "look at the wizard",
                                          "give the red apple to the doctor",
                                          "jump three times",
                                          "turn on all the lamps",
                                          "close the window",
                                          "bring the potion to the wizard",
                                          "go to the tower",
                                          "salute the king",
                                          "knock on the door",
                                          "find the cat",
                                          "sit down",
                                          "put the flower on the table",
                                          "take a photo of the dog",
                                          "lock the chest",
                                          "ask the teacher if he wants tea",
                                          "wait for the nurse"};

typedef struct Options {
  TalkOptions talk;
  long frames; /* 0: until every villager has answered `rounds` times */
  long rounds;
  long budget_us;
  int headless, fast;
  const char* screenshot; /* NULL: none */
  long screenshot_at;     /* frame; 0: the last one */
} Options;

typedef struct Game {
  Options options;
  Talk talk;
  Canvas background, canvas;
  Frame* frames;
  long capacity, count;
  int rest[kVoices]; /* frames until it is asked again */
  int asked[kVoices];
  float history[2 * kHistory];
  int has_window;
} Game;

static const char kUsage[] =
    "usage: game_npc [options]\n\n"
    "Sixteen villagers answer at 60 frames a second; their prompts share one prefix.\n\n"
    "  --headless            no window\n"
    "  --frames N            frames to run (default 1800, half of them without inference)\n"
    "  --rounds N            instead: until every villager has answered N times\n"
    "  --budget-us N         of each frame for the model (default 1500)\n"
    "  --fast                do not wait for the next frame (tests; times mean nothing)\n"
    "  --screenshot FILE     writes a PNG of the last frame; --screenshot-at N: of frame N\n"
    "  --model FILE          default: examples/robot_model/robot.dsopt\n"
    "  --threads N           compute threads (default 1: all work inside the poll of the game's thread)\n"
    "  --cpu-variant V       at most these CPU instructions: scalar avx2 avx2_vnni avx512\n"
    "                        avx512_vnni avx512_bf16\n";

static int Usage(const char* what, const char* value) {
  fprintf(stderr, "%s%s%s\n\n%s", what, value != NULL ? ": " : "", value != NULL ? value : "", kUsage);
  return -1;
}

static int Number(const char* name, const char* text, long* out) {
  char* end = NULL;
  errno = 0;
  *out = strtol(text, &end, 10);
  if (*text != '\0' && *end == '\0' && errno == 0 && *out >= 0 && *out <= 1000000) return 0;
  fprintf(stderr, "%s: '%s', 0 to 1000000 expected\n", name, text);
  return -1;
}

static int Parse(int argc, char** argv, Options* o) {
  long threads = 1;
  const struct {
    const char* name;
    long* number;
    const char** text;
    int* flag;
  } known[] = {{"--headless", NULL, NULL, &o->headless},   {"--fast", NULL, NULL, &o->fast},
               {"--frames", &o->frames, NULL, NULL},       {"--rounds", &o->rounds, NULL, NULL},
               {"--budget-us", &o->budget_us, NULL, NULL}, {"--screenshot-at", &o->screenshot_at, NULL, NULL},
               {"--threads", &threads, NULL, NULL},        {"--screenshot", NULL, &o->screenshot, NULL},
               {"--model", NULL, &o->talk.model, NULL},    {"--cpu-variant", NULL, &o->talk.cpu_variant, NULL}};
  o->talk.model = "examples/robot_model/robot.dsopt";
  o->budget_us = 1500;
  for (int i = 1; i < argc; ++i) {
    size_t k = 0;
    while (k < sizeof known / sizeof known[0] && strcmp(argv[i], known[k].name) != 0) ++k;
    if (k == sizeof known / sizeof known[0]) return Usage("unknown option", argv[i]);
    if (known[k].flag != NULL) {
      *known[k].flag = 1;
      continue;
    }
    if (++i >= argc) return Usage("a value is expected after", argv[i - 1]);
    if (known[k].text != NULL)
      *known[k].text = argv[i];
    else if (Number(known[k].name, argv[i], known[k].number) != 0)
      return -1;
  }
  if (o->frames == 0 && o->rounds == 0) o->frames = 1800;
  o->talk.threads = (uint32_t)threads;
  return 0;
}

/* Gives villagers that have nothing to say a task, a few frames after another, so that not all prompts come at
 * once. */
static int Update(Game* game, int inference) {
  for (int i = 0; i < kVoices; ++i) {
    Voice* voice = &game->talk.voice[i];
    if (voice->speaking || !inference) continue;
    if (game->options.rounds > 0 && game->asked[i] >= game->options.rounds) continue;
    if (game->rest[i]-- > 0) continue;
    if (talk_ask(&game->talk, i, kTask[(i + game->asked[i] * 5) % kTasks]) != 0) return -1;
    ++game->asked[i];
    game->rest[i] = kRest;
  }
  return 0;
}

static int AllAnswered(const Game* game) {
  for (int i = 0; i < kVoices; ++i)
    if (game->talk.voice[i].answers + game->talk.voice[i].failures < game->options.rounds) return 0;
  return 1;
}

static int Finished(const Game* game) {
  if (game->count >= game->capacity) return 1;
  return game->options.frames == 0 && game->count > 0 && AllAnswered(game);
}

/* One frame: update, draw, and what the budget allows of the answers. */
static int RunFrame(Game* game) {
  const long number = game->count;
  const int inference = number / kBlock % 2 == 0;
  const Frame* before = number > 0 ? &game->frames[number - 1] : NULL;
  const Meter meter = {before != NULL ? (double)before->work_ns / 1e6 : 0,
                       before != NULL ? (double)before->poll_ns / 1e6 : 0, game->history,
                       number < kHistory ? (int)number : kHistory, inference};
  Frame* frame = &game->frames[number];
  const int64_t cpu = cpu_ns(), start = clock_ns();
  int64_t drawn;
  scene_draw(&game->canvas, &game->background, &game->talk, &meter, (int)number);
  drawn = clock_ns();
  if (Update(game, inference) != 0)
    return -1; /* counts as poll: without a model there would be nobody to ask */
  if (inference && talk_poll(&game->talk, (uint64_t)game->options.budget_us) != 0) return -1;
  frame->inference = inference;
  frame->work_ns = drawn - start;
  frame->poll_ns = clock_ns() - drawn;
  frame->cpu_ns = cpu_ns() - cpu;
  if (number >= kHistory)
    memmove(game->history, game->history + 2, sizeof game->history - 2 * sizeof game->history[0]);
  game->history[2 * (number < kHistory ? number : kHistory - 1)] = (float)frame->work_ns / 1e6f;
  game->history[2 * (number < kHistory ? number : kHistory - 1) + 1] = (float)frame->poll_ns / 1e6f;
  ++game->count;
  return 0;
}

static int Screenshot(const Game* game) {
  if (png_write(game->options.screenshot, &game->canvas, 2) != 0) {
    fprintf(stderr, "%s: %s\n", game->options.screenshot, strerror(errno));
    return -1;
  }
  printf("wrote %s, frame %ld\n", game->options.screenshot, game->count);
  return 0;
}

static int Play(Game* game) {
  const Options* o = &game->options;
  const int64_t start = clock_ns();
  while (!Finished(game)) {
    if (!o->fast) sleep_until(start + game->count * kFrameNs);
    if (RunFrame(game) != 0) return -1;
    if (game->has_window && window_show(&game->canvas) != 0) break;
    if (o->screenshot != NULL && o->screenshot_at > 0 && game->count == o->screenshot_at &&
        Screenshot(game) != 0)
      return -1;
  }
  if (o->screenshot != NULL && o->screenshot_at == 0) return Screenshot(game);
  return 0;
}

static int Report(const Game* game) {
  const Talk* talk = &game->talk;
  int silent = 0, failures = 0;
  for (int i = 0; i < kVoices; ++i) {
    const Voice* voice = &talk->voice[i];
    const char* last = strrchr(voice->speech.text, '\n');
    printf("%-7s %d answers, %d actions in the last: ... %s\n", kVillagers[i].name, voice->answers,
           voice->speech.actions, last != NULL ? last + 1 : voice->speech.text);
    silent += voice->answers == 0;
    failures += voice->failures;
  }
  printf("villagers without an answer: %d; failed answers: %d\n", silent, failures);
  printf(
      "prefix: %zu tokens, computed once; forks that share its page: %u; cache: at most %u tokens in pages\n",
      talk->prefix_tokens, talk->kv_page_sharing, talk->kv_tokens_peak);
  printf("%llu tokens in %ld frames, budget %ld us per frame\n", (unsigned long long)talk->tokens, game->count,
         game->options.budget_us);
  if (game->options.fast) printf("--fast: the times mean nothing\n");
  return frames_report(stdout, game->frames, (size_t)game->count, game->options.budget_us);
}

int main(int argc, char** argv) {
  int failed = 1;
  Game* game = calloc(1, sizeof *game);
  if (game == NULL) {
    fprintf(stderr, "game: %zu bytes of memory are not there\n", sizeof *game);
    return EXIT_FAILURE;
  }
  if (Parse(argc, argv, &game->options) != 0) {
    free(game);
    return 2;
  }
  game->capacity = game->options.frames > 0 ? game->options.frames : 100000;
  game->frames = calloc((size_t)game->capacity, sizeof *game->frames);
  if (game->frames == NULL) {
    fprintf(stderr, "game: no memory for %ld frames\n", game->capacity);
    goto done;
  }
  for (int i = 0; i < kVoices; ++i) game->rest[i] = i * 4; /* one after another */
  if (talk_open(&game->talk, &game->options.talk) != 0) goto done;
  scene_background(&game->background);
  game->has_window = !game->options.headless && window_open("game_npc") == 0;
  if (!game->has_window && !game->options.headless) printf("no display: running without a window\n");
  failed = Play(game) != 0 || Report(game) != 0;
  if (game->has_window) window_close();
done:
  talk_close(&game->talk);
  free(game->frames);
  free(game);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
