#include "canvas.h"

#include <string.h>

static int Smaller(int a, int b) { return a < b ? a : b; }
static int Larger(int a, int b) { return a > b ? a : b; }

static uint32_t Mix(uint32_t below, uint32_t above, int alpha) {
  uint32_t mixed = 0;
  for (int shift = 0; shift <= 16; shift += 8) {
    const int from = (int)(below >> shift & 255), to = (int)(above >> shift & 255);
    mixed |= (uint32_t)(from + (to - from) * alpha / 255) << shift;
  }
  return mixed;
}

static void Dot(Canvas* c, int x, int y, uint32_t color, int alpha) {
  if (x < 0 || y < 0 || x >= kWidth || y >= kHeight) return;
  c->pixel[y][x] = alpha >= 255 ? color : Mix(c->pixel[y][x], color, alpha);
}

void canvas_rect(Canvas* c, int x, int y, int width, int height, uint32_t color, int alpha) {
  const int right = Smaller(x + width, kWidth), bottom = Smaller(y + height, kHeight);
  for (int row = Larger(y, 0); row < bottom; ++row)
    for (int column = Larger(x, 0); column < right; ++column) {
      uint32_t* pixel = &c->pixel[row][column];
      *pixel = alpha >= 255 ? color : Mix(*pixel, color, alpha);
    }
}

void canvas_disc(Canvas* c, int x, int y, int radius_x, int radius_y, uint32_t color, int alpha) {
  if (radius_x < 1 || radius_y < 1) return;
  const int limit = radius_x * radius_x * radius_y * radius_y;
  for (int dy = -radius_y; dy <= radius_y; ++dy)
    for (int dx = -radius_x; dx <= radius_x; ++dx)
      if (dx * dx * radius_y * radius_y + dy * dy * radius_x * radius_x <= limit)
        Dot(c, x + dx, y + dy, color, alpha);
}

void canvas_rounded(Canvas* c, int x, int y, int width, int height, int radius, uint32_t color) {
  for (int row = 0; row < height; ++row) {
    const int from_edge = Smaller(row, height - 1 - row);
    int inset = 0;
    while (from_edge < radius && inset < radius &&
           (radius - inset) * (radius - inset) + (radius - from_edge) * (radius - from_edge) >
               radius * radius + radius)
      ++inset;
    canvas_rect(c, x + inset, y + row, width - 2 * inset, 1, color, 255);
  }
}

void canvas_triangle(Canvas* c, const int x[3], const int y[3], uint32_t color) {
  const int top = Smaller(y[0], Smaller(y[1], y[2])), bottom = Larger(y[0], Larger(y[1], y[2]));
  for (int row = top; row <= bottom; ++row) {
    int left = kWidth, right = -1;
    for (int i = 0; i < 3; ++i) { /* where this row crosses each edge */
      const int j = (i + 1) % 3;
      if (y[i] == y[j] || row < Smaller(y[i], y[j]) || row > Larger(y[i], y[j])) continue;
      const int at = x[i] + (x[j] - x[i]) * (row - y[i]) / (y[j] - y[i]);
      left = Smaller(left, at);
      right = Larger(right, at);
    }
    if (right >= left) canvas_rect(c, left, row, right - left + 1, 1, color, 255);
  }
}

void canvas_line(Canvas* c, int x0, int y0, int x1, int y1, int thick, uint32_t color) {
  const int dx = x1 - x0, dy = y1 - y0;
  const int steps = Larger(Larger(dx < 0 ? -dx : dx, dy < 0 ? -dy : dy), 1);
  for (int i = 0; i <= steps; ++i)
    canvas_rect(c, x0 + dx * i / steps - thick / 2, y0 + dy * i / steps - thick / 2, thick, thick, color, 255);
}

int canvas_text_n(Canvas* c, int x, int y, const char* text, int length, uint32_t color) {
  static const uint8_t kBox[9] = {31, 17, 17, 17, 17, 17, 31, 0, 0};
  for (int i = 0; i < length; ++i, x += kGlyphWidth) {
    const unsigned char letter = (unsigned char)text[i];
    const uint8_t* rows = letter >= 32 && letter < 127 ? kFont[letter - 32] : kBox;
    for (int row = 0; row < 9; ++row)
      for (int column = 0; column < 5; ++column)
        if (rows[row] >> (4 - column) & 1) Dot(c, x + column, y + row, color, 255);
  }
  return x;
}

int canvas_text(Canvas* c, int x, int y, const char* text, uint32_t color) {
  return canvas_text_n(c, x, y, text, (int)strlen(text), color);
}
