/* background.c - the part of the village square that stands still. */
#include "scene.h"

/* The same picture every time: a small generator of our own. */
static uint32_t Random(uint32_t* state) {
  *state = *state * 1664525u + 1013904223u;
  return *state >> 8;
}

static void Sky(Canvas* c) {
  for (int y = 0; y < 100; ++y) {
    const uint32_t shade = (uint32_t)y;
    canvas_rect(c, 0, y, kWidth, 1, (0x6fu + shade / 2) << 16 | (0xa8u + shade / 3) << 8 | 0xdcu, 255);
  }
  canvas_disc(c, 640, 42, 17, 17, 0xfff3c4, 255);
  for (int i = 0; i < 5; ++i) {
    const int x = 60 + i * 150, y = 26 + (i * 37) % 22;
    canvas_disc(c, x, y, 26, 7, 0xffffff, 170);
    canvas_disc(c, x + 14, y - 5, 16, 7, 0xffffff, 170);
  }
}

static void Castle(Canvas* c, int x, int y) {
  const uint32_t stone = 0x8d93a8, dark = 0x747a90;
  canvas_rect(c, x, y, 96, 44, stone, 255);
  for (int i = 0; i < 3; ++i) {
    const int left = x - 10 + i * 46;
    const int xs[3] = {left - 3, left + 11, left + 25}, ys[3] = {y - 18, y - 40, y - 18};
    canvas_rect(c, left, y - 18, 22, 62, dark, 255);
    canvas_triangle(c, xs, ys, 0xa94f4f);
    canvas_rect(c, left + 9, y - 8, 4, 8, 0x3c4056, 255);
  }
  for (int i = 0; i < 8; ++i) canvas_rect(c, x + i * 12, y - 5, 7, 5, stone, 255);
  canvas_rect(c, x + 60, y + 20, 16, 24, 0x4b3a2a, 255);
}

static void House(Canvas* c, int x, int width, int height, uint32_t wall, uint32_t roof) {
  const int top = 100 - height;
  const int xs[3] = {x - 6, x + width / 2, x + width + 6}, ys[3] = {top, top - 24, top};
  canvas_rect(c, x, top, width, height + 8, wall, 255);
  canvas_triangle(c, xs, ys, roof);
  for (int i = 0; i < 4; ++i)
    canvas_line(c, x + 2 + i * (width - 4) / 3, top, x + 2 + i * (width - 4) / 3, 107, 2, 0x6b4a2f);
  canvas_line(c, x, top + 14, x + width, top + 14, 2, 0x6b4a2f);
  canvas_rect(c, x + 8, top + 19, 10, 10, 0xffe9a8, 255);
  canvas_rect(c, x + width - 18, top + 19, 10, 10, 0xffe9a8, 255);
  canvas_rect(c, x + width / 2 - 5, 92, 10, 16, 0x5a3b22, 255);
}

static void Tree(Canvas* c, int x, int y) {
  canvas_rect(c, x - 3, y - 14, 6, 16, 0x6b4a2f, 255);
  canvas_disc(c, x, y - 24, 15, 13, 0x3f7d3a, 255);
  canvas_disc(c, x - 6, y - 30, 9, 8, 0x4e9447, 255);
  canvas_disc(c, x + 7, y - 20, 7, 6, 0x35682f, 255);
}

static void Stall(Canvas* c, int x, int y, uint32_t stripe) {
  canvas_rect(c, x, y - 14, 3, 26, 0x6b4a2f, 255);
  canvas_rect(c, x + 45, y - 14, 3, 26, 0x6b4a2f, 255);
  for (int i = 0; i < 8; ++i)
    canvas_rect(c, x - 2 + i * 6 + i / 2, y - 24, 7, 11, i % 2 != 0 ? 0xf5efe0 : stripe, 255);
  canvas_rect(c, x - 1, y + 2, 50, 11, 0x8a6238, 255);
  for (int i = 0; i < 7; ++i)
    canvas_disc(c, x + 5 + i * 6, y, 3, 3, i % 3 == 0 ? 0xd94f3d : i % 3 == 1 ? 0xe8b33a : 0x6fae45, 255);
}

static void Cobbles(Canvas* c) {
  uint32_t state = 7;
  canvas_rect(c, 0, 108, kWidth, kHeight - 108, 0xb7a88f, 255);
  canvas_rect(c, 0, 100, kWidth, 10, 0x7c9a52, 255);
  for (int y = 112, row = 0; y < kHeight; y += 9 + row / 12, ++row)
    for (int x = row % 2 * 9 - 9; x < kWidth; x += 18) {
      const uint32_t light = Random(&state) % 24;
      const uint32_t color = (0xa9u + light) << 16 | (0x9bu + light) << 8 | (0x84u + light);
      canvas_rounded(c, x + (int)(Random(&state) % 3), y, 16, 8 + row / 16, 3, color);
    }
}

void scene_background(Canvas* background) {
  Sky(background);
  canvas_disc(background, 120, 118, 210, 46, 0x86a873, 255);
  canvas_disc(background, 560, 122, 260, 44, 0x7b9f68, 255);
  Castle(background, 330, 62);
  House(background, 24, 64, 44, 0xe9dcc0, 0x9a4b38);
  House(background, 108, 52, 36, 0xd9c7a0, 0x7e5a8a);
  House(background, 196, 70, 48, 0xefe4cd, 0xb0623a);
  House(background, 478, 58, 42, 0xe4d3ae, 0x4f7391);
  House(background, 560, 66, 50, 0xefe2c6, 0x9a4b38);
  House(background, 652, 54, 38, 0xd9c7a0, 0x5f7d4a);
  Cobbles(background);
  Tree(background, 182, 106);
  Tree(background, 300, 108);
  Tree(background, 460, 108);
  Tree(background, 640, 108);
  Stall(background, 92, 124, 0xc2453a);
  Stall(background, 590, 124, 0x3b6fb0);
}
