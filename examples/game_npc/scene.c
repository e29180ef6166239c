#include "scene.h"

#include <stdio.h>
#include <string.h>

enum { kBubbleWidth = 114, kLetters = (kBubbleWidth - 9) / kGlyphWidth, kLines = 5 };

const Villager kVillagers[kVoices] = {
    {"Anna", 70, 174, 0xb5483a, 0x5b3a1e, 0},    {"Ben", 226, 170, 0x3c6e9e, 0x2b2118, 2},
    {"Carla", 494, 170, 0x8a5a9e, 0xc98a3a, 1},  {"David", 650, 174, 0x4f7d45, 0x8a8a8a, 0},
    {"Emma", 60, 297, 0xc98a2e, 0x7a2e1e, 0},    {"Frank", 180, 291, 0x6b6f7d, 0x3a2a1a, 2},
    {"Grace", 300, 297, 0x3d8a84, 0xe0b25a, 0},  {"Henry", 420, 291, 0xd9b23a, 0x4a3220, 3},
    {"Ivy", 540, 297, 0x5f9e4a, 0x8f3f22, 1},    {"Jack", 660, 291, 0x9e4a4a, 0x201a16, 2},
    {"Kate", 60, 420, 0x5a6fb5, 0xb5763a, 0},    {"Leo", 180, 414, 0x7d5a3a, 0xd9a441, 0},
    {"Mia", 300, 420, 0xc2618a, 0x3a2416, 0},    {"Noah", 420, 414, 0x48607d, 0x6b4a2f, 2},
    {"Olivia", 540, 420, 0x8a8f3a, 0x9e3a22, 1}, {"Paul", 660, 414, 0x3a7d6b, 0x9a9a9a, 0}};

static int Is(const char* a, const char* b) { return strcmp(a, b) == 0; }

/* A wave between 0 and `height`, one period in `frames`. */
static int Swing(int frame, int frames, int height) {
  const int phase = frame % frames;
  return height * (phase < frames / 2 ? phase : frames - phase) * 2 / frames;
}

static void DrawHat(Canvas* c, const Villager* v, int x, int y) {
  if (v->hat == 1) {
    const int xs[3] = {x - 8, x + 1, x + 8}, ys[3] = {y - 5, y - 19, y - 5};
    canvas_triangle(c, xs, ys, v->tunic);
  } else if (v->hat == 2) {
    canvas_rect(c, x - 9, y - 6, 18, 3, 0x4a3a28, 255);
    canvas_rect(c, x - 5, y - 10, 10, 5, 0x4a3a28, 255);
  } else if (v->hat == 3) {
    for (int i = 0; i < 3; ++i) canvas_rect(c, x - 7 + i * 6, y - 11, 3, 5, 0xf2c832, 255);
    canvas_rect(c, x - 7, y - 8, 15, 4, 0xf2c832, 255);
  }
}

static void DrawVillager(Canvas* c, const Villager* v, const Voice* voice, int frame) {
  const char* gesture = voice->speech.gesture;
  const int waves = Is(gesture, "wave") || Is(gesture, "salute"), claps = Is(gesture, "clap");
  const int up = Is(gesture, "jump") ? Swing(frame, 30, 14)
                 : voice->speaking   ? Swing(frame + v->x, 24, 2)
                                     : Swing(frame + v->x, 90, 1);
  const int side = Is(gesture, "dance") ? Swing(frame, 24, 8) - 4 : 0;
  const int low = Is(gesture, "bow") ? Swing(frame, 80, 7) : Is(gesture, "sit") ? 7 : 0;
  const int x = v->x + side, hip = v->y - 10 - up + (Is(gesture, "sit") ? 6 : 0), head = hip - 19 + low;
  const int arm = waves ? -14 + Swing(frame, 20, 5) : claps ? -2 - Swing(frame, 16, 3) : 8;
  canvas_disc(c, v->x, v->y, 12, 4, 0x3a3226, 90);
  canvas_line(c, x - 3, hip, x - 4, v->y - up, 4, 0x4a3a2c);
  canvas_line(c, x + 3, hip, x + 4, v->y - up, 4, 0x4a3a2c);
  canvas_rounded(c, x - 8, hip - 14 + low / 2, 16, 18 - low / 2, 4, v->tunic);
  canvas_rect(c, x - 8, hip - 1, 16, 2, 0x3a2c1e, 255);
  canvas_line(c, x - 8, hip - 11 + low / 2, x - 11, hip - 11 + low / 2 + (claps ? arm : 8), 3, 0xe8bd95);
  canvas_line(c, x + 8, hip - 11 + low / 2, x + 12, hip - 11 + low / 2 + arm, 3, 0xe8bd95);
  canvas_disc(c, x, head, 8, 8, v->hair, 255);
  canvas_disc(c, x, head + 2, 6, 6, 0xf0c8a0, 255);
  canvas_rect(c, x - 3, head + 1, 2, 2, 0x2a2018, 255);
  canvas_rect(c, x + 2, head + 1, 2, 2, 0x2a2018, 255);
  canvas_rect(c, x - 1, head + 5, 3, voice->speaking && frame / 4 % 2 != 0 ? 2 : 1, 0x8a3a2e, 255);
  DrawHat(c, v, x, head);
  canvas_text(c, v->x - (int)strlen(v->name) * kGlyphWidth / 2 + 1, v->y + 4, v->name, 0x2a2018);
}

typedef struct TextLine {
  const char* start;
  int length;
  int begins; /* an action, not the rest of one */
} TextLine;

/* Breaks the text at words; keeps the last kLines lines. Returns how many. */
static int Break(const char* text, TextLine lines[kLines]) {
  int count = 0, begins = 1;
  while (*text != '\0') {
    const int room = kLetters - 1; /* the first letter's place is the mark of a new action */
    int length = 0, fits = 0;
    while (text[length] != '\0' && text[length] != '\n' && length <= room) {
      if (text[length] == ' ') fits = length;
      ++length;
    }
    if (length > room) length = fits > 0 ? fits : room;
    if (count == kLines) memmove(lines, lines + 1, sizeof lines[0] * (kLines - 1)), --count;
    lines[count].start = text;
    lines[count].length = length;
    lines[count++].begins = begins;
    begins = text[length] == '\n';
    text += length + (text[length] == '\n' || text[length] == ' ');
  }
  return count;
}

static void DrawBubble(Canvas* c, const Villager* v, const Voice* voice, int frame) {
  TextLine lines[kLines];
  const int count = Break(voice->speech.text, lines);
  if (count == 0 && !voice->speaking) return;
  const int height = (count > 0 ? count : 1) * kGlyphHeight + 7, left = v->x - kBubbleWidth / 2,
            top = v->y - 46 - height;
  const uint32_t paper = voice->speaking ? 0xfffdf2 : 0xf3efe2, edge = voice->speaking ? 0x3b6fb0 : 0x8a8272;
  const int outer_x[3] = {v->x - 5, v->x + 5, v->x + 1},
            outer_y[3] = {top + height - 1, top + height - 1, top + height + 7};
  const int inner_x[3] = {v->x - 3, v->x + 4, v->x + 1},
            inner_y[3] = {top + height - 2, top + height - 2, top + height + 4};
  canvas_rounded(c, left - 1, top - 1, kBubbleWidth + 2, height + 2, 6, edge);
  canvas_triangle(c, outer_x, outer_y, edge);
  canvas_rounded(c, left, top, kBubbleWidth, height, 5, paper);
  canvas_triangle(c, inner_x, inner_y, paper);
  for (int i = 0; i < count; ++i) {
    const int y = top + 5 + i * kGlyphHeight;
    const int last = i == count - 1;
    if (lines[i].begins) canvas_rect(c, left + 4, y + 3, 2, 2, 0xc2453a, 255);
    const int end = canvas_text_n(c, left + 9, y, lines[i].start, lines[i].length, last ? 0x1a1a1a : 0x4f4a40);
    if (last && voice->speaking && frame / 15 % 2 == 0) canvas_rect(c, end, y, 3, 7, 0x3b6fb0, 255);
  }
  if (count == 0)
    for (int i = 0; i < 3; ++i)
      canvas_disc(c, v->x - 8 + i * 8, top + 8 - Swing(frame + i * 8, 30, 3), 2, 2, 0x8a8272, 255);
}

static void DrawMeter(Canvas* c, const Talk* talk, const Meter* meter) {
  enum { kLeft = 456, kTop = 2, kHigh = 22, kMsHigh = 4 };
  char line[128];
  canvas_rect(c, 0, 0, kWidth, 26, 0x1d2230, 200);
  canvas_text(c, 6, 4, "16 villagers, one prompt prefix shared through fork", 0xffffff);
  snprintf(line, sizeof line, "frame %4.1f ms, poll %4.1f ms | %6llu tokens | %s", meter->work_ms,
           meter->poll_ms, (unsigned long long)talk->tokens, meter->inference ? "inference" : "no inference");
  canvas_text(c, 6, 15, line, 0xa9d18e);
  for (int i = 0; i < meter->count; ++i) {
    const int work = (int)(meter->history[2 * i] * kHigh / kMsHigh),
              poll = (int)(meter->history[2 * i + 1] * kHigh / kMsHigh);
    const int own = work > kHigh ? kHigh : work, all = own + poll > kHigh ? kHigh - own : poll;
    canvas_rect(c, kLeft + i, kTop + kHigh - own, 1, own, 0xa9d18e, 255);
    canvas_rect(c, kLeft + i, kTop + kHigh - own - all, 1, all, 0x6fa8ff, 255);
  }
  canvas_text(c, kLeft + 244, 4, "4", 0x9aa0b0);
  canvas_text(c, kLeft + 244, 15, "ms", 0x9aa0b0);
}

static void Fountain(Canvas* c, int frame) {
  const int x = 360, y = 150;
  canvas_disc(c, x, y + 4, 30, 9, 0x7d8494, 255);
  canvas_disc(c, x, y + 2, 27, 7, 0x6fb3dd, 255);
  canvas_rect(c, x - 3, y - 20, 6, 20, 0x8d93a8, 255);
  for (int i = 0; i < 24; ++i) { /* drops on parabolas */
    const int t = (frame + i * 5) % 40, way = i % 2 != 0 ? 1 : -1;
    canvas_rect(c, x + way * t * (4 + i % 5) / 10, y - 20 - t + t * t * 3 / 80, 2, 2, 0xcdeaff, 200);
  }
}

void scene_draw(Canvas* c, const Canvas* background, const Talk* talk, const Meter* meter, int frame) {
  memcpy(c, background, sizeof *c);
  Fountain(c, frame);
  for (int i = 0; i < kVoices; ++i) DrawVillager(c, &kVillagers[i], &talk->voice[i], frame);
  for (int i = 0; i < kVoices; ++i) DrawBubble(c, &kVillagers[i], &talk->voice[i], frame);
  DrawMeter(c, talk, meter);
}
